"""Puts a copy of a home, or of an archive, into somebody else's home, as that somebody: whole, or not at all."""

from __future__ import annotations

import os
import socket
from typing import Any, BinaryIO

from ...errors import Conflict
from ..fileworker.beneath import names_of
from ..fileworker.changes import staged
from ..fileworker.content import keep
from ..fileworker.home import TAKEN, Home, exists, rename
from ..fileworker.line import Line
from .receive import Receiver
from .reporting import Reporter
from .unpack import FOLDER, Taker


def take(
    top: int, uid: int, name: str, tar: BinaryIO, manifest: BinaryIO, reporter: Reporter, sha256: str
) -> dict[str, Any]:
    """Args:
    top: the opened home of who gets the copy, which is whose rights this process has.
    uid: theirs.
    name: of a new folder in it.

    Raises:
        Conflict: the name is taken.
        ArchiveDamaged: the archive is not as it was made.
        OSError: it cannot be written.
    """
    ours, _theirs = socket.socketpair()  # nobody asks anything here
    home = Home(top, Line(ours))
    names_of(name)
    if exists(top, name):
        raise Conflict(TAKEN)
    with staged(home) as staging:
        os.mkdir(staging.name, 0o700, dir_fd=staging.folder)
        folder = os.open(staging.name, FOLDER, dir_fd=staging.folder)
        try:
            last = Receiver(tar, manifest, Taker(folder, uid), reporter, sha256).receive()
        finally:
            os.close(folder)
        rename(staging.folder, staging.name, top, name)
        staging.placed = True
    keep(top)
    return last
