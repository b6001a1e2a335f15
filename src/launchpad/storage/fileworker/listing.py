"""What lies in a folder, in pages, and what has a name."""

from __future__ import annotations

import fnmatch
import os
import re
import time
from bisect import bisect_right
from typing import Any

from ...errors import InvalidInput
from .beneath import names_of
from .home import Home, entry_of, number
from .tree import Walk

MOST_AT_ONCE = 1000
SEARCH_SECONDS = 3.0
MOST_CHARACTERS = 2_000_000  # of the folders of what a search found, which can lie very deep
SETTLED_NS = 2 * 10**9  # a folder that was changed later may be changed again without another time

Key = tuple[int, Any, str, str]  # group, what is sorted by, the name in small letters, the name


def list_folder(home: Home, request: dict[str, Any]) -> None:
    """A page of a folder: folders first, then by `sort`. `after` is the key of the last entry of the page before, so
    that what comes and goes meanwhile shifts nothing."""
    limit = number(request, "limit", 200, 1, MOST_AT_ONCE)
    sort = request.get("sort", "name")
    with home.folder(request.get("path", "")) as folder:
        keys = _sorted(home, folder, str(sort), request.get("hidden") is not False)
        first = 0
        descending = request.get("order") == "desc"
        after = _key(request.get("after"))
        if descending:
            keys = _reversed(keys)
        if after is not None:
            first = _behind(keys, after, descending=descending)
        page, entries = keys[first : first + limit], []
        for key in page:
            try:
                entries.append(entry_of(folder, key[-1]))
            except FileNotFoundError:
                continue  # gone since it was listed
        more = first + limit < len(keys)
        home.line.say(entries=entries, total=len(keys), after=list(page[-1]) if more and page else None)


def _sorted(home: Home, folder: int, sort: str, hidden: bool) -> list[Key]:
    status = os.fstat(folder)
    state = (status.st_dev, status.st_ino, status.st_mtime_ns, status.st_ctime_ns, hidden)
    if sort == "name" and state == home.listed_state:
        return home.listed
    now = time.time_ns()
    keys: list[Key] = []
    with os.scandir(folder) as entries:
        for number_, entry in enumerate(entries):
            name = entry.name
            if not hidden and name.startswith("."):
                continue
            group = 0 if entry.is_dir(follow_symlinks=False) else 1
            value: Any = 0
            if sort != "name":
                try:
                    told = entry.stat(follow_symlinks=False)
                except FileNotFoundError:
                    continue
                value = told.st_mtime_ns if sort == "modified" else told.st_size if group else 0
            keys.append((group, value, name.casefold(), name))
            if number_ % 4096 == 0:
                home.line.look()
    keys.sort()
    if sort == "name" and status.st_mtime_ns < now - SETTLED_NS:
        home.listed_state, home.listed = state, keys
    return keys


def _reversed(keys: list[Key]) -> list[Key]:
    """Backwards, but folders are still first."""
    files = bisect_right(keys, (0, float("inf"), "", ""))
    return keys[:files][::-1] + keys[files:][::-1]


def _behind(keys: list[Key], after: Key, *, descending: bool) -> int:
    if not descending:
        return bisect_right(keys, after)
    low, high = 0, len(keys)
    while low < high:
        middle = (low + high) // 2
        one = keys[middle]
        if one[0] < after[0] or (one[0] == after[0] and one >= after):
            low = middle + 1
        else:
            high = middle
    return low


def _key(given: object) -> Key | None:
    """Raises InvalidInput for what is no key of ours."""
    if given is None:
        return None
    if isinstance(given, list) and len(given) == 4:
        group, value, folded, name = given
        if group in (0, 1) and isinstance(value, int) and isinstance(folded, str) and isinstance(name, str):
            return group, value, folded, name
    raise InvalidInput("That cursor cannot be used: give the one of the previous page.")


def tell(home: Home, request: dict[str, Any]) -> None:
    """One thing, itself; the home as a folder without a name."""
    names = names_of(request.get("path", ""))
    if not names:
        status = os.fstat(home.root)
        home.line.say(entry={"name": "", "kind": "folder", "size": 0, "mtime_ns": status.st_mtime_ns, "mode": 0o700})
        return
    with home.place(request["path"]) as (folder, name):
        entry = entry_of(folder, name)
    home.line.say(entry=entry)


def search(home: Home, request: dict[str, Any]) -> None:
    """What has a name like `name`: a part of it in any case, or a pattern with * and ?; hidden folders too.

    In the order of names, bounded in time and number; `after` says where it stopped, to go on from there.
    """
    wanted = request.get("name")
    if not isinstance(wanted, str) or not wanted or len(wanted) > 255:
        raise InvalidInput("Give a part of a name.")
    limit = number(request, "limit", 100, 1, MOST_AT_ONCE)
    seconds = number(request, "seconds", int(SEARCH_SECONDS), 1, 30)
    matches = _matcher(wanted)
    after = request.get("after")
    deadline = time.monotonic() + seconds
    found: list[dict[str, Any]] = []
    characters = 0
    last: list[str] | None = None
    with home.folder(request.get("path", "")) as top:
        walk = Walk(home.beneath, top, ordered=True, after=names_of(after) if after else ())
        for step in walk:
            if step.kind in ("up", "closed"):
                continue
            if step.kind == "down" and after and _is_above(step.names, step.name, after):
                continue  # it was come to on an earlier page
            if matches(step.name):
                try:
                    found.append(entry_of(step.folder, step.name) | {"folder": "/".join(step.names)})
                except FileNotFoundError:
                    continue
                characters += len(found[-1]["folder"])
            if len(found) >= limit or characters > MOST_CHARACTERS or time.monotonic() > deadline:
                last = [*step.names, step.name]
                break
            home.line.look()
    cut = last is not None and len(found) < limit
    home.line.say(entries=found, cut=cut, after="/".join(last) if last is not None else None)


def _is_above(names: Any, name: str, after: str) -> bool:
    path = "/".join([*names, name])
    return after == path or after.startswith(path + "/")


def _matcher(wanted: str) -> Any:
    if "*" in wanted or "?" in wanted:
        pattern = re.compile(fnmatch.translate(wanted.casefold()))
        return lambda name: pattern.match(name.casefold()) is not None
    folded = wanted.casefold()
    return lambda name: folded in name.casefold()
