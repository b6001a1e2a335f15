"""What `storage/base.py` promises, held against every way of keeping homes."""

from __future__ import annotations

import asyncio
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from launchpad.errors import HomeUnavailable, SettingsError
from launchpad.settings import HomesSettings
from launchpad.storage.base import Homes
from launchpad.storage.choose import choose_driver
from launchpad.storage.plain import PlainHomes

UID, STRANGER = 200_123, 200_124
LIMIT = 64 * 1024**2


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "homes"
    folder.mkdir()
    return folder


@pytest.fixture(params=["plain"])
def homes(request: pytest.FixtureRequest, root: Path) -> Homes:
    return {"plain": PlainHomes}[request.param](root)


async def test_a_home_is_made_for_its_user_alone(homes: Homes, root: Path) -> None:
    assert not await homes.exists("anna")
    path = await homes.prepare("anna", UID, LIMIT)
    assert path == homes.path_of("anna") == root / "anna"
    state = path.stat()
    assert (state.st_uid, state.st_gid, state.st_mode & 0o777) == (UID, UID, 0o700)
    assert await homes.exists("anna")
    assert [entry.name for entry in root.iterdir()] == ["anna"], "nothing half made is left"


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


@pytest.mark.parametrize("kind", ["link to a directory", "link to nothing", "file", "somebody else's"])
async def test_c5_what_is_not_the_users_home_is_refused_and_untouched(homes: Homes, root: Path, kind: str) -> None:
    """Nothing outside changes owner; the launch is refused."""
    outside = root.parent / "outside"
    outside.mkdir()
    (outside / "secret").write_text("s")
    place = root / "anna"
    if kind == "link to a directory":
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
    with pytest.raises(HomeUnavailable, match="not a directory"):
        await homes.check()


async def test_check_leaves_nothing(homes: Homes, root: Path) -> None:
    await homes.check()
    assert list(root.iterdir()) == []


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own, to be filled or made read-only."""
    place = tmp_path / "disk"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m,nr_inodes=4", "tmpfs", str(place)], check=True)
    yield place
    subprocess.run(["umount", str(place)], check=True)


async def test_a_full_disk_is_told(small_disk: Path) -> None:
    homes = PlainHomes(small_disk)
    for number in range(3):
        (small_disk / f"file{number}").touch()
    with pytest.raises(HomeUnavailable, match="full disk"):
        await homes.prepare("anna", UID, LIMIT)


async def test_a_read_only_root_is_told(small_disk: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    with pytest.raises(HomeUnavailable, match="read-only"):
        await PlainHomes(small_disk).check()


def test_a_driver_that_is_not_in_this_version_stops_the_start(root: Path) -> None:
    """Rather than a limit that is silently not enforced."""
    assert isinstance(choose_driver(HomesSettings(root=root)), PlainHomes)
    for driver in ("btrfs", "project-quota"):
        with pytest.raises(SettingsError, match=driver):
            choose_driver(HomesSettings.model_validate({"root": root, "driver": driver}))
