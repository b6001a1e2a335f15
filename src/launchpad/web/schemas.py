"""What the JSON API takes and gives. Sizes are texts like "8g"; instants are RFC 3339 in UTC."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from ..domain.environments import Environment
from ..domain.instances import Instance, Stage, State
from ..domain.limits import Limits, Offer, Quota, Use
from ..domain.sizes import format_bytes, parse_bytes
from ..domain.users import Role, User, UserStatus
from ..runtime.base import Usage
from ..services.offers import CapacityUse, OfferedLimits
from ..store.audit import AuditRecord
from ..store.tokens import ApiToken

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
        return cls(
            memory=format_bytes(quota.memory_bytes) if quota.memory_bytes is not None else None,
            cpus=quota.cpus,
            storage=format_bytes(quota.storage_bytes) if quota.storage_bytes is not None else None,
            instances=quota.instances,
        )


class Me(BaseModel):
    """`csrf_token` is null for a personal token, which needs none."""

    id: str
    email: str
    username: str
    role: Role
    lab: str | None
    quota: QuotaView
    csrf_token: str | None = None

    @classmethod
    def of(cls, user: User, csrf_token: str | None) -> Me:
        return cls(
            id=user.id,
            email=user.email,
            username=user.username,
            role=user.role,
            lab=user.lab,
            quota=QuotaView.of(user.quota),
            csrf_token=csrf_token,
        )


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
        return cls(
            memory=format_bytes(limits.memory_bytes),
            cpus=limits.cpus,
            storage=format_bytes(limits.storage_bytes),
            days=limits.days,
        )


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
    return ChoicesView(
        memory=[format_bytes(size) for size in offer.memory_bytes],
        cpus=list(offer.cpus),
        storage=[format_bytes(size) for size in offer.storage_bytes],
        days=list(offer.days),
    )


class LaunchBody(Body):
    environment: str = Field(max_length=100)
    memory: SizeText | None = None
    cpus: float | None = None
    storage: SizeText | None = None
    days: int | None = None


class ExtendBody(Body):
    days: int


class UsageView(BaseModel):
    """Memory in bytes, CPU time in seconds since the start, processes and threads."""

    memory_bytes: int
    cpu_seconds: float
    pids: int

    @classmethod
    def of(cls, usage: Usage | None) -> UsageView | None:
        return cls(memory_bytes=usage.memory_bytes, cpu_seconds=usage.cpu_seconds, pids=usage.pids) if usage else None


class InstanceView(BaseModel):
    """`url` is there while it runs; opening it without a cookie leads over the portal and back."""

    id: str
    environment: str
    state: State
    reason: str | None
    stage: Stage
    url: str | None
    created_at: datetime
    expires_at: datetime
    started_at: datetime | None
    ended_at: datetime | None
    limits: SizeView
    usage: UsageView | None = None
    queue_position: int | None = None
    stand_in: bool = False

    @classmethod
    def of(
        cls,
        instance: Instance,
        instances_url: str,
        *,
        usage: Usage | None = None,
        queue_position: int | None = None,
    ) -> InstanceView:
        return cls(**instance_fields(instance, instances_url, usage, queue_position))


class AdminInstanceView(InstanceView):
    owner: str = Field(description="The owner's e-mail address.")
    owner_id: str

    @classmethod
    def of_owner(
        cls, instance: Instance, instances_url: str, owner: User | None, queue_position: int | None = None
    ) -> AdminInstanceView:
        fields = instance_fields(instance, instances_url, None, queue_position)
        return cls(**fields, owner=owner.email if owner else "", owner_id=instance.owner_id)


def instance_fields(
    instance: Instance, instances_url: str, usage: Usage | None, queue_position: int | None
) -> dict[str, Any]:
    return {
        "id": instance.id,
        "environment": instance.environment,
        "state": instance.state,
        "reason": instance.reason,
        "stage": instance.stage,
        "url": f"{instances_url}/i/{instance.id}/" if instance.state is State.RUNNING else None,
        "created_at": instance.created_at,
        "expires_at": instance.expires_at,
        "started_at": instance.started_at,
        "ended_at": instance.ended_at,
        "limits": SizeView.of(instance.limits),
        "usage": UsageView.of(usage),
        "queue_position": queue_position,
        "stand_in": instance.stand_in,
    }


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
    token: str = Field(description="The secret. It is shown this once.")


class AdminUserView(BaseModel):
    id: str
    email: str
    username: str
    uid: int
    role: Role
    status: UserStatus
    lab: str | None
    quota: QuotaView
    created_at: datetime
    last_seen_at: datetime | None

    @classmethod
    def of(cls, user: User) -> AdminUserView:
        return cls(
            id=user.id,
            email=user.email,
            username=user.username,
            uid=user.uid,
            role=user.role,
            status=user.status,
            lab=user.lab,
            quota=QuotaView.of(user.quota),
            created_at=user.created_at,
            last_seen_at=user.last_seen_at,
        )


class QuotaBody(Body):
    """A cap left out or null is no cap of the user's own."""

    memory: SizeText | None = None
    cpus: float | None = Field(None, ge=0)
    storage: SizeText | None = None
    instances: int | None = Field(None, ge=0, le=10_000)

    def quota(self) -> Quota:
        return Quota(
            memory_bytes=parse_bytes(self.memory) if self.memory else None,
            cpus=self.cpus,
            storage_bytes=parse_bytes(self.storage) if self.storage else None,
            instances=self.instances,
        )


class UserPatchBody(Body):
    role: Role | None = None
    status: UserStatus | None = None
    lab: str | None = Field(None, max_length=100)
    quota: QuotaBody | None = None


class LimitsView(ChoicesView):
    defaults: SizeView
    instances_per_user: int

    @classmethod
    def of_limits(cls, limits: OfferedLimits) -> LimitsView:
        return cls(
            **choices_view(limits.offer).model_dump(),
            defaults=SizeView.of(limits.offer.defaults),
            instances_per_user=limits.instances_per_user,
        )


class DefaultsBody(Body):
    memory: SizeText
    cpus: float
    storage: SizeText
    days: int


class LimitsBody(Body):
    """Replaces the choices; leave `instances_per_user` out to keep it."""

    memory: list[SizeText]
    cpus: list[float]
    storage: list[SizeText]
    days: list[Annotated[int, Field(le=LONGEST_DAYS)]]
    defaults: DefaultsBody
    instances_per_user: int | None = Field(None, le=10_000)

    def limits(self, before: OfferedLimits) -> OfferedLimits:
        per_user = self.instances_per_user
        return OfferedLimits(
            Offer(
                memory_bytes=tuple(map(parse_bytes, self.memory)),
                cpus=tuple(self.cpus),
                storage_bytes=tuple(map(parse_bytes, self.storage)),
                days=tuple(self.days),
                defaults=Limits(
                    parse_bytes(self.defaults.memory),
                    self.defaults.cpus,
                    parse_bytes(self.defaults.storage),
                    self.defaults.days,
                ),
            ),
            before.instances_per_user if per_user is None else per_user,
        )


class AmountView(BaseModel):
    memory: str
    memory_bytes: int
    cpus: float
    instances: int

    @classmethod
    def of(cls, memory_bytes: int, cpus: float, instances: int) -> AmountView:
        return cls(memory=format_bytes(memory_bytes), memory_bytes=memory_bytes, cpus=cpus, instances=instances)


class CapacityView(BaseModel):
    """`total` can be promised, `promised` is; `host` is what the machine has."""

    total: AmountView
    promised: AmountView
    queued: int
    host: dict[str, int | str]

    @classmethod
    def of(cls, use: CapacityUse) -> CapacityView:
        promised: Use = use.promised
        return cls(
            total=AmountView.of(use.capacity.memory_bytes, use.capacity.cpus, use.capacity.instances),
            promised=AmountView.of(promised.memory_bytes, promised.cpus, promised.instances),
            queued=use.queued,
            host={
                "cpus": use.host.cpus,
                "memory_bytes": use.host.memory_bytes,
                "engine_version": use.host.engine_version,
            },
        )


class AuditView(BaseModel):
    id: int
    at: datetime
    actor: str
    client: str
    action: str
    subject: str
    details: Mapping[str, Any]

    @classmethod
    def of(cls, record: AuditRecord) -> AuditView:
        return cls(
            id=record.id,
            at=record.at,
            actor=record.actor,
            client=record.client,
            action=record.action,
            subject=record.subject,
            details=record.details,
        )
