"""From an instance to a container that answers: the order for it, and the wait until it is usable."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
from time import monotonic

from ..domain.environments import Environment, Placeholders, Prefix
from ..domain.instances import Address, Instance
from ..domain.logs import KEPT_LINES, fails_repeatedly
from ..domain.users import User
from ..errors import ContainerEnded, StartFailed
from ..http_client import FAILURES, HttpClient
from ..runtime.base import Container, Containers, Launches, LaunchOrder
from ..settings import Settings
from .composer import placeholders

FIRST_LOOK_SECONDS = 0.02
PATIENCE = 1.1  # each look waits this much longer: what is ready is found within a tenth of the time it took
LONGEST_LOOK_SECONDS = 0.5
CONTAINER_LOOK_SECONDS = 1.0
ANSWER_SECONDS = 5.0


class Launcher:
    """Knows what is ordered for an instance, and when it answers; keeps no state of its own."""

    def __init__(self, settings: Settings, containers: Containers, launches: Launches, token_key: bytes) -> None:
        self._settings = settings
        self._containers = containers
        self._launches = launches
        self._token_key = token_key
        # A new connection each time: the engine's port forwarder accepts before the application listens.
        self._http = HttpClient()

    async def launch(self, instance: Instance, owner: User) -> Container:
        """Has the instance's container composed and started; raises what `runtime.base.Launches` says."""
        limits = instance.limits
        return await self._launches.launch(
            LaunchOrder(
                instance_id=instance.id,
                owner_id=owner.id,
                environment=instance.environment,
                username=owner.username,
                uid=owner.uid,
                memory_bytes=limits.memory_bytes,
                cpus=limits.cpus,
                token=self.token(instance.id),
                lab=owner.lab,
                safe_mode=instance.safe_mode,
            )
        )

    def placeholders(self, environment: Environment, instance_id: str, username: str, uid: int) -> Placeholders:
        return placeholders(
            self._settings,
            environment,
            instance_id=instance_id,
            token=self.token(instance_id),
            username=username,
            uid=uid,
        )

    def token(self, instance_id: str) -> str:
        """What an application with a log-in of its own accepts from nginx; derived, so that it is stored nowhere."""
        return hmac.new(self._token_key, instance_id.encode(), hashlib.sha256).hexdigest()

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
                container = await self._containers.find(instance.id)
                if container is None or not container.state.is_up:
                    raise ContainerEnded(f"{environment.title} ended while it started.")
                if environment.failure_patterns:
                    printed = await self._containers.log_tail(instance.id, KEPT_LINES)
                    if fails_repeatedly(printed, environment.failure_patterns):
                        raise StartFailed(f"{environment.title} does not start: it fails again and again.")
            await asyncio.sleep(pause)
            pause = min(pause * PATIENCE, LONGEST_LOOK_SECONDS)

    async def answers(self, instance: Instance, environment: Environment, address: Address) -> bool:
        """Whether the instance's health URL answers now."""
        path = self.placeholders(environment, instance.id, "", 0).fill(environment.health_path)
        return await self._answers(f"http://{address}{path}")

    async def _answers(self, url: str) -> bool:
        try:
            async with asyncio.timeout(ANSWER_SECONDS), self._http.call("GET", url) as response:
                return response.status < 400
        except FAILURES:
            return False

    async def aclose(self) -> None:
        await self._http.aclose()


def base_path_is_kept(environment: Environment) -> bool:
    return environment.prefix is Prefix.KEEP
