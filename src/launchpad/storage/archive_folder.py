"""Where archives lie: `<folder>/<username>/<name>/`, which only the server itself may enter. All of it blocks, and is
called in a thread.

What is being made has a name that begins with a dot, and its maker holds a lock on it: without one it was left behind.
"""

from __future__ import annotations

import fcntl
import json
import os
import stat
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import structlog

from ..errors import ArchiveDamaged, HomeUnavailable, NoRoom, NotFound
from . import directories
from .archiver.unpack import says_no_room
from .archives import NAME, ArchiveFacts, ArchivesSummary

log = structlog.get_logger(__name__)

MODE = 0o700
TAR, MANIFEST, FACTS, VERIFIED = "home.tar.zst", "manifest.jsonl.zst", "archive.json", "verified.json"
DRAFT = ".part"
FORM = "%Y%m%dT%H%M%SZ"
NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC
NO_SUCH = "There is no such archive."
FACTS_BYTES = 1024 * 1024


class Draft:
    """An archive that is being made: a folder, opened and locked, without its name yet."""

    def __init__(self, above: int, name: str) -> None:
        self.name = name
        self._above = above
        os.mkdir(self._name, MODE, dir_fd=above)
        self.opened = os.open(self._name, directories.DIRECTORY | os.O_NOFOLLOW, dir_fd=above)
        fcntl.flock(self.opened, fcntl.LOCK_EX)

    @property
    def _name(self) -> str:
        return f".{self.name}{DRAFT}"

    def file(self, name: str) -> int:
        return os.open(name, NEW, 0o600, dir_fd=self.opened)

    def keep(self, facts: ArchiveFacts) -> ArchiveFacts:
        """Gives it its name, once all of it is on the disk."""
        stored = sum(os.stat(name, dir_fd=self.opened).st_size for name in (TAR, MANIFEST))
        facts = replace(facts, stored_bytes=stored)
        _write(self.opened, FACTS, _told(facts))
        os.fsync(self.opened)
        if not directories.move_if_free(self._above, self._name, self.name):
            raise HomeUnavailable("An archive of this name was made meanwhile. Please try again.")
        os.fsync(self._above)
        return facts

    def drop(self) -> None:
        with suppress(FileNotFoundError):
            _remove(self._above, self._name)

    def close(self) -> None:
        os.close(self.opened)
        os.close(self._above)


class ArchiveFolder:
    """Args: path: of the folder; it is made at its first use."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def begin(self, username: str, now: datetime) -> Draft:
        """Raises HomeUnavailable where the folder cannot be used, NoRoom where its disk is full."""
        above = self._enter(username, make=True)
        if above is None:
            raise HomeUnavailable(f"The folder of archives, {self.path}, was removed meanwhile.")
        plain = f"{now.astimezone(UTC):{FORM}}"
        try:
            there = set(os.listdir(above))
            names = (plain, *(f"{plain}-{number}" for number in range(2, 1000)))
            return Draft(above, next(name for name in names if not {name, f".{name}{DRAFT}"} & there))
        except OSError as error:
            os.close(above)
            raise self.unusable(error) from error

    def of(self, username: str) -> list[ArchiveFacts]:
        above = self._enter(username, make=False)
        if above is None:
            return []
        try:
            names = sorted(name for name in os.listdir(above) if NAME.fullmatch(name))
            return [self._facts(above, name) for name in names]
        finally:
            os.close(above)

    def open(self, username: str, name: str, sha256: str) -> tuple[int, ArchiveFacts]:
        """A descriptor of an archive, for the caller to close, and what it is like.

        Raises:
            NotFound: there is no such archive.
            ArchiveDamaged: it is not the one that was made.
        """
        above = self._enter(username, make=False) if NAME.fullmatch(name) else None
        if above is None:
            raise NotFound(NO_SUCH)
        try:
            facts = self._facts(above, name)
            opened = os.open(name, directories.DIRECTORY | os.O_NOFOLLOW, dir_fd=above)
        except FileNotFoundError:
            raise NotFound(NO_SUCH) from None
        finally:
            os.close(above)
        if facts.sha256 != sha256 or facts.username != username:
            os.close(opened)
            log.error("archive.another_one", username=username, archive=name)
            raise ArchiveDamaged("This archive is not the one that was recorded when it was made.")
        return opened, facts

    def verified(self, username: str, name: str, sha256: str, at: datetime) -> ArchiveFacts:
        """Writes down that it was found to be whole."""
        opened, facts = self.open(username, name, sha256)
        try:
            _write(opened, VERIFIED, {"sha256": sha256, "at": at.isoformat()})
            os.fsync(opened)
        finally:
            os.close(opened)
        return replace(facts, verified_at=at)

    def summary(self) -> ArchivesSummary:
        """Raises HomeUnavailable where it cannot be told."""
        top = self._top(make=False)
        if top is None:
            return ArchivesSummary(str(self.path), free_bytes=_free(self.path.parent))
        number = size = half = 0
        unverified = []
        try:
            for username in sorted(os.listdir(top)):
                if not directories.USERNAME.fullmatch(username):
                    continue
                found = self.of(username)
                number += len(found)
                size += sum(one.stored_bytes for one in found)
                unverified += [username for one in found[-1:] if one.verified_at is None]
                half += len(self.drafts(username))
            return ArchivesSummary(
                str(self.path),
                free_bytes=directories.free_bytes(top),
                number=number,
                bytes=size,
                unverified=unverified,
                half=half,
            )
        finally:
            os.close(top)

    def drafts(self, username: str, *, remove: bool = False) -> list[str]:
        """What was begun and never became whole, and nobody works on; removed on demand."""
        above = self._enter(username, make=False)
        if above is None:
            return []
        found = []
        try:
            for name in os.listdir(above):
                if name.startswith(".") and name.endswith(DRAFT) and _is_left(above, name):
                    found.append(name)
                    if remove:
                        _remove(above, name)
                        log.warning("archive.half_removed", username=username, name=name)
        finally:
            os.close(above)
        return found

    def tidy(self) -> int:
        """Removes everybody's."""
        top = self._top(make=False)
        if top is None:
            return 0
        try:
            names = [name for name in os.listdir(top) if directories.USERNAME.fullmatch(name)]
        finally:
            os.close(top)
        return sum(len(self.drafts(name, remove=True)) for name in names)

    def unusable(self, error: OSError) -> HomeUnavailable | NoRoom:
        if says_no_room(error):
            return NoRoom(f"The disk of the folder of archives, {self.path}, is full.")
        log.error("archives.folder_unusable", folder=str(self.path), error=str(error))
        why = directories.WHY.get(error.errno or 0, "cannot be used")
        return HomeUnavailable(f"The folder of archives, {self.path}, {why} (setting leaving.archive_folder).")

    def _top(self, *, make: bool) -> int | None:
        try:
            if make:
                with suppress(FileExistsError):
                    os.mkdir(self.path, MODE)
            opened = os.open(self.path, directories.DIRECTORY)
        except FileNotFoundError as error:
            if make:  # what it should lie in is missing, such as a disk that is not mounted
                raise self.unusable(error) from error
            return None
        except OSError as error:
            raise self.unusable(error) from error
        return self._own(opened, "")

    def _enter(self, username: str, *, make: bool) -> int | None:
        top = self._top(make=make)
        if top is None:
            return None
        try:
            if make:
                with suppress(FileExistsError):
                    os.mkdir(username, MODE, dir_fd=top)
            return self._own(os.open(username, directories.DIRECTORY | os.O_NOFOLLOW, dir_fd=top), username)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise self.unusable(error) from error
        finally:
            os.close(top)

    def _own(self, opened: int, name: str) -> int:
        """Only what nobody else can write in; those of single homes nobody else can even enter."""
        status = os.fstat(opened)
        forbidden = 0o077 if name else 0o022
        if status.st_uid != os.geteuid() or stat.S_IMODE(status.st_mode) & forbidden:
            os.close(opened)
            log.error("archives.open_to_others", folder=str(self.path / name), mode=oct(status.st_mode))
            raise HomeUnavailable(
                f"The folder of archives, {self.path / name}, is not the server's alone, so it is not used "
                "(setting leaving.archive_folder)."
            )
        return opened

    def _facts(self, above: int, name: str) -> ArchiveFacts:
        try:
            opened = os.open(name, directories.DIRECTORY | os.O_NOFOLLOW, dir_fd=above)
        except OSError:
            raise NotFound(NO_SUCH) from None
        try:
            said = _read(opened, FACTS)
            with suppress(FileNotFoundError):
                proof = _read(opened, VERIFIED)
                if proof["sha256"] == said["sha256"]:
                    said |= {"verified_at": proof["at"]}
            return _facts_of(said)
        except (OSError, ValueError, KeyError, TypeError) as error:
            log.error("archive.facts_unusable", name=name, error=repr(error))
            raise ArchiveDamaged(
                "What is written down of an archive cannot be read. The server's log says more."
            ) from None
        finally:
            os.close(opened)


def _told(facts: ArchiveFacts) -> dict[str, Any]:
    said = asdict(facts)
    del said["verified_at"]
    return said | {"made_at": facts.made_at.isoformat()}


def _facts_of(said: Mapping[str, Any]) -> ArchiveFacts:
    verified_at = said.get("verified_at")
    return ArchiveFacts(
        **{
            **said,
            "made_at": datetime.fromisoformat(said["made_at"]),
            "verified_at": None if verified_at is None else datetime.fromisoformat(verified_at),
        }
    )


def _write(folder: int, name: str, said: Mapping[str, Any]) -> None:
    """In the place of what stood there, at once."""
    beside = f".{name}"
    with suppress(FileNotFoundError):
        os.unlink(beside, dir_fd=folder)
    with os.fdopen(os.open(beside, NEW, 0o600, dir_fd=folder), "w", encoding="utf-8") as file:
        json.dump(said, file)
        file.flush()
        os.fsync(file.fileno())
    os.rename(beside, name, src_dir_fd=folder, dst_dir_fd=folder)


def _read(folder: int, name: str) -> dict[str, Any]:
    with os.fdopen(os.open(name, READ, dir_fd=folder), "rb") as file:
        said: dict[str, Any] = json.loads(file.read(FACTS_BYTES))
    return said


def _is_left(above: int, name: str) -> bool:
    """Whether nobody holds it."""
    try:
        opened = os.open(name, directories.DIRECTORY | os.O_NOFOLLOW, dir_fd=above)
    except OSError:
        return False
    try:
        fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    else:
        return True
    finally:
        os.close(opened)


def _remove(above: int, name: str) -> None:
    """A draft: it has files of ours and nothing else."""
    opened = os.open(name, directories.DIRECTORY | os.O_NOFOLLOW, dir_fd=above)
    try:
        for one in os.listdir(opened):
            os.unlink(one, dir_fd=opened)
    finally:
        os.close(opened)
    os.rmdir(name, dir_fd=above)


def _free(folder: Path) -> int | None:
    try:
        found = os.statvfs(folder)
    except OSError:
        return None
    return found.f_bavail * found.f_frsize
