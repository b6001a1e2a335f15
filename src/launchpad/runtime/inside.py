"""What files inside a container say of its user's work: when somebody typed into a terminal, and whether R is busy.

Both lie where the container's user may put anything. So nothing but names and times is taken of a terminal, and of
RStudio's files one letter; every folder on the way is opened by its own name, a link is never followed, and what is no
plain file is not read.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

SESSIONS_LOOKED_AT = 50
TERMINALS_LOOKED_AT = 500
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_ENVIRONMENT_BYTES = 64 * 1024


@dataclass(frozen=True)
class Terminals:
    """How many are open, and when a program last read what was typed into one, in seconds since 1970."""

    number: int = 0
    input_at: float | None = None


NO_TERMINALS = Terminals()


def terminals_of(pid: int, proc: Path) -> Terminals:
    """The terminals in the container of a process.

    The kernel notes on a terminal when it was last read from, as `w` shows it, to about eight seconds; what programs
    print changes another time. A terminal that was only opened has been read from by nobody.
    """
    number, latest = 0, None
    try:
        with _opened(Path(proc, str(pid), "root"), ("dev", "pts")) as folder, os.scandir(folder) as entries:
            for entry in entries:
                if not entry.name.isdecimal() or number >= TERMINALS_LOOKED_AT:
                    continue
                number += 1
                found = entry.stat(follow_symlinks=False)
                if stat.S_ISCHR(found.st_mode):
                    latest = max(found.st_atime, latest or 0.0)
    except OSError:
        return Terminals(number, latest)
    return Terminals(number, latest)


def data_folder_of(pid: int, proc: Path) -> PurePosixPath | None:
    """Where the RStudio session that is this process keeps its data, by its variables; None: it cannot be told."""
    try:
        with Path(proc, str(pid), "environ").open("rb") as file:
            text = file.read(_ENVIRONMENT_BYTES).decode("utf-8", "replace")
    except OSError:
        return None
    variables = dict(line.partition("=")[::2] for line in text.split("\0"))
    for name, rest in (("RSTUDIO_DATA_HOME", ""), ("XDG_DATA_HOME", "rstudio"), ("HOME", ".local/share/rstudio")):
        if (value := variables.get(name, "")).startswith("/"):
            return PurePosixPath(value) / rest
    return None


def r_is_busy(pid: int, folder: PurePosixPath, since: float, proc: Path) -> bool:
    """Whether an RStudio session says that R carries something out.

    Args:
        pid: the session's process.
        folder: its data, as `data_folder_of` says.
        since: when the session began, in seconds since 1970: an older word is that of one that was killed.
    """
    parts = (*folder.parts[1:], "sessions", "active")
    with suppress(OSError), _opened(Path(proc, str(pid), "root"), parts) as active, os.scandir(active) as entries:
        names = [entry.name for entry in entries if entry.name.startswith("session-")][:SESSIONS_LOOKED_AT]
        return any(_says_busy(active, name, since) for name in names)
    return False


def _says_busy(active: int, name: str, since: float) -> bool:
    for properties in ("properites", "properties"):  # spelled so in the versions of today
        with suppress(OSError), _below(active, (name, properties)) as folder:
            file = os.open("executing", _FILE, dir_fd=folder)
            try:
                about = os.fstat(file)
                if stat.S_ISREG(about.st_mode) and about.st_mtime >= since:
                    return os.read(file, 1) == b"1"
            finally:
                os.close(file)
    return False


@contextmanager
def _opened(root: Path, parts: tuple[str, ...]) -> Iterator[int]:
    """The folder below a container's root; `root` itself is a link of the kernel's, which is followed."""
    top = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with _below(top, parts) as folder:
            yield folder
    finally:
        os.close(top)


@contextmanager
def _below(top: int, parts: tuple[str, ...]) -> Iterator[int]:
    """Raises OSError where one of the parts is missing, a link, or no folder."""
    if any(part in ("", ".", "..") or "/" in part for part in parts):
        raise NotADirectoryError("a folder's name cannot lead elsewhere")
    folder = os.dup(top)
    try:
        for part in parts:
            below = os.open(part, _FOLDER, dir_fd=folder)
            os.close(folder)
            folder = below
        yield folder
    finally:
        os.close(folder)
