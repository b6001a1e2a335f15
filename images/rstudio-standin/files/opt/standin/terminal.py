"""Terminals: shells of the user's own, over WebSockets on a port that is open on all interfaces."""

from __future__ import annotations

import asyncio
import fcntl
import os
import pty
import secrets
import signal
import struct
import termios
from contextlib import suppress
from pathlib import Path

from aiohttp import WSMsgType, web

PORTS = range(3000, 8000)


class Terminals:
    def __init__(self, home: Path) -> None:
        self._home = home
        self._handles: set[str] = set()
        self._port: int | None = None
        self._runner: web.AppRunner | None = None

    async def start(self) -> tuple[str, int]:
        """A new terminal's handle, and the port where `/terminal/<handle>/` answers."""
        if self._port is None:
            self._port = await self._listen()
        handle = secrets.token_hex(4)
        self._handles.add(handle)
        return handle, self._port

    async def _listen(self) -> int:
        app = web.Application()
        app.router.add_get("/terminal/{handle}/", self._terminal)
        self._runner = web.AppRunner(app, access_log=None)
        await self._runner.setup()
        for _ in range(20):
            port = secrets.choice(PORTS)
            with suppress(OSError):
                await web.TCPSite(self._runner, "0.0.0.0", port).start()
                return port
        raise OSError("no port is free for terminals")

    async def _terminal(self, request: web.Request) -> web.StreamResponse:
        if request.match_info["handle"] not in self._handles:
            return web.Response(status=404)
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        pid, descriptor = pty.fork()
        if pid == 0:
            os.chdir(self._home)
            os.execvpe("bash", ["bash"], {**os.environ, "TERM": "xterm-256color"})
        fcntl.ioctl(descriptor, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 100, 0, 0))
        os.set_blocking(descriptor, False)
        loop = asyncio.get_running_loop()
        shown: asyncio.Queue[bytes] = asyncio.Queue()

        def ready() -> None:
            try:
                shown.put_nowait(os.read(descriptor, 1 << 16))
            except OSError:
                loop.remove_reader(descriptor)
                shown.put_nowait(b"")

        async def show() -> None:
            while text := await shown.get():
                await socket.send_str(text.decode(errors="replace"))

        loop.add_reader(descriptor, ready)
        showing = asyncio.create_task(show())
        async for message in socket:
            if message.type is WSMsgType.TEXT:
                os.write(descriptor, message.data.encode())
        showing.cancel()
        loop.remove_reader(descriptor)
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGHUP)
        os.close(descriptor)
        return socket
