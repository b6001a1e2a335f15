"""`launchpad quickstart`: what `./quickstart` runs once Python is there. Everything in the foreground.

Starts the engine if none answers, gets the images, starts the portal and nginx, and watches over them. When it is told
to stop it ends what it started: instances (with their time to save), portal, nginx, and the engine if it started that.
"""

from __future__ import annotations

import asyncio
import fcntl
import logging
import os
import signal
import socket
import sys
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from time import monotonic
from urllib.parse import urlsplit

import aiohttp
from rich.markup import escape

from ..domain.instances import State
from ..errors import EngineRefused, EngineUnavailable, ImageMissing, LaunchpadError, Unavailable
from ..ops.nginx.machine import has_ipv6_loopback
from ..ops.nginx.site import rendered, socket_path
from ..platform import Platform
from ..settings import Settings
from ..wiring import build_platform
from .children import Child, start_child
from .context import ConfigOption, settings_or_exit
from .output import configure_logging, err, fail, out
from .serve_command import prepare_socket_folder

SWEEP_SECONDS = 30
ENGINE_START_SECONDS = 60
PORTAL_START_SECONDS = 30
STOP_INSTANCES_SECONDS = 9.0  # all in all a stop takes less than 15 s
RESTART_PAUSE_SECONDS = 1.0
SYSTEMD_IS_INIT = Path("/run/systemd/system").is_dir()  # sd_booted(3)
DEATHS_TO_GIVE_UP, DEATHS_WITHIN_SECONDS = 5, 60.0


class AlreadyRunning(Unavailable):
    code = "already-running"
    title = "The quick start is already running"


class PortTaken(Unavailable):
    code = "port-taken"
    title = "A port is already in use"


def quickstart(config: ConfigOption = None) -> None:
    """Run the whole platform on this machine, in the foreground."""
    configure_logging(logging.ERROR)  # what goes wrong is told as a step
    settings = with_quickstart_defaults(settings_or_exit(config))
    try:
        asyncio.run(_run(settings, config))
    except LaunchpadError as error:
        fail(error)


def with_quickstart_defaults(settings: Settings) -> Settings:
    """State below the clone unless it is set, and the portal sweeps, since there may be no systemd."""
    changes: dict[str, object] = {}
    if "state_dir" not in settings.model_fields_set:
        changes["state_dir"] = Path("var").absolute()
    if settings.web.sweep_seconds == 0:
        changes["web"] = settings.web.model_copy(update={"sweep_seconds": SWEEP_SECONDS})
    return settings.model_copy(update=changes)


def say(text: str) -> None:
    """A step, for the one who watches."""
    out.print(f"[bold]·[/] {escape(text)}", soft_wrap=True)


def warn(text: str) -> None:
    """Something that did not go as it should, and that we can live with."""
    err.print(f"[bold yellow]![/] {escape(text)}", soft_wrap=True)


async def _run(settings: Settings, config: Path | None) -> None:
    platform = build_platform(settings)
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopping.set)
    with _only_one(platform):
        _check_ports(settings)
        supervisor = Supervisor(platform, config, stopping)
        try:
            await supervisor.start()
            await supervisor.watch()
        finally:
            await supervisor.stop()


class _only_one:  # noqa: N801 - a context manager that reads like a function
    """Holds the state directory for one quick start at a time.

    Raises:
        AlreadyRunning: another one holds it.
    """

    def __init__(self, platform: Platform) -> None:
        self._url = platform.settings.public_url
        self._file = (platform.state.run / "quickstart.lock").open("a+")

    def __enter__(self) -> None:
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._file.seek(0)
            pid = self._file.read().strip() or "another process"
            raise AlreadyRunning(
                f"Process {pid} runs it with the same state directory; see {self._url}. Stop it first, or set "
                "LAUNCHPAD_STATE_DIR, LAUNCHPAD_PUBLIC_URL and LAUNCHPAD_INSTANCES_URL to run a second one."
            ) from None
        self._file.truncate(0)
        self._file.write(str(os.getpid()))
        self._file.flush()

    def __exit__(self, *_: object) -> None:
        self._file.close()


def _check_ports(settings: Settings) -> None:
    """Raises PortTaken when somebody else listens where nginx is to listen."""
    urls = {"public_url": settings.public_url, "instances_url": settings.instances_url}
    for (key, url), port in zip(urls.items(), settings.ports, strict=True):
        parts = urlsplit(url)
        loopback = parts.hostname in ("localhost", "127.0.0.1", "::1") or str(parts.hostname).endswith(".localhost")
        addresses = [(socket.AF_INET, "127.0.0.1" if loopback else "0.0.0.0")]  # noqa: S104 - where nginx will listen
        if has_ipv6_loopback():
            addresses.append((socket.AF_INET6, "::1" if loopback else "::"))
        for family, address in addresses:
            with socket.socket(family, socket.SOCK_STREAM) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                if family == socket.AF_INET6:
                    probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                try:
                    probe.bind((address, port))
                except OSError as error:
                    raise PortTaken(
                        f"Port {port} of {url} cannot be used: {error.strerror}. Stop the program that uses it, or "
                        f"choose another with LAUNCHPAD_{key.upper()}={parts.scheme}://{parts.hostname}:<port>."
                    ) from None


class Supervisor:
    """Starts the parts in order, keeps portal and nginx alive, stops them in reverse."""

    def __init__(self, platform: Platform, config: Path | None, stopping: asyncio.Event) -> None:
        self._platform = platform
        self._settings = platform.settings
        self._config = config
        self._stopping = stopping
        self._engine: Child | None = None
        self._portal: Child | None = None
        self._nginx: Child | None = None
        self._socket = socket_path(platform.settings, platform.state)

    async def start(self) -> None:
        """Returns early, half started, when it is told to stop meanwhile."""
        steps: tuple[Callable[[], Awaitable[None]], ...] = (
            self._check_homes,
            self._start_engine,
            self._get_images,
            self._start_portal,
            self._start_nginx,
            self._wait_until_ready,
        )
        for step in steps:
            task = asyncio.ensure_future(step())
            stop = asyncio.ensure_future(self._stopping.wait())
            await asyncio.wait({task, stop}, return_when=asyncio.FIRST_COMPLETED)
            stop.cancel()
            if not task.done():
                task.cancel()
                await asyncio.wait({task})
                return
            task.result()
        self._greet()

    def _greet(self) -> None:
        if not self._settings.mail.host:
            out.print("  No mail server is set: sign-in codes appear here and in", self._platform.state.outbox)
        if not self._settings.admin_emails:
            hint = "LAUNCHPAD_ADMIN_EMAILS='[\"you@institute.edu\"]'"
            out.print(f"  To become administrator, start with {hint}", markup=False, soft_wrap=True)
        out.print(f"Ready: {self._settings.public_url}", markup=False, soft_wrap=True)

    async def watch(self) -> None:
        """Until it is told to stop: whoever dies is started again; who dies again and again ends everything."""
        deaths: list[float] = []
        while not self._stopping.is_set():
            parts = {"portal": self._portal, "nginx": self._nginx, "engine": self._engine}
            living = {name: child for name, child in parts.items() if child is not None}
            waits = {name: asyncio.create_task(child.wait()) for name, child in living.items()}
            stop = asyncio.create_task(self._stopping.wait())
            await asyncio.wait({*waits.values(), stop}, return_when=asyncio.FIRST_COMPLETED)
            dead = [name for name, task in waits.items() if task.done()]
            for task in (*waits.values(), stop):
                task.cancel()
            for name in dead:
                deaths = [at for at in deaths if monotonic() - at < DEATHS_WITHIN_SECONDS] + [monotonic()]
                if len(deaths) >= DEATHS_TO_GIVE_UP:
                    raise Unavailable(f"The {name} stopped {len(deaths)} times within a minute. {living[name].tail()}")
                err.print(
                    f"The {name} stopped ({living[name].returncode}); restarting it.", markup=False, soft_wrap=True
                )
                await asyncio.sleep(RESTART_PAUSE_SECONDS)
                await {"portal": self._start_portal, "nginx": self._start_nginx, "engine": self._start_engine}[name]()

    async def stop(self) -> None:
        """Ends everything in the order that loses nothing."""
        say("Stopping …")
        if self._portal is not None:
            await self._portal.stop(3.0)
        await self._stop_instances()
        if self._nginx is not None:
            await self._nginx.stop(2.0)
        if self._engine is not None:
            await self._engine.stop(4.0)
        await self._platform.aclose()
        out.print("Stopped.")

    async def _check_homes(self) -> None:
        if os.geteuid() != 0:
            raise Unavailable(
                "The quick start creates home folders and uses the container engine: run it as root or with sudo."
            )
        await self._platform.homes.check()

    async def _start_engine(self) -> None:
        runtime = self._platform.runtime
        with suppress(EngineUnavailable):
            facts = await runtime.host()
            say(f"Container engine {facts.engine_version} is running")
            return
        say("Starting the container engine")
        if SYSTEMD_IS_INIT:
            systemctl = await asyncio.create_subprocess_exec("systemctl", "start", "docker")
            await systemctl.wait()
        elif self._settings.engine.host == "unix:///var/run/docker.sock":
            # It outlives us if we are killed: users' instances run in it. The next start finds it.
            log = self._platform.state.run / "dockerd.log"
            self._engine = await start_child("dockerd", "dockerd", "--live-restore", log=log, ends_with_us=False)
        deadline = monotonic() + ENGINE_START_SECONDS
        while monotonic() < deadline:
            if self._engine is not None and self._engine.returncode is not None:
                break
            with suppress(EngineUnavailable):
                await runtime.host()
                return
            await asyncio.sleep(0.2)
        tail = self._engine.tail() if self._engine else ""
        raise EngineUnavailable(f"No container engine answers at {self._settings.engine.host}. {tail}")

    async def _get_images(self) -> None:
        """Pulls what is missing; what cannot be pulled is built from the recipes, where there is one."""
        pulling = True
        for environment in self._platform.catalogue.values():
            try:
                image = await self._platform.images.resolve(environment)
            except ImageMissing:
                pass
            else:
                say(f"{environment.title}: {image.reference}{' (stand-in)' if image.stand_in else ''}")
                continue
            if pulling:
                try:
                    async for progress in self._platform.images.pull([environment.image]):
                        out.print(f"    {progress.text}", markup=False, soft_wrap=True)
                    continue
                except EngineRefused as error:
                    pulling = False
                    say(f"Images cannot be pulled here ({error.detail}); they are built instead")
                except ImageMissing as error:
                    say(f"{environment.image} cannot be pulled ({error.detail})")
            if environment.build is None:
                err.print(
                    f"{environment.title} is unavailable: there is no image for it.", markup=False, soft_wrap=True
                )
                continue
            async for progress in self._platform.images.build([environment.build]):
                out.print(f"    {progress.text}", markup=False, soft_wrap=True)

    async def _start_portal(self) -> None:
        say("Starting the portal")
        self._portal = await start_child(
            "portal",
            *(sys.executable, "-m", "launchpad", "serve", "--quiet"),
            *(("--config", str(self._config)) if self._config else ()),
            variables={
                "LAUNCHPAD_STATE_DIR": str(self._settings.state_dir),
                "LAUNCHPAD_WEB__SWEEP_SECONDS": str(self._settings.web.sweep_seconds),
            },
        )

    async def _start_nginx(self) -> None:
        say("Starting nginx")
        prepare_socket_folder(self._socket)
        folder = self._socket.parent / "nginx"
        folder.mkdir(mode=0o755, exist_ok=True)
        configuration = folder / "nginx.conf"
        configuration.write_text(rendered(self._settings, self._platform.state, "full"), encoding="utf-8")
        log = folder / "error.log"
        self._nginx = await start_child("nginx", "nginx", "-c", str(configuration), "-g", "daemon off;", log=log)

    async def _wait_until_ready(self) -> None:
        """Until the portal answers through nginx, as a browser would ask; behind an outer proxy, by its socket."""
        deadline = monotonic() + PORTAL_START_SECONDS
        connector: aiohttp.BaseConnector = aiohttp.TCPConnector(ssl=False)  # a trial's certificate may be its own
        url = self._settings.public_url
        if self._settings.proxy.trusted:  # then nginx may answer that one alone
            connector, url = aiohttp.UnixConnector(str(self._socket)), "http://localhost"
        async with aiohttp.ClientSession(connector=connector) as http:
            while monotonic() < deadline:
                for child in (self._portal, self._nginx):
                    if child is not None and child.returncode is not None:
                        raise Unavailable(f"The {child.name} did not start. {child.tail()}")
                with suppress(aiohttp.ClientError, OSError):
                    async with http.get(f"{url}/readyz") as answer:
                        if answer.status == 200:
                            return
                await asyncio.sleep(0.1)
        raise Unavailable(f"The portal does not answer at {self._settings.public_url}.")

    async def _stop_instances(self) -> None:
        """Instances are what users started here; a quick start leaves none behind."""
        platform = self._platform
        try:
            await platform.database.migrate()
            await asyncio.wait_for(platform.lease.acquire(), STOP_INSTANCES_SECONDS)
            live = await platform.instances.of_everyone(limit=10_000)
            if live:
                say(f"Saving and stopping {len(live)} instance{'s' if len(live) > 1 else ''}")
            for instance in live:
                await platform.runner.end(instance, State.STOPPED, "the quick start was stopped", platform.now())
            await platform.runner.reconcile_all()  # takes over what the portal had begun
            await asyncio.wait_for(platform.runner.wait(), STOP_INSTANCES_SECONDS)
        except (LaunchpadError, TimeoutError) as error:
            warn(f"Not every instance could be stopped: {error or 'timed out'}")
