"""What the JSON API takes and gives about labs."""

from __future__ import annotations

from datetime import datetime

from pydantic import BaseModel, Field

from ..domain.labs import JoinRequest, LabAccess, LabMember, ListedLab, OwnLab
from .schemas import Body


class OwnLabView(BaseModel):
    """A lab of one's own. `counts`: of one's labs it is the one that counts for capacity, fair share and policies."""

    name: str
    title: str
    is_lead: bool
    counts: bool
    members: int

    @classmethod
    def of(cls, one: OwnLab) -> OwnLabView:
        return cls(name=one.lab.name, title=one.lab.title, is_lead=one.is_lead, counts=one.counts, members=one.members)


class ListedLabView(BaseModel):
    """A lab for administrators. `key`: what settings, policies and reports call it."""

    name: str
    key: str
    title: str
    leads: list[str]
    members: int
    requests: int
    created_at: datetime

    @classmethod
    def of(cls, one: ListedLab) -> ListedLabView:
        return cls(
            name=one.lab.name,
            key=one.lab.key,
            title=one.lab.title,
            leads=list(one.leads),
            members=one.members,
            requests=one.requests,
            created_at=one.lab.created_at,
        )


class LabMemberView(BaseModel):
    email: str
    is_lead: bool
    joined_at: datetime

    @classmethod
    def of(cls, one: LabMember) -> LabMemberView:
        return cls(email=one.user.email, is_lead=one.is_lead, joined_at=one.joined_at)


class JoinRequestView(BaseModel):
    email: str
    asked_at: datetime

    @classmethod
    def of(cls, one: JoinRequest) -> JoinRequestView:
        return cls(email=one.user.email, asked_at=one.asked_at)


class LabView(BaseModel):
    """A lab with its members, the leads first. `requests`: who asks to join; null for those who cannot answer them."""

    name: str
    title: str
    may_change: bool
    members: list[LabMemberView]
    requests: list[JoinRequestView] | None
    created_at: datetime

    @classmethod
    def of(cls, access: LabAccess, members: list[LabMember], requests: list[JoinRequest] | None) -> LabView:
        return cls(
            name=access.lab.name,
            title=access.lab.title,
            may_change=access.may_change,
            members=[LabMemberView.of(one) for one in members],
            requests=None if requests is None else [JoinRequestView.of(one) for one in requests],
            created_at=access.lab.created_at,
        )


class NewLabBody(Body):
    """`title` left out: as the name."""

    name: str = Field(max_length=100, examples=["genomics"])
    title: str = Field("", max_length=200)


class LabPatchBody(Body):
    title: str = Field(max_length=200)


class LabMemberBody(Body):
    """`is_lead` left out or null: as it is. Only administrators change it."""

    is_lead: bool | None = None


class LabRequestBody(Body):
    name: str = Field(max_length=100)


class LabAskedView(BaseModel):
    """Which lab was asked for, as it was written; whether there is one is not told."""

    name: str
