"""What `storage/base.py` promises, held against every way of keeping homes."""

from __future__ import annotations

import asyncio
import errno
import os
import secrets
import shutil
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from pathlib import Path
from time import monotonic

import pytest
import structlog
import uvloop

from launchpad.domain.instances import home_is_full
from launchpad.errors import HomeUnavailable, SettingsError
from launchpad.helper_client import HelperClient
from launchpad.runtime.fake import FakeRuntime
from launchpad.settings import HomesSettings, Settings
from launchpad.storage import directories
from launchpad.storage.base import Homes, HomeUse
from launchpad.storage.btrfs import BtrfsHomes
from launchpad.storage.btrfs_command import find_command
from launchpad.storage.choose import choose_driver
from launchpad.storage.helper import HelperHomes
from launchpad.storage.plain import PlainHomes
from launchpad.storage.projectquota import ProjectQuotaHomes
from launchpad.storage.walking import Walked, count
from support.btrfs import btrfs_in_a_file, run, turn_quotas_on
from support.helper import guard_of, helper_thread

UID, STRANGER = 200_123, 200_124
MIB = 1024**2
LIMIT = 64 * MIB


@pytest.fixture(scope="module")
def btrfs_disk() -> Iterator[Path]:
    with btrfs_in_a_file(400) as place:
        yield place


@pytest.fixture
def btrfs_root(btrfs_disk: Path) -> Path:
    """A folder for each test, with room beside it for what must not be touched."""
    folder = btrfs_disk / secrets.token_hex(4) / "homes"
    folder.mkdir(parents=True)
    return folder


@pytest.fixture
def plain_root(tmp_path: Path) -> Path:
    folder = tmp_path / "homes"
    folder.mkdir()
    return folder


# A folder on a file system with project quotas; the whole machine of tests/system has one.
PROJECT_ROOT = os.environ.get("LAUNCHPAD_TEST_PROJECT_QUOTA_ROOT", "")


@pytest.fixture
def project_root() -> Iterator[Path]:
    """What a test leaves would count for the next one, which has the same projects."""
    folder = Path(PROJECT_ROOT) / secrets.token_hex(4) / "homes"
    folder.mkdir(parents=True)
    yield folder
    shutil.rmtree(folder.parent)


@pytest.fixture(params=["plain", "btrfs", "helper", *(["project-quota"] if PROJECT_ROOT else [])])
async def homes(request: pytest.FixtureRequest) -> AsyncIterator[Homes]:
    """Every implementation in turn."""
    if request.param == "plain":
        yield PlainHomes(request.getfixturevalue("plain_root"))
    elif request.param == "btrfs":
        yield BtrfsHomes(request.getfixturevalue("btrfs_root"))
    elif request.param == "project-quota":
        yield ProjectQuotaHomes(request.getfixturevalue("project_root"))
    else:
        root: Path = request.getfixturevalue("plain_root")
        runtime = FakeRuntime("none")
        with helper_thread(root.parent, runtime, guard_of(Settings(), runtime, PlainHomes(root))) as path:
            line = HelperClient(path)
            yield HelperHomes(line, root)
            await line.aclose()


@pytest.fixture
def root(homes: PlainHomes | BtrfsHomes | HelperHomes) -> Path:
    return homes.root


def another(homes: Homes) -> Homes:
    """A driver of its own on the same root; of the helper there is only one."""
    return type(homes)(homes.root) if isinstance(homes, PlainHomes | BtrfsHomes) else homes


async def test_a_home_is_made_for_its_user_alone(homes: Homes, root: Path) -> None:
    assert not await homes.exists("anna")
    path = await homes.prepare("anna", UID, LIMIT)
    assert path == homes.path_of("anna") == root / "anna"
    state = path.stat()
    assert (state.st_uid, state.st_gid, state.st_mode & 0o777) == (UID, UID, 0o700)
    assert await homes.exists("anna")
    assert [entry.name for entry in root.iterdir()] == ["anna"], "nothing half made is left"


async def test_whoever_owns_something_beside_the_homes_is_known(homes: Homes, root: Path) -> None:
    """Directories, files and links alike, and nothing that lies in them or behind them."""
    await homes.prepare("anna", UID, LIMIT)
    os.chown(root, 0, 0)
    assert await homes.owners() == {UID}
    (root / "file").write_text("x")
    (root / "link").symlink_to("/etc")
    os.chown(root / "file", STRANGER, STRANGER)
    os.lchown(root / "link", STRANGER + 1, STRANGER + 1)
    (root / "anna" / "inner").write_text("x")
    assert await homes.owners() == {UID, STRANGER, STRANGER + 1}
    for name in ("file", "link"):
        (root / name).unlink()
    shutil.rmtree(root)
    assert await homes.owners() == set()


async def test_an_existing_home_is_kept_as_it_is(homes: Homes) -> None:
    """Its content, the owners in it and its mode are the user's business."""
    path = await homes.prepare("anna", UID, LIMIT)
    (path / "kept").write_text("mine")
    path.chmod(0o750)
    await homes.prepare("anna", UID, LIMIT)
    assert (path / "kept").read_text() == "mine"
    assert (path / "kept").stat().st_uid == 0
    assert path.stat().st_mode & 0o777 == 0o750


async def test_many_at_once_make_one_home(homes: Homes, root: Path) -> None:
    paths = await asyncio.gather(*(homes.prepare("anna", UID, LIMIT) for _ in range(20)))
    assert set(paths) == {root / "anna"}
    assert [entry.name for entry in root.iterdir()] == ["anna"]


@pytest.mark.parametrize(
    "kind", ["link to a directory", "link to the user's own directory", "link to nothing", "file", "somebody else's"]
)
async def test_c5_what_is_not_the_users_home_is_refused_and_untouched(homes: Homes, root: Path, kind: str) -> None:
    """Nothing outside changes owner; the launch is refused."""
    outside = root.parent / "outside"
    outside.mkdir()
    (outside / "secret").write_text("s")
    place = root / "anna"
    if kind == "link to a directory":
        place.symlink_to(outside)
    elif kind == "link to the user's own directory":  # the right owner, and still not to be followed
        os.chown(outside, UID, UID)
        place.symlink_to(outside)
    elif kind == "link to nothing":
        place.symlink_to(root.parent / "nowhere")
    elif kind == "file":
        place.write_text("a file")
    else:
        place.mkdir()
        os.chown(place, STRANGER, STRANGER)
    before = (place.lstat(), outside.stat(), (outside / "secret").stat())
    assert await homes.exists("anna"), "the name is taken"
    with pytest.raises(HomeUnavailable):
        await homes.prepare("anna", UID, LIMIT)
    after = (place.lstat(), outside.stat(), (outside / "secret").stat())
    assert [(one.st_uid, one.st_mode, one.st_mtime) for one in before] == [
        (one.st_uid, one.st_mode, one.st_mtime) for one in after
    ]
    assert sorted(entry.name for entry in root.iterdir()) == ["anna"]


async def test_a_home_with_links_in_it_is_not_walked(homes: Homes, root: Path) -> None:
    path = await homes.prepare("anna", UID, LIMIT)
    (path / "passwd").symlink_to("/etc/passwd")
    owner = Path("/etc/passwd").stat().st_uid
    await homes.prepare("anna", UID, LIMIT)
    assert Path("/etc/passwd").stat().st_uid == owner


@pytest.mark.parametrize("name", ["", ".", "..", "../up", "a/b", "Anna", "-x", "anna\n", "ann\0a", "x" * 40])
async def test_names_that_are_no_usernames_are_refused(homes: Homes, root: Path, name: str) -> None:
    with pytest.raises(HomeUnavailable):
        await homes.prepare(name, UID, LIMIT)
    assert list(root.iterdir()) == []


async def test_a_missing_root_is_told_with_its_name(homes: Homes, root: Path) -> None:
    root.rmdir()
    for work in (homes.prepare("anna", UID, LIMIT), homes.check()):
        with pytest.raises(HomeUnavailable, match="does not exist"):
            await work


async def test_a_root_that_is_a_file_is_told(homes: Homes, root: Path) -> None:
    root.rmdir()
    root.write_text("")
    for work in (homes.prepare("anna", UID, LIMIT), homes.check()):
        with pytest.raises(HomeUnavailable, match="not a directory"):
            await work


async def test_check_leaves_nothing(homes: Homes, root: Path) -> None:
    await homes.check()
    assert list(root.iterdir()) == []


async def test_the_use_of_a_home_that_is_not_there_is_not_known(homes: Homes) -> None:
    assert await homes.use("anna") == HomeUse(used_bytes=None, limit_bytes=None, free_bytes=None)


async def test_every_storage_tells_what_the_disk_has_left(homes: Homes, root: Path) -> None:
    """Also one that neither counts nor limits: it is how a full home can be told there."""
    await homes.prepare("anna", UID, LIMIT)
    free_bytes = (await homes.use("anna")).free_bytes
    disk = os.statvfs(root)
    assert free_bytes is not None
    assert 0 < free_bytes <= disk.f_blocks * disk.f_frsize
    assert abs(free_bytes - disk.f_bavail * disk.f_frsize) < disk.f_blocks * disk.f_frsize / 2


async def test_a_link_in_a_homes_place_tells_nothing_of_where_it_leads(homes: Homes, root: Path) -> None:
    (root / "anna").symlink_to("/")
    for work in (homes.use("anna"), homes.measure("anna")):
        with pytest.raises(HomeUnavailable):
            await work


async def test_every_storage_can_tell_what_a_home_takes_up(homes: Homes) -> None:
    """Counted by the file system, or by a walk; of a home that is not there, nothing."""
    assert await homes.measure("anna") == HomeUse(used_bytes=None, limit_bytes=None, free_bytes=None)
    home = await homes.prepare("anna", UID, LIMIT)
    assert write_as_root(home / "some", 12)
    use = await homes.measure("anna")
    assert use.used_bytes is not None
    assert 12 * MIB <= use.used_bytes < 13 * MIB
    assert not use.is_floor
    assert use.limit_bytes == (LIMIT if homes.enforces_limits else None)
    assert use.free_bytes is not None


async def test_every_storage_knows_its_disk(homes: Homes, root: Path) -> None:
    there = os.statvfs(root)
    disk = await homes.disk()
    assert 0 < disk.free_bytes < disk.bytes <= there.f_blocks * there.f_frsize
    assert disk.used_bytes + disk.free_bytes == disk.bytes
    root.rmdir()
    with pytest.raises(HomeUnavailable, match="does not exist"):
        await homes.disk()


async def test_many_homes_at_once_are_each_their_users(homes: Homes, root: Path) -> None:
    names = {f"user-{number}": UID + number for number in range(20)}
    await asyncio.gather(*(homes.prepare(name, uid, LIMIT) for name, uid in names.items()))
    assert {entry.name: entry.stat().st_uid for entry in root.iterdir()} == names


async def test_several_processes_make_one_home(homes: PlainHomes | BtrfsHomes, root: Path) -> None:
    """Each has its own driver, so no lock within one helps."""
    others = [another(homes) for _ in range(5)]
    await asyncio.gather(*(each.prepare("anna", UID, LIMIT) for each in others for _ in range(4)))
    assert [entry.name for entry in root.iterdir()] == ["anna"]
    assert (root / "anna").stat().st_uid == UID


async def test_who_waits_may_be_cancelled_and_the_home_is_whole(homes: Homes, root: Path) -> None:
    waiting = asyncio.create_task(homes.prepare("anna", UID, LIMIT))
    await asyncio.sleep(0)
    waiting.cancel()
    with suppress(asyncio.CancelledError):
        await waiting
    await homes.prepare("anna", UID, LIMIT)
    for _ in range(100):
        if [entry.name for entry in root.iterdir()] == ["anna"]:
            break
        await asyncio.sleep(0.02)
    assert [(entry.name, entry.stat().st_uid) for entry in root.iterdir()] == [("anna", UID)]


async def test_nothing_half_made_stays_when_a_step_fails(
    homes: Homes, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The owner cannot be changed, as on a file system without owners."""

    def refused(home: int, uid: int) -> None:
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    with monkeypatch.context() as patched:
        patched.setattr(directories, "give_to", refused)
        with pytest.raises(HomeUnavailable, match="is not writable"):
            await homes.prepare("anna", UID, LIMIT)
    assert list(root.iterdir()) == []
    await homes.prepare("anna", UID, LIMIT)


@pytest.mark.parametrize("refused", [None, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP])
async def test_nothing_is_replaced_even_where_the_file_system_knows_plain_renames_only(
    homes: PlainHomes | BtrfsHomes, root: Path, monkeypatch: pytest.MonkeyPatch, refused: int | None
) -> None:
    """As NFS: a plain rename would replace an empty directory. None: the file system as it is."""
    if refused is not None:
        monkeypatch.setattr(directories, "_rename_without_replacing", lambda root, source, target: refused)
    others = [another(homes) for _ in range(20)]  # more than there are threads to wait in
    async with asyncio.timeout(60):
        await asyncio.gather(*(each.prepare("anna", UID, LIMIT) for each in others))
    made = (root / "anna").stat()
    await homes.prepare("anna", UID, LIMIT)
    assert [entry.name for entry in root.iterdir()] == ["anna"]
    assert (root / "anna").stat().st_ino == made.st_ino

    descriptor = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    try:
        (root / "beside").mkdir()
        assert not directories.move_if_free(descriptor, "beside", "anna")
        assert (root / "anna").stat().st_uid == UID
        assert (root / "beside").is_dir()
    finally:
        os.close(descriptor)


async def test_an_unwritable_root_is_told(btrfs_disk: Path, btrfs_root: Path) -> None:
    """To root, only the file system can refuse; the flag makes it do so."""
    run("chattr", "+i", btrfs_root)
    try:
        for homes in (PlainHomes(btrfs_root), BtrfsHomes(btrfs_root)):
            for work in (homes.prepare("anna", UID, LIMIT), homes.check()):
                with pytest.raises(HomeUnavailable, match="is not writable"):
                    await work
    finally:
        run("chattr", "-i", btrfs_root)
    assert list(btrfs_root.iterdir()) == []


# -- walks, where nobody counts ----------------------------------------------------------------------------------------


@pytest.fixture
async def walked(plain_root: Path) -> tuple[Homes, Path]:
    homes = PlainHomes(plain_root)
    return homes, await homes.prepare("anna", UID, LIMIT)


async def used(homes: Homes) -> tuple[int, bool]:
    use = await homes.measure("anna")
    assert use.used_bytes is not None
    return use.used_bytes, use.is_floor


async def test_h1_a_walk_leads_nowhere_else(walked: tuple[Homes, Path], plain_root: Path) -> None:
    """Links, names that are no text, files of several names, a file that is all hole; of no other file system."""
    homes, home = walked
    outside = plain_root.parent / "outside"
    outside.mkdir()
    assert write_as_root(outside / "big", 20)
    os.chown(outside, UID, UID)
    (home / "link").symlink_to(outside)
    (home / "loop").symlink_to(".")
    (home / "up").symlink_to("../..")
    (home / "absolute").symlink_to("/")
    os.mkfifo(home / "fifo")
    with (home / "hole").open("wb") as file:
        file.truncate(2**40)
    (home / "real").mkdir()
    assert write_as_root(home / "real" / "some", 4)
    for number in range(50):
        os.link(home / "real" / "some", home / "real" / f"again{number}")
    Path(os.fsdecode(os.fsencode(home) + b"/\xff\xfe\n\xe2\x80\xae")).mkdir()
    mounted = home / "mounted"
    mounted.mkdir()
    run("mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", mounted)
    try:
        assert write_as_root(mounted / "not ours", 8)
        own, os_hardlinks = home / "real", list((home / "real").iterdir())
        assert len(os_hardlinks) == 51
        for path in (own, *home.iterdir()):
            os.lchown(path, UID, UID)
        bytes_used, is_floor = await used(homes)
    finally:
        run("umount", "--lazy", mounted)
    assert 4 * MIB <= bytes_used < 5 * MIB
    assert not is_floor


async def test_h1_a_walk_sees_what_its_user_may_see_and_says_that_there_is_more(walked: tuple[Homes, Path]) -> None:
    """It has no right of root's: what the user has closed, or another one has, stays closed."""
    homes, home = walked
    open_, closed, foreign = home / "open", home / "closed", home / "foreign"
    for folder, uid, mode in ((open_, UID, 0o700), (closed, UID, 0), (foreign, STRANGER, 0o700)):
        folder.mkdir()
        assert write_as_root(folder / "some", 4)
        folder.chmod(mode)
        os.chown(folder, uid, uid)
    bytes_used, is_floor = await used(homes)
    assert 4 * MIB <= bytes_used < 5 * MIB
    assert is_floor
    closed.chmod(0o700)
    os.chown(foreign, UID, UID)
    bytes_used, is_floor = await used(homes)
    assert 12 * MIB <= bytes_used < 13 * MIB
    assert not is_floor


async def test_h1_a_walk_is_as_the_user_shut_in_and_last_of_all(walked: tuple[Homes, Path], tmp_path: Path) -> None:
    """As the kernel says of the process while it walks: whose it is, what it may, where its root is, how nice it is."""
    homes, home = walked
    wide = home / "wide"
    wide.mkdir()
    for number in range(30_000):
        (wide / str(number)).mkdir()
    run("chown", "-R", f"{UID}:{UID}", wide)
    walking = asyncio.create_task(homes.measure("anna"))
    seen: dict[str, str] = {}
    while not walking.done() and not seen:
        await asyncio.sleep(0.002)
        seen = await asyncio.to_thread(walker, UID)
    await walking
    assert seen["root"] == str(home)
    assert seen["CapEff"] == seen["CapPrm"] == seen["CapInh"] == seen["CapAmb"] == "0" * 16
    assert seen["NoNewPrivs"] == "1"
    assert seen["Uid"].split() == seen["Gid"].split() == [str(UID)] * 4
    assert seen["Groups"] == ""
    assert seen["nice"] == "19"
    assert "idle" in seen["disk"]


def walker(uid: int) -> dict[str, str]:
    """What the kernel says of a process of this user; nothing while there is none."""
    for place in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if place.stat().st_uid != uid and f"Uid:\t{uid}\t" not in (place / "status").read_text():
                continue
            status = dict(line.split(":", 1) for line in (place / "status").read_text().splitlines())
            if status["NoNewPrivs"].strip() != "1" or int(status["PPid"]) != os.getpid():
                continue  # not yet, or of another process of tests
            found = {name: text.strip() for name, text in status.items()}
            nice = (place / "stat").read_text().rpartition(")")[2].split()[16]
            disk = run("ionice", "-p", place.name)
            return found | {"root": os.readlink(place / "root"), "nice": nice, "disk": disk}
    return {}


async def test_a_walk_goes_deep(walked: tuple[Homes, Path]) -> None:
    """Deeper than a path may be long, and than a process may usually have files open."""
    homes, home = walked
    script = f"""
import os
for _ in range(2000):
    os.mkdir("d" * 20, 0o700)
    os.chdir("d" * 20)
with open("last", "wb") as file:
    file.write(os.urandom({4 * MIB}))
"""
    as_user = {"user": UID, "group": UID, "extra_groups": []}
    subprocess.run(["python3", "-c", script], check=True, cwd=home, **as_user)  # type: ignore[call-overload]
    bytes_used, is_floor = await used(homes)
    run("rm", "-rf", home / ("d" * 20))
    assert bytes_used >= 4 * MIB
    assert not is_floor


async def test_a_walk_of_a_hundred_thousand_files_ends_and_a_bound_makes_it_a_floor(
    walked: tuple[Homes, Path],
) -> None:
    home = walked[1]
    script = "import os\nfor number in range(100_000): os.close(os.open(str(number), os.O_CREAT))"
    as_user = {"user": UID, "group": UID, "extra_groups": []}
    subprocess.run(["python3", "-c", script], check=True, cwd=home, **as_user)  # type: ignore[call-overload]
    opened = os.open(home, directories.DIRECTORY)
    try:
        whole = await count(opened)
        assert (whole.whole, whole.entries) == (True, 100_000)
        fewer = await count(opened, most=1000)
        assert (fewer.whole, fewer.entries) == (False, 1000)
        late = await count(opened, seconds=0)
        assert not late.whole
        assert late.entries < 100_000
    finally:
        os.close(opened)


async def test_h1_what_vanishes_or_is_swapped_during_a_walk_does_no_harm(walked: tuple[Homes, Path]) -> None:
    """Folders that become links to somewhere large, and back, all the time: never counted, and the walk ends."""
    homes, home = walked
    outside = home.parent.parent / "large"
    outside.mkdir()
    assert write_as_root(outside / "big", 64)
    script = f"""
import os, shutil
while True:
    for number in range(200):
        os.makedirs(f"in/{{number}}/x/y", exist_ok=True)
        open(f"in/{{number}}/x/f", "w").close()
    for number in range(200):
        os.rename(f"in/{{number}}", f"moved")
        os.symlink({str(outside)!r}, f"in/{{number}}")
        shutil.rmtree("moved")
    for number in range(200):
        os.unlink(f"in/{{number}}")
"""
    as_user = {"user": UID, "group": UID, "extra_groups": []}
    swapping = subprocess.Popen(["python3", "-c", script], cwd=home, **as_user)  # type: ignore[call-overload]
    try:
        for _ in range(15):
            bytes_used, _ = await used(homes)
            assert bytes_used < 32 * MIB
        assert swapping.poll() is None, "it was at it all the time"
    finally:
        swapping.kill()
        swapping.wait()


async def test_h1_homes_that_are_roots_are_not_walked(walked: tuple[Homes, Path]) -> None:
    homes, home = walked
    os.chown(home, 0, 0)
    with pytest.raises(HomeUnavailable, match="somebody else"):
        await homes.measure("anna")


async def test_there_is_one_walk_at_a_time(walked: tuple[Homes, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    homes, _ = walked
    under_way = most = 0

    async def counting(home: int) -> Walked:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        await asyncio.sleep(0)
        under_way -= 1
        return Walked(1, 1, whole=True)

    monkeypatch.setattr("launchpad.storage.walking.count", counting)
    await asyncio.gather(*(homes.measure("anna") for _ in range(10)))
    assert most == 1


def write_as_root(place: Path, size_mib: int) -> bool:
    """What somebody else has put there."""
    place.write_bytes(os.urandom(size_mib * MIB))
    os.sync()
    return True


# -- disks that are full or read-only ----------------------------------------------------------------------------------

SMALLEST_BTRFS_MIB = 32  # with data and metadata mixed, so that both run out together


@pytest.fixture(params=["plain", "btrfs"])
def on_small_disk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[PlainHomes | BtrfsHomes]:
    """A file system of its own, to be filled or made read-only."""
    if request.param == "btrfs":
        with btrfs_in_a_file(SMALLEST_BTRFS_MIB, "--mixed") as place:
            yield BtrfsHomes(place)
        return
    place = tmp_path / "disk"
    place.mkdir()
    run("mount", "-t", "tmpfs", "-o", "size=1m,nr_inodes=16", "tmpfs", place)
    try:
        yield PlainHomes(place)
    finally:
        run("umount", "--lazy", place)


def fill(disk: Path) -> None:
    """With files as large as fit, until not even a directory can be made."""
    for number in range(1000):
        with suppress(OSError), (disk / f"filler{number}").open("wb", buffering=0) as file:
            for size in (MIB, 4096, 1):
                with suppress(OSError):
                    while True:
                        file.write(os.urandom(size))
                        os.fsync(file.fileno())
        try:
            (disk / "try").mkdir()
        except OSError:
            return
        (disk / "try").rmdir()
    raise AssertionError("the disk does not get full")


async def test_a_full_disk_is_told(on_small_disk: PlainHomes | BtrfsHomes) -> None:
    """A home that is there can be used: its owner may want to remove something. Another one cannot be made."""
    homes = on_small_disk
    await homes.prepare("anna", UID, LIMIT)
    os.sync()
    fill(homes.root)
    before = sorted(entry.name for entry in homes.root.iterdir())
    with pytest.raises(HomeUnavailable, match="full disk"):
        await homes.prepare("berta", STRANGER, LIMIT)
    with pytest.raises(HomeUnavailable, match="full disk"):
        await homes.check()
    assert sorted(entry.name for entry in homes.root.iterdir()) == before
    assert await homes.prepare("anna", UID, LIMIT) == homes.root / "anna"
    assert home_is_full(None, None, (await homes.use("anna")).free_bytes), "its owner is told"


async def test_a_read_only_root_is_told(on_small_disk: PlainHomes | BtrfsHomes) -> None:
    homes = on_small_disk
    run("mount", "-o", "remount,ro", homes.root)
    for work in (homes.prepare("anna", UID, LIMIT), homes.check()):
        with pytest.raises(HomeUnavailable, match="read-only"):
            await work


# -- limits that are enforced ------------------------------------------------------------------------------------------


def write(place: Path, size_mib: int, uid: int = UID) -> bool:
    """Writes a file as the user would; False where the quota ends it."""
    done = subprocess.run(
        ["dd", "if=/dev/zero", f"of={place}", "bs=1M", f"count={size_mib}", "conv=fsync"],
        user=uid,
        group=uid,
        extra_groups=[],
        cwd="/",
        env={"LC_ALL": "C", "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0 or "Disk quota exceeded" in done.stderr, done.stderr
    return done.returncode == 0


@pytest.fixture(params=["btrfs", *(["project-quota"] if PROJECT_ROOT else [])])
def limited(request: pytest.FixtureRequest) -> BtrfsHomes | ProjectQuotaHomes:
    """Every implementation that the kernel helps to enforce."""
    if request.param == "btrfs":
        return BtrfsHomes(request.getfixturevalue("btrfs_root"))
    return ProjectQuotaHomes(request.getfixturevalue("project_root"))


async def test_f4_a_home_that_is_full_ends_its_owners_writing_and_nobody_elses(
    limited: BtrfsHomes | ProjectQuotaHomes,
) -> None:
    homes = limited
    assert homes.enforces_limits
    anna, berta = await homes.prepare("anna", UID, 16 * MIB), await homes.prepare("berta", STRANGER, 16 * MIB)
    assert write(anna / "some", 4)
    assert not write(anna / "more", 40)
    assert (anna / "more").stat().st_size < 16 * MIB
    assert write(berta / "some", 10, STRANGER)
    assert not write(anna / "again", 4), "and it stays full"
    assert await homes.prepare("anna", UID, 16 * MIB) == anna, "the owner may launch, to tidy up"
    for name in ("more", "again"):
        subprocess.run(["rm", "-f", anna / name], user=UID, group=UID, extra_groups=[], cwd="/", check=True)
    os.sync()
    assert write(anna / "less", 4), "what was removed gives room again"


async def test_a_limit_can_be_raised_lowered_and_lifted(limited: BtrfsHomes | ProjectQuotaHomes) -> None:
    homes = limited
    home = await homes.prepare("anna", UID, 8 * MIB)
    assert not write(home / "big", 20)
    await homes.prepare("anna", UID, 40 * MIB)
    assert write(home / "big", 20)
    assert (await homes.use("anna")).limit_bytes == 40 * MIB
    await homes.prepare("anna", UID, 8 * MIB)
    assert (home / "big").stat().st_size == 20 * MIB, "what is there stays"
    assert not write(home / "more", 1)
    await homes.prepare("anna", UID, None)
    assert (await homes.use("anna")).limit_bytes is None
    assert write(home / "more", 30)


async def test_use_is_what_the_file_system_counts(limited: BtrfsHomes | ProjectQuotaHomes) -> None:
    homes = limited
    home = await homes.prepare("anna", UID, LIMIT)
    assert write(home / "some", 12)
    os.sync()
    use = await homes.use("anna")
    assert use.limit_bytes == LIMIT
    assert use.used_bytes is not None
    assert 12 * MIB <= use.used_bytes < 13 * MIB


if PROJECT_ROOT:

    async def test_files_from_before_a_project_quota_are_not_counted_and_it_is_said(project_root: Path) -> None:
        home = await PlainHomes(project_root).prepare("anna", UID, None)
        assert write(home / "before", 12)
        homes = ProjectQuotaHomes(project_root)
        for expected in (["home.partly_counted"], []):
            with structlog.testing.capture_logs() as logged:
                await homes.prepare("anna", UID, 8 * MIB)
            assert [entry["event"] for entry in logged] == expected
        assert write(home / "after", 4)
        assert not write(home / "more", 8)


async def test_a_home_made_before_there_were_limits_is_used_without_one(btrfs_root: Path) -> None:
    """Nobody is locked out of their files by a change of driver; it is logged, and shown as no limit."""
    home = await PlainHomes(btrfs_root).prepare("anna", UID, LIMIT)
    (home / "kept").write_text("mine")
    homes = BtrfsHomes(btrfs_root)
    with structlog.testing.capture_logs() as logged:
        await homes.prepare("anna", UID, LIMIT)
    assert [entry["event"] for entry in logged] == ["home.without_limit"]
    use = await homes.use("anna")
    assert (use.used_bytes, use.limit_bytes) == (None, None)
    assert (home / "kept").read_text() == "mine"


async def test_a_subvolume_that_a_user_made_in_the_home_is_reported(btrfs_root: Path) -> None:
    """It counts apart. What stops it is the container; what tells of it is the log."""
    homes = BtrfsHomes(btrfs_root)
    home = await homes.prepare("anna", UID, LIMIT)
    with structlog.testing.capture_logs() as logged:
        await homes.prepare("anna", UID, LIMIT)
    assert logged == []
    run("btrfs", "subvolume", "create", home / "beyond")
    with structlog.testing.capture_logs() as logged:
        await homes.prepare("anna", UID, LIMIT)
    assert [(entry["event"], entry["log_level"]) for entry in logged] == [("home.beyond_limit", "error")]


async def test_one_process_leaves_no_quota_groups_of_lost_races(btrfs_root: Path) -> None:
    before = run("btrfs", "qgroup", "show", btrfs_root).splitlines()
    homes = BtrfsHomes(btrfs_root)
    await asyncio.gather(*(homes.prepare("anna", UID, LIMIT) for _ in range(20)))
    assert len(run("btrfs", "qgroup", "show", btrfs_root).splitlines()) == len(before) + 1


def command(folder: Path, script: str) -> str:
    """A program in the place of btrfs."""
    path = folder / "btrfs-stand-in"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return str(path)


async def test_a_limit_that_cannot_be_set_leaves_no_home_without_one(btrfs_root: Path, tmp_path: Path) -> None:
    fails = command(tmp_path, f'[ "$1" = qgroup ] && echo secret words >&2 && exit 1; exec {find_command()} "$@"')
    with pytest.raises(HomeUnavailable, match="cannot be used") as refused:
        await BtrfsHomes(btrfs_root, fails).prepare("anna", UID, LIMIT)
    assert "secret" not in refused.value.detail
    assert list(btrfs_root.iterdir()) == []


async def test_a_command_that_hangs_is_ended_in_time(btrfs_root: Path, tmp_path: Path) -> None:
    homes = BtrfsHomes(btrfs_root, command(tmp_path, "exec sleep 60"), command_seconds=0.3)
    began = monotonic()
    with pytest.raises(HomeUnavailable, match="in time"):
        await homes.prepare("anna", UID, LIMIT)
    assert monotonic() - began < 5
    assert list(btrfs_root.iterdir()) == []


async def test_a_missing_command_is_told(btrfs_root: Path, tmp_path: Path) -> None:
    homes = BtrfsHomes(btrfs_root, str(tmp_path / "none"))
    for work in (homes.prepare("anna", UID, LIMIT), homes.check()):
        with pytest.raises(HomeUnavailable, match="program btrfs"):
            await work
    assert list(btrfs_root.iterdir()) == []


async def test_limits_that_went_off_are_told_and_no_home_is_made_without_them(btrfs_root: Path) -> None:
    with btrfs_in_a_file(SMALLEST_BTRFS_MIB, "--mixed") as place:
        homes = BtrfsHomes(place)
        await homes.check()
        await homes.prepare("anna", UID, LIMIT)
        run("btrfs", "quota", "disable", place)
        for work in (
            homes.prepare("anna", UID, LIMIT),
            homes.prepare("berta", STRANGER, LIMIT),
            homes.use("anna"),
            homes.check(),
        ):
            with pytest.raises(HomeUnavailable, match="quotas turned off"):
                await work
        assert [entry.name for entry in place.iterdir()] == ["anna"]


async def test_counts_that_do_not_add_up_are_logged_and_stop_nothing() -> None:
    """They do not for a while after quotas were turned on."""
    with btrfs_in_a_file(SMALLEST_BTRFS_MIB, "--mixed") as place:
        homes = BtrfsHomes(place)
        with structlog.testing.capture_logs() as logged:
            await homes.check()
        assert logged == []
        home = await homes.prepare("anna", UID, LIMIT)
        assert write(home / "some", 1)
        run("btrfs", "subvolume", "snapshot", home, place / "snapshot")  # what two share cannot be counted in passing
        os.sync()
        run("btrfs", "qgroup", "create", "1/1", place)
        identity = run("btrfs", "inspect-internal", "rootid", home).strip()
        subprocess.run(["btrfs", "qgroup", "assign", "--no-rescan", f"0/{identity}", "1/1", place], check=False)
        with structlog.testing.capture_logs() as logged:
            await homes.check()
        assert [entry["event"] for entry in logged] == ["homes.miscounted"]


async def test_it_is_no_driver_for_another_file_system(plain_root: Path) -> None:
    homes = BtrfsHomes(plain_root)
    for work in (homes.prepare("anna", UID, LIMIT), homes.check()):
        with pytest.raises(HomeUnavailable, match="not on a btrfs file system"):
            await work
    assert list(plain_root.iterdir()) == []


def test_it_works_on_the_loop_that_the_portal_runs_on(btrfs_root: Path) -> None:
    """uvloop starts programs in a way of its own."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        homes = BtrfsHomes(btrfs_root)
        home = runner.run(homes.prepare("anna", UID, LIMIT))
        assert home.stat().st_uid == UID
        assert runner.run(homes.use("anna")).limit_bytes == LIMIT


if PROJECT_ROOT:

    async def test_a_home_given_to_another_project_does_not_show_that_ones_use(project_root: Path) -> None:
        """Its owner may do so; somebody else's numbers are not theirs to see."""
        homes = ProjectQuotaHomes(project_root)
        berta = await homes.prepare("berta", STRANGER, LIMIT)
        assert write(berta / "some", 4, STRANGER)
        home = await homes.prepare("anna", UID, LIMIT)
        run("chattr", "-p", str(STRANGER), home)
        use = await homes.use("anna")
        assert (use.used_bytes, use.limit_bytes) == (None, None)
        await homes.prepare("anna", UID, LIMIT)
        assert (await homes.use("anna")).limit_bytes == LIMIT


# -- the choice --------------------------------------------------------------------------------------------------------


def chosen(root: Path, driver: str) -> Homes:
    return choose_driver(HomesSettings.model_validate({"root": root, "driver": driver}))


def test_auto_enforces_limits_where_it_can(btrfs_root: Path, plain_root: Path) -> None:
    assert isinstance(chosen(btrfs_root, "auto"), BtrfsHomes)
    assert isinstance(chosen(btrfs_root / "made" / "later", "auto"), BtrfsHomes)
    assert isinstance(chosen(btrfs_root, "plain"), PlainHomes)
    assert isinstance(chosen(plain_root, "auto"), PlainHomes)
    with btrfs_in_a_file(SMALLEST_BTRFS_MIB, "--mixed", quotas=False) as place:
        assert isinstance(chosen(place, "auto"), PlainHomes)


def test_btrfs_that_cannot_work_stops_the_start_with_the_reason(btrfs_root: Path, plain_root: Path) -> None:
    """Rather than a limit that is silently not enforced."""
    assert isinstance(chosen(btrfs_root, "btrfs"), BtrfsHomes)
    with pytest.raises(SettingsError, match=r"homes\.driver: .*not on a btrfs file system"):
        chosen(plain_root, "btrfs")
    with btrfs_in_a_file(SMALLEST_BTRFS_MIB, "--mixed", quotas=False) as place:
        with pytest.raises(SettingsError, match="btrfs quota enable"):
            chosen(place, "btrfs")
        turn_quotas_on(place)
        assert isinstance(chosen(place, "btrfs"), BtrfsHomes)


def test_btrfs_without_its_program_stops_the_start(btrfs_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("launchpad.storage.btrfs.find_command", lambda: None)
    assert isinstance(chosen(btrfs_root, "auto"), PlainHomes)
    with pytest.raises(SettingsError, match="btrfs-progs"):
        chosen(btrfs_root, "btrfs")


def test_project_quotas_without_them_stop_the_start_and_say_what_is_missing(btrfs_root: Path) -> None:
    """Where they are, `tests/system/test_server.py` holds them to this suite: it takes a kernel of its own."""
    with pytest.raises(SettingsError, match=r"homes\.driver: “project-quota” cannot be used: .*has no project quotas"):
        chosen(btrfs_root, "project-quota")
