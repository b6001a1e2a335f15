"""What the administrators' part of the JSON API takes and gives."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from ..domain.announcements import Announcement
from ..domain.audit import AuditRecord
from ..domain.audit_words import details_in_words
from ..domain.lab_capacity import LabCapacity, lab_of, labs_table
from ..domain.limits import OfferedLimits, Quota, Use
from ..domain.mail import FailureKind, MailFailure
from ..domain.sizes import format_bytes
from ..domain.sizes_codec import offered_of, offered_table, quota_of
from ..domain.users import Role, User, UserStatus
from ..services.offers import CapacityUse
from .schemas import LONGEST_DAYS, Body, ChoicesView, QuotaView, SizeText, SizeView


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
    """A limit that is left out or null: the user has no limit of their own."""

    memory: SizeText | None = None
    cpus: float | None = Field(None, ge=0)
    storage: SizeText | None = None
    instances: int | None = Field(None, ge=0, le=10_000)

    def quota(self) -> Quota:
        return quota_of(self.model_dump())


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
        return cls.model_validate(offered_table(limits))


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
        given = self.model_dump(exclude_none=True)
        return offered_of({"instances_per_user": before.instances_per_user, **given})


class LabCapacityView(BaseModel):
    """What a lab is guaranteed, and may have at most. Null: nothing is guaranteed, or there is no maximum."""

    lab: str
    guaranteed_memory: str | None
    guaranteed_cpus: float | None
    max_memory: str | None
    max_cpus: float | None

    @classmethod
    def of_all(cls, labs: Mapping[str, LabCapacity]) -> list[LabCapacityView]:
        return [cls(lab=lab, **table) for lab, table in labs_table(labs).items()]


class LabCapacityBody(Body):
    """Replaces a lab's capacity; what is left out or null is not set. With nothing set the lab has none of its own."""

    lab: str = Field(min_length=1, max_length=100)
    guaranteed_memory: SizeText | None = None
    guaranteed_cpus: float | None = Field(None, ge=0, le=1_000_000)
    max_memory: SizeText | None = None
    max_cpus: float | None = Field(None, gt=0, le=1_000_000)

    def capacity(self) -> LabCapacity:
        return lab_of(self.model_dump())


class AmountView(BaseModel):
    memory: str
    memory_bytes: int
    cpus: float
    instances: int

    @classmethod
    def of(cls, memory_bytes: int, cpus: float, instances: int) -> AmountView:
        return cls(memory=format_bytes(memory_bytes), memory_bytes=memory_bytes, cpus=cpus, instances=instances)


class CapacityView(BaseModel):
    """`total` can be reserved, `promised` is reserved; `host` is what the server has."""

    total: AmountView
    promised: AmountView
    queued: int
    host: dict[str, int | str]

    @classmethod
    def of(cls, use: CapacityUse) -> CapacityView:
        reserved: Use = use.reserved
        return cls(
            total=AmountView.of(use.capacity.memory_bytes, use.capacity.cpus, use.capacity.instances),
            promised=AmountView.of(reserved.memory_bytes, reserved.cpus, reserved.instances),
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
    text: str = Field(description="The details in words.")

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
            text=details_in_words(record.details),
        )


class MailFailureView(BaseModel):
    """An address that mail could not be delivered to: the newest failure, and how many there were since `first_at`.

    `status` is the enhanced status code (RFC 3463) where a server gave one, `reason` what it means. `user_id` is null
    where nobody has signed in with the address yet.
    """

    address: str
    kind: FailureKind
    status: str | None
    reason: str
    count: int
    first_at: datetime
    last_at: datetime
    user_id: str | None

    @classmethod
    def of(cls, failure: MailFailure, user: User | None) -> MailFailureView:
        return cls(
            address=failure.address,
            kind=failure.kind,
            status=failure.status,
            reason=failure.reason,
            count=failure.count,
            first_at=failure.first_at,
            last_at=failure.last_at,
            user_id=user.id if user else None,
        )


class AnnouncementBody(Body):
    text: str = Field(max_length=2000)
    shown_from: AwareDatetime | None = Field(None, alias="from", description="Null: from now on.")
    until: AwareDatetime | None = Field(
        None, description="Null: until it is withdrawn; of a maintenance, two hours after it began."
    )
    stop_instances_at: AwareDatetime | None = Field(
        None, description="A maintenance: all instances are stopped then, and none is launched until it is over."
    )


class AnnouncementView(BaseModel):
    model_config = ConfigDict(serialize_by_alias=True, validate_by_name=True, validate_by_alias=True)

    id: str
    text: str
    shown_from: datetime = Field(alias="from")
    until: datetime | None
    stop_instances_at: datetime | None
    created_at: datetime
    created_by: str

    @classmethod
    def of(cls, one: Announcement) -> AnnouncementView:
        return cls(
            id=one.id,
            text=one.text,
            shown_from=one.shown_from,
            until=one.shown_until,
            stop_instances_at=one.stop_instances_at,
            created_at=one.created_at,
            created_by=one.created_by,
        )
