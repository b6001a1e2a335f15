"""The contract of a runtime. One suite, `tests/contract/test_runtime.py`, holds every implementation to it.

A runtime is asked, never remembered: what runs is what `find` and `list_containers` say now. A container belongs to
us when it carries this deployment's label; no method touches any other.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Protocol

from ..domain.environments import Gpus
from ..domain.instances import Address
from ..domain.usage import Usage as Usage

LABEL_PREFIX = "org.launchpad."
LABEL_DEPLOYMENT = LABEL_PREFIX + "deployment"
LABEL_INSTANCE = LABEL_PREFIX + "instance"
LABEL_OWNER = LABEL_PREFIX + "owner"
LABEL_ENVIRONMENT = LABEL_PREFIX + "environment"

NO_GPU = (
    "This environment needs a GPU, and this server has none available. Launch another environment, and tell your "
    "administrator."
)


@dataclass(frozen=True)
class HostFacts:
    """What the engine's host has: cores, memory in bytes, and the engine's own version text.

    Beyond that, what the engine says of itself; None, or empty, where it says nothing. `can_limit_…`: whether the
    kernel's control groups let it limit that. `outlives_restart`: containers go on while the engine is restarted.
    `security` names what confines containers besides, such as `seccomp`, and `userns` or `rootless` where it runs so.
    """

    cpus: int
    memory_bytes: int
    engine_version: str
    cgroup_version: str = ""
    cgroup_driver: str = ""
    can_limit_memory: bool | None = None
    can_limit_swap: bool | None = None
    can_limit_cpus: bool | None = None
    can_limit_pids: bool | None = None
    outlives_restart: bool | None = None
    security: tuple[str, ...] = ()
    root_dir: str = ""


@dataclass(frozen=True)
class NetworkFacts:
    """What is in force of the instances' network now, as it was found: nothing was put right.

    `exists`: false before the first launch. `gaps`: in an administrator's words, what is not as it should be; empty
    where nothing is. `shielded`: whether machines in the same network as this server are kept from instances' ports,
    which engines before 28.0 do not do by themselves (moby#45610); None: it cannot be told.
    """

    exists: bool
    gaps: tuple[str, ...] = ()
    shielded: bool | None = None


@dataclass(frozen=True)
class Caps:
    """What holds a running container back now; None: nothing does. `swap_bytes` is what it may use beyond memory."""

    memory_bytes: int | None
    swap_bytes: int | None
    cpus: float | None
    pids: int | None


@dataclass(frozen=True)
class BindMount:
    """A host directory (or file) seen at `target`. The source must exist: it is never created by the engine."""

    source: Path
    target: str
    read_only: bool = False


@dataclass(frozen=True)
class ContainerSpec:
    """Everything a container is made of; the labels of ownership are added by the runtime from the ids.

    `user` empty leaves the image's own. `command` empty leaves the image's own. `memory_bytes` caps memory and swap
    together. `network_port` is the application's port inside; the runtime publishes it on 127.0.0.1. `gpus` are seen by
    every container that asks for them, at the same time. `first_in_path` is a folder put before those of the image's
    PATH. `safe_mode` says how `command` and `env_vars` were made.
    """

    instance_id: str
    owner_id: str
    environment: str
    image: str
    network_port: int
    memory_bytes: int
    cpus: float
    pids_limit: int
    user: str = ""
    groups: Sequence[str] = ()
    command: Sequence[str] = ()
    env_vars: Mapping[str, str] = field(default_factory=dict)
    capabilities: Sequence[str] = ()
    gpus: Gpus = 0
    mounts: Sequence[BindMount] = ()
    hostname: str = ""
    first_in_path: str = ""
    stop_grace_seconds: int = 10
    safe_mode: bool = False


class ContainerState(StrEnum):
    """`CREATED` was never started, `RUNNING` runs, `EXITED` has ended (and may still have files and an exit code)."""

    CREATED = "created"
    RUNNING = "running"
    EXITED = "exited"


@dataclass(frozen=True)
class Container:
    """What the engine says of one of our containers now.

    `address` is there only while it runs, `exit_code` only when it has ended. `out_of_memory`: it ended badly, after
    something in it was killed for memory.
    """

    instance_id: str
    owner_id: str
    environment: str
    state: ContainerState
    address: Address | None = None
    exit_code: int | None = None
    out_of_memory: bool = False
    started_at: datetime | None = None


@dataclass(frozen=True)
class RuntimeEvent:
    """Something happened to one of our containers; ask `find` for the truth.

    `signalled`: the engine was told to end it, by us or by somebody else (stop, kill, remove); the end comes after it.
    """

    instance_id: str
    kind: str  # "started", "signalled", "ended", "out-of-memory"


@dataclass(frozen=True)
class ImageInfo:
    """An image that the engine has. `references` are its tags, `labels` its own labels."""

    id: str
    references: tuple[str, ...]
    labels: Mapping[str, str]
    size_bytes: int
    created_at: datetime


@dataclass(frozen=True)
class Progress:
    """One step of long work, for people. `fraction` from 0 to 1 where it is known."""

    text: str
    fraction: float | None = None


class Runtime(Protocol):
    """Every method raises EngineUnavailable when the engine does not answer; other errors stand with each method."""

    async def host(self) -> HostFacts:
        """Asks the engine about its host; also the proof that the engine answers."""
        ...

    async def ensure_network(self) -> None:
        """Makes the instances' network if it is not there; inter-container communication is off in it.

        The rules of what instances may reach are in place when it returns.

        Raises:
            NetworkUnavailable: it cannot be made (address pools used up), one of that name exists that lets containers
                talk to each other, or the rules cannot be put in place.
        """
        ...

    async def mend_network(self) -> None:
        """Looks at a network that is there, and puts right what has become of it and its rules since.

        Raises:
            NetworkUnavailable: as above.
        """
        ...

    async def network(self) -> NetworkFacts:
        """Looks at the network and its rules, and leaves them as they are."""
        ...

    async def start(self, spec: ContainerSpec) -> Container:
        """Creates and starts the container of an instance, and answers when the engine has started it.

        Idempotent: when the instance's container is already running it is returned as it is; one left in state
        CREATED or EXITED is removed and made anew. The engine itself chooses a free port of the range on 127.0.0.1; a
        port that a foreign process holds is passed over. When it fails nothing is left behind.

        Raises:
            ImageMissing: the engine does not have `spec.image` (it is never pulled here).
            GpuUnavailable: this server cannot give it the GPUs it asks for.
            EngineRefused: anything else the engine refuses, such as no free port or a bad mount.
        """
        ...

    async def find(self, instance_id: str) -> Container | None:
        """The instance's container in whatever state, or None when there is none."""
        ...

    async def list_containers(self) -> list[Container]:
        """Every container of this deployment, in every state."""
        ...

    async def stop(self, instance_id: str, grace_seconds: int) -> None:
        """Asks the application to end (SIGTERM), waits up to `grace_seconds`, kills it then; the container stays.

        No error when it has ended already or does not exist.
        """
        ...

    async def remove(self, instance_id: str) -> None:
        """Removes the container, killing it if it runs; no error when there is none. Mounted directories stay."""
        ...

    async def usage(self, instance_id: str) -> Usage | None:
        """What a running container uses; None when it does not run, or its control group is not seen from here."""
        ...

    async def usage_all(self) -> Mapping[str, Usage]:
        """What every running container of this deployment uses, by its instance's id, in one look."""
        ...

    async def caps(self, instance_id: str) -> Caps | None:
        """What a running container is held to, as the kernel says; None when it does not run."""
        ...

    async def cut(self, addresses: Sequence[Address]) -> None:
        """Ends the connections that are open to published addresses, at once; new ones can be made.

        Raises:
            ConnectionsNotCut: some of them may still be open, whatever the reason. To be tried again.
        """
        ...

    async def can_cut(self) -> bool:
        """Whether `cut` works on this machine."""
        ...

    async def log_tail(self, instance_id: str, lines: int = 100) -> str:
        """The last lines the container printed, as it printed them; empty when there is no container."""
        ...

    def events(self, since: float | None = None) -> AsyncIterator[RuntimeEvent]:
        """What happens to this deployment's containers from now on; ends or raises when the engine goes away.

        Args:
            since: begin at this instant of the last minutes instead, in seconds since 1970.
        """
        ...

    async def image_exists(self, reference: str) -> bool: ...

    async def list_images(self, label: str | None = None) -> list[ImageInfo]:
        """Images the engine has, those with a label of that name if one is given, newest first."""
        ...

    def pull_image(self, reference: str) -> AsyncIterator[Progress]:
        """Fetches an image.

        Raises:
            ImageMissing: the registry does not know it.
            EngineRefused: no registry answers, or it refuses.
        """
        ...

    def build_image(
        self, *, context_tar: Path, tag: str, build_args: Mapping[str, str], labels: Mapping[str, str]
    ) -> AsyncIterator[Progress]:
        """Builds an image from a tar with a Dockerfile at its top; yields what the build prints, line by line.

        Raises:
            EngineRefused: a step failed; the text has the step's last lines.
        """
        ...

    def import_image(
        self, *, rootfs_tar: Path, tag: str, changes: Sequence[str], labels: Mapping[str, str]
    ) -> AsyncIterator[Progress]:
        """Makes an image of a root file system, with Dockerfile instructions (`ENV …`, `CMD …`) in `changes`."""
        ...

    async def aclose(self) -> None:
        """Gives back connections. No other method may be called afterwards."""
        ...
