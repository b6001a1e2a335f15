"""The helper's second socket: whoever may speak names a home and its owner, and the connection becomes a worker's.

The helper itself carries none of the files' bytes (docs/adr/0038).
"""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Collection
from contextlib import suppress

import structlog

from ..domain.snapshots import Snapshot
from ..errors import HelperRefused, LaunchpadError
from ..settings import Settings
from ..storage import directories
from ..storage.file_workers import FileWorkers
from ..storage.files import CHECK
from ..storage.fileworker.line import HEAD, JSON, packed
from .server import PEER

log = structlog.get_logger(__name__)

REQUEST_BYTES = 4096
REQUEST_SECONDS = 10.0


class FilesDoor:
    """Args:
    allowed_uids: whose processes are listened to, whatever the socket's permissions.
    """

    def __init__(self, settings: Settings, allowed_uids: Collection[int]) -> None:
        self._uid_base = settings.homes.uid_base
        self._workers = FileWorkers(settings.homes.root, settings.files)
        self._allowed_uids = allowed_uids
        self._welcoming: set[asyncio.Task[None]] = set()

    async def serve(self, listening: socket.socket) -> None:
        """Until it is cancelled."""
        listening.setblocking(False)
        loop = asyncio.get_running_loop()
        try:
            while True:
                try:
                    connection, _ = await loop.sock_accept(listening)
                except OSError as error:  # too many open files, or gone before it was taken
                    log.error("files.not_accepted", error=str(error))
                    await asyncio.sleep(0.1)
                    continue
                task = asyncio.create_task(self._welcome(connection))
                self._welcoming.add(task)
                task.add_done_callback(self._welcoming.discard)
        finally:
            for task in self._welcoming:
                task.cancel()
            await self._workers.aclose()
            listening.close()

    async def _welcome(self, connection: socket.socket) -> None:
        connection.setblocking(False)
        try:
            uid = PEER.unpack(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, PEER.size))[1]
            if uid not in self._allowed_uids:
                log.error("helper.stranger", uid=uid)
                raise HelperRefused("The server's helper listens to the portal only.")
            async with asyncio.timeout(REQUEST_SECONDS):
                body = await _request(connection)
            await self._start(body, connection)
        except LaunchpadError as error:
            if isinstance(error, HelperRefused):
                log.error("helper.refused", verb="files", detail=error.detail)
            await _refuse(connection, error)
        except (OSError, TimeoutError) as error:
            log.warning("files.nobody_asked", error=repr(error))
        finally:
            connection.close()

    async def _start(self, body: bytes, connection: socket.socket) -> None:
        try:
            asked = json.loads(body)
        except (ValueError, RecursionError):
            raise HelperRefused("The server's helper refused: that is no request.") from None
        if asked == CHECK and asked["check"] is True:
            await self._workers.try_one(connection)
        else:
            username, uid, snapshot = self._whose(asked)
            await self._workers.start(username, uid, connection, snapshot)

    def _whose(self, asked: object) -> tuple[str, int, str]:
        """Raises HelperRefused for what is not exactly a home's name and a user's uid, and at most a snapshot's."""
        if not isinstance(asked, dict) or set(asked) | {"snapshot"} != {"username", "uid", "snapshot"}:
            raise HelperRefused("The server's helper refused: that is no request.")
        username, uid = asked["username"], asked["uid"]
        snapshot = asked.get("snapshot", "")
        if "snapshot" in asked and (not isinstance(snapshot, str) or Snapshot.named(snapshot) is None):
            raise HelperRefused("The server's helper refused: “snapshot” cannot be the name of a snapshot.")
        if not isinstance(username, str) or not directories.USERNAME.fullmatch(username):
            raise HelperRefused("The server's helper refused: “username” cannot be the name of a home folder.")
        if not isinstance(uid, int) or isinstance(uid, bool) or not self._uid_base <= uid < 2**31:
            raise HelperRefused("The server's helper refused: “uid” is outside the range of this platform's users.")
        return username, uid, snapshot


async def _request(connection: socket.socket) -> bytes:
    """The first frame and not a byte more: the rest is the worker's."""
    kind, length = HEAD.unpack(await _exactly(connection, HEAD.size))
    if kind != JSON or length > REQUEST_BYTES:
        raise HelperRefused("The server's helper refused: that is no request.")
    return await _exactly(connection, length)


async def _exactly(connection: socket.socket, length: int) -> bytes:
    held = b""
    while len(held) < length:
        part = await asyncio.get_running_loop().sock_recv(connection, length - len(held))
        if not part:
            raise ConnectionResetError("closed before it asked")
        held += part
    return held


async def _refuse(connection: socket.socket, error: LaunchpadError) -> None:
    said = {"error": error.code, "detail": error.detail, "retry_after_seconds": error.retry_after_seconds}
    with suppress(OSError):
        await asyncio.get_running_loop().sock_sendall(connection, packed(said))
