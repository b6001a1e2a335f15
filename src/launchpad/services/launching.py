"""From an instance to a container that answers: the container's specification, and the wait until it is usable."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
from contextlib import suppress
from pathlib import Path
from time import monotonic

import aiohttp

from ..domain.environments import Environment, Placeholders, Prefix
from ..domain.instances import Address, Instance, home_is_full
from ..domain.sizes import describe_bytes
from ..domain.users import User
from ..errors import LaunchpadError, StartFailed
from ..runtime.base import Container, ContainerSpec, ContainerState, Runtime
from ..settings import Settings
from ..storage.base import Homes
from .kit import Kit
from .specification import specification

FIRST_LOOK_SECONDS = 0.02
PATIENCE = 1.1  # each look waits this much longer: what is ready is found within a tenth of the time it took
LONGEST_LOOK_SECONDS = 0.5
CONTAINER_LOOK_SECONDS = 1.0
KILLED, TERMINATED = 137, 143  # 128 + SIGKILL and SIGTERM, as the engine reports them


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
        )

    def token(self, instance_id: str) -> str:
        """What an application with a log-in of its own accepts from nginx; derived, so that it is stored nowhere."""
        return hmac.new(self._token_key, instance_id.encode(), hashlib.sha256).hexdigest()

    def specification(
        self, instance: Instance, owner: User, environment: Environment, image: str, home: Path
    ) -> ContainerSpec:
        return specification(
            environment,
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

    async def wait_until_usable(self, instance: Instance, environment: Environment, address: Address) -> None:
        """Returns as soon as the health URL answers below 400.

        Raises:
            StartFailed: the container ended, or the time is up; the text is for the owner.
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
                    raise StartFailed(why_ended(environment.title, instance, container))
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


async def why_failed(error: LaunchpadError, homes: Homes, username: str) -> str:
    """The reason; also that the home is full, which ends many applications as they start, and none of them says it."""
    if isinstance(error, StartFailed):
        with suppress(LaunchpadError):
            use = await homes.use(username)
            if full := home_is_full(use.used_bytes, use.limit_bytes, use.free_bytes):
                by_limit = home_is_full(use.used_bytes, use.limit_bytes) is not None
                way_out = "launch with more storage if you may" if by_limit else "tell your administrator"
                return f"{error.detail.rstrip('.')}; and {full}, so {way_out}"
    return error.detail


def why_ended(title: str, instance: Instance, container: Container | None) -> str:
    """The reason, in the owner's words, for a container that is not running although nobody stopped it."""
    if container is None:
        return "its container is gone; it was removed from outside the platform"
    if container.out_of_memory:
        return f"out of memory at {describe_bytes(instance.limits.memory_bytes)}"
    if container.exit_code == 0:
        return f"{title} was shut down from inside"
    if container.exit_code == KILLED:
        # On version 1 of control groups the engine can miss why: the group is gone before it has read the cause.
        memory = describe_bytes(instance.limits.memory_bytes)
        return (
            f"{title} was killed (exit code {KILLED}): it needed more than its {memory} of memory, or the server's "
            "engine was restarted, or somebody killed it there"
        )
    if container.exit_code == TERMINATED:
        return f"{title} was told to end (exit code {TERMINATED}); the server or its engine may have restarted"
    return f"{title} ended by itself with exit code {container.exit_code}"
