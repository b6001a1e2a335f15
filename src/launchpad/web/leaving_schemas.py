"""What the JSON API says of people who leave, and of archives of their homes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

from pydantic import AwareDatetime, BaseModel, Field

from ..domain.leaving import HomeArchive, HomeWork, Leaving, LeavingCause, WorkKind, WorkState
from .schemas import Body

REASON_MAX = 500


class ArchiveView(BaseModel):
    """An archive of a home folder."""

    id: str
    name: str
    made_at: datetime
    files: int = Field(description="Files, folders and links.")
    size_bytes: int
    stored_bytes: int = Field(description="What the archive takes up.")
    sha256: str = Field(description="Of its manifest, which has that of every file.")
    changed_files: int = Field(description="Files that were written to while they were read.")
    left_out: Mapping[str, int] = Field(description="What is not in it, by kind.")
    verified_at: datetime | None = Field(description="When all of it was read back, last; null: not yet.")

    @classmethod
    def of(cls, one: HomeArchive) -> ArchiveView:
        return cls(
            id=one.id,
            name=one.name,
            made_at=one.made_at,
            files=one.entries,
            size_bytes=one.bytes,
            stored_bytes=one.stored_bytes,
            sha256=one.sha256,
            changed_files=one.changed,
            left_out=one.left_out,
            verified_at=one.verified_at,
        )


class HomeWorkView(BaseModel):
    """Work on a home folder, in the background."""

    id: str
    kind: WorkKind
    state: WorkState
    asked_at: datetime
    asked_by: str
    reason: str
    archive: str | None = Field(description="Its id.")
    stage: str
    files: int = Field(description="How far it is.")
    bytes: int
    ended_at: datetime | None
    detail: str = Field(description="What came of it, or why it failed.")

    @classmethod
    def of(cls, one: HomeWork) -> HomeWorkView:
        return cls(
            id=one.id,
            kind=one.kind,
            state=one.state,
            asked_at=one.asked_at,
            asked_by=one.actor,
            reason=one.reason,
            archive=one.archive_id,
            stage=one.stage,
            files=one.files,
            bytes=one.bytes,
            ended_at=one.ended_at,
            detail=one.detail,
        )


class LeavingView(BaseModel):
    """What is due for somebody's home folder. All null for a user who is active and has one."""

    cause: LeavingCause | None = None
    reason: str = ""
    since_at: datetime | None = None
    archive_at: datetime | None = Field(None, description="When the home folder is archived; null: not by itself.")
    warned_at: datetime | None = None
    archived_at: datetime | None = None
    remove_home_at: datetime | None = Field(None, description="When it is removed; null: not by itself.")
    home_removed_at: datetime | None = Field(None, description="Since when there is its archive only.")
    archives: list[ArchiveView] = Field(default_factory=list, description="The newest first.")
    work: list[HomeWorkView] = Field(default_factory=list, description="The newest first.")

    @classmethod
    def of(cls, one: Leaving | None, archives: Sequence[HomeArchive], work: Sequence[HomeWork]) -> LeavingView:
        kept, done = [ArchiveView.of(each) for each in archives], [HomeWorkView.of(each) for each in work]
        if one is None:
            return cls(archives=kept, work=done)
        return cls(
            cause=one.cause,
            reason=one.reason,
            since_at=one.since_at,
            archive_at=one.archive_at,
            warned_at=one.warned_at,
            archived_at=one.archived_at,
            remove_home_at=one.remove_home_at,
            home_removed_at=one.home_removed_at,
            archives=kept,
            work=done,
        )


class RemovalBody(Body):
    """Why a user is removed, and when their home folder is archived."""

    reason: str = Field("", max_length=REASON_MAX)
    archive_at: AwareDatetime | None = Field(None, description="Null: after `leaving.archive_removed_after_days`.")


class CopyBody(Body):
    """Who gets a copy of somebody's files, and why."""

    to: str = Field(max_length=254, description="The e-mail address of an active user.")
    reason: str = Field(min_length=1, max_length=REASON_MAX, description="The owner can read it.")
    archive: str | None = Field(None, max_length=16, description="Of which archive; null: the home folder as it is.")
