"""What `storage/archives.py` promises, held against both ways to it: by this process, and by the helper."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tarfile
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import zstandard

from launchpad.errors import ArchiveDamaged, Conflict, HomeUnavailable, LaunchpadError, NoRoom, NotFound
from launchpad.helper_client import HelperClient
from launchpad.runtime.fake import FakeRuntime
from launchpad.settings import tables
from launchpad.storage import archive_folder
from launchpad.storage.archive_processes import Crew
from launchpad.storage.archives import ArchiveFacts, Archives, Progress
from launchpad.storage.base import Homes
from launchpad.storage.btrfs import BtrfsHomes
from launchpad.storage.choose import utc_now
from launchpad.storage.direct_archives import DirectArchives
from launchpad.storage.helper import HelperArchives
from launchpad.storage.plain import PlainHomes
from support.btrfs import btrfs_in_a_file, run
from support.files import SECRET, STRANGER, UID, make_home
from support.helper import guard_of, helper_thread
from support.homes import add_what_has_no_content, fill, looks_of

pytestmark = [pytest.mark.root]  # homes are of many owners

NAMES = {archive_folder.TAR, archive_folder.MANIFEST, archive_folder.FACTS, archive_folder.VERIFIED}


@dataclass
class Archived:
    """Homes, their archives, and the way to both. anna's home is there, and bert's."""

    root: Path
    folder: Path
    archives: Archives

    @property
    def home(self) -> Path:
        return self.root / "anna"

    async def make(self) -> ArchiveFacts:
        facts = (await last_of(self.archives.make("anna", UID))).archive
        assert facts is not None
        return facts

    def on_disk(self, facts: ArchiveFacts) -> Path:
        return self.folder / "anna" / facts.name

    @property
    def beside(self) -> list[str]:
        """What lies in the root and is no home, and what of an archive is not whole."""
        drafts = os.listdir(self.folder / "anna") if (self.folder / "anna").exists() else []
        return [name for name in (*os.listdir(self.root), *drafts) if name.startswith(".")]


async def last_of(told: AsyncIterator[Progress]) -> Progress:
    found = [said async for said in told]
    assert [said.is_done for said in found] == [False] * (len(found) - 1) + [True]
    return found[-1]


@contextmanager
def way_to(kind: str, tmp_path: Path, homes: Homes, root: Path) -> Iterator[Archives]:
    direct = DirectArchives(homes, root, tmp_path / "archives", utc_now)
    if kind == "direct":
        yield direct
        return
    settings = tables({"homes": {"root": str(root), "driver": "plain"}})
    runtime = FakeRuntime("none")
    with helper_thread(tmp_path, runtime, guard_of(settings, runtime, homes), archives=direct) as path:
        yield HelperArchives(HelperClient(path))


@pytest.fixture(params=["direct", "helper"])
def kept(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Archived]:
    root = tmp_path / "homes"
    root.mkdir()
    make_home(root, "anna", UID)
    make_home(root, "bert", STRANGER)
    with way_to(request.param, tmp_path, PlainHomes(root), root) as archives:
        yield Archived(root, tmp_path / "archives", archives)


@pytest.fixture
def one(tmp_path: Path) -> Iterator[Archived]:
    """Where the way makes no difference."""
    root = tmp_path / "homes"
    root.mkdir()
    make_home(root, "anna", UID)
    make_home(root, "bert", STRANGER)
    with way_to("direct", tmp_path, PlainHomes(root), root) as archives:
        yield Archived(root, tmp_path / "archives", archives)


def put(home: Path, name: str, content: bytes = b"x") -> Path:
    path = home / name
    path.write_bytes(content)
    os.chown(path, UID, UID)
    return path


# -- what comes back ---------------------------------------------------------------------------------------------------


@pytest.mark.slow  # 2000 folders within each other, six times
async def test_h7_an_archive_restores_everything_byte_for_byte_and_only_then_the_home_is_gone(kept: Archived) -> None:
    fill(kept.home)
    before = looks_of(kept.home)
    assert len(before) > 2000
    facts = await kept.make()
    assert facts.is_complete
    assert facts.left == {}
    assert facts.verified_at is not None
    assert facts.entries == len(before)
    assert looks_of(kept.home) == before, "a home is not changed by being archived"
    assert list(await kept.archives.of("anna")) == [facts]

    removed = await last_of(kept.archives.remove_home("anna", UID, facts.name, facts.sha256))
    assert removed.stage == "removing"
    assert not kept.home.exists()
    restored = await last_of(kept.archives.restore("anna", UID, facts.name, facts.sha256))
    assert restored.files == facts.entries
    assert looks_of(kept.home) == before
    assert kept.beside == []


async def test_what_belongs_to_the_owner_belongs_to_who_gets_the_home(one: Archived) -> None:
    """As where the database is another one; others' things stay theirs."""
    put(one.home, "mine")
    os.chown(put(one.home, "of-root"), 0, 0)
    os.chown(put(one.home, "shared"), UID, 0)
    facts = await one.make()
    shutil.rmtree(one.home)
    await last_of(one.archives.restore("anna", UID + 7, facts.name, facts.sha256))
    owners = {path.name: (path.stat().st_uid, path.stat().st_gid) for path in one.home.iterdir()}
    assert owners == {"mine": (UID + 7, UID + 7), "of-root": (0, 0), "shared": (UID + 7, 0)}
    assert one.home.stat().st_uid == UID + 7


async def test_other_programs_read_an_archive_too(one: Archived, tmp_path: Path) -> None:
    """GNU tar, and Python: nobody depends on this platform to get at files."""
    put(one.home, "n" * 255, b"long")
    put(one.home, os.fsdecode(b"bytes \xff"), b"odd")
    os.setxattr(put(one.home, "noted"), "user.note", b"\x00\xff")
    with put(one.home, "sparse").open("wb") as file:
        file.truncate(50 * 2**20)
        file.seek(20 * 2**20)
        file.write(b"data" * 5000)
    (one.home / "link").symlink_to("n" * 150)
    facts = await one.make()
    shut = one.on_disk(facts)
    plain = tmp_path / "home.tar"
    with (shut / archive_folder.TAR).open("rb") as packed, plain.open("wb") as file:
        zstandard.ZstdDecompressor().copy_stream(packed, file)
    out = tmp_path / "out"
    out.mkdir()
    run("tar", "--xattrs", "--xattrs-include=user.*", "-xpf", plain, "-C", out)
    with_seconds = {name: (*look[:3], look[3] // 10**9, *look[4:]) for name, look in looks_of(out).items()}
    expected = {name: (*look[:3], look[3] // 10**9, *look[4:]) for name, look in looks_of(one.home).items()}
    assert with_seconds == expected
    assert os.stat(out / "sparse").st_blocks < 1000
    with tarfile.open(plain) as archive:
        sizes = {member.name: member.size for member in archive}
    assert sizes["sparse"] == 50 * 2**20
    assert sizes["n" * 255] == 4
    with (shut / archive_folder.MANIFEST).open("rb") as packed:
        lines = zstandard.ZstdDecompressor().stream_reader(packed).read().splitlines()
    said = {line["path"]: line for line in map(json.loads, lines[1:-1])}
    assert run("sha256sum", one.home / ("n" * 255)).split()[0] == said["n" * 255]["sha256"]


async def test_what_has_no_content_is_told_and_keeps_no_home_from_being_removed(one: Archived) -> None:
    add_what_has_no_content(one.home)
    put(one.home, "file")
    facts = await one.make()
    assert facts.left["socket"] == 1
    assert "socket" in facts.examples
    assert facts.is_complete
    await last_of(one.archives.remove_home("anna", UID, facts.name, facts.sha256))
    await last_of(one.archives.restore("anna", UID, facts.name, facts.sha256))
    assert os.listdir(one.home) == ["file"]


async def test_h1_nobodys_content_is_archived_by_a_name_in_somebody_elses_home(one: Archived) -> None:
    """A hard link to a file of others has one content with theirs; one's own with several names are archived."""
    secret = one.root / "bert" / "secret"
    secret.write_bytes(SECRET)
    os.chown(secret, STRANGER, STRANGER)
    secret.chmod(0o600)
    os.link(secret, one.home / "stolen")
    os.link(put(one.home, "own", b"own"), one.home / "own too")
    facts = await one.make()
    assert dict(facts.left) == {"foreign": 1}
    assert not facts.is_complete
    with pytest.raises(Conflict, match="further names"):
        await last_of(one.archives.remove_home("anna", UID, facts.name, facts.sha256))
    await last_of(one.archives.copy("anna", UID, "", "", "bert", STRANGER, "A copy"))
    assert sorted(os.listdir(one.root / "bert" / "A copy")) == ["own", "own too"]
    shutil.rmtree(one.home)
    await last_of(one.archives.restore("anna", UID, facts.name, facts.sha256))
    assert sorted(os.listdir(one.home)) == ["own", "own too"]


async def test_another_file_system_in_a_home_is_left_out_and_keeps_it(one: Archived) -> None:
    (one.home / "mounted").mkdir()
    run("mount", "-t", "tmpfs", "tmpfs", one.home / "mounted")
    try:
        (one.home / "mounted" / "elsewhere").write_bytes(b"x")
        facts = await one.make()
        assert dict(facts.left) == {"elsewhere": 1}
        with pytest.raises(Conflict, match="another file system is mounted"):
            await last_of(one.archives.remove_home("anna", UID, facts.name, facts.sha256))
        assert (one.home / "mounted" / "elsewhere").exists()
    finally:
        run("umount", one.home / "mounted")


async def test_what_grows_or_vanishes_while_it_is_read_makes_no_archive_fail_and_removes_no_home(one: Archived) -> None:
    for number in range(300):
        put(one.home, f"file{number:03}", b"x" * 50_000)
    log = put(one.home, "growing", b"y" * 1_000_000)
    stop = asyncio.Event()

    async def change() -> None:
        number = 299
        while not stop.is_set():
            with log.open("ab") as file:
                file.write(b"z" * 10_000)
            (one.home / f"file{number:03}").unlink(missing_ok=True)
            number = max(0, number - 1)
            await asyncio.sleep(0)

    changing = asyncio.create_task(change())
    facts = await one.make()
    stop.set()
    await changing
    assert facts.verified_at is not None
    with pytest.raises(Conflict, match="changed"):
        await last_of(one.archives.remove_home("anna", UID, facts.name, facts.sha256))
    assert log.exists()
    assert one.beside == []


@pytest.mark.slow  # a hundred thousand files, archived, read back and restored
async def test_h7_a_home_with_100000_files_comes_back_as_it_was(tmp_path: Path) -> None:
    """In memory, so that no disk is waited for."""
    run("mount", "-t", "tmpfs", "-o", "size=1g,mode=755", "tmpfs", tmp_path)
    try:
        root, other = tmp_path / "homes", tmp_path / "other"
        root.mkdir()
        other.mkdir()
        home = make_home(root, "anna", UID)
        for folder in range(100):
            path = home / f"folder{folder}"
            path.mkdir()
            at = os.open(path, os.O_RDONLY)
            for number in range(1000):
                file = os.open(f"file{number}", os.O_WRONLY | os.O_CREAT, 0o600 + number % 8, dir_fd=at)
                os.write(file, b"%d of %d" % (number, folder))
                os.close(file)
            os.close(at)
        facts = (
            await last_of(DirectArchives(PlainHomes(root), root, tmp_path / "archives", utc_now).make("anna", UID))
        ).archive
        assert facts is not None
        assert facts.entries == 100_101
        there = DirectArchives(PlainHomes(other), other, tmp_path / "archives", utc_now)
        await last_of(there.restore("anna", UID, facts.name, facts.sha256))
        assert (seen := _seen_by_tar(other)) == _seen_by_tar(root)
        (home / "folder99" / "file999").write_bytes(b"999 of 98")
        assert _seen_by_tar(root) != seen, "it would show"
    finally:
        run("umount", "--lazy", tmp_path)


def _seen_by_tar(folder: Path) -> str:
    """A digest of all that GNU tar sees: names, kinds, modes, owners, times in nanoseconds and content."""
    form = "exthdr.name=x,delete=atime,delete=ctime"
    command = ["tar", "--sort=name", "--numeric-owner", "--format=posix", f"--pax-option={form}", "-cf", "-", "anna"]
    with subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE) as tar:
        assert tar.stdout is not None
        digest = hashlib.sha256()
        while piece := tar.stdout.read(2**20):
            digest.update(piece)
        return digest.hexdigest()


async def test_on_btrfs_a_home_comes_back_as_one_that_can_be_limited(tmp_path: Path) -> None:
    with btrfs_in_a_file(400) as root:
        homes = BtrfsHomes(root)
        await homes.prepare("anna", UID, 64 * 2**20)
        put(root / "anna", "file", b"x" * 2**20)
        run("btrfs", "subvolume", "create", root / "anna" / "inner")
        put(root / "anna" / "inner", "deep", b"y")
        archives = DirectArchives(homes, root, tmp_path / "archives", utc_now)
        facts = (await last_of(archives.make("anna", UID))).archive
        assert facts is not None
        before = looks_of(root / "anna")
        assert "/inner/deep" in before
        await last_of(archives.remove_home("anna", UID, facts.name, facts.sha256))
        assert os.listdir(root) == []
        await last_of(archives.restore("anna", UID, facts.name, facts.sha256))
        assert looks_of(root / "anna") == before
        await homes.prepare("anna", UID, 64 * 2**20)
        assert (await homes.use("anna")).limit_bytes == 64 * 2**20


# -- whole, or not there -----------------------------------------------------------------------------------------------


async def test_h5_nothing_is_restored_over_a_home_that_is_there(kept: Archived) -> None:
    put(kept.home, "old")
    facts = await kept.make()
    (kept.home / "old").rename(kept.home / "new")
    with pytest.raises(Conflict, match="already"):
        await last_of(kept.archives.restore("anna", UID, facts.name, facts.sha256))
    assert os.listdir(kept.home) == ["new"]
    assert kept.beside == []


async def test_what_is_not_there_is_not_found(kept: Archived) -> None:
    facts = await kept.make()
    with pytest.raises(NotFound, match="no such archive"):
        await last_of(kept.archives.verify("anna", "20200101T000000Z", facts.sha256))
    with pytest.raises(NotFound, match="no such archive"):
        await last_of(kept.archives.verify("bert", facts.name, facts.sha256))
    with pytest.raises(NotFound, match="no such home"):
        await last_of(kept.archives.make("carl", UID))
    assert await kept.archives.of("carl") == []
    with pytest.raises(LaunchpadError, match=r"another user|does not belong"):
        await last_of(kept.archives.make("bert", UID))


def _flip(file: Path, at: float = 0.5) -> None:
    content = bytearray(file.read_bytes())
    content[int(len(content) * at)] ^= 0x55
    file.write_bytes(content)


def _cut(file: Path) -> None:
    os.truncate(file, file.stat().st_size // 2)


def _packed_again(file: Path, change: Callable[[bytes], bytes]) -> None:
    """As somebody would who knows the form: with what is inside it changed."""
    plain = zstandard.ZstdDecompressor().stream_reader(file.read_bytes()).read()
    changed = change(plain)
    assert changed != plain
    file.write_bytes(zstandard.ZstdCompressor().compress(changed))


def _renamed(name: bytes) -> Callable[[bytes], bytes]:
    """Of an entry, with the header's sum as it has to be then."""

    def change(plain: bytes) -> bytes:
        at = plain.index(b"harmless")
        block = bytearray(plain[at : at + 512])
        block[: len(name) + 1] = name + b"\0"
        block[148:156] = b" " * 8
        block[148:156] = b"%06o\0 " % sum(block)
        return plain[:at] + bytes(block) + plain[at + 512 :]

    return change


def _write(file: Path, text: str) -> None:
    file.write_text(text)


TAMPERED: dict[str, tuple[str, Callable[[Path], None]]] = {
    "a byte of the tar": (archive_folder.TAR, _flip),
    "a byte of the manifest": (archive_folder.MANIFEST, _flip),
    "the tar cut off": (archive_folder.TAR, _cut),
    "the manifest cut off": (archive_folder.MANIFEST, _cut),
    "an empty tar": (archive_folder.TAR, lambda file: os.truncate(file, 0)),
    "another content": (
        archive_folder.TAR,
        lambda file: _packed_again(file, lambda b: b.replace(b"content", b"CONTENT")),
    ),
    "another mode in the manifest": (
        archive_folder.MANIFEST,
        lambda file: _packed_again(file, lambda b: b.replace(b'"mode":416', b'"mode":2541')),
    ),
    "a name that leads up": (archive_folder.TAR, lambda file: _packed_again(file, _renamed(b"../../x"))),
    "an absolute name": (archive_folder.TAR, lambda file: _packed_again(file, _renamed(b"/etc/launchpad-x"))),
    "one entry less": (archive_folder.TAR, lambda file: _packed_again(file, lambda b: b[:-1536] + bytes(1024))),
    "something behind the end": (archive_folder.TAR, lambda file: _packed_again(file, lambda b: b + b"x" * 512)),
    "no tar at all": (archive_folder.TAR, lambda file: file.unlink()),
    "facts that are none": (archive_folder.FACTS, lambda file: _write(file, "[]")),
}


@pytest.mark.slow  # thirteen archives
async def test_h7_an_archive_that_was_tampered_with_is_told_apart_and_makes_and_removes_nothing(one: Archived) -> None:
    """With the table above; the archive itself, untouched, is the control."""
    put(one.home, "harmless", b"content").chmod(0o640)
    put(one.home, "last", b"")
    facts = await one.make()
    whole = one.on_disk(facts)
    aside = one.folder.parent / "aside"
    shutil.copytree(whole, aside)
    gone = one.root / "anna"
    for what, (name, tamper) in TAMPERED.items():
        shutil.rmtree(whole)
        shutil.copytree(aside, whole)
        tamper(whole / name)
        with pytest.raises(ArchiveDamaged):
            await last_of(one.archives.verify("anna", facts.name, facts.sha256))
        kept_aside = one.folder.parent / "home"
        gone.rename(kept_aside)
        with pytest.raises(ArchiveDamaged):
            await last_of(one.archives.restore("anna", UID, facts.name, facts.sha256))
        assert not gone.exists(), what
        assert one.beside == [], what
        kept_aside.rename(gone)
    shutil.rmtree(whole)
    shutil.copytree(aside, whole)
    with pytest.raises(ArchiveDamaged, match="not the one"):
        await last_of(one.archives.verify("anna", facts.name, "0" * 64))
    assert not Path("/etc/launchpad-x").exists()
    await last_of(one.archives.verify("anna", facts.name, facts.sha256))


async def test_a_full_disk_leaves_no_half_archive_and_no_half_home(tmp_path: Path) -> None:
    small, root = tmp_path / "small", tmp_path / "homes"
    small.mkdir()
    root.mkdir()
    home = make_home(root, "anna", UID)
    put(home, "noise", os.urandom(6 * 2**20))
    run("mount", "-t", "tmpfs", "-o", "size=4m,mode=755", "tmpfs", small)
    try:
        archives = DirectArchives(PlainHomes(root), root, small / "archives", utc_now)
        with pytest.raises(NoRoom):
            await last_of(archives.make("anna", UID))
        assert os.listdir(small / "archives" / "anna") == []
        elsewhere = DirectArchives(PlainHomes(root), root, tmp_path / "archives", utc_now)
        facts = (await last_of(elsewhere.make("anna", UID))).archive
        assert facts is not None
        (small / "homes").mkdir()
        there = DirectArchives(PlainHomes(small / "homes"), small / "homes", tmp_path / "archives", utc_now)
        with pytest.raises(NoRoom):
            await last_of(there.restore("anna", UID, facts.name, facts.sha256))
        assert os.listdir(small / "homes") == []
        make_home(small / "homes", "bert", STRANGER)
        with pytest.raises(NoRoom):
            await last_of(there.copy("anna", UID, facts.name, facts.sha256, "bert", STRANGER, "A copy"))
        assert os.listdir(small / "homes" / "bert") == [".local"]
        assert os.listdir(small / "homes" / "bert" / ".local/share/launchpad-uploads") == []
    finally:
        run("umount", "--lazy", small)


async def test_who_stops_listening_ends_it_and_nothing_half_stays(kept: Archived) -> None:
    for number in range(200):
        put(kept.home, f"file{number}", os.urandom(100_000))
    told = kept.archives.make("anna", UID)
    async for said in told:
        assert not said.is_done
        break
    await told.aclose()  # type: ignore[attr-defined]
    await _until(lambda: kept.beside == [] and not archivers())
    assert await kept.archives.of("anna") == []
    facts = await kept.make()
    shutil.rmtree(kept.home)
    told = kept.archives.restore("anna", UID, facts.name, facts.sha256)
    assert not (await anext(told)).is_done
    await told.aclose()  # type: ignore[attr-defined]
    await _until(lambda: kept.beside == [] and not archivers())
    assert not kept.home.exists()


KILLED = """
import asyncio, os, sys
from pathlib import Path
from launchpad.storage.direct_archives import DirectArchives
from launchpad.storage.plain import PlainHomes
from launchpad.storage.choose import utc_now
root, folder, verb, *rest = sys.argv[1:]
async def main():
    archives = DirectArchives(PlainHomes(Path(root)), Path(root), Path(folder), utc_now)
    async for said in getattr(archives, verb)("anna", int(rest[0]), *rest[1:]):
        print(said.stage, said.files, flush=True)
asyncio.run(main())
"""


@pytest.mark.slow  # waits for three processes to be killed and for their children to end
async def test_h5_what_a_kill_leaves_behind_is_told_apart_and_removed(one: Archived) -> None:
    """Amid an archive, a restore and a removal: nothing of it passes for whole, and the home is there or gone."""
    for number in range(1500):
        put(one.home, f"file{number}", b"%d" % number * 1000)
    before = looks_of(one.home)

    def killed(at: str, verb: str, *arguments: str) -> None:
        command = [sys.executable, "-c", KILLED, str(one.root), str(one.folder), verb, str(UID), *arguments]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            for line in process.stdout:
                if line.startswith(at):
                    break
            process.kill()

    killed("archiving", "make")
    assert await one.archives.of("anna") == []
    facts = await one.make()
    killed("comparing", "remove_home", facts.name, facts.sha256)
    await _until(lambda: not archivers())
    await one.archives.tidy()
    assert looks_of(one.home) == before, "it was only looked at: it is where it was"
    killed("removing", "remove_home", facts.name, facts.sha256)
    await _until(lambda: not archivers())
    await one.archives.tidy()
    assert not one.home.exists()
    killed("restoring", "restore", facts.name, facts.sha256)
    await _until(lambda: not archivers())
    assert not one.home.exists()
    await one.archives.tidy()
    assert one.beside == []
    await last_of(one.archives.restore("anna", UID, facts.name, facts.sha256))
    assert looks_of(one.home) == before


async def test_what_others_work_on_is_not_tidied_away(one: Archived) -> None:
    for number in range(300):
        put(one.home, f"file{number}", os.urandom(20_000))
    other = DirectArchives(PlainHomes(one.root), one.root, one.folder, utc_now)
    async for said in one.archives.make("anna", UID):
        if said.stage == "archiving":
            assert await other.tidy() == 0
    facts = (await one.archives.of("anna"))[0]
    shutil.rmtree(one.home)
    async for said in one.archives.restore("anna", UID, facts.name, facts.sha256):
        if said.stage == "restoring" and not said.is_done:
            assert await other.tidy() == 0
    assert len(os.listdir(one.home)) == 300


async def test_a_home_is_removed_only_as_it_was_archived_and_only_after_that_was_read_back(one: Archived) -> None:
    file = put(one.home, "file", b"before")
    facts = await one.make()
    status = file.stat()
    file.write_bytes(b"behind")  # as long, and made to look as old
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
    with pytest.raises(Conflict, match="has changed since"):
        await last_of(one.archives.remove_home("anna", UID, facts.name, facts.sha256))
    assert file.read_bytes() == b"behind"
    put(one.home, "new")
    facts = await one.make()
    (one.on_disk(facts) / archive_folder.VERIFIED).unlink()
    with pytest.raises(Conflict, match="not verified"):
        await last_of(one.archives.remove_home("anna", UID, facts.name, facts.sha256))
    assert (await one.archives.summary()).unverified == ["anna"]
    await last_of(one.archives.verify("anna", facts.name, facts.sha256))
    assert (await one.archives.summary()).unverified == []
    (one.home / "newer").mkdir()
    with pytest.raises(Conflict, match="has changed since"):
        await last_of(one.archives.remove_home("anna", UID, facts.name, facts.sha256))
    (one.home / "newer").rmdir()
    with pytest.raises(Conflict, match="has changed since"):  # the folder's own time
        await last_of(one.archives.remove_home("anna", UID, facts.name, facts.sha256))
    assert sorted(os.listdir(one.home)) == ["file", "new"]
    assert one.beside == []


# -- copies ------------------------------------------------------------------------------------------------------------


@pytest.mark.slow  # two homes with everything in them
async def test_a_copy_is_the_recipients_own_and_holds_all_content(kept: Archived) -> None:
    fill(kept.home)
    facts = await kept.make()
    plain = {name: (look[4], look[6]) for name, look in looks_of(kept.home).items() if len(look) == 8}
    await last_of(kept.archives.copy("anna", UID, facts.name, facts.sha256, "bert", STRANGER, "Files of anna"))
    await last_of(kept.archives.copy("anna", UID, "", "", "bert", STRANGER, "Now of anna"))
    for folder in ("Files of anna", "Now of anna"):
        found = looks_of(kept.root / "bert" / folder)
        assert {name: (look[4], look[6]) for name, look in found.items() if len(look) == 8} == plain
        assert {look[1:3] for look in found.values()} == {(STRANGER, STRANGER)}
        assert {look[0] for look in found.values()} == {"0o40700", "0o100600", "0o100700", "0o120777"}
        assert all(look[5] == () for look in found.values() if len(look) > 5)
        assert "/pipe" not in found
    with pytest.raises(Conflict):
        await last_of(kept.archives.copy("anna", UID, "", "", "bert", STRANGER, "Now of anna"))
    assert os.listdir(kept.root / "bert" / ".local/share/launchpad-uploads") == []


# -- where they are ----------------------------------------------------------------------------------------------------


async def test_a_folder_that_is_missing_or_others_own_is_told_and_not_used(tmp_path: Path) -> None:
    root = tmp_path / "homes"
    root.mkdir()
    put(make_home(root, "anna", UID), "file")

    def archives(folder: Path) -> DirectArchives:
        return DirectArchives(PlainHomes(root), root, folder, utc_now)

    with pytest.raises(HomeUnavailable, match="does not exist"):
        await last_of(archives(tmp_path / "disk" / "archives").make("anna", UID))
    (tmp_path / "open").mkdir(mode=0o777)
    (tmp_path / "open").chmod(0o777)
    with pytest.raises(HomeUnavailable, match="not the server's alone"):
        await last_of(archives(tmp_path / "open").make("anna", UID))
    assert "not the server's alone" in (await archives(tmp_path / "open").summary()).obstacle
    (tmp_path / "file").write_text("x")
    assert "is not a directory" in (await archives(tmp_path / "file").summary()).obstacle
    good = archives(tmp_path / "good")
    await last_of(good.make("anna", UID))
    assert (await good.summary()).number == 1
    found = list((tmp_path / "good").rglob("*"))
    assert {path.name for path in found if path.is_file()} == NAMES
    assert {oct(path.stat().st_mode & 0o777) for path in found} == {"0o700", "0o600"}


def archivers() -> list[str]:
    found = []
    for entry in Path("/proc").iterdir():
        try:
            command = (entry / "cmdline").read_bytes() if entry.name.isdecimal() else b""
        except OSError:
            continue
        if b"archiver.run" in command:
            found.append(command.split(b"\0")[-3].decode())
    return found


async def _until(is_so: Callable[[], Any]) -> None:
    deadline = time.monotonic() + 60
    while not is_so():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.05)


async def test_each_process_has_no_more_rights_than_it_needs(one: Archived, monkeypatch: pytest.MonkeyPatch) -> None:
    """None is root, and each is shut in; held by what the kernel says of them while they work."""
    for number in range(400):
        put(one.home, f"file{number}", os.urandom(20_000))
    seen: dict[str, set[tuple[int, str, bool]]] = {}
    begin = Crew.begin

    async def watched(self: Any, role: str, **wanted: Any) -> None:
        await begin(self, role, **wanted)
        pid = self._processes[-1].pid
        os.kill(pid, 0)
        loop = asyncio.get_running_loop()
        for _ in range(2000):
            state = await loop.run_in_executor(None, _rights, pid)
            if state is None:
                break
            if state[0] != 0:
                seen.setdefault(role, set()).add(state)
                break
            await asyncio.sleep(0.005)

    monkeypatch.setattr(Crew, "begin", watched)
    facts = await one.make()
    await last_of(one.archives.copy("anna", UID, facts.name, facts.sha256, "bert", STRANGER, "A copy"))
    await last_of(one.archives.remove_home("anna", UID, facts.name, facts.sha256))
    await last_of(one.archives.restore("anna", UID, facts.name, facts.sha256))
    nobody, chown, override, search, owner, setid = 65534, 1, 2, 4, 8, 16
    assert seen == {
        "compress": {(nobody, f"{0:016x}", True)},
        "pack": {(nobody, f"{search:016x}", True)},
        "check": {(nobody, f"{0:016x}", True)},
        "compare": {(nobody, f"{search:016x}", True)},
        "unpack": {(nobody, f"{chown | override | owner | setid:016x}", True)},
        "erase": {(nobody, f"{override | owner:016x}", True)},
        "take": {(STRANGER, f"{0:016x}", True)},
    }


def _rights(pid: int) -> tuple[int, str, bool] | None:
    """A process's uid, what capabilities it can ever have, and whether it is shut in; None: it has ended."""
    try:
        text = Path(f"/proc/{pid}/status").read_text()
        lines = dict(line.split(":\t", 1) for line in text.splitlines() if ":\t" in line)
        shut_in = os.readlink(f"/proc/{pid}/root") != "/"
    except OSError:
        return None
    uids = set(lines["Uid"].split())
    return int(uids.pop()) if len(uids) == 1 else 0, lines["CapPrm"], shut_in
