"""Bringing people over: accounts as at a first sign-in, files by `storage.moving`, over a real database and disk."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from launchpad.domain.limits import Quota
from launchpad.domain.original import OriginalUser, Person, people_of
from launchpad.domain.snapshots import Cause
from launchpad.domain.users import Role
from launchpad.errors import InvalidInput
from launchpad.ops.importing import Account, Standing, parse_assignments, without_gaps
from launchpad.ops.importing_files import Brought, FileImport
from launchpad.platform import Platform
from launchpad.services.users import UserChange
from launchpad.settings import SnapshotSettings, tables
from launchpad.storage.base import HomeUse
from launchpad.storage.choose import choose_snapshots
from launchpad.storage.plain import PlainHomes
from launchpad.storage.snapshots import FOLDER, Snapshots
from support.originals import original_database
from support.platforms import ACTOR, START, World, sign_in
from support.snapshots import CopiedSnapshots

MAY = datetime(2025, 5, 20, tzinfo=UTC)
UID_BASE = 200_000


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    world = World(tmp_path, {"sign_in": {"allowed_domains": ["x.edu", "y.edu"]}, "admin_emails": ["root@x.edu"]})
    yield world
    await world.close()


def person(name: str, **values: object) -> Person:
    row = OriginalUser(**{"name": name, "email": None, "is_admin": False, "lab": "Lab", "created_at": MAY, **values})  # type: ignore[arg-type]
    (found,) = people_of([row]).found
    return found


def folder_of(world: World, name: str, *files: str) -> Path:
    folder = world.folder / "user_data" / name
    folder.mkdir(parents=True)
    for file in files:
        (folder / file).write_text(f"{name} {file}")
    return folder


def files_of(
    world: World, *, homes: PlainHomes | None = None, snapshots: Snapshots | None = None, **how: bool
) -> FileImport:
    (world.folder / "user_data").mkdir(exist_ok=True)
    root = world.homes_root
    homes = homes or PlainHomes(root)
    snapshots = snapshots or choose_snapshots(tables(world.settings), homes)
    return FileImport(homes, snapshots, root, UID_BASE, world.folder / "user_data", **how)


async def bring(files: FileImport, one: Person, account: Account) -> Brought:
    return await files.bring(one, account, lambda so_far, total: None)


# -- accounts ----------------------------------------------------------------------------------------------------------


async def test_people_are_registered_as_at_their_first_sign_in(world: World, platform: Platform) -> None:
    """With their lab and since when; name and uid of their own; and they sign in with a code, to that account."""
    people = [person("alice@x.edu", lab="Lab A"), person("alice@y.edu", created_at=None)]
    one, other = await platform.importing.register(people, START)
    assert (one.standing, one.username, one.uid) == (Standing.NEW, "alice", UID_BASE)
    assert (other.standing, other.username, other.uid) == (Standing.NEW, "alice-2", UID_BASE + 1)
    alice = await platform.users.by_email("alice@x.edu")
    assert (alice.lab, alice.role, alice.created_at, alice.last_seen_at) == ("Lab A", Role.USER, MAY, None)
    assert (await platform.users.by_email("alice@y.edu")).created_at == START
    user, _ = await sign_in(platform, "alice@x.edu")
    assert (user.id, user.uid) == (alice.id, UID_BASE)
    records = {one.subject: one for one in await platform.audit.page(search="user.imported")}
    assert records["alice@x.edu"].details == {
        "from": "alice@x.edu",
        "username": "alice",
        "uid": UID_BASE,
        "role": "user",
    }


async def test_who_is_there_already_stays_as_they_are(world: World, platform: Platform) -> None:
    user, _ = await sign_in(platform, "bo@x.edu")
    people = [person("bo@x.edu", lab="Other", is_admin=True), person("new@x.edu")]
    for standings in ([Standing.THERE, Standing.NEW], [Standing.THERE, Standing.THERE]):
        accounts = await platform.importing.register(people, START, keep_admins=True)
        assert [account.standing for account in accounts] == standings
        assert accounts[0].uid == user.uid
    again = await platform.users.get(user.id)
    assert (again.lab, again.role, again.created_at) == (user.lab, Role.USER, user.created_at)
    assert await platform.users.count() == 2
    assert len(await platform.audit.page(search="user.imported")) == 1


async def test_nobody_becomes_administrator_but_by_the_settings_or_on_demand(platform: Platform) -> None:
    people = [person("boss@x.edu", is_admin=True), person("root@x.edu")]
    await platform.importing.register(people, START)
    assert (await platform.users.by_email("boss@x.edu")).role is Role.USER
    assert (await platform.users.by_email("root@x.edu")).role is Role.ADMIN
    await platform.importing.register([person("chief@x.edu", is_admin=True)], START, keep_admins=True)
    assert (await platform.users.by_email("chief@x.edu")).role is Role.ADMIN
    await platform.importing.register([person("other@x.edu")], START, keep_admins=True)
    assert (await platform.users.by_email("other@x.edu")).role is Role.USER


async def test_a_domain_that_may_not_sign_in_is_not_let_in_by_an_import(platform: Platform) -> None:
    (account,) = await platform.importing.register([person("a@evil.org")], START)
    assert (account.standing, account.username) == (Standing.REFUSED, None)
    assert await platform.users.count() == 0


async def test_a_rehearsal_writes_nothing(world: World, platform: Platform) -> None:
    await sign_in(platform, "bo@x.edu")
    records = len(await platform.audit.page())
    accounts = await platform.importing.rehearse([person("bo@x.edu"), person("new@x.edu"), person("a@evil.org")])
    assert [account.standing for account in accounts] == [Standing.THERE, Standing.NEW, Standing.REFUSED]
    assert await platform.users.count() == 1
    assert len(await platform.audit.page()) == records


async def test_the_home_may_hold_what_its_user_could_choose(world: World, platform: Platform) -> None:
    """The largest size that is offered, or the quota where it is less."""
    user, _ = await sign_in(platform, "bo@x.edu")
    gb = 1024**3
    for quota, limit in ((None, 64 * gb), (5 * gb, 5 * gb), (900 * gb, 64 * gb)):
        await platform.users.change(user.id, UserChange(quota=Quota(storage_bytes=quota)), ACTOR, START)
        (account,) = await platform.importing.register([person("bo@x.edu")], START)
        assert account.limit_bytes == limit


def test_gaps_are_told_with_the_way_out() -> None:
    rows = [OriginalUser(f"user{n}", None, False, None, None) for n in range(10)]
    with pytest.raises(InvalidInput, match=r"are not known: 'user0', .* and 2 more.*--domain.*--skip NAME"):
        without_gaps(people_of(rows))
    assert len(without_gaps(people_of(rows, domain="x.edu"))) == 10


def test_whose_a_folder_is() -> None:
    people = ["a@x.edu", "b@x.edu"]
    assert parse_assignments(["f=A@x.edu", "f=b@x.edu", "g=h=a@x.edu"], people) == {
        "f": ["a@x.edu", "b@x.edu"],
        "g=h": ["a@x.edu"],
    }
    for wrong in ("f", "=a@x.edu", "f=", "f=alice"):
        with pytest.raises(InvalidInput, match="does not name the new owner"):
            parse_assignments([wrong], people)
    with pytest.raises(InvalidInput, match="no user with the address c@x"):
        parse_assignments(["f=c@x.edu"], people)


# -- files -------------------------------------------------------------------------------------------------------------


@pytest.mark.root  # files are given to their owners
async def test_files_come_into_the_home_and_again_only_what_is_missing(world: World, platform: Platform) -> None:
    people = [person("ann@x.edu")]
    folder = folder_of(world, "ann", "a.R", "b.R")
    (account,) = await platform.importing.register(people, START)
    first = await bring(files_of(world), people[0], account)
    assert first == Brought("ann@x.edu", folders=("ann",), files=2, bytes=first.bytes)
    home = world.homes_root / "ann"
    assert home.stat().st_uid == (home / "a.R").stat().st_uid == UID_BASE
    assert (home / "a.R").read_text() == "ann a.R"
    (home / "a.R").write_text("newer")
    (folder / "c.R").write_text("late")
    (account,) = await platform.importing.register(people, START)
    second = await bring(files_of(world), people[0], account)
    assert (second.files, second.kept, second.done) == (1, 2, True)
    assert (home / "a.R").read_text() == "newer"
    snapshots = CopiedSnapshots(world.homes_root, SnapshotSettings(), world.clock)
    snapshots.fails.add("ann")
    (folder / "d.R").write_text("later")
    third = await bring(files_of(world, snapshots=snapshots), people[0], account)
    assert (third.files, third.done) == (0, False)
    assert "No snapshot could be taken first" in third.notes[-1]
    snapshots.fails.clear()
    fourth = await bring(files_of(world, snapshots=snapshots), people[0], account)
    assert (fourth.files, fourth.done) == (1, True)
    (before,) = await snapshots.taken("ann")
    assert before.cause is Cause.BEFORE
    assert not (world.homes_root / FOLDER / "ann" / before.name / "d.R").exists(), "as it was before"
    await platform.importing.record({"ann@x.edu": {"files": 1, "bytes": 4}}, START)
    (record,) = await platform.audit.page(search="home.imported")
    assert (record.actor, record.subject, record.details) == ("cli", "ann@x.edu", {"files": 1, "bytes": 4})


@pytest.mark.root  # files are given to their owners
async def test_two_domains_get_two_homes_and_the_folder_they_shared_is_given_to_nobody(
    world: World, platform: Platform
) -> None:
    """Until the administrator says whose it becomes; it may become both's."""
    folder_of(world, "alice", "whose.R")
    rows = [OriginalUser(name, None, False, None, None) for name in ("alice@x.edu", "alice@y.edu")]
    people = people_of(rows).found
    accounts = await platform.importing.register(people, START)
    files = files_of(world)
    for one, account in zip(people, accounts, strict=True):
        brought = await bring(files, one, account)
        assert (brought.files, brought.done) == (0, False)
        assert f"--folder alice={one.address}" in brought.notes[0]
    assert list(world.homes_root.iterdir()) == []
    people = people_of(rows, assigned={"alice": ["alice@y.edu", "alice@x.edu"]}).found
    for one, account in zip(people, accounts, strict=True):
        assert (await bring(files, one, account)).files == 1
        home = world.homes_root / str(account.username)
        assert (home / "whose.R").stat().st_uid == home.stat().st_uid == account.uid
    assert sorted(path.name for path in world.homes_root.iterdir()) == ["alice", "alice-2"]


@pytest.mark.root  # files are given to their owners
async def test_a_rehearsal_counts_and_makes_nothing(world: World, platform: Platform) -> None:
    folder_of(world, "ann", "a.R", "b.R")
    (account,) = await platform.importing.rehearse([person("ann@x.edu")])
    brought = await bring(files_of(world, only_count=True), person("ann@x.edu"), account)
    assert (brought.files, brought.kept, brought.done) == (2, 0, True)
    assert list(world.homes_root.iterdir()) == []


@pytest.mark.root  # files are given to their owners
async def test_who_seems_to_work_there_still_is_left_for_later(world: World, platform: Platform) -> None:
    folder_of(world, "ann", "a.R")
    ann = person("ann@x.edu", running=("rstudio-ann-1",))
    (account,) = await platform.importing.register([ann], START)
    brought = await bring(files_of(world), ann, account)
    assert (brought.files, brought.done) == (0, False)
    assert "Still running" in brought.notes[0]
    assert "rstudio-ann-1" in brought.notes[0]
    assert (await bring(files_of(world, despite_running=True), ann, account)).files == 1


async def test_a_folder_that_is_a_link_is_told_and_not_taken(world: World, platform: Platform) -> None:
    """The others go on."""
    (world.folder / "user_data").mkdir()
    (world.folder / "user_data" / "eve").symlink_to("/etc")
    eve = person("eve@x.edu")
    (account,) = await platform.importing.register([eve], START)
    brought = await bring(files_of(world), eve, account)
    assert (brought.files, brought.done) == (0, False)
    assert "is a link or not a folder" in brought.notes[0]
    assert list(world.homes_root.iterdir()) == []


async def test_refused_people_bring_no_files(world: World, platform: Platform) -> None:
    folder_of(world, "a", "a.R")
    one = person("a@evil.org")
    (account,) = await platform.importing.register([one], START)
    brought = await bring(files_of(world), one, account)
    assert (brought.files, brought.done) == (0, False)
    assert "allowed_domains" in brought.notes[0]


@pytest.mark.root  # files are given to their owners
async def test_an_account_that_cannot_be_one_of_ours_leads_root_nowhere(world: World) -> None:
    """Names and uids are told by the portal's process, which may have been taken over."""
    folder_of(world, "ann", "a.R")
    foreign = world.homes_root / "bert"
    foreign.mkdir(mode=0o700)
    os.chown(foreign, UID_BASE + 7, UID_BASE + 7)
    for username, uid in (("ann", 0), ("ann", 1000), ("../ann", UID_BASE), ("bert", UID_BASE), ("ann", 2**31)):
        account = Account("ann@x.edu", Standing.NEW, username, uid, None)
        brought = await bring(files_of(world), person("ann@x.edu"), account)
        assert (brought.files, brought.done, len(brought.notes)) == (0, False, 1), (username, uid)
    assert list(foreign.iterdir()) == []
    assert [path.name for path in world.homes_root.iterdir()] == ["bert"]


class TightHomes(PlainHomes):
    """Homes that hold little."""

    async def use(self, username: str) -> HomeUse:
        return HomeUse(used_bytes=1000, limit_bytes=8000)


@pytest.mark.root  # files are given to their owners
async def test_what_does_not_fit_is_told_before_anything_is_written(world: World, platform: Platform) -> None:
    folder = folder_of(world, "ann", "a.R")
    ann = person("ann@x.edu")
    (account,) = await platform.importing.register([ann], START)
    homes = TightHomes(world.homes_root)
    assert (await bring(files_of(world, homes=homes), ann, account)).files == 1, "the control: a small one fits"
    (folder / "big").write_bytes(b"x" * 100_000)
    brought = await bring(files_of(world, homes=homes), ann, account)
    assert (brought.files, brought.done) == (0, False)
    assert "Not enough space: 101.7 KB to import, the home folder's limit leaves 6.8 KB." in brought.notes[0]
    assert not (world.homes_root / "ann" / "big").exists()


@pytest.mark.root  # files are given to their owners
async def test_what_was_left_out_is_told_with_examples(world: World, platform: Platform) -> None:
    folder = folder_of(world, "ann", "a.R")
    os.mkfifo(folder / "pipe\nline")
    ann = person("ann@x.edu")
    (account,) = await platform.importing.register([ann], START)
    brought = await bring(files_of(world), ann, account)
    assert (brought.files, brought.done) == (1, True)
    assert brought.notes == ("Left out: pipes, sockets or devices (1); for example 'pipe\\nline'.",)


async def test_folders_that_nobody_has_are_named(world: World) -> None:
    folder_of(world, "ann")
    folder_of(world, "zoe")
    assert files_of(world).unclaimed([person("ann@x.edu")]) == ["zoe"]
    homes = PlainHomes(world.homes_root)
    snapshots = choose_snapshots(tables(world.settings), homes)
    with pytest.raises(InvalidInput, match="There is no folder"):
        FileImport(homes, snapshots, world.homes_root, UID_BASE, world.folder / "none")


# -- the command -------------------------------------------------------------------------------------------------------


@pytest.mark.slow  # the program itself, interrupted
def test_who_was_brought_before_ctrl_c_stands_in_the_record(tmp_path: Path) -> None:
    """Another run finds nothing new of theirs, so that it would never be written down."""
    (tmp_path / "homes").mkdir()
    original_database(tmp_path / "db.sqlite3", [{"name": "ann@x.edu"}, {"name": "zoe@x.edu"}])
    for name, number in (("ann", 3), ("zoe", 20_000)):
        folder = tmp_path / "user_data" / name
        folder.mkdir(parents=True)
        for one in range(number):
            (folder / str(one)).write_text("x")
    settings = tmp_path / "launchpad.toml"
    settings.write_text(f'state_dir = "{tmp_path}/state"\n[homes]\nroot = "{tmp_path}/homes"\ndriver = "plain"\n')
    program = [sys.executable, "-m", "launchpad"]
    files = [str(tmp_path / "db.sqlite3"), "--user-data", str(tmp_path / "user_data")]
    with subprocess.Popen(
        [*program, "import-original", *files, "--config", str(settings)], stderr=subprocess.PIPE, text=True
    ) as bringing:
        assert bringing.stderr is not None
        said = next(line for line in bringing.stderr if "ann@x.edu: ok" in line)
        bringing.send_signal(signal.SIGINT)
        rest = bringing.stderr.read()
    assert bringing.returncode != 0, said + rest
    assert "zoe@x.edu: ok" not in rest, "the control: it was interrupted"
    command = [*program, "audit", "--search", "home.imported", "--json", "--config", str(settings)]
    records = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    assert [(one["subject"], one["details"]["files"]) for one in records] == [("ann@x.edu", 3)]
