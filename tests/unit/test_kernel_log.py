"""What the kernel's log says of programs ended for lack of memory: recorded lines, and a log that grows."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path

from launchpad.runtime.kernel_log import KernelLog

ID = "ba8c6cd64068014ce16bd84361e0b13f4ba3a1e923fe5df4718ad28419234a58"
BOOTED = datetime(2026, 3, 2, tzinfo=UTC).timestamp()

# As Linux 6.18 writes them, with control groups of version 1 and the engine's cgroupfs driver.
V1 = [
    f"6,81800,52540062261,-;Memory cgroup stats for /docker/{ID}:",
    f"6,81847,52540062869,-;oom-kill:constraint=CONSTRAINT_MEMCG,nodemask=(null),cpuset={ID},mems_allowed=0,"
    f"oom_memcg=/docker/{ID},task_memcg=/docker/{ID},task=tail,pid=13171,uid=0",
    "3,81848,52540062881,-;Memory cgroup out of memory: Killed process 13171 (tail) total-vm:66864kB, "
    "anon-rss:64768kB, file-rss:112kB, shmem-rss:0kB, UID:0 pgtables:168kB oom_score_adj:100",
]
# As Linux 6.1 of Debian 12 writes them, with version 2 and systemd's driver.
V2 = [
    f"6,901,3600000000,-;oom-kill:constraint=CONSTRAINT_MEMCG,nodemask=(null),cpuset=docker-{ID}.scope,mems_allowed=0,"
    f"oom_memcg=/system.slice/docker-{ID}.scope,task_memcg=/system.slice/docker-{ID}.scope,task=python3,pid=4711,uid=20001",
    "3,902,3600000100,-;Memory cgroup out of memory: Killed process 4711 (python3) total-vm:2200000kB, "
    "anon-rss:900000kB, file-rss:1024kB, shmem-rss:8kB, UID:20001 pgtables:1860kB oom_score_adj:900",
]
GLOBAL = [
    f"6,903,3700000000,-;oom-kill:constraint=CONSTRAINT_NONE,nodemask=(null),cpuset=/,mems_allowed=0,global_oom,"
    f"task_memcg=/docker/{ID},task=R,pid=99,uid=20001",
    "3,904,3700000100,-;Out of memory: Killed process 99 (R) total-vm:10kB, anon-rss:8kB, file-rss:0kB, shmem-rss:0kB, "
    "UID:20001 pgtables:4kB oom_score_adj:900",
]


def kills_of(*lines: str) -> list[tuple[str, int, str, int, bool]]:
    log = KernelLog()
    for line in lines:
        log.take(line + "\n SUBSYSTEM=x\n", BOOTED)
    return [(kill.group, kill.pid, kill.name, kill.memory_bytes, kill.of_server) for kill in log.kills]


def test_version_1() -> None:
    assert kills_of(*V1) == [(f"/docker/{ID}", 13171, "tail", (64768 + 112) * 1024, False)]


def test_version_2() -> None:
    held = (900000 + 1024 + 8) * 1024
    assert kills_of(*V2) == [(f"/system.slice/docker-{ID}.scope", 4711, "python3", held, False)]


def test_a_lack_of_the_servers_own_is_told_apart() -> None:
    assert kills_of(*V1, *GLOBAL)[1] == (f"/docker/{ID}", 99, "R", 8192, True)


def test_a_lack_of_a_group_that_has_many_containers_is_no_ones_own() -> None:
    """As of a slice of systemd's with a limit; whose own group it is may have groups below."""
    below = V2[0].replace(".scope,task=", ".scope/app,task=")
    assert [kill[4] for kill in kills_of(below, V2[1])] == [False]
    above = V2[0].replace(f"oom_memcg=/system.slice/docker-{ID}.scope", "oom_memcg=/instances.slice")
    assert [kill[4] for kill in kills_of(above, V2[1])] == [True]


def test_when_it_was() -> None:
    log = KernelLog()
    for line in V2:
        log.take(line, BOOTED)
    assert log.kills[0].at == datetime(2026, 3, 2, 1, 0, 0, 100, tzinfo=UTC)


def test_what_a_program_calls_itself_leads_nobody_astray() -> None:
    """Its name is the last of its user's words in a line; it looks like other fields, and names another group."""
    name = "x,pid=1,uid=0"
    why = V1[1].replace("task=tail", f"task={name}")
    assert kills_of(why, V1[2].replace("(tail)", f"({name})")) == [
        (f"/docker/{ID}", 13171, name, (64768 + 112) * 1024, False)
    ]
    assert kills_of(V1[2]) == [], "without a reason before it, it is no kill for memory"


def test_what_is_new_in_the_log_is_not_old_whatever_the_kernels_clock_says() -> None:
    log = KernelLog(now=lambda: BOOTED + 90_000)
    for line in V2:  # an hour after the boot, as the kernel counts
        log.take(line, BOOTED, since=BOOTED + 89_997)
    assert log.kills[0].at.timestamp() == BOOTED + 89_997


def test_a_log_that_grows_is_read_on_from_where_it_was(tmp_path: Path) -> None:
    """A pipe of records, as the device gives one for each read."""
    path = tmp_path / "kmsg"
    os.mkfifo(path)
    log = KernelLog(path)
    log.read()
    assert log.is_readable
    with path.open("wb", buffering=0) as kernel:
        assert not log.kills
        for line in V1[1:]:
            kernel.write(line.encode() + b"\n")
            log.read()
        assert [kill.name for kill in log.kills] == ["tail"]
        for line in V2:
            kernel.write(line.encode() + b"\n")
            log.read()
    assert [kill.name for kill in log.kills] == ["tail", "python3"]


def test_a_log_that_may_not_be_read_says_nothing(tmp_path: Path) -> None:
    log = KernelLog(tmp_path / "missing")
    log.read()
    assert not log.is_readable
    assert not log.kills
