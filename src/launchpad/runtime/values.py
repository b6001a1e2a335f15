"""What the contracts of a runtime speak of: containers and how they are made, their use, images, the host."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated

from pydantic import ConfigDict, Field

from ..domain.environments import Gpus
from ..domain.instances import Address
from ..domain.naming import ID_PATTERN
from ..domain.usage import ContainerActivity as ContainerActivity
from ..domain.usage import Usage as Usage

LABEL_PREFIX = "org.launchpad."
LABEL_DEPLOYMENT = LABEL_PREFIX + "deployment"
LABEL_INSTANCE = LABEL_PREFIX + "instance"
LABEL_OWNER = LABEL_PREFIX + "owner"
LABEL_ENVIRONMENT = LABEL_PREFIX + "environment"

# `oom_score_adj`: who has more is ended first where memory is short; services of the server have 0.
IDE_SCORE, PROGRAM_SCORE = 100, 900

InstanceId = Annotated[str, Field(pattern=rf"^{ID_PATTERN}$")]

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
    `storage` is where containers' own layers lie: its driver, and the file system below it, such as `overlay2 on xfs`.
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
    storage: str = ""


@dataclass(frozen=True)
class NetworkFacts:
    """What is in force of the instances' network now, as it was found: nothing was put right.

    `exists`: false before the first launch. `gaps`: in an administrator's words, what is not as it should be; empty
    where nothing is. `shielded`: whether machines in the same network as this server are kept from instances' ports,
    which engines before 28.0 do not do by themselves (moby#45610); None: it cannot be told. `firewall`: what holds the
    rules, `nftables` or `iptables`; empty where nothing does.
    """

    exists: bool
    gaps: tuple[str, ...] = ()
    shielded: bool | None = None
    firewall: str = ""


@dataclass(frozen=True)
class Caps:
    """What holds a running container back now; None: nothing does. `swap_bytes` is what it may use beyond memory.

    `cpu_weight` is its share against others, as the kernel has it: to be compared with another one of the same machine.
    """

    memory_bytes: int | None
    swap_bytes: int | None
    cpus: float | None
    pids: int | None
    cpu_weight: int | None = field(default=None, compare=False)


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
    together. `network_port` is the application's port inside; the runtime says where it is reached. `gpus` are seen by
    every container that asks for them, at the same time. `shm_bytes` is the size of `/dev/shm`, at least 64 MB.
    `first_in_path` is a folder put before those of the image's PATH. `safe_mode` says how `command` and `env_vars` were
    made.
    """

    instance_id: str
    owner_id: str
    environment: str
    image: str
    network_port: int
    memory_bytes: int
    cpus: float
    pids_limit: int
    shm_bytes: int = 0
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


@dataclass(frozen=True)
class LaunchOrder:
    """What is to be launched for whom: all that is said of a container to whoever composes it from the settings.

    `uid` is whose the home `username` is. `lab` is the owner's, by which the settings share directories. `token` is
    what the application accepts from nginx, where it has a log-in of its own.
    """

    instance_id: InstanceId
    owner_id: InstanceId
    environment: Annotated[str, Field(max_length=64)]
    username: Annotated[str, Field(max_length=64)]
    uid: int
    memory_bytes: int
    cpus: Annotated[float, Field(allow_inf_nan=False)]
    token: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$", repr=False)]
    lab: Annotated[str, Field(max_length=200)] | None = None
    safe_mode: bool = False

    __pydantic_config__ = ConfigDict(strict=True, extra="forbid")


@dataclass(frozen=True)
class Freezer:
    """Whether instances can be frozen on this engine; where not, `why_not`, in an administrator's words.

    `why_memory_stays`: why what they hold in memory stays there; empty where it can be pushed out to swap.
    """

    can_freeze: bool
    why_not: str = ""
    why_memory_stays: str = ""


@dataclass(frozen=True)
class MemoryWatch:
    """How well lack of memory is seen to on this engine; each empty where it is well, in an administrator's words.

    `why_not_ordered`: why what users run is not ended before their IDEs. `why_not_explained`: why nobody can tell for
    sure which program was ended.
    """

    why_not_ordered: str = ""
    why_not_explained: str = ""


class ContainerState(StrEnum):
    """`CREATED` was never started, `RUNNING` runs, `EXITED` has ended (and may still have files and an exit code).

    `PAUSED` stands still: its processes are there, keep their memory and get no processor time.
    """

    CREATED = "created"
    RUNNING = "running"
    PAUSED = "paused"
    EXITED = "exited"

    @property
    def is_up(self) -> bool:
        """Whether it has processes, and an address: it was started and has not ended."""
        return self in (ContainerState.RUNNING, ContainerState.PAUSED)


@dataclass(frozen=True)
class Container:
    """What the engine says of one of our containers now.

    `address` is there only while it is up, `exit_code` only when it has ended. `out_of_memory`: it ended badly, after
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
