"""What the JSON API says of shares."""

from __future__ import annotations

from datetime import datetime

from pydantic import BaseModel, Field

from ..domain.file_paths import decoded, encoded, shown
from ..services.shares import SharedByMe, SharedWithMe
from .files_schemas import PATH_MAX
from .schemas import Body


class ShareBody(Body):
    path: str = Field(max_length=PATH_MAX, description="Below the home, with percent-encoded bytes.")
    people: list[str] = Field(
        default_factory=list, alias="with", max_length=60, description="E-mail addresses of those who may read it."
    )
    lab: bool = Field(False, description="Whether the members of your lab may read it, too.")
    link: bool = Field(
        False,
        description="Whether there is a link, too, that opens it for everybody who has it, without signing in; only "
        "where the administrators allow it.",
    )
    days: int | None = Field(None, description="For how long; null: as the settings say.")

    @property
    def inside(self) -> str:
        return decoded(self.path).strip("/")


class OpenedView(BaseModel):
    email: str = Field(description="Empty: somebody who has the link for everybody.")
    last_at: datetime


class ShareView(BaseModel):
    """Something that is shared."""

    id: str
    name: str
    kind: str = Field(description="`file` or `folder`.")
    url: str = Field(description="The link: for those with whom it is shared, once they have signed in.")
    created_at: datetime
    expires_at: datetime


class OwnShareView(ShareView):
    """Of one's own."""

    path: str = Field(description="Below the home, with percent-encoded bytes.")
    people: list[str] = Field(serialization_alias="with")
    lab: str | None
    has_link: bool = Field(description="Whether a link opens it for everybody who has that.")
    link_url: str | None = Field(None, description="That link; told only when it is made.")
    opened: list[OpenedView] = Field(description="Who has opened it, and when last, to the minute.")

    @classmethod
    def of(cls, one: SharedByMe, public_url: str, link_url: str | None = None) -> OwnShareView:
        return cls(
            **_fields(one, public_url),
            path=encoded(one.share.path),
            people=list(one.share.emails),
            lab=one.share.lab,
            has_link=one.share.secret_digest is not None,
            link_url=link_url,
            opened=[OpenedView(email=each.email, last_at=each.last_at) for each in one.opened],
        )


class GivenShareView(ShareView):
    """Of somebody else."""

    owner: str

    @classmethod
    def of(cls, one: SharedWithMe, public_url: str) -> GivenShareView:
        return cls(**_fields(one, public_url), owner=one.owner.email)


class SharesView(BaseModel):
    """The newest first."""

    by_me: list[OwnShareView]
    with_me: list[GivenShareView]


def _fields(one: SharedByMe | SharedWithMe, public_url: str) -> dict[str, object]:
    share = one.share
    return {
        "id": share.id,
        "name": shown(share.name),
        "kind": share.kind,
        "url": f"{public_url}/shared/{share.id}",
        "created_at": share.created_at,
        "expires_at": share.expires_at,
    }
