"""Who sees to memory: what was ended is named by what it was called while it lived."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from launchpad.domain.memory import MemoryDeath
from launchpad.runtime.control_groups import ControlGroup, ControlGroups
from launchpad.runtime.kernel_log import KernelLog
from launchpad.runtime.memory_tender import KEPT, MemoryTender, Tended

ID = "ba8c6cd64068014ce16bd84361e0b13f4ba3a1e923fe5df4718ad28419234a58"
START = datetime(2026, 3, 2, 9, 30, tzinfo=UTC)
KERNEL = "python -m ipykernel_launcher -f /home/x/.local/share/jupyter/runtime/kernel-0f6e-11aa.json"
PAGES = 4096


class Container:
    """One container's group and processes below a folder, and a log of the kernel's."""

    def __init__(self, folder: Path, *, has_log: bool) -> None:
        self.proc, self.group = folder / "proc", folder / "group"
        self.group.mkdir(parents=True)
        self.count(0)
        self.pids = dict[int, str]()
        log = KernelLog(folder / "kmsg")
        if has_log:
            (folder / "kmsg").touch()
        self.log, self.now = log, START
        self.tender = MemoryTender(ControlGroups(self.proc), self.proc, log, lambda: self.now)
        group = ControlGroup(2, self.group, self.group, self.group, self.group, self.group)
        self.tended = Tended(ID, "a" * 16, 10, group)

    def count(self, kills: int) -> None:
        (self.group / "memory.events").write_text(f"low 0\noom 0\noom_kill {kills}\n")

    def add(self, pid: int, command: str, megabytes: int = 1, comm: str = "python", parent: int = 1) -> None:
        folder = self.proc / str(pid)
        folder.mkdir(parents=True)
        rss = megabytes * 1024**2 // PAGES
        (folder / "stat").write_text(f"{pid} ({comm}) S {parent} {' '.join('0' * 17)} {pid} 0 {rss}\n")
        (folder / "cmdline").write_text(command.replace(" ", "\0") + "\0")
        (folder / "status").write_text("Uid:\t20001\t20001\t20001\t20001\n")
        (folder / "cgroup").write_text(f"0::/system.slice/docker-{ID}.scope\n")
        (folder / "oom_score_adj").write_text("100\n")
        self.pids[pid] = comm
        self._write()

    def end(self, pid: int) -> None:
        del self.pids[pid]
        for file in (self.proc / str(pid)).iterdir():
            file.unlink()
        self._write()

    def killed(self, pid: int, comm: str, kilobytes: int, microseconds: int) -> None:
        path, boot = f"/system.slice/docker-{ID}.scope", START.timestamp()
        self.log.take(
            f"6,1,{microseconds},-;oom-kill:constraint=CONSTRAINT_MEMCG,x,task_memcg={path},task={comm},pid={pid},uid=1",
            boot,
        )
        held = f"total-vm:9kB, anon-rss:{kilobytes}kB, file-rss:0kB, shmem-rss:0kB"
        self.log.take(f"3,2,{microseconds},-;Memory cgroup out of memory: Killed process {pid} ({comm}) {held}", boot)

    def scores(self) -> dict[int, int]:
        return {pid: int((self.proc / str(pid) / "oom_score_adj").read_text()) for pid in self.pids}

    def tend(self, seconds: float = 3) -> tuple[MemoryDeath, ...]:
        self.now += timedelta(seconds=seconds)
        return self.tender.tend([self.tended]).get("a" * 16, ())

    def _write(self) -> None:
        (self.group / "cgroup.procs").write_text("".join(f"{pid}\n" for pid in self.pids))


def test_the_log_says_how_much_and_the_last_look_what_it_was(tmp_path: Path) -> None:
    one = Container(tmp_path, has_log=True)
    one.add(10, "tini", comm="tini")
    one.add(12, KERNEL)
    assert one.tend() == ()
    one.end(12)
    one.killed(12, "python", 1_000_000, 4_000_000)
    death = MemoryDeath("notebook kernel (Python)", 1_024_000_000, START + timedelta(seconds=4))
    assert one.tend() == (death,)
    assert one.tend() == (death,), "told again, for whoever has not heard"
    assert one.tend(KEPT.total_seconds()) == ()


def test_one_that_is_looked_at_while_it_ends_keeps_its_name(tmp_path: Path) -> None:
    """It is still listed when its memory is gone, which a large one takes a while to give back."""
    one = Container(tmp_path, has_log=True)
    one.add(12, KERNEL)
    one.tend()
    (one.proc / "12" / "cmdline").write_text("")
    one.tend()
    one.killed(12, "python", 1_000_000, 4_000_000)
    assert [death.program for death in one.tend()] == ["notebook kernel (Python)"]
    one.end(12)
    assert [death.program for death in one.tend()] == ["notebook kernel (Python)"]


def test_of_a_container_that_was_restarted_nothing_is_moved_until_its_first_process_is_known(tmp_path: Path) -> None:
    """It has the same id, as after `docker restart`; its server would be taken for a user's program."""
    one = Container(tmp_path, has_log=True)
    one.add(10, "tini", comm="tini")
    one.add(11, "python /opt/conda/bin/jupyter-lab", comm="jupyter-lab", parent=10)
    one.tend()
    assert not one.tender.restarted
    for pid in (10, 11):
        one.end(pid)
    one.add(20, "tini", comm="tini")
    one.add(21, "python /opt/conda/bin/jupyter-lab", comm="jupyter-lab", parent=20)
    one.add(22, KERNEL)
    one.tend()
    assert one.tender.restarted == {ID}
    assert one.scores() == {20: 100, 21: 100, 22: 100}
    one.tended = replace(one.tended, pid=20)
    one.tend()
    assert not one.tender.restarted
    assert one.scores() == {20: 100, 21: 100, 22: 900}


def test_an_r_session_is_called_so(tmp_path: Path) -> None:
    one = Container(tmp_path, has_log=True)
    one.add(12, "/usr/lib/rstudio-server/bin/rsession -u x", comm="rsession")
    one.tend()
    one.end(12)
    one.killed(12, "rsession", 1000, 4_000_000)
    assert [death.program for death in one.tend()] == ["R session"]


def test_what_nobody_has_seen_is_called_as_the_kernel_does(tmp_path: Path) -> None:
    """Its number was another program's before."""
    one = Container(tmp_path, has_log=True)
    one.add(12, KERNEL)
    one.tend()
    one.end(12)
    one.killed(12, "STAR", 1000, 4_000_000)
    one.killed(13, "samtools", 1000, 5_000_000)
    assert [death.program for death in one.tend()] == ["STAR", "samtools"]


def test_a_program_that_has_taken_its_name_away_is_told_of_without_one(tmp_path: Path) -> None:
    one = Container(tmp_path, has_log=True)
    one.tend()
    one.killed(12, "", 1000, 4_000_000)
    assert [death.program for death in one.tend()] == ["a program"]


def test_without_the_log_the_count_tells_and_the_largest_that_is_gone_was_it(tmp_path: Path) -> None:
    """How much it held then, nobody knows. What ends by itself is nothing of the kernel's."""
    one = Container(tmp_path, has_log=False)
    one.add(10, "tini", comm="tini")
    one.add(12, KERNEL, megabytes=900)
    one.add(13, "bash", megabytes=5, comm="bash")
    one.count(2)
    assert one.tend() == (), "what was before this process is not news"
    one.end(13)
    assert one.tend() == ()
    one.add(14, "make", megabytes=3, comm="make")
    one.tend()
    one.end(12)
    one.end(14)
    one.count(3)
    assert one.tend() == (MemoryDeath("notebook kernel (Python)", None, one.now),)
    assert len(one.tend()) == 1


@pytest.mark.parametrize("has_log", [True, False])
def test_programs_are_put_in_order_at_each_pass(tmp_path: Path, has_log: bool) -> None:
    one = Container(tmp_path, has_log=has_log)
    one.add(10, "/opt/conda/bin/jupyter-lab", comm="jupyter-lab")
    one.add(12, KERNEL)
    one.tend()
    scores = [(one.proc / str(pid) / "oom_score_adj").read_text().strip() for pid in (10, 12)]
    assert scores == ["100", "900"]
