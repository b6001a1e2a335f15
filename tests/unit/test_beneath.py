"""How the file worker opens and walks: by the kernel's openat2, and by hand where that call is forbidden.

Without the rest of the jail, and with all rights there are: what is refused here is refused by this alone.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from launchpad.errors import InvalidInput, NotFound
from launchpad.storage.fileworker.beneath import FOLDER, MOST_LINKS, Beneath, names_of
from launchpad.storage.fileworker.tree import Walk
from support.files import swapped


@pytest.fixture(params=["by the kernel", "by hand"])
def beneath(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Beneath]:
    home = tmp_path / "home"
    (home / "a/b").mkdir(parents=True)
    (home / "a/b/file").write_bytes(b"inside")
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/file").write_bytes(b"outside")
    root = os.open(home, FOLDER)
    yield Beneath(root, with_openat2=request.param == "by the kernel")
    os.close(root)


def content(beneath: Beneath, path: str, flags: int = os.O_RDONLY) -> bytes:
    file = beneath.open(names_of(path), flags)
    try:
        return os.read(file, 100)
    finally:
        os.close(file)


@pytest.mark.parametrize(
    "target", ["a/b", "./a/../a/b", "a/other", "../home/a/b", "/etc", "/proc/self/root", "..", "../outside", "a/../.."]
)
def test_a_link_is_followed_where_it_stays_below(beneath: Beneath, tmp_path: Path, target: str) -> None:
    home = tmp_path / "home"
    (home / "a/other").symlink_to("b")
    (home / "link").symlink_to(target)
    inside = target in ("a/b", "./a/../a/b", "a/other")
    for path in ("link/file", "link"):
        if inside and path == "link/file":
            assert content(beneath, path) == b"inside"
        elif inside:
            os.close(beneath.open(["link"], FOLDER))
        else:
            with pytest.raises(OSError) as refused:  # noqa: PT011 - which it is says the errno
                beneath.open(names_of(path), os.O_RDONLY)
            assert refused.value.errno in (18, 40), refused.value  # EXDEV, ELOOP
    with pytest.raises(OSError, match="Too many levels"):
        beneath.open(["link"], os.O_RDONLY | os.O_NOFOLLOW)


def test_links_in_a_circle_end(beneath: Beneath, tmp_path: Path) -> None:
    home = tmp_path / "home"
    (home / "x").symlink_to("y")
    (home / "y").symlink_to("x")
    with pytest.raises(OSError, match="Too many levels"):
        beneath.open(["x", "file"], os.O_RDONLY)
    (home / "chain0").symlink_to("a/b")
    for number in range(1, MOST_LINKS + 10):
        (home / f"chain{number}").symlink_to(f"chain{number - 1}")
    assert content(beneath, "chain20/file") == b"inside"
    with pytest.raises(OSError, match="Too many levels"):
        content(beneath, f"chain{MOST_LINKS + 5}/file")


def test_nothing_is_made_behind_a_link(beneath: Beneath, tmp_path: Path) -> None:
    (tmp_path / "home/out").symlink_to("../outside/new")
    for flags in (os.O_CREAT | os.O_WRONLY, os.O_CREAT | os.O_EXCL | os.O_WRONLY):
        with pytest.raises(OSError):  # noqa: PT011
            beneath.open(["out"], flags, 0o600)
    os.close(beneath.open(["a", "new"], os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    assert os.listdir(tmp_path / "outside") == ["file"]


def test_what_is_swapped_on_the_way_never_leads_out(beneath: Beneath, tmp_path: Path) -> None:
    """Thousands of turns, in which the folder was a link out of the home about half of the time."""
    home = tmp_path / "home"
    (home / "trap").symlink_to("../../outside")
    (home / "a/trap").symlink_to("../../outside")
    seen = {b"inside": 0, b"": 0}
    with swapped(home / "a", "b", "trap"):
        for turn in range(4000):
            try:
                found = content(beneath, "a/b/file")
            except OSError:
                found = b""
            seen[found] += 1
            if turn % 10 == 0:
                top = os.open(home, FOLDER)
                for step in Walk(beneath, top):
                    if step.name == "file":
                        assert step.names in (["a", "b"], ["a", "trap"])
                        assert os.stat("file", dir_fd=step.folder).st_size == len(b"inside")
                os.close(top)
    assert min(seen.values()) > 100, seen
    assert (tmp_path / "outside/file").read_bytes() == b"outside"


def test_long_paths_are_opened_in_parts(beneath: Beneath, tmp_path: Path) -> None:
    names = ["x" * 250] * 40
    at = os.open(tmp_path / "home", FOLDER)
    for name in names:
        os.mkdir(name, dir_fd=at)
        inner = os.open(name, FOLDER, dir_fd=at)
        os.close(at)
        at = inner
    os.symlink("../" * 60, "up", dir_fd=at)
    os.close(os.open("file", os.O_CREAT | os.O_WRONLY, dir_fd=at))
    os.close(at)
    assert content(beneath, "/".join([*names, "file"])) == b""
    with pytest.raises(OSError):  # noqa: PT011
        beneath.open([*names, "up"], os.O_RDONLY)


@pytest.mark.parametrize("window", [2, 3, 8, 64])
def test_a_walk_sees_everything_once_whatever_it_keeps_open(beneath: Beneath, tmp_path: Path, window: int) -> None:
    home = tmp_path / "home"
    for branch in ("p", "q"):
        folder = home
        for level in range(30):
            folder = folder / f"{branch}{level}"
            folder.mkdir()
            (folder / "one").write_bytes(b"")
            (folder / "two").mkdir()
    expected = sorted(str(path.relative_to(home)) for path in home.rglob("*"))
    before = len(os.listdir("/proc/self/fd"))
    seen: list[str] = []
    left: list[str] = []
    for step in Walk(beneath, beneath.root, window=window):
        path = "/".join([*step.names, step.name])
        (left if step.kind == "up" else seen).append(path)
        assert os.stat(step.name, dir_fd=step.folder, follow_symlinks=False).st_ino == (home / path).lstat().st_ino
        assert len(os.listdir("/proc/self/fd")) < before + 2 * window + 8
    assert sorted(seen) == expected
    assert sorted(left) == [path for path in expected if (home / path).is_dir()]
    assert len(os.listdir("/proc/self/fd")) == before
    in_order = [[*step.names, step.name] for step in Walk(beneath, beneath.root, ordered=True) if step.kind != "up"]
    for number in range(0, len(in_order), 7):
        after = in_order[number]
        rest = [
            [*step.names, step.name]
            for step in Walk(beneath, beneath.root, ordered=True, after=after)
            if step.kind != "up"
        ]
        above = [after[:depth] for depth in range(1, len(after) + 1)]
        assert [one for one in rest if one not in above] == in_order[number + 1 :]


def test_paths_are_names_below_the_home() -> None:
    assert names_of("/a//b/./c/") == ["a", "b", "c"]
    assert names_of("") == names_of("/") == names_of(".") == []
    for path in ("..", "a/../b", "/.."):
        with pytest.raises(NotFound):
            names_of(path)
    for odd in ("a\0", None, 3, "x" * 256, "ü" * 128):
        with pytest.raises(InvalidInput):
            names_of(odd)
