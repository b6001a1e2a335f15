"""How long the server takes for every page and list of a large deployment: 10,000 users, 2,000 live instances,
200,000 ended ones and 400,000 records of the audit, in a fresh SQLite database, with an engine that does nothing.

Pages are asked for one after the other in this process, without nginx or a network, as administrator and as a user.
It fails where the 99th percentile of one is over the limit.

    python benchmarks/lists.py [--rounds 40] [--limit-ms 50] [--only admin/users]
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from time import perf_counter

import httpx

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from launchpad.services.logins import Client  # noqa: E402 - the path has to be set first
from launchpad.web.app import create_app  # noqa: E402
from launchpad.web.cookies import CookieNames  # noqa: E402
from support.platforms import START, World  # noqa: E402
from support.population import Population, populate  # noqa: E402

HERE = Client("192.0.2.1", "Mozilla/5.0 (X11; Linux x86_64) Firefox/140.0")
USER = (
    "/dashboard",
    "/account",
    "/api/v1/me",
    "/api/v1/logins",
    "/api/v1/tokens",
    "/api/v1/instances",
    "/api/v1/instances?all=true",
)
ADMIN = (
    "/admin",
    "/admin/users",
    "/admin/users?q=person09990",
    "/admin/users?q=genomics",
    "/admin/users?q=überlingen",
    "/admin/users?q=nobody-at-all",
    "/admin/users?after=person05000@example.org",
    "/admin/instances",
    "/admin/instances?q=person00042",
    "/admin/instances?state=queued",
    "/admin/instances?state=starting",
    "/admin/instances?state=ended",
    "/admin/instances?state=failed",
    "/admin/instances?state=all&q=person00042",
    "/admin/instances?state=ended&q=example.org",
    "/admin/instances?state=ended&q=person0004",
    "/admin/instances?state=failed&q=rstudio",
    "/admin/instances?state=all&q=nobody-at-all",
    "/admin/audit",
    "/admin/audit?q=person00042",
    "/admin/audit?q=nobody-at-all",
    "/admin/mail",
    "/api/v1/admin/users?search=person0999",
    "/api/v1/admin/instances",
    "/api/v1/admin/instances?all=true&limit=200",
    "/api/v1/admin/audit",
    "/api/v1/admin/audit?search=person00042",
    "/api/v1/admin/capacity",
)


async def measure(http: httpx.AsyncClient, path: str, rounds: int) -> list[float]:
    """Milliseconds of each round; the first, which fills caches, is left out."""
    took = []
    for _ in range(rounds + 1):
        begun = perf_counter()
        answer = await http.get(path)
        took.append((perf_counter() - begun) * 1000)
        assert answer.status_code == 200, f"{path}: {answer.status_code} {answer.text[:200]}"
    return took[1:]


def percentile(values: Sequence[float], part: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(part * len(ordered)))]


async def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--limit-ms", type=float, default=50.0)
    parser.add_argument("--only", default="", help="pages whose path has this in it")
    given = parser.parse_args()
    slow = []
    with tempfile.TemporaryDirectory() as folder:
        world = World(Path(folder), {"public_url": "http://localhost:8080", "instances_url": "http://localhost:8081"})
        world.clock.now = START.replace(year=2126)  # httpx drops cookies that expire before its own clock
        platform = await world.open()
        begun = perf_counter()
        users = populate(world.database_file, Population(), world.clock())
        print(f"Made the database in {perf_counter() - begun:.1f} s, {world.database_file.stat().st_size >> 20} MB\n")
        watching = asyncio.create_task(platform.database.changes.watch())
        app = create_app(platform)
        secrets = {}
        async with platform.database.transaction() as db:
            one = await platform.users.get(users[42])
            secrets["user"] = (await platform.logins.open(db, one, True, HERE, world.clock())).secret
            admin = replace(await platform.users.get(users[7]), role=type(one.role).ADMIN)
            secrets["admin"] = (await platform.logins.open(db, admin, True, HERE, world.clock())).secret
        world.rows("UPDATE users SET role = 'admin' WHERE id = ?", users[7])
        print(f"{'page':<58}{'p50 ms':>9}{'p99 ms':>9}")
        for who, paths in (("user", USER), ("admin", ADMIN)):
            async with httpx.AsyncClient(
                transport=httpx.ASGITransport(app=app),
                base_url="http://localhost:8080",
                cookies={CookieNames.of(platform.settings).login: secrets[who]},
                headers={"Sec-Fetch-Site": "same-origin"},
            ) as http:
                for path in (path for path in paths if given.only in path):
                    took = await measure(http, path, given.rounds)
                    p99 = percentile(took, 0.99)
                    print(f"{path:<58}{statistics.median(took):>9.1f}{p99:>9.1f}{'  over' * (p99 > given.limit_ms)}")
                    if p99 > given.limit_ms:
                        slow.append(path)
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
        await world.close()
    print(f"\n{len(slow)} over {given.limit_ms:g} ms" if slow else f"\nall within {given.limit_ms:g} ms")
    return 1 if slow else 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
