"""The chain of the audit: what was removed, changed or moved shows; what was forgotten since it was old does not."""

from __future__ import annotations

import asyncio
import multiprocessing
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from launchpad.domain.audit import ChainCheck, ChainedEntry, Entry, Link, genesis, mac_of
from launchpad.errors import Conflict
from launchpad.services.audit import CLI, AuditService
from launchpad.services.audit_verification import AuditVerifier
from launchpad.store import audit, kv
from launchpad.store.audit_chain import ANCHORS, Anchor, AnchorFile, ChainKeeper
from launchpad.store.database import Database
from support.databases import databases, on_every_database
from support.platforms import Clock

KEY = b"a key of 256 bits, of this test."
NOW = datetime(2026, 3, 2, 9, 30, tzinfo=UTC)


# -- the chain itself --------------------------------------------------------------------------------------------------


def chain_of(number: int, key: bytes = KEY, start: Link | None = None) -> list[ChainedEntry]:
    last = start or genesis(key)
    made = []
    for n in range(number):
        at = NOW + timedelta(seconds=n)
        entry = Entry(last.id + 1, at, "ada@example.org", "192.0.2.1", "a.b", f"s{n}", f'{{"n": {n}}}', None, None)
        made.append(ChainedEntry(entry, mac_of(key, last, entry)))
        last = made[-1].link
    return made


def breaks(entries: list[ChainedEntry], **more: Any) -> int:
    check = ChainCheck(KEY, genesis(KEY), **more)
    check.follow(entries)
    return check.breaks


CHANGES: dict[str, Callable[[Any], Any]] = {
    "at": lambda at: at + timedelta(microseconds=1),
    "actor": lambda text: text + ".sg",
    "client": lambda text: text + "3",
    "action": lambda text: text[:-1] + "c",
    "subject": lambda text: text + " ",
    "details": lambda text: text.replace(": ", ":"),
    "owner_id": lambda _: "x" * 16,
    "continues_id": lambda _: 1,
}


@given(st.integers(1, 12), st.data())
def test_any_single_removal_change_swap_or_insertion_breaks_it(number: int, data: st.DataObject) -> None:
    """Whoever does it has the database, and not the key; MACs that are there can be moved and copied."""
    entries = chain_of(number)
    assert breaks(entries) == 0
    n = data.draw(st.integers(0, number - 1))
    kind = data.draw(st.sampled_from(["remove", "change", "swap", "insert", "renumber"]))
    if kind == "remove":
        if n == number - 1:
            return  # the tail: see the anchors below
        del entries[n]
    elif kind == "change":
        name = data.draw(st.sampled_from(sorted(CHANGES)))
        entry = entries[n].entry
        entries[n] = entries[n]._replace(entry=entry._replace(**{name: CHANGES[name](getattr(entry, name))}))
    elif kind == "swap":
        m = data.draw(st.integers(0, number - 1))
        if m == n:
            return
        one, other = entries[n].entry, entries[m].entry
        entries[n] = entries[n]._replace(entry=other._replace(id=one.id))
        entries[m] = entries[m]._replace(entry=one._replace(id=other.id))
    elif kind == "insert":
        copy = entries[n]
        entries.insert(n, copy._replace(entry=copy.entry._replace(subject="forged")))
    else:
        if n == number - 1:
            return
        del entries[n]
        entries = [
            one._replace(entry=one.entry._replace(id=place)) for place, one in enumerate(entries, start=1)
        ]  # as if nothing was missing
    assert breaks(entries) > 0


@given(st.integers(1, 12), st.data())
def test_what_is_left_after_pruning_follows_the_last_that_went(number: int, data: st.DataObject) -> None:
    entries = chain_of(number)
    n = data.draw(st.integers(0, number - 1))
    check = ChainCheck(KEY, entries[n].link)
    check.follow(entries[n + 1 :])
    assert (check.breaks, check.entries) == (0, number - n - 1)


def test_another_key_gives_another_chain() -> None:
    assert breaks(chain_of(3, b"y" * 32)) == 3


def test_a_chain_that_was_written_anew_with_the_key_does_not_hold_the_anchors_of_before() -> None:
    before = chain_of(9)
    anchors = {before[5].link.id: {before[5].link.mac}}
    assert breaks(before, anchors=anchors) == 0
    last, anew = genesis(KEY), []
    for one in before:
        entry = one.entry._replace(subject="s") if one.entry.id == 3 else one.entry
        anew.append(ChainedEntry(entry, mac_of(KEY, last, entry)))
        last = anew[-1].link
    assert breaks(anew) == 0, "whoever has the key can do that"
    check = ChainCheck(KEY, genesis(KEY), anchors)
    check.follow(anew)
    assert check.first_break is not None
    assert "written again" in check.first_break.text


@pytest.mark.parametrize("text", ["", "1", "1:ab", f"x:{'a' * 64}", f"1:{'A' * 64}", f"-1:{'a' * 64}", f"1:{'a' * 65}"])
def test_what_is_no_anchor_is_refused(text: str) -> None:
    assert str(Link.parse(f" 12:{'a' * 64}\n")) == f"12:{'a' * 64}"
    with pytest.raises(ValueError, match="anchor"):
        Link.parse(text)


# -- anchors beside the database ---------------------------------------------------------------------------------------


def test_the_newest_link_is_noted_and_one_of_each_day_stays(tmp_path: Path) -> None:
    file = AnchorFile(tmp_path / ANCHORS)
    links = [one.link for one in chain_of(8)]
    assert file.read() == []
    file.note(genesis(KEY), links[:1], NOW)
    file.note(links[0], links[1:3], NOW + timedelta(hours=1))
    assert [one.link.id for one in file.read()] == [3]
    file.note(links[2], links[3:4], NOW + timedelta(days=1))
    file.note(links[3], links[4:5], NOW + timedelta(days=3))
    assert file.read() == [
        Anchor(NOW + timedelta(days=3), links[4]),
        Anchor(NOW + timedelta(hours=1), links[2]),
        Anchor(NOW + timedelta(days=1), links[3]),
    ]
    assert (tmp_path / ANCHORS).stat().st_mode & 0o777 == 0o600


def test_a_note_that_comes_late_changes_nothing(tmp_path: Path) -> None:
    file = AnchorFile(tmp_path / ANCHORS)
    links = [one.link for one in chain_of(3)]
    file.note(links[1], links[2:], NOW)  # another process was quicker
    file.note(links[0], links[1:2], NOW)
    assert file.read() == [Anchor(NOW, links[2])]


def test_a_link_that_another_took_the_place_of_is_kept(tmp_path: Path) -> None:
    """Entries were removed, and others written in their place."""
    file = AnchorFile(tmp_path / ANCHORS)
    links = [one.link for one in chain_of(4)]
    file.note(links[2], links[3:], NOW)
    other = [Link(n, "f" * 64) for n in (3, 4, 5)]
    file.note(links[1], other[:1], NOW)
    assert [one.link for one in file.read()] == [links[3]]
    file.note(other[0], other[1:], NOW)
    assert [one.link for one in file.read()] == [other[2], links[3]]


# -- in a database -----------------------------------------------------------------------------------------------------


@dataclass
class Chain:
    """A database with a chain, and where it is noted."""

    url: str
    database: Database
    keeper: ChainKeeper
    clock: Clock

    @property
    def verifier(self) -> AuditVerifier:
        return AuditVerifier(self.database, self.keeper)

    async def add(self, number: int) -> None:
        service = AuditService(self.database)
        for n in range(number):
            self.clock.now += timedelta(minutes=1)
            await service.record(self.clock(), CLI, "a.b", f"s{n}", text="ü\n")

    def sql(self, statement: str) -> list[tuple[Any, ...]]:
        return databases.rows(self.url, statement)

    async def change(self, statement: str, *values: object) -> None:
        await databases.change(self.url, statement, *values)


@pytest.fixture
async def chain(tmp_path: Path, database_url: str) -> Any:
    clock = Clock()
    keeper = ChainKeeper(KEY, AnchorFile(tmp_path / ANCHORS), clock)
    database = Database(database_url, chain=keeper)
    yield Chain(database_url, database, keeper, clock)
    await database.aclose()


@on_every_database
async def test_entries_of_one_and_of_several_transactions_make_one_chain(chain: Chain) -> None:
    await chain.add(3)
    async with chain.database.transaction() as db:
        ids = [
            await audit.add(db, at=NOW, actor="a", client="c", action="x.y", subject="s", details={"n": n})
            for n in range(3)
        ]
    with suppress(ZeroDivisionError):
        async with chain.database.transaction() as db:
            await audit.add(db, at=NOW, actor="a", client="c", action="x.y", subject="s", details={})
            raise ZeroDivisionError
    await chain.add(1)
    seen: list[tuple[int, int]] = []
    verdict = await chain.verifier.verify(progress=lambda *both: seen.append(both))
    assert ids == [4, 5, 6]
    assert (verdict.holds, verdict.entries, seen) == (True, 7, [(7, 7)])
    assert verdict.newest == chain.keeper.anchors.read()[0].link  # type: ignore[union-attr]


TAMPERING = {
    "a removed entry": ("DELETE FROM audit WHERE id = 4", "Entry 4 is missing before entry 5"),
    "removed entries": ("DELETE FROM audit WHERE id IN (4, 5)", "Entries 4 to 5 are missing before entry 6"),
    "the first ones": ("DELETE FROM audit WHERE id < 3", "Entries 1 to 2 are missing before entry 3"),
    "the newest one": ("DELETE FROM audit WHERE id = 9", "The newest entry 9 is missing"),
    "the newest ones": ("DELETE FROM audit WHERE id > 6", "The newest entries 7 to 9 are missing"),
    "all of them": ("DELETE FROM audit", "The newest entries 1 to 9 are missing"),
    "another actor": ("UPDATE audit SET actor = 'eve' WHERE id = 5", "Entry 5 (2 March 2026, 09:35 UTC) was changed"),
    "other details": ("UPDATE audit SET details = '{}' WHERE id = 5", "Entry 5 "),
    "another owner": ("UPDATE audit SET owner_id = 'x' WHERE id = 5", "Entry 5 "),
    "another time": ("UPDATE audit SET at = (SELECT at FROM audit WHERE id = 2) WHERE id = 5", "Entry 5 "),
    "another place": ("UPDATE audit SET id = 20 WHERE id = 5", "Entry 5 is missing before entry 6"),
    "a MAC": ("UPDATE audit SET mac = (SELECT mac FROM audit WHERE id = 4) WHERE id = 5", "Entry 5 "),
    "no MAC": ("UPDATE audit SET mac = '' WHERE id = 9", "Entry 9 "),
    "one more behind": (
        "INSERT INTO audit (id, at, actor, client, action, subject, details, mac) "
        "SELECT 10, at, actor, client, action, subject, details, mac FROM audit WHERE id = 9",
        "Entry 10 ",
    ),
    "one more before": (
        "INSERT INTO audit (id, at, actor, client, action, subject, details, mac) "
        "SELECT -1, at, actor, client, action, subject, details, mac FROM audit WHERE id = 9",
        "1 more entries stand before the beginning",
    ),
}


@on_every_database
async def test_what_is_done_past_the_platform_shows(chain: Chain) -> None:
    await chain.add(9)
    rows = chain.sql("SELECT id, at, actor, client, action, subject, details, owner_id, mac FROM audit ORDER BY id")
    put = "INSERT INTO audit (id, at, actor, client, action, subject, details, owner_id, mac)"
    for what, (statement, said) in TAMPERING.items():
        await chain.change(statement)
        verdict = await chain.verifier.verify()
        newest = await chain.verifier.verify_newest(most=20)
        assert not verdict.holds, what
        assert verdict.first_break is not None
        assert verdict.first_break.text.startswith(said), f"{what}: {verdict.first_break.text}"
        assert newest.holds == (what == "one more before"), what
        await chain.change("DELETE FROM audit")
        for row in rows:
            await chain.change(f"{put} VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", *row)
        assert (await chain.verifier.verify()).holds, what


async def test_what_cannot_even_be_read_is_a_broken_place(chain: Chain) -> None:
    await chain.add(3)
    await chain.change("UPDATE audit SET at = 'yesterday' WHERE id = 2")
    verdict = await chain.verifier.verify()
    assert verdict.first_break is not None
    assert "cannot be read" in verdict.first_break.text


@on_every_database
async def test_what_was_forgotten_since_it_was_old_is_no_break(chain: Chain) -> None:
    await chain.add(9)
    async with chain.database.transaction() as db:
        assert await audit.prune(db, NOW + timedelta(minutes=5), chain.clock()) == 4
        assert await audit.prune(db, NOW + timedelta(minutes=5), chain.clock()) == 0
    verdict = await chain.verifier.verify()
    assert (verdict.holds, verdict.entries, verdict.pruned_before) == (True, 5, NOW + timedelta(minutes=5))
    async with chain.database.transaction() as db:
        assert await audit.prune(db, NOW + timedelta(days=5), chain.clock()) == 4, "the end of the chain stays"
    await chain.add(1)
    verdict = await chain.verifier.verify()
    assert (verdict.holds, verdict.entries) == (True, 2)
    assert verdict.newest is not None
    assert verdict.newest.id == 10


@on_every_database
async def test_only_the_beginning_is_forgotten_where_the_clock_was_set_back(chain: Chain) -> None:
    await chain.add(3)
    chain.clock.now -= timedelta(days=30)
    await chain.add(3)
    async with chain.database.transaction() as db:
        assert await audit.prune(db, NOW, chain.clock()) == 0
        assert await audit.prune(db, NOW + timedelta(minutes=3), chain.clock()) == 2
    assert (await chain.verifier.verify()).holds


async def test_nobody_else_can_say_that_entries_were_forgotten(chain: Chain) -> None:
    """Neither with a seal of another place, nor without one."""
    await chain.add(9)
    async with chain.database.transaction() as db:
        await audit.prune(db, NOW + timedelta(minutes=3), chain.clock())
        honest = await kv.get(db, audit.PRUNED)
    assert (await chain.verifier.verify()).holds
    (mac,) = chain.sql("SELECT mac FROM audit WHERE id = 5")[0]
    await chain.change("DELETE FROM audit WHERE id <= 5")
    forged: list[Any] = [{**honest, "id": 5, "mac": mac}, {"id": 5, "mac": mac}, [], honest]
    for wrong in forged:
        async with chain.database.transaction() as db:
            await kv.put(db, audit.PRUNED, wrong, NOW)
        verdict = await chain.verifier.verify()
        assert not verdict.holds, wrong
    async with chain.database.transaction() as db:
        await kv.remove(db, audit.PRUNED)
    assert not (await chain.verifier.verify()).holds


async def test_anchors_are_compared(chain: Chain) -> None:
    await chain.add(9)
    ends = [one.link for one in await all_of(chain)]
    assert (await chain.verifier.verify([ends[4], ends[8]])).holds
    for wrong in (Link(5, "f" * 64), Link(30, "f" * 64)):
        assert not (await chain.verifier.verify([ends[4], wrong])).holds
    async with chain.database.transaction() as db:
        await audit.prune(db, NOW + timedelta(minutes=6), chain.clock())
    verdict = await chain.verifier.verify([ends[2], ends[4], ends[8]])  # entry 5 is what the oldest one follows
    assert (verdict.holds, verdict.forgotten_anchors) == (True, 1)


async def all_of(chain: Chain) -> list[ChainedEntry]:
    async with chain.database.reading() as db:
        return await audit.chained(db, after_id=0)


async def test_an_end_that_is_cut_off_shows_also_after_as_many_new_entries(chain: Chain) -> None:
    await chain.add(9)
    await chain.change("DELETE FROM audit WHERE id > 6")
    await chain.add(2)
    assert not (await chain.verifier.verify()).holds
    await chain.add(5)
    verdict = await chain.verifier.verify()
    assert verdict.first_break is not None
    assert verdict.first_break.entry_id == 9


async def test_only_what_is_missing_after_a_restore_is_accepted_and_stands_in_the_chain(chain: Chain) -> None:
    await chain.add(9)
    with pytest.raises(Conflict):
        await chain.verifier.accept("pg_restore of Monday", chain.clock())
    await chain.change("DELETE FROM audit WHERE id > 6")
    assert await chain.verifier.accept("pg_restore of Monday", chain.clock()) == 3
    await chain.add(5)
    verdict = await chain.verifier.verify()
    assert (verdict.holds, verdict.entries) == (True, 12)
    (entry,) = [one.entry for one in await all_of(chain) if one.entry.action == "audit.accepted"]
    assert (entry.id, entry.subject, entry.details) == (7, "pg_restore of Monday", '{"missing_entries": "7 to 9"}')


async def test_doctors_look_at_the_newest_part_believes_the_entry_before_it(chain: Chain) -> None:
    await chain.add(9)
    await chain.change("UPDATE audit SET actor = 'eve' WHERE id = 2")
    assert (await chain.verifier.verify_newest(most=5)).holds
    assert not (await chain.verifier.verify_newest(most=8)).holds


async def test_without_the_key_nothing_is_written(database_url: str) -> None:
    database = Database(database_url)
    with pytest.raises(TypeError, match="key"):
        await AuditService(database).record(NOW, CLI, "a.b", "s")
    await database.aclose()


def write_many(url: str, anchors: Path, number: int) -> None:
    """In a process of its own."""

    async def run() -> None:
        keeper = ChainKeeper(KEY, AnchorFile(anchors), lambda: NOW)
        database = Database(url, busy_seconds=60, chain=keeper)
        service = AuditService(database)

        async def write(start: int) -> None:
            for n in range(start, number, 3):
                await service.record(NOW, CLI, "a.b", f"s{n}")

        await asyncio.gather(*map(write, range(3)))
        await database.aclose()

    asyncio.run(run())


@on_every_database
async def test_two_processes_that_write_at_once_make_one_chain(chain: Chain, tmp_path: Path) -> None:
    work = multiprocessing.get_context("spawn")
    processes = [work.Process(target=write_many, args=(chain.url, tmp_path / ANCHORS, 60)) for _ in range(2)]
    for one in processes:
        one.start()
    await chain.add(20)
    for one in processes:
        await asyncio.to_thread(one.join)
    assert [one.exitcode for one in processes] == [0, 0]
    verdict = await chain.verifier.verify()
    assert (verdict.holds, verdict.entries) == (True, 140)
    assert verdict.newest == chain.keeper.anchors.read()[0].link  # type: ignore[union-attr]


# -- from before there was a chain -------------------------------------------------------------------------------------


@on_every_database
async def test_entries_of_before_are_chained_once_when_the_tables_are_brought_up_to_date(
    empty_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("launchpad.store.audit.BATCH", 10)
    migrate_to_before(empty_url)
    for n in (*range(1, 30), 40, 41):  # with a gap, as a transaction that was rolled back leaves one
        await databases.change(
            empty_url,
            "INSERT INTO audit (id, at, actor, client, action, subject, details) "
            f"VALUES ({n}, '2026-01-01 10:00:00.5', 'a', 'c', 'x.y', 's', '{{}}')",
        )
    clock = Clock()
    keeper = ChainKeeper(KEY, AnchorFile(tmp_path / ANCHORS), clock)
    database = Database(empty_url, chain=keeper)
    await database.migrate()
    chain = Chain(empty_url, database, keeper, clock)
    verdict = await chain.verifier.verify()
    assert (verdict.holds, verdict.entries) == (True, 31)
    await chain.add(2)
    assert (await chain.verifier.verify()).entries == 33
    await chain.change("UPDATE audit SET actor = 'eve' WHERE id = 40")
    await database.migrate()  # as every start does
    assert not (await chain.verifier.verify()).holds
    await database.aclose()


def migrate_to_before(url: str) -> None:
    """The tables as they were before the chain."""
    from alembic import command
    from alembic.config import Config
    from sqlalchemy import Connection

    from launchpad.store.revisions import MIGRATIONS, _revisions

    def upgrade(connection: Connection) -> None:
        config = Config()
        config.set_main_option("script_location", str(MIGRATIONS))
        config.attributes["connection"] = connection
        command.upgrade(config, str(_revisions()["0018"]))

    async def run() -> None:
        database = Database(url)
        async with database._writing() as db, db.begin():
            await db.run_sync(upgrade)
        await database.aclose()

    with ThreadPoolExecutor(1) as thread:  # Alembic's context is of the thread
        thread.submit(asyncio.run, run()).result()
