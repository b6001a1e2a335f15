"""The portal's side of the control socket: who may ask, and how answers and errors are said."""

from __future__ import annotations

import asyncio
import json
import os
import socket
from contextlib import suppress
from typing import Any

import structlog

from ..errors import Conflict, Forbidden, LaunchpadError
from ..platform import Platform
from . import verbs
from .client import SOCKET_NAME, address_in, error_body, peer_uid

log = structlog.get_logger(__name__)

REQUEST_BYTES = 16 * 1024 * 1024
REQUEST_SECONDS = 30.0
STRANGER_SECONDS, STRANGER_BYTES = 2.0, 64 * 1024
ALIVE_SECONDS = 5.0  # a long work shows so often that it goes on
AGAIN_AFTER_SECONDS = 1.0
BACKLOG = 64


class ControlServer:
    """Answers while this process owns the work, for root and its own user, whatever the socket's permissions say."""

    def __init__(self, platform: Platform) -> None:
        self._platform = platform
        self._allowed = {0, os.geteuid()}
        self._calls: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Until it is cancelled: waits for the lease, and listens as long as it is held."""
        lease = self._platform.lease
        while True:
            await lease.acquire()
            try:
                listening = self._listen()
            except OSError as error:
                log.error("control.not_listening", error=str(error))
                await asyncio.sleep(AGAIN_AFTER_SECONDS)
                continue
            accepting = asyncio.create_task(self._accept(listening), name="control")
            accepting.add_done_callback(_log_fault)
            try:
                await lease.lost()
            finally:
                await self._stop(accepting, listening)

    def _listen(self) -> socket.socket:
        folder = self._platform.state.run
        path = folder / SOCKET_NAME
        path.unlink(missing_ok=True)  # of the owner before: there is one at a time
        made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        with address_in(folder) as address:
            made.bind(address)
        path.chmod(0o600)
        made.listen(BACKLOG)
        made.setblocking(False)
        return made

    async def _stop(self, accepting: asyncio.Task[None], listening: socket.socket) -> None:
        accepting.cancel()
        with suppress(asyncio.CancelledError):
            await accepting
        listening.close()  # its file stays: the next owner's may be there already, and nobody is behind the old one
        for call in list(self._calls):
            call.cancel()
        await asyncio.gather(*self._calls, return_exceptions=True)

    async def _accept(self, listening: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            connection, _ = await loop.sock_accept(listening)
            call = asyncio.create_task(self._call(connection), name="control call")
            self._calls.add(call)
            call.add_done_callback(self._calls.discard)
            call.add_done_callback(_log_fault)

    async def _call(self, connection: socket.socket) -> None:
        uid = peer_uid(connection)
        reader, writer = await asyncio.open_unix_connection(sock=connection, limit=REQUEST_BYTES)
        try:
            if uid not in self._allowed:
                log.error("control.stranger", uid=uid)
                async with asyncio.timeout(STRANGER_SECONDS):
                    await reader.read(STRANGER_BYTES)  # what is closed unread takes the answer with it
                said = error_body(
                    Forbidden("Run this as root: only root and the portal's own user may ask the portal.")
                )
            else:
                said = await self._answer(reader, writer)
            writer.write(json.dumps(said).encode() + b"\n")
            await writer.drain()
        except (ConnectionError, TimeoutError, ValueError) as error:  # gone, or silent, or no JSON
            log.warning("control.no_call", error=repr(error))
        finally:
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> dict[str, Any]:
        async with asyncio.timeout(REQUEST_SECONDS):
            asked = json.loads(await reader.readline())
        if not isinstance(asked, dict) or not isinstance(asked.get("arguments"), dict):
            return error_body(Conflict("This is not how commands ask."))
        work = asyncio.create_task(verbs.answer(self._platform, str(asked.get("verb")), asked["arguments"]))
        try:
            while not (await asyncio.wait({work}, timeout=ALIVE_SECONDS))[0]:
                with suppress(ConnectionError):  # whoever asked has gone; what was asked is done all the same
                    writer.write(b"\n")
                    await writer.drain()
        finally:
            work.cancel()
        try:
            return {"value": work.result()}
        except LaunchpadError as error:
            return error_body(error)


def _log_fault(task: asyncio.Task[None]) -> None:
    """Whoever asked finds the connection ended."""
    if not task.cancelled() and (error := task.exception()) is not None:
        log.error("control.fault", exc_info=error)
