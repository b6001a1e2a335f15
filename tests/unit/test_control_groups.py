"""What is read of control groups: trees of files as the kernel shows them, of both versions and both drivers."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import pytest

from launchpad.runtime.base import Caps, Usage
from launchpad.runtime.control_groups import ControlGroups, mounts_in

ID, OTHER = "45fb1bd025c281c6ce37023e3d510e6c97338401cb5d3e3122941fd0d435d2a4", "0" * 64
PID = 7323
MIB = 1024**2
V1_CONTROLLERS = ("cpu", "cpuacct", "cpuset", "memory", "devices", "freezer", "blkio", "pids")

# As Linux 6.18 shows them, of a container that has 64 MiB and half a core; shortened where nothing is read.
V1_MEMORY = {
    "memory.usage_in_bytes": "1130496\n",
    "memory.max_usage_in_bytes": "3821568\n",
    "memory.limit_in_bytes": f"{64 * MIB}\n",
    "memory.memsw.limit_in_bytes": f"{64 * MIB}\n",
    "memory.stat": "cache 622592\nrss 57344\ninactive_file 100\nactive_file 100\ntotal_cache 622592\n"
    "total_inactive_file 339968\ntotal_active_file 282624\n",
    "memory.oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill 3\n",
    "cgroup.procs": f"{PID}\n",
}
V1_CPU = {"cpu.cfs_quota_us": "50000\n", "cpu.cfs_period_us": "100000\n"}
V1_TIME = {"cpuacct.usage": "2500000000\n"}
PIDS = {"pids.current": "7\n", "pids.max": "50\n"}
V2 = {
    "cgroup.controllers": "cpuset cpu io memory pids\n",
    "cgroup.procs": f"{PID}\n",
    "cpu.max": "50000 100000\n",
    "cpu.stat": "usage_usec 2500000\nuser_usec 2000000\nsystem_usec 500000\nnr_periods 12\n",
    "memory.current": "1130496\n",
    "memory.max": f"{64 * MIB}\n",
    "memory.events": "low 0\nhigh 0\nmax 61\noom 4\noom_kill 3\noom_group_kill 0\n",
    "memory.peak": "3821568\n",
    "memory.stat": "anon 57344\nfile 622592\nslab 100\ninactive_file 339968\nactive_file 282624\n",
    "memory.swap.max": "0\n",
    **PIDS,
}
USAGE = Usage(1130496 - 339968 - 282624, 2.5, 7, peak_memory_bytes=3821568)
CAPS = Caps(64 * MIB, 0, 0.5, 50)


class Machine:
    """A machine's /proc and /sys/fs/cgroup below a folder."""

    def __init__(self, folder: Path) -> None:
        self.proc, self.cgroup = folder / "proc", folder / "cgroup"
        self.write(self.proc / "self", {"mountinfo": "22 28 0:20 / /sys rw,nosuid - sysfs sysfs rw\n"})
        self.write(self.proc, {"swaps": "Filename Type Size Used Priority\n/dev/dm-1 partition 1000 0 -2\n"})

    @staticmethod
    def write(folder: Path, files: Mapping[str, str]) -> Path:
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in files.items():
            (folder / name).write_text(text)
        return folder

    def mount(self, line: str) -> None:
        with (self.proc / "self" / "mountinfo").open("a") as file:
            file.write(line + "\n")

    def process(self, text: str, pid: int = PID) -> None:
        self.write(self.proc / str(pid), {"cgroup": text})

    def v1(self, path: str, controllers: tuple[str, ...] = V1_CONTROLLERS) -> None:
        """One hierarchy for each (`cpu,cpuacct` share one with systemd), and version 2's beside them without any."""
        lines = ["0::" + path, f"9:name=systemd:{path}"]
        self.mount(f"31 30 0:27 / {self.cgroup}/systemd rw - cgroup cgroup rw,name=systemd")
        self.mount(f"41 31 0:38 / {self.cgroup}/unified rw,relatime - cgroup2 cgroup2 rw")
        for number, names in enumerate(controllers):
            self.mount(f"{42 + number} 31 0:{39 + number} / {self.cgroup}/{names} rw - cgroup cgroup rw,{names}")
            lines.append(f"{number + 1}:{names}:{path}")
        self.process("\n".join(lines) + "\n")
        self.write(self.cgroup / f"memory{path}", V1_MEMORY)
        self.write(self.cgroup / f"pids{path}", PIDS)
        together = "cpu,cpuacct" in controllers
        self.write(self.cgroup / f"{'cpu,cpuacct' if together else 'cpu'}{path}", V1_CPU)
        self.write(self.cgroup / f"{'cpu,cpuacct' if together else 'cpuacct'}{path}", V1_TIME)

    def v2(self, path: str, inside: str = "") -> Path:
        self.mount(f"30 22 0:26 / {self.cgroup} rw,nosuid - cgroup2 cgroup2 rw,nsdelegate,memory_recursiveprot")
        self.process(f"0::{path}{inside}\n")
        return self.write(self.cgroup / path.lstrip("/"), V2)

    def groups(self) -> ControlGroups:
        return ControlGroups(self.proc)


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


CGROUPFS, SYSTEMD = f"/docker/{ID}", f"/system.slice/docker-{ID}.scope"


@pytest.mark.parametrize("path", [CGROUPFS, SYSTEMD, f"/lab.slice/lab-a.slice/docker-{ID}.scope"])
def test_version_1(machine: Machine, path: str) -> None:
    """With the engine's own driver, with systemd's, and below a parent that the engine's settings name."""
    machine.v1(path)
    groups = machine.groups()
    group = groups.find(PID, ID)
    assert group is not None
    assert group.version == 1
    assert groups.usage(group) == USAGE
    assert groups.caps(group) == CAPS


def test_version_1_as_systemd_mounts_it(machine: Machine) -> None:
    """Cores and their time have one hierarchy together there."""
    machine.v1(SYSTEMD, ("cpu,cpuacct", "memory", "pids", "net_cls,net_prio"))
    groups = machine.groups()
    group = groups.find(PID, ID)
    assert group is not None
    assert (groups.usage(group), groups.caps(group)) == (USAGE, CAPS)


@pytest.mark.parametrize("inside", ["", "/init.scope"])
@pytest.mark.parametrize("path", [CGROUPFS, SYSTEMD])
def test_version_2(machine: Machine, path: str, inside: str) -> None:
    """The whole container is counted, also where its first process lives in a group below, as a systemd inside does."""
    folder = machine.v2(path, inside)
    groups = machine.groups()
    group = groups.find(PID, ID)
    assert group is not None
    assert (group.version, group.memory) == (2, folder)
    assert groups.usage(group) == USAGE
    assert groups.caps(group) == CAPS


@pytest.mark.parametrize("version", [1, 2])
def test_how_many_programs_the_kernel_ended(machine: Machine, version: int) -> None:
    """Not told before 4.13, nor once the group is gone."""
    machine.v1(CGROUPFS) if version == 1 else machine.v2(CGROUPFS)
    groups = machine.groups()
    group = groups.find(PID, ID)
    assert group is not None
    assert groups.oom_kills(group) == 3
    told = group.memory / ("memory.oom_control" if version == 1 else "memory.events")
    told.write_text("oom_kill_disable 0\nunder_oom 0\n" if version == 1 else "low 0\nhigh 0\nmax 0\noom 0\n")
    assert groups.oom_kills(group) is None
    told.unlink()
    assert groups.oom_kills(group) is None


def test_what_older_kernels_do_not_say_is_left_open(machine: Machine) -> None:
    """`memory.peak` came with 5.19; without a controller of processes their number is not known, and not limited."""
    folder = machine.v2(CGROUPFS)
    for name in ("memory.peak", "pids.current", "pids.max"):
        (folder / name).unlink()
    groups = machine.groups()
    group = groups.find(PID, ID)
    assert group is not None
    assert groups.usage(group) == Usage(USAGE.memory_bytes, 2.5, 0)
    assert groups.caps(group) == Caps(64 * MIB, 0, 0.5, None)


def test_memory_is_never_less_than_nothing(machine: Machine) -> None:
    """The two numbers are not read at the same instant."""
    machine.write(machine.v2(CGROUPFS), {"memory.stat": "inactive_file 5000000\n"})
    groups = machine.groups()
    group = groups.find(PID, ID)
    assert group is not None
    usage = groups.usage(group)
    assert usage is not None
    assert usage.memory_bytes == 0


def test_what_nothing_limits_is_told_so(machine: Machine) -> None:
    machine.v1(CGROUPFS)
    machine.write(
        machine.cgroup / f"memory{CGROUPFS}",
        {"memory.limit_in_bytes": "9223372036854771712\n", "memory.memsw.limit_in_bytes": "9223372036854771712\n"},
    )
    machine.write(machine.cgroup / f"cpu{CGROUPFS}", {"cpu.cfs_quota_us": "-1\n"})
    machine.write(machine.cgroup / f"pids{CGROUPFS}", {"pids.max": "max\n"})
    groups = machine.groups()
    group = groups.find(PID, ID)
    assert group is not None
    assert groups.caps(group) == Caps(None, None, None, None)


def test_what_nothing_limits_is_told_so_by_version_2(machine: Machine) -> None:
    folder = machine.v2(CGROUPFS)
    files = {"memory.max": "max\n", "memory.swap.max": "max\n", "cpu.max": "max 100000\n", "pids.max": "max\n"}
    machine.write(folder, files)
    groups = machine.groups()
    group = groups.find(PID, ID)
    assert group is not None
    assert groups.caps(group) == Caps(None, None, None, None)


@pytest.mark.parametrize(("swap", "swap_bytes"), [(True, None), (False, 0)])
def test_swap_that_the_kernel_cannot_limit(machine: Machine, swap: bool, swap_bytes: int | None) -> None:
    """Where the server has none, nobody can use any."""
    (machine.v2(CGROUPFS) / "memory.swap.max").unlink()
    if not swap:
        machine.write(machine.proc, {"swaps": "Filename Type Size Used Priority\n"})
    groups = machine.groups()
    group = groups.find(PID, ID)
    assert group is not None
    caps = groups.caps(group)
    assert caps is not None
    assert caps.swap_bytes == swap_bytes


def test_a_number_that_another_process_has_by_now_finds_nothing(machine: Machine) -> None:
    """And so does one that nobody has, as when the engine is on another machine."""
    machine.v2(CGROUPFS)
    machine.process("0::/user.slice/user-1000.slice/session-2.scope\n", PID + 1)
    groups = machine.groups()
    assert groups.find(PID, ID) is not None, "the control"
    assert groups.find(PID, OTHER) is None
    assert groups.find(PID + 1, ID) is None
    assert groups.find(PID + 2, ID) is None


def test_a_group_outside_of_what_is_seen_from_here_is_none(machine: Machine) -> None:
    """From within a control group namespace the kernel names others by a way up."""
    machine.v2(CGROUPFS)
    machine.process(f"0::/../../docker/{ID}\n")
    assert machine.groups().find(PID, ID) is None


def test_a_part_of_the_hierarchy_mounted_elsewhere(machine: Machine) -> None:
    """As in a container that is given the host's control groups below a folder of its own."""
    below = machine.cgroup / "a b"
    machine.mount(f"30 22 0:26 /docker {str(below).replace(' ', chr(92) + '040')} ro - cgroup2 cgroup2 rw")
    machine.process(f"0::/docker/{ID}\n")
    machine.write(below / ID, V2)
    groups = machine.groups()
    group = groups.find(PID, ID)
    assert group is not None
    assert groups.usage(group) == USAGE
    machine.process(f"0::/elsewhere/{ID}\n")
    assert groups.find(PID, ID) is None


@pytest.mark.parametrize("version", [1, 2])
def test_an_ended_container_uses_nothing(machine: Machine, version: int) -> None:
    """With it goes its folder; amid that, single files may be there still."""
    machine.v1(CGROUPFS) if version == 1 else machine.v2(CGROUPFS)
    groups = machine.groups()
    group = groups.find(PID, ID)
    assert group is not None
    for name in ("memory.usage_in_bytes", "memory.current"):
        (group.memory / name).unlink(missing_ok=True)
    assert groups.usage(group) is None
    for entry in os.scandir(group.memory):
        Path(entry).unlink()
    group.memory.rmdir()
    assert groups.usage(group) is None
    assert groups.caps(group) is None


def test_a_machine_without_control_groups_has_none(machine: Machine) -> None:
    machine.process(f"0::{CGROUPFS}\n")
    assert machine.groups().find(PID, ID) is None
    (machine.proc / "self" / "mountinfo").unlink()
    assert machine.groups().find(PID, ID) is None


def test_of_several_mounts_of_a_hierarchy_the_first_is_taken() -> None:
    lines = [
        "1 0 0:26 / /sys/fs/cgroup rw shared:4 master:1 - cgroup2 cgroup2 rw",
        "2 0 0:26 / /var/lib/somebody/else rw - cgroup2 cgroup2 rw",
        "3 0 0:27 / /proc rw - proc proc rw",
        "short",
    ]
    assert {name: str(mount.point) for name, mount in mounts_in(lines).items()} == {"": "/sys/fs/cgroup"}
