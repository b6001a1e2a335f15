"""The processes' beginning: what each is handed, and what it gives up before it begins."""

from __future__ import annotations

import errno
import json
import os
import resource
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, BinaryIO

from ...errors import ArchiveDamaged, LaunchpadError
from ..porter.counter import give_way
from ..porter.jail import (
    CAP_CHOWN,
    CAP_DAC_OVERRIDE,
    CAP_DAC_READ_SEARCH,
    CAP_FOWNER,
    CAP_FSETID,
    NOBODY,
    become,
    shut_in,
)
from .compare import compare
from .compress import stream
from .erase import erase
from .pack import pack
from .receive import Nothing, Receiver
from .reporting import Reporter, say
from .take import take
from .unpack import Owners, Unpacker, as_restored, says_no_room

MEMORY_BYTES = 1024**3
NICE = 10  # instances and pages go before it, but it comes to an end on a busy server, too
BUFFER = 1024 * 1024
READING = (CAP_DAC_READ_SEARCH,)
GIVING = (CAP_CHOWN, CAP_DAC_OVERRIDE, CAP_FOWNER, CAP_FSETID)
REMOVING = (CAP_DAC_OVERRIDE, CAP_FOWNER)
Role = Callable[[Mapping[str, Any], Reporter], dict[str, Any]]


def main(role: str, asked: str) -> None:
    """Args: role: one of `ROLES`; asked: JSON of what it works with; numbers of descriptors and plain values."""
    wanted = json.loads(asked)
    library = _library(wanted) if role == "compress" else None
    _give_up(role, wanted)
    try:
        if library is not None:
            stream(library, wanted["source"], wanted["target"], unpack=wanted["unpack"])
            answer: dict[str, Any] = {}
        else:
            answer = ROLES[role](wanted, Reporter())
        say(done=True, **answer)
    except ArchiveDamaged as error:
        _fail("damaged", f"The archive is damaged: {error.detail}.")
    except LaunchpadError as error:
        _fail(error.code, error.detail)
    except BrokenPipeError:
        _fail("broken", "the other process ended")
    except MemoryError:
        _fail("memory", "There is more in it than the server can hold in memory at once.")
    except OSError as error:
        if says_no_room(error):
            _fail("no-room", "There is not enough space left on the disk.")
        if error.errno == errno.ESTALE:
            _fail("changed", "A folder was moved while it was read.")
        sys.stderr.write(f"archiver {role}: {error!r}\n")  # into the log
        _fail("refused", f"The disk refused it: {error.strerror or 'input or output failed'}.")


def _fail(code: str, detail: str) -> None:
    with suppress(OSError):
        say(error=code, detail=detail)
    os._exit(1)  # buffers that nobody reads any more are not written


def _library(wanted: Mapping[str, Any]) -> Any:
    """zstandard, from where the program that started this has it, and nothing else from there."""
    sys.path.append(wanted["library"])
    import zstandard

    return zstandard


def _give_up(role: str, wanted: Mapping[str, Any]) -> None:
    give_way(NICE)
    if os.geteuid() == 0:
        shut_in(wanted["top"])
        if role == "take":
            become(wanted["uid"])
        else:
            become(NOBODY, keeping=KEPT.get(role, ()))
    resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))  # no process can come of it
    for kind, most in ((resource.RLIMIT_AS, MEMORY_BYTES), (resource.RLIMIT_CORE, 0)):
        resource.setrlimit(kind, (most, most))
    os.umask(0o077)


def _reading(wanted: Mapping[str, Any], name: str) -> BinaryIO:
    return os.fdopen(wanted[name], "rb", buffering=BUFFER)


def _pack(wanted: Mapping[str, Any], reporter: Reporter) -> dict[str, Any]:
    with (
        os.fdopen(wanted["tar"], "wb", buffering=BUFFER) as tar,
        os.fdopen(wanted["manifest"], "wb", buffering=BUFFER) as manifest,
    ):
        return pack(wanted["top"], wanted["uid"], tar, manifest, reporter, wanted["said"], live=wanted["live"])


def _check(wanted: Mapping[str, Any], reporter: Reporter) -> dict[str, Any]:
    receiver = Receiver(_reading(wanted, "tar"), _reading(wanted, "manifest"), Nothing(), reporter, wanted["sha256"])
    return receiver.receive() | {"first": receiver.first}


def _unpack(wanted: Mapping[str, Any], reporter: Reporter) -> dict[str, Any]:
    owners = Owners(wanted["archived_uid"], wanted["uid"])
    sink = Unpacker(wanted["top"], owners)
    return Receiver(_reading(wanted, "tar"), _reading(wanted, "manifest"), sink, reporter, wanted["sha256"]).receive()


def _compare(wanted: Mapping[str, Any], reporter: Reporter) -> dict[str, Any]:
    owners = Owners(wanted["archived_uid"], wanted["uid"])
    return compare(
        wanted["top"],
        wanted["uid"],
        _reading(wanted, "manifest"),
        reporter,
        wanted["sha256"],
        expected=lambda record: as_restored(record, owners),
        since=wanted["since"],
    )


def _erase(wanted: Mapping[str, Any], reporter: Reporter) -> dict[str, Any]:
    erase(wanted["top"], reporter)
    return {}


def _take(wanted: Mapping[str, Any], reporter: Reporter) -> dict[str, Any]:
    return take(
        wanted["top"],
        wanted["uid"],
        wanted["name"],
        _reading(wanted, "tar"),
        _reading(wanted, "manifest"),
        reporter,
        wanted["sha256"],
    )


ROLES: dict[str, Role] = {
    "pack": _pack,
    "check": _check,
    "unpack": _unpack,
    "compare": _compare,
    "erase": _erase,
    "take": _take,
}
KEPT = {"pack": READING, "compare": READING, "unpack": GIVING, "erase": REMOVING}
