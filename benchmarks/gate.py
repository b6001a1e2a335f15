"""What the gate costs: requests a second, p99 and WebSocket echo, to a trivial upstream, in one run through

- `gate`: the rendered nginx and the real portal's gate, with the cookie that Open gives;
- `uncached`: the same, with `web.gate_cache = false`;
- `plain`: the very same nginx configuration with the questions to the gate taken out;
- `chp`: configurable-http-proxy 5 (JupyterHub's proxy, from npm), where node and npm are installed.

All in turn, round after round, since machines are noisy: quote the ratios.

    python benchmarks/gate.py [--rounds 5] [--seconds 4] [--connections 32]

Needs root, nginx and wrk.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import shutil
import sqlite3
import statistics
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
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

ECHOES = 1000
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
    """One way to the upstreams: where an HTTP client and a WebSocket client go, and with which headers."""

    http_url: str
    echo_url: str
    headers: Mapping[str, str]


async def _process(stack: AsyncExitStack, *command: str, log: Path) -> None:
    with log.open("ab") as file:
        process = await asyncio.create_subprocess_exec(*command, stdout=file, stderr=file)

    async def end() -> None:
        if process.returncode is None:
            process.terminate()
            await process.wait()

    stack.push_async_callback(end)


async def _until_answers(url: str, headers: Mapping[str, str]) -> None:
    deadline = monotonic() + 60
    async with httpx.AsyncClient() as http:
        while True:
            try:
                answer = await http.get(url, headers=dict(headers))
                if answer.status_code == 200:
                    return
                said = f"{answer.status_code} {answer.text[:200]}"
            except httpx.HTTPError as error:
                said = repr(error)
            if monotonic() > deadline:
                raise SystemExit(f"{url} does not answer: {said}")
            await asyncio.sleep(0.1)


@asynccontextmanager
async def _echo() -> AsyncIterator[int]:
    async def handle(connection: ServerConnection) -> None:
        async for message in connection:
            await connection.send(message)

    async with serve(handle, "127.0.0.1", 0, compression=None) as server:
        yield int(next(iter(server.sockets)).getsockname()[1])


async def _through_gate(
    stack: AsyncExitStack, mail: MailServer, folder: Path, port: int, echo: int, cache: bool
) -> Way:
    """A platform whose one user's two instances are the upstreams. Nothing is started: the runtime is the fake."""
    folder.mkdir()
    tables = {"engine": {"runtime": "fake"}, "web": {"gate_cache": cache}, "limits": {"instances_per_environment": 2}}
    live = LivePlatform(folder, mail, tables)
    await live.start()
    stack.push_async_callback(live.stop)
    person = await stack.enter_async_context(live.person("anna@example.org"))
    urls = []
    cookies = []
    for upstream in (port, echo):
        instance = await person.launch_and_wait("rstudio")
        with sqlite3.connect(live.state / "launchpad.db") as database:
            where = {"id": instance["id"], "port": upstream}
            database.execute("UPDATE instances SET host = '127.0.0.1', port = :port WHERE id = :id", where)
        cookies.append(await _cookie(person, instance["id"]))
        urls.append(person.instance_url(instance["id"]))
    # Both cookies are of one name and differ in their paths, so each way sends its own.
    return Way(urls[0], urls[1], {"http": cookies[0], "echo": cookies[1], "origin": live.instances_url})


async def _cookie(person: Person, instance_id: str) -> str:
    answer = await person.http.get(f"/api/v1/instances/{instance_id}/open", follow_redirects=False)
    entered = await person.http.get(answer.headers["location"], follow_redirects=False)
    return entered.headers["set-cookie"].partition(";")[0]


async def _plain(stack: AsyncExitStack, gate: Way, configuration: Path, folder: Path, port: int, echo: int) -> Way:
    """The configuration of `gate`, which listens elsewhere and believes that the gate said yes."""
    folder.mkdir()
    folder.chmod(0o755)
    text = configuration.read_text()
    ports = sorted(set(re.findall(r"listen (?:127\.0\.0\.1|\[::1\]):(\d+)", text)))
    elsewhere = {before: str(after) for before, after in zip(ports, free_ports(len(ports)), strict=True)}
    text = re.sub(r"(?<=:)(\d+)(?=[; ])", lambda found: elsewhere.get(found[0], found[0]), text)
    instances_port = gate.http_url.split("/")[2].rpartition(":")[2]
    here, there = (
        url.replace(f":{instances_port}/", f":{elsewhere[instances_port]}/") for url in (gate.http_url, gate.echo_url)
    )
    text = text.replace(str(configuration.parent), str(folder))
    runtime = re.findall(r'pid "([^"]*)/nginx.pid"', text)[0]
    text = text.replace(runtime, str(folder))
    echo_id = gate.echo_url.split("/")[4]
    text = re.sub(r"auth_request /_gate;", "", text)
    said = {"status": "204", "means": "pass", "location": "", "upstream": f"127.0.0.1:{port}", "prefix": "strip"}
    for name, value in {**said, "cookie": ""}.items():
        text = re.sub(rf"auth_request_set \$lp_gate_{name} \S+;", f'set $lp_gate_{name} "{value}";', text)
    text = re.sub(r"auth_request_set (\$lp_header_\d+) \S+;", r'set \1 "";', text)
    known = f'set $lp_gate_upstream "127.0.0.1:{port}";'
    other = f'if ($lp_id = {echo_id}) {{ set $lp_gate_upstream "127.0.0.1:{echo}"; }}'
    text = text.replace(known, f"{known} {other}")
    (folder / "nginx.conf").write_text(text)
    await _process(stack, "nginx", "-c", str(folder / "nginx.conf"), "-g", "daemon off;", log=folder / "log")
    return Way(here, there, {"http": "", "echo": "", "origin": gate.headers["origin"]})


async def _chp(stack: AsyncExitStack, folder: Path, port: int, echo: int) -> Way | None:
    if shutil.which("npm") is None or shutil.which("node") is None:
        return None
    folder.mkdir()
    subprocess.run(
        ["npm", "install", "--silent", "--no-audit", "--no-fund", "configurable-http-proxy@5"], cwd=folder, check=True
    )
    listens, api = free_ports(2)
    program = folder / "node_modules" / ".bin" / "configurable-http-proxy"
    options = ("--ip", "127.0.0.1", "--port", str(listens), "--api-ip", "127.0.0.1", "--api-port", str(api))
    await _process(stack, str(program), *options, "--log-level", "error", log=folder / "log")
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{api}", timeout=10) as http:
        for name, upstream in (("x", port), ("y", echo)):
            for _ in range(100):
                try:
                    await http.post(f"/api/routes/i/{name}", json={"target": f"http://127.0.0.1:{upstream}"})
                    break
                except httpx.HTTPError:
                    await asyncio.sleep(0.1)
    base = f"http://127.0.0.1:{listens}/i"
    return Way(f"{base}/x/", f"{base}/y/", {"http": "", "echo": "", "origin": f"http://127.0.0.1:{listens}"})


async def _load(way: Way, connections: int, seconds: int) -> tuple[float, float]:
    """Requests a second, and the p99 in milliseconds; a request that fails ends the run."""
    process = await asyncio.create_subprocess_exec(
        *("wrk", "-t", "1", "-c", str(connections), "-d", f"{seconds}s", "--latency"),
        *("-H", f"Cookie: {way.headers['http']}", way.http_url),
        stdout=asyncio.subprocess.PIPE,
    )
    out = (await process.communicate())[0].decode()
    if "Non-2xx" in out or "Socket errors" in out:
        raise SystemExit(out)
    number, unit = re.findall(r"99%\s+([\d.]+)(us|ms|s)", out)[0]
    rate = float(re.findall(r"Requests/sec:\s+([\d.]+)", out)[0])
    return rate, float(number) * {"us": 0.001, "ms": 1, "s": 1000}[unit]


async def _echo_latency(way: Way) -> float:
    """The median of one message's way there and back, in milliseconds."""
    url = way.echo_url.replace("http:", "ws:")
    headers = {"Cookie": way.headers["echo"]}
    took = []
    async with connect(
        url, additional_headers=headers, origin=Origin(way.headers["origin"]), compression=None, proxy=None
    ) as socket:
        for _ in range(ECHOES):
            begun = perf_counter()
            await socket.send("x" * 64)
            await socket.recv()
            took.append(perf_counter() - begun)
    return statistics.median(took) * 1000


async def main(rounds: int, seconds: int, connections: int) -> None:
    mail = MailServer()
    mail.start()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        async with AsyncExitStack() as stack:
            port = free_ports(1)[0]
            echo = await stack.enter_async_context(_echo())
            upstream = folder / "upstream.conf"
            upstream.write_text(UPSTREAM.format(folder=folder, port=port, filling="x" * 1000))
            await _process(stack, "nginx", "-c", str(upstream), "-g", "daemon off;", log=folder / "upstream.log")
            gate = await _through_gate(stack, mail, folder / "gate", port, echo, cache=True)
            ways = {
                "gate": gate,
                "uncached": await _through_gate(stack, mail, folder / "uncached", port, echo, cache=False),
                "plain": await _plain(stack, gate, folder / "gate" / "nginx.conf", folder / "plain", port, echo),
            }
            chp = await _chp(stack, folder / "chp", port, echo)
            if chp is None:
                print("node or npm is missing: configurable-http-proxy is left out", flush=True)
            else:
                ways["chp"] = chp
            for way in ways.values():
                await _until_answers(way.http_url, {"Cookie": way.headers["http"]} if way.headers["http"] else {})
            print(json.dumps(await _compare(ways, rounds, seconds, connections), indent=2))
    mail.stop()


async def _compare(ways: Mapping[str, Way], rounds: int, seconds: int, connections: int) -> dict[str, object]:
    rates: dict[str, list[float]] = {name: [] for name in ways}
    slow: dict[str, list[float]] = {name: [] for name in ways}
    echoes: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(rounds + 1):
        for name, way in ways.items():
            rate, p99 = await _load(way, connections, seconds if number else 1)
            echo = await _echo_latency(way)
            if number:  # the first one warms up
                rates[name].append(rate)
                slow[name].append(p99)
                echoes[name].append(echo)
                print(f"  round {number} {name}: {rate:.0f}/s, p99 {p99:.1f} ms, echo {echo:.3f} ms", flush=True)
    result: dict[str, object] = {"connections": connections, "rounds": rounds}
    for name in ways:
        result[name] = {
            "requests_per_second": round(statistics.median(rates[name])),
            "p99_ms": round(statistics.median(slow[name]), 2),
            "echo_ms": round(statistics.median(echoes[name]), 3),
        }
    for name in ways:
        if name != "gate":
            both = zip(rates["gate"], rates[name], strict=True)
            result[f"gate_rate_over_{name}"] = round(statistics.median(ours / theirs for ours, theirs in both), 3)
            both = zip(echoes["gate"], echoes[name], strict=True)
            result[f"gate_echo_over_{name}"] = round(statistics.median(ours / theirs for ours, theirs in both), 3)
    return result


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=4)
    parser.add_argument("--connections", type=int, default=32)
    given = parser.parse_args()
    asyncio.run(main(given.rounds, given.seconds, given.connections))
