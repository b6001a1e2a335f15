"""From an instance to a container that answers: the container's specification, and the wait until it is usable."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
from dataclasses import replace
from pathlib import Path
from time import monotonic

import aiohttp

from ..domain.environments import Environment, Placeholders, Prefix
from ..domain.instances import Address, Instance
from ..domain.logs import KEPT_LINES, fails_repeatedly
from ..domain.safe_mode import in_safe_mode
from ..domain.users import User
from ..errors import ContainerEnded, StartFailed
from ..runtime.base import ContainerSpec, ContainerState, Runtime
from ..settings import Settings
from .kit import Kit
from .specification import specification

FIRST_LOOK_SECONDS = 0.02
PATIENCE = 1.1  # each look waits this much longer: what is ready is found within a tenth of the time it took
LONGEST_LOOK_SECONDS = 0.5
CONTAINER_LOOK_SECONDS = 1.0


class Launcher:
    """Knows how instances are put together; keeps no state of its own."""

    def __init__(
        self,
        settings: Settings,
        runtime: Runtime,
        token_key: bytes,
        ca_bundle: Path | None = None,
        kit: Kit | None = None,
    ) -> None:
        self._settings = settings
        self._runtime = runtime
        self._token_key = token_key
        self._ca_bundle = ca_bundle
        self._kit = kit
        self._http: aiohttp.ClientSession | None = None

    def placeholders(self, environment: Environment, instance_id: str, username: str, uid: int) -> Placeholders:
        return Placeholders(
            root_path=self._settings.instances.root_path(instance_id),
            token=self.token(instance_id),
            username=username,
            uid=uid,
            home=environment.home,
            dashboard_url=self._settings.dashboard_url,
            cran_mirror=self._settings.images.cran_mirror,
            time_zone=self._settings.images.zone,
        )

    def token(self, instance_id: str) -> str:
        """What an application with a log-in of its own accepts from nginx; derived, so that it is stored nowhere."""
        return hmac.new(self._token_key, instance_id.encode(), hashlib.sha256).hexdigest()

    def specification(
        self, instance: Instance, owner: User, environment: Environment, image: str, home: Path
    ) -> ContainerSpec:
        made = specification(
            in_safe_mode(environment) if instance.safe_mode else environment,
            self.placeholders(environment, instance.id, owner.username, owner.uid),
            instance_id=instance.id,
            owner_id=owner.id,
            image=image,
            memory_bytes=instance.limits.memory_bytes,
            cpus=instance.limits.cpus,
            home=home,
            shared=[each for each in self._settings.mounts if not each.labs or owner.lab in each.labs],
            ca_bundle=self._ca_bundle,
            kit=self._kit,
        )
        return replace(made, safe_mode=instance.safe_mode)

    async def wait_until_usable(self, instance: Instance, environment: Environment, address: Address) -> None:
        """Returns as soon as the health URL answers below 400.

        Raises:
            ContainerEnded: the container ended.
            StartFailed: its log says that it fails again and again, or the time is up; the text is for the owner.
        """
        values = self.placeholders(environment, instance.id, "", 0)
        path = values.fill(environment.health_path)
        url = f"http://{address}{path if path.startswith('/') else '/' + path}"
        started = looked_at_container = monotonic()
        pause = FIRST_LOOK_SECONDS
        while not await self._answers(url):
            now = monotonic()
            if now - started > environment.start_timeout_seconds:
                raise StartFailed(
                    f"{environment.title} did not answer within {environment.start_timeout_seconds} seconds. "
                    "Try again; if it happens twice, tell your administrator."
                )
            if now - looked_at_container > CONTAINER_LOOK_SECONDS:
                looked_at_container = now
                container = await self._runtime.find(instance.id)
                if container is None or container.state is not ContainerState.RUNNING:
                    raise ContainerEnded(f"{environment.title} ended while it started.")
                if environment.failure_patterns:
                    printed = await self._runtime.log_tail(instance.id, KEPT_LINES)
                    if fails_repeatedly(printed, environment.failure_patterns):
                        raise StartFailed(f"{environment.title} does not start: it fails again and again.")
            await asyncio.sleep(pause)
            pause = min(pause * PATIENCE, LONGEST_LOOK_SECONDS)

    async def answers(self, instance: Instance, environment: Environment, address: Address) -> bool:
        """Whether the instance's health URL answers now."""
        path = self.placeholders(environment, instance.id, "", 0).fill(environment.health_path)
        return await self._answers(f"http://{address}{path}")

    async def _answers(self, url: str) -> bool:
        if self._http is None:
            # A new connection each time: the engine's port forwarder accepts before the application listens.
            connector = aiohttp.TCPConnector(force_close=True, limit=0)
            self._http = aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=5))
        try:
            async with self._http.get(url, allow_redirects=False) as response:
                return response.status < 400
        except (aiohttp.ClientError, OSError, TimeoutError):
            return False

    async def aclose(self) -> None:
        if self._http is not None:
            await self._http.close()


def base_path_is_kept(environment: Environment) -> bool:
    return environment.prefix is Prefix.KEEP
