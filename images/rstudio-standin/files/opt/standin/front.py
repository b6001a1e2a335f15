"""The server's half (rserver): log-in redirects, cookies, CSRF and limits, as a user of its own; R is elsewhere."""

from __future__ import annotations

import asyncio
import os
import re
import secrets
from pathlib import Path

import aiohttp
from aiohttp import web
from root_path import is_secure, origin, root_path

PORT = 8787
SESSION_SOCKET = "/run/standin/session.sock"
PAGE = Path(__file__).parent / "page"
COOKIES = ("user-id", "user-list-id", "persist-auth", "rs-csrf-token", "csrf-token")
IDLE_SECONDS = 60 * 60
BODY_BYTES = 100 * 1024 * 1024
KNOWN_BROWSERS = re.compile(r"Chrome/|Firefox/|Safari/|Edg/")
NO_CSRF = {"get_events", "suspend_session"}
HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding", "upgrade", "host", "content-length"}
CONTENT_TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript"}

routes = web.RouteTableDef()
SESSION = "session"


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


def set_cookie(request: web.Request, response: web.StreamResponse, name: str, value: str) -> None:
    response.set_cookie(
        name,
        value,
        path=root_path(request) or "/",
        max_age=IDLE_SECONDS,
        httponly=True,
        secure=is_secure(request),
    )


@routes.get("/")
async def home(request: web.Request) -> web.StreamResponse:
    """The page; without its cookies the way leads over the log-in, which is off and lets everybody through."""
    if not KNOWN_BROWSERS.search(request.headers.get("User-Agent", "")):
        return redirect(request, "/unsupported_browser.htm")
    if "user-id" not in request.cookies:
        return redirect(request, "/auth-sign-in?appUri=%2F")
    return _page("index.html")


@routes.get("/auth-sign-in")
async def sign_in(request: web.Request) -> web.StreamResponse:
    response = redirect(request, "/")
    token = secrets.token_hex(16)
    user = os.environ.get("USER", "rstudio")
    values = {"user-id": f"{user}|{token}", "rs-csrf-token": token, "csrf-token": token}
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
    """The CSRF token for our page's script. Another site's page can neither read this answer nor the cookie."""
    return web.json_response({"token": request.cookies.get("rs-csrf-token", "")})


@routes.post("/rpc/{method}")
async def rpc(request: web.Request) -> web.StreamResponse:
    """A call; the token in the header has to be the one in the cookie, which another site cannot read."""
    method = request.match_info["method"]
    token = request.cookies.get("rs-csrf-token")
    if method not in NO_CSRF and (not token or request.headers.get("X-RS-CSRF-Token") != token):
        return web.json_response({"error": {"code": 4, "message": "CSRF token is missing or wrong"}}, status=403)
    response = await _hand_over(request)
    if method == "client_init":
        set_cookie(request, response, "port-token", secrets.token_hex(6))
    return response


@routes.post("/upload")
@routes.get("/files/{path:.*}")
@routes.get("/p/{port:[0-9a-f]+}/{rest:.*}")
async def to_session(request: web.Request) -> web.StreamResponse:
    if request.headers.get("Upgrade", "").lower() == "websocket":
        return await _hand_over_socket(request)
    return await _hand_over(request)


def _page(name: str) -> web.Response:
    path = PAGE / Path(name).name
    if not path.is_file():
        return web.Response(status=404)
    response = web.Response(body=path.read_bytes(), content_type=CONTENT_TYPES.get(path.suffix, "text/plain"))
    response.charset = "utf-8"
    response.headers["X-Frame-Options"] = "DENY"
    return response


async def _session_is_there() -> None:
    """Waits, within bounds, for a session that is still starting: the server answers before it does."""
    for _ in range(200):
        if Path(SESSION_SOCKET).exists():
            return
        await asyncio.sleep(0.05)


async def _hand_over(request: web.Request) -> web.Response | web.StreamResponse:
    """Passes a request to the session piece by piece, so that an upload of any size needs no memory here."""
    headers = {name: value for name, value in request.headers.items() if name.lower() not in HOP_BY_HOP}
    if request.content_length is not None:
        headers["Content-Length"] = str(request.content_length)
    data = request.content.iter_chunked(1 << 16) if request.can_read_body else None
    await _session_is_there()
    try:
        async with request.app[SESSION].request(
            request.method, f"http://session{request.raw_path}", headers=headers, data=data, allow_redirects=False
        ) as answer:
            kept = {name: value for name, value in answer.headers.items() if name.lower() not in HOP_BY_HOP}
            if answer.content_length is not None and answer.content_length < 1 << 20:
                return web.Response(status=answer.status, headers=kept, body=await answer.read())
            response = web.StreamResponse(status=answer.status, headers=kept)
            response.force_close()
            await response.prepare(request)
            async for piece in answer.content.iter_chunked(1 << 16):
                await response.write(piece)
            return response
    except (aiohttp.ClientError, OSError):
        return web.json_response({"error": {"code": 1, "message": "the R session does not run"}}, status=502)


async def _hand_over_socket(request: web.Request) -> web.StreamResponse:
    outside = web.WebSocketResponse(max_msg_size=0)
    await outside.prepare(request)
    await _session_is_there()
    async with request.app[SESSION].ws_connect(f"http://session{request.raw_path}", max_msg_size=0) as inside:

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
    await outside.close()
    return outside


async def make_app() -> web.Application:
    app = web.Application(middlewares=[manners], client_max_size=1 << 40)
    app.add_routes(routes)

    async def session(app: web.Application):  # type: ignore[no-untyped-def]
        timeout = aiohttp.ClientTimeout(total=None)
        connector = aiohttp.UnixConnector(SESSION_SOCKET, force_close=True, limit=0)
        app[SESSION] = aiohttp.ClientSession(connector=connector, timeout=timeout, auto_decompress=False)
        yield
        await app[SESSION].close()

    app.cleanup_ctx.append(session)
    return app


if __name__ == "__main__":
    web.run_app(make_app(), host="0.0.0.0", port=PORT, print=None, access_log=None)
