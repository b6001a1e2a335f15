"""`./quickstart`: what its process that stays (`supervisor.py`) has done by the whole program.

`prepare`: looks whether everything is there, starts the engine if none answers, gets the images, and says what portal
and nginx have to be started with. `stop-instances`: ends what users started, with their time to save.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
from contextlib import suppress
from pathlib import Path
from time import monotonic
from typing import Annotated, Any
from urllib.parse import urlsplit

import typer
from rich.markup import escape

from ..domain.instances import State
from ..errors import EngineRefused, EngineUnavailable, ImageMissing, LaunchpadError, PortTaken, Unavailable
from ..ops.nginx.site import rendered
from ..ops.portal_socket import prepare_socket_folder, socket_path
from ..platform import Platform
from ..settings import Settings
from ..wiring import build_platform
from . import supervisor
from .context import ConfigOption, settings_or_exit
from .logs import configure_logging
from .output import err, fail, out
from .precheck import why_not_free

SWEEP_SECONDS = 30
ENGINE_START_SECONDS = 60
STOP_INSTANCES_SECONDS = 20.0  # for each of its two waits; the supervisor gives it 45 in all
OWN_ENGINE = "unix:///var/run/docker.sock"
SYSTEMD_IS_INIT = Path("/run/systemd/system").is_dir()  # sd_booted(3)


def quickstart(config: ConfigOption = None) -> None:
    """Run the whole platform on this machine, in the foreground."""
    try:
        raise typer.Exit(supervisor.run(config))
    except LaunchpadError as error:
        fail(error)


def prepare(
    config: ConfigOption = None,
    report: Annotated[int, typer.Option("--report", help="Descriptor to tell the quick start's process by.")] = -1,
) -> None:
    """Prepare the quick start; called by it."""
    configure_logging(logging.ERROR)  # what goes wrong is told as a step
    settings = settings_or_exit(config)
    try:
        asyncio.run(_prepare(settings, report))
    except LaunchpadError as error:
        fail(error)


def stop_instances(config: ConfigOption = None) -> None:
    """End every instance of the quick start; called by it when its portal has ended."""
    configure_logging(logging.ERROR)
    settings = settings_or_exit(config)
    try:
        asyncio.run(_stop_instances(settings))
    except (LaunchpadError, TimeoutError) as error:
        warn(f"Not every instance could be stopped: {error or 'timed out'}")


def say(text: str) -> None:
    """A step, for the one who watches."""
    out.print(f"[bold]·[/] {escape(text)}", soft_wrap=True)


def warn(text: str) -> None:
    """Something that did not go as it should, and that we can live with."""
    err.print(f"[bold yellow]![/] {escape(text)}", soft_wrap=True)


async def _prepare(settings: Settings, report: int) -> None:
    platform = build_platform(settings)
    try:
        _check_ports(settings)
        await _Preparation(platform, report).run()
    finally:
        await platform.aclose()


async def _stop_instances(settings: Settings) -> None:
    """Instances are what users started here; a quick start leaves none behind."""
    platform = build_platform(settings)
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
    finally:
        await platform.aclose()


def _check_ports(settings: Settings) -> None:
    """Raises PortTaken when somebody else listens where nginx is to listen."""
    urls = {"public_url": settings.public_url, "instances_url": settings.instances_url}
    for (key, url), port in zip(urls.items(), settings.ports, strict=True):
        parts = urlsplit(url)
        if (error := why_not_free(parts.hostname or "localhost", port)) is not None:
            raise PortTaken(
                f"Port {port} of {url} cannot be used: {error.strerror}. Stop the program that uses it, or "
                f"choose another with LAUNCHPAD_{key.upper()}={parts.scheme}://{parts.hostname}:<port>."
            )


class _Preparation:
    def __init__(self, platform: Platform, report: int) -> None:
        self._platform = platform
        self._settings = platform.settings
        self._report = report

    async def run(self) -> None:
        if os.geteuid() != 0:
            raise Unavailable(
                "The quick start creates home folders and uses the container engine: run it as root or with sudo."
            )
        await self._platform.homes.check()
        await self._start_engine()
        await self._get_images()
        await self._platform.database.migrate()
        self._tell(self._facts())

    def _facts(self) -> dict[str, Any]:
        settings, state = self._settings, self._platform.state
        path = socket_path(settings, state)
        prepare_socket_folder(path)
        folder = path.parent / "nginx"
        folder.mkdir(mode=0o755, exist_ok=True)
        configuration = folder / "nginx.conf"
        configuration.write_text(rendered(settings, state, "full"), encoding="utf-8")
        greeting = []
        if not settings.mail.host:
            greeting.append(f"  No mail server is set: sign-in codes appear here and in {state.outbox}")
        if not settings.admin_emails:
            greeting.append("  To become administrator, start with LAUNCHPAD_ADMIN_EMAILS='[\"you@institute.edu\"]'")
        return {
            "public_url": settings.public_url,
            "ready_socket": str(path) if settings.proxy.trusted else "",  # else nginx may answer that one alone
            "nginx_configuration": str(configuration),
            "nginx_log": str(folder / "error.log"),
            "sweep_seconds": settings.web.sweep_seconds or SWEEP_SECONDS,  # there may be no systemd
            "greeting": greeting,
        }

    def _tell(self, said: dict[str, Any]) -> None:
        if self._report >= 0:
            os.write(self._report, json.dumps(said).encode() + b"\n")

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
        elif self._settings.engine.host == OWN_ENGINE:
            self._tell({"engine_log": str(self._platform.state.run / "dockerd.log")})  # it stays, as we do not
        deadline = monotonic() + ENGINE_START_SECONDS
        while monotonic() < deadline:
            with suppress(EngineUnavailable):
                await runtime.host()
                return
            await asyncio.sleep(0.2)
        raise EngineUnavailable(f"No container engine answers at {self._settings.engine.host}.")

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
