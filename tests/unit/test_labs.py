"""Labs: who makes, leads, joins and leaves them, and which of somebody's labs counts."""

from __future__ import annotations

from datetime import datetime, timedelta
from itertools import islice
from typing import Any

import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, text

from launchpad.control.verbs import put_lab_member
from launchpad.domain.labs import REMINDED_AFTER, REQUESTS_MAX, LabRight, is_name, name_candidates
from launchpad.domain.users import Role, User
from launchpad.errors import Conflict, Forbidden, InvalidInput, NotFound, TooManyRequests
from launchpad.platform import Platform
from launchpad.services.audit import CLI, Actor
from launchpad.services.users import UserChange
from launchpad.store import labs, users
from launchpad.store.database import Database
from launchpad.store.revisions import MIGRATIONS
from support.databases import on_every_database
from support.platforms import World, sign_in
from support.smtp import text_of


class People:
    """Users of a platform by their first names, and what they do with labs."""

    def __init__(self, world: World, platform: Platform) -> None:
        self.world, self.platform, self.service = world, platform, platform.labs
        self._addresses = 0

    @property
    def now(self) -> datetime:
        return self.world.clock.now

    async def come(self, *names: str) -> None:
        for name in names:
            self._addresses += 1
            await sign_in(self.platform, f"{name}@a.org", client=f"192.0.2.{self._addresses}")

    async def user(self, name: str) -> User:
        return await self.platform.users.by_email(f"{name}@a.org")

    async def actor(self, name: str) -> Actor:
        return Actor.of(await self.user(name), "192.0.2.1")

    async def admin_puts(self, lab: str, name: str, **change: Any) -> None:
        access = await self.service.access(await self.user(name), lab, as_admin=True)
        await self.service.put(access, f"{name}@a.org", CLI, self.now, **change)

    async def puts(self, by: str, lab: str, name: str, **change: Any) -> None:
        access = await self.service.access(await self.user(by), lab)
        await self.service.put(access, f"{name}@a.org", await self.actor(by), self.now, **change)

    async def removes(self, by: str, lab: str, name: str) -> None:
        access = await self.service.access(await self.user(by), lab)
        await self.service.remove(access, f"{name}@a.org", await self.actor(by), self.now)

    async def asks(self, name: str, lab: str) -> None:
        await self.service.ask(await self.user(name), lab, await self.actor(name), self.now)

    async def of(self, name: str) -> list[tuple[str, bool, bool]]:
        """Somebody's labs: name, whether they lead it, whether it counts."""
        found = await self.service.of_user(await self.user(name))
        return [(one.lab.name, one.is_lead, one.counts) for one in found]

    async def counts(self, name: str) -> str | None:
        return (await self.user(name)).lab

    async def members(self, lab: str) -> list[str]:
        return [one.user.username for one in await self.service.members(await self.service.get(lab))]

    async def mails(self) -> list[tuple[str, str]]:
        """To whom, and the subject, of mails since the last time; codes are none."""
        await self.platform.mail.drain()
        found = [one for one in self.world.letters.sent if "sign-in code" not in str(one["Subject"])]
        self.world.letters.sent.clear()
        return [(str(one["To"]), str(one["Subject"]).partition(": ")[2]) for one in found]


@pytest.fixture
async def people(world: World, platform: Platform) -> People:
    """Ada leads genomics, in which Bob is; Cat is in no lab; Zoe is an administrator."""
    made = People(world, platform)
    await made.come("ada", "bob", "cat", "zoe")
    await platform.users.change((await made.user("zoe")).id, UserChange(role=Role.ADMIN), CLI, made.now)
    await platform.labs.make("genomics", "Genomics  Group", CLI, made.now)
    await made.admin_puts("genomics", "ada", is_lead=True)
    await made.puts("ada", "genomics", "bob")
    await made.mails()
    return made


# -- names -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("title", "name"),
    [
        ("Genomics", "genomics"),
        ("Dr. Müller's  lab", "dr-muller-s-lab"),
        ("生物信息", "lab"),
        ("x" * 100, "x" * 30),
        ("a" * 29 + " b", "a" * 29),
        ("-- --", "lab"),
    ],
)
def test_a_title_gives_a_name_that_can_be_one(title: str, name: str) -> None:
    first, *more = islice(name_candidates(title), 200)
    assert first == name
    assert all(is_name(one) for one in (first, *more))
    assert len({first, *more}) == 200


@pytest.mark.parametrize("name", ["", "-a", "a-", "A", "a b", "a/b", "..", "ä", "a" * 31, "requests"])
async def test_what_is_no_name_is_refused(people: People, name: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        await people.service.make(name, "Title", CLI, people.now)
    assert "name" in refused.value.fields


async def test_a_name_is_given_once_also_to_what_settings_call_a_lab(people: People) -> None:
    await people.platform.users.change((await people.user("cat")).id, UserChange(lab="physics"), CLI, people.now)
    for name in ("genomics", "physics"):
        with pytest.raises(Conflict):
            await people.service.make(name, "", CLI, people.now)


# -- members -----------------------------------------------------------------------------------------------------------


@on_every_database
async def test_somebody_is_in_several_labs_and_one_counts(people: People) -> None:
    for name in ("physics", "statistics"):
        people.world.clock.now += timedelta(hours=1)
        await people.service.make(name, "", CLI, people.now)
        await people.admin_puts(name, "bob")
    assert await people.of("bob") == [
        ("genomics", False, True),
        ("physics", False, False),
        ("statistics", False, False),
    ]
    await people.removes("ada", "genomics", "bob")
    assert await people.counts("bob") == "physics", "the one they have been in longest"
    await people.removes("bob", "statistics", "bob")
    await people.removes("bob", "physics", "bob")
    assert (await people.counts("bob"), await people.of("bob")) == (None, [])
    assert await people.members("genomics") == ["ada"]


@on_every_database
async def test_another_lab_by_an_administrator_moves_them_as_it_did_before(people: People) -> None:
    bob = await people.user("bob")

    async def set_lab(lab: str | None) -> User:
        people.world.clock.now += timedelta(hours=1)
        return await people.platform.users.change(bob.id, UserChange(lab=lab), CLI, people.now)

    assert (await set_lab("Dr. Müller")).lab == "Dr. Müller", "made by its name, and called as it was written"
    assert await people.of("bob") == [("dr-muller", False, True)]
    assert await people.members("genomics") == ["ada"]
    await people.puts("ada", "genomics", "bob")
    assert (await set_lab("genomics")).lab == "genomics"
    assert await people.of("bob") == [("dr-muller", False, False), ("genomics", False, True)], "in it already"
    assert (await set_lab("dr-muller")).lab == "Dr. Müller", "by its name"
    assert (await set_lab("DR-Muller")).lab == "Dr. Müller"
    assert await people.of("bob") == [("dr-muller", False, True), ("genomics", False, False)]
    assert (await set_lab(None)).lab == "genomics"
    assert (await set_lab("")).lab is None
    assert await people.of("bob") == []


async def test_leads_change_members_and_title_and_nobody_else_does(people: People) -> None:
    with pytest.raises(NotFound):
        await people.puts("cat", "genomics", "cat")
    with pytest.raises(NotFound):
        await people.puts("zoe", "genomics", "zoe")  # not as an administrator
    for refused in (people.puts("bob", "genomics", "cat"), people.removes("bob", "genomics", "ada")):
        with pytest.raises(Forbidden):
            await refused
    for by, right in (("bob", LabRight.MEMBER), ("ada", LabRight.LEAD)):
        access = await people.service.access(await people.user(by), "genomics")
        assert (access.right, access.is_member) == (right, True)
    bobs, bob = await people.service.access(await people.user("bob"), "genomics"), await people.actor("bob")
    with pytest.raises(Forbidden):
        await people.service.rename(bobs, "Mine", bob, people.now)
    await people.puts("ada", "genomics", "cat")
    adas = await people.service.access(await people.user("ada"), "genomics")
    renamed = await people.service.rename(adas, " Genomics\n& more ", await people.actor("ada"), people.now)
    assert (renamed.title, renamed.name, renamed.key) == ("Genomics & more", "genomics", "genomics")
    for title in ("", " \x00", "x" * 101):
        with pytest.raises(InvalidInput):
            await people.service.rename(adas, title, await people.actor("ada"), people.now)
    assert await people.members("genomics") == ["ada", "bob", "cat"]


async def test_only_administrators_name_and_remove_leads(people: People) -> None:
    for name, is_lead in (("bob", True), ("cat", True), ("ada", False)):
        with pytest.raises(Forbidden):
            await people.puts("ada", "genomics", name, is_lead=is_lead)
    with pytest.raises(Forbidden):
        await people.removes("ada", "genomics", "ada")
    assert await people.of("cat") == []
    await people.admin_puts("genomics", "bob", is_lead=True)
    with pytest.raises(Forbidden):
        await people.removes("bob", "genomics", "ada")
    await people.admin_puts("genomics", "ada", is_lead=False)
    await people.removes("bob", "genomics", "ada")
    assert await people.members("genomics") == ["bob"]


async def test_who_was_removed_meanwhile_leads_no_more(people: People) -> None:
    access = await people.service.access(await people.user("ada"), "genomics")
    await people.admin_puts("genomics", "ada", is_lead=False)
    ada = await people.actor("ada")
    for refused in (
        people.service.put(access, "cat@a.org", ada, people.now),
        people.service.remove(access, "bob@a.org", ada, people.now),
        people.service.rename(access, "Mine", ada, people.now),
        people.service.decline(access, "cat@a.org", ada, people.now),
    ):
        with pytest.raises(Forbidden):
            await refused
    assert await people.members("genomics") == ["ada", "bob"]


async def test_putting_again_changes_nothing_and_tells_nobody(people: People, world: World) -> None:
    before = world.rows("SELECT count(*) FROM audit")
    await people.puts("ada", "genomics", "bob")
    await people.puts("ada", "genomics", "bob", is_lead=False)
    assert (world.rows("SELECT count(*) FROM audit"), await people.mails()) == (before, [])
    with pytest.raises(NotFound, match="has signed in yet"):
        await people.puts("ada", "genomics", "nobody")
    with pytest.raises(NotFound):
        await people.removes("ada", "genomics", "cat")


# -- requests ----------------------------------------------------------------------------------------------------------


async def test_who_asks_is_in_it_once_a_lead_says_so_and_mails_tell_both(people: People) -> None:
    await people.asks("cat", " Genomics ")
    assert await people.mails() == [("ada@a.org", "cat@a.org asks to join Genomics Group")]
    lab = await people.service.get("genomics")
    assert [one.user.username for one in await people.service.requests(lab)] == ["cat"]
    await people.puts("ada", "genomics", "cat")
    assert await people.mails() == [("cat@a.org", "you are in Genomics Group now")]
    assert await people.service.requests(lab) == []
    assert await people.of("cat") == [("genomics", False, True)]
    with pytest.raises(Conflict):
        await people.asks("cat", "genomics")
    await people.removes("ada", "genomics", "cat")
    assert await people.mails() == [("cat@a.org", "you are no longer in Genomics Group")]
    await people.puts("ada", "genomics", "cat")
    await people.mails()
    await people.removes("cat", "genomics", "cat")
    assert await people.mails() == [], "by themselves"


async def test_a_mail_names_the_page_where_it_is_answered(people: People, world: World) -> None:
    await people.asks("cat", "genomics")
    await people.platform.mail.drain()
    (mail,) = [one for one in world.letters.sent if "asks to join" in str(one["Subject"])]
    assert f"{people.platform.settings.public_url}/labs/genomics" in text_of(mail)


async def test_a_declined_request_is_gone_and_may_be_made_again(people: People) -> None:
    await people.asks("cat", "genomics")
    access = await people.service.access(await people.user("ada"), "genomics")
    await people.service.decline(access, "cat@a.org", await people.actor("ada"), people.now)
    assert ("cat@a.org", "request to join Genomics Group declined") in await people.mails()
    with pytest.raises(NotFound):
        await people.service.decline(access, "cat@a.org", await people.actor("ada"), people.now)
    await people.asks("cat", "genomics")
    assert len(await people.mails()) == 1


async def test_asking_again_mails_again_only_after_a_week(people: People) -> None:
    await people.asks("cat", "genomics")
    await people.mails()
    people.world.clock.now += REMINDED_AFTER - timedelta(seconds=1)
    await people.asks("cat", "genomics")
    assert await people.mails() == []
    people.world.clock.now += timedelta(seconds=1)
    await people.asks("cat", "genomics")
    assert await people.mails() == [("ada@a.org", "cat@a.org asks to join Genomics Group")]


async def test_without_a_lead_administrators_are_asked(people: People) -> None:
    await people.service.make("physics", "", CLI, people.now)
    await people.asks("cat", "physics")
    assert await people.mails() == [("zoe@a.org", "cat@a.org asks to join physics")]


async def test_a_lab_that_does_not_exist_is_asked_for_like_one_that_does(people: People, world: World) -> None:
    await people.asks("cat", "nowhere")
    assert await people.mails() == []
    assert world.rows("SELECT * FROM lab_requests") == []


async def test_requests_that_nobody_answers_are_few(people: People) -> None:
    for number in range(REQUESTS_MAX + 1):
        await people.service.make(f"lab-{number}", "", CLI, people.now)
    for number in range(REQUESTS_MAX):
        await people.asks("cat", f"lab-{number}")
    with pytest.raises(TooManyRequests):
        await people.asks("cat", f"lab-{REQUESTS_MAX}")


# -- what is recorded --------------------------------------------------------------------------------------------------


async def test_everything_stands_in_the_audit_and_in_the_ledger_of_whom_it_is_about(people: People) -> None:
    await people.asks("cat", "genomics")
    await people.puts("ada", "genomics", "cat")
    await people.admin_puts("genomics", "cat", is_lead=True)
    await people.admin_puts("genomics", "cat", is_lead=False)
    await people.removes("ada", "genomics", "cat")
    await people.asks("cat", "genomics")
    access = await people.service.access(await people.user("ada"), "genomics")
    await people.service.decline(access, "cat@a.org", await people.actor("ada"), people.now)
    await people.service.rename(access, "New", await people.actor("ada"), people.now)
    recorded = [one.action for one in await people.platform.audit.page(search="lab.")]
    in_order = ["lab.renamed", "lab.declined", "lab.asked", "lab.left", "lab.lead_ended", "lab.lead_named"]
    assert recorded[:8] == [*in_order, "lab.joined", "lab.asked"]
    found, _ = await people.platform.ledger.page(await people.user("cat"), limit=50)
    told = [(one.record.actor, one.record.action) for one in found]
    assert told == [
        ("ada@a.org", "lab.declined"),
        ("ada@a.org", "lab.left"),
        ("cli", "lab.lead_ended"),
        ("cli", "lab.lead_named"),
        ("ada@a.org", "lab.joined"),
    ]
    assert [one.record.action for one in (await people.platform.ledger.page(await people.user("ada"), limit=9))[0]] == [
        "lab.joined"
    ], "what a lead does themselves is not in their own"
    assert (await people.platform.audit_verifier.verify()).holds


# -- from before -------------------------------------------------------------------------------------------------------


async def test_whoever_is_said_to_lead_no_longer_is_not_added_by_that(people: People) -> None:
    with pytest.raises(NotFound, match="in this lab"):
        await put_lab_member(people.platform, "genomics", "cat@a.org", is_lead=False)
    assert await people.members("genomics") == ["ada", "bob"]
    assert await put_lab_member(people.platform, "genomics", "Ada@a.org", is_lead=False) == "ada@a.org: is in genomics"


@on_every_database
async def test_names_of_before_become_labs_with_their_users(people: People) -> None:
    """What the migration does, over a database in which users had names of labs and nothing else."""
    names = {"ada": "Genomics", "bob": "genomics", "cat": "Dr. Müller ", "zoe": None}
    database = Database(people.platform.settings.resolved_database_url)
    try:
        await _as_before(database, names)
        await _make_labs(database)
        async with database.reading() as db:
            found = {one.lab.key: one for one in await labs.page(db)}
            assert {key: (one.lab.name, one.lab.title) for key, one in found.items()} == {
                "Genomics": ("genomics-2", "Genomics"),
                "genomics": ("genomics", "genomics"),
                "Dr. Müller ": ("dr-muller", "Dr. Müller"),
            }
            for name, key in names.items():
                user = await users.by_email(db, f"{name}@a.org")
                assert user is not None
                assert user.lab == key, "what counts is called as before"
                theirs = await labs.of_user(db, user.id)
                assert [(one.lab.key, one.is_lead, one.counts) for one in theirs] == (
                    [(key, False, True)] if key else []
                )
                members = await labs.members(db, theirs[0].lab.id) if theirs else []
                assert [one.joined_at for one in members] == [user.created_at] * len(members)
    finally:
        await database.aclose()


async def _make_labs(database: Database) -> None:
    """By their migration alone: what later ones make is there."""

    def upgrade(connection: Connection) -> None:
        config = Config()
        config.set_main_option("script_location", str(MIGRATIONS))
        config.attributes["connection"] = connection
        command.upgrade(config, "0019")

    async with database.transaction() as db:
        newest = (await db.execute(text("SELECT version_num FROM alembic_version"))).scalar_one()
        await db.execute(text("UPDATE alembic_version SET version_num = '0018'"))
        await db.run_sync(upgrade)
        await db.execute(text("UPDATE alembic_version SET version_num = :newest"), {"newest": newest})


async def _as_before(database: Database, names: dict[str, str | None]) -> None:
    async with database.transaction() as db:
        for table in ("lab_requests", "lab_members", "labs"):
            await db.execute(text(f"DROP TABLE {table}"))
        for name, key in names.items():
            await db.execute(
                text("UPDATE users SET lab = :key WHERE email = :email"), {"key": key, "email": f"{name}@a.org"}
            )
