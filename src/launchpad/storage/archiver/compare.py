"""Holds a home against a manifest: whether all that lies in it is in the archive, and nothing was changed since."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from typing import Any, BinaryIO

from ...errors import ArchiveDamaged, Conflict
from .manifest import TOP, ManifestReader, Record
from .reporting import Reporter
from .scan import Scan

As = Callable[[Record], Record]


def compare(
    top: int, uid: int, manifest: BinaryIO, reporter: Reporter, sha256: str, *, expected: As, since: bool
) -> dict[str, Any]:
    """Everything but content: where `since`, also when each was changed last, so that content is the same, too.

    Args:
        top: the opened home.
        uid: its owner.
        sha256: of the manifest.
        expected: what a line of the manifest has to look like here.

    Raises:
        Conflict: they differ; the text says where.
        ArchiveDamaged: the manifest is not the one that was written.
    """
    reader, scan = ManifestReader(manifest), Scan(top, uid)
    reader.read()
    for found in scan:
        if found.file >= 0:
            os.close(found.file)
        line = reader.read()
        if line.get("end"):
            raise _differs(found.record.path)
        told = Record.of(line)
        if _plain(expected(told), since=since) != _plain(found.record, since=since):
            raise _differs(min(told.path, found.record.path))
        reporter.tick(files=1)
    last = reader.read()
    if last.get("end") is not True:
        raise _differs(str(last.get("path")))
    if not reader.is_at_end or reader.sha256 != sha256:
        raise ArchiveDamaged("the manifest is not the one that was written when the home was archived")
    return {"entries": last.get("entries"), "left": dict(scan.left), "examples": scan.examples}


def _plain(record: Record, *, since: bool) -> Record:
    """Without what may differ. Of the home itself its own change time: it may be renamed."""
    compared = since and record.path != TOP
    return replace(record, sha256="", segments=None, changed=False, ctime_ns=record.ctime_ns if compared else 0)


def _differs(path: str) -> Conflict:
    told = os.fsencode(path).decode("utf-8", "replace")[-200:]
    return Conflict(
        "The folder itself is not as it was archived." if path == TOP else f"“{told}” is not as it was archived."
    )
