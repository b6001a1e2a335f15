"""A whole platform of real parts: the portal as a process of its own, nginx, Docker Engine, an SMTP server."""

from __future__ import annotations

import asyncio
import json
import os
import pwd
import secrets
import shutil
import signal
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from time import monotonic
from typing import Any

import httpx

from launchpad.domain.origins import InstancesOrigin
from launchpad.ops.certificates import site_certificates
from launchpad.ops.nginx.site import rendered
from launchpad.runtime.egress import EgressRules
from launchpad.services.recipes import read_recipes, shipped_folder
from launchpad.settings import EgressSettings, load_settings
from launchpad.store.statedir import StateDir

from .certificates import certificate
from .open_program import OWN, Program
from .portal_process import PortalProcess, Runs
from .ports import free_ports
from .rstudio import RStudio
from .smtp import MailServer

ENGINE_SECONDS = 300  # patience; an engine that hangs must not hold everything else up
END_SECONDS = 120
FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.05, 0.5
LABEL_DEPLOYMENT = "org.launchpad.deployment"


def docker(*arguments: str) -> str:
    """Output of the docker command; an assertion when it fails, or the engine does not answer."""
    done = subprocess.run(["docker", *arguments], capture_output=True, text=True, check=False, timeout=ENGINE_SECONDS)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def built_image(recipe: str) -> str:
    """The image of a shipped recipe as it is in this tree, whatever else is on the engine."""
    tag = read_recipes(shipped_folder(), site_certificates(()))[recipe].tag
    assert docker("images", "-q", tag), f"{tag} is not there; run: launchpad images build"
    return tag


# How portal and instances can be kept apart: `{0}` and `{1}` are two free ports.


def longer(pause_seconds: float) -> float:
    """The next pause of who looks whether something has come: looks take from what they wait for."""
    return min(1.25 * pause_seconds, LONGEST_PAUSE_SECONDS)


MODES = {
    "two ports": ("http://localhost:{0}", "http://localhost:{1}"),
    "two names": ("http://portal.localhost:{0}", "http://run.localhost:{0}"),
    "two names over https": ("https://portal.localhost:{0}", "https://run.localhost:{0}"),
    "a name for each": ("http://portal.localhost:{0}", "http://{{instance}}.lab.localhost:{0}"),
}


async def remove_network(name: str, deployment_id: str) -> None:
    """A network and its rules, which outlive the program: instances may still run."""
    subprocess.run(["docker", "network", "rm", name], capture_output=True, check=False, timeout=ENGINE_SECONDS)
    await EgressRules(EgressSettings(), deployment_id).remove()


class LivePlatform:
    """`tables` are put over the settings: LivePlatform(folder, {"limits": {"instances_per_user": 3}})."""

    def __init__(
        self,
        folder: Path,
        mail: MailServer,
        tables: Mapping[str, Any] | None = None,
        *,
        mode: str = "two ports",
        path: Path | None = None,
        helper_user: str = "",
        program: Program = OWN,
    ) -> None:
        self.path = path  # programs in it are found before the system's
        self.folder = folder
        self.mail = mail
        self.mode = mode
        ports = free_ports(2)
        self.public_url, self.instances_url = (url.format(*ports) for url in MODES[mode])
        self.origin = InstancesOrigin(self.instances_url)
        self.homes = folder / "homes"
        self.homes.mkdir()
        self.state = folder / "state"
        self.network = f"launchpad-test-{secrets.token_hex(4)}"
        self.config = folder / "launchpad.toml"
        first_port = 30000 + secrets.randbelow(200) * 100
        if mode.endswith("https"):
            chain, key = certificate(folder, *(httpx.URL(url).host for url in (self.public_url, self.instances_url)))
            tables = {**(tables or {}), "tls": {"certificate": str(chain), "key": str(key)}}
        self.tables: dict[str, Any] = {
            "public_url": self.public_url,
            "instances_url": self.instances_url,
            "state_dir": str(self.state),
            "admin_emails": ["admin@example.org"],
            "sign_in": {"sends_per_hour_per_client": 1000, "failures_per_hour_per_client": 1000},
            "mail": {"host": "127.0.0.1", "port": mail.port, "security": "none", "from_address": "lp@example.org"},
            "homes": {"root": str(self.homes), "driver": "plain"},
            "engine": {"network": self.network, "port_range": f"{first_port}-{first_port + 99}"},
            "capacity": {"memory": "64g", "cpus": 64},
        }
        self.program = program
        self.helper_user = helper_user  # whose portal works through the privileged helper
        self.helper: asyncio.subprocess.Process | None = None
        if helper_user:
            helper = {"socket": str(folder / "helper.sock"), "user": helper_user, "state_dir": str(folder / "helper")}
            self.tables |= {"helper": helper, "web": {"socket": str(folder / "run" / "portal.sock")}}
        for name, table in (tables or {}).items():
            before = self.tables.get(name)
            both = isinstance(table, dict) and isinstance(before, dict)
            self.tables[name] = {**before, **table} if both else table  # type: ignore[dict-item]
        self.portal: Runs | None = None
        self.nginx: asyncio.subprocess.Process | None = None

    @property
    def variables(self) -> dict[str, str]:
        """For commands of the program against this platform: every setting as a variable."""
        clean = {name: value for name, value in os.environ.items() if not name.startswith("LAUNCHPAD_")}
        clean |= {"PYTHONFAULTHANDLER": "1", **self.program.variables}  # what does not end tells where it stands
        if self.path is not None:
            clean["PATH"] = f"{self.path}:{clean['PATH']}"
        for name, value in self.tables.items():
            if isinstance(value, dict):
                for key, inner in value.items():
                    clean[f"LAUNCHPAD_{name}__{key}".upper()] = _text(inner)
            else:
                clean[f"LAUNCHPAD_{name}".upper()] = _text(value)
        return clean

    @property
    def deployment_id(self) -> str:
        return (self.state / "deployment-id").read_text().strip()

    async def start(self) -> None:
        if self.helper_user:
            await self.start_helper()
        await self.start_portal(wait=False)
        await self.start_nginx()
        await self.wait_until_ready()

    async def start_portal(self, *, wait: bool = True) -> None:
        self.portal = await self.serve(self.variables, self.folder / "portal.log")
        if wait:
            await self.wait_until_ready()

    async def serve(self, variables: Mapping[str, str], log: Path) -> Runs:
        """A portal's process."""
        if self.program == OWN:
            return PortalProcess(variables, log)
        with log.open("ab") as into:
            return await asyncio.create_subprocess_exec(
                *self.program.command, "serve", env=variables, stdout=into, stderr=into
            )

    async def start_helper(self) -> None:
        """As the installer leaves a server: the state is the portal's user's, and the helper has seen it once."""
        user = pwd.getpwnam(self.helper_user)
        StateDir(self.state)
        for path in (self.state, *self.state.rglob("*")):
            os.lchown(path, user.pw_uid, user.pw_gid)
        with (self.folder / "helper.log").open("ab") as log:
            self.helper = await asyncio.create_subprocess_exec(
                *self.program.command, "helper", env=self.variables, stdout=log, stderr=log
            )
        async with asyncio.timeout(120):
            while not (self.folder / "helper.sock").exists():
                assert self.helper.returncode is None, (self.folder / "helper.log").read_text()
                await asyncio.sleep(0.05)

    async def start_nginx(self) -> None:
        configuration = self.folder / "nginx.conf"
        if self.helper_user:
            self.command("nginx", "render", "-o", str(configuration))
        else:  # what that command does, without a program's start for each platform
            settings = load_settings(variables=self.variables)
            configuration.write_text(rendered(settings, StateDir(self.state), "full"))
        run = self.folder / "run" if self.helper_user else Path(f"/run/launchpad-{self.deployment_id}")
        (run / "nginx").mkdir(parents=True, exist_ok=True)
        log = (self.folder / "nginx.log").open("ab")
        self.nginx = await asyncio.create_subprocess_exec(
            "nginx", "-c", str(configuration), "-g", "daemon off;", stdout=log, stderr=log
        )
        log.close()

    def client(self) -> httpx.AsyncClient:
        """Somebody with cookies of their own. Certificates of tests are nobody's."""
        return httpx.AsyncClient(base_url=self.public_url, timeout=60, verify=False)

    async def wait_until_ready(self, patience_seconds: float = 120.0) -> None:
        deadline, pause_seconds = monotonic() + patience_seconds, FIRST_PAUSE_SECONDS
        async with self.client() as http:
            while True:
                try:
                    answer = await http.get("/readyz")
                    if answer.status_code == 200:
                        return
                    what = answer.text
                except httpx.HTTPError as error:
                    what = repr(error)
                assert monotonic() < deadline, f"not ready: {what}\n{self.log()}"
                await asyncio.sleep(pause_seconds)
                pause_seconds = longer(pause_seconds)

    def log(self) -> str:
        """What portal and nginx printed, for the message of a failing test."""
        logs = (self.folder / name for name in ("portal.log", "helper.log", "nginx.log"))
        return "\n".join(log.read_text()[-4000:] for log in logs if log.exists())

    async def kill_portal(self) -> None:
        """As the kernel would: no chance to say goodbye."""
        assert self.portal is not None
        self.portal.send_signal(signal.SIGKILL)
        await self.portal.wait()

    def command(self, *arguments: str, ok: bool = True) -> str:
        """Output of a command of the program against this platform."""
        done = subprocess.run(
            [*self.program.command, *arguments],
            env=self.variables,
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )
        assert (done.returncode == 0) is ok, done.stdout + done.stderr
        return done.stdout + done.stderr

    async def stop(self) -> None:
        deaf = [process for process in (self.portal, self.nginx, self.helper) if process and not await _ends(process)]
        if (self.state / "deployment-id").exists():
            for container in self.containers():
                docker("rm", "-f", container)
            shutil.rmtree(f"/run/launchpad-{self.deployment_id}", ignore_errors=True)
            await remove_network(self.network, self.deployment_id)
        assert not deaf, f"{deaf} did not end at SIGTERM\n{self.log()}"

    def containers(self) -> list[str]:
        """Ids of the deployment's containers, in every state."""
        return docker("ps", "-aq", "--filter", f"label={LABEL_DEPLOYMENT}={self.deployment_id}").split()

    def container_of(self, instance_id: str) -> dict[str, Any]:
        """What the engine says of an instance's container."""
        name = docker("ps", "-aq", "--filter", f"label=org.launchpad.instance={instance_id}")
        found: dict[str, Any] = json.loads(docker("inspect", name))[0]
        return found

    @asynccontextmanager
    async def person(self, email: str) -> AsyncIterator[Person]:
        """Somebody who has signed in over SMTP, with a client that sends cookies and the CSRF token."""
        async with self.client() as http:
            person = Person(self, http, email)
            await person.sign_in()
            yield person


StartPlatform = Callable[..., Awaitable[LivePlatform]]


class Person:
    """A signed-in client of the API."""

    def __init__(self, live: LivePlatform, http: httpx.AsyncClient, email: str) -> None:
        self.live = live
        self.http = http
        self.email = email
        self.me: dict[str, Any] = {}
        self.applications: dict[str, str] = {}  # addresses of what a test runs in the instances

    async def sign_in(self) -> None:
        seen = len(self.live.mail.mails_to(self.email))
        asked = await self.http.post("/api/v1/sign-in", json={"email": self.email})
        assert asked.status_code == 202, asked.text
        code = await self.live.mail.code_for(self.email, seen=seen)
        answer = await self.http.post("/api/v1/sign-in/verify", json={"code": code, "remember": False})
        assert answer.status_code == 200, answer.text
        self.me = (await self.http.get("/api/v1/me")).json()
        self.http.headers["X-CSRF-Token"] = self.me["csrf_token"]

    async def launch(self, environment: str, **wish: Any) -> dict[str, Any]:
        answer = await self.http.post("/api/v1/instances", json={"environment": environment, **wish})
        assert answer.status_code == 202, answer.text
        instance: dict[str, Any] = answer.json()
        return instance

    async def get(self, instance_id: str) -> dict[str, Any]:
        answer = await self.http.get(f"/api/v1/instances/{instance_id}")
        assert answer.status_code == 200, answer.text
        instance: dict[str, Any] = answer.json()
        return instance

    async def wait_for(self, instance_id: str, *states: str, patience_seconds: float = 300.0) -> dict[str, Any]:
        """The instance once it is in one of these states."""
        deadline, pause_seconds = monotonic() + patience_seconds, FIRST_PAUSE_SECONDS
        while True:
            instance = await self.get(instance_id)
            if instance["state"] in states:
                return instance
            assert instance["state"] not in ("failed", "stopped", "expired"), f"{instance}\n{self.live.log()}"
            assert monotonic() < deadline, f"still {instance['state']}, {instance['stage']}\n{self.live.log()}"
            await asyncio.sleep(pause_seconds)
            pause_seconds = longer(pause_seconds)

    async def launch_and_wait(self, environment: str, **wish: Any) -> dict[str, Any]:
        instance = await self.launch(environment, **wish)
        return await self.wait_for(instance["id"], "running")

    async def stop(self, instance_id: str) -> dict[str, Any]:
        answer = await self.http.post(f"/api/v1/instances/{instance_id}/stop")
        assert answer.status_code == 202, answer.text
        return await self.wait_for(instance_id, "stopped")

    async def open(self, instance_id: str) -> httpx.Response:
        """Follows Open through the ticket to the instance's first page; the client has the instance cookie then."""
        answer = await self.http.get(f"/api/v1/instances/{instance_id}/open", follow_redirects=False)
        assert answer.status_code == 303, answer.text
        entered = await self.http.get(answer.headers["location"], follow_redirects=False)
        assert entered.status_code == 303, entered.text
        return await self.http.get(entered.headers["location"], follow_redirects=True, headers=BROWSER)

    async def enter_rstudio(self, instance_id: str) -> RStudio:
        """Opens an instance of RStudio and takes its session, as a browser's tab does."""
        await self.open(instance_id)
        origin = {"Origin": self.live.origin.of(instance_id)}
        rstudio = RStudio(self.http, self.instance_url(instance_id, "/"), origin)
        await rstudio.enter()
        return rstudio

    def instance_url(self, instance_id: str, path: str = "/") -> str:
        return self.live.origin.url(instance_id, path)


BROWSER = {
    "User-Agent": "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 Chrome/140.0 Safari/537.36",
    "Accept": "text/html,*/*;q=0.8",
}


def _text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)


async def _ends(process: Runs) -> bool:
    """Asks it to end, and waits; one that does not is made to print where it stands, and ended."""
    if process.returncode is None:
        process.terminate()
        try:
            await asyncio.wait_for(process.wait(), END_SECONDS)
        except TimeoutError:
            process.send_signal(signal.SIGABRT)
            await process.wait()
            return False
    return True
