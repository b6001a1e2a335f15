"""The session's half (rsession): runs as the owner of the home, with R, files and a terminal. It lives as long as R."""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import ports
from aiohttp import web
from r_process import RProcess
from terminal import Terminals

SOCKET = Path(os.environ.get("RSESSION_SOCKET", "/nonexistent"))
RENVIRON = Path("/etc/R/Renviron.site")
HELD_SECONDS = 10.0
LAST_CHANCE_SECONDS = 4.0  # for the page to fetch what was said last
HOME = Path(os.environ.get("HOME", "/"))
DATA = Path(os.environ.get("RSTUDIO_DATA_HOME") or HOME / ".local/share/rstudio")
INVALID_CLIENT, INVALID_REQUEST, NO_METHOD, INVALID_PARAMETER = 4, 6, 7, 10
SUSPENDED = 3  # session_serialization: the session is being written

routes = web.RouteTableDef()
SESSION = "session"


class Session:
    """One R session with its files: `session-<id>` below the home, as RStudio lays it out.

    Raises:
        OSError: they cannot be made, as in a home that is full; RStudio's session does not start then, either.
    """

    def __init__(self) -> None:
        self.folder = self._folder()
        self.client_id = self._read("active-client-id") or secrets.token_hex(16)
        self.port_token = self._read("port-token")
        self._delivered: list[dict[str, object]] = []  # until the page asks for later ones
        self._queue: list[tuple[str, object]] = []
        self.over = asyncio.Event()
        self.terminals = Terminals(HOME)
        self._news = asyncio.Event()
        self._fetched = asyncio.Event()
        self._next = 0
        self.r = RProcess(self._printed, self._busy, self._ended)
        self._tasks: set[asyncio.Task[None]] = set()
        self._waiting: asyncio.Queue[str] = asyncio.Queue()

    def _folder(self) -> Path:
        active = DATA / "sessions/active"
        there = sorted(active.glob("session-*")) if active.is_dir() else []
        folder = there[0] if there else active / f"session-{secrets.token_hex(4)}"
        (folder / "properites").mkdir(parents=True, exist_ok=True)  # so spelled by RStudio
        (folder / "suspended-session-data").mkdir(exist_ok=True)
        (folder / "properites" / "executing").write_text("0")
        return folder

    def _read(self, name: str) -> str:
        path = self.folder / name
        return path.read_text() if path.exists() else ""

    def new_client(self, port_token: str) -> str:
        """From now on older pages are told that they are disconnected, those that wait at once.

        Whose calls are answered outlives R, so that a page goes on with a new one.
        """
        self.client_id, self.port_token = secrets.token_hex(16), port_token
        for name, text in (("active-client-id", self.client_id), ("port-token", port_token)):
            with suppress(OSError):  # the home has become full
                (self.folder / name).write_text(text)
                (self.folder / name).chmod(0o600)
        self._delivered.clear()
        self._queue.clear()
        self._wake()
        return self.client_id

    @property
    def _saved(self) -> Path:
        return self.folder / "suspended-session-data" / "environment.RData"

    @property
    def _saving(self) -> Path:
        return self.folder / "suspended-session-data" / "saving"

    async def start(self) -> None:
        """Starts R, with the variables that were saved; what is typed meanwhile waits."""
        await self.r.start(RSTUDIO_PORT_TOKEN_FILE=str(self.folder / "port-token"))
        if self._saving.exists():
            self._saving.unlink()
            self._printed("The previous R session was abnormally terminated.\n")
        if self._saved.exists() and await self.r.load(self._saved):
            self._saved.unlink()
            self._printed("Session restored from your saved work from your earlier R session.\n")
        self.spawn(self._evaluate_in_turn())

    async def suspend(self) -> bool:
        """Writes the variables and ends R; this process ends with it."""
        self.tell("session_serialization", {"action": SUSPENDED})
        done = False
        with suppress(OSError):
            self._saving.touch()
            done = await self.r.save(self._saved)
            if done:
                self._saving.unlink(missing_ok=True)
        self.r.end()
        return done

    def tell(self, kind: str, data: object) -> None:
        self._queue.append((kind, data))
        self._wake()

    def _wake(self) -> None:
        self._news.set()
        self._news = asyncio.Event()

    async def events_after(self, last: int, client: str) -> list[dict[str, object]] | None:
        """Events with a greater id; waits for one, but not for ever. None: another page has the session by now.

        They are numbered here, on from what the page knows, which may come from an R before this one.
        """
        self._delivered = [event for event in self._delivered if int(str(event["id"])) > last]
        self._next = max(self._next, last + 1)
        if not self._delivered and not self._queue:
            with suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._news.wait(), HELD_SECONDS)
        if client != self.client_id:
            return None
        for kind, data in self._queue:
            self._delivered.append({"id": self._next, "type": kind, "data": data})
            self._next += 1
        self._queue.clear()
        self._fetched.set()
        return list(self._delivered)

    def type(self, code: str) -> None:
        """A line of the console."""
        self.tell("console_write_prompt", {"text": "> ", "console": ""})
        self.tell("console_write_input", {"text": f"{code}\n", "console": ""})
        self._waiting.put_nowait(code)

    async def _evaluate_in_turn(self) -> None:
        while True:
            await self.r.evaluate(await self._waiting.get())
            self.tell("console_prompt", {"prompt": "> ", "history": True, "default": True, "language": "R"})

    def spawn(self, work: object) -> None:
        task = asyncio.ensure_future(work)  # type: ignore[call-overload,var-annotated]
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _printed(self, text: str) -> None:
        self.tell("console_output", {"text": text, "console": ""})

    def _busy(self, busy: bool) -> None:
        with suppress(OSError):
            (self.folder / "properites" / "executing").write_text("1" if busy else "0")
        self.tell("busy", {"value": busy})

    def _ended(self, status: int) -> None:
        """R is gone: by quit(), which the page is told, or killed, which nobody is told."""
        self.spawn(self._end(quit=status >= 0))

    async def _end(self, *, quit: bool) -> None:
        if quit:
            self.tell("quit", {"switch_projects": False, "next_session_url": None})
            self._fetched.clear()
            with suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._fetched.wait(), LAST_CHANCE_SECONDS)
            await asyncio.sleep(0.1)  # the answer is on its way
        self.over.set()


def error(number: int, message: str) -> web.Response:
    """As RStudio answers: status 200, and the page looks at the number."""
    return web.json_response({"error": {"code": number, "message": message, "error": None}})


def result(value: object) -> web.Response:
    return web.json_response({"result": value})


@routes.post("/rpc/{method}")
async def rpc(request: web.Request) -> web.StreamResponse:
    session: Session = request.app[SESSION]
    body = await request.read()
    try:
        parsed = json.loads(body) if body.strip() else {}
    except ValueError:
        return error(INVALID_REQUEST, "Invalid json-rpc request")
    call = {"params": parsed} if isinstance(parsed, list) else parsed
    params, client = call.get("params") or [], call.get("clientId", "")
    method = request.match_info["method"]
    if method == "suspend_session":  # also from outside, without a client
        done = await session.suspend()
        return result(done)
    if method == "client_init":
        client = session.new_client(request.headers.get("X-Standin-Port-Token", ""))
        answer = {"clientId": client, "userIdentity": os.environ["USER"], "mode": "server", "resumed": True}
        return result({**answer, "stand_in": True})
    if client != session.client_id:
        return error(INVALID_CLIENT, "Invalid client id")
    if method == "get_events":
        events = await session.events_after(int(params[0]) if params else -1, client)
        return error(INVALID_CLIENT, "Invalid client id") if events is None else result(events)
    return await _called(session, method, params)


async def _called(session: Session, method: str, params: list[object]) -> web.Response:
    if method == "ping":
        return result(None)
    if method == "console_input":
        session.type(str(params[0]) if params else "")
        return result(None)
    if method == "interrupt":
        session.r.interrupt()
        return result(True)
    if method == "list_environment":
        return result([{"name": name} for name in await session.r.names()])
    if method == "list_files":
        found = sorted(path for path in HOME.iterdir() if not path.name.startswith("."))
        described = [{"path": f"~/{one.name}", "dir": one.is_dir(), "length": one.lstat().st_size} for one in found]
        return result({"files": described, "is_browseable": True})
    if method == "start_terminal":
        handle, port = await session.terminals.start()
        return result({"handle": handle, "channel_mode": 1, "channel_id": ports.hidden(port, session.port_token)})
    if method == "complete_upload":
        token, commit = params
        return _complete(dict(token), bool(commit))  # type: ignore[call-overload]
    return error(NO_METHOD, "Method not found")


@routes.post("/upload")
async def upload(request: web.Request) -> web.StreamResponse:
    """Writes the file part by part, beside its place; `complete_upload` puts it there."""
    reader = await request.multipart()
    scratch = DATA / "tmp"
    scratch.mkdir(parents=True, exist_ok=True)
    token: dict[str, object] = {"isZip": False, "unzipFound": False}
    async for part in reader:
        if part.name == "targetDirectory":
            token["targetDirectory"] = str(_inside((await part.text()).removeprefix("~")))
        elif part.filename is not None:
            path = scratch / f"{secrets.token_hex(8)}.bin"
            token |= {"filename": Path(part.filename).name, "uploadedTempFile": str(path)}
            with path.open("wb") as file:
                while piece := await part.read_chunk(1 << 18):
                    file.write(piece)
    if not {"targetDirectory", "filename"} <= token.keys():
        return error(INVALID_PARAMETER, "Parameter value invalid")
    there = Path(str(token["targetDirectory"])) / str(token["filename"])
    overwrites = [{"path": str(there)}] if there.exists() else []
    text = json.dumps({"result": {"token": token, "overwrites": overwrites}})
    return web.Response(text=text, content_type="text/html")  # so that a form's hidden frame takes it


def _complete(token: dict[str, object], commit: bool) -> web.Response:
    source = Path(str(token["uploadedTempFile"])).resolve()
    if not source.is_relative_to((DATA / "tmp").resolve()):
        return error(INVALID_PARAMETER, "Parameter value invalid")
    if commit:
        source.replace(_inside(str(Path(str(token["targetDirectory"])) / str(token["filename"]))))
    else:
        source.unlink(missing_ok=True)
    return result(None)


@routes.get("/files/{path:.*}")
async def download(request: web.Request) -> web.StreamResponse:
    path = _inside(request.match_info["path"])
    if not path.is_file():
        return web.Response(status=404)
    return web.FileResponse(path)


def _inside(name: str) -> Path:
    """A path in the home, whatever the name says."""
    path = Path(name)
    path = (path if path.is_relative_to(HOME) else HOME / name.lstrip("/")).resolve()
    if not path.is_relative_to(HOME.resolve()):
        raise web.HTTPForbidden
    return path


def take_variables() -> None:
    """What R reads at its start is also the terminal's, since in RStudio both are children of one process."""
    for line in RENVIRON.read_text().splitlines() if RENVIRON.exists() else ():
        name, _, value = line.partition("=")
        if name and "$" not in value and name not in ("HOME", "USER", "LOGNAME", "SHELL"):
            os.environ[name] = value


async def serve() -> int:
    session = Session()
    app = web.Application(client_max_size=1 << 40)
    app.add_routes(routes)
    app[SESSION] = session
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    told = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, told.set)
    await session.start()
    await web.UnixSite(runner, str(SOCKET)).start()
    SOCKET.chmod(0o666)  # the folder says who reaches it
    ends = [asyncio.create_task(event.wait()) for event in (told, session.over)]
    await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
    SOCKET.unlink(missing_ok=True)
    if told.is_set():
        await session.suspend()
    return 0


def main() -> None:
    take_variables()
    subprocess.run(["copy-skeleton"], check=False)
    os.chdir(HOME)
    try:
        code = asyncio.run(_serve_and_leave())
    except OSError as fault:
        sys.exit(f"rsession: ERROR: {fault}")
    sys.exit(code)


async def _serve_and_leave() -> int:
    code = await serve()
    sys.stdout.flush()
    os._exit(code)  # whoever still follows the events would hold the end up
