"""What instances get from the platform: whole, readable whatever the umask, as many processors as the size has."""

from __future__ import annotations

import os
import stat
from dataclasses import replace
from pathlib import Path

import pytest

from launchpad.domain.environments import whole_cores
from launchpad.errors import StoreUnavailable
from launchpad.parts import kit_of
from launchpad.runtime.base import BindMount
from launchpad.services.catalogue import catalogue_of
from launchpad.services.kit import CONDA_TARGET, CPUINFO_TARGET, ONLINE_TARGET, PROFILE_TARGET, TARGET, Kit, pip_target
from launchpad.settings import tables

JUPYTERLAB = catalogue_of(tables({}))["jupyterlab"]
ADDRESS = 'https://lab.example.org/dashboard?"'


def cpuinfo(folder: Path, processors: int, rest: str = "") -> Path:
    path = folder / "cpuinfo"
    blocks = "".join(f"processor\t: {number}\nmodel name\t: Example\n\n" for number in range(processors))
    path.write_text(blocks + rest)
    return path


def source(mounts: list[BindMount], target: str) -> Path:
    (found,) = [mount.source for mount in mounts if mount.target == target]
    return found


def mounts_of(kit: Kit, cpus: float) -> list[BindMount]:
    return list(kit.mounts(JUPYTERLAB, cpus))


def test_the_kit_is_readable_by_everybody_and_read_only_in_instances(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        mounts = mounts_of(Kit(tmp_path, ADDRESS), 0.5)
    finally:
        os.umask(before)
    assert all(mount.read_only for mount in mounts)
    assert {mount.target for mount in mounts} <= {
        *(TARGET, CONDA_TARGET, PROFILE_TARGET, CPUINFO_TARGET, ONLINE_TARGET),
        *map(pip_target, JUPYTERLAB.shared_python_prefixes),
    }
    folder = source(mounts, "/opt/launchpad")
    for path in [folder, *folder.rglob("*")]:
        mode = stat.S_IMODE(path.stat().st_mode)
        assert mode == (0o755 if path.is_dir() or path.parent.name == "bin" else 0o644), path
    assert (folder / "R" / "Rprofile.site").is_file()


def test_the_kit_is_brought_up_to_date_and_left_alone_otherwise(tmp_path: Path) -> None:
    """A file that an earlier version had goes, a changed one comes back; nothing is written without need."""
    Kit(tmp_path, ADDRESS).write()
    profile, old = tmp_path / "kit" / "R" / "Rprofile.site", tmp_path / "kit" / "old" / "x"
    whole, inode = profile.read_text(), profile.stat().st_ino
    Kit(tmp_path, ADDRESS).write()
    assert profile.stat().st_ino == inode
    old.parent.mkdir()
    old.write_text("x")
    profile.write_text("stop()")
    Kit(tmp_path, ADDRESS).write()
    assert profile.read_text() == whole
    assert not old.parent.exists()


def test_the_dashboards_address_is_put_in_as_a_text_of_javascript(tmp_path: Path) -> None:
    Kit(tmp_path, ADDRESS).write()
    entry = tmp_path / "kit" / "jupyter" / "labextensions" / "launchpad-dashboard" / "static" / "remoteEntry.js"
    assert 'const ADDRESS = "https://lab.example.org/dashboard?\\"";' in entry.read_text()


@pytest.mark.parametrize(
    ("cpus", "whole"), [(0.01, 1), (0.5, 1), (1, 1), (1.0, 1), (1.2, 2), (2, 2), (2.5, 3), (64, 64)]
)
def test_programs_count_on_whole_cores(cpus: float, whole: int) -> None:
    assert whole_cores(cpus) == whole


@pytest.mark.parametrize(
    ("cpus", "shown", "online"), [(0.5, 1, "0\n"), (1, 1, "0\n"), (1.5, 2, "0-1\n"), (3, 3, "0-2\n")]
)
def test_as_many_processors_are_shown_as_the_size_has(tmp_path: Path, cpus: float, shown: int, online: str) -> None:
    mounts = mounts_of(Kit(tmp_path, ADDRESS, cpuinfo=cpuinfo(tmp_path, 4, "Hardware\t: Example\n")), cpus)
    text = source(mounts, CPUINFO_TARGET).read_text()
    assert text.count("processor\t") == shown
    assert f"processor\t: {shown - 1}\n" in text
    assert text.endswith("Hardware\t: Example\n\n"), "what is of the whole machine stays"
    assert source(mounts, ONLINE_TARGET).read_text() == online


@pytest.mark.parametrize(("processors", "cpus"), [(4, 4), (4, 3.5), (4, 64), (0, 1)])
def test_nothing_is_hidden_where_there_is_nothing_to_hide(tmp_path: Path, processors: int, cpus: float) -> None:
    """The whole server, or one whose /proc/cpuinfo has another form."""
    found = {mount.target for mount in mounts_of(Kit(tmp_path, ADDRESS, cpuinfo=cpuinfo(tmp_path, processors)), cpus)}
    assert not found & {CPUINFO_TARGET, ONLINE_TARGET}


@pytest.mark.parametrize(
    ("engine", "limited"),
    [
        ({}, True),
        ({"oci_runtime": "nvidia"}, True),
        ({"oci_runtime": "runsc"}, False),
        ({"oci_runtime": "runsc", "visible_cores": "size"}, True),
        ({"visible_cores": "all"}, False),
    ],
)
def test_a_runtime_with_a_view_of_its_own_is_left_alone(engine: dict[str, str], limited: bool) -> None:
    assert tables({"engine": engine}).engine.limits_visible_cores is limited


@pytest.mark.parametrize(
    ("changes", "prefixes"),
    [
        ({}, ()),
        ({"groups": ("100",)}, ("/opt/conda",)),
        ({"user": "{uid}:100"}, ("/opt/conda",)),
        ({"user": "{uid}:users"}, ("/opt/conda",)),
        ({"groups": ("100",), "python_prefixes": ()}, ()),
        ({"python_prefixes": ("/opt/venv/", "/usr")}, ("/opt/venv/", "/usr")),
    ],
)
def test_pip_is_led_home_where_the_group_of_shared_packages_is_granted(
    tmp_path: Path, changes: dict[str, tuple[str, ...] | str], prefixes: tuple[str, ...]
) -> None:
    environment = replace(JUPYTERLAB, **changes)  # type: ignore[arg-type]
    found = {mount.target for mount in Kit(tmp_path, ADDRESS).mounts(environment, 1)}
    assert {target for target in found if target.endswith("/pip.conf")} == {
        f"{prefix.rstrip('/')}/pip.conf" for prefix in prefixes
    }


def test_with_a_helper_the_kit_lies_where_only_root_writes(tmp_path: Path) -> None:
    helper = {"socket": str(tmp_path / "s"), "state_dir": str(tmp_path / "helper")}
    for settings, folder in (({"helper": helper}, "helper"), ({"state_dir": str(tmp_path / "portal")}, "portal")):
        (tmp_path / folder).mkdir()
        kit_of(tables(settings)).write()
        assert (tmp_path / folder / "kit" / "bin" / "with-user").is_file()


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "kit").write_text("no folder")
    with pytest.raises(StoreUnavailable, match=str(tmp_path)):
        Kit(tmp_path, ADDRESS).write()
