"""People who leave: what is due for the home of a suspended user, and when. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum


class LeavingCause(StrEnum):
    """Suspended for long, or removed by an administrator."""

    SUSPENDED = "suspended"
    REMOVED = "removed"


@dataclass(frozen=True)
class Leaving:
    """Of a user who is suspended, or whose home is not there.

    Attributes:
        reason: an administrator's, of a removal.
        archive_at: when the home is archived; None: not by itself.
        warned_before: of the last warning, how long before that it was due; None: there was none yet.
        archive_id: of the archive that was made since.
        remove_home_at: when the home is removed; None: not by itself.
        home_removed_at: since when there is no home, but its archive.
    """

    user_id: str
    cause: LeavingCause
    since_at: datetime
    reason: str = ""
    archive_at: datetime | None = None
    warned_before: timedelta | None = None
    warned_at: datetime | None = None
    archive_id: str | None = None
    archived_at: datetime | None = None
    remove_home_at: datetime | None = None
    home_removed_at: datetime | None = None


def due_warning(one: Leaving, warnings: Sequence[timedelta], now: datetime) -> timedelta | None:
    """Which of the warnings is to be sent now: the latest that is due, once; None: none."""
    if one.archive_at is None or one.archived_at is not None:
        return None
    due = [
        before
        for before in warnings
        if now >= one.archive_at - before and (one.warned_before is None or before < one.warned_before)
    ]
    return min(due, default=None)


def warned(one: Leaving, before: timedelta, warnings: Sequence[timedelta], now: datetime) -> Leaving:
    """After that warning. Where it is the first and comes late, such as after the server stood still, what it warns of
    is put off, so that there is as much time as the last warning leaves."""
    archive_at = one.archive_at
    if archive_at is not None and one.warned_before is None:
        archive_at = max(archive_at, now + min(warnings))
    return replace(one, archive_at=archive_at, warned_before=before, warned_at=now)


def is_archive_due(one: Leaving, now: datetime) -> bool:
    """Never without a warning."""
    is_time = one.archive_at is not None and now >= one.archive_at
    return is_time and one.archived_at is None and one.warned_before is not None


def is_removal_due(one: Leaving, now: datetime) -> bool:
    """Of the home; whether it may be is for whoever removes it to see."""
    is_time = one.remove_home_at is not None and now >= one.remove_home_at
    return is_time and one.archive_id is not None and one.home_removed_at is None


@dataclass(frozen=True)
class HomeArchive:
    """An archive of a user's home, as it was recorded when it was made.

    Attributes:
        name: of its folder; no two of one user have one.
        uid: as it was then.
        entries, bytes: files, folders and links, and what they hold. `stored_bytes`: what the archive takes up.
        sha256: of its manifest.
        changed: files that were written to while they were read.
        left_out: what is not in it, by kind.
        verified_at: when all of it was found to be as its manifest says, last.
    """

    id: str
    user_id: str
    name: str
    username: str
    uid: int
    made_at: datetime
    entries: int
    bytes: int
    stored_bytes: int
    sha256: str
    changed: int = 0
    left_out: Mapping[str, int] = field(default_factory=dict)
    verified_at: datetime | None = None


class WorkKind(StrEnum):
    """What is done with a home, in the background."""

    ARCHIVE = "archive"
    VERIFY = "verify"
    RESTORE = "restore"
    REMOVE = "remove"
    COPY = "copy"


class WorkState(StrEnum):
    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"


@dataclass(frozen=True)
class HomeWork:
    """Work on a user's home.

    Attributes:
        archive_id: with or of which archive, where it is about one.
        to_user_id: who gets the copy.
        actor, client, actor_id: who asked; `is_automatic`: nobody, it was due.
        stage, files, bytes: how far it is.
        detail: why it failed, or what came of it.
    """

    id: str
    kind: WorkKind
    user_id: str
    asked_at: datetime
    actor: str
    client: str = "local"
    actor_id: str | None = None
    is_automatic: bool = False
    archive_id: str | None = None
    to_user_id: str | None = None
    reason: str = ""
    state: WorkState = WorkState.QUEUED
    began_at: datetime | None = None
    ended_at: datetime | None = None
    stage: str = ""
    files: int = 0
    bytes: int = 0
    detail: str = ""

    @property
    def is_over(self) -> bool:
        return self.state in (WorkState.DONE, WorkState.FAILED)


LEFT_IN_WORDS = {
    "socket": "sockets",
    "device": "devices",
    "elsewhere": "folders where another file system is mounted",
    "foreign": "files of somebody else's with further names",
    "unreadable": "files or folders that could not be read",
    "deep": "files in too many nested folders",
}


def left_in_words(left_out: Mapping[str, int], changed: int = 0) -> str:
    """ "2 sockets, 1 files that changed meanwhile"; empty: all of it is there."""
    said = [f"{LEFT_IN_WORDS.get(why, why)}: {number}" for why, number in left_out.items() if number]
    if changed:
        said.append(f"files that changed while they were read: {changed}")
    return ", ".join(said)
