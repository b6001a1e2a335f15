"""Uploads that go on where they broke off. What lies there of one is how far it is; the file gets its name when whole.

An upload is two files of the folder of `UPLOADS`: `<id>.part`, and `<id>.json` with where it belongs.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from ...errors import Conflict, FilesBusy, InvalidInput, LaunchpadError, NotFound
from .beneath import FOLDER, names_of
from .changes import remove_tree
from .content import NEW_FILE, check_place, keep, settle, write_all
from .home import MADE, UPLOADS, Home, entry_of, flag, number, rename

ID = re.compile(r"[0-9a-f]{32}")
ABANDONED_SECONDS = 7 * 86400
SPEC_BYTES = 128 * 1024
MOST_LISTED = 1000  # the newest
KNOWN = (".part", ".json", ".new", ".copy")
AT_ONCE = (".new", ".copy")  # of one request, which nobody can go on with
AT_ONCE_SECONDS = 86400  # longer than any request lasts


def begin(home: Home, request: dict[str, Any]) -> None:
    """A new one, or the same again of which nothing has come yet: whoever did not get the answer asks twice, and would
    leave one behind. Of an empty file, it is whole at once."""
    size = number(request, "size", -1, 0)
    spec = {
        "path": "/".join(names_of(request.get("path"))),
        "size": size,
        "mtime_ns": number(request, "mtime_ns", -1, -1),
        "replace": flag(request, "replace"),
    }
    with home.place(request.get("path")) as (folder, name):
        check_place(folder, name, replace=spec["replace"] is True)
    staging = home.made_folder(UPLOADS)
    try:
        remove_abandoned(home, staging)
        upload_id = _begun_before(staging, spec) or _made(staging, spec)
        entry = None
        if size == 0:
            with _held(staging, upload_id) as file:
                entry = _finish(home, staging, upload_id, spec, file)
        home.line.say(id=upload_id, offset=0, size=size, done=size == 0, entry=entry)
    finally:
        os.close(staging)


def _begun_before(staging: int, spec: dict[str, Any]) -> str | None:
    for name in os.listdir(staging):
        upload_id, _, kind = name.partition(".")
        if kind == "json" and ID.fullmatch(upload_id):
            with suppress(NotFound, OSError):
                same = _spec(staging, {"id": upload_id})[1] == spec
                if same and os.stat(f"{upload_id}.part", dir_fd=staging, follow_symlinks=False).st_size == 0:
                    return upload_id
    return None


def _made(staging: int, spec: dict[str, Any]) -> str:
    upload_id = secrets.token_hex(16)
    try:
        _put(staging, f"{upload_id}.json", json.dumps(spec).encode())
        _put(staging, f"{upload_id}.part", b"")
    except OSError:
        _remove(staging, upload_id)
        raise
    return upload_id


def write(home: Home, request: dict[str, Any]) -> None:
    """The next bytes, which have to begin where it is. What came before the connection broke stays."""
    home.line.expect_content()
    with _staging(home) as staging:
        upload_id, spec = _spec(staging, request)
        with _held(staging, upload_id) as file:
            offset = os.fstat(file).st_size
            if number(request, "offset", -1, 0) != offset:
                raise Conflict(f"The upload is at byte {offset}; continue there.")
            os.lseek(file, offset, os.SEEK_SET)
            try:
                while piece := home.line.receive():
                    if offset + len(piece) > spec["size"]:
                        raise InvalidInput("There is more than was announced.")
                    write_all(file, piece)
                    offset += len(piece)
            except OSError:
                os.fsync(file)
                raise
            entry = None
            if offset == spec["size"]:
                entry = _finish(home, staging, upload_id, spec, file)
        home.line.say(id=upload_id, offset=offset, size=spec["size"], done=entry is not None, entry=entry)


def look(home: Home, request: dict[str, Any]) -> None:
    with _staging(home) as staging:
        upload_id, spec = _spec(staging, request)
        home.line.say(**_told(staging, upload_id, spec))


def list_all(home: Home, request: dict[str, Any]) -> None:
    """What is not whole yet, oldest first; what was left alone for a week is removed."""
    told = []
    with suppress(NotFound), _staging(home) as staging:
        remove_abandoned(home, staging)
        for name in sorted(os.listdir(staging)):
            upload_id, _, kind = name.partition(".")
            if kind == "json" and ID.fullmatch(upload_id):
                with suppress(NotFound, OSError):
                    upload_id, spec = _spec(staging, {"id": upload_id})
                    told.append(_told(staging, upload_id, spec))
    told.sort(key=lambda one: int(one["touched_ns"]))
    home.line.say(uploads=told[-MOST_LISTED:])


def drop(home: Home, request: dict[str, Any]) -> None:
    with _staging(home) as staging:
        upload_id, _ = _spec(staging, request)
        _remove(staging, upload_id)
    home.line.say(done=True)


def remove_all_abandoned(home: Home) -> None:
    """As `remove_abandoned`, where there is anything."""
    with suppress(NotFound, OSError), _staging(home) as staging:
        remove_abandoned(home, staging)


def remove_abandoned(home: Home, staging: int) -> None:
    """What nobody has gone on with for a week; also what a copy or a whole upload has left behind at a crash, which is
    as old as the system says: a time of change is given to it before it has its name."""
    now = time.time()
    for name in os.listdir(staging):
        stem, kind = os.path.splitext(name)
        if kind not in KNOWN or not ID.fullmatch(stem):
            continue
        with suppress(OSError):
            if kind in AT_ONCE:
                is_over = os.stat(name, dir_fd=staging, follow_symlinks=False).st_ctime < now - AT_ONCE_SECONDS
            else:
                is_over = _touched(staging, stem, name) < now - ABANDONED_SECONDS
            if is_over:
                remove_tree(home, staging, name)


def _touched(staging: int, stem: str, name: str) -> float:
    """Of an upload's two files the newer one counts."""
    times = []
    for one in (name, f"{stem}.part", f"{stem}.json"):
        with suppress(FileNotFoundError):
            times.append(os.stat(one, dir_fd=staging, follow_symlinks=False).st_mtime)
    return max(times)


@contextmanager
def _staging(home: Home) -> Iterator[int]:
    """Raises NotFound where there was never an upload."""
    try:
        staging = home.beneath.open(list(UPLOADS), FOLDER)
    except FileNotFoundError:
        raise NotFound("There is no such upload.") from None
    try:
        yield staging
    finally:
        os.close(staging)


def _spec(staging: int, request: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    upload_id = request.get("id")
    if not isinstance(upload_id, str) or not ID.fullmatch(upload_id):
        raise NotFound("There is no such upload.")
    try:
        file = os.open(f"{upload_id}.json", os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=staging)
    except OSError:
        raise NotFound(
            "There is no such upload. It is finished, was removed, or was left for more than a week."
        ) from None
    try:
        spec = json.loads(os.read(file, SPEC_BYTES))
    except (ValueError, RecursionError):
        raise NotFound("There is no such upload.") from None
    finally:
        os.close(file)
    if not isinstance(spec, dict):
        raise NotFound("There is no such upload.")
    try:  # its owner may have written it, or half of it
        number(spec, "size", -1)
        names_of(spec.get("path"))
    except LaunchpadError:
        raise NotFound("There is no such upload.") from None
    return upload_id, spec


@contextmanager
def _held(staging: int, upload_id: str) -> Iterator[int]:
    """Its part, for one writer at a time."""
    try:
        file = os.open(f"{upload_id}.part", os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=staging)
    except FileNotFoundError:
        raise NotFound("There is no such upload.") from None
    try:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise FilesBusy("This upload is being written to already.", retry_after_seconds=2) from None
        yield file
    finally:
        os.close(file)


def _finish(home: Home, staging: int, upload_id: str, spec: dict[str, Any], file: int) -> dict[str, Any]:
    replace = spec.get("replace") is True
    with home.place(spec.get("path")) as (folder, name):
        check_place(folder, name, replace=replace)
        settle(file, folder, name, spec.get("mtime_ns"))
        rename(staging, f"{upload_id}.part", folder, name, replace=replace)
        keep(folder)
        with suppress(OSError):
            os.unlink(f"{upload_id}.json", dir_fd=staging)
        return entry_of(folder, name)


def _told(staging: int, upload_id: str, spec: dict[str, Any]) -> dict[str, Any]:
    try:
        status = os.stat(f"{upload_id}.part", dir_fd=staging, follow_symlinks=False)
    except FileNotFoundError:
        raise NotFound("There is no such upload.") from None
    size, path = spec["size"], spec["path"]
    return {
        "id": upload_id,
        "path": path,
        "offset": status.st_size,
        "size": size,
        "touched_ns": status.st_mtime_ns,
        "done": False,
    }


def _put(staging: int, name: str, content: bytes) -> None:
    file = os.open(name, MADE, NEW_FILE, dir_fd=staging)
    try:
        write_all(file, content)
    finally:
        os.close(file)


def _remove(staging: int, upload_id: str) -> None:
    for kind in ("json", "part"):
        with suppress(FileNotFoundError):
            os.unlink(f"{upload_id}.{kind}", dir_fd=staging)
