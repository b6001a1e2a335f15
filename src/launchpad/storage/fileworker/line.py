"""Frames of the connection between portal and worker: a letter, a length, and JSON or bytes.

A request is one JSON frame; where content follows it, data frames, of which an empty one is the last. So is an answer.
An error is a JSON frame with the member `error`, also amid data. Names are texts in which bytes that are no UTF-8 are
surrogates, as in Python's own names of files.
"""

from __future__ import annotations

import errno
import json
import os
import select
import socket
import struct
import time
from typing import Any

HEAD = struct.Struct(">cI")
JSON, DATA = b"J", b"D"
PIECE = 1024 * 1024
LONGEST = 4 * PIECE
IDLE_SECONDS = 30.0  # without a request for so long, the worker ends
PATIENCE_SECONDS = 600.0  # with a reader or a writer that has stopped
LOOK_SECONDS = 0.1


def packed(what: dict[str, Any]) -> bytes:
    """A JSON frame."""
    text = json.dumps(what, separators=(",", ":")).encode()
    return HEAD.pack(JSON, len(text)) + text


class Line:
    """The worker's end; blocking. EOFError when the other side is gone."""

    def __init__(self, connection: socket.socket) -> None:
        connection.settimeout(PATIENCE_SECONDS)
        for kind in (socket.SO_SNDBUF, socket.SO_RCVBUF):
            connection.setsockopt(socket.SOL_SOCKET, kind, PIECE)
        self._connection = connection
        self._looked_at = 0.0
        self._is_receiving = False

    def request(self) -> dict[str, Any]:
        """The next request; EOFError as well when none comes for too long."""
        self._connection.settimeout(IDLE_SECONDS)
        kind, length = self._head()
        self._connection.settimeout(PATIENCE_SECONDS)
        return self._json(kind, length)

    def hear(self) -> dict[str, Any]:
        """A JSON frame amid a request."""
        return self._json(*self._head())

    def receive(self) -> bytes:
        """The next piece of content; empty: that was all."""
        kind, length = self._head()
        if kind != DATA:
            raise EOFError("not what was to come")
        self._is_receiving = length > 0
        return bytes(self._exactly(length))

    def expect_content(self) -> None:
        """The request is followed by pieces of content, up to an empty one."""
        self._is_receiving = True

    def skip_content(self) -> None:
        """Passes over what is left of them, so that who sends can read why it was not wanted."""
        while self._is_receiving:
            self.receive()

    def say(self, **what: Any) -> None:
        self._all(packed(what))

    def send(self, content: bytes | memoryview) -> None:
        """A piece of content; an empty one says that it was the last."""
        self._all(HEAD.pack(DATA, len(content)))
        if content:
            self._all(content)

    def send_file(self, file: int, offset: int, length: int) -> None:
        """So much of a file, without a copy of it in this process.

        Raises:
            EOFError: the file has become shorter meanwhile. What was announced cannot be sent any more, so that the
                connection is given up.
        """
        end = offset + length
        while offset < end:
            piece = min(PIECE, end - offset)
            self._all(HEAD.pack(DATA, piece))
            stop = offset + piece
            while offset < stop:
                try:
                    sent = os.sendfile(self._connection.fileno(), file, offset, stop - offset)
                except BlockingIOError:
                    self._until_writable()
                    continue
                except OSError as error:
                    raise EOFError("the connection was closed, or the file cannot be read") from error
                if sent == 0:
                    raise EOFError("the file became shorter")
                offset += sent

    def look(self) -> None:
        """Raises EOFError when the other side is gone; asked often, it looks now and then."""
        now = time.monotonic()
        if now - self._looked_at < LOOK_SECONDS:
            return
        self._looked_at = now
        readable, _, _ = select.select([self._connection], [], [], 0)
        if readable and not self._connection.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT):
            raise EOFError("the connection was closed")

    def _until_writable(self) -> None:
        if not select.select([], [self._connection], [], PATIENCE_SECONDS)[1]:
            raise EOFError("the other side does not read")

    def _head(self) -> tuple[bytes, int]:
        kind, length = HEAD.unpack(self._exactly(HEAD.size))
        if length > LONGEST:
            raise EOFError("a frame that is too long")
        return kind, length

    def _json(self, kind: bytes, length: int) -> dict[str, Any]:
        if kind != JSON:
            raise EOFError("not what was to come")
        try:
            heard = json.loads(bytes(self._exactly(length)))
        except (ValueError, RecursionError) as error:
            raise EOFError("that is not JSON") from error
        if not isinstance(heard, dict):
            raise EOFError("that is not an object")  # noqa: TRY004 - of the other side, and not of a caller
        return heard

    def _all(self, content: bytes | memoryview) -> None:
        try:
            self._connection.sendall(content)
        except OSError as error:  # not to be taken for one of a file's
            raise EOFError("the connection was closed") from error

    def _exactly(self, length: int) -> bytearray:
        held = bytearray(length)
        view = memoryview(held)
        got = 0
        while got < length:
            try:
                count = self._connection.recv_into(view[got:])
            except OSError as error:  # closed, or nothing comes
                raise EOFError("the connection was closed") from error
            if count == 0:
                raise EOFError("the connection was closed")
            got += count
        return held


def is_full(error: OSError) -> bool:
    return error.errno in (errno.ENOSPC, errno.EDQUOT)
