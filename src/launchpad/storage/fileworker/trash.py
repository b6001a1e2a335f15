"""The Trash, as the freedesktop.org Trash specification (1.0) has it, so that desktop tools and JupyterLab agree.

`~/.local/share/Trash/files/<name>` holds what was deleted, `…/info/<name>.trashinfo` where it came from and when. The
path in it is absolute, as that of the home Trash has to be: as instances see the home, or as another program wrote it.
"""

from __future__ import annotations

import errno
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from typing import Any
from urllib.parse import quote_from_bytes, unquote_to_bytes

from ...errors import Conflict, InvalidInput, LaunchpadError, NoRoom, NotFound
from .beneath import FOLDER, names_of
from .changes import MOST_TOLD, remove_tree
from .content import write_all
from .home import DATA_FOLDER, MADE, Home, entry_of, number, refusal_of, rename, swap
from .line import is_full
from .uploads import remove_all_abandoned

TRASH = (*DATA_FOLDER, "Trash")
FILES, INFO = (*TRASH, "files"), (*TRASH, "info")
SUFFIX = ".trashinfo"
INFO_BYTES = 64 * 1024
TRIES = 100


def put(home: Home, request: dict[str, Any]) -> None:
    """Into the Trash, without copying anything. `home`: the home's path as instances see it; `now`: local time."""
    names = names_of(request.get("path"))
    if tuple(names[: len(TRASH)]) == TRASH:
        raise Conflict("This is in the Trash already. Empty the Trash to delete it permanently.")
    content = _content(names, request)
    with home.place(request.get("path")) as (folder, name), _opened(home, make=True) as (files, info):
        os.stat(name, dir_fd=folder, follow_symlinks=False)
        kept = _reserve(info, files, name, content)
        try:
            rename(folder, name, files, kept)
        except OSError as error:
            with suppress(OSError):
                os.unlink(kept + SUFFIX, dir_fd=info)
            if error.errno == errno.EXDEV:
                raise Conflict("This is on another disk than the Trash. It can only be deleted permanently.") from error
            if error.errno == errno.EINVAL:
                raise Conflict("The Trash is in this folder, so it cannot be moved there.") from error
            raise
    home.line.say(id=kept)


def exchange(home: Home, source: int, name: str, folder: int, target: list[str], request: dict[str, Any]) -> str:
    """Something else takes the place of what has the last of the names in `folder`, which goes to the Trash: at once,
    so that the place is never empty and nothing is ever without a note.

    Returns:
        What it is called in the Trash.
    """
    with _opened(home, make=True) as (files, info):
        kept = _reserve(info, files, target[-1], _content(target, request))
        try:
            rename(source, name, files, kept)
            try:
                swap(files, kept, folder, target[-1])
            except OSError:
                rename(files, kept, source, name)
                raise
        except OSError:
            with suppress(OSError):
                os.unlink(kept + SUFFIX, dir_fd=info)
            raise
    return kept


def _content(names: list[str], request: dict[str, Any]) -> bytes:
    """Of a note: where it was, as instances see it, and when it was deleted."""
    path = "/".join((str(request.get("home", "")).rstrip("/"), *names))
    now = _time(request.get("now"))
    return f"[Trash Info]\nPath={quote_from_bytes(os.fsencode(path))}\nDeletionDate={now}\n".encode()


def _reserve(info: int, files: int, name: str, content: bytes) -> str:
    """A name that is free in the Trash, taken by its note, as the specification wants it."""
    for turn in range(TRIES):
        kept = _shortened(name, "" if turn == 0 else f".{turn + 1}" if turn < 9 else f".{secrets.token_hex(4)}")
        try:
            note = os.open(kept + SUFFIX, MADE, 0o600, dir_fd=info)
        except FileExistsError:
            continue
        except OSError as error:
            if is_full(error):
                raise NO_ROOM_FOR_TRASH from error
            raise
        try:
            write_all(note, content)
        except OSError as error:
            os.unlink(kept + SUFFIX, dir_fd=info)
            raise (NO_ROOM_FOR_TRASH if is_full(error) else error) from error
        finally:
            os.close(note)
        with suppress(FileNotFoundError):
            os.stat(kept, dir_fd=files, follow_symlinks=False)
            os.unlink(kept + SUFFIX, dir_fd=info)
            continue  # something without a note has it
        return kept
    raise Conflict("The Trash holds too many files of this name. Empty it first.")


NO_ROOM_FOR_TRASH = NoRoom(
    "There is no space left, not even for the Trash to note where this came from. It can only be deleted permanently."
)


def _shortened(name: str, mark: str) -> str:
    """So that name, mark and suffix fit into 255 bytes."""
    room = 255 - len(SUFFIX) - len(mark)
    return os.fsdecode(os.fsencode(name)[:room]) + mark


def list_all(home: Home, request: dict[str, Any]) -> None:
    """Newest first. What was deleted before `oldest` is removed permanently first."""
    try:
        with _opened(home) as (files, info):
            _prune(home, files, info, request.get("oldest"))
            told = [_told(files, info, name, request) for name in os.listdir(files)]
    except (FileNotFoundError, NotADirectoryError):
        told = []
    entries = sorted((one for one in told if one), key=lambda one: str(one["deleted_at"]), reverse=True)
    limit = number(request, "limit", 1000, 0, 10_000)
    home.line.say(entries=entries[:limit], total=len(entries))


def restore(home: Home, request: dict[str, Any]) -> None:
    """Where it came from; folders that are gone are made again, and nothing is replaced."""
    restored, failed = [], []
    try:
        with _opened(home) as (files, info):
            for one in _ids(request):
                try:
                    restored.append(_restore(home, files, info, one, request))
                except LaunchpadError as error:
                    failed.append({"id": one, "detail": error.detail})
                except OSError as error:
                    failed.append({"id": one, "detail": refusal_of(error).detail})
    except (FileNotFoundError, NotADirectoryError):
        raise NotFound("The Trash is empty.") from None
    home.line.say(restored=restored, failed=failed)


def _restore(home: Home, files: int, info: int, kept: str, request: dict[str, Any]) -> dict[str, Any]:
    path, _ = _note(info, kept)
    names = _below(path, request)
    if names is None:
        raise Conflict("Where it was is not known. Move it out of .local/share/Trash/files.")
    os.stat(kept, dir_fd=files, follow_symlinks=False)
    folder = home.made_folder(names[:-1])
    try:
        rename(files, kept, folder, names[-1])
        entry = entry_of(folder, names[-1])
    finally:
        os.close(folder)
    with suppress(OSError):
        os.unlink(kept + SUFFIX, dir_fd=info)
    return {"id": kept, "path": "/".join(names), "kind": entry["kind"]}


def empty(home: Home, request: dict[str, Any]) -> None:
    """Of everything, or of `ids` only; with `oldest`, of what is older, and what uploads and copies left goes too."""
    left: list[str] = []
    if request.get("oldest") is not None:
        remove_all_abandoned(home)
    try:
        with _opened(home) as (files, info):
            if request.get("oldest") is not None:
                left = _prune(home, files, info, request["oldest"])
            else:
                names = _ids(request) if request.get("ids") is not None else os.listdir(files)
                for name in names:
                    left += _remove(home, files, info, name)
                if request.get("ids") is None:
                    _remove_lonely_notes(files, info)
    except (FileNotFoundError, NotADirectoryError):
        pass
    home.line.say(done=not left, left=left[:MOST_TOLD], left_count=len(left))


def _prune(home: Home, files: int, info: int, oldest: object) -> list[str]:
    left: list[str] = []
    if oldest is None:
        return left
    limit = _time(oldest)
    for name in os.listdir(files):
        _, deleted_at = _note(info, name)
        if deleted_at and deleted_at < limit:
            left += _remove(home, files, info, name)
    return left


def _remove(home: Home, files: int, info: int, name: str) -> list[str]:
    left = remove_tree(home, files, name)
    if not left:
        with suppress(FileNotFoundError):
            os.unlink(name + SUFFIX, dir_fd=info)
    return left


def _remove_lonely_notes(files: int, info: int) -> None:
    there = set(os.listdir(files))
    for note in os.listdir(info):
        if note.endswith(SUFFIX) and note.removesuffix(SUFFIX) not in there:
            with suppress(OSError):
                os.unlink(note, dir_fd=info)


@contextmanager
def _opened(home: Home, *, make: bool = False) -> Iterator[tuple[int, int]]:
    """Its two folders. Raises FileNotFoundError where there is no Trash yet."""
    opened: list[int] = []
    try:
        for names in (FILES, INFO):
            try:
                opened.append(home.made_folder(names) if make else home.beneath.open(list(names), FOLDER))
            except OSError as error:
                if make and is_full(error):
                    raise NO_ROOM_FOR_TRASH from error
                raise
        yield opened[0], opened[1]
    finally:
        for descriptor in opened:
            os.close(descriptor)


def _told(files: int, info: int, name: str, request: dict[str, Any]) -> dict[str, Any] | None:
    try:
        entry = entry_of(files, name)
    except FileNotFoundError:
        return None
    path, deleted_at = _note(info, name)
    names = _below(path, request)
    return entry | {"id": name, "path": "/".join(names) if names else None, "deleted_at": deleted_at}


def _note(info: int, name: str) -> tuple[str, str]:
    """Where it came from, and when, in local time; empty texts where that is not known."""
    try:
        note = os.open(name + SUFFIX, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=info)
    except OSError:
        return "", ""
    try:
        text = os.read(note, INFO_BYTES)
    except OSError:
        return "", ""
    finally:
        os.close(note)
    path, moment = "", ""
    for line in text.splitlines():
        key, _, value = line.partition(b"=")
        if key.strip() == b"Path" and not path:
            path = os.fsdecode(unquote_to_bytes(value.strip()))
        if key.strip() == b"DeletionDate" and not moment:
            with suppress(ValueError, InvalidInput):
                moment = _time(value.strip().decode("ascii", "replace"))
    return path, moment


def _below(path: str, request: dict[str, Any]) -> list[str] | None:
    """The names below the home, of a path as any instance sees it; None: it is not below it."""
    homes = [str(one).rstrip("/") + "/" for one in [request.get("home", ""), *(request.get("homes") or ())] if one]
    if path.startswith("/"):
        inside = next((path.removeprefix(home) for home in homes if path.startswith(home)), None)
    else:
        inside = path
    try:
        return (names_of(inside) or None) if inside is not None else None
    except LaunchpadError:
        return None


def _ids(request: dict[str, Any]) -> list[str]:
    given = request.get("ids")
    if not isinstance(given, list):
        raise InvalidInput("Give the ids of what is in the Trash.")
    for one in given:
        if not isinstance(one, str) or one in ("", ".", "..") or "/" in one or "\0" in one:
            raise InvalidInput("Give the ids of what is in the Trash.")
    return given


def _time(given: object) -> str:
    """YYYY-MM-DDThh:mm:ss, which can be compared as a text."""
    try:
        moment = datetime.fromisoformat(str(given))
    except ValueError:
        raise InvalidInput("This is not a time.") from None
    return moment.replace(tzinfo=None).isoformat(timespec="seconds")
