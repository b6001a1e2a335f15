"""A stream through zstd, by a process that can do nothing else: the only one that needs more than Python's own."""

from __future__ import annotations

import os
import stat
from typing import Any

from ...errors import ArchiveDamaged

LEVEL = 3
PIECE = 256 * 1024
WINDOW_BYTES = 2**27  # the most memory that a stream may ask for to be unpacked


def stream(library: Any, source: int, target: int, *, unpack: bool) -> None:
    """From one opened file to another, to the end.

    Args:
        library: `zstandard`.

    Raises:
        OSError: it cannot be written, such as where there is no room.
        ArchiveDamaged: it is no such stream.
    """
    with os.fdopen(source, "rb", buffering=0) as reading, os.fdopen(target, "wb", buffering=0) as writing:
        if unpack:
            unpacker = library.ZstdDecompressor(max_window_size=WINDOW_BYTES)
            try:
                unpacker.copy_stream(reading, writing, read_size=PIECE, write_size=PIECE)
            except library.ZstdError:
                raise ArchiveDamaged("it cannot be unpacked") from None
        else:
            library.ZstdCompressor(level=LEVEL, write_checksum=True).copy_stream(
                reading, writing, read_size=PIECE, write_size=PIECE
            )
            if stat.S_ISREG(os.fstat(target).st_mode):
                os.fsync(target)
