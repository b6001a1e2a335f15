"""What the doctor says of the engine, of limits that are not in force, and of rules that are missing."""

from __future__ import annotations

import os
import tempfile
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from launchpad.domain.instances import State
from launchpad.ops.doctor import Finding, Level
from launchpad.ops.doctor.engine import beyond, control_groups, engine, limits, memory, network, rights
from launchpad.platform import Platform
from launchpad.runtime.base import Caps, HostFacts, MemoryWatch, NetworkFacts
from launchpad.runtime.fake import GB
from launchpad.settings import tables
from support.platforms import World, launch, reaches, sign_in

HOST = HostFacts(
    4,
    16 * GB,
    "27.1.1",
    cgroup_version="2",
    cgroup_driver="systemd",
    can_limit_memory=True,
    can_limit_swap=True,
    can_limit_cpus=True,
    can_limit_pids=True,
    outlives_restart=True,
    security=("apparmor", "seccomp", "cgroupns"),
)
HEAD = "Filename\tType\tSize\tUsed\tPriority\n"


def levels(found: list[Finding]) -> list[Level]:
    assert all(finding.remedy for finding in found if finding.level is not Level.OK)
    return [finding.level for finding in found]


@pytest.mark.parametrize(
    ("changes", "expected", "words"),
    [
        ({}, [Level.OK], "Version 27.1.1, 4 cores, 16 GB"),
        ({"engine_version": "20.10.27+dfsg1"}, [Level.OK], "20.10.27"),
        ({"engine_version": "20.10.24+dfsg1"}, [Level.WARN], "Install Docker 20.10.27 or newer"),
        ({"engine_version": "19.03.15"}, [Level.WARN], "older than any"),
        ({"engine_version": "fake"}, [Level.OK], "Version fake"),
        ({"outlives_restart": False}, [Level.WARN], '"live-restore": true'),
        ({"outlives_restart": None}, [Level.OK], ""),
        ({"security": ("apparmor",)}, [Level.WARN], "seccomp is off"),
        ({"security": ("seccomp", "userns")}, [Level.BAD], "none can write to its home folder"),
        ({"security": ("seccomp", "rootless")}, [Level.BAD], "none can write to its home folder"),
    ],
)
def test_the_engine_itself(changes: dict[str, Any], expected: list[Level], words: str) -> None:
    found = engine("engine", replace(HOST, **changes))
    assert levels(found) == expected
    assert words in f"{found[0].text} {found[0].remedy}"


@pytest.mark.parametrize(
    ("changes", "swap", "expected", "words"),
    [
        ({}, True, [Level.OK], "version 2, by systemd"),
        ({"cgroup_version": "1"}, True, [Level.WARN], "unified_cgroup_hierarchy"),
        ({"cgroup_version": ""}, True, [Level.OK], "Not checked"),
        ({"can_limit_memory": False}, True, [Level.BAD], "Limits of memory are not enforced"),
        ({"can_limit_cpus": False}, True, [Level.BAD], "Limits of cores are not enforced"),
        ({"can_limit_pids": False}, True, [Level.BAD], "Limits of processes are not enforced"),
        ({"can_limit_swap": False}, True, [Level.BAD], "swapaccount=1"),
        ({"can_limit_swap": False}, False, [Level.WARN], "this server has none"),
        ({"can_limit_swap": None, "can_limit_pids": None}, True, [Level.OK], ""),
    ],
)
def test_control_groups(tmp_path: Path, changes: dict[str, Any], swap: bool, expected: list[Level], words: str) -> None:
    (tmp_path / "swaps").write_text(HEAD + ("/dev/sda2\tpartition\t1\t0\t-2\n" if swap else ""))
    found = control_groups("cgroups", replace(HOST, **changes), tmp_path)
    assert levels(found) == expected
    assert words in f"{found[0].text} {found[0].remedy}"


# -- limits in force ---------------------------------------------------------------------------------------------------


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    made = World(tmp_path)
    yield made
    await made.close()


async def asked(platform: Platform) -> list[Finding]:
    return await limits("limits", platform.database, platform.runtime, platform.catalogue)


async def test_limits_of_running_instances_are_held_against_the_record(world: World) -> None:
    platform = await world.open()
    (none,) = await asked(platform)
    assert "Not checked: no instance is running" in none.text
    anna, _ = await sign_in(platform, "anna@example.org")
    instance = await launch(platform, anna, memory_bytes=2 * GB, cpus=2)
    await reaches(platform, instance.id, State.RUNNING)
    (well,) = await asked(platform)
    assert (well.level, "for 1 of 1 running instances" in well.text) == (Level.OK, True)
    await world.change("UPDATE instances SET memory_bytes = ?, cpus = 1", GB)
    (bad,) = await asked(platform)
    assert bad.level is Level.BAD
    assert (
        f"The limits of instance {instance.id} are not enforced: memory 2 GB instead of 1 GB; cores 2 instead of 1"
    ) in bad.text


async def test_what_an_instance_may_take_beyond_its_record(world: World) -> None:
    platform = await world.open()
    anna, _ = await sign_in(platform, "anna@example.org")
    instance = await launch(platform, anna, memory_bytes=2 * GB, cpus=2)
    environment = platform.catalogue["jupyterlab"]
    right = Caps(2 * GB, 0, 2.0, environment.pids_limit)
    assert beyond(instance, right, environment) == []
    assert beyond(instance, replace(right, memory_bytes=2 * GB - 4096), environment) == [], "whole pages"
    for changes, words in (
        ({"memory_bytes": None}, "memory without limit"),
        ({"memory_bytes": 4 * GB}, "memory 4 GB instead of 2 GB"),
        ({"swap_bytes": None}, "swap without limit"),
        ({"swap_bytes": 2 * GB}, "swap 2 GB instead of none"),
        ({"cpus": None}, "cores without limit instead of 2"),
        ({"cpus": 4.0}, "cores 4 instead of 2"),
        ({"pids": None}, "processes without limit"),
        ({"pids": 10**6}, "processes 1000000"),
    ):
        (wrong,) = beyond(instance, replace(right, **changes), environment)
        assert words in wrong


# -- the network -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("facts", "rules", "version", "expected", "words"),
    [
        (NetworkFacts(exists=False), "enforced", "27.0", [Level.OK], "Not checked: there is no network yet"),
        (NetworkFacts(exists=True, shielded=True), "enforced", "20.10.24", [Level.OK], "only this server reaches them"),
        (
            NetworkFacts(exists=True, gaps=("a chain",), shielded=True),
            "enforced",
            "27.0",
            [Level.WARN],
            "restored: a chain",
        ),
        (NetworkFacts(exists=True, shielded=True), "off", "28.0", [Level.WARN], "egress.rules is “off”"),
        (NetworkFacts(exists=True), "off", "28.0.1", [Level.WARN], "egress.rules is “off”"),
        (NetworkFacts(exists=True), "off", "27.5.1", [Level.WARN, Level.WARN], "Machines in the same network"),
        (NetworkFacts(exists=True, shielded=False), "enforced", "odd", [Level.WARN], "Machines in the same network"),
    ],
)
async def test_the_network_and_its_rules(
    world: World, facts: NetworkFacts, rules: str, version: str, expected: list[Level], words: str
) -> None:
    world.runtime.network_facts = facts
    world.runtime.facts = replace(HOST, engine_version=version)
    found = await network("network", world.runtime, tables({"egress": {"rules": rules}}))
    assert levels(found) == expected
    assert words in found[-1].text


async def test_a_gap_that_mending_does_not_close_is_bad(world: World) -> None:
    world.runtime.network_facts = NetworkFacts(exists=True, gaps=("INPUT accepts packets",), shielded=True)
    world.runtime.stubborn_gaps = True
    (found,) = await network("network", world.runtime, tables({}))
    assert found.level is Level.BAD
    assert "INPUT accepts packets" in found.text


def test_who_has_the_engines_socket() -> None:
    assert levels(rights("rights", tables({}))) == [Level.WARN]
    assert "install.md" in rights("rights", tables({}))[0].remedy
    helped = tables({"helper": {"socket": "/run/launchpad/helper.sock"}})
    assert levels(rights("rights", helped)) == [Level.OK]


@pytest.mark.root  # looks as another user
@pytest.mark.parametrize(("mode", "level"), [(0o600, Level.OK), (0o666, Level.BAD)])
def test_a_portal_with_a_helper_that_reaches_the_engine_all_the_same_is_bad(mode: int, level: Level) -> None:
    """Looked at as the portal's user, as the command does."""
    with tempfile.TemporaryDirectory(prefix="launchpad-rights-") as name:
        Path(name).chmod(0o755)
        socket = Path(name, "engine.sock")
        socket.touch()
        socket.chmod(mode)
        settings = tables({"helper": {"socket": "/run/helper.sock"}, "engine": {"host": f"unix://{socket}"}})
        os.seteuid(65534)
        try:
            found = rights("rights", settings)
        finally:
            os.seteuid(0)
    assert levels(found) == [level]


def test_memory_that_cannot_be_seen_to_is_told_with_what_to_do() -> None:
    (well,) = memory("memory", MemoryWatch())
    assert well.level is Level.OK
    found = memory("memory", MemoryWatch("it may not be changed", "it may not be read"))
    assert [one.level for one in found] == [Level.WARN, Level.WARN]
    assert all("CAP_SYSLOG" in str(one.remedy) for one in found)
    assert "its IDE may be ended before its user's programs: it may not be changed." in found[0].text
