"""An instance's life: its states, which may follow which, and what time alone makes of one.

queued → starting → running → stopping → stopped | expired | failed
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum

from .causes import CauseKind
from .limits import Limits
from .memory import is_nearly_out, nearly_out_in_words
from .paging import Place
from .sizes import describe_bytes


class State(StrEnum):
    QUEUED = "queued"
    STARTING = "starting"
    RUNNING = "running"
    STOPPING = "stopping"
    STOPPED = "stopped"
    EXPIRED = "expired"
    FAILED = "failed"

    @property
    def is_live(self) -> bool:
        """Live instances count towards quotas and capacity; the others have ended."""
        return self in LIVE


class ShownState(StrEnum):
    """A state as people and programs are told it: a running instance that stands still is frozen."""

    QUEUED = "queued"
    STARTING = "starting"
    RUNNING = "running"
    FROZEN = "frozen"
    STOPPING = "stopping"
    STOPPED = "stopped"
    EXPIRED = "expired"
    FAILED = "failed"


LIVE = frozenset({State.QUEUED, State.STARTING, State.RUNNING, State.STOPPING})
ENDED = frozenset({State.STOPPED, State.EXPIRED, State.FAILED})

_MAY_FOLLOW: dict[State, frozenset[State]] = {
    State.QUEUED: frozenset({State.STARTING, State.STOPPED, State.EXPIRED, State.FAILED}),
    State.STARTING: frozenset({State.RUNNING, State.STOPPING, State.FAILED}),
    State.RUNNING: frozenset({State.STOPPING, State.FAILED}),
    State.STOPPING: frozenset(ENDED),
    State.STOPPED: frozenset(),
    State.EXPIRED: frozenset(),
    State.FAILED: frozenset(),
}


def may_follow(before: State, after: State) -> bool:
    return after in _MAY_FOLLOW[before]


class Stage(StrEnum):
    """What a launch is doing; shown live to the one who waits."""

    WAITING = "waiting for room"
    TURN = "waiting for other starts"
    LAB = "waiting for the lab's capacity"
    HOME = "preparing your files"
    IMAGE = "checking the image"
    CONTAINER = "creating the container"
    STARTING = "starting the application"
    READY = "ready"
    SAVING = "saving and stopping"
    ENDED = "ended"


@dataclass(frozen=True)
class Address:
    """Where nginx reaches an instance. `host` is an IP address, of this machine or of another one."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


NEARLY = 0.98  # of a limit: where programs begin to fail
NEARLY_FULL_BYTES = 4 * 1024**2  # left on a disk: likewise


@dataclass(frozen=True)
class Instance:
    """`ending_as` and `reason` are decided when the end is decided.

    `reason` is in its owner's words (see `ends.reason_for_others`); `ended_by` is who ended it, as the audit names
    them. `cause` is the likely cause of a failure, `oom_count` and `oom_at` how often, and when last, the kernel ended
    something in it for memory, `oom_program` what that was, `oom_bytes` what it held (None: nobody can tell) and
    `oom_limit_bytes` the size that the instance had then.
    `launched_memory_bytes`: what it was launched with, where its memory was raised since; the next launch has that
    again. `memory_warned_at`: when its owner was told that it runs short. `written_bytes`: what it has written outside
    its home, where that is more than it should. `admitted_at`: when its turn came to start; `started_at`: when it was
    usable.

    A running one stands still since `frozen_at`; `freeze_asked_at` is when that was decided, `frozen_reason` why, and
    `frozen_memory_bytes` what counts of its memory meanwhile (None: its size).

    `kept_until`: until then its owner wants it to run, idle or not.

    `extended_at`: when its end was last moved. `grace_until`: until then it may go on at a low share of the processors,
    since it was working as its time ran out.

    Of one that queues, `expires_at` is when it is dropped unless its owner comes back before, `queue_rank` its place
    (None: behind all that have one, in the order in which they came), and `estimated_start_at` when known ends let it
    start. `passed_until`: it was started before others that had waited for longer, and has to end by then.
    """

    id: str
    owner_id: str
    environment: str
    state: State
    stage: Stage
    reason: str | None
    limits: Limits
    created_at: datetime
    expires_at: datetime
    started_at: datetime | None = None
    ended_at: datetime | None = None
    ending_as: State | None = None
    address: Address | None = None
    image: str | None = None
    stand_in: bool = False
    safe_mode: bool = False
    ended_by: str | None = None
    cause: CauseKind | None = None
    oom_count: int = 0
    oom_at: datetime | None = None
    oom_program: str | None = None
    oom_bytes: int | None = None
    oom_limit_bytes: int | None = None
    launched_memory_bytes: int | None = None
    memory_warned_at: datetime | None = None
    written_bytes: int | None = None
    admitted_at: datetime | None = None
    queue_rank: float | None = None
    estimated_start_at: datetime | None = None
    passed_until: datetime | None = None
    extended_at: datetime | None = None
    grace_until: datetime | None = None
    freeze_asked_at: datetime | None = None
    frozen_at: datetime | None = None
    frozen_reason: str | None = None
    frozen_memory_bytes: int | None = None
    kept_until: datetime | None = None

    @property
    def is_to_be_frozen(self) -> bool:
        """It is frozen, or will be in a moment: what nobody has done is kept from it."""
        return self.freeze_asked_at is not None

    @property
    def is_frozen(self) -> bool:
        return self.frozen_at is not None

    @property
    def shown_state(self) -> ShownState:
        return ShownState.FROZEN if self.is_frozen else ShownState(self.state.value)

    def frozen_until(self, longest: timedelta | None) -> datetime | None:
        """When a frozen one ends if nobody thaws it; None: it is awake, or may stand still until its end.

        Args:
            longest: how long one may stand still; None: as long as it likes.
        """
        return None if self.frozen_at is None or longest is None else self.frozen_at + longest

    @property
    def launch_limits(self) -> Limits:
        """What it was launched with, whatever it was given since."""
        return replace(self.limits, memory_bytes=self.launched_memory_bytes or self.limits.memory_bytes)

    @property
    def oom_size_bytes(self) -> int:
        """The size that it ran out of, whatever it was given since."""
        return self.oom_limit_bytes or self.limits.memory_bytes

    @property
    def held_memory_bytes(self) -> int:
        """What counts of its memory for the server's capacity."""
        if self.frozen_at is None or self.frozen_memory_bytes is None:
            return self.limits.memory_bytes
        return self.frozen_memory_bytes

    @property
    def held_cpus(self) -> float:
        """Likewise of its cores: what stands still takes none."""
        return 0.0 if self.is_frozen else self.limits.cpus

    @property
    def is_live(self) -> bool:
        return self.state.is_live

    def is_expired(self, now: datetime) -> bool:
        return now >= self.expires_at

    @property
    def has_grace(self) -> bool:
        """Whether its time has run out, and it may go on until `grace_until`: no longer so once it is extended."""
        return self.grace_until is not None and self.grace_until > self.expires_at

    @property
    def ends_at(self) -> datetime:
        """When it ends, if nothing else ends it before."""
        return self.grace_until if self.grace_until is not None and self.has_grace else self.expires_at

    @property
    def end_known_since(self) -> datetime:
        """Since when its end is what it is."""
        return self.extended_at or self.created_at

    @property
    def place(self) -> Place:
        """Its place in a list, newest first."""
        return Place(self.created_at, self.id)

    @property
    def queue_place(self) -> tuple[bool, float, datetime, str]:
        """What the queue is sorted by."""
        return self.queue_rank is None, self.queue_rank or 0.0, self.created_at, self.id

    @property
    def ended_place(self) -> Place:
        """Its place in a list of ended ones, the latest end first."""
        return Place(self.ended_at or self.created_at, self.id)


def shortages(
    pids: int,
    pids_limit: int,
    home_used_bytes: int | None,
    home_limit_bytes: int | None,
    disk_free_bytes: int | None = None,
    memory_used_bytes: int = 0,
    memory_bytes: int = 0,
) -> tuple[str, ...]:
    """What a running instance is about to lack, in its owner's words; `memory_bytes` 0: memory is not looked at."""
    found = []
    if memory_bytes and is_nearly_out(memory_used_bytes, memory_bytes):
        found.append(nearly_out_in_words(memory_bytes))
    if full := home_is_full(home_used_bytes, home_limit_bytes, disk_free_bytes):
        found.append(f"{full}: nothing more can be saved until you delete something")
    if pids >= NEARLY * pids_limit:
        most = f"it runs as many processes and threads as it may ({pids_limit})"
        found.append(f"{most}: no more can start until some end")
    return tuple(found)


def home_is_full(used_bytes: int | None, limit_bytes: int | None, disk_free_bytes: int | None = None) -> str | None:
    """That it is, with numbers, in its owner's words; None: it is not, or nobody can tell.

    Without a limit of its own, or below it, a home is full when its disk is.
    """
    if used_bytes is not None and limit_bytes and used_bytes >= NEARLY * limit_bytes:
        return f"your home folder is full ({describe_bytes(used_bytes)} of {describe_bytes(limit_bytes)})"
    if disk_free_bytes is not None and disk_free_bytes < NEARLY_FULL_BYTES:
        return f"your home folder is full (its disk on the server has {describe_bytes(disk_free_bytes)} left)"
    return None


def next_transition(instance: Instance, now: datetime) -> tuple[State, str] | None:
    """What time alone makes of an instance: the state to go to and the reason in the user's words, or None."""
    if not instance.is_expired(now):
        return None
    reason = f"expired on {instance.expires_at:%-d %B %Y at %H:%M} UTC"
    if instance.state is State.QUEUED:
        return State.EXPIRED, "its time ran out while it was queued"
    if instance.state in (State.STARTING, State.RUNNING):
        return State.EXPIRED, reason
    return None


def extended_until(instance: Instance, days: int, longest_days: int, now: datetime) -> datetime:
    """The new end when `days` are added: never further than the longest duration offered, counted from `now`."""
    return max(instance.expires_at, min(instance.expires_at + timedelta(days=days), now + timedelta(days=longest_days)))
