"""Shares in the database, and who may open one."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from launchpad.domain.shares import Share, may_open
from launchpad.domain.users import Role, User, UserStatus
from launchpad.store import share_people, shares
from launchpad.store.database import Database
from support.databases import on_every_database

NOW = datetime(2026, 3, 2, 9, 30, tzinfo=UTC)
OWNER = User("o" * 16, "anna@example.org", "anna", 200001, Role.USER, UserStatus.ACTIVE, "Genomics", NOW)
READER = User("r" * 16, "bert@example.org", "bert", 200002, Role.USER, UserStatus.ACTIVE, "Genomics", NOW)
SHARE = Share("s" * 16, OWNER.id, "a/b", "folder", None, (READER.email,), NOW, NOW + timedelta(days=7))
LAB = replace(SHARE, lab="Genomics", emails=())
LATER = timedelta(days=7)


@pytest.mark.parametrize(
    ("share", "owner", "reader", "after", "may"),
    [
        (SHARE, {}, {}, timedelta(), True),
        (SHARE, {}, {"email": "carl@example.org"}, timedelta(), False),
        (SHARE, {}, {"email": "carl@example.org", "id": OWNER.id}, timedelta(), True),  # its owner, under a new address
        (SHARE, {}, {"role": Role.ADMIN, "email": "root@example.org"}, timedelta(), False),
        (SHARE, {}, {}, LATER - timedelta(seconds=1), True),
        (SHARE, {}, {}, LATER, False),
        (SHARE, {"status": UserStatus.SUSPENDED}, {}, timedelta(), False),
        (SHARE, {}, {"status": UserStatus.SUSPENDED}, timedelta(), False),
        (SHARE, {"lab": None}, {"lab": None}, timedelta(), True),
        (LAB, {}, {}, timedelta(), True),
        (LAB, {}, {"lab": "Physics"}, timedelta(), False),
        (LAB, {}, {"lab": None}, timedelta(), False),
        (LAB, {"lab": "Physics"}, {}, timedelta(), False),
        (LAB, {"lab": "Physics"}, {"lab": "Physics"}, timedelta(), False),  # it was shared with another lab
        (LAB, {}, {}, LATER, False),
    ],
)
def test_who_may_open_a_share(
    share: Share, owner: dict[str, object], reader: dict[str, object], after: timedelta, may: bool
) -> None:
    assert may_open(share, replace(OWNER, **owner), replace(READER, **reader), NOW + after) is may  # type: ignore[arg-type]
    assert not may_open(share, None, READER, NOW)


@on_every_database
async def test_shares_are_kept_found_and_forgotten(database: Database) -> None:
    """Paths of any bytes; by name and by lab; nobody removes another's."""
    odd = replace(SHARE, id="t" * 16, path=b"a\xff/\n\xe2\x80\xae".decode("utf-8", "surrogateescape"), lab="Genomics")
    async with database.transaction() as db:
        for one in (SHARE, odd):
            await shares.add(db, one)
            await share_people.name(db, one.id, one.emails)
        assert await shares.by_id(db, odd.id) == odd
        assert {one.id for one in await shares.of_owner(db, OWNER.id, NOW)} == {SHARE.id, odd.id}
        assert await shares.of_owner(db, READER.id, NOW) == []
        assert await shares.of_owner(db, OWNER.id, NOW + LATER) == []
        assert await shares.count(db, OWNER.id, NOW) == 2
        assert set(await share_people.named(db, READER.email)) == {SHARE.id, odd.id}
        assert await shares.with_user(db, [SHARE.id], [], READER.id, NOW, 10) == [SHARE]
        assert await shares.with_user(db, [], ["Genomics"], READER.id, NOW, 10) == [odd]
        assert await shares.with_user(db, [SHARE.id, odd.id], ["Genomics"], OWNER.id, NOW, 10) == []
        assert await shares.with_user(db, [], [], READER.id, NOW, 10) == []
        for minutes, email in ((1, "carl@example.org"), (2, READER.email), (3, "carl@example.org")):
            await share_people.opened(db, SHARE.id, email, NOW + timedelta(minutes=minutes))
        looks = await share_people.last_opened(db, [SHARE.id, odd.id])
        assert looks == {
            SHARE.id: [
                ("carl@example.org", NOW + timedelta(minutes=3)),
                (READER.email, NOW + timedelta(minutes=2)),
            ]
        }
        assert await share_people.named(db, "carl@example.org") == [], "who has only opened it was not named"
        assert not await shares.remove(db, SHARE.id, READER.id)
        assert await shares.remove(db, SHARE.id, OWNER.id)
        assert await shares.over(db, NOW + LATER, 10) == []
        ids = await shares.over(db, NOW + LATER + timedelta(seconds=1), 10)
        assert ids == [odd.id]
        await shares.remove_all(db, ids)
        await share_people.remove_all(db, [*ids, SHARE.id])
        assert await shares.by_id(db, odd.id) is None
        assert await share_people.named(db, READER.email) == []
