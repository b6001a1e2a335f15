"""What the page of a user is given about their home folder: what is due, its archives, and work on it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from ...domain.leaving import HomeArchive, HomeWork, Leaving, WorkKind, WorkState, left_in_words
from ...domain.sizes import describe_bytes

_KINDS = {
    WorkKind.ARCHIVE: "Archive",
    WorkKind.VERIFY: "Check of an archive",
    WorkKind.RESTORE: "Restore",
    WorkKind.REMOVE: "Removal of the home folder",
    WorkKind.COPY: "Copy",
}
_STATES = {
    WorkState.QUEUED: ("Queued", "busy"),
    WorkState.RUNNING: ("Running", "busy"),
    WorkState.DONE: ("Done", "good"),
    WorkState.FAILED: ("Failed", "bad"),
}
SHOWN = 5


@dataclass(frozen=True)
class ArchiveRow:
    """An archive; `text`: what it holds."""

    id: str
    made_at: datetime
    text: str
    left_out: str
    is_verified: bool


@dataclass(frozen=True)
class WorkRow:
    title: str
    label: str
    tone: str
    at: datetime
    by: str
    text: str


@dataclass(frozen=True)
class HomeOfUser:
    """`latest`: the archive that the home folder can be restored from, or removed by; None: there is none."""

    leaving: Leaving | None
    archives: Sequence[ArchiveRow]
    work: Sequence[WorkRow]
    is_at_work: bool

    @property
    def latest(self) -> ArchiveRow | None:
        return self.archives[0] if self.archives else None

    @property
    def is_gone(self) -> bool:
        return self.leaving is not None and self.leaving.home_removed_at is not None

    @classmethod
    def of(cls, one: Leaving | None, archives: Sequence[HomeArchive], work: Sequence[HomeWork]) -> HomeOfUser:
        return cls(
            one,
            [_archive(each) for each in archives],
            [_work(each) for each in work[:SHOWN]],
            any(not each.is_over for each in work),
        )


def work_in_words(kind: WorkKind) -> str:
    return _KINDS[kind]


def _archive(one: HomeArchive) -> ArchiveRow:
    text = f"{one.entries:,} files and folders, {describe_bytes(one.bytes)} ({describe_bytes(one.stored_bytes)} packed)"
    return ArchiveRow(one.id, one.made_at, text, left_in_words(one.left_out, one.changed), one.verified_at is not None)


def _work(one: HomeWork) -> WorkRow:
    label, tone = _STATES[one.state]
    text = one.detail
    if one.state is WorkState.RUNNING:
        text = f"{one.stage.capitalize() or 'Starting'}: {one.files:,} files and folders, {describe_bytes(one.bytes)}"
    by = "by itself, as it was due" if one.is_automatic else f"by {one.actor}"
    return WorkRow(_KINDS[one.kind], label, tone, one.ended_at or one.began_at or one.asked_at, by, text)
