"""The engine as the portal reaches it where it has no right to: through the privileged helper."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..domain.instances import Address
from ..errors import EngineRefused
from ..helper_client import HelperClient
from . import wire
from .base import Caps, Container, ContainerSpec, HostFacts, ImageInfo, NetworkFacts, Progress, RuntimeEvent, Usage

MAKE_SECONDS = 420.0  # the helper's own patience with the engine comes first
STOP_MARGIN_SECONDS = 60.0


class HelperRuntime:
    """See `base.Runtime`. Starts only what the settings that the helper reads allow.

    Images are not fetched or built this way: that is for the administrator, as root.
    """

    def __init__(self, line: HelperClient) -> None:
        self._line = line

    async def host(self) -> HostFacts:
        return wire.HOST.validate_python(await self._line.ask("host"))

    async def ensure_network(self) -> None:
        await self._line.ask("ensure-network")

    async def mend_network(self) -> None:
        await self._line.ask("mend-network")

    async def network(self) -> NetworkFacts:
        return wire.NETWORK.validate_python(await self._line.ask("network"))

    async def start(self, spec: ContainerSpec) -> Container:
        asked = {"spec": wire.plain(spec)}
        return wire.CONTAINER.validate_python(await self._line.ask("start", asked, seconds=MAKE_SECONDS))

    async def find(self, instance_id: str) -> Container | None:
        return wire.FOUND.validate_python(await self._about("find", instance_id))

    async def list_containers(self) -> list[Container]:
        return wire.CONTAINERS.validate_python(await self._line.ask("list-containers"))

    async def stop(self, instance_id: str, grace_seconds: int) -> None:
        seconds = grace_seconds + STOP_MARGIN_SECONDS
        await self._about("stop", instance_id, seconds=seconds, grace_seconds=grace_seconds)

    async def remove(self, instance_id: str) -> None:
        await self._about("remove", instance_id, seconds=MAKE_SECONDS)

    async def usage(self, instance_id: str) -> Usage | None:
        return wire.USAGE.validate_python(await self._about("usage", instance_id))

    async def usage_all(self) -> Mapping[str, Usage]:
        return wire.USAGES.validate_python(await self._line.ask("usage-all"))

    async def caps(self, instance_id: str) -> Caps | None:
        return wire.CAPS.validate_python(await self._about("caps", instance_id))

    async def cut(self, addresses: Sequence[Address]) -> None:
        await self._line.ask("cut", {"addresses": wire.plain(list(addresses))})

    async def can_cut(self) -> bool:
        return bool(await self._line.ask("can-cut"))

    async def log_tail(self, instance_id: str, lines: int = 100) -> str:
        return str(await self._about("log-tail", instance_id, lines=lines))

    def events(self, since: float | None = None) -> AsyncIterator[RuntimeEvent]:
        return self._events(time.time() if since is None else since)

    async def _events(self, since: float) -> AsyncIterator[RuntimeEvent]:
        async for event in self._line.follow("events", {"since": since}):
            yield wire.EVENT.validate_python(event)

    async def image_exists(self, reference: str) -> bool:
        return bool(await self._line.ask("image-exists", {"reference": reference}))

    async def list_images(self, label: str | None = None) -> list[ImageInfo]:
        return wire.IMAGES.validate_python(await self._line.ask("list-images", {"label": label}))

    def pull_image(self, reference: str) -> AsyncIterator[Progress]:
        return _not_this_way()

    def build_image(
        self, *, context_tar: Path, tag: str, build_args: Mapping[str, str], labels: Mapping[str, str]
    ) -> AsyncIterator[Progress]:
        return _not_this_way()

    def import_image(
        self, *, rootfs_tar: Path, tag: str, changes: Sequence[str], labels: Mapping[str, str]
    ) -> AsyncIterator[Progress]:
        return _not_this_way()

    async def aclose(self) -> None:
        await self._line.aclose()

    async def _about(self, verb: str, instance_id: str, *, seconds: float | None = None, **more: Any) -> Any:
        return await self._line.ask(verb, {"instance_id": instance_id, **more}, seconds=seconds)


async def _not_this_way() -> AsyncIterator[Progress]:
    raise EngineRefused("On this server, images are pulled and built by root: “sudo launchpad images build”.")
    yield  # an async iterator, like its siblings
