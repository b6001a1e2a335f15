"""The contracts of a runtime. One suite, `tests/contract/test_runtime.py`, holds every implementation to them.

A runtime is asked, never remembered: what runs is what `find` and `list_containers` say now. A container belongs to
us when it carries this deployment's label; no method touches any other.

Each verb is declared here once: what asks the privileged helper and what answers there follow from it (`contract`).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Protocol

from pydantic import Field

from ..contract import by_root_only, verb
from ..domain.instances import Address
from ..domain.memory import MemoryDeath
from .values import (
    LABEL_DEPLOYMENT,
    LABEL_ENVIRONMENT,
    LABEL_INSTANCE,
    LABEL_OWNER,
    LABEL_PREFIX,
    NO_GPU,
    BindMount,
    Caps,
    Container,
    ContainerActivity,
    ContainerSpec,
    ContainerState,
    Freezer,
    HostFacts,
    ImageInfo,
    InstanceId,
    LaunchOrder,
    MemoryWatch,
    NetworkFacts,
    Progress,
    RuntimeEvent,
    Usage,
)

__all__ = [
    "LABEL_DEPLOYMENT",
    "LABEL_ENVIRONMENT",
    "LABEL_INSTANCE",
    "LABEL_OWNER",
    "LABEL_PREFIX",
    "NORMAL_CPU_WEIGHT",
    "NO_GPU",
    "BindMount",
    "Caps",
    "ConnectionCutter",
    "Container",
    "ContainerActivity",
    "ContainerSpec",
    "ContainerState",
    "Containers",
    "Engine",
    "Freezer",
    "HostFacts",
    "ImageInfo",
    "Images",
    "InstanceId",
    "LaunchOrder",
    "Launches",
    "MemoryWatch",
    "Network",
    "NetworkFacts",
    "Progress",
    "Runtime",
    "RuntimeEvent",
    "Usage",
]

# No part of dots alone: it would lead the question to something else of the engine's than an image.
ImageReference = Annotated[
    str, Field(max_length=255, pattern=r"^[A-Za-z0-9][A-Za-z0-9._:@-]*(/[A-Za-z0-9][A-Za-z0-9._:@-]*)*$")
]
LabelName = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,127}$")]
InstanceIds = Annotated[Sequence[InstanceId], Field(max_length=10_000)]
GraceSeconds = Annotated[int, Field(ge=0, le=600)]
Lines = Annotated[int, Field(ge=0, le=10_000)]
MemoryBytes = Annotated[int, Field(ge=16 * 1024**2, le=2**60)]
CpuWeight = Annotated[int, Field(ge=1, le=10_000)]

NORMAL_CPU_WEIGHT = 100  # every container's, unless `update` says otherwise

MAKE_SECONDS = 420.0  # longer than the helper's own patience with the engine
STOP_MARGIN_SECONDS = 60.0
WRITTEN_SECONDS = 330.0  # longer than the helper's own patience with the engine
LANGUAGES_SECONDS = 120.0  # a few small files, perhaps of an engine that is busy
PUSH_OUT_SECONDS = 90.0  # longer than the kernel is asked to go on
NOT_THIS_WAY = "On this server, images are pulled and built by root: “sudo launchpad images build”."


class Containers(Protocol):
    """Every method raises EngineUnavailable when the engine does not answer; other errors stand with each method."""

    @verb()
    async def host(self) -> HostFacts:
        """Asks the engine about its host; also the proof that the engine answers."""
        ...

    @verb()
    async def find(self, instance_id: InstanceId) -> Container | None:
        """The instance's container in whatever state, or None when there is none."""
        ...

    @verb()
    async def list_containers(self) -> list[Container]:
        """Every container of this deployment, in every state."""
        ...

    @verb(seconds=STOP_MARGIN_SECONDS, longer_by="grace_seconds")
    async def stop(self, instance_id: InstanceId, grace_seconds: GraceSeconds) -> None:
        """Asks the application to end (SIGTERM), waits up to `grace_seconds`, kills it then; the container stays.

        One that is paused goes on, so that it can save. No error when it has ended already or does not exist.
        """
        ...

    @verb(seconds=MAKE_SECONDS)
    async def remove(self, instance_id: InstanceId) -> None:
        """Removes the container, killing it if it is up; no error when there is none. Mounted directories stay."""
        ...

    @verb()
    async def pause(self, instance_id: InstanceId) -> None:
        """Makes a running container stand still; no error when it stands still already.

        Raises:
            EngineRefused: it does not run, or this engine cannot do it.
        """
        ...

    @verb()
    async def resume(self, instance_id: InstanceId) -> None:
        """Lets a container that stands still go on where it was; no error when it runs already.

        Raises:
            EngineRefused: it is not up.
        """
        ...

    @verb()
    async def freezer(self) -> Freezer:
        """Whether this engine can make containers stand still, and what becomes of their memory meanwhile."""
        ...

    @verb(seconds=PUSH_OUT_SECONDS)
    async def push_out(self, instance_id: InstanceId) -> None:
        """Pushes the memory of a paused container out, as far as the kernel can; no error where it cannot."""
        ...

    @verb()
    async def unread_bytes(self, instance_ids: InstanceIds) -> Mapping[str, int]:
        """What waits unread on open connections to the ports of these containers, by their ids.

        Of one that stands still it grows when somebody sends something to it. Those whose control group is not seen
        from here, or which have ended, are left out.
        """
        ...

    @verb()
    async def update(
        self, instance_id: InstanceId, memory_bytes: MemoryBytes | None = None, cpu_weight: CpuWeight | None = None
    ) -> None:
        """Changes what a container that is up is held to, while it runs on; it lasts until the container ends.

        Args:
            memory_bytes: the new cap of memory and swap together; None: as it is.
            cpu_weight: its share of processors that are wanted by several, where `NORMAL_CPU_WEIGHT` is what everybody
                has: with 10, a tenth of what another one gets. Idle processors it has all the same. None: as it is.

        Raises:
            EngineRefused: it is not up, it holds more memory than the new cap leaves it, or the server has less.
        """
        ...

    @verb()
    async def usage(self, instance_id: InstanceId) -> Usage | None:
        """What a container that is up uses; None of any other, and where its control group is not seen from here."""
        ...

    @verb()
    async def usage_all(self) -> Mapping[str, Usage]:
        """What every container of this deployment that is up uses, by its instance's id, in one look."""
        ...

    @verb()
    async def activity_all(self) -> Mapping[str, ContainerActivity]:
        """What goes on in every container of this deployment that is up, by its instance's id, in one look.

        Programs are those that were busy since the look before, whoever asked for that one.
        """
        ...

    @verb()
    async def tend_memory(self) -> Mapping[str, tuple[MemoryDeath, ...]]:
        """Sees to it that, where memory runs short, what users run is ended before their IDEs, in every container.

        Returns:
            What the kernel has ended for lack of memory in the last minutes, by the instances' ids, the oldest first;
            containers that have ended since included.
        """
        ...

    @verb()
    async def memory_watch(self) -> MemoryWatch:
        """How well the above can be done here, tried on what runs now."""
        ...

    @verb(seconds=WRITTEN_SECONDS)
    async def written_all(self) -> Mapping[str, int]:
        """How much every container of this deployment that is up has written into its own layer of the image, in bytes,
        by its instance's id: what lies outside its mounted directories and memory. The engine looks at the files, which
        takes a while.
        """
        ...

    @verb()
    async def caps(self, instance_id: InstanceId) -> Caps | None:
        """What a container that is up is held to, as the kernel says; None of any other."""
        ...

    @verb()
    async def log_tail(self, instance_id: InstanceId, lines: Lines = 100) -> str:
        """The last lines the container printed, as it printed them; empty when there is no container."""
        ...

    @verb(moment="since")
    def events(self, since: float | None = None) -> AsyncIterator[RuntimeEvent]:
        """What happens to this deployment's containers from now on; ends or raises when the engine goes away.

        Args:
            since: begin at this instant of the last minutes instead, in seconds since 1970.
        """
        ...


class Network(Protocol):
    """The instances' network. Errors as with containers."""

    @verb()
    async def ensure_network(self) -> None:
        """Makes the instances' network if it is not there; inter-container communication is off in it.

        The rules of what instances may reach are in place when it returns.

        Raises:
            NetworkUnavailable: it cannot be made (address pools used up), one of that name exists that lets containers
                talk to each other, or the rules cannot be put in place.
        """
        ...

    @verb()
    async def mend_network(self) -> None:
        """Looks at a network that is there, and puts right what has become of it and its rules since.

        Raises:
            NetworkUnavailable: as above.
        """
        ...

    @verb()
    async def network(self) -> NetworkFacts:
        """Looks at the network and its rules, and leaves them as they are."""
        ...


class Images(Protocol):
    """The engine's images. Errors as with containers."""

    @verb()
    async def image_exists(self, reference: ImageReference) -> bool: ...

    @verb()
    async def list_images(self, label: LabelName | None = None) -> list[ImageInfo]:
        """Images the engine has, those with a label of that name if one is given, newest first."""
        ...

    @verb(seconds=LANGUAGES_SECONDS)
    async def image_languages(self, reference: ImageReference) -> Mapping[str, str]:
        """Which versions of languages an image has, as its PATH finds them: `{"R": "4.6", "Python": "3.13"}`.

        Read from its files; nothing in it is run. What cannot be told is left out.

        Raises:
            ImageMissing: the engine does not have it.
            EngineRefused: it makes no container of it.
        """
        ...

    @by_root_only(NOT_THIS_WAY)
    def pull_image(self, reference: str) -> AsyncIterator[Progress]:
        """Fetches an image.

        Raises:
            ImageMissing: the registry does not know it.
            EngineRefused: no registry answers, or it refuses.
        """
        ...

    @by_root_only(NOT_THIS_WAY)
    def build_image(
        self, *, context_tar: Path, tag: str, build_args: Mapping[str, str], labels: Mapping[str, str]
    ) -> AsyncIterator[Progress]:
        """Builds an image from a tar with a Dockerfile at its top; yields what the build prints, line by line.

        Raises:
            EngineRefused: a step failed; the text has the step's last lines.
        """
        ...

    @by_root_only(NOT_THIS_WAY)
    def import_image(
        self, *, rootfs_tar: Path, tag: str, changes: Sequence[str], labels: Mapping[str, str]
    ) -> AsyncIterator[Progress]:
        """Makes an image of a root file system, with Dockerfile instructions (`ENV …`, `CMD …`) in `changes`."""
        ...


class Launches(Protocol):
    """What makes containers of orders. Errors as with containers."""

    @verb(seconds=MAKE_SECONDS)
    async def launch(self, order: LaunchOrder) -> Container:
        """Composes the instance's container from the settings and starts it, as `Engine.start` does.

        Raises:
            HelperRefused: the settings make no container of such an order.
            HomeUnavailable: the home is missing, or not the owner's.
            ImageMissing: the environment has no image on this server.
            NetworkUnavailable, GpuUnavailable, EngineRefused: as `ensure_network` and `start`.
        """
        ...


class ConnectionCutter(Protocol):
    """What closes the connections that nginx has opened to instances, on the machine where nginx runs."""

    @verb()
    async def cut(self, addresses: Sequence[Address]) -> None:
        """Ends the connections that are open to these addresses, at once; new ones can be made.

        Raises:
            ConnectionsNotCut: some of them may still be open, whatever the reason. To be tried again.
        """
        ...

    @verb()
    async def can_cut(self) -> bool:
        """Whether `cut` works on this machine."""
        ...


class Runtime(Containers, Network, Images, Protocol):
    """All that the services ask of the runtime."""

    async def aclose(self) -> None:
        """Gives back connections. No other method may be called afterwards."""
        ...


class Engine(Runtime, Protocol):
    """A runtime where it is at hand, so that it can be given whole specifications. Nobody else is."""

    async def start(self, spec: ContainerSpec) -> Container:
        """Creates and starts the container of an instance, and answers when the engine has started it.

        Idempotent: when the instance's container is up already it is returned as it is; one left in state CREATED or
        EXITED is removed and made anew. Where it is reached is for the engine to choose, and no other instance's
        address; a port that a foreign process holds is passed over. When it fails nothing is left behind.

        Raises:
            ImageMissing: the engine does not have `spec.image` (it is never pulled here).
            GpuUnavailable: this server cannot give it the GPUs it asks for.
            EngineRefused: anything else the engine refuses, such as no free port or a bad mount.
        """
        ...
