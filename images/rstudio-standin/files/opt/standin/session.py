"""The session's half (rsession): runs as the owner of the home, with R, files and a terminal."""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import pty
import secrets
import signal
import struct
import termios
from contextlib import suppress
from pathlib import Path

from aiohttp import WSMsgType, web
from r_process import RProcess

SOCKET = Path("/run/standin/session.sock")
HELD_SECONDS = 50.0
HOME = Path(os.environ["HOME"])
ACTIVE = HOME / ".local/share/rstudio/sessions/active"

routes = web.RouteTableDef()


class Session:
    """One R session with its files: `session-<id>` below the home, as RStudio lays it out."""

    def __init__(self) -> None:
        self.folder = self._folder()
        self.events: list[dict[str, object]] = []
        self._news = asyncio.Event()
        self.r = RProcess(self._printed, self._busy)
        self._resuming = asyncio.Lock()

    def _folder(self) -> Path:
        there = sorted(ACTIVE.glob("session-*")) if ACTIVE.is_dir() else []
        folder = there[0] if there else ACTIVE / f"session-{secrets.token_hex(4)}"
        (folder / "properites").mkdir(parents=True, exist_ok=True)  # so spelled by RStudio
        (folder / "suspended-session-data").mkdir(exist_ok=True)
        return folder

    @property
    def _saved(self) -> Path:
        return self.folder / "suspended-session-data" / "environment.RData"

    @property
    def _saving(self) -> Path:
        return self.folder / "suspended-session-data" / "saving"

    async def resume(self) -> None:
        """Starts R if it does not run, with the variables that were saved."""
        async with self._resuming:
            if self.r.runs:
                return
            self._busy(False)
            await self.r.start()
            if self._saving.exists():
                self._saving.unlink()
                self.tell("console_output", "The previous R session was abnormally terminated.\n")
            if self._saved.exists() and await self.r.load(self._saved):
                self.tell("console_output", "Session restored from your saved work.\n")

    async def suspend(self) -> bool:
        """Writes the variables and ends R."""
        if not self.r.runs:
            return True
        self._saving.touch()
        done = await self.r.save(self._saved)
        if done:
            self._saving.unlink(missing_ok=True)
        await self.r.end()
        return done

    def tell(self, kind: str, data: object) -> None:
        self.events.append({"id": len(self.events) + 1, "type": kind, "data": data})
        self._news.set()
        self._news = asyncio.Event()

    async def events_after(self, last: int) -> list[dict[str, object]]:
        """Events with a greater id; waits for one, but not for ever."""
        if len(self.events) <= last:
            with suppress(TimeoutError, asyncio.TimeoutError):
                await asyncio.wait_for(self._news.wait(), HELD_SECONDS)
        return self.events[last:]

    def _printed(self, text: str) -> None:
        self.tell("console_output", text)

    def _busy(self, busy: bool) -> None:
        (self.folder / "properites" / "executing").write_text("1" if busy else "0")
        self.tell("busy", busy)


SESSION = "session"


@routes.post("/rpc/{method}")
async def rpc(request: web.Request) -> web.StreamResponse:
    session = request.app[SESSION]
    body = await request.read()
    parsed = json.loads(body) if body.strip() else {}
    params = parsed if isinstance(parsed, list) else parsed.get("params", [])
    method = request.match_info["method"]
    if method == "suspend_session":
        if request.headers.get("X-RStudio-Session-Required") != "1":
            return web.json_response({"error": {"code": 2, "message": "not asked for a session"}}, status=400)
        return web.json_response({"result": await session.suspend()})
    if method == "get_events":
        return web.json_response({"result": await session.events_after(int(params[0]) if params else 0)})
    await session.resume()
    if method == "client_init":
        return web.json_response({"result": {"user": os.environ["USER"], "home": str(HOME), "stand_in": True}})
    if method == "console_input":
        code = str(params[0]) if params else ""
        session.tell("console_input", code)
        task = asyncio.create_task(_evaluate(session, code))
        request.app[TASKS].add(task)
        task.add_done_callback(request.app[TASKS].discard)
        return web.json_response({"result": None})
    if method == "interrupt":
        session.r.interrupt()
        return web.json_response({"result": True})
    if method == "list_environment":
        return web.json_response({"result": await session.r.names()})
    if method == "list_files":
        found = sorted(path for path in HOME.iterdir() if not path.name.startswith("."))
        files = [{"name": path.name, "size": path.stat().st_size, "folder": path.is_dir()} for path in found]
        return web.json_response({"result": files})
    return web.json_response({"error": {"code": 3, "message": f"no method {method}"}}, status=404)


TASKS = "tasks"


async def _evaluate(session: Session, code: str) -> None:
    status = await session.r.evaluate(code)
    session.tell("console_prompt", status)


@routes.post("/upload")
async def upload(request: web.Request) -> web.StreamResponse:
    """Writes the file part by part as it comes in."""
    reader = await request.multipart()
    written = 0
    async for part in reader:
        if part.filename is None:
            continue
        path = _inside(part.filename)
        with path.open("wb") as file:
            while piece := await part.read_chunk(1 << 18):
                file.write(piece)
                written += len(piece)
    return web.json_response({"result": {"bytes": written}})


@routes.get("/files/{path:.*}")
async def download(request: web.Request) -> web.StreamResponse:
    path = _inside(request.match_info["path"])
    if not path.is_file():
        return web.Response(status=404)
    return web.FileResponse(path)


def _inside(name: str) -> Path:
    """A path in the home, whatever the name says."""
    path = (HOME / name.lstrip("/")).resolve()
    if not path.is_relative_to(HOME.resolve()):
        raise web.HTTPForbidden
    return path


@routes.get("/p/{port}/redirect")
async def redirect_quirk(request: web.Request) -> web.StreamResponse:
    """As a Shiny application's own redirect comes out of RStudio: without the prefix the proxy took off."""
    return web.Response(status=302, headers={"Location": f"/p/{request.match_info['port']}/landing"})


@routes.get("/p/{port}/landing")
async def landing(_: web.Request) -> web.StreamResponse:
    return web.Response(text="a local application")


@routes.get("/p/{port}/headers")
async def headers(request: web.Request) -> web.StreamResponse:
    """What a local application, which is the user's own code, is told about a request."""
    return web.json_response(dict(request.headers))


@routes.get("/p/{port}/echo/")
async def echo(request: web.Request) -> web.StreamResponse:
    socket = web.WebSocketResponse()
    await socket.prepare(request)
    async for message in socket:
        if message.type is WSMsgType.TEXT:
            await socket.send_str(message.data)
    return socket


@routes.get("/p/{port}/terminal/{handle}/")
async def terminal(request: web.Request) -> web.StreamResponse:
    """A shell of the user's own."""
    socket = web.WebSocketResponse()
    await socket.prepare(request)
    pid, descriptor = pty.fork()
    if pid == 0:
        os.chdir(HOME)
        os.execvp("bash", ["bash"])
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


async def main() -> None:
    app = web.Application(client_max_size=1 << 40)
    app.add_routes(routes)
    app[SESSION] = session = Session()
    app[TASKS] = set()
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    SOCKET.unlink(missing_ok=True)
    await web.UnixSite(runner, str(SOCKET)).start()
    SOCKET.chmod(0o666)  # the folder says who reaches it
    over = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, over.set)
    starting = asyncio.create_task(session.resume())
    await over.wait()
    await starting
    await session.suspend()
    # Whoever still follows the events would hold the end up: they have been answered enough.
    os._exit(0)


if __name__ == "__main__":
    asyncio.run(main())
