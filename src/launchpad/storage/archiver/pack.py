"""Writes a home as a tar and a manifest, in one go."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, BinaryIO

from .manifest import VERSION, ManifestWriter, Record
from .reporting import Reporter
from .scan import Scan
from .tar import END, packed, padding

PIECE = 1024 * 1024
ZEROS = bytes(PIECE)


def pack(
    top: int,
    uid: int,
    tar: BinaryIO,
    manifest: BinaryIO,
    reporter: Reporter,
    said: Mapping[str, Any],
    *,
    live: bool = False,
) -> dict[str, Any]:
    """Writes all that lies in an opened home.

    Args:
        uid: the home's owner.
        said: what the manifest's first line tells besides: whose it is and when it was made.
        live: one process reads both, entry by entry. So that neither waits for what the other still holds, all of an
            entry is on its way before the next one begins.

    Returns:
        What was written, and what was left (see `Scan`); `changed`: files that changed while they were read.
    """
    scan, writer = Scan(top, uid), ManifestWriter(manifest)
    writer.write({"launchpad_home_archive": VERSION, **said})
    entries = changed = 0
    for found in scan:
        record = found.record
        if found.file >= 0:
            try:
                record = _write_file(record, found.file, tar, scan, reporter)
            finally:
                os.close(found.file)
        else:
            tar.write(packed(record.header))
        if live:
            tar.flush()
        writer.write(record.said)
        if live:
            manifest.flush()
        entries += 1
        changed += record.changed
        reporter.tick(files=1)
    tar.write(END)
    tar.flush()
    counts = {
        "entries": entries,
        "bytes": reporter.bytes,
        "changed": changed,
        "vanished": scan.vanished,
        "left": dict(scan.left),
        "examples": scan.examples,
    }
    writer.write({"end": True, **counts})
    manifest.flush()
    return {**counts, "sha256": writer.sha256}


def _write_file(record: Record, file: int, tar: BinaryIO, scan: Scan, reporter: Reporter) -> Record:
    """As long as it was when it was opened, whatever becomes of it: that is what its header has announced."""
    before = os.fstat(file)
    header = record.header
    tar.write(packed(header))
    digest = hashlib.sha256()
    changed = False
    for at, length in record.segments if record.segments is not None else [(0, record.size)]:
        if at:
            os.lseek(file, at, os.SEEK_SET)
        while length:
            try:
                piece = os.read(file, min(PIECE, length))
            except OSError:  # a disk that is failing
                scan.leave("unreadable", record.path)
                piece = b""
            if not piece:
                changed = True
                piece = ZEROS[: min(PIECE, length)]
            length -= len(piece)
            digest.update(piece)
            tar.write(piece)
            reporter.tick(length=len(piece))
    tar.write(padding(header.stored))
    after = os.fstat(file)
    same = (before.st_size, before.st_mtime_ns, before.st_ctime_ns) == (
        after.st_size,
        after.st_mtime_ns,
        after.st_ctime_ns,
    )
    return replace(record, sha256=digest.hexdigest(), changed=changed or not same)
