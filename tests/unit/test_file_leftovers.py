"""What work with files leaves when it breaks off: no half files, no rubbish for good, no open descriptors."""

from __future__ import annotations

import errno
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from launchpad.storage.fileworker import copying, listing, trash, uploads
from launchpad.storage.fileworker.beneath import FOLDER
from launchpad.storage.fileworker.changes import copy
from launchpad.storage.fileworker.home import Home
from launchpad.storage.fileworker.line import Line

DAY = 86400
STAGING = ".local/share/launchpad-uploads"


class Told(Line):
    """Keeps what is said."""

    def __init__(self, connection: socket.socket) -> None:
        super().__init__(connection)
        self.said: list[dict[str, Any]] = []

    def say(self, **what: Any) -> None:
        self.said.append(what)


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    root = os.open(tmp_path, FOLDER)
    ours, theirs = socket.socketpair()
    yield Home(root, Told(theirs))
    ours.close()
    theirs.close()
    os.close(root)


def said(home: Home) -> dict[str, Any]:
    assert isinstance(home.line, Told)
    return home.line.said[-1]


def test_what_a_request_left_goes_after_a_day_whatever_time_of_change_it_has(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the daily sweep, also where nobody ever uploads again."""
    folder = tmp_path / STAGING
    folder.mkdir(parents=True)
    of_requests, of_uploads = [f"{'1' * 32}.new", f"{'2' * 32}.copy"], [f"{'3' * 32}.json", f"{'3' * 32}.part"]
    (folder / of_requests[1] / "inside").mkdir(parents=True)
    for name in (of_requests[0], *of_uploads, "somebody's own"):
        (folder / name).write_bytes(b"x")
    os.utime(folder / of_requests[0], (1, 1))  # as a file that is about to get its name
    os.utime(folder / of_requests[1], (1, 1))

    def swept(later: float) -> list[str]:
        now = time.time()
        monkeypatch.setattr(time, "time", lambda: now + later)
        trash.empty(home, {"oldest": "2026-01-01T00:00:00"})
        assert said(home)["done"] is True
        monkeypatch.undo()
        return sorted(os.listdir(folder))

    assert swept(DAY - 600) == sorted([*of_requests, *of_uploads, "somebody's own"])
    assert swept(DAY + 600) == sorted([*of_uploads, "somebody's own"])
    assert swept(7 * DAY + 600) == ["somebody's own"]


def test_who_asks_twice_because_the_answer_was_lost_begins_one_upload(home: Home, tmp_path: Path) -> None:
    def begun(**other: Any) -> str:
        uploads.begin(home, {"path": "large", "size": 10, "mtime_ns": 5, "replace": False} | other)
        assert said(home)["offset"] == 0
        return str(said(home)["id"])

    first = begun()
    assert begun() == first
    assert len({first, begun(size=11), begun(mtime_ns=6), begun(path="larger"), begun(replace=True)}) == 5
    (tmp_path / STAGING / f"{first}.part").write_bytes(b"some")
    assert begun() != first, "another one may have sent them"


def test_a_copy_has_no_half_files(home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "from").mkdir()
    (tmp_path / "from/bad").write_bytes(b"x" * 100)
    (tmp_path / "from/good").write_bytes(b"y" * 10)

    def some(file: int, made: int, offset: int, length: int) -> int:
        if length == 100 or offset:
            if offset:
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            return os.write(made, os.pread(file, 7, offset))
        return os.write(made, os.pread(file, length, offset))

    def refused(*_: Any) -> int:
        raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))

    monkeypatch.setattr(copying, "_some", some)
    monkeypatch.setattr("fcntl.ioctl", refused)
    copy(home, {"from": "from", "to": "to"})
    assert os.listdir(tmp_path / "to") == ["good"]
    assert (said(home)["left_count"], said(home)["files"]) == (1, 1)
    assert said(home)["left"][0].startswith("bad: ")
    assert os.listdir(tmp_path / STAGING) == []


def test_a_search_that_ends_at_a_folder_leaves_nothing_open(home: Home, tmp_path: Path) -> None:
    for number in range(9):
        (tmp_path / f"folder{number}/folder").mkdir(parents=True)
    before = os.listdir("/proc/self/fd")
    for limit in range(1, 9):
        listing.search(home, {"name": "folder", "limit": limit})
        assert len(said(home)["entries"]) == limit
    assert len(os.listdir("/proc/self/fd")) == len(before)


def test_a_search_that_finds_very_long_paths_is_told_in_parts(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(6):
        (tmp_path / f"folder{number}").mkdir()
        (tmp_path / f"folder{number}/wanted").write_bytes(b"")
    monkeypatch.setattr(listing, "MOST_CHARACTERS", 2 * len("folder0") - 1)
    found, after = [], None
    for _ in range(3):
        listing.search(home, {"name": "wanted", "after": after})
        page = said(home)
        assert (len(page["entries"]), page["cut"]) == (2, True)
        found += [one["folder"] for one in page["entries"]]
        after = page["after"]
    assert found == [f"folder{number}" for number in range(6)]
