"""A server with the platform on it, and a person who uses it, for the tests of whole servers.

What the installer would fetch is given to it: the distribution's packages are on the machine, Python's in a folder, and
the environment is a small one of its own.
"""

from __future__ import annotations

import asyncio
import re
import ssl
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from time import monotonic
from typing import Any

import httpx
import pyrage
from websockets.asyncio.client import ClientConnection, connect
from websockets.typing import Origin

from system.machine import Machine

ROOT = Path(__file__).resolve().parents[2]
PORTAL, INSTANCES = "lab.example.org", "run.example.org"
EMAIL = "admin@example.org"
INSTALL_SECONDS = 2400  # patience, in an emulator beside other work
PATIENCE_SECONDS = 600
MIB = 1024**2

BACKUP_KEY = pyrage.x25519.Identity.generate()

SETTINGS = f"""
[backup]
recipients = ["{BACKUP_KEY.to_public()}"]

[limits]
memory = ["64m", "128m"]
default_memory = "64m"
cpus = [1]
storage = ["64m", "128m"]
default_storage = "64m"

[capacity]
memory = "1g"

[[environments]]
name = "rstudio"
enabled = false

[[environments]]
name = "jupyterlab"
enabled = false

[[environments]]
name = "echo"
title = "Echo"
image = "launchpad-test/echo:1"
port = 8080
home = "/home/work"
user = "{{uid}}:{{uid}}"
command = ["/usr/bin/python3", "/echo.py"]
start_timeout_seconds = {PATIENCE_SECONDS}
"""

# An application in the standard library alone: a page, a file that grows, and a WebSocket that repeats what it hears.
ECHO = r"""
import asyncio, base64, hashlib, os, struct

def fill(mebibytes):
    try:
        with open("/home/work/filling", "wb") as file:
            for _ in range(mebibytes):
                file.write(os.urandom(1024) * 1024)
            file.flush()
            os.fsync(file.fileno())
        return "written"
    except OSError as error:
        return os.strerror(error.errno)

async def serve(reader, writer):
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    fields = {name.lower(): value for name, _, value in (line.partition(": ") for line in head[1:])}
    if fields.get("upgrade") != "websocket":
        path = head[0].split()[1]
        text = fill(int(path.rpartition("/")[2])) if path.startswith("/fill/") else f"here as {os.getuid()}"
        writer.write(f"HTTP/1.1 200 OK\r\nContent-Length: {len(text)}\r\nConnection: close\r\n\r\n{text}".encode())
        await writer.drain()
        writer.close()
        return
    proof = hashlib.sha1((fields["sec-websocket-key"] + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11").encode()).digest()
    accept = base64.b64encode(proof).decode()
    head = f"HTTP/1.1 101 S\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {accept}\r\n\r\n"
    writer.write(head.encode())
    try:
        while True:
            first, second = await reader.readexactly(2)
            mask = await reader.readexactly(4)
            body = await reader.readexactly(second & 127)
            plain = bytes(byte ^ mask[n % 4] for n, byte in enumerate(body))
            writer.write(bytes([first, len(plain)]) + plain)
            await writer.drain()
    except (asyncio.IncompleteReadError, ConnectionError):
        writer.close()

async def main():
    async with await asyncio.start_server(serve, "0.0.0.0", 8080) as server:
        await server.serve_forever()

asyncio.run(main())
"""

# Python and what it loads, of the machine's own.
MAKE_IMAGE = """
set -e
folder=$(mktemp -d)
mkdir -p $folder/usr/bin $folder/usr/lib $folder/tmp $folder/home
cp -L /usr/bin/python3 $folder/usr/bin/python3
cp -r /usr/lib/python3.* $folder/usr/lib/
rm -rf $folder/usr/lib/python3*/test $folder/usr/lib/python3*/ensurepip $folder/usr/lib/python3*/config-*
ldd /usr/bin/python3 /usr/lib/python3.*/lib-dynload/*.so | grep -o '/[^ ]*' | grep -v ':$' | sort -u |
  while read -r each; do mkdir -p $folder$(dirname $each); cp -L $each $folder$each; done
cp /root/echo.py $folder/echo.py
tar -c -C $folder . | docker import - launchpad-test/echo:1
"""


class Rewritten(httpx.AsyncBaseTransport):
    """Connects to the machine's port, whatever the host name is; certificates of a trial are nobody's."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._inner = httpx.AsyncHTTPTransport(verify=False)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        there = httpx.Request(
            request.method,
            request.url.copy_with(host="127.0.0.1", port=self._port),
            headers=request.headers,
            stream=request.stream,
            extensions={**request.extensions, "sni_hostname": request.url.host},
        )
        return await self._inner.handle_async_request(there)

    async def aclose(self) -> None:
        await self._inner.aclose()


class Server:
    """The machine with the platform on it, and a person who uses it."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.http = self.client()

    async def move_to(self, machine: Machine) -> None:
        """The same server, from now on found on that machine; who was signed in still is."""
        before, self.machine = self.http, machine
        self.http = self.client()
        self.http.cookies, self.http.headers = before.cookies, before.headers
        await before.aclose()

    def client(self) -> httpx.AsyncClient:
        return httpx.AsyncClient(
            transport=Rewritten(self.machine.https_port), base_url=f"https://{PORTAL}", timeout=PATIENCE_SECONDS
        )

    async def sign_in(self) -> None:
        """With the code of the outbox, since this server has no mail server."""
        await self.http.aclose()
        self.http = self.client()
        self.machine.run("rm -f /var/lib/launchpad/outbox/*.eml")
        asked = await self.http.post("/api/v1/sign-in", json={"email": EMAIL})
        assert asked.status_code == 202, asked.text
        code = None
        while code is None:
            code = re.search(r"#(\w+)", self.machine.run("cat /var/lib/launchpad/outbox/*.eml", ok=False))
        verified = await self.http.post("/api/v1/sign-in/verify", json={"code": code[1]})
        assert verified.status_code == 200, verified.text
        self.http.headers["X-CSRF-Token"] = (await self.http.get("/api/v1/me")).json()["csrf_token"]

    async def launch(self, **wish: Any) -> str:
        answer = await self.http.post("/api/v1/instances", json={"environment": "echo", **wish})
        assert answer.status_code == 202, f"{answer.text}\n{self.journal()}"
        instance_id: str = answer.json()["id"]
        await self.until(instance_id, "running")
        return instance_id

    async def until(self, instance_id: str, *states: str) -> dict[str, Any]:
        deadline = monotonic() + PATIENCE_SECONDS
        while True:
            instance: dict[str, Any] = (await self.http.get(f"/api/v1/instances/{instance_id}")).json()
            if instance["state"] in states:
                return instance
            assert monotonic() < deadline, f"{instance}\n{self.journal()}"
            await asyncio.sleep(0.5)

    async def open(self, instance_id: str, path: str = "/") -> httpx.Response:
        """As Open does; the client has the instance's cookie then."""
        ticket = await self.http.get(f"/api/v1/instances/{instance_id}/open", follow_redirects=False)
        assert ticket.status_code == 303, ticket.text
        entered = await self.http.get(ticket.headers["location"], follow_redirects=False)
        assert entered.status_code == 303, entered.text
        return await self.http.get(f"https://{INSTANCES}/i/{instance_id}{path}")

    @asynccontextmanager
    async def socket(self, instance_id: str, *, cookie: bool = True) -> AsyncIterator[ClientConnection]:
        trusting = ssl.create_default_context()
        trusting.check_hostname, trusting.verify_mode = False, ssl.CERT_NONE
        held = "; ".join(f"{each.name}={each.value}" for each in self.http.cookies.jar if instance_id in each.path)
        async with connect(
            f"wss://{INSTANCES}/i/{instance_id}/",
            host="127.0.0.1",
            port=self.machine.https_port,
            ssl=trusting,
            origin=Origin(f"https://{INSTANCES}"),
            additional_headers={"Cookie": held} if cookie else {},
            proxy=None,
            open_timeout=PATIENCE_SECONDS,
        ) as connection:
            yield connection

    async def until_ready(self) -> None:
        deadline = monotonic() + PATIENCE_SECONDS
        while True:
            try:
                if (await self.http.get("/readyz")).status_code == 200:
                    return
            except httpx.HTTPError:
                pass
            assert monotonic() < deadline, self.journal()
            await asyncio.sleep(1)

    def journal(self) -> str:
        return self.machine.run("journalctl -b --no-pager -u 'launchpad*' -u nginx | tail -n 60", ok=False)

    def scope(self, instance_id: str) -> str:
        """The folder of the instance's control group."""
        container = self.machine.run(f"docker ps -q --no-trunc --filter label=org.launchpad.instance={instance_id}")
        return f"/sys/fs/cgroup/system.slice/docker-{container.strip()}.scope"


def install(machine: Machine, *options: str, clone: str = "/root/clone", ok: bool = True) -> str:
    flags = f"--unattended --wheelhouse /root/wheels --images none {' '.join(options)}"
    said = machine.run(f"cd {clone} && ./install.sh {flags} || echo failed", seconds=INSTALL_SECONDS)
    assert said.rstrip().endswith("failed") is not ok, said
    return said


@asynccontextmanager
async def server_on(machine: Machine) -> AsyncIterator[Server]:
    """The machine, started, with the program's source and its packages in /root; switched off afterwards."""
    server = None
    with tempfile.TemporaryDirectory(prefix="launchpad-test-wheels-") as wheels:
        locked = ("--require-hashes", "-r", str(ROOT / "requirements.lock"), "-d", wheels)
        subprocess.run([sys.executable, "-m", "pip", "download", "-q", *locked], check=True, capture_output=True)
        try:
            machine.start()
            tracked = subprocess.run(
                ["git", "ls-files", "-co", "--exclude-standard", "-z"], cwd=ROOT, check=True, capture_output=True
            ).stdout.decode()
            machine.copy_in(ROOT, "/root/clone", [name for name in tracked.split("\0") if (ROOT / name).is_file()])
            machine.copy_in(Path(wheels), "/root/wheels")
            server = Server(machine)
            yield server
        finally:
            if server is not None:
                await server.http.aclose()
            machine.power_off()


def slow_sweeps(machine: Machine, *, slow: bool) -> None:
    """A sweep takes an emulated server half of a minute, and would be half of what it does; not while it is tested."""
    folder = "/etc/systemd/system/launchpad-sweep.timer.d"
    lines = ("[Timer]", "OnUnitActiveSec=", "OnBootSec=30s", "OnUnitActiveSec=15min")  # the second one empties the list
    write = f"mkdir -p {folder} && printf '%s\\n' {' '.join(lines)} >{folder}/slow.conf"
    machine.run(write if slow else f"rm -rf {folder}")
    machine.run("systemctl daemon-reload && systemctl restart launchpad-sweep.timer")


async def install_from_nothing(server: Server) -> None:
    """As an administrator does it with everything told beforehand; a dry run before changes nothing."""
    machine = server.machine
    machine.run(f"cat >/root/echo.py <<'END'\n{ECHO}\nEND\ncat >/root/more.toml <<'END'\n{SETTINGS}\nEND\n{MAKE_IMAGE}")
    options = (
        f"--url https://{PORTAL} --instances-url https://{INSTANCES} --admin {EMAIL} --settings /root/more.toml",
    )
    would = install(machine, *options, "--dry-run")
    assert "would: Starting services" in would
    assert machine.code("test -e /etc/launchpad || test -e /opt/launchpad || id launchpad") != 0
    said = install(machine, *options)
    assert said.rstrip().endswith(f"Ready: https://{PORTAL}"), said
    assert "Left for you:" in said
    await server.until_ready()
    assert machine.run("systemctl --failed --no-legend").strip() == ""
    slow_sweeps(machine, slow=True)
