"""Reads an archive to its end, beside its manifest, and hands on what is proved to be as it was archived."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any, BinaryIO, Protocol

from ...errors import ArchiveDamaged
from .manifest import TOP, VERSION, ManifestReader, Record
from .reporting import Reporter
from .tar import FILE, FOLDER, Header, padding, read

PIECE = 1024 * 1024


class Sink(Protocol):
    """What makes something of an archive. A file's attributes come behind its content, as the manifest has them."""

    def folder(self, names: list[str]) -> None:
        """A folder below those that were told before, to be filled with what follows."""

    def begin(self, names: list[str], header: Header) -> None:
        """A file, which gets its content next."""

    def write(self, at: int, content: bytes) -> None: ...

    def other(self, names: list[str], header: Header) -> None:
        """A link, a further name of a file, or a FIFO."""

    def finish(self, names: list[str], record: Record) -> None:
        """Everything has come of what was told last, and this is what it is like."""

    def end(self) -> None: ...


class Nothing:
    """For whoever only wants to know that it is whole."""

    def folder(self, names: list[str]) -> None: ...
    def begin(self, names: list[str], header: Header) -> None: ...
    def write(self, at: int, content: bytes) -> None: ...
    def other(self, names: list[str], header: Header) -> None: ...
    def finish(self, names: list[str], record: Record) -> None: ...
    def end(self) -> None: ...


class Source:
    """The tar, unpacked."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def exactly(self, length: int) -> bytes:
        held = self._file.read(length)
        if len(held) != length:
            raise ArchiveDamaged("it ends before its end")
        return held


class Receiver:
    """Args: sha256: what the manifest has to have; empty: anything (of what was not archived yet)."""

    def __init__(self, tar: BinaryIO, manifest: BinaryIO, sink: Sink, reporter: Reporter, sha256: str) -> None:
        self._source = Source(tar)
        self._tar = tar
        self._manifest = ManifestReader(manifest)
        self._sink = sink
        self._reporter = reporter
        self._sha256 = sha256
        self._way: list[str] = []  # the folder that the last entry lay in or was
        self.first: Mapping[str, Any] = {}

    def receive(self) -> dict[str, Any]:
        """Everything. Returns what the manifest's last line says, and its SHA-256.

        Raises:
            ArchiveDamaged: something is not as it was archived.
            OSError: of the sink.
        """
        self.first = self._manifest.read()
        if self.first.get("launchpad_home_archive") != VERSION:
            raise ArchiveDamaged("it is of another version, or no archive of a home")
        entries = 0
        while (header := read(self._source)) is not None:
            self._one(header, is_first=entries == 0)
            entries += 1
            self._reporter.tick(files=1)
        if self._tar.read(1):
            raise ArchiveDamaged("something follows behind its end")
        last = self._manifest.read()
        if last.get("end") is not True or last.get("entries") != entries or not self._manifest.is_at_end:
            raise ArchiveDamaged("the manifest lists something that is missing")
        if self._sha256 and self._manifest.sha256 != self._sha256:
            raise ArchiveDamaged("the manifest is not the one that was written when the home was archived")
        self._sink.end()
        return {**last, "sha256": self._manifest.sha256}

    def _one(self, header: Header, *, is_first: bool) -> None:
        names = self._names(header, is_first=is_first)
        digest = ""
        if header.kind == FOLDER:
            self._sink.folder(names)
            self._way = names
        elif header.kind == FILE:
            self._sink.begin(names, header)
            digest = self._content(header)
        else:
            self._sink.other(names, header)
        record = Record.of(self._manifest.read())
        if record.header != header or (header.kind == FILE and record.sha256 != digest):
            raise ArchiveDamaged("something is not as the manifest says")
        self._sink.finish(names, record)

    def _names(self, header: Header, *, is_first: bool) -> list[str]:
        """Of the folders that it lies in, and its own: each below one that has come before, and behind it."""
        if is_first:
            if header.path != TOP or header.kind != FOLDER:
                raise ArchiveDamaged("it does not begin with the home folder")
            return []
        names = header.path.split("/")
        above = names[:-1]
        if any(name in ("", ".", "..") or "\0" in name for name in names) or self._way[: len(above)] != above:
            raise ArchiveDamaged("something has an impossible place")
        self._way = above
        return names

    def _content(self, header: Header) -> str:
        digest = hashlib.sha256()
        for at, length in header.segments if header.segments is not None else [(0, header.size)]:
            while length:
                piece = self._source.exactly(min(PIECE, length))
                digest.update(piece)
                self._sink.write(at, piece)
                at += len(piece)
                length -= len(piece)
                self._reporter.tick(length=len(piece))
        if any(self._source.exactly(len(padding(header.stored)))):
            raise ArchiveDamaged("there is something between two files")
        return digest.hexdigest()
