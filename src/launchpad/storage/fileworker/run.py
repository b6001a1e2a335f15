"""The worker's beginning, and how it answers."""

from __future__ import annotations

import ctypes
import os
import resource
import socket
import struct
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from ...errors import Conflict, FilesUnavailable, InvalidInput, LaunchpadError, NotFound
from ..porter.jail import CAPABILITY_VERSION_3, become, shut_in
from . import archive, changes, content, libraries, listing, preview, restoring, shared, space, trash, uploads
from .home import Home, refusal_of
from .line import Line

Verb = Callable[[Home, dict[str, Any]], None]
VERBS: dict[str, Verb] = {
    "list": listing.list_folder,
    "stat": listing.tell,
    "search": listing.search,
    "read": content.read,
    "write": content.write,
    "upload-begin": uploads.begin,
    "upload-write": uploads.write,
    "upload-look": uploads.look,
    "upload-list": uploads.list_all,
    "upload-drop": uploads.drop,
    "make-folder": changes.make_folder,
    "move": changes.move,
    "copy": changes.copy,
    "delete": changes.delete,
    "empty": changes.empty,
    "trash": trash.put,
    "trash-list": trash.list_all,
    "trash-restore": trash.restore,
    "trash-empty": trash.empty,
    "archive": archive.send,
    "space": space.tell,
    "sizes": space.sizes,
    "preview": preview.send,
    "libraries": libraries.tell,
    "shareable": shared.tell_kind,
}
OF_SNAPSHOTS = ("list", "stat", "search", "read", "archive", "preview")  # what a snapshot is asked
MEMORY_BYTES = 1024**3
CPU_SECONDS = 2 * 3600
OPEN_FILES = 8192
NICE = 5  # instances and pages go before a large archive


def main(connection: int, uid: int, home: int, snapshot: int | None = None) -> None:
    """Args: descriptors of the connection, the home and perhaps a snapshot of it; the home's owner."""
    line = Line(socket.socket(fileno=connection))
    _limit()
    os.nice(NICE)
    if os.geteuid() == 0:
        shut_in(home)
        become(uid)
    _check_powerless(uid)
    resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))  # no process can come of it
    os.umask(0o077)
    with suppress(EOFError):
        line.say(ready=True)
        serve(Home(home, line), None if snapshot is None else Home(snapshot, line))


def serve(home: Home, snapshot: Home | None = None) -> None:
    """Until EOFError: the other side is gone, or silent for too long.

    Args:
        snapshot: what is read, and restored from, where it is given; then nothing else is done.
    """
    while True:
        request = home.line.request()
        try:
            _answer(home, snapshot, request)
        except LaunchpadError as error:
            _refuse(home, error)
        except OSError as error:
            _refuse(home, refusal_of(error))
        except MemoryError:
            _refuse(home, Conflict("That is too much at once for this page. Do it in an instance."))
        except (RecursionError, UnicodeError, ValueError):  # what only odd content can lead to
            _refuse(home, FilesUnavailable("This content cannot be worked with."))


def _answer(home: Home, snapshot: Home | None, request: dict[str, Any]) -> None:
    name = str(request.get("verb"))
    verb = VERBS.get(name)
    if "within" in request:
        _answer_shared(home, snapshot, name, request)
        return
    if snapshot is not None and name == "restore":
        restoring.restore(home, snapshot, request)
    elif snapshot is not None and name in OF_SNAPSHOTS:
        VERBS[name](snapshot, request)
    elif snapshot is not None or verb is None:
        raise InvalidInput("There is no such call." if verb is None else "A snapshot can only be read.")
    else:
        verb(home, request)


def _answer_shared(home: Home, snapshot: Home | None, name: str, request: dict[str, Any]) -> None:
    """What is asked of something shared: to read it, and nothing else of the home."""
    kind = request.get("within_kind")
    if snapshot is not None or name not in shared.OF_FOLDERS:
        raise InvalidInput("What is shared can only be read.")
    if kind != "folder" and name not in shared.OF_FILES:
        raise NotFound(shared.GONE)
    with shared.opened(home, request["within"], kind) as within:
        if isinstance(within, shared.OneFile) and name == "stat":
            if request.get("path"):
                raise NotFound(shared.GONE)
            within.tell()
        else:
            VERBS[name](within, request)


def _refuse(home: Home, error: LaunchpadError) -> None:
    home.line.say(error=error.code, detail=error.detail)
    home.line.skip_content()


def _limit() -> None:
    for kind, most in (
        (resource.RLIMIT_AS, MEMORY_BYTES),
        (resource.RLIMIT_CPU, CPU_SECONDS),
        (resource.RLIMIT_NOFILE, OPEN_FILES),
        (resource.RLIMIT_CORE, 0),
    ):
        _, hard = resource.getrlimit(kind)
        least = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(kind, (least, least))


def _check_powerless(uid: int) -> None:
    """Ends the process where it is anything but its user."""
    libc = ctypes.CDLL(None, use_errno=True)
    data = ctypes.create_string_buffer(24)
    told = libc.capget(struct.pack("=Ii", CAPABILITY_VERSION_3, 0), data)
    if told != 0 or any(data.raw) or set(os.getresuid()) != {uid} or 0 in os.getresgid():
        raise SystemExit("the worker could not give up its rights")
