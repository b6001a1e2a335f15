"""The contract of archives of homes. One suite, `tests/contract/test_archives.py`, holds every implementation to it.

An archive is a folder with the home as a tar (zstd), its manifest, and what both are like. What is not whole yet has
another name. How they are made, and by whom, `archiver` tells.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Annotated, Protocol

from pydantic import Field

from ..contract import verb
from .base import HomeName

NAME = re.compile(r"\d{8}T\d{6}Z(-\d{1,3})?")
DIGEST = re.compile(r"[0-9a-f]{64}")
# What keeps a home from being removed: more lies in it than is in its archive.
BLOCKING = ("elsewhere", "foreign", "unreadable", "deep")

ArchiveName = Annotated[str, Field(max_length=32)]
Digest = Annotated[str, Field(max_length=64)]
FolderName = Annotated[str, Field(min_length=1, max_length=120)]


@dataclass(frozen=True)
class ArchiveFacts:
    """An archive that is whole.

    Attributes:
        name: when it was made, as 20261127T140000Z; of one home's no two have one.
        uid: whose home it was.
        entries: files, folders and links.
        bytes: of the files; `stored_bytes` is what the archive takes up.
        sha256: of the manifest, which has that of every file.
        changed: files that were written to while they were read.
        left: what is not in it, by kind (see `archiver.scan.Scan`), and some of it.
        verified_at: when all of it was read back and found to be as its manifest says, last; None: not yet.
    """

    name: str
    username: str
    uid: int
    made_at: datetime
    entries: int
    bytes: int
    stored_bytes: int
    sha256: str
    changed: int = 0
    left: Mapping[str, int] = field(default_factory=dict)
    examples: Sequence[str] = ()
    verified_at: datetime | None = None

    @property
    def is_complete(self) -> bool:
        """Whether all of the home's content is in it, as it was at one moment."""
        return not self.changed and not any(self.left.get(why) for why in BLOCKING)


@dataclass(frozen=True)
class Progress:
    """How far it is: entries and bytes of the stage; the last one says that all of it is done.

    Attributes:
        stage: "archiving", "verifying", "restoring", "comparing", "copying" or "removing".
        archive: where one was made or verified: what it is like.
    """

    stage: str
    files: int = 0
    bytes: int = 0
    is_done: bool = False
    archive: ArchiveFacts | None = None


@dataclass(frozen=True)
class ArchivesSummary:
    """Everybody's archives.

    Attributes:
        folder: where they are.
        obstacle: why none can be made; empty: they can.
        free_bytes: of that disk, where it is known.
        unverified: of which homes there are archives that were never verified.
        half: what others have left behind that ended in the middle.
    """

    folder: str
    obstacle: str = ""
    free_bytes: int | None = None
    number: int = 0
    bytes: int = 0
    unverified: Sequence[str] = ()
    half: int = 0


class Archives(Protocol):
    """Archives of homes. What takes long tells how far it is; who stops listening ends it, and nothing half stays.

    All raise HomeUnavailable where the folder of archives or the homes cannot be reached or used, NoRoom where a disk
    is full, and ArchiveDamaged where an archive is not what was made.
    """

    async def summary(self) -> ArchivesSummary: ...

    async def of(self, username: str) -> Sequence[ArchiveFacts]:
        """Those that are whole, the oldest first."""
        ...

    def make(self, username: str, uid: int) -> AsyncIterator[Progress]:
        """Archives a home, which stays as it is, and reads the archive back.

        Raises:
            NotFound: there is no such home.
        """
        ...

    def verify(self, username: str, name: str, sha256: str) -> AsyncIterator[Progress]:
        """Reads an archive to its end and holds it against its manifest.

        Args:
            sha256: of the manifest, as it was when it was made.

        Raises:
            NotFound: there is no such archive.
        """
        ...

    def restore(self, username: str, uid: int, name: str, sha256: str) -> AsyncIterator[Progress]:
        """Makes the home anew, as it was: whole, or not at all. What belonged to its owner then belongs to `uid`.

        Raises:
            NotFound: there is no such archive.
            Conflict: there is such a home.
        """
        ...

    def copy(
        self, username: str, uid: int, name: str, sha256: str, to_username: str, to_uid: int, folder: str
    ) -> AsyncIterator[Progress]:
        """Puts a copy of the files into a new folder of somebody's home, as theirs: whole, or not at all.

        Args:
            name: of an archive; empty: of the home as it is now.
            folder: its name in `to_username`'s home.

        Raises:
            NotFound: there is no such archive or home.
            Conflict: the folder is there already.
        """
        ...

    def remove_home(self, username: str, uid: int, name: str, sha256: str) -> AsyncIterator[Progress]:
        """Removes a home that is in this archive.

        Raises:
            NotFound: there is no such archive or home.
            Conflict: the archive was not verified, does not have everything, or the home has changed since. The home is
                as it was.
        """
        ...

    async def tidy(self) -> int:
        """Removes what others left behind that were killed, and ends what they had begun to remove. How many it was."""
        ...


class ArchiveVerbs(Protocol):
    """What a process without rights asks the helper about archives; each verb is what `Archives` has of its name."""

    @verb()
    async def archives_summary(self) -> ArchivesSummary: ...

    @verb()
    async def archives_of(self, username: HomeName) -> list[ArchiveFacts]: ...

    @verb()
    def archive_make(self, username: HomeName, uid: int) -> AsyncIterator[Progress]: ...

    @verb()
    def archive_verify(self, username: HomeName, name: ArchiveName, sha256: Digest) -> AsyncIterator[Progress]: ...

    @verb()
    def archive_restore(
        self, username: HomeName, uid: int, name: ArchiveName, sha256: Digest
    ) -> AsyncIterator[Progress]: ...

    @verb()
    def archive_copy(
        self,
        username: HomeName,
        uid: int,
        name: ArchiveName,
        sha256: Digest,
        to_username: HomeName,
        to_uid: int,
        folder: FolderName,
    ) -> AsyncIterator[Progress]: ...

    @verb()
    def home_remove(
        self, username: HomeName, uid: int, name: ArchiveName, sha256: Digest
    ) -> AsyncIterator[Progress]: ...

    @verb(seconds=3600)
    async def archives_tidy(self) -> int: ...
