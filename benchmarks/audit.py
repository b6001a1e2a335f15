"""What the chain of the audit costs: an entry with it and without, in turn, and following it from end to end.

An entry is a transaction of its own, as most are. Without the chain it is the same row by a plain INSERT; with it, the
last link is read, a MAC computed, and the new link noted beside the database. Then many entries are put in without a
chain, as a server had them before there was one: they are chained as the update of the tables does it, and verified.

    python benchmarks/audit.py [--entries 100000] [--rounds 20] [--each 50] [--postgresql]

--postgresql measures a PostgreSQL server, which it starts, instead of SQLite. Takes about a minute.
"""

from __future__ import annotations

import argparse
import asyncio
import resource
import statistics
import sys
import tempfile
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from time import perf_counter
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from sqlalchemy import insert  # noqa: E402 - the path has to be set first

from launchpad.services.audit import CLI  # noqa: E402
from launchpad.services.audit_verification import AuditVerifier  # noqa: E402
from launchpad.store import audit  # noqa: E402
from launchpad.store.audit_chain import ANCHORS, AnchorFile, ChainKeeper  # noqa: E402
from launchpad.store.database import Database  # noqa: E402
from support.databases import databases  # noqa: E402

AT = datetime(2026, 3, 2, tzinfo=UTC)
ENTRY: dict[str, Any] = {
    "actor": "ada.lovelace@example.org",
    "client": "192.0.2.1",
    "action": "instance.extended",
    "subject": "0123456789abcdef",
}
DETAILS = {"environment": "jupyterlab", "owner": "ada.lovelace@example.org", "until": AT.isoformat()}


async def timed(each: int, work: Callable[[], Awaitable[object]]) -> float:
    """Microseconds of one, of so many in a row."""
    begun = perf_counter()
    for _ in range(each):
        await work()
    return (perf_counter() - begun) / each * 1e6


async def entries(database: Database, rounds: int, each: int) -> None:
    """Prints an entry's cost with and without the chain."""
    number, add = 0, insert(audit.table)

    async def without() -> None:
        nonlocal number
        number -= 1  # below the chain's own numbers
        async with database.transaction() as db:
            row = {**ENTRY, "id": number, "at": AT, "details": "{}" + " " * 100, "owner_id": None, "mac": "0" * 64}
            await db.execute(add, row)

    async def with_chain() -> None:
        async with database.transaction() as db:
            await audit.add(db, at=AT, details=DETAILS, **ENTRY)

    async def nothing() -> None:
        async with database.transaction():
            pass

    for work in (nothing, without, with_chain):  # what is prepared at the first time
        await timed(each, work)
    found: dict[str, list[float]] = {"nothing": [], "without": [], "with": []}
    for _ in range(rounds):
        found["nothing"].append(await timed(each, nothing))
        found["without"].append(await timed(each, without))
        found["with"].append(await timed(each, with_chain))
    ratios = [chained / plain for chained, plain in zip(found["with"], found["without"], strict=True)]
    for name, words in (
        ("nothing", "an empty transaction"),
        ("without", "with an entry, no chain"),
        ("with", "with a chained entry"),
    ):
        print(f"{words:<42}{statistics.median(found[name]):>10.0f} µs")
    print(f"{'chained / not chained, median of the rounds':<42}{statistics.median(ratios):>10.2f}")


async def whole(database: Database, keeper: ChainKeeper, number: int) -> None:
    """Prints what it takes to chain so many entries, and to verify them."""
    async with database.transaction() as db:
        await db.execute(audit.table.delete())
        for first in range(0, number, audit.BATCH):
            rows = [
                {**ENTRY, "id": n + 1, "at": AT + timedelta(seconds=n), "details": f'{{"n": {n}}}'}
                for n in range(first, min(first + audit.BATCH, number))
            ]
            await db.execute(insert(audit.table), rows)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    begun = perf_counter()
    async with database.transaction() as db:
        await audit.chain_anew(db, keeper.key)
    chained = perf_counter()
    assert keeper.anchors is not None
    async with database.reading() as db:
        newest = await audit.newest_link(db)
    assert newest is not None
    keeper.anchors.restart(newest, (), AT)
    begun_verify = perf_counter()
    verdict = await AuditVerifier(database, keeper).verify()
    verified = perf_counter()
    newest_part = await AuditVerifier(database, keeper).verify_newest()
    doctor = perf_counter() - verified
    assert verdict.holds, verdict
    assert verdict.entries == number
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    print(f"{f'chaining {number} entries of before':<42}{chained - begun:>10.1f} s")
    print(f"{f'verifying {number} entries':<42}{verified - begun_verify:>10.1f} s")
    print(f"{f'the newest {newest_part.entries}, as doctor does':<42}{doctor * 1000:>10.0f} ms")
    print(f"{'memory that both added at most':<42}{grown:>10.0f} MB")


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--entries", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--each", type=int, default=50)
    parser.add_argument("--postgresql", action="store_true")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        databases.kind = "postgresql" if given.postgresql else "sqlite"
        keeper = ChainKeeper(b"k" * 32, AnchorFile(folder / ANCHORS), lambda: AT)
        database = Database(databases.url(folder), chain=keeper)
        try:
            print(f"{databases.kind}, by {CLI.name}, {given.rounds} rounds of {given.each}")
            await entries(database, given.rounds, given.each)
            await whole(database, keeper, given.entries)
        finally:
            await database.aclose()
            databases.take_back()
            databases.close()


if __name__ == "__main__":
    asyncio.run(main())
