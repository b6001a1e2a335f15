"""Changes of the program's version on a server: may it be, what is kept for the way back, and the way back.

install.sh drives them: `check` and `keep` by the new version, `go_back` by the one before.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from packaging.version import InvalidVersion, Version

from .. import __version__
from ..errors import Conflict, StoreUnavailable
from ..settings import Settings
from ..store import snapshot
from ..store.revisions import known_revisions

DATABASE, KEPT, ASIDE = "launchpad.db", "before-upgrade.db", "after-failed-upgrade.db"
ROOM_BYTES = 100 * 1024**2


def check(settings: Settings, installed: str) -> list[str]:
    """Whether this version may take the place of `installed`; returns what should be known before.

    Raises:
        Conflict: it is an older one, or the database was written by a newer one, or there is no room for a copy.
        StoreUnavailable: the database cannot be read.
    """
    try:
        if Version(installed) > Version(__version__):
            raise Conflict(
                f"Version {installed} is installed, and this is the older {__version__}. Downgrades are not "
                "supported: the older version may not understand what the newer one has written. Instead, restore a "
                "backup of that time on a server with that version."
            )
    except InvalidVersion:
        raise Conflict(f"“{installed}” is not a version of this program.") from None
    if settings.database_url:
        return ["The database is not in state_dir: no copy is kept for a rollback. Dump it yourself first."]
    revision = snapshot.revision_in_use(settings.state_dir / DATABASE)
    if revision is None:
        return []
    if revision not in known_revisions():
        raise Conflict("The database was written by a newer version of this program; install that one.")
    needed = (settings.state_dir / DATABASE).stat().st_size * 2 + ROOM_BYTES
    free = shutil.disk_usage(settings.state_dir).free
    if free < needed:
        raise Conflict(
            f"{settings.state_dir} has {free // 1024**2} MB left, and {needed // 1024**2} MB are needed for a copy of "
            "the database and its changes."
        )
    return []


def keep(settings: Settings, *, again: bool = False) -> Path | None:
    """Copies the database for the way back; None where it is not ours to copy. Raises StoreUnavailable.

    Args:
        again: an upgrade was broken off and goes on: the copy from then stays where tables have been changed since.
    """
    source, kept = settings.state_dir / DATABASE, settings.state_dir / KEPT
    if settings.database_url or not source.exists():
        return None
    if again and kept.exists() and snapshot.revision_of(kept) != snapshot.revision_in_use(source):
        return kept
    kept.unlink(missing_ok=True)
    kept.touch(mode=0o600)
    snapshot.take(source, kept)
    return kept


def go_back(settings: Settings) -> str:
    """Leaves a database that this version understands: the present one, else the one that was kept. Says which.

    The portal must not run.

    Raises:
        Conflict: there is neither.
        StoreUnavailable: the database cannot be read.
    """
    source, kept = settings.state_dir / DATABASE, settings.state_dir / KEPT
    if settings.database_url:
        return "The database is not in state_dir and was not changed."
    revision = snapshot.revision_in_use(source)
    if revision is None or revision in known_revisions():
        return "The database matches this version; nothing had to be restored."
    if not kept.exists() or snapshot.revision_of(kept) not in known_revisions():
        raise Conflict(
            f"The database was changed by the newer version, and no copy from before is in {settings.state_dir}. "
            "Restore a backup: launchpad restore."
        )
    for end in ("", "-wal", "-shm"):
        beside = settings.state_dir / f"{DATABASE}{end}"
        if beside.exists():
            beside.rename(settings.state_dir / f"{ASIDE}{end}")
    try:
        kept.rename(source)
    except OSError as error:
        raise StoreUnavailable(f"The copy {kept} cannot be restored: {error.strerror}.") from error
    return "The database from before the upgrade was restored; later changes are lost."
