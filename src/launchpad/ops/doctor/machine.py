"""This server: its disks, its clock, its programs, and who can read what is ours."""

from __future__ import annotations

import asyncio
import ctypes
import os
import platform
import pwd
import shutil
import stat
import tomllib
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from ... import __version__
from ...domain.sizes import describe_bytes
from ...errors import LaunchpadError
from ...settings import Settings
from ...store import audit, instances, users
from ...store.database import Database
from ..nginx.site import SITE, rendered
from ..portal_socket import socket_path
from .findings import Finding, Level, numbers, unseen

SCARCE, NEARLY_NONE = 0.10, 0.02
STATE_FLOOR_BYTES = 500 * 1000**2  # below, the next backup or a busy day may not fit
CLOCKS_APART = timedelta(minutes=2)
SECRETS = ("mail.password", "mail.bounces.password", "web.metrics_token")
TIME_ERROR = 5  # what adjtimex(2) answers for a clock that nothing keeps right
TIMEX_BYTES = 512  # struct timex has 208
PROJECT_QUOTA_KERNEL = (5, 14)  # quotactl_fd(2)
NGINX_SECONDS = 5.0
UIDS_LOOKED_AT = 10_000


@dataclass(frozen=True)
class Space:
    """A file system: bytes and files (inodes) in all and free for ordinary users. No `files`: it has no such end."""

    bytes: int
    free_bytes: int
    files: int
    free_files: int

    @classmethod
    def of(cls, path: Path) -> Space:
        """Raises OSError where it cannot be looked at."""
        found = os.statvfs(path)
        used = found.f_blocks - found.f_bfree
        return cls(
            bytes=(used + found.f_bavail) * found.f_frsize,
            free_bytes=found.f_bavail * found.f_frsize,
            files=found.f_files,
            free_files=found.f_favail,
        )


def disks(subject: str, settings: Settings, engine_root: str) -> list[Finding]:
    """Each file system that the platform fills, once.

    Args:
        engine_root: where the engine keeps images and containers; empty when it does not say.
    """
    places = {"database and keys": settings.state_dir, "homes": settings.homes.root}
    if engine_root and settings.engine.host.startswith("unix:"):
        places["images"] = Path(engine_root)
    places["backups"] = settings.backup.folder
    found: list[Finding] = []
    well: list[str] = []
    seen: dict[int, list[str]] = {}
    spaces: dict[int, tuple[Path, Space]] = {}
    for what, path in places.items():
        try:
            device = path.stat().st_dev
            spaces.setdefault(device, (path, Space.of(path)))
        except OSError as error:
            if what == "backups" and isinstance(error, FileNotFoundError):
                continue  # made by the first one
            found.append(unseen(subject, f"{path} ({what}) cannot be checked ({error.strerror})"))
            continue
        seen.setdefault(device, []).append(what)
    for device, (path, space) in spaces.items():
        floor = STATE_FLOOR_BYTES if "database and keys" in seen[device] else 0
        said = judged(subject, f"{path} ({', '.join(seen[device])})", space, floor)
        found += said
        if not said:
            well.append(f"{path} {describe_bytes(space.free_bytes)}")
    return [*found, Finding(Level.OK, subject, f"Free: {', '.join(well)}.")] if well else found


def judged(subject: str, what: str, space: Space, floor_bytes: int = 0) -> list[Finding]:
    """What is scarce of it; nothing where nothing is."""
    found = []
    remedy = "Free some space, or use a larger disk; “du -xh --max-depth=2 PATH | sort -h” shows what uses it."
    share = space.free_bytes / space.bytes if space.bytes else 0.0
    if share < SCARCE or space.free_bytes < floor_bytes:
        level = Level.BAD if share < NEARLY_NONE or space.free_bytes < floor_bytes else Level.WARN
        text = f"{what}: {describe_bytes(space.free_bytes)} of {describe_bytes(space.bytes)} are free ({share:.0%})."
        found.append(Finding(level, subject, text, remedy))
    if space.files and space.free_files / space.files < SCARCE:
        level = Level.BAD if space.free_files / space.files < NEARLY_NONE else Level.WARN
        text = (
            f"{what}: {space.free_files} of {space.files} files can still be created; without free inodes a disk is "
            "full, too."
        )
        found.append(
            Finding(level, subject, text, "Find out what creates so many: “du -x --inodes --max-depth=2 PATH”.")
        )
    return found


async def clock(subject: str, database: Database, held: tuple[timedelta, float] | None, now: datetime) -> list[Finding]:
    """Whether something keeps it right, whether it was set forward, and whether it stands behind what is recorded.

    Args:
        held: how far it jumped, and for how many seconds nothing expires yet; None: it did not.
    """
    async with database.reading() as db:
        recorded = [at for at in (await audit.newest_at(db), await instances.newest_at(db)) if at is not None]
    found = []
    if held is not None:
        jumped, left_seconds = held
        text = (
            f"The clock was set forward by {_span(jumped)}. Nothing expires for another "
            f"{_span(timedelta(seconds=left_seconds))}."
        )
        remedy = (
            "If it is wrong now, correct it (“timedatectl”) before that; if it was wrong before, nothing is to be done."
        )
        found.append(Finding(Level.BAD, subject, text, remedy))
    if recorded and max(recorded) > now + CLOCKS_APART:
        ahead = max(recorded) - now
        text = (
            f"The clock was set back: the newest record is of {max(recorded):%-d %B %Y, %H:%M} UTC, "
            f"{_span(ahead)} ahead."
        )
        remedy = "Correct it: codes, logins and instances expire by it, and too late while it is wrong."
        found.append(Finding(Level.BAD, subject, text, remedy))
    synchronised = is_synchronised()
    if synchronised is False:
        text = "The clock is not synchronised: the kernel knows of no time server."
        remedy = "apt-get install systemd-timesyncd (or chrony), then “timedatectl set-ntp true”."
        found.append(Finding(Level.WARN, subject, text, remedy))
    if not found and synchronised is None:
        return [unseen(subject, "whether the clock is synchronised cannot be determined here")]
    return found or [Finding(Level.OK, subject, "It is synchronised with a time server.")]


def is_synchronised() -> bool | None:
    """What the kernel thinks of its clock; None: it does not say. It is asked by adjtimex(2), which changes nothing."""
    libc = ctypes.CDLL(None, use_errno=True)
    held = (ctypes.c_longlong * (TIMEX_BYTES // 8))()  # all 0, `modes` too: only read
    answer = int(libc.adjtimex(ctypes.byref(held)))
    return None if answer < 0 else answer != TIME_ERROR


def files(subject: str, settings: Settings, settings_file: Path | None) -> list[Finding]:
    """Who can read keys, database and passwords."""
    found = []
    mode = stat.S_IMODE(settings.state_dir.stat().st_mode) if settings.state_dir.exists() else 0o700
    if mode & 0o077:
        text = (
            f"{settings.state_dir}, with the database and codes in it, is accessible to other users (mode {mode:04o})."
        )
        found.append(Finding(Level.BAD, subject, text, f"chmod 0700 {settings.state_dir}"))
    secrets = readable_secrets(settings_file) if settings_file is not None else []
    if secrets:
        text = f"Every user of this server can read {settings_file}, which contains {' and '.join(secrets)}."
        found.append(Finding(Level.BAD, subject, text, f"chmod o-rwx {settings_file}"))
    return found or [Finding(Level.OK, subject, "Other users of this server cannot read keys, database and passwords.")]


def readable_secrets(settings_file: Path) -> list[str]:
    """The secrets in a settings file that everybody may read; none in one that they may not."""
    try:
        if not settings_file.stat().st_mode & stat.S_IROTH:
            return []
        data = tomllib.loads(settings_file.read_text(encoding="utf-8"))
    except (OSError, ValueError):  # the settings were read from it; if it has gone since, it is not our finding
        return []
    secrets = [name for name in SECRETS if _at(data, name)]
    return secrets + (["database_url"] if "@" in str(data.get("database_url", "")) else [])


def _at(data: Mapping[str, Any], name: str) -> object:
    """What stands under a dotted name; None: nothing."""
    here: Any = data
    for part in name.split("."):
        here = here.get(part) if isinstance(here, dict) else None
    return here


def nginx(subject: str, settings: Settings, site: Path = SITE) -> list[Finding]:
    """Whether nginx's site on an installed server is what the settings make of it."""
    if settings.web.socket is None:
        return [unseen(subject, "web.socket is not set, so this is not an installed server")]
    try:
        there = site.read_text(encoding="utf-8")
    except OSError as error:
        return [unseen(subject, f"{site} cannot be read ({error.strerror})")]
    try:
        if str(socket_path(settings)) not in there:
            return [unseen(subject, f"{site} belongs to another deployment")]
        wanted = rendered(settings, None, "site")
    except LaunchpadError as error:
        return [Finding(Level.BAD, subject, error.detail, "Correct that setting, then run launchpad-apply.")]
    if _stripped(there) != _stripped(wanted):
        text = f"{site} does not match the settings: a change of the settings or of the program has not been applied."
        return [Finding(Level.WARN, subject, text, "Run “sudo launchpad-apply”; it checks, and reloads nginx.")]
    return [Finding(Level.OK, subject, f"{site} matches the settings.")]


async def versions(subject: str, settings: Settings, engine_version: str, enforces_limits: bool) -> list[Finding]:
    """One line for whoever is asked about this server."""
    kernel = platform.release()
    parts = {
        "Launchpad": __version__,
        "Python": platform.python_version(),
        "engine": engine_version or "not known",
        "nginx": await nginx_version() or "not found",
        "Linux": kernel,
    }
    found = [Finding(Level.OK, subject, ", ".join(f"{name} {version}" for name, version in parts.items()) + ".")]
    wants = settings.homes.driver in ("auto", "project-quota") and not enforces_limits
    if wants and (numbers(kernel) or PROJECT_QUOTA_KERNEL) < PROJECT_QUOTA_KERNEL:
        text = f"Linux {kernel} cannot limit home folders on ext4 and XFS; that needs 5.14."
        found.append(Finding(Level.WARN, subject, text, "Install a newer kernel, or use btrfs for home folders."))
    return found


async def nginx_version() -> str:
    """Such as 1.22.1; empty where nginx is not there or does not say."""
    said = await output_of(("nginx", "-v"))
    return said.rpartition("nginx/")[2].split()[0] if said and "nginx/" in said else ""


async def output_of(command: Sequence[str], variables: Mapping[str, str] | None = None) -> str | None:
    """What a program prints, errors included; None where it is missing, fails, or takes longer than some seconds."""
    program = shutil.which(command[0], path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin")
    if program is None:
        return None
    try:
        process = await asyncio.create_subprocess_exec(
            *(program, *command[1:]),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            env={**os.environ, "LC_ALL": "C", **(variables or {})},
        )
    except OSError:
        return None
    try:
        async with asyncio.timeout(NGINX_SECONDS):
            out, _ = await process.communicate()
    except TimeoutError:
        return None
    finally:
        if process.returncode is None:
            with suppress(ProcessLookupError):
                process.kill()
    return out.decode(errors="replace") if process.returncode == 0 else None


def _stripped(text: str) -> list[str]:
    return [line.rstrip() for line in text.rstrip().splitlines()]


def _span(length: timedelta) -> str:
    hours = length.total_seconds() / 3600
    return (
        f"{hours / 24:.0f} days" if hours >= 48 else f"{hours:.0f} hours" if hours >= 2 else f"{hours * 60:.0f} minutes"
    )


async def uids(subject: str, database: Database, uid_base: int) -> list[Finding]:
    """Whether a uid of a user, or the next one, is also somebody's whom the server knows, from a directory perhaps."""
    async with database.reading() as db:
        highest = await users.highest_uid(db)
    last = max(uid_base, (highest or 0) + 1)
    both = await asyncio.to_thread(_names_of, range(max(uid_base, last - UIDS_LOOKED_AT), last + 1))
    if not both:
        return [Finding(Level.OK, subject, f"No other user of this server has a uid from {uid_base} to {last}.")]
    (uid, name), *more = both.items()
    others = f", as are {len(more)} more" if more else ""
    text = f"{uid} is the uid of “{name}” on this server, and in the range of the platform's users{others}."
    remedy = (
        "Each could read the other's files. Set homes.uid_base above all uids of this server; those of a directory "
        "by SSSD begin at 200000, too. Existing users keep theirs."
    )
    return [Finding(Level.BAD, subject, text, remedy)]


def _names_of(wanted: range) -> dict[int, str]:
    found = {}
    for uid in wanted:
        with suppress(KeyError):
            found[uid] = pwd.getpwuid(uid).pw_name
    return found
