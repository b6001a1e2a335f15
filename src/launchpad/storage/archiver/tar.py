"""Headers of tar archives (POSIX ustar, with pax records where that is too narrow), written and read.

What is written here GNU tar and Python read, too: holes are told as in GNU's sparse format 1.0, extended attributes and
access lists as `SCHILY.xattr.…`. What is read here is what is written here, and nothing else.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from ...errors import ArchiveDamaged

BLOCK = 512
END = bytes(2 * BLOCK)
FILE, HARD_LINK, LINK, FOLDER, FIFO, PAX = b"0", b"1", b"2", b"5", b"6", b"x"
LONGEST_RECORDS = 8 * 1024 * 1024
MOST_SEGMENTS = 100_000
NAME_BYTES = 100  # of the header's own fields for names
MOST_OCTAL_ID, MOST_OCTAL_SIZE, MOST_OCTAL_TIME = 8**7 - 1, 8**11 - 1, 8**11 - 1
XATTR = "SCHILY.xattr."
Segments = Sequence[tuple[int, int]]


class Source(Protocol):
    def exactly(self, length: int) -> bytes:
        """So many bytes; raises ArchiveDamaged where there are fewer."""


@dataclass(frozen=True)
class Header:
    """An entry, as the tar tells it. Names as Python has those of files.

    Attributes:
        size: of the file, holes included.
        segments: of a file with holes, from where on how many bytes there are.
        stored: how many bytes of content follow, after the map of the segments.
    """

    kind: bytes
    path: str
    mode: int = 0
    uid: int = 0
    gid: int = 0
    seconds: int = 0
    size: int = 0
    link: str = ""
    xattrs: Mapping[str, bytes] = field(default_factory=dict)
    segments: Segments | None = None

    @property
    def stored(self) -> int:
        return self.size if self.segments is None else sum(length for _, length in self.segments)


def padding(length: int) -> bytes:
    return bytes(-length % BLOCK)


def packed(header: Header) -> bytes:
    """All that comes before the content."""
    path, link = os.fsencode(header.path), os.fsencode(header.link)
    if header.kind == FOLDER:
        path += b"/"
    stored, before = header.stored, b""
    records: dict[str, bytes] = {}
    if header.segments is not None:
        before = _map_of([*header.segments, (header.size, 0)])  # the last one tells GNU tar of a hole at the end
        stored += len(before)
        records |= {"GNU.sparse.major": b"1", "GNU.sparse.minor": b"0", "GNU.sparse.name": path}
        records["GNU.sparse.realsize"] = b"%d" % header.size
        path = b"GNUSparseFile.0/" + path[-60:].rpartition(b"/")[2]
    if len(path) > NAME_BYTES:
        records["path"] = path
    if len(link) > NAME_BYTES:
        records["linkpath"] = link
    if stored > MOST_OCTAL_SIZE:
        records["size"] = b"%d" % stored
    if header.uid > MOST_OCTAL_ID:
        records["uid"] = b"%d" % header.uid
    if header.gid > MOST_OCTAL_ID:
        records["gid"] = b"%d" % header.gid
    records |= {XATTR + _escaped(name): value for name, value in header.xattrs.items()}
    own = _block(header.kind, path, link, header, stored)
    if not records:
        return own + before
    body = _records(records)
    beside = _block(PAX, b"PaxHeaders/" + path[-60:], b"", Header(PAX, "", 0o600), len(body))
    return beside + body + padding(len(body)) + own + before


def _block(kind: bytes, path: bytes, link: bytes, header: Header, size: int) -> bytes:
    uid, gid = (0 if number > MOST_OCTAL_ID else number for number in (header.uid, header.gid))
    size = 0 if size > MOST_OCTAL_SIZE else size
    block = b"".join(
        (
            path[:NAME_BYTES].ljust(NAME_BYTES, b"\0"),
            b"%07o\0%07o\0%07o\0%011o\0%011o\0" % (header.mode, uid, gid, size, clamped(header.seconds)),
            b" " * 8,  # in the place of the sum
            kind,
            link[:NAME_BYTES].ljust(NAME_BYTES, b"\0"),
            b"ustar\x0000",
            bytes(64),  # names of owner and group
            b"%07o\0%07o\0" % (0, 0),
            bytes(167),
        )
    )
    return block[:148] + b"%06o\0 " % sum(block) + block[156:]


def clamped(seconds: int) -> int:
    """What the header can say of a time; the manifest knows it exactly."""
    return min(max(seconds, 0), MOST_OCTAL_TIME)


def _map_of(segments: Segments) -> bytes:
    text = b"".join(b"%d\n" % number for number in (len(segments), *(one for pair in segments for one in pair)))
    return text + padding(len(text))


def _records(records: Mapping[str, bytes]) -> bytes:
    """A record has its own length in front."""
    said = b""
    for name, value in records.items():
        rest = b" %b=%b\n" % (name.encode("utf-8", "surrogateescape"), value)
        length = len(rest) + len(str(len(rest)))
        length = len(rest) + len(str(length))
        said += b"%d%b" % (length, rest)
    return said


def _escaped(name: str) -> str:
    """As GNU tar does: a record's name ends at the first equals sign."""
    return name.replace("%", "%25").replace("=", "%3D")


def _plain(name: str) -> str:
    return name.replace("%3D", "=").replace("%25", "%")


def read(source: Source) -> Header | None:
    """The next entry; None: the archive is at its end.

    Raises:
        ArchiveDamaged: that is no entry such as is written here.
    """
    block = source.exactly(BLOCK)
    if not any(block):
        if any(source.exactly(BLOCK)):
            raise ArchiveDamaged("it has no proper end")
        return None
    records: dict[str, bytes] = {}
    if _checked(block)[156:157] == PAX:
        length = _number(block[124:136])
        if length > LONGEST_RECORDS:
            raise ArchiveDamaged("a header is too long")
        records = _read_records(source.exactly(length))
        source.exactly(-length % BLOCK)
        block = _checked(source.exactly(BLOCK))
    kind = block[156:157]
    if kind not in (FILE, HARD_LINK, LINK, FOLDER, FIFO):
        raise ArchiveDamaged("there is an entry of a kind that is never archived")
    return _header_of(kind, block, records, source)


def _header_of(kind: bytes, block: bytes, records: dict[str, bytes], source: Source) -> Header:
    xattrs = {_plain(name[len(XATTR) :]): records.pop(name) for name in list(records) if name.startswith(XATTR)}
    path = records.pop("path", block[:100].rstrip(b"\0"))
    link = records.pop("linkpath", block[157:257].rstrip(b"\0"))
    stored = _decimal(records.pop("size", None), _number(block[124:136]))
    uid = _decimal(records.pop("uid", None), _number(block[108:116]))
    gid = _decimal(records.pop("gid", None), _number(block[116:124]))
    size, segments = stored, None
    if "GNU.sparse.major" in records and kind == FILE:
        if (records.pop("GNU.sparse.major"), records.pop("GNU.sparse.minor", b"")) != (b"1", b"0"):
            raise ArchiveDamaged("holes are told in an unknown way")
        path = records.pop("GNU.sparse.name", b"")
        size = _decimal(records.pop("GNU.sparse.realsize", None), -1)
        segments = _read_map(source, size, stored)
    if records:
        raise ArchiveDamaged("a header says more than it should")
    if kind != FILE and stored:
        raise ArchiveDamaged("something has content that can have none")
    if kind == FOLDER:
        path = path.removesuffix(b"/")
    return Header(
        kind,
        os.fsdecode(path),
        _number(block[100:108]),
        uid,
        gid,
        _number(block[136:148]),
        size,
        os.fsdecode(link),
        xattrs,
        segments,
    )


class _Map:
    """The numbers in front of the content of a file with holes, a line each, up to the end of a block."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self.left = b""
        self.read = 0

    def number(self) -> int:
        while b"\n" not in self.left:
            if len(self.left) > BLOCK:
                raise ArchiveDamaged("a map of holes is damaged")
            self.left += self._source.exactly(BLOCK)
            self.read += BLOCK
        line, _, self.left = self.left.partition(b"\n")
        return _decimal(line, 0)


def _read_map(source: Source, size: int, stored: int) -> Segments:
    lines = _Map(source)
    count = lines.number()
    if count > MOST_SEGMENTS + 1:
        raise ArchiveDamaged("a map of holes is too long")
    segments = [(lines.number(), lines.number()) for _ in range(count)]
    at = 0
    for begins, length in segments:
        if begins < at or begins + length > size:
            raise ArchiveDamaged("a map of holes is impossible")
        at = begins + length
    if not segments or segments.pop() != (size, 0):
        raise ArchiveDamaged("a map of holes has no end")
    if any(lines.left) or lines.read + sum(length for _, length in segments) != stored:
        raise ArchiveDamaged("a map of holes does not fit its file")
    return segments


def _checked(block: bytes) -> bytes:
    told = _number(block[148:156])
    if told != sum(block) - sum(block[148:156]) + 8 * 32 or block[257:265] != b"ustar\x0000":
        raise ArchiveDamaged("a header is damaged")
    return block


def _number(digits: bytes) -> int:
    text = digits.rstrip(b"\0 ")
    if not text:
        return 0
    try:
        return int(text, 8)
    except ValueError:
        raise ArchiveDamaged("a number is none") from None


def _decimal(text: bytes | None, default: int) -> int:
    if text is None:
        return default
    if not text.isdigit() or len(text) > 20:
        raise ArchiveDamaged("a number is none")
    return int(text)


def _read_records(body: bytes) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    at = 0
    while at < len(body):
        space = body.find(b" ", at, at + 12)
        length = _decimal(body[at:space], 0) if space > at else 0
        record = body[space + 1 : at + length]
        name, equals, value = record.partition(b"=")
        if length <= space - at + 2 or at + length > len(body) or not equals or not value.endswith(b"\n"):
            raise ArchiveDamaged("a header is damaged")
        found[name.decode("utf-8", "surrogateescape")] = value[:-1]
        at += length
    return found
