"""The manifest of an archive: a line of JSON for each entry, in the tar's order, between a first and a last line.

It is the archive's word on everything: what the tar cannot say (nanoseconds, when a file was changed last) and the
SHA-256 of every file. Of a file with holes that is the SHA-256 of what lies in `segments`, one after the other.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, BinaryIO

from ...errors import ArchiveDamaged
from .tar import FIFO, FILE, FOLDER, HARD_LINK, LINK, Header, Segments, clamped

VERSION = 1
LONGEST_LINE = 16 * 1024 * 1024
KINDS = {"file": FILE, "hard-link": HARD_LINK, "link": LINK, "folder": FOLDER, "fifo": FIFO}
TOP = "."  # the home itself
ATTRIBUTES = ("system.posix_acl_access", "system.posix_acl_default")  # and all that users can set


@dataclass(frozen=True)
class Record:
    """One entry. `ctime_ns` tells, beside the home that it was archived from, that nothing of it was changed since."""

    path: str
    kind: str
    mode: int
    uid: int
    gid: int
    mtime_ns: int
    ctime_ns: int
    size: int = 0
    link: str = ""
    xattrs: Mapping[str, bytes] = field(default_factory=dict)
    segments: Segments | None = None
    sha256: str = ""
    changed: bool = False  # while it was read, so that the archive may have something of before and something of after

    @property
    def header(self) -> Header:
        return Header(
            KINDS[self.kind],
            self.path,
            self.mode,
            self.uid,
            self.gid,
            clamped(self.mtime_ns // 10**9),
            self.size,
            self.link,
            self.xattrs,
            self.segments,
        )

    @property
    def said(self) -> dict[str, Any]:
        said: dict[str, Any] = {
            "path": self.path,
            "kind": self.kind,
            "mode": self.mode,
            "uid": self.uid,
            "gid": self.gid,
            "mtime_ns": self.mtime_ns,
            "ctime_ns": self.ctime_ns,
        }
        if self.kind == "file":
            said |= {"size": self.size, "sha256": self.sha256}
        if self.link:
            said["link"] = self.link
        if self.xattrs:
            said["xattrs"] = {name: base64.b64encode(value).decode() for name, value in self.xattrs.items()}
        if self.segments is not None:
            said["segments"] = [list(pair) for pair in self.segments]
        if self.changed:
            said["changed"] = True
        return said

    @classmethod
    def of(cls, said: Mapping[str, Any]) -> Record:
        """Raises ArchiveDamaged where it is none."""
        try:
            made = cls(
                path=_text(said["path"]),
                kind=_text(said["kind"]),
                mode=int(said["mode"]),
                uid=int(said["uid"]),
                gid=int(said["gid"]),
                mtime_ns=int(said["mtime_ns"]),
                ctime_ns=int(said["ctime_ns"]),
                size=int(said.get("size", 0)),
                link=_text(said.get("link", "")),
                xattrs={name: base64.b64decode(value) for name, value in said.get("xattrs", {}).items()},
                segments=[(int(at), int(length)) for at, length in said["segments"]] if "segments" in said else None,
                sha256=_text(said.get("sha256", "")),
                changed=said.get("changed") is True,
            )
        except (KeyError, TypeError, ValueError, AttributeError):
            raise ArchiveDamaged("a line of the manifest is damaged") from None
        if made.kind not in KINDS:
            raise ArchiveDamaged("the manifest has an entry of an unknown kind")
        return made


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value


class ManifestWriter:
    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._digest = hashlib.sha256()

    def write(self, said: Mapping[str, Any]) -> None:
        line = json.dumps(said, separators=(",", ":")).encode() + b"\n"
        self._digest.update(line)
        self._file.write(line)

    @property
    def sha256(self) -> str:
        return self._digest.hexdigest()


class ManifestReader:
    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._digest = hashlib.sha256()

    def read(self) -> dict[str, Any]:
        """The next line. Raises ArchiveDamaged where there is none, or it is damaged."""
        line = self._file.readline(LONGEST_LINE)
        if not line.endswith(b"\n"):
            raise ArchiveDamaged("the manifest ends before its end")
        self._digest.update(line)
        try:
            said = json.loads(line)
        except (ValueError, RecursionError):
            raise ArchiveDamaged("a line of the manifest is damaged") from None
        if not isinstance(said, dict):
            raise ArchiveDamaged("a line of the manifest is damaged")
        return said

    @property
    def is_at_end(self) -> bool:
        return not self._file.read(1)

    @property
    def sha256(self) -> str:
        return self._digest.hexdigest()


def record_of(path: str, kind: str, status: os.stat_result, **more: Any) -> Record:
    return Record(
        path,
        kind,
        stat.S_IMODE(status.st_mode),
        status.st_uid,
        status.st_gid,
        status.st_mtime_ns,
        status.st_ctime_ns,
        **more,
    )


def xattrs_of(opened: int) -> dict[str, bytes]:
    """What users can set, and access lists; in the order of their names."""
    try:
        names = sorted(os.listxattr(opened))
    except OSError:  # a file system without
        return {}
    found = {}
    for name in names:
        if name.startswith("user.") or name in ATTRIBUTES:
            try:
                found[name] = os.getxattr(opened, name)
            except OSError:  # removed meanwhile
                continue
    return found
