"""A whole server with systemd: installed by `install.sh`, used through TLS, rebooted, and left again.

The tests stand in the order of a server's life and build on each other; the first one takes minutes, since the machine
is emulated. What the installer would fetch is given to it: the distribution's packages are on the disk, Python's in a
folder, and the environment is a small one of its own.
"""

from __future__ import annotations

import asyncio
import re
import shlex
import ssl
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from time import monotonic
from typing import Any

import httpx
import pyrage
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import InvalidStatus
from websockets.typing import Origin

from system.machine import Machine

ROOT = Path(__file__).resolve().parents[2]
PORTAL, INSTANCES = "lab.example.org", "run.example.org"
EMAIL = "admin@example.org"
INSTALL_SECONDS = 900
PATIENCE_SECONDS = 240
MIB = 1024**2

pytestmark = pytest.mark.timeout(INSTALL_SECONDS + 300)

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
        assert answer.status_code == 202, answer.text
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


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with tempfile.TemporaryDirectory(prefix="launchpad-test-wheels-") as wheels:
        locked = ("--require-hashes", "-r", str(ROOT / "requirements.lock"), "-d", wheels)
        subprocess.run([sys.executable, "-m", "pip", "download", "-q", *locked], check=True, capture_output=True)
        machine = Machine(tmp_path_factory.mktemp("server"))
        try:
            machine.start()
            tracked = subprocess.run(
                ["git", "ls-files", "-co", "--exclude-standard", "-z"], cwd=ROOT, check=True, capture_output=True
            ).stdout.decode()
            machine.copy_in(ROOT, "/root/clone", [name for name in tracked.split("\0") if (ROOT / name).is_file()])
            machine.copy_in(Path(wheels), "/root/wheels")
            yield Server(machine)
        finally:
            machine.power_off()


def slow_sweeps(machine: Machine, *, slow: bool) -> None:
    """A sweep takes an emulated server half of a minute, and would be half of what it does; not while it is tested."""
    folder = "/etc/systemd/system/launchpad-sweep.timer.d"
    lines = ("[Timer]", "OnUnitActiveSec=", "OnBootSec=30s", "OnUnitActiveSec=15min")  # the second one empties the list
    write = f"mkdir -p {folder} && printf '%s\\n' {' '.join(lines)} >{folder}/slow.conf"
    machine.run(write if slow else f"rm -rf {folder}")
    machine.run("systemctl daemon-reload && systemctl restart launchpad-sweep.timer")


async def test_answers_that_do_not_fit_are_refused_before_anything_is_done(server: Server) -> None:
    good = {"--url": f"https://{PORTAL}", "--instances-url": f"https://{INSTANCES}", "--admin": EMAIL, "--mail": "none"}
    for option, value, said in (
        ("--url", "", "--url is needed"),
        ("--url", "http://lab.example.org", "write it like https"),
        ("--url", "https://lab.example.org/path", "write it like https"),
        ("--instances-url", "https://{user}.example.org", "write it like https"),
        ("--admin", "nobody", "write it like you@"),
        ("--admin", 'a"@example.org', "write it like you@"),
        ("--tls", "none", "choose self-signed"),
        ("--tls", "files", "needs --certificate and --key"),
        ("--mail", "a b", "host name"),
        ("--mail-port", "many", "write a number"),
        ("--images", "buy", "choose pull"),
        ("--settings", "/root/nothing.toml", "cannot be read"),
        ("--colour", "red", "There is no option --colour"),
    ):
        options = " ".join(f"{name} {shlex.quote(text)}" for name, text in ({**good, option: value}).items())
        refused = server.machine.run(f"cd /root/clone && ./install.sh --unattended {options}; echo code $?")
        assert said in refused, (option, value, refused)
        assert refused.rstrip().endswith("code 1"), refused
    assert server.machine.code("test -e /etc/launchpad || test -e /opt/launchpad || id launchpad") != 0


async def test_a_fresh_server_is_installed_by_one_command(server: Server) -> None:
    """And asked nothing; a dry run before changes nothing."""
    machine = server.machine
    machine.run("printf 'LABEL=homes /home ext4 prjquota,nodev,nosuid 0 2\n' >>/etc/fstab && mount /home")
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


async def test_units_are_sound_and_closed(server: Server) -> None:
    machine = server.machine
    units = " ".join(f"/etc/systemd/system/launchpad*.{kind}" for kind in ("service", "socket", "timer"))
    assert machine.run(f"systemd-analyze verify {units}").strip() == ""
    closed = ("launchpad", "launchpad-sweep", "launchpad-backup", "launchpad-drill", "launchpad-failed@some")
    for unit, most in (*((unit, 2.0) for unit in closed), ("launchpad-helper", 4.5)):
        said = machine.run(f"systemd-analyze security --no-pager {unit}.service")
        exposure = re.search(r"exposure level for \S+: ([\d.]+)", said)
        assert exposure is not None, said
        assert float(exposure[1]) <= most, f"{unit}: {exposure[1]}"


async def test_c6_the_portals_user_has_neither_engine_nor_homes(server: Server) -> None:
    machine = server.machine
    assert machine.run("ps -o user= -p $(systemctl show -p MainPID --value launchpad)").strip() == "launchpad"
    denied = machine.run(
        "runuser -u launchpad -- docker run --rm -v /:/h launchpad-test/echo:1 cat /h/etc/shadow", ok=False
    )
    assert "permission denied" in denied
    assert "launchpad-test/echo:1" in machine.run("docker image ls --format '{{.Repository}}:{{.Tag}}'"), "the control"
    assert machine.code("runuser -u www-data -- cat /etc/launchpad/launchpad.toml") != 0


async def test_a_researcher_signs_in_over_tls_and_works(server: Server) -> None:
    """Page, WebSocket, home: through nginx, in a container with the user's own uid."""
    await server.sign_in()
    assert (await server.http.get("/api/v1/me")).json()["role"] == "admin"
    instance_id = await server.launch()
    page = await server.open(instance_id)
    assert page.status_code == 200
    uid = int(page.text.removeprefix("here as "))
    assert uid >= 200_000
    async with server.socket(instance_id) as connection:
        await connection.send("hello")
        assert await connection.recv() == "hello"
    with pytest.raises(InvalidStatus):
        async with server.socket(instance_id, cookie=False):
            pass
    home = server.machine.run("stat -c '%u %a' /home/admin-user").split()
    assert home == [str(uid), "700"]
    dashboard = await server.http.get("/dashboard")
    assert dashboard.status_code == 200
    assert "max-age" in dashboard.headers["strict-transport-security"]


async def test_a_full_home_ends_its_owners_writing(server: Server) -> None:
    """The storage that was chosen at the launch, 64 MB, is a project quota of ext4."""
    (instance,) = (await server.http.get("/api/v1/instances")).json()
    assert (await server.open(instance["id"], "/fill/40")).text == "written"
    assert (await server.open(instance["id"], "/fill/100")).text == "Disk quota exceeded"
    assert server.machine.code("touch /home/beside && rm /home/beside") == 0
    assert (await server.open(instance["id"], "/fill/1")).text == "written"
    assert "with size limits" in server.machine.run("launchpad doctor", ok=False)


async def test_project_quotas_keep_the_contract_of_homes(server: Server) -> None:
    """The suite that every way of keeping homes is held to, where the kernel has project quotas."""
    packages = Path(pytest.__file__).parents[1]
    patterns = ("pytest*", "_pytest", "py.py", "pluggy*", "iniconfig*", "packaging*", "pygments*")
    names = [path.name for pattern in patterns for path in packages.glob(pattern)]
    server.machine.copy_in(packages, "/root/pytest", names)
    said = server.machine.run(
        "cd /root/clone && LAUNCHPAD_TEST_PROJECT_QUOTA_ROOT=/home/contract PYTHONPATH=src:tests:/root/pytest "
        "/opt/launchpad/current/bin/python -m pytest --noconftest -p no:cacheprovider -q "
        "tests/contract/test_storage.py -k 'project-quota or files_from_before or another_project'; "
        "rm -rf /home/contract",
        seconds=600,
    )
    passed = re.search(r"^(\d+) passed", said, re.MULTILINE)
    assert passed is not None, said
    assert "failed" not in said, said
    assert "error" not in said.splitlines()[-1], said
    assert int(passed[1]) > 15


async def test_limits_are_in_force_under_cgroup_v2(server: Server) -> None:
    (instance,) = (await server.http.get("/api/v1/instances")).json()
    scope = server.scope(instance["id"])
    read = server.machine.run(f"cd {scope} && cat memory.max memory.swap.max pids.max cpu.max").split()
    assert read == [str(64 * MIB), "0", "2048", "100000", "100000"]


async def test_the_timer_ends_what_has_expired(server: Server) -> None:
    (instance,) = (await server.http.get("/api/v1/instances")).json()
    server.machine.run(
        "runuser -u launchpad -- python3 -c \"import sqlite3; db = sqlite3.connect('/var/lib/launchpad/launchpad.db');"
        " db.execute('UPDATE instances SET expires_at = ?', ('2020-01-01 00:00:00.000000',)); db.commit()\""
    )
    slow_sweeps(server.machine, slow=False)
    ended = await server.until(instance["id"], "expired")
    assert ended["reason"].startswith("expired")
    slow_sweeps(server.machine, slow=True)
    assert server.machine.run("docker ps -q").strip() == ""


async def test_f2_instances_outlive_a_restart_of_the_engine_and_of_the_portal(server: Server) -> None:
    """Of the engine: connections go through a process of its own, and are made anew. Of the portal: not even those."""
    instance_id = await server.launch()
    await server.open(instance_id)
    started = "docker ps -q --no-trunc | xargs docker inspect -f '{{.Id}} {{.State.Pid}} {{.State.StartedAt}}'"
    before = server.machine.run(started)
    server.machine.run("systemctl restart docker")
    assert server.machine.run(started) == before
    await server.until_ready()
    async with server.socket(instance_id) as connection:
        server.machine.run("systemctl restart launchpad launchpad-helper")
        await connection.send("still here")
        assert await connection.recv() == "still here"
    await server.until_ready()
    assert (await server.http.get(f"/api/v1/instances/{instance_id}")).json()["state"] == "running"
    assert (await server.http.get(f"https://{INSTANCES}/i/{instance_id}/")).status_code == 200


async def test_another_run_of_the_installer_changes_nothing_that_runs(server: Server) -> None:
    settings = server.machine.run("sha256sum /etc/launchpad/launchpad.toml /etc/launchpad/tls/*")
    before = server.machine.run("systemctl show -p ActiveEnterTimestamp launchpad launchpad-helper; docker ps -q")
    install(server.machine)
    assert server.machine.run("sha256sum /etc/launchpad/launchpad.toml /etc/launchpad/tls/*") == settings
    assert (
        server.machine.run("systemctl show -p ActiveEnterTimestamp launchpad launchpad-helper; docker ps -q") == before
    )


async def test_f16_a_nightly_backup_is_rehearsed_and_brought_back_on_a_server_that_knows_nothing(
    server: Server,
) -> None:
    """The units of the timers; the site's own program for the homes; then a new deployment becomes the old one."""
    machine = server.machine
    (instance,) = [each for each in (await server.http.get("/api/v1/instances")).json() if each["state"] == "running"]
    machine.run(
        "printf '#!/bin/sh\\ntouch /root/homes-saved\\n' >/etc/launchpad/backup-homes && "
        "chmod +x /etc/launchpad/backup-homes && systemctl start launchpad-backup.service"
    )
    made = machine.run("ls -t /var/backups/launchpad/*.tar.gz.age | head -n 1").strip()
    assert machine.run(f"stat -c '%U %a' {made}").split() == ["launchpad", "600"]
    machine.run("for each in $(seq 60); do test -e /root/homes-saved && exit; sleep 1; done; exit 1")
    machine.run("rm -f /var/lib/launchpad/outbox/*.eml; systemctl start launchpad-drill.service")
    assert "drill passed" in machine.run("grep -h ^Subject: /var/lib/launchpad/outbox/*.eml")

    old_id = machine.run("cat /var/lib/launchpad/deployment-id")
    machine.run(
        "systemctl stop launchpad.socket launchpad launchpad-sweep.timer launchpad-helper; "
        "mkdir /root/old && mv /var/lib/launchpad/* /root/old/ && rm -rf /var/lib/launchpad-helper/*; "
        "launchpad user list --json >/dev/null && systemctl start launchpad.socket launchpad launchpad-sweep.timer"
    )
    assert machine.run("cat /var/lib/launchpad/deployment-id") != old_id
    machine.run(f"cat >/root/identity <<'END'\n{BACKUP_KEY}\nEND")
    said = machine.run(f"launchpad restore {made} --identity /root/identity")
    assert "Restored 1 users and" in said
    assert machine.run("cat /var/lib/launchpad/deployment-id") == old_id
    await server.until_ready()
    assert (await server.http.get("/api/v1/me")).status_code == 401, "nobody is signed in"
    await server.sign_in()
    assert (await server.http.get(f"/api/v1/instances/{instance['id']}")).json()["state"] == "running"
    assert (await server.open(instance["id"])).status_code == 200
    kept = machine.run("cat /var/lib/launchpad/launchpad.toml.restored")
    assert kept.strip() == machine.run("cat /etc/launchpad/launchpad.toml").strip()


async def test_f5_while_the_disk_is_full_changes_answer_503_and_instances_go_on(server: Server) -> None:
    """No half row, and work goes on by itself when there is room again."""
    machine = server.machine
    (instance,) = [each for each in (await server.http.get("/api/v1/instances")).json() if each["state"] == "running"]

    async def add(name: str) -> int:
        answer = await server.http.post("/api/v1/tokens", json={"name": name})
        assert answer.status_code in (200, 201, 503), answer.text
        assert answer.headers["content-type"].startswith("application/"), answer.text
        return answer.status_code

    async with server.socket(instance["id"]) as connection:
        machine.run("head -c 20G /dev/zero >/filling 2>/dev/null; sync", ok=False)
        statuses = []
        for number in range(400):
            statuses.append(await add(f"full-{number}"))
            if statuses[-3:] == [503] * 3:
                break
        assert statuses[-1] == 503, "the disk never was full for the portal"
        await connection.send("still here")
        assert await connection.recv() == "still here"
        machine.run("rm /filling; sync")
    assert await add("after") < 300
    there = [token["name"] for token in (await server.http.get("/api/v1/tokens?limit=500")).json()]
    expected = [f"full-{number}" for number, status in enumerate(statuses) if status < 300]
    assert sorted(there) == sorted([*expected, "after"])
    checked = machine.run(
        "runuser -u launchpad -- python3 -c \"import sqlite3; db = sqlite3.connect('/var/lib/launchpad/launchpad.db');"
        " print(db.execute('PRAGMA integrity_check').fetchone()[0])\""
    )
    assert checked.strip() == "ok"


BROKEN = {
    # Changes the tables, and then does not start.
    "src/launchpad/store/migrations/versions/9999_another_table.py": (
        'revision, down_revision, branch_labels, depends_on = "9999", "{head}", None, None\n\n\n'
        "def upgrade() -> None:\n    from alembic import op\n\n    op.execute('CREATE TABLE another (id INTEGER)')\n"
    ),
}


def another_version(machine: Machine, version: str, folder: str) -> str:
    """A clone that calls itself `version`."""
    machine.run(
        f"rm -rf {folder} && cp -R /root/clone {folder} && "
        f"sed -i 's/^__version__ = .*/__version__ = \"{version}\"/' {folder}/src/launchpad/__init__.py && "
        f"sed -i 's/^version = .*/version = \"{version}\"/' {folder}/pyproject.toml"
    )
    return folder


async def test_an_upgrade_that_does_not_become_healthy_is_taken_back(server: Server) -> None:
    machine = server.machine
    (instance,) = [each for each in (await server.http.get("/api/v1/instances")).json() if each["state"] == "running"]
    await server.open(instance["id"])
    head = max(re.findall(r"^(\d{4})_", machine.run("ls /root/clone/src/launchpad/store/migrations/versions"), re.M))
    broken = another_version(machine, "0.2.0", "/root/broken")
    for name, text in BROKEN.items():
        machine.run(f"cat >{broken}/{name} <<'END'\n{text.replace('{head}', head)}END")
    machine.run(
        f"sed -i 's/^\\( *\\)await platform.database.migrate()$/&\\n\\1raise RuntimeError(\"broken\")/' "
        f"{broken}/src/launchpad/web/app.py && grep -q broken {broken}/src/launchpad/web/app.py"
    )
    async with server.socket(instance["id"]) as connection:
        said = install(machine, clone=broken, ok=False)
        assert "0.1.0 was restored, instances kept running" in said, said
        assert "from before the upgrade was restored" in said, said
        await connection.send("still here")
        assert await connection.recv() == "still here"
    await server.until_ready()
    assert machine.run("launchpad version").strip() == "0.1.0"
    assert (await server.http.get(f"/api/v1/instances/{instance['id']}")).json()["state"] == "running"
    assert machine.run("systemctl is-active launchpad launchpad-helper launchpad-sweep.timer").split() == ["active"] * 3


async def test_an_upgrade_keeps_instances_and_logins_and_the_way_back_is_closed(server: Server) -> None:
    machine = server.machine
    (instance,) = [each for each in (await server.http.get("/api/v1/instances")).json() if each["state"] == "running"]
    await server.open(instance["id"])
    async with server.socket(instance["id"]) as connection:
        said = install(machine, clone=another_version(machine, "0.1.1", "/root/newer"))
        assert said.rstrip().endswith(f"Ready: https://{PORTAL}"), said
        await connection.send("still here")
        assert await connection.recv() == "still here"
    assert machine.run("launchpad version").strip() == "0.1.1"
    assert (await server.http.get("/api/v1/me")).status_code == 200
    assert len(machine.run("ls /opt/launchpad/releases").split()) == 2, "what was before is kept, and no more"
    refused = install(machine, ok=False)
    assert "Version 0.1.1 is installed, and this is the older 0.1.0" in refused
    assert machine.run("launchpad version").strip() == "0.1.1"


async def test_f13_after_a_reboot_the_platform_comes_back_by_itself(server: Server) -> None:
    """The instance's end is recorded with its reason, the home is there, and a new one starts."""
    (instance,) = [each for each in (await server.http.get("/api/v1/instances")).json() if each["state"] == "running"]
    server.machine.run("echo kept >/home/admin-user/kept")
    server.machine.reboot()
    await server.until_ready()
    ended = await server.until(instance["id"], "failed", "stopped")
    assert ended["reason"]
    assert server.machine.run("systemctl is-active launchpad-sweep.timer nginx docker").split() == ["active"] * 3
    instance_id = await server.launch()
    assert (await server.open(instance_id)).status_code == 200
    assert server.machine.run("cat /home/admin-user/kept").strip() == "kept"


async def test_settings_that_nginx_refuses_leave_the_site_as_it_is(server: Server) -> None:
    machine = server.machine
    machine.run("cp /etc/launchpad/tls/chain.pem /root/ && echo broken >/etc/launchpad/tls/chain.pem")
    said = machine.run("launchpad-apply", ok=False)
    assert "the previous one was restored" in said
    machine.run("cp /root/chain.pem /etc/launchpad/tls/chain.pem && launchpad-apply")
    await server.until_ready()


async def test_uninstalled_it_leaves_the_data_and_nothing_else(server: Server) -> None:
    machine = server.machine
    said = machine.run("cd /root/clone && ./install.sh --uninstall --yes")
    assert "Kept:" in said
    assert machine.run("docker ps -aq").strip() == ""
    assert "LP-" not in machine.run("iptables -S")
    assert "launchpad" not in machine.run("nft list tables")
    assert machine.code("docker network inspect launchpad") != 0
    assert machine.run("systemctl list-unit-files --no-legend 'launchpad*'", ok=False).strip() == ""
    assert machine.code("test -e /opt/launchpad || test -e /usr/local/bin/launchpad") != 0
    assert machine.run("cat /home/admin-user/kept").strip() == "kept"
    assert machine.code("test -s /var/lib/launchpad/launchpad.db && test -s /etc/launchpad/launchpad.toml") == 0
    machine.run("nginx -t")
