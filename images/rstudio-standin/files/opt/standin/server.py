"""The server's half (rserver): log-in redirects, cookies and limits, as a user of its own; R is elsewhere."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import os
import pwd
import re
import secrets
import signal
import sys
import time
from email.utils import formatdate
from pathlib import Path

import aiohttp
import configuration
import ports
from aiohttp import web
from launcher import Launcher
from root_path import is_secure, origin, root_path

DEFAULT_PORT = 8787
DATA = Path("/var/lib/rstudio-server")
PAGE = Path(__file__).parent / "page"
COOKIES = ("user-id", "user-list-id", "persist-auth", "rs-csrf-token", "csrf-token")
IDLE_SECONDS = 60 * 60
BODY_BYTES = 100 * 1024 * 1024
KNOWN_BROWSERS = re.compile(r"Chrome/|Firefox/|Safari/|Edg/")
NO_CSRF = {"get_events", "suspend_session"}
HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding", "upgrade", "host", "content-length"}
CONTENT_TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript"}
# Numbers of RStudio's errors; they come with the status 200.
CONNECTION_ERROR, UNAVAILABLE, UNAUTHORIZED = 1, 2, 3
PORT_TOKEN_HEADER = "X-Standin-Port-Token"

routes = web.RouteTableDef()
LAUNCHER, OVER_SOCKET, OVER_TCP, KEY = "launcher", "over_socket", "over_tcp", "key"


@web.middleware
async def manners(request: web.Request, handler: web.RequestHandler) -> web.StreamResponse:  # type: ignore[name-defined]
    """What holds for every request: no chunked bodies, no large ones but uploads, connections are closed."""
    if request.headers.get("Transfer-Encoding", "").lower() == "chunked":
        return web.Response(status=411, text="chunked request bodies are not taken")
    is_upload = request.path == "/upload" and request.content_type == "multipart/form-data"
    if (request.content_length or 0) > BODY_BYTES and not is_upload:
        return web.Response(status=400, text="the body is too large")
    response: web.StreamResponse = await handler(request)
    if not response.prepared:
        response.headers["Connection"] = "close"
        response.force_close()
    return response


def redirect(request: web.Request, path: str) -> web.Response:
    """An absolute redirect to a path inside, as RStudio sends it."""
    location = f"{origin(request)}{root_path(request)}{path}"
    return web.Response(status=302, headers={"Location": location, "X-Frame-Options": "DENY"})


def error(number: int, message: str) -> web.Response:
    return web.json_response({"error": {"code": number, "message": message, "error": None}})


def set_cookie(request: web.Request, response: web.StreamResponse, name: str, value: str) -> None:
    """With its attributes in the order and case of RStudio's."""
    until = formatdate(time.time() + IDLE_SECONDS, usegmt=True)
    secure = "; secure" if is_secure(request) else ""
    path = root_path(request) or "/"
    response.headers.add("Set-Cookie", f"{name}={value}; expires={until}; path={path}; HttpOnly{secure}")


def user_cookie(key: bytes, user: str, until: int) -> str:
    """Who has logged in and how long it counts; signed, so that nobody makes one."""
    text = f"{user}|{until}"
    return f"{text}|{hmac.new(key, text.encode(), hashlib.sha256).hexdigest()}"


def is_logged_in(request: web.Request) -> bool:
    user, _, rest = request.cookies.get("user-id", "").partition("|")
    until, _, _ = rest.partition("|")
    if not until.isdigit() or int(until) < time.time():
        return False
    return hmac.compare_digest(request.cookies["user-id"], user_cookie(request.app[KEY], user, int(until)))


@routes.get("/")
async def home(request: web.Request) -> web.StreamResponse:
    """The page; without its cookies the way leads over the log-in, which is off and lets everybody through."""
    if not KNOWN_BROWSERS.search(request.headers.get("User-Agent", "")):
        return redirect(request, "/unsupported_browser.htm")
    if not is_logged_in(request):
        return redirect(request, "/auth-sign-in?appUri=%2F")
    return _page("index.html")


@routes.get("/auth-sign-in")
async def sign_in(request: web.Request) -> web.StreamResponse:
    if configuration.read().get("auth-none") != "1":
        return web.Response(text="The log-in of this stand-in is on, and it has none.", content_type="text/html")
    response = redirect(request, "/")
    token = secrets.token_hex(16)
    user = os.environ.get("USER", "rstudio")
    signed = user_cookie(request.app[KEY], user, int(time.time()) + IDLE_SECONDS)
    values = {"user-id": signed, "rs-csrf-token": token, "csrf-token": token}
    for name in COOKIES:
        set_cookie(request, response, name, values.get(name, secrets.token_hex(8)))
    return response


@routes.get("/auth-public-key")
async def public_key(_: web.Request) -> web.StreamResponse:
    """Answers anybody: how the platform knows that the server is up."""
    return web.Response(text=f"010001:{secrets.token_hex(64)}")


@routes.get("/unsupported_browser.htm")
async def unsupported(_: web.Request) -> web.StreamResponse:
    return web.Response(text="This browser is not known to RStudio (stand-in).", content_type="text/html")


@routes.get("/page/{name}")
async def page_file(request: web.Request) -> web.StreamResponse:
    return _page(request.match_info["name"])


@routes.get("/token")
async def token(request: web.Request) -> web.StreamResponse:
    """The stand-in's own: the CSRF token for its page. Another site's page can read neither answer nor cookie."""
    return web.json_response({"token": request.cookies.get("rs-csrf-token", "")})


@routes.post("/rpc/{method}")
async def rpc(request: web.Request) -> web.StreamResponse:
    """A call; the token in the header has to be the one in the cookie, which another site cannot read.

    `get_events` alone starts no session: who only listens does not bring back what has ended.
    """
    method = request.match_info["method"]
    launcher = request.app[LAUNCHER]
    if not is_logged_in(request) and method != "suspend_session":
        return error(UNAUTHORIZED, "Client unauthorized")
    token = request.cookies.get("rs-csrf-token")
    if method not in NO_CSRF and (not token or request.headers.get("X-RS-CSRF-Token") != token):
        return error(UNAUTHORIZED, "Client unauthorized")
    if method == "get_events" and not launcher.runs:
        return error(UNAVAILABLE, "Service currently unavailable")
    if request.headers.get("X-RStudio-Session-Required") and not launcher.runs:
        return web.Response(status=503)
    if not await launcher.ensure():
        return error(CONNECTION_ERROR, "Unable to connect to service")
    port_token = request.cookies.get("port-token") or secrets.token_hex(6)
    response = await _hand_over(request, {PORT_TOKEN_HEADER: port_token})
    if method == "client_init" and not response.prepared:
        set_cookie(request, response, "port-token", port_token)
    return response


@routes.post("/upload")
async def upload(request: web.Request) -> web.StreamResponse:
    if not is_logged_in(request):
        return error(UNAUTHORIZED, "Client unauthorized")
    if not await request.app[LAUNCHER].ensure():
        return error(CONNECTION_ERROR, "Unable to connect to service")
    return await _hand_over(request)


@routes.get("/files/{path:.*}")
async def files(request: web.Request) -> web.StreamResponse:
    if not is_logged_in(request):
        return redirect(request, "/auth-sign-in?appUri=%2F")
    if not await request.app[LAUNCHER].ensure():
        return web.Response(status=502)
    return await _hand_over(request)


@routes.route("*", "/p/{port:[0-9a-f]+}/{rest:.*}")
async def to_application(request: web.Request) -> web.StreamResponse:
    """An application of the user's on a port of the container, such as a terminal or Shiny."""
    if not is_logged_in(request):
        return redirect(request, "/auth-sign-in?appUri=%2F")
    hidden = request.match_info["port"]
    port = ports.revealed(hidden, request.cookies.get("port-token", ""))
    if port is None:
        return web.Response(status=404)
    path = request.raw_path.removeprefix(f"/p/{hidden}")
    if request.headers.get("Upgrade", "").lower() == "websocket":
        return await _join_sockets(request, f"ws://127.0.0.1:{port}{path}")
    response = await _pass_on(request, request.app[OVER_TCP], f"http://127.0.0.1:{port}{path}")
    location = response.headers.get("Location", "")
    if location.startswith("/") and not response.prepared:
        # Without the prefix that the proxy took off, which is the proxy's to mend.
        response.headers["Location"] = f"/p/{hidden}{location}"
    return response


def _page(name: str) -> web.Response:
    path = PAGE / Path(name).name
    if not path.is_file():
        return web.Response(status=404)
    response = web.Response(body=path.read_bytes(), content_type=CONTENT_TYPES.get(path.suffix, "text/plain"))
    response.charset = "utf-8"
    response.headers["X-Frame-Options"] = "DENY"
    return response


async def _hand_over(request: web.Request, more: dict[str, str] | None = None) -> web.Response | web.StreamResponse:
    return await _pass_on(request, request.app[OVER_SOCKET], f"http://session{request.raw_path}", more)


async def _pass_on(
    request: web.Request, client: aiohttp.ClientSession, url: str, more: dict[str, str] | None = None
) -> web.Response | web.StreamResponse:
    """Passes a request on piece by piece, so that an upload of any size needs no memory here."""
    headers = {name: value for name, value in request.headers.items() if name.lower() not in HOP_BY_HOP}
    headers |= more or {}
    if request.content_length is not None:
        headers["Content-Length"] = str(request.content_length)
    data = request.content.iter_chunked(1 << 16) if request.can_read_body else None
    try:
        async with client.request(request.method, url, headers=headers, data=data, allow_redirects=False) as answer:
            kept = {name: value for name, value in answer.headers.items() if name.lower() not in HOP_BY_HOP}
            if answer.content_length is not None and answer.content_length < 1 << 20:
                return web.Response(status=answer.status, headers=kept, body=await answer.read())
            response = web.StreamResponse(status=answer.status, headers=kept)
            response.force_close()
            if "Location" in kept:
                return web.Response(status=answer.status, headers=kept, body=await answer.read())
            await response.prepare(request)
            async for piece in answer.content.iter_chunked(1 << 16):
                await response.write(piece)
            return response
    except (aiohttp.ClientError, OSError):
        if request.path == "/rpc/get_events":
            return error(UNAVAILABLE, "Service currently unavailable")
        if request.path.startswith("/rpc/"):
            return error(CONNECTION_ERROR, "Unable to connect to service")
        return web.Response(status=502)


async def _join_sockets(request: web.Request, url: str) -> web.StreamResponse:
    outside = web.WebSocketResponse(max_msg_size=0)
    try:
        inside = await request.app[OVER_TCP].ws_connect(url, max_msg_size=0)
    except (aiohttp.ClientError, OSError):
        return web.Response(status=502)
    try:
        await outside.prepare(request)

        async def copy(source: object, target: object) -> None:
            async for message in source:  # type: ignore[attr-defined]
                if message.type is aiohttp.WSMsgType.TEXT:
                    await target.send_str(message.data)  # type: ignore[attr-defined]
                elif message.type is aiohttp.WSMsgType.BINARY:
                    await target.send_bytes(message.data)  # type: ignore[attr-defined]

        copies = [asyncio.create_task(copy(outside, inside)), asyncio.create_task(copy(inside, outside))]
        await asyncio.wait(copies, return_when=asyncio.FIRST_COMPLETED)
        for one in copies:
            one.cancel()
    finally:
        await inside.close()
    await outside.close()
    return outside


def prepare(launcher: Launcher) -> bytes:
    """As root: the key of the cookies and the session's folder. Then the server's own user takes over."""
    server = pwd.getpwnam("rstudio-server")
    path = DATA / "secure-cookie-key"
    path.write_text(secrets.token_hex(32))  # the folder is the server's user's: needs the capability DAC_OVERRIDE
    path.chmod(0o600)
    os.chown(path, server.pw_uid, server.pw_gid)
    key = path.read_bytes()
    launcher.prepare()
    os.setgroups([server.pw_gid])
    os.setegid(server.pw_gid)
    os.seteuid(server.pw_uid)
    return key


async def serve(launcher: Launcher, key: bytes, port: int) -> None:
    app = web.Application(middlewares=[manners], client_max_size=1 << 40)
    app.add_routes(routes)
    app[KEY], app[LAUNCHER] = key, launcher
    forever = aiohttp.ClientTimeout(total=None)
    to_session = aiohttp.UnixConnector(launcher.socket, force_close=True, limit=0)
    async with (
        aiohttp.ClientSession(connector=to_session, timeout=forever, auto_decompress=False) as over_socket,
        aiohttp.ClientSession(timeout=forever, auto_decompress=False) as over_tcp,
    ):
        app[OVER_SOCKET], app[OVER_TCP] = over_socket, over_tcp
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "0.0.0.0", port).start()
        over = asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, over.set)
        await over.wait()
        await launcher.end()
    os._exit(0)  # whoever still follows the events would hold the end up


def main() -> None:
    try:
        options = configuration.read()
        launcher = Launcher(os.environ.get("USER", "rstudio"))
        key = prepare(launcher)
    except (configuration.Unreadable, OSError, KeyError) as fault:
        sys.exit(f"rserver: ERROR: {fault}")
    asyncio.run(serve(launcher, key, int(options.get("www-port", DEFAULT_PORT))))
