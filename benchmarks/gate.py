"""What nginx and the gate cost on the way to an instance: requests a second, p99 and WebSocket echo, in one run through

- `direct`: straight to the instance's port, on a connection that is kept;
- `plain`: the very same nginx configuration as `gate`, with the questions to the gate taken out;
- `gate`: the rendered nginx and the real portal's gate, with the cookie that Open gives;
- `chp`: configurable-http-proxy 5 (JupyterHub's proxy, from npm), where node and npm are installed;
- `uncached` (with --upstream page): the gate with `web.gate_cache = false`.

The upstream is a real JupyterLab's /api/status in its container (--upstream jupyterlab), or an nginx that answers with
a kilobyte (--upstream page), which shows what our own nginx costs. All in turn, round after round, since machines are
noisy: quote the ratios, which are the medians of the rounds' ratios. Last comes nginx's memory by
`engine.keepalive_ports`.

    python benchmarks/gate.py [--upstream jupyterlab|page] [--rounds 5] [--seconds 3] [--connections 16]

Needs root and nginx; Docker and the environment's image (`launchpad images build jupyterlab`) for JupyterLab; uses wrk
where it is there, and a client of its own where not. configurable-http-proxy is installed below --cache.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import re
import shutil
import signal
import sqlite3
import statistics
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic, perf_counter

import httpx
from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection, serve
from websockets.typing import Origin

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from support.live import LivePlatform, Person  # noqa: E402 - the path has to be set first
from support.ports import free_ports  # noqa: E402
from support.smtp import MailServer  # noqa: E402

ECHOES = 300
MEMORY_ROWS = (0, 256, 4096)
UPSTREAM = """
worker_processes 1;
pid {folder}/upstream.pid;
error_log stderr;
events {{ worker_connections 4096; }}
http {{
  access_log off;
  client_body_temp_path {folder}/b; proxy_temp_path {folder}/p; fastcgi_temp_path {folder}/f;
  uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
  server {{ listen 127.0.0.1:{port}; location / {{ default_type text/plain; return 200 "a kilobyte {filling}"; }} }}
}}
"""


@dataclass(frozen=True)
class Way:
    """One way to the upstream: where an HTTP client goes and a WebSocket client, if there is an echo, and with what."""

    url: str
    headers: Mapping[str, str] = field(default_factory=dict)
    echo_url: str = ""
    echo_headers: Mapping[str, str] = field(default_factory=dict)
    echo_origin: str = ""


@dataclass(frozen=True)
class Upstream:
    """What answers, and how it is asked without us. `secret` is what the gate has nginx say to it."""

    address: str
    path: str
    headers: Mapping[str, str]
    secret: str
    prefix: str
    echo: int | None


async def _process(stack: AsyncExitStack, *command: str, log: Path) -> int:
    with log.open("ab") as file:
        process = await asyncio.create_subprocess_exec(*command, stdout=file, stderr=file)

    async def end() -> None:
        if process.returncode is None:
            process.terminate()
            await process.wait()

    stack.push_async_callback(end)
    return process.pid


async def _until_answers(name: str, way: Way) -> None:
    deadline = monotonic() + 60
    async with httpx.AsyncClient() as http:
        while True:
            try:
                answer = await http.get(way.url, headers=dict(way.headers))
                if answer.status_code == 200:
                    return
                said = f"{answer.status_code} {answer.text[:200]}"
            except httpx.HTTPError as error:
                said = repr(error)
            if monotonic() > deadline:
                raise SystemExit(f"{name}: {way.url} does not answer: {said}")
            await asyncio.sleep(0.1)


@asynccontextmanager
async def _echo() -> AsyncIterator[int]:
    async def handle(connection: ServerConnection) -> None:
        async for message in connection:
            await connection.send(message)

    async with serve(handle, "127.0.0.1", 0, compression=None) as server:
        yield int(next(iter(server.sockets)).getsockname()[1])


# -- the ways --------------------------------------------------------------------------------------


async def _jupyterlab(stack: AsyncExitStack, live: LivePlatform, person: Person) -> tuple[Upstream, Way]:
    """A JupyterLab that the platform launches, and the way through the gate to it."""
    instance = await person.launch_and_wait("jupyterlab", memory="2g", cpus=1)
    container = live.container_of(instance["id"])
    ((binding,),) = container["NetworkSettings"]["Ports"].values()
    variables = dict(pair.partition("=")[::2] for pair in container["Config"]["Env"])
    secret = f"token {variables['JUPYTER_TOKEN']}"
    address = f"127.0.0.1:{binding['HostPort']}"
    path = f"/i/{instance['id']}/api/status"
    upstream = Upstream(address, path, {"Authorization": secret}, secret, "keep", None)
    cookie = await _cookie(person, instance["id"])
    return upstream, Way(person.instance_url(instance["id"], "/api/status"), {"Cookie": cookie})


async def _page(
    stack: AsyncExitStack, live: LivePlatform, person: Person, folder: Path, port: int
) -> tuple[Upstream, Way]:
    """Two instances of the fake runtime, whose addresses are those of an nginx and of an echo."""
    echo = await stack.enter_async_context(_echo())
    upstream = folder / "upstream.conf"
    upstream.write_text(UPSTREAM.format(folder=folder, port=port, filling="x" * 1000))
    await _process(stack, "nginx", "-c", str(upstream), "-g", "daemon off;", log=folder / "upstream.log")
    way = await _pages_way(live, person, port, echo)
    return Upstream(f"127.0.0.1:{port}", "/", {}, "", "strip", echo), way


async def _pages_way(live: LivePlatform, person: Person, port: int, echo: int) -> Way:
    cookies, urls = [], []
    for answers_at in (port, echo):
        instance = await person.launch_and_wait("rstudio")
        with sqlite3.connect(live.state / "launchpad.db") as database:
            where = {"id": instance["id"], "port": answers_at}
            database.execute("UPDATE instances SET host = '127.0.0.1', port = :port WHERE id = :id", where)
        cookies.append({"Cookie": await _cookie(person, instance["id"])})
        urls.append(person.instance_url(instance["id"]))
    return Way(urls[0], cookies[0], urls[1], cookies[1], live.instances_url)


async def _cookie(person: Person, instance_id: str) -> str:
    answer = await person.http.get(f"/api/v1/instances/{instance_id}/open", follow_redirects=False)
    entered = await person.http.get(answer.headers["location"], follow_redirects=False)
    return entered.headers["set-cookie"].partition(";")[0]


async def _platform(
    stack: AsyncExitStack, mail: MailServer, folder: Path, tables: Mapping[str, object]
) -> LivePlatform:
    folder.mkdir()
    live = LivePlatform(folder, mail, tables)
    stack.push_async_callback(live.stop)
    await live.start()
    return live


async def _plain(stack: AsyncExitStack, gate: Way, upstream: Upstream, configuration: Path, folder: Path) -> Way:
    """The configuration of `gate`, which listens elsewhere and believes that the gate said yes."""
    folder.mkdir()
    folder.chmod(0o755)
    text = configuration.read_text()
    ports = sorted(set(re.findall(r"listen (?:127\.0\.0\.1|\[::1\]):(\d+)", text)))
    elsewhere = {before: str(after) for before, after in zip(ports, free_ports(len(ports)), strict=True)}
    text = re.sub(r"(?<=:)(\d+)(?=[; ])", lambda found: elsewhere.get(found[0], found[0]), text)
    instances_port = gate.url.split("/")[2].rpartition(":")[2]
    here, there = (
        url.replace(f":{instances_port}/", f":{elsewhere[instances_port]}/") for url in (gate.url, gate.echo_url)
    )
    runtime = re.findall(r'pid "([^"]*)/nginx.pid"', text)[0]
    text = text.replace(str(configuration.parent), str(folder)).replace(runtime, str(folder))
    text = text.replace("auth_request /_gate;", "")
    said = {"status": "204", "means": "pass", "upstream": upstream.address, "prefix": upstream.prefix}
    for name in ("status", "means", "location", "upstream", "title", "reason", "prefix", "cookie"):
        text = re.sub(rf"auth_request_set \$lp_gate_{name} \S+;", f'set $lp_gate_{name} "{said.get(name, "")}";', text)
    secret = r"auth_request_set (\$lp_header_\d+) \$upstream_http_x_gate_header_authorization;"
    text = re.sub(secret, rf'set \1 "{upstream.secret}";', text)
    text = re.sub(r"auth_request_set (\$lp_header_\d+) \S+;", r'set \1 "";', text)
    if upstream.echo is not None:
        known = f'set $lp_gate_upstream "{upstream.address}";'
        echo_id = gate.echo_url.split("/")[4]
        other = f'if ($lp_id = {echo_id}) {{ set $lp_gate_upstream "127.0.0.1:{upstream.echo}"; }}'
        text = text.replace(known, f"{known} {other}")
    (folder / "nginx.conf").write_text(text)
    await _process(stack, "nginx", "-c", str(folder / "nginx.conf"), "-g", "daemon off;", log=folder / "log")
    return Way(here, {}, there, {}, gate.echo_origin)


async def _chp(stack: AsyncExitStack, upstream: Upstream, folder: Path, cache: Path) -> Way | None:
    if shutil.which("npm") is None or shutil.which("node") is None:
        print("node or npm is missing: configurable-http-proxy is left out", flush=True)
        return None
    folder.mkdir()
    cache.mkdir(parents=True, exist_ok=True)
    program = cache / "node_modules" / ".bin" / "configurable-http-proxy"
    if not program.exists():
        install = ["npm", "install", "--silent", "--no-audit", "--no-fund", "configurable-http-proxy@5"]
        subprocess.run(install, cwd=cache, check=True)
    listens, api = free_ports(2)
    options = ("--ip", "127.0.0.1", "--port", str(listens), "--api-ip", "127.0.0.1", "--api-port", str(api))
    await _process(stack, str(program), *options, "--log-level", "error", log=folder / "log")
    routes = {upstream.path.removesuffix("/api/status").strip("/") or "page": upstream.address}
    if upstream.echo is not None:
        routes["echo"] = f"127.0.0.1:{upstream.echo}"
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{api}", timeout=10) as http:
        for name, address in routes.items():
            for _ in range(100):
                with suppress(httpx.HTTPError):
                    await http.post(f"/api/routes/{name}", json={"target": f"http://{address}"})
                    break
                await asyncio.sleep(0.1)
    base = f"http://127.0.0.1:{listens}"
    path = upstream.path if upstream.path != "/" else "/page/"
    return Way(f"{base}{path}", upstream.headers, f"{base}/echo/" if upstream.echo is not None else "", {}, base)


# -- load ------------------------------------------------------------------------------------------


async def _load(way: Way, connections: int, seconds: int) -> tuple[float, float]:
    """Requests a second, and the p99 in milliseconds; a request that fails ends the run."""
    if shutil.which("wrk") is None:
        return await _own_load(way, connections, seconds)
    headers = [word for name, value in way.headers.items() for word in ("-H", f"{name}: {value}")]
    process = await asyncio.create_subprocess_exec(
        *("wrk", "-t", "1", "-c", str(connections), "-d", f"{seconds}s", "--latency", *headers, way.url),
        stdout=asyncio.subprocess.PIPE,
    )
    out = (await process.communicate())[0].decode()
    if "Non-2xx" in out or "Socket errors" in out:
        raise SystemExit(out)
    number, unit = re.findall(r"99%\s+([\d.]+)(us|ms|s)", out)[0]
    rate = float(re.findall(r"Requests/sec:\s+([\d.]+)", out)[0])
    return rate, float(number) * {"us": 0.001, "ms": 1, "s": 1000}[unit]


class _Client(asyncio.Protocol):
    """Sends the same request again as soon as it is answered; reads no more of an answer than where it ends."""

    def __init__(self, request: bytes, took: list[float], ended: asyncio.Future[str]) -> None:
        self._request, self._took, self._ended = request, took, ended
        self._left: int | None = None
        self._head = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._send()

    def _send(self) -> None:
        self._begun = perf_counter()
        self._transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        if self._left is None:
            self._head += data
            head, blank, data = self._head.partition(b"\r\n\r\n")
            if not blank:
                return
            length = re.search(rb"(?i)\r\ncontent-length: *(\d+)", head)
            if b" 200 " not in head[:16] or length is None:
                self._fail(head.decode("latin-1"))
                return
            self._left = int(length[1])
        self._left -= len(data)
        if self._left <= 0:
            self._took.append(perf_counter() - self._begun)
            self._left, self._head = None, b""
            self._send()

    def connection_lost(self, exc: Exception | None) -> None:
        self._fail(f"the connection was closed: {exc}")

    def _fail(self, why: str) -> None:
        if not self._ended.done():
            self._ended.set_result(why)


async def _own_load(way: Way, connections: int, seconds: int) -> tuple[float, float]:
    url = httpx.URL(way.url)
    host, port = url.host, url.port or 80
    lines = [f"GET {url.raw_path.decode()} HTTP/1.1", f"Host: {url.netloc.decode()}"]
    lines += [f"{name}: {value}" for name, value in way.headers.items()]
    request = "\r\n".join([*lines, "", ""]).encode()
    loop, took = asyncio.get_running_loop(), list[float]()
    ended: asyncio.Future[str] = loop.create_future()
    transports = []
    begun = perf_counter()
    for _ in range(connections):
        made = await loop.create_connection(lambda: _Client(request, took, ended), host, port)
        transports.append(made[0])
    try:
        async with asyncio.timeout(seconds):
            raise SystemExit(await ended)
    except TimeoutError:
        rate = len(took) / (perf_counter() - begun)
    ended.cancel()
    for transport in transports:
        transport.close()
    return rate, statistics.quantiles(took, n=100)[-1] * 1000


async def _echo_latency(way: Way) -> float:
    """The median of one message's way there and back, in milliseconds."""
    took = []
    async with connect(
        way.echo_url.replace("http:", "ws:"),
        additional_headers=dict(way.echo_headers),
        origin=Origin(way.echo_origin),
        compression=None,
        proxy=None,
    ) as socket:
        for _ in range(ECHOES):
            begun = perf_counter()
            await socket.send("x" * 64)
            await socket.recv()
            took.append(perf_counter() - begun)
    return statistics.median(took) * 1000


# -- memory ----------------------------------------------------------------------------------------


def _megabytes(master: int) -> tuple[float, float]:
    """RSS (what is shared counted once a process) and PSS (what is shared counted once) of nginx's processes."""
    children = Path(f"/proc/{master}/task/{master}/children").read_text().split()
    texts = [Path(f"/proc/{pid}/smaps_rollup").read_text() for pid in (str(master), *children)]
    rss, pss = (
        sum(int(size) for text in texts for size in re.findall(rf"^{name}:\s+(\d+)", text, re.MULTILINE))
        for name in ("Rss", "Pss")
    )
    return rss / 1024, pss / 1024


async def _memory(configuration: Path, folder: Path) -> None:
    """Starts the same nginx with more and fewer kept ports, and says what each takes before and after a reload."""
    print(f"\n{'':>15}  {'':>8}  {'started':^16}  {'after a reload':^16}")
    print(f"{'keepalive_ports':>15}  {'ready s':>8}" + f"  {'RSS MB':>7}  {'PSS MB':>7}" * 2)
    for ports in MEMORY_ROWS:
        there = folder / f"memory-{ports}"
        there.mkdir()
        (there / "nginx.conf").write_text(_with_kept(configuration.read_text(), ports, there))
        command = ("nginx", "-c", str(there / "nginx.conf"), "-g", "daemon off;")
        async with AsyncExitStack() as stack:
            begun = perf_counter()
            master = await _process(stack, *command, log=there / "log")
            while not (there / "nginx.pid").exists() or len(_children(master)) < 2:
                await asyncio.sleep(0.005)
            ready = perf_counter() - begun
            await asyncio.sleep(0.5)
            sizes = [*_megabytes(master)]
            workers = set(_children(master))
            os.kill(master, signal.SIGHUP)
            while workers & set(_children(master)) or len(_children(master)) < 2:
                await asyncio.sleep(0.05)
            await asyncio.sleep(0.5)
            sizes += [*_megabytes(master)]
        print(f"{ports:>15}  {ready:>8.2f}" + "".join(f"  {size:>7.1f}" for size in sizes))


def _with_kept(text: str, ports: int, folder: Path) -> str:
    """The configuration with so many kept ports, in another folder, listening on sockets there."""
    runtime = re.findall(r'pid "([^"]*)/nginx.pid"', text)[0]
    before = re.findall(r"^upstream lp\d+ \{.*\}\n", text, re.MULTILINE)
    port = re.findall(r"upstream lp(\d+)", before[0])[0]
    blocks = "".join(before[0].replace(port, str(each)) for each in range(20000, 20000 + ports))
    text = text.replace("".join(before), blocks).replace(runtime, str(folder))
    return re.sub(r"listen [^;]+;", lambda found: _elsewhere(found[0], folder), text)


def _children(master: int) -> list[str]:
    return Path(f"/proc/{master}/task/{master}/children").read_text().split()


def _elsewhere(listen: str, folder: Path) -> str:
    """On a socket of its own instead of a port."""
    name = re.sub(r"\W", "-", listen.split()[1].rstrip(";"))
    return f'listen "unix:{folder}/{name}.sock"{" default_server" if "default_server" in listen else ""};'


# -- all -------------------------------------------------------------------------------------------


async def main(upstream_kind: str, rounds: int, seconds: int, connections: int, cache: Path) -> None:
    mail = MailServer()
    mail.start()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        async with AsyncExitStack() as stack:
            page_port = free_ports(1)[0]
            engine = {"runtime": "fake", "port_range": f"{page_port}-{page_port}"}
            fake = {"engine": engine, "limits": {"instances_per_environment": 2}}
            tables: Mapping[str, object] = {} if upstream_kind == "jupyterlab" else fake
            live = await _platform(stack, mail, folder / "gate", tables)
            person = await stack.enter_async_context(live.person("anna@example.org"))
            configuration = folder / "gate" / "nginx.conf"
            ways: dict[str, Way] = {}
            if upstream_kind == "jupyterlab":
                upstream, gate = await _jupyterlab(stack, live, person)
            else:
                upstream, gate = await _page(stack, live, person, folder, page_port)
            direct = Way(f"http://{upstream.address}{upstream.path}", upstream.headers)
            if upstream.echo is not None:
                direct = Way(direct.url, direct.headers, f"http://127.0.0.1:{upstream.echo}/", {}, gate.echo_origin)
            plain = await _plain(stack, gate, upstream, configuration, folder / "plain")
            ways |= {"direct": direct, "plain": plain, "gate": gate}
            if upstream.echo is not None:
                uncached = await _platform(stack, mail, folder / "uncached", {**fake, "web": {"gate_cache": False}})
                other = await stack.enter_async_context(uncached.person("anna@example.org"))
                ways["uncached"] = await _pages_way(uncached, other, page_port, upstream.echo)
            chp = await _chp(stack, upstream, folder / "chp", cache)
            if chp is not None:
                ways["chp"] = chp
            for each, way in ways.items():
                await _until_answers(each, way)
            await _compare(ways, rounds, seconds, connections)
            assert live.nginx is not None
            rss, pss = _megabytes(live.nginx.pid)
            print(f"\nnginx after all this: RSS {rss:.1f} MB, PSS {pss:.1f} MB")
            await _memory(configuration, folder)
    mail.stop()


async def _compare(ways: Mapping[str, Way], rounds: int, seconds: int, connections: int) -> None:
    rates: dict[str, list[float]] = {name: [] for name in ways}
    slow: dict[str, list[float]] = {name: [] for name in ways}
    echoes: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(rounds + 1):
        for name, way in ways.items():
            rate, p99 = await _load(way, connections, seconds if number else 1)
            echo = await _echo_latency(way) if way.echo_url else 0.0
            if number:  # the first one warms up
                rates[name].append(rate)
                slow[name].append(p99)
                echoes[name].append(echo)
        if number:
            print(f"  round {number}: " + ", ".join(f"{name} {rates[name][-1]:.0f}/s" for name in ways), flush=True)

    def over(name: str, other: str) -> str:
        both = zip(rates[name], rates[other], strict=True)
        return f"{statistics.median(one / another for one, another in both):.3f}"

    print(f"\n{connections} connections, {rounds} rounds of {seconds} s; medians")
    print(f"{'':>9}  {'requests/s':>10}  {'p99 ms':>7}  {'echo ms':>7}  {'/ direct':>8}  {'/ plain':>8}")
    for name in ways:
        echo_text = f"{statistics.median(echoes[name]):.3f}" if ways[name].echo_url else "-"
        print(
            f"{name:>9}  {statistics.median(rates[name]):>10.0f}  {statistics.median(slow[name]):>7.1f}  {echo_text:>7}"
            f"  {over(name, 'direct'):>8}  {over(name, 'plain'):>8}"
        )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--upstream", choices=("jupyterlab", "page"), default="jupyterlab")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=3)
    parser.add_argument("--connections", type=int, default=16)
    parser.add_argument("--cache", type=Path, default=Path.home() / ".cache" / "launchpad-benchmarks")
    given = parser.parse_args()
    asyncio.run(main(given.upstream, given.rounds, given.seconds, given.connections, given.cache))
