"""What `storage/snapshots.py` promises, held against every way of keeping snapshots, and what comes back from them."""

from __future__ import annotations

import asyncio
import os
import random
import secrets
import signal
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from launchpad.domain.snapshots import Cause, Snapshot
from launchpad.errors import Conflict, FilesUnavailable, HomeUnavailable, InvalidInput, LaunchpadError, NoRoom, NotFound
from launchpad.helper_client import HelperClient
from launchpad.runtime.fake import FakeRuntime
from launchpad.settings import Settings, SnapshotSettings, tables
from launchpad.storage.base import Homes
from launchpad.storage.btrfs import BtrfsHomes
from launchpad.storage.btrfs_command import filesystem_id
from launchpad.storage.btrfs_snapshots import BtrfsSnapshots
from launchpad.storage.choose import choose_snapshots
from launchpad.storage.files import DirectFiles, Files, HelperFiles, Owner
from launchpad.storage.helper import HelperHomes, HelperSnapshots
from launchpad.storage.plain import PlainHomes
from launchpad.storage.projectquota import ProjectQuotaHomes
from launchpad.storage.snapshots import FOLDER, Snapshots, SnapshotSummary
from support.btrfs import btrfs_in_a_file, run
from support.files import STRANGER, UID, files_door, workers
from support.helper import guard_of, helper_thread
from support.snapshots import START, Clock, CopiedSnapshots, looks

pytestmark = [pytest.mark.root]

MIB = 1024**2
LIMIT = 64 * MIB
SEEN_AT = {"home": "/home/anna", "now": "2026-11-24T10:00:00"}


@dataclass
class Kept:
    """Homes with snapshots, and the ways to them; anna's home is there."""

    root: Path
    settings: Settings
    snapshots: Snapshots
    homes: Homes
    files: Files
    clock: Clock

    @property
    def home(self) -> Path:
        return self.root / "anna"

    def put(self, path: str, content: bytes, mode: int = 0o640, at_ns: int = 1_600_000_000_123_456_789) -> Path:
        file = self.home / path
        for folder in reversed([one for one in file.parents if one.is_relative_to(self.home) and not one.exists()]):
            folder.mkdir(mode=0o750)
            os.chown(folder, UID, UID)
        file.write_bytes(content)
        file.chmod(mode)
        os.chown(file, UID, UID)
        os.utime(file, ns=(at_ns, at_ns))
        return file

    async def take(self, cause: Cause = Cause.BEFORE) -> Snapshot:
        made = await self.snapshots.take("anna", UID, cause)
        assert made is not None
        self.clock.forward(hours=1)
        return made

    async def ask(self, snapshot: Snapshot, verb: str, **arguments: Any) -> dict[str, Any]:
        return await self.files.ask(Owner("anna", UID, snapshot.name), verb, **arguments)

    async def restore(self, snapshot: Snapshot, path: str, *, go: bool = True, **arguments: Any) -> dict[str, Any]:
        owner = Owner("anna", UID, snapshot.name)
        async with self.files.receive(owner, "restore", path=path, **SEEN_AT, **arguments) as received:
            assert received.header["staged"] is True
            await received.choose(go=go)
            return await received.last_word()

    def on_disk(self, snapshot: Snapshot) -> Path:
        return self.root / FOLDER / "anna" / snapshot.name

    @property
    def trash(self) -> list[str]:
        folder = self.home / ".local/share/Trash/files"
        return sorted(os.listdir(folder)) if folder.exists() else []

    @property
    def staged(self) -> list[str]:
        folder = self.home / ".local/share/launchpad-uploads"
        return sorted(os.listdir(folder)) if folder.exists() else []


@pytest.fixture(scope="module")
def btrfs_disk() -> Iterator[Path]:
    with btrfs_in_a_file(600) as place:
        run("mount", "-o", "remount,commit=1", place)  # what the kernel does every half minute
        yield place
        assert is_consistent(place), "the counts of the file system are still right, so that homes' limits are"


def is_consistent(place: Path) -> bool:
    opened = os.open(place, os.O_RDONLY)
    try:
        told = Path("/sys/fs/btrfs", str(filesystem_id(opened)), "qgroups/inconsistent")
        return told.read_text().strip() == "0"
    finally:
        os.close(opened)


@pytest.fixture
def btrfs_root(btrfs_disk: Path) -> Iterator[Path]:
    folder = btrfs_disk / secrets.token_hex(4) / "homes"
    folder.mkdir(parents=True)
    yield folder
    for one in (*folder.glob(f"{FOLDER}/*/*"), *folder.glob("*")):
        with suppress(subprocess.CalledProcessError):
            run("btrfs", "subvolume", "delete", one)


KINDS = ["btrfs", "helper", "copied"]


@pytest.fixture(params=KINDS)
async def kept(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Kept]:
    async for one in _kept(request, tmp_path, request.param):
        yield one


@pytest.fixture
async def btrfs(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Kept]:
    """For what only the file system can show, and is the same by every way."""
    async for one in _kept(request, tmp_path, "btrfs"):
        yield one


async def _kept(request: pytest.FixtureRequest, tmp_path: Path, kind: str) -> AsyncIterator[Kept]:
    clock = Clock()
    if kind == "copied":
        root = tmp_path / "homes"
        root.mkdir()
    else:
        root = request.getfixturevalue("btrfs_root")
    settings = tables(
        {"homes": {"root": str(root)}, "snapshots": {"hourly": 5, "daily": 3, "weekly": 0, "quota": "30m"}}
    )
    with ExitStack() as stack:
        homes: Homes = PlainHomes(root) if kind == "copied" else BtrfsHomes(root)
        snapshots: Snapshots
        files: Files = DirectFiles(root, settings.files)
        if kind == "copied":
            snapshots = CopiedSnapshots(root, settings.snapshots, clock)
        else:
            snapshots = BtrfsSnapshots(root, settings.snapshots, clock)
        if kind == "helper":
            runtime = FakeRuntime("none")
            guard = guard_of(settings, runtime, homes, snapshots=snapshots)
            path = stack.enter_context(helper_thread(tmp_path, runtime, guard))
            line = HelperClient(path)
            homes, snapshots = HelperHomes(line, root), HelperSnapshots(line)
            files = HelperFiles(stack.enter_context(files_door(tmp_path, settings)), settings.files)
        await homes.prepare("anna", UID, LIMIT)
        yield Kept(root, settings, snapshots, homes, files, clock)
        await files.aclose()


# -- taking and keeping ------------------------------------------------------------------------------------------------


async def test_one_is_taken_of_a_home_that_has_changed_and_of_no_other(kept: Kept) -> None:
    assert list(await kept.snapshots.taken("anna")) == []
    assert await kept.snapshots.obstacle() is None
    assert await kept.snapshots.summary() == SnapshotSummary()
    kept.put("work/data.csv", b"1")
    first = await kept.snapshots.take("anna", UID, Cause.TIME)
    assert first == Snapshot(START)
    kept.clock.forward(hours=1)
    assert await kept.snapshots.take("anna", UID, Cause.TIME) is None, "nothing has changed"
    assert await kept.snapshots.take("anna", UID, Cause.BEFORE) is None
    kept.put("work/data.csv", b"2")
    second = await kept.snapshots.take("anna", UID, Cause.TIME)
    assert second == Snapshot(kept.clock.now)
    kept.put("work/data.csv", b"3")
    kept.clock.forward(minutes=30)
    assert await kept.snapshots.take("anna", UID, Cause.TIME) is None, "one an hour"
    third = await kept.snapshots.take("anna", UID, Cause.BEFORE)
    assert third == Snapshot(kept.clock.now, Cause.BEFORE), "but one before each change"
    assert list(await kept.snapshots.taken("anna")) == [first, second, third]
    assert await kept.snapshots.summary() == SnapshotSummary(1, 3, third.taken_at)
    assert [(kept.on_disk(one) / "work/data.csv").read_bytes() for one in (first, second, third)] == [b"1", b"2", b"3"]


async def test_no_home_has_no_snapshots_and_nobody_elses_is_taken(kept: Kept) -> None:
    assert await kept.snapshots.take("bert", STRANGER, Cause.TIME) is None
    assert list(await kept.snapshots.taken("bert")) == []
    assert (await kept.snapshots.thin("bert", STRANGER)).number == 0
    with pytest.raises(HomeUnavailable):
        await kept.snapshots.take("anna", STRANGER, Cause.BEFORE)
    assert list(await kept.snapshots.taken("anna")) == []


async def test_what_is_too_old_goes_and_the_newest_stays(kept: Kept) -> None:
    for hour in range(8):
        kept.put("hour", str(hour).encode())
        assert await kept.snapshots.take("anna", UID, Cause.TIME)
        kept.clock.forward(hours=1)
    use = await kept.snapshots.thin("anna", UID)
    left = list(await kept.snapshots.taken("anna"))
    assert (use.number, use.removed) == (4, 4) == (len(left), 8 - len(left)), (
        "of the last five hours, this one included"
    )
    assert [one.taken_at.hour for one in left] == [13, 14, 15, 16]
    kept.clock.forward(days=40)
    assert (await kept.snapshots.thin("anna", UID)).number == 1
    assert list(await kept.snapshots.taken("anna")) == left[-1:]


async def test_one_is_removed_by_its_name_by_root_only(kept: Kept) -> None:
    kept.put("a", b"1")
    one = await kept.take()
    if isinstance(kept.snapshots, HelperSnapshots):
        with pytest.raises(HomeUnavailable):
            await kept.snapshots.forget("anna", one.name)
        assert list(await kept.snapshots.taken("anna")) == [one]
        return
    for name in ("..", "", "20200101T000000Z", f"../anna/{one.name}", f"{one.name}/"):
        with pytest.raises(NotFound):
            await kept.snapshots.forget("anna", name)
    await kept.snapshots.forget("anna", one.name)
    assert list(await kept.snapshots.taken("anna")) == []


def test_where_none_can_be_kept_it_is_said_why_and_what_is_needed(tmp_path: Path) -> None:
    for homes in (PlainHomes(tmp_path), ProjectQuotaHomes(tmp_path)):
        snapshots = choose_snapshots(Settings(), homes)
        obstacle = asyncio.run(snapshots.obstacle())
        assert obstacle is not None
        assert "cannot take snapshots" in obstacle.why
        assert "btrfs" in obstacle.needed
        assert "ZFS" in obstacle.needed
        assert asyncio.run(snapshots.take("anna", UID, Cause.TIME)) is None
        assert list(asyncio.run(snapshots.taken("anna"))) == []


async def test_homes_that_are_no_subvolumes_have_none(btrfs: Kept) -> None:
    (btrfs.root / "carl").mkdir(mode=0o700)
    os.chown(btrfs.root / "carl", STRANGER, STRANGER)
    assert await btrfs.snapshots.take("carl", STRANGER, Cause.BEFORE) is None
    assert list(await btrfs.snapshots.taken("carl")) == []


# -- what they take up -------------------------------------------------------------------------------------------------


def free(path: Path) -> int:
    run("btrfs", "subvolume", "sync", path)
    run("sync", "-f", path)
    state = os.statvfs(path)
    return state.f_bavail * state.f_frsize


async def test_snapshots_count_apart_from_the_home_and_the_oldest_go_beyond_their_quota(btrfs: Kept) -> None:
    """The quota is 30 MB; of each hour's 12 MB the home still has those of the last."""
    taken = []
    before = free(btrfs.root)
    for hour in range(4):
        btrfs.put("large", os.urandom(12 * MIB))
        taken.append(await btrfs.take(Cause.TIME))
        use = await btrfs.snapshots.thin("anna", UID)
        assert not use.is_floor
        assert use.bytes is not None
        assert use.bytes == pytest.approx(12 * MIB * min(hour, 2), abs=MIB)
        assert use.number == min(hour + 1, 3)
    assert list(await btrfs.snapshots.taken("anna")) == taken[1:]
    run("sync", "-f", btrfs.root)
    home = await btrfs.homes.use("anna")
    assert home.limit_bytes == LIMIT
    assert home.used_bytes == pytest.approx(12 * MIB, abs=MIB), "the home alone"
    assert before - free(btrfs.root) == pytest.approx(36 * MIB, abs=3 * MIB), "what was removed is free again"
    (btrfs.home / "large").unlink()
    run("sync", "-f", btrfs.root)
    assert (await btrfs.homes.use("anna")).used_bytes == pytest.approx(0, abs=MIB), "deleting frees the home"


async def test_older_kernels_count_each_alone(btrfs: Kept) -> None:
    """A file system that would have to count everything again is not asked to."""
    alone = BtrfsSnapshots(btrfs.root, btrfs.settings.snapshots, btrfs.clock, joins=False)
    for _ in range(3):
        btrfs.put("large", os.urandom(5 * MIB))
        assert await alone.take("anna", UID, Cause.BEFORE)
        btrfs.clock.forward(hours=1)
    btrfs.put("large", b"")
    run("sync", "-f", btrfs.root)
    use = await alone.thin("anna", UID)
    assert use.is_floor
    assert use.bytes == pytest.approx(15 * MIB, abs=MIB)
    small = BtrfsSnapshots(btrfs.root, SnapshotSettings(quota=8 * MIB), btrfs.clock, joins=False)
    use = await small.thin("anna", UID)
    assert (use.number, use.removed) == (1, 2)


async def test_a_home_that_shares_something_already_joins_no_group(btrfs: Kept) -> None:
    """Joining would make all limits of the file system wrong until everything is counted again."""
    btrfs.put("large", os.urandom(2 * MIB))
    run("btrfs", "subvolume", "snapshot", btrfs.home, btrfs.root / "of-the-administrator")
    run("sync", "-f", btrfs.root)
    await btrfs.take()
    use = await btrfs.snapshots.thin("anna", UID)
    assert use.is_floor
    run("btrfs", "subvolume", "delete", btrfs.root / "of-the-administrator")


async def test_thinning_as_another_user_is_refused(btrfs: Kept) -> None:
    btrfs.put("a", b"1")
    one = await btrfs.take()
    with pytest.raises(HomeUnavailable):
        await btrfs.snapshots.thin("anna", STRANGER)
    assert list(await btrfs.snapshots.taken("anna")) == [one]


# -- who reaches them --------------------------------------------------------------------------------------------------


AS_USER = """
import os, sys
folder, name = sys.argv[1:]
refused = 0
for act in (
    lambda: os.listdir(folder),
    lambda: os.stat(f"{folder}/anna/{name}/secret"),
    lambda: open(f"{folder}/anna/{name}/secret", "w"),
    lambda: os.rename(f"{folder}/anna", f"{folder}/gone"),
    lambda: os.rmdir(f"{folder}/anna/{name}"),
    lambda: os.rename(folder, folder + "-gone"),
    lambda: os.chmod(folder, 0o777),
    lambda: os.open(f"{folder}/../{os.path.basename(folder)}/anna", os.O_PATH),
):
    try:
        act()
    except PermissionError:
        refused += 1
print(refused)
"""


async def test_h1_users_reach_snapshots_neither_by_their_path_nor_out_of_their_home(kept: Kept) -> None:
    """As their uid on the server; and by links and `..`, from a worker of their home."""
    kept.put("secret", b"mine")
    one = await kept.take()
    arguments = ["python3", "-I", "-S", "-c", AS_USER, str(kept.root / FOLDER), one.name]
    told = subprocess.run(arguments, user=UID, group=UID, extra_groups=[], capture_output=True, text=True, check=True)
    assert told.stdout == "8\n"
    plain = Owner("anna", UID)
    (kept.home / "link").symlink_to(f"../{FOLDER}/anna/{one.name}")
    (kept.home / "absolute").symlink_to(kept.on_disk(one))
    for path in (f"../{FOLDER}", "link", "absolute/secret", f"link/../../{FOLDER}", f"/{FOLDER}/anna"):
        with pytest.raises(NotFound):
            await kept.files.ask(plain, "list", path=path)
    assert (await kept.ask(one, "list", path=""))["total"] == 1, "the control: a worker of the snapshot"


async def test_h1_a_worker_of_a_snapshot_reads_and_nothing_else(kept: Kept) -> None:
    kept.put("a/b", b"then")
    (kept.home / "out").symlink_to("../bert")
    (kept.home / "up").symlink_to("a/../..")
    one = await kept.take()
    kept.put("a/b", b"now")
    owner = Owner("anna", UID, one.name)
    assert [entry["name"] for entry in (await kept.ask(one, "list", path="a"))["entries"]] == ["b"]
    assert (await kept.ask(one, "stat", path="a/b"))["entry"]["size"] == 4
    assert (await kept.ask(one, "search", path="", name="b"))["entries"][0]["folder"] == "a"
    assert (await kept.ask(one, "preview", path="a/b", kind="text"))["text"] == "then"
    async with kept.files.receive(owner, "read", path="a/b") as received:
        await received.choose()
        assert b"".join([piece async for piece in received.pieces()]) == b"then"
    async with kept.files.receive(owner, "archive", paths=["a"]) as received:
        assert b"a/b" in b"".join([piece async for piece in received.pieces()])
    for verb, arguments in (
        ("delete", {"path": "a"}),
        ("move", {"from": "a/b", "to": "c"}),
        ("copy", {"from": "a/b", "to": "c"}),
        ("make-folder", {"path": "c"}),
        ("trash", {"path": "a", **SEEN_AT}),
        ("trash-empty", {}),
        ("empty", {"paths": ["a"]}),
        ("upload-begin", {"path": "c", "size": 1}),
    ):
        with pytest.raises(InvalidInput):
            await kept.ask(one, verb, **arguments)
    for path in ("../bert", "out/x", "up", "../../etc/passwd", "a/../.."):
        with pytest.raises(NotFound):
            await kept.ask(one, "list", path=path)
        with pytest.raises(NotFound):
            await kept.restore(one, f"{path}/x", to="stolen")
    for to in ("../stolen", "up/stolen", "out/stolen", "a/../../stolen"):
        with pytest.raises(NotFound):
            await kept.restore(one, "a/b", to=to)
    assert sorted(os.listdir(kept.root)) == sorted([FOLDER, "anna"])
    assert looks(kept.on_disk(one))["a/b"][2] == b"then"


async def test_h2_another_users_snapshots_and_names_that_are_none_have_no_worker(kept: Kept) -> None:
    kept.put("a", b"1")
    one = await kept.take()
    await kept.homes.prepare("bert", STRANGER, LIMIT)
    for owner in (
        Owner("bert", STRANGER, one.name),
        Owner("anna", STRANGER, one.name),
        Owner("bert", UID, one.name),
        *(
            Owner("anna", UID, name)
            for name in ("..", "../anna", f"../anna/{one.name}", f"{one.name}/", "20200101T000000Z")
        ),
    ):
        with pytest.raises(LaunchpadError) as refused:
            await kept.files.ask(owner, "list", path="")
        assert refused.type.code in ("not-found", "home-unavailable", "helper-refused"), owner
    assert (await kept.ask(one, "list", path=""))["total"] == 1, "the control"


async def test_a_snapshot_is_changed_by_nobody(btrfs: Kept) -> None:
    btrfs.put("a", b"1")
    one = await btrfs.take()
    for act in (
        lambda: (btrfs.on_disk(one) / "a").write_bytes(b"2"),
        lambda: (btrfs.on_disk(one) / "a").unlink(),
        lambda: (btrfs.on_disk(one) / "a").chmod(0o777),
    ):
        with pytest.raises(OSError, match="Read-only"):
            act()


async def test_a_folder_of_snapshots_that_others_may_enter_is_not_used(kept: Kept) -> None:
    kept.put("a", b"1")
    one = await kept.take()
    if isinstance(kept.snapshots, CopiedSnapshots):
        (kept.root / FOLDER).chmod(0o755)
        with pytest.raises(HomeUnavailable):
            await kept.ask(one, "list", path="")
        return
    (kept.root / FOLDER / "anna").chmod(0o750)
    for asking in (kept.snapshots.taken("anna"), kept.ask(one, "list", path="")):
        with pytest.raises(HomeUnavailable):
            await asking
    (kept.root / FOLDER / "anna").chmod(0o700)
    (kept.root / FOLDER / "bert").symlink_to("anna")
    with pytest.raises(LaunchpadError):
        await kept.files.ask(Owner("bert", UID, one.name), "list", path="")


# -- restoring ---------------------------------------------------------------------------------------------------------


async def test_what_is_restored_is_what_it_was_byte_for_byte_with_mode_and_times(kept: Kept) -> None:
    kept.put("work/data.csv", os.urandom(3 * MIB + 17), 0o640)
    kept.put("work/run.sh", b"#!/bin/sh\n", 0o755, 1_500_000_000_000_000_001)
    kept.put("work/deep/er/new\nline \u202e", b"odd", 0o400)
    (kept.home / "work/link").symlink_to("data.csv")
    os.chown(kept.home / "work/link", UID, UID, follow_symlinks=False)
    os.utime(kept.home / "work/deep", ns=(10**18, 10**18))
    then = looks(kept.home / "work")
    one = await kept.take()
    kept.put("work/data.csv", b"broken")
    (kept.home / "work/run.sh").unlink()
    kept.put("work/later", b"new")
    now = looks(kept.home / "work")
    told = await kept.restore(one, "work", to="work (2026-11-24 09.00)")
    assert told["entry"]["kind"] == "folder"
    assert looks(kept.home / "work (2026-11-24 09.00)") == then
    assert looks(kept.home / "work") == now, "what is there stays as it is"
    told = await kept.restore(one, "work", in_place=True)
    assert looks(kept.home / "work") == then
    assert told["trashed"] == "work"
    assert looks(kept.home / ".local/share/Trash/files/work") == now, "what stood there is in the Trash"
    assert "Path=/home/anna/work\n" in (kept.home / ".local/share/Trash/info/work.trashinfo").read_text()
    told = await kept.restore(one, "work/run.sh", to="work/run (2).sh")
    assert looks(kept.home / "work")["run (2).sh"] == then["run.sh"]
    for path in (kept.home / "work").rglob("*"):
        assert path.lstat().st_uid == UID
    assert kept.staged == []


async def test_what_is_gone_comes_back_with_its_folders_and_all_of_the_home_beside(kept: Kept) -> None:
    kept.put("a/b/c", b"deep")
    kept.put(".local/share/launchpad-uploads/0123.part", b"half")
    kept.put("b", b"2")
    one = await kept.take()
    run("rm", "-r", kept.home / "a")
    await kept.restore(one, "a/b/c", in_place=True)
    assert (kept.home / "a/b/c").read_bytes() == b"deep"
    assert kept.trash == [], "nothing stood there"
    await kept.restore(one, "", to="all of it")
    assert (kept.home / "all of it/b").read_bytes() == b"2"
    assert not (kept.home / "all of it/.local/share/launchpad-uploads").exists(), "nor what was half then"
    for path in ("", ".local", ".local/share/Trash/files"):
        with pytest.raises((Conflict, NotFound)):
            await kept.restore(one, path, in_place=True)
    with pytest.raises(Conflict):
        await kept.restore(one, "b", to="a")
    with pytest.raises(NotFound):
        await kept.restore(one, "never", to="x")
    assert not (kept.home / "x").exists()


async def test_what_cannot_be_read_replaces_nothing(kept: Kept) -> None:
    kept.put("work/closed", b"x", 0o000)
    kept.put("work/open", b"y")
    one = await kept.take()
    kept.put("work/open", b"z")
    with pytest.raises(Conflict, match="Not all of it"):
        await kept.restore(one, "work", in_place=True)
    assert (kept.home / "work/open").read_bytes() == b"z"
    assert (kept.trash, kept.staged) == ([], [])
    told = await kept.restore(one, "work", to="then")
    assert told["left_count"] == 1
    assert (kept.home / "then/open").read_bytes() == b"y"


async def test_a_restore_shares_what_it_can(btrfs: Kept) -> None:
    btrfs.put("large", os.urandom(40 * MIB))
    one = await btrfs.take()
    before = free(btrfs.root)
    for number in range(5):
        await btrfs.restore(one, "large", to=f"again {number}")
    assert before - free(btrfs.root) < 5 * MIB
    assert (btrfs.home / "again 4").read_bytes() == (btrfs.home / "large").read_bytes()


async def test_h5_in_a_full_home_a_restore_is_whole_or_not_there(btrfs: Kept) -> None:
    """The kernel counts shared blocks later, so that it would let a home grow beyond its limit."""
    for number in range(20):
        btrfs.put(f"work/{number}", os.urandom(2 * MIB))
    then = looks(btrfs.home / "work")
    one = await btrfs.take()
    for number in range(20):
        btrfs.put(f"work/{number}", os.urandom(2 * MIB))
    run("sync", "-f", btrfs.root)
    now = looks(btrfs.home / "work")
    used = (await btrfs.homes.use("anna")).used_bytes
    for arguments in ({"in_place": True}, {"to": "then"}):
        with pytest.raises(NoRoom):
            await asked_as_the_service_does(btrfs, one, "work", **arguments)
        assert looks(btrfs.home / "work") == now
        assert not (btrfs.home / "then").exists()
        assert (btrfs.trash, btrfs.staged) == ([], [])
    run("sync", "-f", btrfs.root)
    assert (await btrfs.homes.use("anna")).used_bytes == pytest.approx(used, abs=MIB)
    assert await btrfs.snapshots.take("anna", UID, Cause.BEFORE), "one can be taken of a full home"
    run("rm", "-r", btrfs.home / "work")
    await asked_as_the_service_does(btrfs, one, "work", in_place=True)
    assert looks(btrfs.home / "work") == then, "with room it is there"


async def asked_as_the_service_does(kept: Kept, one: Snapshot, path: str, **arguments: Any) -> None:
    async with kept.files.receive(Owner("anna", UID, one.name), "restore", path=path, **SEEN_AT, **arguments) as asked:
        use = await kept.homes.use("anna")
        assert use.used_bytes is not None
        assert use.limit_bytes is not None
        await asked.choose(go=use.used_bytes <= use.limit_bytes)
        await asked.last_word()


async def test_h5_no_room_amid_a_restore_leaves_nothing(tmp_path: Path) -> None:
    """On a disk that is full, where blocks cannot be shared."""
    root = tmp_path / "homes"
    root.mkdir()
    run("mount", "-t", "tmpfs", "-o", "size=12m", "tmpfs", root)
    try:
        clock = Clock()
        settings = tables({"homes": {"root": str(root)}})
        kept = Kept(
            root,
            settings,
            CopiedSnapshots(root, settings.snapshots, clock),
            PlainHomes(root),
            DirectFiles(root, settings.files),
            clock,
        )
        await kept.homes.prepare("anna", UID, None)
        kept.put("work/a", b"1" * MIB)
        kept.put("work/b", b"2" * 4 * MIB)
        one = await kept.take()
        for arguments in ({"in_place": True}, {"to": "then"}):
            with pytest.raises(NoRoom):
                await kept.restore(one, "work", **arguments)
        assert sorted(looks(kept.home / "work")) == [".", "a", "b"]
        assert (kept.trash, kept.staged) == ([], [])
        await kept.restore(one, "work/a", in_place=True)
        await kept.files.aclose()
    finally:
        run("umount", "--lazy", root)


async def test_h5_a_restore_that_is_killed_at_any_moment_leaves_nothing_half(btrfs: Kept) -> None:
    """What is in place is all of what was or all of what is to be; and what was is there or in the Trash."""
    for number in range(150):
        btrfs.put(f"work/{number % 7}/{number}", f"then {number}".encode())
    then = looks(btrfs.home / "work")
    one = await btrfs.take()
    for number in range(150):
        btrfs.put(f"work/{number % 7}/{number}", f"now {number}".encode())
    now = looks(btrfs.home / "work")
    outcomes = {"old": 0, "new": 0}
    chance = random.Random(7)
    for turn in range(10):
        with suppress(FilesUnavailable):
            asking = asyncio.create_task(btrfs.restore(one, "work", in_place=True))
            while not asking.done() and not (found := workers()):
                await asyncio.sleep(0.001)
            if turn % 5:  # else it comes to its end
                await asyncio.sleep(chance.uniform(0, 0.15))
                for pid in found:
                    with suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
            await asking
        there = looks(btrfs.home / "work")
        assert there in (then, now)
        outcomes["new" if there == then else "old"] += 1
        in_trash = [looks(btrfs.home / ".local/share/Trash/files" / name) for name in btrfs.trash]
        assert there == now or now in in_trash
        assert all(one in (then, now) for one in in_trash), "nor is anything half in the Trash"
        await btrfs.files.release(Owner("anna", UID, one.name))
        run("rm", "-rf", btrfs.home / "work", btrfs.home / ".local")
        run("cp", "-a", btrfs.on_disk(one) / "work", btrfs.home / "work")
        for number in range(150):
            btrfs.put(f"work/{number % 7}/{number}", f"now {number}".encode())
        now = looks(btrfs.home / "work")
    assert outcomes["new"] >= 2
    assert outcomes["old"] >= 1, "none was killed in time"


async def test_who_hangs_up_before_it_is_whole_gets_nothing(kept: Kept) -> None:
    kept.put("a", b"then")
    one = await kept.take()
    kept.put("a", b"now")
    async with kept.files.receive(Owner("anna", UID, one.name), "restore", path="a", in_place=True, **SEEN_AT):
        assert len(kept.staged) == 1
    for _ in range(600):
        if not kept.staged:
            break
        await asyncio.sleep(0.05)
    assert kept.staged == []
    assert (kept.home / "a").read_bytes() == b"now"
    with pytest.raises(NoRoom):
        await kept.restore(one, "a", go=False, in_place=True)
    assert (kept.home / "a").read_bytes() == b"now"
