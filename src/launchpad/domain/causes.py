"""What probably ended an application, told from its output and how it ended. Pure.

A cause is a likelihood, so the words say where it was read; the output itself is shown beside them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum


class CauseKind(StrEnum):
    PACKAGE = "package"  # one of the user's own packages
    SETTINGS = "settings"  # a settings or profile file of the user
    HOME_FULL = "home-full"
    MISSING = "missing"  # a file or a command
    PORT = "port"
    MEMORY = "memory"
    PROCESSES = "processes"
    KILLED = "killed"
    PERMISSION = "permission"


SAFE_MODE_HELPS = frozenset({CauseKind.PACKAGE, CauseKind.SETTINGS})


@dataclass(frozen=True)
class Cause:
    """`text` goes on after a reason and a colon: lower case, no full stop."""

    kind: CauseKind
    text: str

    @property
    def safe_mode_helps(self) -> bool:
        return self.kind in SAFE_MODE_HELPS


# Where pip and R put what a user installs; the part behind is the package.
_PYTHON_PACKAGE = re.compile(r"(?:/home/[^/\s\"']+|~)/[^\s\"']*?python3?[\d.]*/(?:site|dist)-packages/([\w.-]+)")
_R_PACKAGE = re.compile(
    r"(?:/home/[^/\s\"'\u2018\u2019]+|~)/[^\s\"'\u2018\u2019]*?R/[^\s\"'\u2018\u2019]*?(?:library|lib)[^/\s]*(?:/[\d.]+)?/"
    r"([A-Za-z][\w.]*)"
)
_R_LOAD = re.compile(
    r"(?:package or namespace load failed for|loading failed for package|there is no package called) "
    r"[\u2018'\"]([\w.]+)"
)
_R_ERROR = re.compile(r"^(?:Error(?: in .*)?:|Error in |Execution halted)")
_JUPYTER_SETTINGS = re.compile(r"/(\.jupyter/[\w./-]+\.(?:py|json))|/(\.ipython/[\w./-]+\.py)")
_BAD_SETTINGS = re.compile(
    r"Exception while loading config file|Failed loading config file|"
    r"Bad config encountered during initialization(?:: (The '\w+' trait .*))?"
)
_R_PROFILE = re.compile(r"(?:^|[\s/\"'\u2018(])(\.Rprofile|\.Renviron|\.RData)\b")
_PROFILE_BLAMED = re.compile(r"(?:ended|failed|[Ee]rror|halted)\b.*?[~/](\.Rprofile|\.Renviron)\b")
_TRACEBACK = "Traceback (most recent call last)"
_EXCEPTION = re.compile(r"^(?:[\w.]+\.)?(\w*(?:Error|Exception|Exit|Interrupt)\w*)\b(?::\s*(.*))?$")

_FULL = re.compile(
    r"No space left on device|Disk quota exceeded|\[Errno (?:28|122)\]|\b(?:ENOSPC|EDQUOT)\b|"
    r"database or disk is full|write error: .*space"
)
_PORT = re.compile(
    r"[Aa]ddress already in use|\bEADDRINUSE\b|\[Errno 98\]|port \S+ is already (?:in use|allocated)|"
    r"[Nn]o available port could be found"
)
_MEMORY = re.compile(
    r"\bMemoryError\b|[Cc]annot allocate memory|\[Errno 12\]|\bENOMEM\b|cannot allocate vector of size|std::bad_alloc|"
    r"[Oo]ut of memory|JavaScript heap out of memory"
)
_PROCESSES = re.compile(
    r"can't start new thread|Resource temporarily unavailable|fork: retry|\bEAGAIN\b.*(?:fork|thread|spawn)|"
    r"unable to create (?:new native )?thread|pthread_create failed"
)
_PERMISSION = re.compile(r"[Pp]ermission denied|\[Errno 13\]|\bEACCES\b|Operation not permitted|\bEPERM\b")
_MISSING_COMMAND = re.compile(r"(?:^|[\s:])([\w./+-]+): (?:command )?not found|exec: \"?([^\s:\"]+)\"?: .*not found")
_MISSING_MODULE = re.compile(r"No module named ['\"]([\w.]+)")
_MISSING_FILE = re.compile(r"(?:No such file or directory|cannot open file|\[Errno 2\]|\bENOENT\b)")
_PATH = re.compile(r"(?<![\w.:/])(~?/[\w.@+~/-]{1,119}\w)")
_QUOTED = re.compile(r"['\"\u2018\u201c]([^'\"\u2019\u201d]{1,120})['\"\u2019\u201d]")


def likely_cause(
    log: str, *, exit_code: int | None = None, out_of_memory: bool = False, killed: bool = False
) -> Cause | None:
    """The likeliest cause; None where neither the output nor the end tells one.

    What is certain comes first, then what spoils everything else (no room, no memory), then what the last failure in
    the output says of itself.

    Args:
        log: the last lines of the output, cleaned.
        exit_code: the container's; None where it goes on, or is gone.
        out_of_memory: the kernel ended something in it for memory.
        killed: something from outside ended it, so that its output tells nothing of why.
    """
    if out_of_memory:
        return Cause(CauseKind.MEMORY, "it needed more memory than it has; launch a larger size")
    if killed:
        return None
    lines = [line for line in log.split("\n") if line.strip()]
    if (full := _last(lines, _FULL)) is not None:
        return _home_full(full)
    return _of_traceback(lines) or _of_r(lines) or _of_lines(lines) or _of_exit(exit_code)


def _last(lines: Sequence[str], wanted: re.Pattern[str]) -> str | None:
    return next((line for line in reversed(lines) if wanted.search(line)), None)


def _of_traceback(lines: Sequence[str]) -> Cause | None:
    """What Python's last traceback says; one that was caught earlier (a chain) counts with it."""
    starts = [i for i, line in enumerate(lines) if _TRACEBACK in line]
    if not starts:
        return None
    start = starts[-1]
    while len(starts) > 1 and start - starts[-2] < 40 and _is_chained(lines[starts[-2] : start]):
        starts.pop()
        start = starts[-1]
    part = lines[start:]
    exception, message = "", ""
    for line in part:
        if found := _EXCEPTION.match(line.strip()):
            exception, message = found[1], (found[2] or "").strip()
    own = _of_special(exception, message)
    if own is not None:
        return own
    said = f"{exception}: {message}" if message else exception
    text = "\n".join(part)
    if settings := _JUPYTER_SETTINGS.search(text):
        return _settings(settings[1] or settings[2], said)
    if package := _own_package(text):
        return _package("Python", package, said)
    if module := _MISSING_MODULE.search(message):
        return Cause(CauseKind.MISSING, f"the Python module “{module[1]}” is missing")
    return None


def _own_package(text: str) -> str | None:
    """The user's own package that is nearest to the failure."""
    found = _PYTHON_PACKAGE.findall(text)
    return found[-1].removesuffix(".py") if found else None


def _is_chained(between: Sequence[str]) -> bool:
    return any("direct cause of the following" in line or "another exception occurred" in line for line in between)


def _of_special(exception: str, message: str) -> Cause | None:
    """Exceptions that say by themselves what is the matter, wherever they were raised."""
    for pattern, cause in _SPECIAL:
        if pattern.search(f"{exception}: {message}"):
            return cause(message)
    return None


def _of_r(lines: Sequence[str]) -> Cause | None:
    """What R's last error says."""
    errors = [i for i, line in enumerate(lines) if _R_ERROR.match(line.strip())]
    if not errors:
        return None
    near = "\n".join(lines[max(0, errors[-1] - 6) :])
    said = next((lines[i].strip() for i in reversed(errors) if not lines[i].startswith("Execution halted")), "")
    if profile := _R_PROFILE.search(near):
        return _settings(profile[1], said)
    if (package := _R_PACKAGE.search(near)) or (package := _R_LOAD.search(near)):
        return _package("R", package[1], said)
    return None


def _of_lines(lines: Sequence[str]) -> Cause | None:
    """What the last line says that says anything."""
    for line in reversed(lines):
        if bad := _BAD_SETTINGS.search(line):
            found = _JUPYTER_SETTINGS.search(line)
            return _settings(found[1] or found[2] if found else "", bad[1] or "")
        if profile := _PROFILE_BLAMED.search(line):
            return _settings(profile[1], "")
        for pattern, cause in _SPECIAL:
            if pattern.search(line):
                return cause(line)
        if command := _MISSING_COMMAND.search(line):
            return _missing_command(command[1] or command[2])
        if _MISSING_FILE.search(line):
            return _missing_file(line)
    return None


def _of_exit(exit_code: int | None) -> Cause | None:
    if exit_code == 127:
        return _missing_command("")
    if exit_code == 126:
        return Cause(CauseKind.PERMISSION, "its command may not be run")
    return None


def _home_full(_: str) -> Cause:
    return Cause(CauseKind.HOME_FULL, "there is no space left in your home folder; delete something, or ask for more")


def _port(_: str) -> Cause:
    return Cause(CauseKind.PORT, "the port it listens on is in use already, by another program in the same instance")


def _memory(_: str) -> Cause:
    return Cause(CauseKind.MEMORY, "it could not get the memory it needed; launch a larger size")


def _processes(_: str) -> Cause:
    return Cause(CauseKind.PROCESSES, "it could not start another process or thread: as many run as may")


def _permission(line: str) -> Cause:
    what = _name_in(line)
    return Cause(
        CauseKind.PERMISSION, f"it may not use {what}" if what else "it lacks a permission (“permission denied”)"
    )


def _missing_file(line: str) -> Cause:
    what = _name_in(line)
    return Cause(CauseKind.MISSING, f"{what} does not exist" if what else "a file that it needs does not exist")


def _missing_command(name: str) -> Cause:
    return Cause(CauseKind.MISSING, f"the command “{name}” does not exist" if name else "its command does not exist")


def _name_in(line: str) -> str:
    """The path that it is about, else what stands in quotes."""
    paths = _PATH.findall(line)
    found = paths or [name for name in _QUOTED.findall(line) if " " not in name.strip()]
    return f"“{found[-1]}”" if found else ""


def _package(language: str, name: str, said: str) -> Cause:
    words = f"the {language} package “{name}” in your home folder does not work with it"
    return Cause(CauseKind.PACKAGE, f"{words} ({_short(said)})" if said else words)


def _settings(name: str, said: str) -> Cause:
    words = f"your settings file ~/{name} does not work" if name else "one of your settings files does not work"
    return Cause(CauseKind.SETTINGS, f"{words} ({_short(said)})" if said else words)


def _short(text: str, most: int = 120) -> str:
    return text if len(text) <= most else text[: most - 1].rstrip() + "…"


# In this order: what comes first explains what comes behind it.
_SPECIAL: tuple[tuple[re.Pattern[str], Callable[[str], Cause]], ...] = (
    (_FULL, _home_full),
    (_MEMORY, _memory),
    (_PORT, _port),
    (_PROCESSES, _processes),
    (_PERMISSION, _permission),
)
