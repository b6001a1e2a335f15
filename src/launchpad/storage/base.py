"""The contract of home storage. One suite, `tests/contract/test_storage.py`, holds every implementation to it.

A home is a directory `<root>/<username>`, owned by its user's uid. Nothing here ever walks into a home: what lies in
it is under its user's control, and we run as root.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Protocol

from pydantic import Field

from ..contract import verb

HomeName = Annotated[str, Field(max_length=64)]
LimitBytes = Annotated[int, Field(gt=0, lt=2**60)]
MEASURE_SECONDS = 1200.0  # patience with a walk; longer than `walking` gives one


@dataclass(frozen=True)
class HomeUse:
    """Bytes used, allowed and free; None where this storage cannot tell (used) or does not enforce (limit).

    `free_bytes` is what the file system that the home lies on still has for its user, whatever the home's limit; 0 also
    where no file can be made any more. Every storage tells it. `is_floor`: it is at least `used_bytes`, as not
    everything could be counted.
    """

    used_bytes: int | None
    limit_bytes: int | None
    free_bytes: int | None = None
    is_floor: bool = False


@dataclass(frozen=True)
class DiskSpace:
    """A file system: bytes in all, used, and free for whoever is not root."""

    bytes: int
    used_bytes: int
    free_bytes: int


class Homes(Protocol):
    """Every method is blocking-free for the event loop: file system work happens in a thread."""

    @property
    def enforces_limits(self) -> bool:
        """Whether homes are kept within their limits here."""
        ...

    def path_of(self, username: str) -> Path:
        """Where the home is or would be."""
        ...

    async def exists(self, username: str) -> bool:
        """Whether anything, of whatever kind and owner, has that name below the root."""
        ...

    async def owners(self) -> set[int]:
        """The uids of whoever owns something directly below the root; none where there is no root yet.

        Raises:
            HomeUnavailable: it cannot be told.
        """
        ...

    async def prepare(self, username: str, uid: int, limit_bytes: int | None) -> Path:
        """The home, made if it is missing (mode 0700, owned by `uid`:`uid`), with its limit in force where enforced.

        Idempotent, also when many ask at once. An existing home is used only when it is a real directory owned by
        `uid`: no symbolic link, no other owner; its content is not touched and its owner not changed.

        Raises:
            HomeUnavailable: the root is missing or cannot be written, the disk is full, or the name is taken by
                something that is not this user's home.
        """
        ...

    async def stage(self, username: str, uid: int, beside: str) -> None:
        """Makes an empty home under another name in the root, to be filled before it gets its place by a rename.

        Raises:
            HomeUnavailable: it cannot be made, or this process has no right to.
        """
        ...

    async def use(self, username: str) -> HomeUse:
        """What the home takes up and may, and what its disk has left; all None before it is made.

        Raises:
            HomeUnavailable: it cannot be told just now.
        """
        ...

    async def measure(self, username: str) -> HomeUse:
        """As `use`, but where this storage does not count, a walk through the home finds what it takes up.

        The walk is a process with the rights of the home's user and no others, which cannot see anything else and gives
        way to everything else on the machine. There is one at a time, and after a quarter of an hour it is enough.

        Raises:
            HomeUnavailable: it cannot be told just now.
        """
        ...

    async def disk(self) -> DiskSpace:
        """The file system that the root lies on.

        Raises:
            HomeUnavailable: it cannot be told.
        """
        ...

    async def check(self) -> None:
        """Proves that homes can be made: the root exists, is a directory and can be written.

        Raises:
            HomeUnavailable: it cannot; the text names the root and what is wrong.
        """
        ...


class HomeVerbs(Protocol):
    """What a process without rights asks the helper about homes; each verb is what `Homes` has of its name."""

    @verb()
    async def homes_check(self) -> None: ...

    @verb()
    async def homes_enforce_limits(self) -> bool: ...

    @verb()
    async def homes_owners(self) -> list[int]: ...

    @verb()
    async def home_exists(self, username: HomeName) -> bool: ...

    @verb()
    async def home_prepare(self, username: HomeName, uid: int, limit_bytes: LimitBytes | None) -> None: ...

    @verb()
    async def homes_disk(self) -> DiskSpace: ...

    @verb()
    async def home_use(self, username: HomeName) -> HomeUse: ...

    @verb(seconds=MEASURE_SECONDS)
    async def home_measure(self, username: HomeName) -> HomeUse: ...
