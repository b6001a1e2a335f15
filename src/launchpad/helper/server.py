"""The helper's socket: who may speak, how much, and how answers and errors are said."""

from __future__ import annotations

import asyncio
import json
import pwd
import socket
import struct
from collections.abc import AsyncIterator, Collection
from contextlib import suppress
from pathlib import Path
from typing import Any

import structlog
from aiohttp import web

from ..errors import HelperRefused, LaunchpadError, SettingsError
from ..helper_client import error_body
from .verbs import Verbs

log = structlog.get_logger(__name__)

REQUEST_BYTES = 256 * 1024
ALIVE_SECONDS = 15.0  # a quiet stream says so often that it is there; a portal that is gone is noticed then
PEER = struct.Struct("3i")  # struct ucred of unix(7): pid, uid, gid


def application(verbs: Verbs, allowed_uids: Collection[int]) -> web.Application:
    """The HTTP application behind the socket.

    Args:
        allowed_uids: whose processes are listened to; every other one gets 403, whatever the socket's permissions.
    """

    @web.middleware
    async def known_peer(request: web.Request, handler: Any) -> web.StreamResponse:
        uid = peer_uid(request)
        if uid not in allowed_uids:
            log.error("helper.stranger", uid=uid)
            return _refusal(HelperRefused("The server's helper listens to the portal only."), 403)
        response: web.StreamResponse = await handler(request)
        return response

    async def handle(request: web.Request) -> web.StreamResponse:
        verb = request.match_info["verb"]
        try:
            arguments = await request.read()
            if verbs.is_stream(verb):
                return await _stream(request, verbs.follow(verb, arguments))
            return web.json_response({"value": await verbs.answer(verb, arguments)})
        except HelperRefused as error:
            log.error("helper.refused", verb=verb[:40], detail=error.detail)
            return _refusal(error, 403)
        except LaunchpadError as error:
            return _refusal(error, error.status)

    made = web.Application(middlewares=[known_peer], client_max_size=REQUEST_BYTES)
    made.router.add_post("/{verb}", handle)
    return made


def peer_uid(request: web.Request) -> int:
    """The user at the other end, as the kernel says; -1 when it cannot be told."""
    transport = request.transport
    connection = transport.get_extra_info("socket") if transport is not None else None
    if connection is None or connection.family != socket.AF_UNIX:
        return -1
    held = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, PEER.size)
    return int(PEER.unpack(held)[1])


def uid_of(user: str) -> int:
    """Raises SettingsError where the system has no such user."""
    try:
        return pwd.getpwnam(user).pw_uid
    except KeyError:
        raise SettingsError(f"helper.user: this server has no user “{user}”.") from None


def listen(path: Path) -> socket.socket:
    """A listening socket at `path`, where systemd holds none; what was there before is replaced."""
    with suppress(FileNotFoundError):
        path.unlink()
    made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    made.bind(str(path))
    path.chmod(0o666)  # who may speak is decided by the kernel's word for who it is, see known_peer
    made.listen(128)
    return made


async def serve(made: web.Application, listening: socket.socket, stop: asyncio.Event) -> None:
    """Answers on the socket until `stop`."""
    # Who hangs up while an instance is being made wants it no longer: what has been made is taken back.
    runner = web.AppRunner(made, access_log=None, handle_signals=False, shutdown_timeout=5, handler_cancellation=True)
    await runner.setup()
    try:
        await web.SockSite(runner, listening).start()
        await stop.wait()
    finally:
        await runner.cleanup()


async def _stream(request: web.Request, items: AsyncIterator[Any]) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": "application/x-ndjson"})
    await response.prepare(request)
    following = aiter(items)
    awaited: asyncio.Task[Any] | None = None
    try:
        while True:
            awaited = awaited or asyncio.ensure_future(anext(following))
            done, _ = await asyncio.wait({awaited}, timeout=ALIVE_SECONDS)
            if not done:
                await response.write(b"{}\n")
                continue
            try:
                said: dict[str, Any] = {"value": awaited.result()}
            except StopAsyncIteration:
                said = {"end": True}
            except LaunchpadError as error:
                said = error_body(error)
            awaited = None
            await response.write(json.dumps(said).encode() + b"\n")
            if "value" not in said:
                break
    except ConnectionError:  # the portal went away
        pass
    finally:
        if awaited is not None:
            awaited.cancel()
            with suppress(asyncio.CancelledError, StopAsyncIteration, LaunchpadError):
                await awaited
    return response


def _refusal(error: LaunchpadError, status: int) -> web.Response:
    return web.json_response(error_body(error), status=status)
