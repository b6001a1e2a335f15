"""A real nginx with the rendered configuration, between raw clients and stubs of the portal and of instances.

The clients write bytes, since an HTTP library would tidy up the very paths and headers under test.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import re
import shutil
import socket
import ssl
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from launchpad.domain.naming import new_id
from launchpad.ops.nginx import (
    has_ipv6_loopback,
    render,
    wants_http2_directive,
    wants_http2_sizes,
    worker_user,
)
from launchpad.settings import Settings, tables

Headers = list[tuple[str, str]]
PAGE: Headers = [("Sec-Fetch-Mode", "navigate"), ("Accept", "text/html,*/*;q=0.8")]
MEGABYTE = 1 << 20
LAB, RUN = "lab.localhost", "run.localhost"


@dataclass
class Message:
    """A request as a server got it, or a response as a client got it."""

    first_line: str
    headers: Headers
    body: bytes = b""

    @property
    def status(self) -> int:
        return int(self.first_line.split(" ")[1])

    @property
    def method(self) -> str:
        return self.first_line.split(" ")[0]

    @property
    def target(self) -> str:
        return self.first_line.split(" ", 1)[1].rsplit(" ", 1)[0]

    @property
    def text(self) -> str:
        return self.body.decode()

    def all(self, name: str) -> list[str]:
        return [value for key, value in self.headers if key.lower() == name.lower()]

    def get(self, name: str) -> str | None:
        values = self.all(name)
        return values[0] if values else None


async def read_head(reader: asyncio.StreamReader) -> Message:
    """Raises IncompleteReadError when the other side closed instead."""
    first, *rest = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    pairs = (line.partition(":") for line in rest if line)
    return Message(first, [(name, value.strip()) for name, _, value in pairs])


async def body_of(message: Message, reader: asyncio.StreamReader) -> AsyncIterator[bytes]:
    if (message.get("Transfer-Encoding") or "").lower() == "chunked":
        while size := int(await reader.readline(), 16):
            yield await reader.readexactly(size)
            await reader.readline()
        await reader.readline()
        return
    length = message.get("Content-Length")
    left = int(length) if length is not None else (0 if not message.first_line.startswith("HTTP/") else None)
    while left is None or left > 0:
        data = await reader.read(MEGABYTE if left is None else min(left, MEGABYTE))
        if not data:
            return
        left = None if left is None else left - len(data)
        yield data


@dataclass
class Exchange:
    """One request at a stub, and the way back."""

    request: Message
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    def body(self) -> AsyncIterator[bytes]:
        return body_of(self.request, self.reader)

    async def respond(self, status: int, headers: Iterable[tuple[str, str]] = (), body: bytes = b"") -> None:
        lines = [f"HTTP/1.1 {status} Stub", *(f"{name}: {value}" for name, value in headers)]
        if status != 204:
            lines.append(f"Content-Length: {len(body)}")
        self.writer.write("\r\n".join([*lines, "", ""]).encode("latin-1") + body)
        await self.writer.drain()


Handler = Callable[[Exchange], Awaitable[None]]


class Stub:
    """A small HTTP/1.1 server on loopback or a Unix socket; keeps every request's head."""

    def __init__(self) -> None:
        self.requests: list[Message] = []
        self.handlers: dict[str, Handler] = {}
        self.hangs_up_on_reuse = False
        self.connections_made = 0
        self.port = 0
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.Task[None]] = set()

    async def listen(self, path: Path | None = None, port: int = 0) -> None:
        if path is None:
            self._server = await asyncio.start_server(self._serve, "127.0.0.1", port, limit=4 * MEGABYTE)
            self.port = self._server.sockets[0].getsockname()[1]
        else:
            path.unlink(missing_ok=True)
            self._server = await asyncio.start_unix_server(self._serve, path)
            path.chmod(0o666)

    async def close(self) -> None:
        if self._server is not None:
            self._server.close()
        tasks = list(self._connections)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    async def handle(self, exchange: Exchange) -> None:
        handler = self.handlers.get(exchange.request.target.partition("?")[0], self.otherwise)
        await handler(exchange)

    async def otherwise(self, exchange: Exchange) -> None:
        async for data in exchange.body():
            exchange.request.body += data
        await exchange.respond(200, [("Content-Type", "text/plain")], b"stub")

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        self.connections_made += 1
        try:
            for number in itertools.count():
                request = await read_head(reader)
                if number and self.hangs_up_on_reuse:
                    break
                self.requests.append(request)
                await self.handle(Exchange(request, reader, writer))
                if (request.get("Connection") or "").lower() == "close":
                    break
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass
        finally:
            self._connections.discard(task)
            writer.close()
            with suppress(ConnectionError, asyncio.CancelledError):
                await writer.wait_closed()


@dataclass
class Answer:
    """What the gate says about one instance."""

    status: int
    headers: Headers = field(default_factory=list)
    delay_seconds: float = 0.0
    raw: bytes | None = None


class Portal(Stub):
    """The portal's side of the contract: `answers` by instance id; an unknown instance is 404."""

    def __init__(self) -> None:
        super().__init__()
        self.answers: dict[str, Answer] = {}
        self.handlers["/gate/authorize"] = self._authorize

    def asked(self) -> list[Message]:
        return [request for request in self.requests if request.target == "/gate/authorize"]

    def pages(self) -> list[Message]:
        return [request for request in self.requests if request.target != "/gate/authorize"]

    async def _authorize(self, exchange: Exchange) -> None:
        answer = self.answers.get(exchange.request.get("X-Gate-Instance") or "", Answer(404))
        await asyncio.sleep(answer.delay_seconds)
        if answer.raw is not None:
            exchange.writer.write(answer.raw)
            raise ConnectionResetError
        await exchange.respond(answer.status, answer.headers)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def nginx_binary() -> str:
    found = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
    assert found, "nginx is not installed"
    return found


class Nginx:
    """nginx in the foreground, stopped by its handle."""

    def __init__(self, folder: Path, text: str) -> None:
        self.folder = folder
        self.errors = folder / "stderr.log"
        self._configuration = folder / "nginx.conf"
        self._configuration.write_text(text, encoding="utf-8")
        self._process: subprocess.Popen[bytes] | None = None

    async def start(self, ports: Iterable[int]) -> None:
        with self.errors.open("wb") as errors:
            self._process = subprocess.Popen(
                [nginx_binary(), "-c", str(self._configuration), "-g", "daemon off;"], stderr=errors
            )
        for port in ports:
            for _ in range(200):
                assert self._process.poll() is None, self.errors.read_text()
                with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                    break
                await asyncio.sleep(0.02)

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait(10)

    def worker_pids(self) -> list[int]:
        assert self._process is not None
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children").read_text()
        return [int(pid) for pid in children.split()]

    def resident_bytes(self) -> int:
        texts = (Path(f"/proc/{pid}/status").read_text() for pid in self.worker_pids())
        return sum(int(re.findall(r"VmRSS:\s+(\d+)", text)[0]) * 1024 for text in texts)

    def temporary_files(self) -> list[str]:
        """Files the workers hold open below the runtime folder, logs left out; also those already unlinked."""
        found = []
        for pid in self.worker_pids():
            for link in Path(f"/proc/{pid}/fd").iterdir():
                with suppress(OSError):
                    target = str(link.readlink())
                    if target.startswith(str(self.folder)) and ".log" not in target:
                        found.append(target)
        return found

    def access_log(self) -> str:
        return (self.folder / "access.log").read_text()


class Stage:
    """A portal, two instances (mine and yours), and nginx in front of them."""

    def __init__(self, folder: Path, values: Mapping[str, Any], changed: Callable[[str], str]) -> None:
        self.portal = Portal()
        self.mine, self.yours = Stub(), Stub()
        self.my_id, self.your_id = new_id(), new_id()
        self.settings: Settings = tables(values)
        self.socket = folder / "portal.sock"
        self.portal_port, self.instances_port = self.settings.ports
        self.tls: ssl.SSLContext | None = None
        runtime_dir = folder / "nginx"
        runtime_dir.mkdir()
        runtime_dir.chmod(0o755)
        text = render(
            self.settings,
            socket=self.socket,
            runtime_dir=runtime_dir,
            form="full",
            ipv6_loopback=has_ipv6_loopback(),
            worker_user=worker_user(self.socket, runtime_dir),
            http2_directive=wants_http2_directive(),
            http2_sizes=wants_http2_sizes(),
        )
        self.nginx = Nginx(runtime_dir, changed(text))

    def allow(
        self, instance_id: str, address: str, prefix: str = "strip", cookie: str = "", headers: Iterable[str] = ()
    ) -> None:
        """The gate lets requests to the instance through; `headers` are `Name: value`."""
        extra = [(f"X-Gate-Header-{name}", value) for name, _, value in (line.partition(": ") for line in headers)]
        told = [
            ("X-Gate-Means", "pass"),
            ("X-Gate-Upstream", address),
            ("X-Gate-Prefix", prefix),
            ("X-Gate-Cookie", cookie),
            *extra,
        ]
        self.portal.answers[instance_id] = Answer(204, told)

    def reset(self) -> None:
        """As at the start: both instances run, and I may reach mine."""
        for stub in (self.portal, self.mine, self.yours):
            stub.requests.clear()
        self.portal.hangs_up_on_reuse = False
        self.mine.handlers.clear()
        self.portal.handlers = {"/gate/authorize": self.portal.handlers["/gate/authorize"]}
        self.portal.answers = {}
        self.allow(self.my_id, self.mine.address)

    async def instances(self, target: str, *, of: str = "", authority: str = "", **how: Any) -> Message:
        """Asks the instances' origin; where every instance has one, that of the instance `of`."""
        authority = authority or _authority(self.settings.instances.of(of))
        return await ask(self.instances_port, target, authority=authority, tls=self.tls, **how)

    async def page(self, target: str, **how: Any) -> Message:
        return await ask(self.portal_port, target, authority=_authority(self.settings.public_url), tls=self.tls, **how)


@asynccontextmanager
async def stage(changed: Callable[[str], str] = lambda text: text, /, **values: Any) -> AsyncIterator[Stage]:
    """A running stage; without URLs the two origins are two ports of localhost. The gate's answers are not kept.

    `changed` is given the configuration, for limits too long to wait for.
    """
    values = {"web": {"gate_cache": False}, **values}
    urls = {"public_url": f"http://localhost:{free_port()}", "instances_url": f"http://localhost:{free_port()}"}
    folder = Path(tempfile.mkdtemp(prefix="lp-"))
    folder.chmod(0o755)  # nginx's workers are another user
    here = Stage(folder, {**urls, **values}, changed)
    try:
        await here.portal.listen(here.socket)
        await here.mine.listen()
        await here.yours.listen()
        here.reset()
        await here.nginx.start({here.portal_port, here.instances_port})
        yield here
    finally:
        here.nginx.stop()
        for stub in (here.portal, here.mine, here.yours):
            await stub.close()
        shutil.rmtree(folder)


def _authority(url: str) -> str:
    return url.partition("://")[2]


async def connect(
    port: int,
    tls: ssl.SSLContext | None = None,
    server_name: str | None = None,
    source: str = "127.0.0.1",
    preface: bytes = b"",
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A connection that comes from `source`, an address of the loopback network; `preface` is sent before all else."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, local_addr=(source, 0), limit=4 * MEGABYTE)
    writer.write(preface)
    if tls is not None:
        await writer.start_tls(tls, server_hostname=server_name)
    return reader, writer


async def ask(
    port: int,
    target: str,
    *,
    method: str = "GET",
    headers: Iterable[tuple[str, str]] = (),
    body: bytes | None = None,
    authority: str = "localhost",
    tls: ssl.SSLContext | None = None,
    source: str = "127.0.0.1",
    preface: bytes = b"",
    seconds: float = 20,
) -> Message:
    """Sends exactly `target` and `headers` on a connection of its own, and reads the whole response."""
    async with asyncio.timeout(seconds):
        reader, writer = await connect(port, tls, authority.rpartition(":")[0] or authority, source, preface)
        lines = [f"{method} {target} HTTP/1.1", f"Host: {authority}", "Connection: close"]
        lines += [f"{name}: {value}" for name, value in headers]
        if body is not None:
            lines.append(f"Content-Length: {len(body)}")
        writer.write("\r\n".join([*lines, "", ""]).encode("latin-1") + (body or b""))
        try:
            await writer.drain()
            response = await read_head(reader)
            if method != "HEAD" and response.status not in (204, 304):
                response.body = b"".join([data async for data in body_of(response, reader)])
            return response
        finally:
            writer.close()
            with suppress(ConnectionError, ssl.SSLError):
                await writer.wait_closed()


def unchecking() -> ssl.SSLContext:
    """For a client that takes any certificate."""
    made = ssl.create_default_context()
    made.check_hostname, made.verify_mode = False, ssl.CERT_NONE
    return made


def problem(response: Message) -> dict[str, Any]:
    assert response.get("Content-Type") == "application/problem+json"
    data: dict[str, Any] = json.loads(response.body)
    return data


async def until(condition: Callable[[], bool], seconds: float = 5) -> None:
    """Waits for what happens in another process; fails when it does not."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        await asyncio.sleep(0.01)
