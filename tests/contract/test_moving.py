"""Bringing a folder of somebody's into a home: what arrives, what does not, and that nothing is done as root."""

from __future__ import annotations

import asyncio
import colorsys
import os
import socket
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from launchpad.errors import HomeUnavailable
from launchpad.storage import moving
from launchpad.storage.moving import Carried, carry, open_folder, open_home
from launchpad.storage.porter.line import DATA, Line
from launchpad.storage.porter.taker import PART, Taker

UID, OLD_UID = 200_001, 1000
SECRET = b"only root may read this"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    path = tmp_path / "homes" / "anna"
    path.mkdir(parents=True, mode=0o700)
    os.chown(path, UID, UID)
    return path


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "user_data" / "anna"
    path.mkdir(parents=True)
    os.chown(path, OLD_UID, OLD_UID)
    return path


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    path = tmp_path / "secret"
    path.write_bytes(SECRET)
    path.chmod(0o600)
    return path


@contextmanager
def opened(path: Path | None) -> Iterator[int]:
    descriptor = os.open(path or "/", os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


async def bring(source: Path, home: Path | None, *, only_count: bool = False) -> Carried:
    with opened(source) as giving, opened(home) as taking:
        return await carry(giving, taking if home else None, UID, only_count=only_count)


def everything(path: Path) -> dict[str, os.stat_result]:
    return {str(one.relative_to(path)): one.lstat() for one in path.rglob("*")}


def fill(source: Path) -> None:
    """What an honest user has: of the old container's user, and of root."""
    (source / "R" / "deep").mkdir(parents=True)
    (source / "R" / "deep" / "model.rds").write_bytes(os.urandom(2_500_000))
    (source / "notes.txt").write_text("mine")
    (source / "run.sh").write_text("#!/bin/sh\n")
    (source / "run.sh").chmod(0o755)
    (source / "key").write_text("private")
    (source / "key").chmod(0o600)
    (source / "latest").symlink_to("R/deep/model.rds")
    for path in source.rglob("*"):
        os.lchown(path, OLD_UID, OLD_UID)
    (source / "of-root").write_text("made with sudo")
    (source / "of-root").chmod(0o600)
    os.utime(source / "notes.txt", ns=(1, 1_600_000_000_123_456_789))
    os.utime(source / "R", ns=(1, 1_500_000_000_000_000_000))


async def test_files_arrive_whole_and_belong_to_the_user(source: Path, home: Path) -> None:
    """Content, modes, times and links; whoever owned them; and the source stays as it was."""
    fill(source)
    before = everything(source)
    brought = await bring(source, home)
    assert (brought.files, brought.kept, brought.failed, brought.left) == (6, 0, 0, {})
    assert brought.whole
    assert brought.bytes >= 2_500_000
    found = everything(home)
    assert set(found) == set(before)
    assert {(state.st_uid, state.st_gid) for state in found.values()} == {(UID, UID)}
    assert (home / "R/deep/model.rds").read_bytes() == (source / "R/deep/model.rds").read_bytes()
    assert stat.S_IMODE(found["run.sh"].st_mode) == 0o755
    assert stat.S_IMODE(found["key"].st_mode) == 0o600
    assert found["notes.txt"].st_mtime_ns == 1_600_000_000_123_456_789
    assert found["R"].st_mtime_ns == 1_500_000_000_000_000_000
    assert os.readlink(home / "latest") == "R/deep/model.rds"
    assert home.stat().st_mode & 0o777 == 0o700
    assert {name: (one.st_uid, one.st_mode, one.st_mtime_ns) for name, one in everything(source).items()} == {
        name: (one.st_uid, one.st_mode, one.st_mtime_ns) for name, one in before.items()
    }


async def test_a_second_run_brings_only_what_is_missing(source: Path, home: Path) -> None:
    """Newer work is not touched, and what was deleted since then comes back."""
    fill(source)
    await bring(source, home)
    (home / "notes.txt").write_text("newer work")
    (home / "key").unlink()
    (source / "late.csv").write_text("1,2")
    counted = await bring(source, home, only_count=True)
    assert (counted.files, counted.kept) == (2, 5)
    assert not (home / "key").exists(), "counting writes nothing"
    again = await bring(source, home)
    assert (again.files, again.bytes, again.kept) == (counted.files, counted.bytes, counted.kept)
    assert (home / "notes.txt").read_text() == "newer work"
    assert (home / "key").read_text() == "private"
    assert (home / "late.csv").read_text() == "1,2"
    assert (await bring(source, home)).files == 0


async def test_it_can_be_counted_before_there_is_a_home(source: Path) -> None:
    fill(source)
    counted = await bring(source, None, only_count=True)
    assert (counted.files, counted.kept, counted.whole) == (6, 0, True)


async def test_links_are_links_and_lead_nowhere(source: Path, home: Path, secret: Path) -> None:
    """Neither file nor folder behind one is read, and nothing outside changes its owner."""
    outside = secret.parent / "outside"
    outside.mkdir()
    (outside / "inner").write_text("not theirs")
    (source / "secret").symlink_to(secret)
    (source / "shadow").symlink_to("/etc/shadow")
    (source / "folder").symlink_to(outside)
    (source / "up").symlink_to("../../..")
    brought = await bring(source, home)
    assert (brought.files, brought.bytes) == (4, 0)
    assert {name: os.readlink(home / name) for name in os.listdir(home)} == {
        "secret": str(secret),
        "shadow": "/etc/shadow",
        "folder": str(outside),
        "up": "../../..",
    }
    for path in (secret, outside, outside / "inner", Path("/etc/shadow")):
        assert path.stat().st_uid == 0
    assert secret.read_bytes() == SECRET


async def test_links_in_the_home_are_not_followed_either(source: Path, home: Path, secret: Path) -> None:
    """A home is its user's, who may have put anything there meanwhile."""
    outside = secret.parent / "outside"
    outside.mkdir(mode=0o777)
    outside.chmod(0o777)
    (source / "folder").mkdir()
    (source / "folder" / "file").write_text("x")
    (source / "secret").write_text("x")
    (source / "other").write_text("x")
    (home / "folder").symlink_to(outside)
    (home / "secret").symlink_to(secret)
    (home / PART).symlink_to(secret)
    brought = await bring(source, home)
    assert (brought.files, brought.kept) == (1, 2)
    assert list(outside.iterdir()) == []
    assert secret.read_bytes() == SECRET
    assert (home / "other").read_text() == "x"
    assert not os.path.lexists(home / PART)


async def test_what_is_no_file_is_left_out_and_holds_nobody_up(source: Path, home: Path) -> None:
    """Pipes, sockets and devices."""
    os.mkfifo(source / "pipe")
    os.mknod(source / "null", 0o666 | stat.S_IFCHR, os.makedev(1, 3))
    with socket.socket(socket.AF_UNIX) as held:
        held.bind(str(source / "socket"))
        (source / "file").write_text("x")
        brought = await asyncio.wait_for(bring(source, home), 120)
    assert os.listdir(home) == ["file"]
    assert brought.left == {"special": 3}
    assert set(brought.examples) == {"pipe", "null", "socket"}
    assert brought.whole


async def test_names_of_any_kind(source: Path, home: Path) -> None:
    names = ["new\nline", "-rf", "a b", "'\"$(id)`", "ünïcode", os.fsdecode(b"not-utf8-\xff\xfe"), "x" * 255, "[bold"]
    for name in names:
        (source / name).write_text("x")
    folder = source / "fol\nder"
    folder.mkdir()
    (folder / "in\tit").write_text("y")
    brought = await bring(source, home)
    assert brought.files == len(names) + 1
    assert sorted(os.listdir(home)) == sorted([*names, "fol\nder"])
    assert (home / "fol\nder" / "in\tit").read_text() == "y"


async def test_files_of_several_names_stay_one(source: Path, home: Path) -> None:
    """Unless the first name is something else's in the home."""
    (source / "a").write_text("one file")
    (source / "sub").mkdir()
    os.link(source / "a", source / "sub" / "b")
    os.link(source / "a", source / "sub" / "c")
    await bring(source, home)
    assert len({(home / name).stat().st_ino for name in ("a", "sub/b", "sub/c")}) == 1
    for name in ("sub/b", "sub/c"):
        (home / name).unlink()
    (home / "a").write_text("newer")
    brought = await bring(source, home)
    assert (brought.files, brought.kept) == (2, 1)
    assert (home / "a").read_text() == "newer"
    assert (home / "sub/b").read_text() == (home / "sub/c").read_text() == "one file"


async def test_no_right_comes_along(source: Path, home: Path) -> None:
    """Neither set-uid nor set-gid nor sticky bits."""
    (source / "shell").write_text("x")
    (source / "shell").chmod(0o6755)
    (source / "open").mkdir()
    (source / "open").chmod(0o3777)
    await bring(source, home)
    assert stat.S_IMODE((home / "shell").stat().st_mode) == 0o755
    assert stat.S_IMODE((home / "open").stat().st_mode) == 0o777


async def test_holes_stay_holes(source: Path, home: Path) -> None:
    with (source / "sparse").open("wb") as file:
        file.seek(40_000_000)
        file.write(b"end")
        file.truncate(80_000_000)
    await bring(source, home)
    state = (home / "sparse").stat()
    assert state.st_size == 80_000_000
    assert state.st_blocks * 512 < 4_000_000
    assert (home / "sparse").read_bytes() == (source / "sparse").read_bytes()


async def test_a_file_that_is_nearly_all_hole_holds_nobody_up(source: Path, home: Path) -> None:
    """Terabytes that take nothing on the disk are not read, one by one, for hours."""
    with (source / "endless").open("wb") as file:
        file.write(b"begin")
        file.seek(8 * 1024**4)
        file.write(b"middle")
        file.truncate(15 * 1024**4)
    (source / "only-hole").touch()
    os.truncate(source / "only-hole", 15 * 1024**4)
    (source / "zother").write_text("x")
    brought = await asyncio.wait_for(bring(source, home), 120)
    assert (brought.files, brought.failed, brought.whole) == (3, 0, True)
    for name in ("endless", "only-hole"):
        state = (home / name).stat()
        assert state.st_size == 15 * 1024**4
        assert state.st_blocks * 512 < 4_000_000
    with (home / "endless").open("rb") as file:
        assert file.read(6) == b"begin\0"
        file.seek(8 * 1024**4 - 1)
        assert file.read(8) == b"\0middle\0"


async def test_another_file_system_in_it_is_left_out(source: Path, home: Path) -> None:
    (source / "mounted").mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "none", source / "mounted"], check=True)
    try:
        (source / "mounted" / "big").write_text("x")
        (source / "own").write_text("x")
        brought = await bring(source, home)
    finally:
        subprocess.run(["umount", source / "mounted"], check=True)
    assert os.listdir(home) == ["own"]
    assert brought.left == {"elsewhere": 1}


async def test_folders_without_end_are_left_out(source: Path, home: Path) -> None:
    """They would use up descriptors; what else there is arrives."""
    at = os.open(source, os.O_RDONLY)
    for _ in range(1500):
        os.mkdir("d", dir_fd=at)
        inner = os.open("d", os.O_RDONLY, dir_fd=at)
        os.close(at)
        at = inner
    os.close(at)
    (source / "file").write_text("x")
    brought = await bring(source, home)
    subprocess.run(["rm", "-rf", source / "d", home / "d"], check=True)
    assert brought.left == {"deep": 1}
    assert brought.whole
    assert (home / "file").read_text() == "x"


async def test_a_disk_that_is_full_is_told_and_leaves_no_half_file(source: Path, tmp_path: Path) -> None:
    """What fitted stays; with room, another run brings the rest."""
    small = tmp_path / "small"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=6m", "none", small], check=True)
    try:
        home = small / "anna"
        home.mkdir(mode=0o700)
        os.chown(home, UID, UID)
        (source / "a").write_bytes(os.urandom(2_000_000))
        (source / "b").write_bytes(os.urandom(9_000_000))
        (source / "c").write_bytes(b"c")
        brought = await bring(source, home)
        assert (brought.whole, brought.no_room, brought.files) == (False, True, 1)
        assert os.listdir(home) == ["a"]
        subprocess.run(["mount", "-o", "remount,size=60m", small], check=True)
        again = await bring(source, home)
        assert (again.whole, again.files, again.kept) == (True, 2, 1)
        assert (home / "b").read_bytes() == (source / "b").read_bytes()
    finally:
        subprocess.run(["umount", small], check=True)


async def test_what_broke_off_leaves_nothing_half_and_is_taken_up_again(source: Path, home: Path) -> None:
    """A killed run leaves at most a file under a name of ours, which the next one replaces."""
    (source / "big").write_bytes(os.urandom(1000))
    (home / PART).write_bytes(b"half")
    os.chown(home / PART, UID, UID)
    brought = await bring(source, home)
    assert (brought.whole, brought.files) == (True, 1)
    assert os.listdir(home) == ["big"]


async def test_a_user_who_tidies_up_meanwhile_loses_that_file_only(tmp_path: Path) -> None:
    """Each answer stays with its question, and no file gets another one's content."""
    home = tmp_path / "home"
    home.mkdir()
    ours, theirs = socket.socketpair()
    with ours, theirs, opened(home) as folder:
        taker = Taker(Line(theirs), folder, only_count=False, report=lambda counts: None)
        taking = threading.Thread(target=taker.take)
        taking.start()
        line = Line(ours)

        def offer(name: str, content: bytes, *, tidied: bool = False) -> None:
            about = {"mode": 0o644, "mtime_ns": 1, "size": 1, "stored": 1, "number": None, "same_as": None}
            assert line.asked(kind="file", name=name, **about)
            if tidied:
                (home / PART).unlink()
            line.send(DATA + content)
            line.send(b"")
            line.say(whole=True)

        offer("a", b"first", tidied=True)
        offer("b", b"second")
        offer("c", b"third")
        line.say(kind="end", left={}, examples=[])
        taking.join(20)
    assert taker.counts["failed"] == 1
    assert {path.name: path.read_text() for path in home.iterdir()} == {"b": "second", "c": "third"}


def test_nothing_in_the_folder_is_taken_for_a_module(tmp_path: Path) -> None:
    """Shut in, where Python looks for its modules a user may have put some: the giver can read every file."""
    planted = tmp_path / Path(colorsys.__file__).relative_to("/")
    planted.parent.mkdir(parents=True)
    planted.write_text("print('planted')")
    program = """
import os, sys
sys.path.append(sys.argv[1])
from porter.jail import shut_in
shut_in(os.open(sys.argv[2], os.O_RDONLY | os.O_DIRECTORY))
try:
    import colorsys
except ImportError:
    print("no module")
"""
    command = [sys.executable, "-I", "-S", "-c", program, str(Path(moving.__file__).parent), str(tmp_path)]
    said = subprocess.run(command, capture_output=True, text=True, check=False)
    assert said.stdout == "no module\n"


async def test_neither_process_is_root_and_both_are_shut_in(source: Path, home: Path) -> None:
    """Looked at while they work: no uid of root's, one right to read at most, and a root of their own."""
    for number in range(20):
        (source / f"big{number}").write_bytes(os.urandom(4_000_000))
    seen: dict[str, dict[str, str]] = {}
    done = threading.Event()

    def look() -> None:
        own = os.getpid()
        while not done.is_set():
            for process in Path("/proc").iterdir():
                try:
                    words = (process / "cmdline").read_bytes().split(b"\0")
                    status = dict(line.split(":\t", 1) for line in (process / "status").read_text().splitlines())
                    inside = os.readlink(process / "root")
                except (OSError, ValueError):
                    continue
                role = next((word for word in (b"give", b"take") if word in words), None)
                if role and int(status["PPid"]) == own and inside != "/":
                    seen[role.decode()] = status | {"root": inside}

    looking = threading.Thread(target=look)
    looking.start()
    try:
        await bring(source, home)
    finally:
        done.set()
        looking.join()
    give, take = seen["give"], seen["take"]
    assert (give["root"], take["root"]) == (str(source), str(home))
    assert set(give["Uid"].split()) == {"65534"}
    assert set(take["Uid"].split()) == set(take["Gid"].split()) == {str(UID)}
    assert give["Groups"].split() == take["Groups"].split() == []
    assert (int(give["CapEff"], 16), int(give["CapPrm"], 16)) == (1 << 2, 1 << 2), "CAP_DAC_READ_SEARCH"
    assert (int(take["CapEff"], 16), int(take["CapPrm"], 16)) == (0, 0)
    assert give["NoNewPrivs"] == take["NoNewPrivs"] == "1"


# -- what is opened ----------------------------------------------------------------------------------------------------


def test_a_folder_that_is_a_link_is_left_alone(source: Path, tmp_path: Path) -> None:
    parent = source.parent
    (parent / "link").symlink_to("/etc")
    (parent / "file").write_text("x")
    for name in ("link", "file"):
        with pytest.raises(HomeUnavailable, match="is a link or not a folder"):
            open_folder(parent, name)
    assert open_folder(parent, "none") is None
    assert open_folder(parent, "n" * 300) is None, "no folder can have that name"
    with pytest.raises(HomeUnavailable, match="does not exist any more"):
        open_folder(parent / "gone", "anna")
    there = open_folder(parent, "anna")
    assert there is not None
    os.close(there)


def test_a_home_that_is_somebody_elses_is_left_alone(home: Path) -> None:
    root = home.parent
    (root / "link").symlink_to(home)
    for name, uid in (("anna", UID + 1), ("link", UID)):
        with pytest.raises(HomeUnavailable):
            open_home(root, name, uid)
    with pytest.raises(HomeUnavailable, match="cannot be the name of a home folder"):
        open_home(root, "../homes/anna", UID)
    assert open_home(root, "none", UID) is None
    there = open_home(root, "anna", UID)
    assert there is not None
    os.close(there)
