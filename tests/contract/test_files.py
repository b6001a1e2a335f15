"""What `storage/files.py` promises, held against both ways to a worker: started here, and started by the helper."""

from __future__ import annotations

import asyncio
import io
import os
import socket
import stat
import subprocess
import threading
import zipfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from launchpad.errors import (
    Changed,
    Conflict,
    FilesBusy,
    FilesUnavailable,
    Forbidden,
    HomeUnavailable,
    InvalidInput,
    LaunchpadError,
    NoRoom,
    NotFound,
    TooLarge,
)
from launchpad.settings import Settings, tables
from launchpad.storage import file_workers
from launchpad.storage.files import DirectFiles, Files, HelperFiles, Owner
from support.btrfs import btrfs_in_a_file, run
from support.files import SECRET, STRANGER, UID, HomeOnDisk, files_door, make_home, swapped, workers

pytestmark = [pytest.mark.root]  # a worker becomes its home's owner

MIB = 1024**2
SEEN_AT = {"home": "/home/anna", "homes": ["/home/jovyan", "/home/rstudio"]}
NOW = "2026-03-02T09:30:00"


@contextmanager
def way_to(kind: str, folder: Path, settings: Settings) -> Iterator[Files]:
    if kind == "direct":
        yield DirectFiles(settings.homes.root, settings.files)
        return
    with files_door(folder, settings) as path:
        yield HelperFiles(path, settings.files)


def settings_for(root: Path, **files: int) -> Settings:
    return tables({"homes": {"root": str(root), "driver": "plain"}, "files": files})


@pytest.fixture(params=["direct", "helper"])
async def home(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[HomeOnDisk]:
    root = tmp_path / "homes"
    root.mkdir()
    path = make_home(root, "anna", UID)
    theirs = make_home(root, "bert", STRANGER)
    (theirs / "secret").write_bytes(SECRET)
    os.chown(theirs / "secret", STRANGER, STRANGER)
    (tmp_path / "outside").mkdir(mode=0o777)
    (tmp_path / "outside").chmod(0o777)
    (tmp_path / "outside" / "secret").write_bytes(SECRET)
    (tmp_path / "outside" / "secret").chmod(0o666)
    with way_to(request.param, tmp_path, settings_for(root)) as files:
        yield HomeOnDisk(files, root, path, Owner("anna", UID))
        await files.aclose()


# -- who a worker is ---------------------------------------------------------------------------------------------------


async def test_h1_a_worker_is_the_homes_owner_shut_in_and_without_any_right(home: HomeOnDisk) -> None:
    await home.ask("list", path="")
    [pid] = workers()
    status = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    assert set(status["Uid"].split()) == set(status["Gid"].split()) == {str(UID)}
    assert status["Groups"].split() == []
    for capabilities in ("CapInh", "CapPrm", "CapEff", "CapAmb"):
        assert int(status[capabilities], 16) == 0, capabilities
    assert status["NoNewPrivs"].split() == ["1"]
    assert os.path.samefile(f"/proc/{pid}/root", home.path)
    for _ in range(600):  # it answers before it closes what it has listed
        if (held := held_by(pid)) == [str(home.path), "socket"]:
            break
        await asyncio.sleep(0.05)
    else:
        raise AssertionError(held)
    limits = Path(f"/proc/{pid}/limits").read_text()
    for name in ("Max cpu time", "Max processes", "Max address space", "Max core file size"):
        assert "unlimited" not in next(line for line in limits.splitlines() if line.startswith(name)), name
    await home.files.aclose()
    await ended(pid)


async def test_a_worker_is_tried_without_anybodys_home(
    home: HomeOnDisk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the doctor does: it has to begin as every worker does, and leaves nothing behind."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "outside"))
    before = sorted(os.listdir(home.root)), sorted(os.listdir(tmp_path / "outside"))
    await home.files.check()
    assert (sorted(os.listdir(home.root)), sorted(os.listdir(tmp_path / "outside"))) == before
    for pid in workers():
        await ended(pid)
    begun = file_workers.PROGRAM
    monkeypatch.setattr(file_workers, "PROGRAM", "raise SystemExit('no rights')")
    with pytest.raises(FilesUnavailable):
        await home.files.check()
    monkeypatch.setattr(file_workers, "PROGRAM", begun)
    await home.files.check()


def held_by(pid: int) -> list[str]:
    """What a process has opened besides its standard streams; files by their paths."""
    held = []
    for name in os.listdir(f"/proc/{pid}/fd"):
        with suppress(FileNotFoundError):  # closed just now
            held += [os.readlink(f"/proc/{pid}/fd/{name}").partition(":")[0]] if int(name) > 2 else []
    return sorted(held)


async def ended(pid: int) -> None:
    for _ in range(600):
        with suppress(OSError):
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z":
                await asyncio.sleep(0.05)
                continue
        return
    raise AssertionError("the worker does not end")


@pytest.mark.parametrize(
    ("username", "uid"),
    [("anna", STRANGER), ("bert", UID), ("nobody-here", UID), ("linked", UID), ("file", UID), ("anna", 0)],
)
async def test_h2_a_home_that_is_not_the_users_has_no_worker(home: HomeOnDisk, username: str, uid: int) -> None:
    (home.root / "linked").symlink_to(home.path)
    (home.root / "file").write_bytes(b"")
    os.chown(home.root / "file", UID, UID)
    with pytest.raises(LaunchpadError) as refused:
        await home.files.ask(Owner(username, uid), "list", path="")
    assert refused.type.code in ("home-unavailable", "helper-refused")
    assert (await home.ask("list", path=""))["total"] == 0, "the control"


async def test_more_than_a_user_may_have_wait_and_are_refused_in_words(home: HomeOnDisk, tmp_path: Path) -> None:
    """Of one user, and of everybody together; when one has ended, the next one is served."""
    folder = tmp_path / "few"
    folder.mkdir()
    settings = settings_for(home.root, workers_per_user=2, workers=3, patience_seconds=0)
    home.put("big", b"x" * MIB * 20)
    kind = "direct" if isinstance(home.files, DirectFiles) else "helper"
    with way_to(kind, folder, settings) as files:
        async with reading(files, home.owner), reading(files, home.owner):
            with pytest.raises(FilesBusy, match="too many uploads and downloads"):
                await files.ask(home.owner, "list", path="")
            bert = Owner("bert", STRANGER)
            async with reading(files, bert, "secret"):
                with pytest.raises(FilesBusy, match="on this server"):
                    await files.ask(bert, "list", path="")
        for _ in range(100):  # those that were left end at once, but not in the same moment
            with suppress(FilesBusy):
                assert (await files.ask(home.owner, "list", path=""))["total"] == 1
                break
            await asyncio.sleep(0.1)
        else:
            raise AssertionError("nobody is served any more")
        await files.aclose()


def reading(files: Files, owner: Owner, path: str = "big") -> Any:
    return files.receive(owner, "read", path=path)


async def test_what_is_left_in_the_middle_ends(home: HomeOnDisk) -> None:
    """A download that nobody reads on, and a worker that dies under a request."""
    home.put("big", b"x" * MIB * 30)
    async with home.files.receive(home.owner, "read", path="big") as received:
        await received.choose()
        assert len(await anext(aiter(received.pieces()))) > 0
        [pid] = workers()
    await ended(pid)
    async with home.files.receive(home.owner, "read", path="big") as received:
        [pid] = workers()
        await received.choose()
        got = received.pieces()
        await anext(got)
        os.kill(pid, 9)
        with pytest.raises(FilesUnavailable):
            async for _ in got:
                pass
    assert (await home.ask("list", path=""))["total"] == 1


# -- what leads elsewhere ----------------------------------------------------------------------------------------------

ELSEWHERE = {
    "an absolute link": "{outside}",
    "a link upwards": "../../outside",
    "a link to somebody else's home": "../bert",
    "the root": "/",
    "a process": "/proc/self/root",
}
# Each acts on something behind `door`, the link; those that act on the link itself stand below.
THROUGH: dict[str, Callable[[HomeOnDisk], Any]] = {
    "list": lambda home: home.ask("list", path="door"),
    "stat": lambda home: home.ask("stat", path="door/secret"),
    "read": lambda home: home.read("door/secret"),
    "write": lambda home: home.send("write", b"x", path="door/secret", replace=True),
    "write anew": lambda home: home.send("write", b"x", path="door/new"),
    "upload": lambda home: home.ask("upload-begin", path="door/new", size=3),
    "make a folder": lambda home: home.ask("make-folder", path="door/new"),
    "move out": lambda home: home.ask("move", **{"from": "mine", "to": "door/new"}),
    "move in": lambda home: home.ask("move", **{"from": "door/secret", "to": "stolen"}),
    "copy out": lambda home: home.ask("copy", **{"from": "mine", "to": "door/new"}),
    "copy in": lambda home: home.ask("copy", **{"from": "door/secret", "to": "stolen"}),
    "delete": lambda home: home.ask("delete", path="door/secret"),
    "trash": lambda home: home.ask("trash", path="door/secret", now=NOW, **SEEN_AT),
    "archive": lambda home: home.archive("door/secret"),
    "search": lambda home: home.ask("search", path="door", name="secret"),
    "space": lambda home: home.ask("space", path="door"),
    "preview": lambda home: home.ask("preview", path="door/secret", kind="text"),
}


@pytest.mark.parametrize("way", ELSEWHERE)
async def test_h1_no_verb_goes_through_a_link_that_leads_out(home: HomeOnDisk, way: str) -> None:
    outside = home.root.parent / "outside"
    home.put("mine", b"mine")
    home.link("door", ELSEWHERE[way].format(outside=outside))
    before = picture(home.root.parent / "outside"), picture(home.root / "bert")
    for verb, act in THROUGH.items():
        with pytest.raises(NotFound):
            await act(home)
        assert not (home.path / "stolen").exists(), verb
    assert (picture(home.root.parent / "outside"), picture(home.root / "bert")) == before
    assert home.put("mine", b"mine").read_bytes() == b"mine"


async def test_h1_every_verb_goes_through_a_link_that_stays_inside(home: HomeOnDisk) -> None:
    """The control of the table above."""
    for verb, act in THROUGH.items():
        for name in home.names():
            run("rm", "-rf", home.path / name)
        home.put("mine", b"mine")
        home.put("room/secret", SECRET)
        home.link("door", "room")
        answer = await act(home)
        assert answer, verb


async def test_h1_what_acts_on_a_link_acts_on_the_link(home: HomeOnDisk) -> None:
    outside = home.root.parent / "outside"
    before = picture(outside)

    def door() -> None:
        with suppress(FileNotFoundError):
            (home.path / "door").unlink()
        home.link("door", outside)

    door()
    listed = (await home.ask("list", path=""))["entries"]
    assert [(one["name"], one["kind"], one["link_to"]) for one in listed] == [("door", "link", str(outside))]
    await home.ask("move", **{"from": "door", "to": "moved"})
    await home.ask("copy", **{"from": "moved", "to": "copied"})
    assert os.readlink(home.path / "copied") == os.readlink(home.path / "moved") == str(outside)
    with zipfile.ZipFile(io.BytesIO(await home.archive("moved"))) as archive:
        [entry] = archive.infolist()
        assert stat.S_ISLNK(entry.external_attr >> 16)
        assert archive.read(entry) == os.fsencode(outside)
    assert (await home.ask("space", path=""))["bytes"] < 100_000
    await home.ask("delete", path="moved")
    await home.ask("trash", path="copied", now=NOW, **SEEN_AT)
    await home.ask("trash-empty")
    for replace in (False, True):
        door()
        if replace:  # the link's place is taken, not what it leads to
            await home.send("write", b"x", path="door", replace=True)
            assert (home.path / "door").read_bytes() == b"x"
        else:
            with pytest.raises(Conflict):
                await home.send("write", b"x", path="door")
    home.folder("tree")
    home.link("tree/door", outside)
    await home.ask("delete", path="tree")
    assert not (home.path / "tree").exists()
    assert picture(outside) == before


def picture(folder: Path) -> dict[str, tuple[Any, ...]]:
    """Everything about everything in it."""
    found = {}
    for path in [folder, *sorted(folder.rglob("*"))]:
        status = path.lstat()
        content = path.read_bytes() if stat.S_ISREG(status.st_mode) else b""
        found[str(path)] = (status.st_mode, status.st_uid, status.st_gid, status.st_nlink, status.st_mtime_ns, content)
    return found


@pytest.mark.parametrize(
    "path", ["..", "../bert/secret", "a/../../bert", "/../bert", "./../bert/secret", "a/..", "../.."]
)
async def test_h1_paths_that_go_upwards_are_not_found(home: HomeOnDisk, path: str) -> None:
    home.folder("a")
    for verb in ("list", "stat", "read", "delete", "make-folder", "space"):
        with pytest.raises(NotFound):
            await home.ask(verb, path=path)
    with pytest.raises(NotFound):
        await home.send("write", b"x", path=path)
    for way in ({"from": path, "to": "x"}, {"from": "a", "to": path}):
        for verb in ("move", "copy"):
            with pytest.raises(NotFound):
                await home.ask(verb, **way)
    assert (await home.ask("list", path="/./a//"))["total"] == 0, "the control"


@pytest.mark.parametrize("path", [7, None, ["a"], {"a": 1}, "a\0b", "x" * 256, "/".join(["a"] * 5000)])
async def test_what_is_no_path_is_refused(home: HomeOnDisk, path: Any) -> None:
    for verb in ("list", "delete", "read", "upload-begin"):
        with pytest.raises((InvalidInput, NotFound)):
            await home.ask(verb, path=path, size=1)


async def test_h1_hard_links_to_others_files_give_their_owner_no_more(home: HomeOnDisk) -> None:
    """The user's uid decides, as for every program of theirs; a file that is everybody's is the control."""
    os.link(home.root / "bert" / "secret", home.path / "theirs")
    os.chmod(home.root / "bert" / "secret", 0o600)
    for refused in (home.read("theirs"), home.ask("preview", path="theirs", kind="text")):
        with pytest.raises(Forbidden):
            await refused
    with pytest.raises(Forbidden):
        await home.ask("copy", **{"from": "theirs", "to": "mine"})
    with zipfile.ZipFile(io.BytesIO(await home.archive("theirs"))) as archive:
        assert archive.namelist() == ["launchpad-notes.txt"]
        assert b"theirs" in archive.read("launchpad-notes.txt")
    await home.send("write", b"new", path="theirs", replace=True)
    assert (home.root / "bert" / "secret").read_bytes() == SECRET
    assert (home.path / "theirs").read_bytes() == b"new"
    os.link(home.root / "bert" / "secret", home.path / "again")
    await home.ask("delete", path="again")
    assert (home.root / "bert" / "secret").read_bytes() == SECRET
    os.chmod(home.root / "bert" / "secret", 0o604)
    os.link(home.root / "bert" / "secret", home.path / "open")
    assert await home.read("open") == SECRET


async def test_h1_a_folder_that_is_swapped_for_a_link_amid_an_operation_leads_nowhere_else(home: HomeOnDisk) -> None:
    """Real requests while somebody exchanges the folder and a link out of the home as fast as they can."""
    outside = home.root.parent / "outside"
    before = picture(outside)
    home.put("room/secret", b"inside")
    home.link("trap", outside)
    seen = {"inside": 0, "refused": 0}
    with swapped(home.path, "room", "trap"):
        for turn in range(900):
            try:
                if turn % 2 == 0:
                    assert await home.read("room/secret") == b"inside"
                elif turn % 25 == 1:  # each waits for the disk
                    await home.send("write", b"inside", path="room/secret", replace=True)
                else:
                    names = [one["name"] for one in (await home.ask("list", path="room"))["entries"]]
                    assert names in (["secret"], [])
                seen["inside"] += 1
            except (NotFound, Conflict):
                seen["refused"] += 1
    assert seen["inside"] > 10
    assert seen["refused"] > 10
    assert picture(outside) == before


# -- names and kinds ---------------------------------------------------------------------------------------------------

NAMES = [
    b"line\nbreak",
    b"tab\tand 'quotes\" $(id) `id` ;&|<>",
    "right\u202eto\u200fleft".encode(),
    b"\xff\xfe\x80 no utf-8",
    b"x" * 255,
    "\u00fc".encode() * 127,
    b"-rf",
    b"...",
    b" ",
    b"%2e%2e%2f",
    b"con\x7f\x01",
]


async def test_names_of_every_kind_are_whole_everywhere(home: HomeOnDisk) -> None:
    for number, name in enumerate(NAMES):
        text = os.fsdecode(name)
        content = str(number).encode()
        await home.send("write", content, path=text)
        assert os.listdir(os.fsencode(home.path)).count(name) == 1
        assert await home.read(text) == content
    listed = {one["name"] for one in (await home.ask("list", path=""))["entries"]} - {".local"}
    assert {os.fsencode(name) for name in listed} == set(NAMES)
    with zipfile.ZipFile(io.BytesIO(await home.archive(*map(os.fsdecode, NAMES)))) as archive:
        assert archive.testzip() is None
        assert len(archive.namelist()) == len(NAMES)
    for number, name in enumerate(NAMES):
        text = os.fsdecode(name)
        kept = (await home.ask("trash", path=text, now=NOW, **SEEN_AT))["id"]
        assert (await home.ask("trash-restore", ids=[kept], **SEEN_AT))["restored"][0]["path"] == text
        await home.ask("copy", **{"from": text, "to": "copy"})
        assert (home.path / "copy").read_bytes() == str(number).encode()
        await home.ask("delete", path="copy")
        await home.ask("delete", path=text)
    assert home.names() == []


@pytest.mark.parametrize("kind", ["pipe", "socket", "device"])
async def test_what_is_no_file_is_not_waited_for(home: HomeOnDisk, kind: str) -> None:
    place = home.path / "special"
    made = socket.socket(socket.AF_UNIX)
    if kind == "pipe":
        os.mkfifo(place)
    elif kind == "socket":
        at = os.getcwd()
        os.chdir(home.path)
        made.bind("special")
        os.chdir(at)
    else:
        os.mknod(place, stat.S_IFCHR | 0o666, os.makedev(1, 5))  # /dev/zero
    place.chmod(0o666)
    os.chown(place, UID, UID)
    home.put("file", b"file")
    for verb in ("read", "preview"):
        with pytest.raises((Conflict, Forbidden)):
            await home.ask(verb, path="special", kind="text")
    with pytest.raises(Conflict):
        await home.ask("copy", **{"from": "special", "to": "copy"})
    [entry] = [one for one in (await home.ask("list", path=""))["entries"] if one["name"] == "special"]
    assert entry["kind"] == "other"
    with zipfile.ZipFile(io.BytesIO(await home.archive(""))) as archive:
        assert "special" not in archive.namelist()
        assert archive.read("file") == b"file"
        assert "special: a pipe, a socket or a device" in archive.read(archive.namelist()[-1]).decode()
    copied = await home.ask("copy", **{"from": "", "to": "all"})
    assert any(one.startswith("special:") for one in copied["left"])
    await home.ask("delete", path="special")
    assert "special" not in home.names()
    made.close()


async def test_a_sparse_terabyte_stays_one(home: HomeOnDisk) -> None:
    with (home.path / "sparse").open("wb") as file:
        file.seek(5 * MIB)
        file.write(b"middle")
        file.truncate(1024**4)
    os.chown(home.path / "sparse", UID, UID)
    assert await home.read("sparse", offset=5 * MIB, length=6) == b"middle"
    assert await home.read("sparse", offset=1024**4 - 3) == b"\0\0\0"
    copied = await home.ask("copy", **{"from": "sparse", "to": "copy"})
    assert copied["bytes"] < MIB
    status = (home.path / "copy").stat()
    assert (status.st_size, status.st_blocks < 2048) == (1024**4, True)
    with (home.path / "copy").open("rb") as file:
        file.seek(5 * MIB)
        assert file.read(7) == b"middle\0"
    assert (await home.ask("space", path=""))["bytes"] < MIB
    assert (await home.ask("list", path=""))["entries"][-1]["size"] == 1024**4


async def test_a_file_with_several_names_counts_once(home: HomeOnDisk) -> None:
    home.put("a/one", b"x" * 400_000)
    (home.path / "b").mkdir()
    for number in range(5):
        os.link(home.path / "a/one", home.path / f"b/{number}")
    assert 400_000 <= (await home.ask("space", path=""))["bytes"] < 500_000
    os.chown(home.path / "b", UID, UID)
    assert (await home.ask("copy", **{"from": "a", "to": "c"}))["several_names"] == 1


async def test_what_changes_while_it_is_read_is_told(home: HomeOnDisk) -> None:
    """A download of a file that becomes shorter ends as broken off. An archive says what was not as it was."""
    home.put("data/shrinks", b"x" * MIB * 30)
    async with home.files.receive(home.owner, "read", path="data/shrinks") as received:
        await received.choose()
        os.truncate(home.path / "data/shrinks", 10)
        with pytest.raises(FilesUnavailable):
            async for _ in received.pieces():
                pass
    for number in range(40):
        home.put(f"data/{number:02}", os.urandom(MIB))
    held: list[bytes] = []
    async with home.files.receive(home.owner, "archive", paths=["data"]) as received:
        async for piece in received.pieces():
            if not held:
                (home.path / "data/39").unlink()
                os.truncate(home.path / "data/38", 5)
            held.append(piece)
            await asyncio.sleep(0.01)
    with zipfile.ZipFile(io.BytesIO(b"".join(held))) as archive:
        assert archive.testzip() is None
        assert "data/39" not in archive.namelist()
        assert archive.read("data/00") == (home.path / "data/00").read_bytes()
        assert archive.read("data/38") == (home.path / "data/38").read_bytes()


async def test_an_archive_of_a_file_that_grows_ends(home: HomeOnDisk) -> None:
    growing = home.put("grows", b"x" * MIB)
    done = threading.Event()

    def grow() -> None:
        with growing.open("ab") as file:
            while not done.is_set():
                file.write(b"more" * 1000)
                file.flush()

    thread = threading.Thread(target=grow)
    thread.start()
    try:
        content = await home.archive("grows")
    finally:
        done.set()
        thread.join()
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        assert archive.testzip() is None
        assert archive.namelist() == ["grows", "launchpad-notes.txt"]
        assert b"later" in archive.read("launchpad-notes.txt")


DEEP = 2000


async def test_a_tree_of_2000_folders_within_each_other(home: HomeOnDisk) -> None:
    at = os.open(home.path, os.O_RDONLY)
    for _ in range(DEEP):
        os.mkdir("d", 0o755, dir_fd=at)
        os.chown("d", UID, UID, dir_fd=at)
        inner = os.open("d", os.O_RDONLY, dir_fd=at)
        os.close(at)
        at = inner
    file = os.open("bottom", os.O_WRONLY | os.O_CREAT, 0o644, dir_fd=at)
    os.write(file, b"found")
    os.fchown(file, UID, UID)
    os.close(file)
    os.close(at)
    deep = "/".join(["d"] * DEEP)
    assert await home.read(f"{deep}/bottom") == b"found"
    found = (await home.ask("search", path="", name="bottom"))["entries"]
    assert [one["folder"] for one in found] == [deep]
    assert (await home.ask("space", path=""))["files"] == 1
    assert (await home.ask("copy", **{"from": "d", "to": "e"}))["files"] == 1
    assert await home.read("e" + deep[1:] + "/bottom") == b"found"
    with zipfile.ZipFile(io.BytesIO(await home.archive("d"))) as archive:
        assert archive.read(f"{deep}/bottom") == b"found"
    kept = (await home.ask("trash", path="e", now=NOW, **SEEN_AT))["id"]
    assert (await home.ask("trash-empty", ids=[kept]))["done"] is True
    assert (await home.ask("delete", path="d"))["done"] is True
    assert home.names() == []


@pytest.mark.slow  # a hundred thousand files are made
@pytest.mark.parametrize("home", ["direct"], indirect=True)  # the same worker, whoever starts it
async def test_folders_of_a_hundred_thousand_and_an_archive_of_fifty_thousand_files(home: HomeOnDisk) -> None:
    for name, count in (("many", 100_000), ("half", 50_000)):
        folder = os.open(home.folder(name), os.O_RDONLY)
        for number in range(count):
            os.mknod(f"{number:06}", 0o100644, dir_fd=folder)
        os.close(folder)
    page = await home.ask("list", path="many", limit=1000)
    assert (page["total"], len(page["entries"])) == (100_000, 1000)
    names, after = [one["name"] for one in page["entries"]], page["after"]
    for _ in range(4):
        page = await home.ask("list", path="many", limit=1000, after=after)
        names += [one["name"] for one in page["entries"]]
        after = page["after"]
    assert names == [f"{number:06}" for number in range(5000)]
    last = await home.ask("list", path="many", limit=10, sort="name", order="desc")
    assert [one["name"] for one in last["entries"]] == [f"{99_999 - number:06}" for number in range(10)]
    with zipfile.ZipFile(io.BytesIO(await home.archive("half"))) as archive:
        assert len(archive.namelist()) == 50_001
        assert archive.read("half/049999") == b""
    assert (await home.ask("delete", path="many"))["done"] is True


# -- whole or not there ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stage", ["begun", "some", "all but the end", "written"])
async def test_h5_an_upload_that_is_cut_at_any_stage_goes_on(home: HomeOnDisk, stage: str) -> None:
    content = os.urandom(3 * MIB)
    upload_id = (await home.ask("upload-begin", path="file", size=len(content)))["id"]
    cut = asyncio.Event()

    async def broken(*parts: bytes) -> AsyncIterator[bytes]:
        for part in parts:
            yield part
        if stage == "some":
            [pid] = workers()
            os.kill(pid, 9)  # not even the worker sees the end of it
        cut.set()
        raise Conflict("the network went away")

    sent = {"begun": (), "some": (content[:MIB],), "all but the end": (content[: 2 * MIB],), "written": (content[:-1],)}
    with pytest.raises(LaunchpadError):
        await home.files.send(home.owner, "upload-write", broken(*sent[stage]), id=upload_id, offset=0)
    assert cut.is_set()
    assert home.names() == [], "the file has no name before it is whole"
    offset = await settled_offset(home, upload_id)
    assert offset <= sum(map(len, sent[stage]))
    if stage != "some":
        assert offset == sum(map(len, sent[stage]))
    answer = await home.send("upload-write", content[offset:], id=upload_id, offset=offset)
    assert answer["done"] is True
    assert (home.path / "file").read_bytes() == content
    assert home.staged == []


async def settled_offset(home: HomeOnDisk, upload_id: str) -> int:
    """Once the worker has noticed that nothing more comes."""
    before = -1
    for _ in range(100):
        offset = int((await home.ask("upload-look", id=upload_id))["offset"])
        if offset == before:
            return offset
        before = offset
        await asyncio.sleep(0.2)
    raise AssertionError("the upload goes on by itself")


async def test_h5_a_whole_upload_that_is_cut_leaves_what_was_there(home: HomeOnDisk) -> None:
    home.put("file", b"before")

    async def broken() -> AsyncIterator[bytes]:
        yield b"after" * 1000
        raise Conflict("the network went away")

    with pytest.raises(Conflict):
        await home.files.send(home.owner, "write", broken(), path="file", replace=True)
    assert (home.path / "file").read_bytes() == b"before"
    for _ in range(200):
        if not home.staged:
            break
        await asyncio.sleep(0.05)
    assert home.staged == []
    await home.send("write", b"after", path="file", replace=True)
    assert (home.path / "file").read_bytes() == b"after"


async def test_uploads_take_places_only_as_they_were_allowed(home: HomeOnDisk) -> None:
    home.put("taken", b"before")
    with pytest.raises(Conflict):
        await home.ask("upload-begin", path="taken", size=3)
    begun = await home.ask("upload-begin", path="later", size=3)
    home.put("later", b"somebody was quicker")
    with pytest.raises(Conflict):
        await home.send("upload-write", b"abc", id=begun["id"], offset=0)
    assert (home.path / "later").read_bytes() == b"somebody was quicker"
    begun = await home.ask("upload-begin", path="taken", size=3, replace=True, mtime_ns=10**18)
    (home.path / "taken").chmod(0o640)
    await home.send("upload-write", b"abc", id=begun["id"], offset=0)
    status = (home.path / "taken").stat()
    assert (status.st_size, status.st_mode & 0o777, status.st_mtime_ns) == (3, 0o640, 10**18)
    for odd in ("../../etc/passwd", "0" * 31, "0" * 32, "", 7, None):
        with pytest.raises(NotFound):
            await home.ask("upload-look", id=odd)
    with pytest.raises(TooLarge):
        await home.send("write", b"x" * 100, path="large", most=99)
    with pytest.raises(Changed):
        await home.send("write", b"x", path="taken", replace=True, if_match="another")


async def test_uploads_that_were_left_for_a_week_are_removed(home: HomeOnDisk) -> None:
    old = (await home.ask("upload-begin", path="old", size=3))["id"]
    new = (await home.ask("upload-begin", path="new", size=3))["id"]
    folder = home.path / ".local/share/launchpad-uploads"
    (folder / "somebody's own").write_bytes(b"")
    for name in (f"{old}.part", f"{old}.json", "somebody's own"):
        os.utime(folder / name, (1, 1))
    assert [one["id"] for one in (await home.ask("upload-list"))["uploads"]] == [new]
    assert home.staged == sorted([f"{new}.json", f"{new}.part", "somebody's own"])


async def test_an_upload_has_one_writer(home: HomeOnDisk) -> None:
    begun = await home.ask("upload-begin", path="file", size=6)
    first_came, go_on = asyncio.Event(), asyncio.Event()

    async def slow() -> AsyncIterator[bytes]:
        yield b"123"
        first_came.set()
        await go_on.wait()
        yield b"456"

    sending = asyncio.ensure_future(home.files.send(home.owner, "upload-write", slow(), id=begun["id"], offset=0))
    await first_came.wait()
    for _ in range(200):
        if (await home.ask("upload-look", id=begun["id"]))["offset"] == 3:
            break
        await asyncio.sleep(0.05)
    with pytest.raises(FilesBusy):
        await home.send("upload-write", b"456", id=begun["id"], offset=3)
    go_on.set()
    assert (await sending)["done"] is True
    assert (home.path / "file").read_bytes() == b"123456"


# -- changes -----------------------------------------------------------------------------------------------------------


async def test_moves_replace_nothing_unless_asked(home: HomeOnDisk) -> None:
    home.put("a", b"a")
    home.put("b", b"b")
    home.put("full/x", b"x")
    home.folder("empty")
    for target in ("b", "full", "empty"):
        with pytest.raises(Conflict):
            await home.ask("move", **{"from": "a", "to": target})
    for way in ({"from": "full", "to": "full/x2"}, {"from": "a", "to": "full"}, {"from": "empty", "to": "full"}):
        with pytest.raises(Conflict):
            await home.ask("move", **way, replace=True)
    for gone in ({"from": "none", "to": "c"}, {"from": "a", "to": "none/c"}):
        with pytest.raises(NotFound):
            await home.ask("move", **gone)
    for itself in ({"from": "", "to": "c"}, {"from": "a", "to": ""}):
        with pytest.raises(Conflict):
            await home.ask("move", **itself)
    await home.ask("move", **{"from": "a", "to": "b"}, replace=True)
    assert (home.path / "b").read_bytes() == b"a"
    await home.ask("move", **{"from": "full", "to": "empty/full"})
    assert (home.path / "empty/full/x").read_bytes() == b"x"


async def test_a_copy_is_as_its_original(home: HomeOnDisk) -> None:
    home.put("from/sub/program", b"#!/bin/sh\n")
    (home.path / "from/sub/program").chmod(0o755)
    os.utime(home.path / "from/sub/program", ns=(10**18, 10**18))
    home.link("from/link", "sub/program")
    home.folder("from/empty")
    (home.path / "from/empty").chmod(0o750)
    assert (await home.ask("copy", **{"from": "from", "to": "to"}))["files"] == 2
    status = (home.path / "to/sub/program").stat()
    assert (status.st_mode & 0o777, status.st_mtime_ns, status.st_uid) == (0o755, 10**18, UID)
    assert os.readlink(home.path / "to/link") == "sub/program"
    assert (home.path / "to/empty").stat().st_mode & 0o777 == 0o750
    await home.ask("copy", **{"from": "from", "to": "from/inside"})
    assert sorted(os.listdir(home.path / "from/inside")) == ["empty", "link", "sub"]


async def test_folders_that_are_closed_for_writing_are_deleted_all_the_same(home: HomeOnDisk) -> None:
    """As package managers leave them."""
    home.put("pkgs/one/file", b"x")
    (home.path / "pkgs/one").chmod(0o555)
    (home.path / "pkgs").chmod(0o500)
    assert (await home.ask("delete", path="pkgs"))["done"] is True
    assert home.names() == []


async def test_what_cannot_be_deleted_is_told_and_the_rest_goes(home: HomeOnDisk) -> None:
    home.put("tree/a/x", b"x")
    home.put("tree/b/y", b"y")
    (home.path / "tree/b").chmod(0o755)
    os.chown(home.path / "tree/b", STRANGER, STRANGER)
    answer = await home.ask("delete", path="tree")
    assert answer["done"] is False
    assert any(one.startswith("b/y: ") for one in answer["left"])
    assert os.listdir(home.path / "tree") == ["b"]


# -- the Trash ---------------------------------------------------------------------------------------------------------


async def test_the_trash_is_that_of_the_specification(home: HomeOnDisk) -> None:
    home.put("dir/a b%.txt", b"content")
    kept = (await home.ask("trash", path="dir/a b%.txt", now=NOW, **SEEN_AT))["id"]
    trash = home.path / ".local/share/Trash"
    assert (trash / "files" / kept).read_bytes() == b"content"
    note = (trash / "info" / f"{kept}.trashinfo").read_text()
    assert note == f"[Trash Info]\nPath=/home/anna/dir/a%20b%25.txt\nDeletionDate={NOW}\n"
    assert (trash.stat().st_mode & 0o777, trash.stat().st_uid) == (0o700, UID)
    home.put("dir/a b%.txt", b"another")
    again = (await home.ask("trash", path="dir/a b%.txt", now="2026-03-02T10:00:00", **SEEN_AT))["id"]
    assert again != kept
    listed = (await home.ask("trash-list", **SEEN_AT))["entries"]
    assert [(one["id"], one["path"], one["deleted_at"]) for one in listed] == [
        (again, "dir/a b%.txt", "2026-03-02T10:00:00"),
        (kept, "dir/a b%.txt", NOW),
    ]
    os.rmdir(home.path / "dir")
    answer = await home.ask("trash-restore", ids=[again, kept, "none"], **SEEN_AT)
    assert [one["id"] for one in answer["restored"]] == [again]
    assert [one["id"] for one in answer["failed"]] == [kept, "none"]
    assert (home.path / "dir/a b%.txt").read_bytes() == b"another"
    assert os.listdir(trash / "info") == [f"{kept}.trashinfo"]
    assert (await home.ask("trash-empty"))["done"] is True
    assert os.listdir(trash / "info") == os.listdir(trash / "files") == []


async def test_what_other_programs_put_into_the_trash_comes_back(home: HomeOnDisk) -> None:
    """JupyterLab, in whose instance the home is elsewhere; and notes that lie are harmless."""
    trash = ".local/share/Trash"
    for name, path in (
        ("from-jupyter", "/home/jovyan/work/x.ipynb"),
        ("relative", "notes/y"),
        ("outside", "/etc/cron.d/z"),
        ("upwards", "/home/jovyan/../../etc/z"),
        ("no-note", None),
    ):
        home.put(f"{trash}/files/{name}", name.encode())
        if path:
            text = f"[Trash Info]\nPath={path}\nDeletionDate=2026-01-01T00:00:00\n"
            home.put(f"{trash}/info/{name}.trashinfo", text.encode())
    listed = {one["id"]: one["path"] for one in (await home.ask("trash-list", **SEEN_AT))["entries"]}
    assert listed == {
        "from-jupyter": "work/x.ipynb",
        "relative": "notes/y",
        "outside": None,
        "upwards": None,
        "no-note": None,
    }
    answer = await home.ask("trash-restore", ids=list(listed), **SEEN_AT)
    assert sorted(one["id"] for one in answer["restored"]) == ["from-jupyter", "relative"]
    assert (home.path / "work/x.ipynb").read_bytes() == b"from-jupyter"
    for odd in ("../../../dir", "a/b", "..", "", "x\0y"):
        with pytest.raises(InvalidInput):
            await home.ask("trash-empty", ids=[odd])


async def test_what_lies_in_the_trash_for_too_long_goes(home: HomeOnDisk) -> None:
    for name, day in (("old", "01"), ("new", "20")):
        home.put(f"{name}/x", b"x")
        await home.ask("trash", path=name, now=f"2026-03-{day}T00:00:00", **SEEN_AT)
    listed = await home.ask("trash-list", oldest="2026-03-10T00:00:00", **SEEN_AT)
    assert [one["id"] for one in listed["entries"]] == ["new"]
    assert os.listdir(home.path / ".local/share/Trash/info") == ["new.trashinfo"]


async def test_the_trash_itself_is_not_put_there(home: HomeOnDisk) -> None:
    home.put("x", b"x")
    await home.ask("trash", path="x", now=NOW, **SEEN_AT)
    for path in (".local/share/Trash/files/x", ".local/share/Trash", ".local/share", ".local", ""):
        with pytest.raises(Conflict):
            await home.ask("trash", path=path, now=NOW, **SEEN_AT)
    assert (home.path / ".local/share/Trash/files/x").exists()
    assert (await home.ask("trash-list", **SEEN_AT))["total"] == 1


# -- a home without room -----------------------------------------------------------------------------------------------


@contextmanager
def small_disk(folder: Path, size: str) -> Iterator[Path]:
    folder.mkdir()
    run("mount", "-t", "tmpfs", "-o", f"size={size},mode=755", "none", folder)
    try:
        yield folder
    finally:
        run("umount", "--lazy", folder)


@pytest.mark.parametrize("kind", ["tmpfs", "btrfs"])
async def test_h5_a_full_home_loses_nothing_and_can_be_tidied(tmp_path: Path, kind: str) -> None:
    """On a disk that is full, and in a btrfs subvolume at the end of its quota, where even removing needs room."""
    disk = small_disk(tmp_path / "disk", "8m") if kind == "tmpfs" else btrfs_in_a_file(200)
    with disk as root:
        if kind == "btrfs":
            run("btrfs", "subvolume", "create", root / "anna")
            run("btrfs", "qgroup", "limit", str(8 * MIB), root / "anna")
            os.chown(root / "anna", UID, UID)
            (root / "anna").chmod(0o700)
        else:
            make_home(root, "anna", UID)
        files = DirectFiles(root, settings_for(root).files)
        home = HomeOnDisk(files, root, root / "anna", Owner("anna", UID))
        try:
            await home.send("write", os.urandom(MIB), path="kept")
            kept = (root / "anna" / "kept").read_bytes()
            upload_id = (await home.ask("upload-begin", path="large", size=40 * MIB))["id"]
            with pytest.raises(NoRoom, match="space"):
                await home.send("upload-write", *[os.urandom(MIB) for _ in range(40)], id=upload_id, offset=0)
            offset = (await home.ask("upload-look", id=upload_id))["offset"]
            assert 0 < offset < 40 * MIB
            with pytest.raises(NoRoom):
                await home.send("write", *[os.urandom(MIB) for _ in range(4)], path="kept", replace=True)
            if kind == "tmpfs":  # btrfs shares the blocks of a copy, so that it takes none
                with pytest.raises(NoRoom):
                    await home.ask("copy", **{"from": "kept", "to": "copy"})
            assert (root / "anna" / "kept").read_bytes() == kept
            assert home.names() == ["kept"]
            assert (await home.ask("list", path=""))["total"] == 2
            await home.ask("upload-drop", id=upload_id)
            await home.send("write", os.urandom(MIB), path="again")
            fill(root / "anna")
            for name in ("filler", "again"):
                assert (await home.ask("delete", path=name))["done"] is True
            await home.send("write", b"x" * 100_000, path="later")
            assert home.names() == ["kept", "later"]
        finally:
            await files.aclose()


def fill(home: Path) -> None:
    """To the last byte, as the user."""
    program = (
        "dd if=/dev/urandom of=filler bs=64k 2>/dev/null; dd if=/dev/urandom of=filler bs=512 oflag=append conv=notrunc"
    )

    subprocess.run(["sh", "-c", program], cwd=home, user=UID, group=UID, capture_output=True, check=False)


async def test_the_worker_knows_no_other_verbs(home: HomeOnDisk) -> None:
    for verb in ("exec", "", "__init__", "serve", "list_folder", None):
        with pytest.raises(InvalidInput):
            await home.files.ask(home.owner, str(verb))
    assert (await home.ask("list", path=""))["total"] == 0


async def test_a_home_that_does_not_exist_is_told(home: HomeOnDisk) -> None:
    with pytest.raises(HomeUnavailable, match="does not exist yet"):
        await home.files.ask(Owner("carl", 200_199), "list", path="")
