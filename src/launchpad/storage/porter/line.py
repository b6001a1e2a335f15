"""What giver and taker say to each other over their socket."""

from __future__ import annotations

import json
import socket
import struct
from typing import Any

PIECE = 1024 * 1024
DATA, HOLE = b"d", b"h"  # what a part of a file's content begins with; of a hole only the length follows
LENGTH = struct.Struct(">Q")
YES, NO = b"y", b"n"


class Line:
    """Messages with their length in front; EOFError when the connection was closed."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._file = connection.makefile("rb", buffering=256 * 1024)

    def send(self, message: bytes) -> None:
        self._all(struct.pack(">I", len(message)) + message)

    def receive(self) -> bytes:
        (length,) = struct.unpack(">I", self._exactly(4))
        if length > 2 * PIECE:
            raise EOFError("a message that is too long")
        return self._exactly(length)

    def say(self, **what: Any) -> None:
        self.send(json.dumps(what).encode())

    def hear(self) -> dict[str, Any]:
        heard: dict[str, Any] = json.loads(self.receive())
        return heard

    def answer(self, yes: bool) -> None:
        self._all(YES if yes else NO)

    def asked(self, **what: Any) -> bool:
        self.say(**what)
        return self._exactly(1) == YES

    def _all(self, text: bytes) -> None:
        try:
            self._connection.sendall(text)
        except OSError as error:  # not to be taken for one of a file's
            raise EOFError("the connection was closed") from error

    def _exactly(self, length: int) -> bytes:
        held: bytes = self._file.read(length)
        if len(held) != length:
            raise EOFError("the connection was closed")
        return held
