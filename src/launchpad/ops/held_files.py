"""Files that are held for a while without a name: what is in a backup may be larger than the memory."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, cast

from ..errors import StoreUnavailable

PIECE_BYTES = 1024**2


class HeldFile:
    """A copy of what `content` has. It is gone with the process, and whoever gives up root has it still.

    Raises:
        StoreUnavailable: the disk has no room for it.
    """

    def __init__(self, content: BinaryIO) -> None:
        digest = hashlib.sha256()
        with room_for_a_file() as file:
            while piece := content.read(PIECE_BYTES):
                digest.update(piece)
                with writing():
                    file.write(piece)
            with writing():
                file.flush()
            self._descriptor = os.dup(file.fileno())
        weakref.finalize(self, os.close, self._descriptor)
        self.digest = digest.hexdigest()

    @contextmanager
    def _open(self) -> Iterator[BinaryIO]:
        with os.fdopen(os.dup(self._descriptor), "rb") as file:
            file.seek(0)
            yield file

    def read(self) -> bytes:
        """All of it; for the small ones."""
        with self._open() as file:
            return file.read()

    def write_to(self, path: Path) -> None:
        """Raises OSError."""
        with self._open() as content, path.open("wb") as file:
            shutil.copyfileobj(content, file, PIECE_BYTES)


def roomy_folder() -> str | None:
    """Where large files may lie for a moment: not in `/tmp`, which is often a part of the memory."""
    roomy = "/var/tmp"  # noqa: S108 - files without names
    chosen = tempfile.tempdir is not None or "TMPDIR" in os.environ
    return roomy if not chosen and os.access(roomy, os.W_OK) else None


def room_for_a_file() -> BinaryIO:
    with writing():
        return cast(BinaryIO, tempfile.TemporaryFile(dir=roomy_folder()))


@contextmanager
def writing() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise no_room(error) from error


def no_room(error: OSError) -> StoreUnavailable:
    return StoreUnavailable(f"There is not enough disk space to test a restore, or to restore: {error.strerror}.")
