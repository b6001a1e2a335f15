"""Files and folders as one zip, made while it is sent: nothing of it lies anywhere, whatever its size.

The form is that of PKWARE's APPNOTE 6.3: sizes follow the content (a data descriptor), always with the fields of zip64,
since nobody knows a size beforehand. Links are stored as links. What cannot be read, or was changed while it was read,
is told in the last entry.
"""

from __future__ import annotations

import os
import re
import stat
import struct
import time
import zlib
from collections.abc import Sequence
from typing import Any

from ...errors import InvalidInput
from .beneath import names_of
from .home import Home, refusal_of
from .line import PIECE
from .tree import Walk

NOTES = "launchpad-notes.txt"
UTF8, DESCRIPTOR = 0x800, 0x08
STORED, DEFLATED = 0, 8
VERSION = 45  # needed to extract: zip64
MADE_BY = 3 << 8 | 63  # Unix
FOLLOWS = 2**32 - 1  # the number is in zip64's field
LEVEL = 1  # as quick as a network
READ_BYTES = 256 * 1024
NAME_BYTES = 65_000
MOST_NOTES = 1000
# What is compressed already is only stored.
DENSE = re.compile(
    r"\.(7z|avif|bz2|docx|feather|flac|gif|gz|h5|heic|jar|jpe?g|m4a|mkv|mov|mp[34]|npz|od[st]|ogg|parquet|pdf|png|pptx"
    r"|rdata|rds|tgz|webm|webp|whl|xlsx|xz|zip|zst)$",
    re.IGNORECASE,
)


def send(home: Home, request: dict[str, Any]) -> None:
    paths = request.get("paths")
    if not isinstance(paths, list) or not paths:
        raise InvalidInput("Say what the archive should hold.")
    places = [names_of(path) for path in paths]
    for names in places:  # what is not there at all is said before anything is sent
        if names:
            with home.place("/".join(names)) as (folder, name):
                os.stat(name, dir_fd=folder, follow_symlinks=False)
    home.line.say(names=[names[-1] if names else "" for names in places])
    archive = _Archive(home)
    taken: set[str] = set()
    for names in places:
        if not names:
            with home.folder("") as top:
                archive.tree(top, "")
            continue
        with home.place("/".join(names)) as (folder, name):
            archive.any(folder, name, _free(name, taken))
    archive.end()
    home.line.send(b"")


def _free(name: str, taken: set[str]) -> str:
    free, turn = name, 2
    while free in taken:
        free, turn = f"{name} ({turn})", turn + 1
    taken.add(free)
    return free


class _Archive:
    def __init__(self, home: Home) -> None:
        self._home = home
        self._offset = 0
        self._held = bytearray()
        self._central = bytearray()
        self._entries = 0
        self._notes: list[str] = []
        self._notes_count = 0

    def any(self, folder: int, name: str, path: str) -> None:
        """Whatever it is, under a path of the archive."""
        status = os.stat(name, dir_fd=folder, follow_symlinks=False)
        if not stat.S_ISDIR(status.st_mode):
            self._one(folder, name, path)
            return
        try:
            inside = self._home.beneath.child(folder, name)
        except OSError as error:
            self._note(path, refusal_of(error).detail)
            return
        try:
            self._folder(path, os.fstat(inside))
            self.tree(inside, path + "/")
        finally:
            os.close(inside)

    def tree(self, top: int, prefix: str) -> None:
        for step in Walk(self._home.beneath, top, ordered=True):
            path = prefix + "/".join([*step.names, step.name])
            if step.kind == "entry":
                self._one(step.folder, step.name, path)
            elif step.kind == "down":
                self._folder(path, os.fstat(step.inside))
            elif step.kind == "closed":
                self._note(path, refusal_of(step.trouble or OSError()).detail)
            self._home.line.look()

    def end(self) -> None:
        """The notes, and what makes an archive of it."""
        if self._notes:
            more = self._notes_count - len(self._notes)
            lines = [*self._notes, *([f"and {more} more"] if more else [])]
            text = "Not everything could be put into this archive as it was:\n\n" + "\n".join(lines) + "\n"
            self._whole(NOTES, text.encode("utf-8", "replace"), 0o100600, time.time())
        begin, size = self._offset, len(self._central)
        self._put(self._central)
        end = struct.pack(
            "<4sQHHIIQQQQ", b"PK\x06\x06", 44, MADE_BY, VERSION, 0, 0, self._entries, self._entries, size, begin
        )
        locator = struct.pack("<4sIQI", b"PK\x06\x07", 0, begin + size, 1)
        few, low = min(self._entries, 0xFFFF), 0xFFFFFFFF
        last = struct.pack("<4sHHHHIIH", b"PK\x05\x06", 0, 0, few, few, min(size, low), min(begin, low), 0)
        self._put(end + locator + last)
        self._flush()

    def _one(self, folder: int, name: str, path: str) -> None:
        try:
            status = os.stat(name, dir_fd=folder, follow_symlinks=False)
            if stat.S_ISLNK(status.st_mode):
                self._whole(path, os.fsencode(os.readlink(name, dir_fd=folder)), status.st_mode, status.st_mtime)
            elif stat.S_ISREG(status.st_mode):
                self._file(folder, name, path)
            else:
                self._note(path, "a pipe, a socket or a device; left out")
        except FileNotFoundError:
            self._note(path, "was removed meanwhile; left out")
        except OSError as error:
            self._note(path, f"{refusal_of(error).detail} Left out.")

    def _file(self, folder: int, name: str, path: str) -> None:
        """A file as long as it was when it was opened: one that grows is not followed permanently."""
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
        file = os.open(name, flags, dir_fd=folder)
        try:
            status = os.fstat(file)
            if not stat.S_ISREG(status.st_mode):
                self._note(path, "a pipe, a socket or a device; left out")
                return
            dense = DENSE.search(path) is not None
            entry = self._begin(path, status.st_mode, status.st_mtime, STORED if dense else DEFLATED)
            if entry is None:
                return
            packer = None if dense else zlib.compressobj(LEVEL, zlib.DEFLATED, -15)
            checksum = size = packed = 0
            while size < status.st_size:
                try:
                    piece = os.read(file, min(READ_BYTES, status.st_size - size))
                except OSError as error:
                    self._note(path, f"{refusal_of(error).detail} Only its first {size} bytes are here.")
                    break
                if not piece:
                    break
                checksum = zlib.crc32(piece, checksum)
                size += len(piece)
                content = packer.compress(piece) if packer else piece
                packed += len(content)
                self._put(content)
            if packer:
                content = packer.flush()
                packed += len(content)
                self._put(content)
            self._finish(entry, checksum, packed, size)
            now = os.fstat(file)
            if size < status.st_size or now.st_size != status.st_size:
                self._note(path, f"had {status.st_size} bytes at first and {now.st_size} later; {size} are here")
            elif now.st_mtime_ns != status.st_mtime_ns:
                self._note(path, "was changed while it was read")
        finally:
            os.close(file)

    def _folder(self, path: str, status: os.stat_result) -> None:
        self._whole(path + "/", b"", status.st_mode, status.st_mtime)

    def _whole(self, path: str, content: bytes, mode: int, mtime: float) -> None:
        entry = self._begin(path, mode, mtime, STORED)
        if entry is not None:
            self._put(content)
            self._finish(entry, zlib.crc32(content), len(content), len(content))

    def _begin(self, path: str, mode: int, mtime: float, method: int) -> tuple[Any, ...] | None:
        name, flags = os.fsencode(path), DESCRIPTOR
        try:
            name.decode("utf-8")
            flags |= UTF8
        except UnicodeDecodeError:
            pass  # its bytes as they are
        if len(name) > NAME_BYTES:
            self._note(path[:200] + "…", "its path is too long for an archive; left out")
            return None
        day, moment = _dos_time(mtime)
        offset = self._offset
        extra = struct.pack("<HHQQ", 1, 16, 0, 0)
        about = (VERSION, flags, method, moment, day, 0, FOLLOWS, FOLLOWS, len(name), len(extra))
        self._put(struct.pack("<4s5H3I2H", b"PK\x03\x04", *about) + name + extra)
        return name, flags, method, moment, day, mode, offset

    def _finish(self, entry: Sequence[Any], checksum: int, packed: int, size: int) -> None:
        name, flags, method, moment, day, mode, offset = entry
        self._put(struct.pack("<4sIQQ", b"PK\x07\x08", checksum, packed, size))
        extra = struct.pack("<HHQQQ", 1, 24, size, packed, offset)
        attributes = (mode & 0xFFFF) << 16 | (0x10 if name.endswith(b"/") else 0)
        self._central += struct.pack(
            "<4s6H3I5H2I",
            b"PK\x01\x02",
            MADE_BY,
            VERSION,
            flags,
            method,
            moment,
            day,
            checksum,
            FOLLOWS,
            FOLLOWS,
            len(name),
            len(extra),
            0,
            0,
            0,
            attributes,
            FOLLOWS,
        )
        self._central += name + extra
        self._entries += 1

    def _note(self, path: str, text: str) -> None:
        self._notes_count += 1
        if len(self._notes) < MOST_NOTES:
            self._notes.append(f"{path}: {text}")

    def _put(self, content: bytes | bytearray) -> None:
        self._offset += len(content)
        self._held += content
        if len(self._held) >= PIECE:
            self._flush()

    def _flush(self) -> None:
        view = memoryview(self._held)
        for at in range(0, len(view), PIECE):
            self._home.line.send(view[at : at + PIECE])
        view.release()
        self._held = bytearray()


def _dos_time(mtime: float) -> tuple[int, int]:
    """UTC, in steps of two seconds, between 1980 and 2107."""
    year, month, day, hour, minute, second, *_ = time.gmtime(min(max(mtime, 0), 2**33))
    if not 1980 <= year <= 2107:
        year, month, day, hour, minute, second = (1980 if year < 1980 else 2107), 1, 1, 0, 0, 0
    return (year - 1980) << 9 | month << 5 | day, hour << 11 | minute << 5 | second // 2
