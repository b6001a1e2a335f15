"""What the JSON API takes and gives. Sizes are texts like "8g"; instants are RFC 3339 in UTC."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from ..domain.admission import queue_in_words
from ..domain.causes import SAFE_MODE_HELPS, CauseKind
from ..domain.ends import notices_of, reason_for_others
from ..domain.environments import Environment
from ..domain.home_use import MeasuredUse
from ..domain.instances import Instance, ShownState, Stage, State
from ..domain.limits import Limits, Offer, Quota
from ..domain.origins import InstancesOrigin
from ..domain.signin import ApiToken, Login
from ..domain.sizes import format_bytes, parse_bytes
from ..domain.sizes_codec import choices_table, limits_table, quota_table
from ..domain.usage import Usage
from ..domain.users import Role, User
from ..domain.warnings import IdleEnd
from .home_schemas import HomeUseView

LARGEST_BYTES = 2**60  # an exbibyte: beyond every disk, and still within a 64-bit column


def _is_size(text: str) -> str:
    if parse_bytes(text) > LARGEST_BYTES:
        raise ValueError(f"“{text}” is more than any server has")
    return text


LONGEST_DAYS = 366  # as in the settings
SizeText = Annotated[str, Field(max_length=20, examples=["8g"]), AfterValidator(_is_size)]


class Body(BaseModel):
    """What a client sends: a field we do not know is an error, not something to overlook."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


class Problem(BaseModel):
    """RFC 9457."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    errors: list[dict[str, str]] = []


class SignInBody(Body):
    email: str = Field(max_length=1000)


class Asked(BaseModel):
    challenge_id: str
    expires_at: datetime


class VerifyBody(Body):
    code: str = Field(max_length=100)
    remember: bool = False


class QuotaView(BaseModel):
    memory: str | None
    cpus: float | None
    storage: str | None
    instances: int | None

    @classmethod
    def of(cls, quota: Quota) -> QuotaView:
        return cls(**quota_table(quota))


class Me(BaseModel):
    """`csrf_token` is null for a personal token, which needs none."""

    id: str
    email: str
    username: str
    role: Role
    lab: str | None
    quota: QuotaView
    time_zone: str | None = None
    csrf_token: str | None = None
    home: HomeUseView

    @classmethod
    def of(cls, user: User, csrf_token: str | None, home: MeasuredUse | None) -> Me:
        return cls(
            id=user.id,
            email=user.email,
            username=user.username,
            role=user.role,
            lab=user.lab,
            quota=QuotaView.of(user.quota),
            time_zone=user.time_zone,
            csrf_token=csrf_token,
            home=HomeUseView.of(home),
        )


class MePatchBody(Body):
    time_zone: str = Field(max_length=64, examples=["Asia/Singapore"], description="An IANA name.")
    only_if_unknown: bool = Field(False, description="Leaves one that is set already as it is.")


class SignedInView(BaseModel):
    user: Me


class ChoicesView(BaseModel):
    memory: list[str]
    cpus: list[float]
    storage: list[str]
    days: list[int]


class SizeView(BaseModel):
    memory: str
    cpus: float
    storage: str
    days: int

    @classmethod
    def of(cls, limits: Limits) -> SizeView:
        return cls(**limits_table(limits))


class EnvironmentView(BaseModel):
    """`reason` says why it is not available; `stand_in` that the image is not the real application."""

    name: str
    title: str
    description: str
    choices: ChoicesView
    defaults: SizeView
    available: bool
    reason: str | None = None
    stand_in: bool = False

    @classmethod
    def of(cls, environment: Environment, offer: Offer, *, reason: str | None, stand_in: bool) -> EnvironmentView:
        return cls(
            name=environment.name,
            title=environment.title,
            description=environment.description,
            choices=choices_view(offer),
            defaults=SizeView.of(offer.defaults),
            available=reason is None,
            reason=reason,
            stand_in=stand_in,
        )


def choices_view(offer: Offer) -> ChoicesView:
    return ChoicesView(**choices_table(offer))


class LaunchBody(Body):
    environment: str = Field(max_length=100)
    memory: SizeText | None = None
    cpus: float | None = None
    storage: SizeText | None = None
    days: int | None = None
    safe_mode: bool = Field(
        False, description="Without what is installed and set in the home folder, so that it can be repaired."
    )


class ExtendBody(Body):
    days: int


class SizeBody(Body):
    memory: SizeText = Field(description="The new size, one of those offered and larger than it has.")


class OutOfMemoryView(BaseModel):
    """The last program that was ended for lack of memory; null what nobody can tell."""

    at: datetime
    count: int = Field(description="How often that happened in this instance.")
    program: str | None
    memory_bytes: int | None

    @classmethod
    def of(cls, instance: Instance) -> OutOfMemoryView | None:
        if instance.oom_at is None:
            return None
        held = instance.oom_bytes
        return cls(at=instance.oom_at, count=instance.oom_count, program=instance.oom_program, memory_bytes=held)


class UsageView(BaseModel):
    """Memory in bytes, CPU time in seconds since the start, processes and threads."""

    memory_bytes: int
    cpu_seconds: float
    pids: int

    @classmethod
    def of(cls, usage: Usage | None) -> UsageView | None:
        return cls.of_usage(usage) if usage else None

    @classmethod
    def of_usage(cls, usage: Usage) -> UsageView:
        return cls(memory_bytes=usage.memory_bytes, cpu_seconds=usage.cpu_seconds, pids=usage.pids)


class IdleEndView(BaseModel):
    """When the idle policy stops or freezes an instance unless it is used or works before."""

    since: datetime = Field(description="Since when neither a person nor work was seen.")
    ends_at: datetime
    action: Literal["stop", "freeze"]

    @classmethod
    def of(cls, end: IdleEnd | None) -> IdleEndView | None:
        if end is None:
            return None
        return cls(since=end.idle_since, ends_at=end.ends_at, action="freeze" if end.freezes else "stop")


class InstanceView(BaseModel):
    """`url` is there while it runs; opening it without a cookie leads over the portal and back.

    `notices` is what its owner has to know while it runs; `reason` has them as one text. `cause` is the kind of the
    likely cause of a failure, and `safe_mode_helps` whether a launch in safe mode gets around it.

    Of one that queues, `queue_text` says in words how long the way is; `estimated_start_at` is when it starts if
    everything ends when it is to end at the latest, or null where that cannot be told; and `expires_at` is when it is
    dropped from the queue unless its owner visits before.

    A running one that stands still is `frozen`, since `frozen_at`.
    """

    id: str
    environment: str
    state: ShownState
    reason: str | None
    notices: list[str] = []
    cause: CauseKind | None = None
    safe_mode: bool = False
    safe_mode_helps: bool = False
    stage: Stage
    url: str | None
    created_at: datetime
    expires_at: datetime
    grace_until: datetime | None = Field(
        None, description="While it keeps running beyond `expires_at`, since it was working then: until when at most."
    )
    started_at: datetime | None
    ended_at: datetime | None
    limits: SizeView
    usage: UsageView | None = None
    queue_position: int | None = None
    queue_text: str | None = None
    estimated_start_at: datetime | None = None
    stand_in: bool = False
    frozen_at: datetime | None = None
    frozen_reason: str | None = None
    kept_until: datetime | None = Field(None, description="Its owner keeps it running until then, idle or not.")
    idle: IdleEndView | None = Field(
        None, description="Null where no idle rule applies or it works now, and in events: it moves with every act."
    )
    launched_memory: str | None = Field(None, description="What it was launched with, where it was given more since.")
    out_of_memory: OutOfMemoryView | None = None

    @classmethod
    def of(
        cls,
        instance: Instance,
        origin: InstancesOrigin,
        *,
        usage: Usage | None = None,
        queue_position: int | None = None,
        notices: Sequence[str] = (),
        idle: IdleEnd | None = None,
    ) -> InstanceView:
        fields = instance_fields(instance, origin, usage, queue_position, notices)
        return cls(**fields, idle=IdleEndView.of(idle))


class AdminInstanceView(InstanceView):
    owner: str = Field(description="The owner's e-mail address.")
    owner_id: str

    @classmethod
    def of_owner(
        cls,
        instance: Instance,
        origin: InstancesOrigin,
        owner: User | None,
        queue_position: int | None = None,
        idle: IdleEnd | None = None,
    ) -> AdminInstanceView:
        fields = instance_fields(instance, origin, None, queue_position, notices_of(instance))
        fields["reason"] = reason_for_others(fields["reason"], instance.ended_by)
        whose = {"owner": owner.email if owner else "", "owner_id": instance.owner_id}
        return cls(**fields, **whose, idle=IdleEndView.of(idle))


def _launched_memory(instance: Instance) -> str | None:
    return format_bytes(instance.launched_memory_bytes) if instance.launched_memory_bytes else None


def instance_fields(
    instance: Instance,
    origin: InstancesOrigin,
    usage: Usage | None,
    queue_position: int | None,
    notices: Sequence[str] = (),
) -> dict[str, Any]:
    return {
        "id": instance.id,
        "environment": instance.environment,
        "state": instance.shown_state,
        "reason": "; ".join(notices) or instance.reason,
        "notices": list(notices),
        "cause": instance.cause,
        "safe_mode": instance.safe_mode,
        "safe_mode_helps": instance.cause in SAFE_MODE_HELPS and not instance.safe_mode,
        "stage": instance.stage,
        "url": origin.url(instance.id) if instance.state is State.RUNNING else None,
        "created_at": instance.created_at,
        "expires_at": instance.expires_at,
        "grace_until": instance.grace_until if instance.has_grace else None,
        "launched_memory": _launched_memory(instance),
        "out_of_memory": OutOfMemoryView.of(instance),
        "started_at": instance.started_at,
        "ended_at": instance.ended_at,
        "limits": SizeView.of(instance.limits),
        "usage": UsageView.of(usage),
        "queue_position": queue_position,
        "queue_text": queue_in_words(queue_position, instance.stage) if queue_position else None,
        "estimated_start_at": instance.estimated_start_at if queue_position else None,
        "stand_in": instance.stand_in,
        "frozen_at": instance.frozen_at,
        "frozen_reason": instance.frozen_reason if instance.is_frozen else None,
        "kept_until": instance.kept_until,
    }


class LoginView(BaseModel):
    id: str
    client: str = Field(description="The network address it was made from.")
    user_agent: str
    created_at: datetime
    last_seen_at: datetime
    expires_at: datetime
    current: bool = Field(description="Whether it is the browser that sends this request.")

    @classmethod
    def of(cls, login: Login, current: Login | None) -> LoginView:
        return cls(
            id=login.id,
            client=login.client,
            user_agent=login.user_agent,
            created_at=login.created_at,
            last_seen_at=login.last_seen_at,
            expires_at=login.expires_at,
            current=current is not None and login.id == current.id,
        )


class TokenBody(Body):
    name: str = Field(max_length=200)


class TokenView(BaseModel):
    id: str
    name: str
    created_at: datetime
    last_used_at: datetime | None

    @classmethod
    def of(cls, token: ApiToken) -> TokenView:
        return cls(id=token.id, name=token.name, created_at=token.created_at, last_used_at=token.last_used_at)


class NewTokenView(TokenView):
    token: str = Field(description="The secret. It is shown only once.")
