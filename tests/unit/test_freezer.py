"""What is read and written of a container that stands still: its control group, and its connections' queues."""

from __future__ import annotations

from pathlib import Path

import pytest

from launchpad.runtime import freezer
from launchpad.runtime.control_groups import ControlGroup
from launchpad.runtime.freezer import freezer_of, push_out, unread_bytes
from launchpad.runtime.values import HostFacts

HOST = HostFacts(8, 32, "20.10", cgroup_version="2", cgroup_driver="systemd")
SWAPS = "Filename Type Size Used Priority\n"
HEAD = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"
# As Linux 6.18 shows them: a server that listens on 8888, with a browser's page that has sent 6 bytes; one that has
# gone and left 99; what a program of its own has fetched from elsewhere; and two that wait to be accepted.
TCP = HEAD + "".join(
    f"   {number}: {local} {remote} {state} 00000000:{unread:08X} 00:00000000 00000000 0 0 1 1 0 20 4 30 10 -1\n"
    for number, (local, remote, state, unread) in enumerate(
        [
            ("00000000:22B8", "00000000:0000", "0A", 2),
            ("0400A8AC:22B8", "0100A8AC:D1A2", "01", 6),
            ("0400A8AC:22B8", "0100A8AC:D1A4", "08", 99),
            ("0400A8AC:B0B0", "08080808:01BB", "01", 4096),
        ]
    )
)


def group_in(folder: Path, version: int = 2) -> ControlGroup:
    group = folder / "group"
    group.mkdir()
    (group / "cgroup.procs").write_text("7323\n7400\n")
    return ControlGroup(version, group, group, group, group)


def proc_in(folder: Path, **files: str) -> Path:
    proc = folder / "proc"
    (proc / "7323" / "net").mkdir(parents=True)
    for name, text in files.items():
        (proc / name).write_text(text)
    return proc


def test_what_open_pages_have_sent_is_counted_and_nothing_else(tmp_path: Path) -> None:
    group, proc = group_in(tmp_path), proc_in(tmp_path)
    assert unread_bytes(group, proc) is None, "its processes have ended"
    (proc / "7323" / "net" / "tcp").write_text(TCP)
    assert unread_bytes(group, proc) == 6
    (proc / "7323" / "net" / "tcp6").write_text(TCP.replace("00000006", "00000010"))
    assert unread_bytes(group, proc) == 6 + 16


def test_processes_in_a_group_below_are_found(tmp_path: Path) -> None:
    """As where a systemd inside has put them."""
    group, proc = group_in(tmp_path), proc_in(tmp_path)
    (group.memory / "cgroup.procs").write_text("")
    below = group.memory / "init.scope"
    below.mkdir()
    (below / "cgroup.procs").write_text("7323\n")
    (proc / "7323" / "net" / "tcp").write_text(TCP)
    assert unread_bytes(group, proc) == 6


def test_memory_is_pushed_out_while_it_stands_still(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In pieces, until nothing is left; nothing of one that has been woken."""
    group = group_in(tmp_path)
    held = [600 * 1024**2]
    asked: list[int] = []
    (group.memory / "memory.current").write_text(str(held[0]))
    (group.memory / "cgroup.freeze").write_text("1\n")
    (group.memory / "memory.reclaim").write_text("")
    write = Path.write_text

    def reclaims(self: Path, text: str, **how: object) -> int:
        if self.name == "memory.reclaim":
            asked.append(int(text))
            held[0] -= int(text)
            write(group.memory / "memory.current", str(held[0]))
            return len(text)
        return write(self, text)

    monkeypatch.setattr(Path, "write_text", reclaims)
    push_out(group)
    assert asked == [256 * 1024**2, 256 * 1024**2, 88 * 1024**2]
    write(group.memory / "cgroup.freeze", "0\n")
    write(group.memory / "memory.current", "1000")
    push_out(group)
    assert len(asked) == 3


def test_a_kernel_that_finds_no_more_ends_it(tmp_path: Path) -> None:
    group = group_in(tmp_path)
    (group.memory / "memory.current").write_text("1000")
    (group.memory / "cgroup.freeze").write_text("1\n")
    (group.memory / "memory.reclaim").mkdir()  # every write fails
    push_out(group)
    push_out(ControlGroup(1, *[group.memory] * 4))


@pytest.mark.parametrize(
    ("changes", "release", "swaps", "can", "why"),
    [
        ({}, (6, 1), SWAPS + "/dev/dm-1 partition 1 0 -2\n", True, ""),
        ({}, (6, 1), SWAPS, True, "no swap"),
        ({}, (5, 10), SWAPS, True, "older than 5.19"),
        ({"cgroup_version": "1"}, (6, 1), SWAPS, True, "version 1"),
        ({"cgroup_driver": "none"}, (6, 1), SWAPS, False, "without control groups"),
        ({"cgroup_version": "", "cgroup_driver": ""}, (6, 1), SWAPS, False, "without control groups"),
    ],
)
def test_what_the_machine_can_and_why_not(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    changes: dict[str, str],
    release: tuple[int, int],
    swaps: str,
    can: bool,
    why: str,
) -> None:
    monkeypatch.setattr(freezer, "_release", lambda: release)
    proc = proc_in(tmp_path, swaps=swaps, cgroups="#subsys_name\thierarchy\tnum_cgroups\tenabled\nfreezer\t7\t3\t1\n")
    found = freezer_of(HostFacts(**{**vars(HOST), **changes}), proc)
    assert found.can_freeze is can
    said = found.why_memory_stays if can else found.why_not
    assert why in said
    assert bool(said) is bool(why)


def test_a_kernel_without_a_freezer_says_so(tmp_path: Path) -> None:
    """Version 1 only: there it is a controller of its own, which may be off."""
    host = HostFacts(**{**vars(HOST), "cgroup_version": "1", "cgroup_driver": "cgroupfs"})
    proc = proc_in(tmp_path, cgroups="#subsys_name\thierarchy\tnum_cgroups\tenabled\nfreezer\t7\t3\t0\n")
    assert freezer_of(host, proc).why_not.startswith("the kernel has no freezer")
