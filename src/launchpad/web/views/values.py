"""What the templates are given: the domain's values with the labels, meters, choices and words that a page shows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from ...domain.admission import queue_in_words
from ...domain.causes import SAFE_MODE_HELPS
from ...domain.ends import notices_of, reason_for_others
from ...domain.environments import Environment
from ...domain.instances import Instance, Stage, State, extended_until
from ...domain.limits import Limits, Offer, Quota
from ...domain.sizes import describe_bytes, describe_cpus, describe_days, format_bytes
from ...settings.freezing import FreezingSettings
from . import words
from .activity import ActivityCard
from .idle import IdleCard
from .meters import Meter, bytes_meter

_LAUNCH_STAGES = (Stage.HOME, Stage.IMAGE, Stage.CONTAINER, Stage.STARTING, Stage.READY)
_STAGE_WORDS = {Stage.WAITING: "Queued", Stage.TURN: "Queued", Stage.LAB: "Queued"}
_STATE_WORDS = {
    State.QUEUED: ("Queued", "busy"),
    State.STARTING: ("Starting", "busy"),
    State.RUNNING: ("Running", "good"),
    State.STOPPING: ("Stopping", "busy"),
    State.STOPPED: ("Stopped", "quiet"),
    State.EXPIRED: ("Expired", "quiet"),
    State.FAILED: ("Failed", "bad"),
}
_SOON = timedelta(hours=1)


class Problems(dict[str, str]):
    """What is wrong with a form, by field; the key "" is about the form as a whole. A field that is fine gives ""."""

    def __missing__(self, field: str) -> str:
        return ""


@dataclass(frozen=True)
class Choice:
    """One option. `until` is the end it leads to; `refused` why this user cannot have it."""

    value: str
    label: str
    until: datetime | None = None
    refused: str | None = None


@dataclass(frozen=True)
class Choices:
    """The options of one field and the one that is chosen now."""

    field: str
    legend: str
    options: tuple[Choice, ...]
    chosen: str


def offer_choices(
    offer: Offer, quota: Quota, asked: Mapping[str, str] | None = None, *, with_storage: bool = True
) -> tuple[Choices, ...]:
    """The fields of a launch: memory, cpus, storage, days. `asked` keeps what a refused form had chosen.

    Args:
        with_storage: whether the server can hold people to a size of their home; a choice without effect is none.
    """
    asked = asked or {}
    over = "over your quota"

    def one(name: str, legend: str, options: Sequence[Choice], default: str) -> Choices:
        allowed = [option.value for option in options if option.refused is None]
        chosen = asked.get(name, default)
        if chosen not in allowed:
            chosen = default if default in allowed or not allowed else allowed[-1]
        return Choices(name, legend, tuple(options), chosen)

    def fits(value: float, cap: float | None) -> str | None:
        return None if cap is None or value <= cap else over

    memory = [
        Choice(format_bytes(size), describe_bytes(size), refused=fits(size, quota.memory_bytes))
        for size in offer.memory_bytes
    ]
    cpus = [Choice(f"{count:g}", describe_cpus(count), refused=fits(count, quota.cpus)) for count in offer.cpus]
    storage = [
        Choice(format_bytes(size), describe_bytes(size), refused=fits(size, quota.storage_bytes))
        for size in offer.storage_bytes
    ]
    days = [Choice(str(count), describe_days(count)) for count in offer.days]
    defaults = offer.defaults
    sizes = [
        one("memory", "Memory", memory, format_bytes(defaults.memory_bytes)),
        one("cpus", "Cores", cpus, f"{defaults.cpus:g}"),
        one("storage", "Home folder size", storage, format_bytes(defaults.storage_bytes)),
    ]
    return (*(sizes if with_storage else sizes[:2]), one("days", "Duration", days, str(defaults.days)))


@dataclass(frozen=True)
class LaunchCard:
    """One environment on the dashboard.

    Attributes:
        unavailable: why it cannot be launched now, in the user's words.
        stand_in_for: the image that this server could not have, when its stand-in is what will start.
        live_id: the user's live instance of this environment, when another launch would only find that one.
        live_label: what that one does, such as "Already running".
        errors: what was wrong with the last form, by field; the key "" is about the launch as a whole.
    """

    name: str
    title: str
    description: str
    choices: tuple[Choices, ...]
    unavailable: str | None = None
    stand_in_for: str | None = None
    live_id: str | None = None
    live_label: str = ""
    errors: Problems = field(default_factory=Problems)

    @property
    def has_field_problem(self) -> bool:
        return any(self.errors[choices.field] for choices in self.choices)


@dataclass(frozen=True)
class RefusedLaunch:
    """A launch that was refused: what was chosen, what is wrong by field, and all of it in one text."""

    environment: str
    asked: Mapping[str, str]
    fields: Mapping[str, str]
    in_full: str


@dataclass(frozen=True)
class Step:
    """One stage of a launch on the progress list; `status` is done, current or ahead."""

    stage: str
    label: str
    status: str


@dataclass(frozen=True)
class Moments:
    """An instance's end in words: how long until then, whether that is soon, or how long ago it was."""

    ends_in: str
    ends_soon: bool
    ended_ago: str


def moments_of(instance: Instance, now: datetime) -> Moments:
    return Moments(
        ends_in=words.left_in_words(instance.ends_at, now),
        ends_soon=instance.ends_at - now < _SOON,
        ended_ago=words.ago_in_words(instance.ended_at, now) if instance.ended_at else "",
    )


@dataclass(frozen=True)
class FrozenView:
    """Since when an instance stands still, why, and when it ends of it; None: not before its own end."""

    since: datetime
    reason: str
    until: datetime | None


@dataclass(frozen=True)
class InstanceView:
    """An instance as its owner, or an administrator, sees it.

    Attributes:
        moments: its end in words.
        notices: what there is to know while it runs.
        safe_mode_helps: whether it probably failed of something that safe mode passes over.
        shown_state: as the API names its state.
        frozen: of one that stands still.
        can_freeze: it runs, and may be frozen.
        can_relaunch: it has ended, and its environment is still in the catalogue.
        more_memory: the larger sizes that it may be given now, or launched with again after it ran out of memory.
        launched_memory_text: what it was launched with, where it was given more since.
        activity: what goes on in it; None: nothing is known, or nothing is shown.
        idle: what the idle policy makes of it; None: nothing, or nothing is shown.
        expires_at: when it ends; `in_grace`: its time is up, and it may finish what it works on until then.
    """

    id: str
    environment: str
    title: str
    state: str
    stage: str
    state_label: str
    tone: str
    reason: str | None
    is_live: bool
    limits_text: str
    memory_text: str
    cores_text: str
    created_at: datetime
    expires_at: datetime
    ended_at: datetime | None
    moments: Moments
    steps: tuple[Step, ...]
    extend: tuple[Choice, ...] = ()
    memory: Meter | None = None
    queue_position: int | None = None
    queue_text: str = ""
    estimated_start_at: datetime | None = None
    days_text: str = ""
    stand_in_for: str | None = None
    owner_email: str | None = None
    owner_id: str | None = None
    notices: tuple[str, ...] = ()
    safe_mode: bool = False
    safe_mode_helps: bool = False
    can_relaunch: bool = False
    activity: ActivityCard | None = None
    idle: IdleCard | None = None
    shown_state: str = ""
    frozen: FrozenView | None = None
    can_freeze: bool = False
    in_grace: bool = False
    more_memory: tuple[Choice, ...] = ()
    launched_memory_text: str = ""

    @property
    def more_memory_chosen(self) -> Choice | None:
        """The next larger size that its owner may have."""
        return next((one for one in self.more_memory if one.refused is None), None)

    @property
    def ends_soon(self) -> bool:
        """Whether it runs, and ends within the hour."""
        return self.moments.ends_soon and self.state == State.RUNNING


def live_label(state: State) -> str:
    return "Already running" if state is State.RUNNING else _STATE_WORDS[state][0]


def limits_in_words(limits: Limits) -> str:
    return f"{describe_bytes(limits.memory_bytes)} memory · {describe_cpus(limits.cpus)}"


def steps_of(state: State, stage: Stage) -> tuple[Step, ...]:
    """The progress list; empty unless the instance is on its way to running."""
    if state not in (State.QUEUED, State.STARTING):
        return ()
    stages = (stage, *_LAUNCH_STAGES) if stage in _STAGE_WORDS else _LAUNCH_STAGES
    at = stages.index(stage) if stage in stages else 0
    return tuple(
        Step(
            one.value,
            _STAGE_WORDS.get(one) or one.value.capitalize(),
            "done" if i < at else "current" if i == at else "ahead",
        )
        for i, one in enumerate(stages)
    )


def extension_choices(instance: Instance, offer: Offer, now: datetime) -> tuple[Choice, ...]:
    """The durations that would move the end at all, each with the end it leads to; one choice for each end."""
    if instance.state not in (State.STARTING, State.RUNNING) or not offer.days:
        return ()
    choices: dict[datetime, Choice] = {}
    for days in offer.days:
        until = extended_until(instance, days, offer.days[-1], now)
        if until - instance.expires_at >= timedelta(minutes=1):
            in_full = until == instance.expires_at + timedelta(days=days)
            label = describe_days(days) if in_full else f"Maximum ({describe_days(offer.days[-1])})"
            choices.setdefault(until, Choice(str(days), label, until=until))
    return tuple(choices.values())


def instance_view(
    instance: Instance,
    environment: Environment | None,
    now: datetime,
    *,
    moments: Moments,
    offer: Offer | None = None,
    memory_used_bytes: int | None = None,
    queue_position: int | None = None,
    owner_email: str | None = None,
    lacks: Sequence[str] = (),
    activity: ActivityCard | None = None,
    idle: IdleCard | None = None,
    freezing: FreezingSettings | None = None,
    more_memory: tuple[Choice, ...] = (),
) -> InstanceView:
    """`environment` is None when the catalogue no longer has it: the name stands in for the title.

    Args:
        now: as far as what can be extended depends on it.
        moments: as of now.
        offer: what is offered for that environment; without it no extension is.
        owner_email: whose it is, where somebody else looks at it.
        lacks: what it lacks now.
        activity: what goes on in it.
        idle: what the idle policy makes of it.
        more_memory: the larger sizes that it may have.
        freezing: whether instances may be frozen, and for how long; None: nothing is offered.
    """
    label, tone = ("Frozen", "quiet") if instance.is_frozen else _STATE_WORDS[instance.state]
    frozen = None
    if instance.frozen_at is not None:
        longest = timedelta(hours=freezing.longest_hours) if freezing and freezing.longest_hours else None
        until = instance.frozen_until(longest)
        soonest = until if until is not None and until < instance.expires_at else None
        frozen = FrozenView(instance.frozen_at, instance.frozen_reason or "", soonest)
    memory = None
    if instance.state is State.RUNNING and memory_used_bytes is not None:
        memory = bytes_meter("Memory", memory_used_bytes, instance.limits.memory_bytes)
    return InstanceView(
        id=instance.id,
        environment=instance.environment,
        title=environment.title if environment else instance.environment,
        state=instance.state.value,
        stage=instance.stage.value,
        state_label=label,
        tone=tone,
        reason=instance.reason if owner_email is None else reason_for_others(instance.reason, instance.ended_by),
        is_live=instance.is_live,
        limits_text=limits_in_words(instance.limits),
        memory_text=describe_bytes(instance.limits.memory_bytes),
        cores_text=f"{instance.limits.cpus:g}",
        created_at=instance.created_at,
        expires_at=instance.ends_at,
        in_grace=instance.has_grace,
        ended_at=instance.ended_at,
        moments=moments,
        steps=steps_of(instance.state, instance.stage),
        extend=extension_choices(instance, offer, now) if offer else (),
        memory=memory,
        queue_position=queue_position,
        queue_text=queue_in_words(queue_position or 1, instance.stage) if instance.state is State.QUEUED else "",
        estimated_start_at=instance.estimated_start_at if instance.state is State.QUEUED else None,
        days_text=describe_days(instance.limits.days),
        stand_in_for=(environment.image if environment else "its image") if instance.stand_in else None,
        owner_email=owner_email,
        owner_id=instance.owner_id,
        notices=notices_of(instance, lacks),
        safe_mode=instance.safe_mode,
        safe_mode_helps=instance.cause in SAFE_MODE_HELPS and not instance.safe_mode,
        can_relaunch=environment is not None and not instance.is_live,
        activity=activity,
        idle=idle,
        more_memory=more_memory,
        launched_memory_text=describe_bytes(instance.launched_memory_bytes) if instance.launched_memory_bytes else "",
        shown_state=instance.shown_state.value,
        frozen=frozen,
        can_freeze=instance.state is State.RUNNING
        and not instance.is_to_be_frozen
        and freezing is not None
        and freezing.enabled,
    )


def dashboard_title(live: Sequence[InstanceView]) -> str:
    """What the browser's tab says: "JupyterLab running", "2 running, 1 starting"; "Dashboard" when nothing is live.

    In the last hour of one of them: "JupyterLab ends: 42 min left".
    """
    if not live:
        return "Dashboard"
    ending = [(one.expires_at, f"{one.title} ends: {one.moments.ends_in}") for one in live if one.ends_soon]
    for one in live:
        if one.idle is not None and one.idle.ends_at is not None and one.idle.left:
            ending.append((one.idle.ends_at, f"{one.title} idle, {one.idle.verb}: {one.idle.left}"))
    if ending:
        return min(ending)[1]
    if len(live) == 1:
        return f"{live[0].title} {live[0].state_label.lower()}"
    numbers = Counter(one.state_label.lower() for one in live)
    return ", ".join(f"{number} {label}" for label, number in numbers.items())


@dataclass(frozen=True)
class NewToken:
    """A personal API token at the one moment its secret is shown."""

    name: str
    secret: str
