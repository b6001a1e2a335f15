"""In which order programs end for lack of memory: trees of processes as the kernel shows them, and real ones."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from launchpad.runtime.oom_order import AGAIN_SECONDS, SETTLES_SECONDS, OomOrder, Ordered
from launchpad.runtime.values import IDE_SCORE, PROGRAM_SCORE

KERNEL = "python -m ipykernel_launcher -f /home/x/.local/share/jupyter/runtime/kernel-0f6e-11aa.json"
ID = "c" * 64
OWNER = 20001


class Processes:
    """A /proc below a folder; all of its processes are of one container."""

    def __init__(self, folder: Path) -> None:
        self.proc, self.pids = folder, list[int]()
        self.seconds = 0.0
        self.orders = OomOrder(folder, lambda: self.seconds)

    def add(
        self, pid: int, parent: int, command: str, *, uid: int = OWNER, comm: str = "", score: int = IDE_SCORE
    ) -> None:
        """A new process, or one that became another program; `started` follows the numbers."""
        folder = self.proc / str(pid)
        is_new = not folder.exists()
        folder.mkdir(exist_ok=True)
        comm = comm or command.split(" ")[0].rpartition("/")[2][:15]
        (folder / "stat").write_text(f"{pid} ({comm}) S {parent} {' '.join('0' * 17)} {pid * 10} 0 0\n")
        (folder / "cmdline").write_text(command.replace(" ", "\0") + "\0")
        (folder / "cgroup").write_text(f"0::/system.slice/docker-{ID}.scope\n")
        (folder / "status").write_text(f"Name:\t{comm}\nUid:\t{uid}\t{uid}\t{uid}\t{uid}\n")
        if is_new:
            (folder / "oom_score_adj").write_text(f"{score}\n")
            self.pids.append(pid)

    def order(self, first: int) -> Ordered:
        return self.orders.order({ID: (first, self.pids)})

    def scores(self) -> Mapping[int, int]:
        return {pid: int((self.proc / str(pid) / "oom_score_adj").read_text()) for pid in self.pids}

    def moved(self) -> Sequence[int]:
        return [pid for pid, score in self.scores().items() if score == PROGRAM_SCORE]


@pytest.fixture
def processes(tmp_path: Path) -> Processes:
    return Processes(tmp_path)


def jupyterlab(processes: Processes) -> None:
    processes.add(10, 1, "tini -g -- start.sh start-notebook.py")
    processes.add(11, 10, "/opt/conda/bin/python /opt/conda/bin/jupyter-lab --port=8888", comm="jupyter-lab")


def rstudio(processes: Processes) -> None:
    """rocker/rstudio with s6: all but the session run as root or as RStudio's own user."""
    processes.add(10, 1, "s6-svscan -t0 /var/run/s6/services", uid=0)
    processes.add(11, 10, "s6-supervise s6-fdholderd", uid=0)
    processes.add(12, 10, "s6-supervise rstudio", uid=0)
    processes.add(13, 12, "/usr/lib/rstudio-server/bin/rserver --server-daemonize 0", uid=0)
    processes.add(14, 13, "/usr/lib/rstudio-server/bin/rsession -u rstudio")


def test_kernels_and_terminals_go_before_jupyters_server(processes: Processes) -> None:
    jupyterlab(processes)
    processes.add(12, 11, KERNEL, comm="python")
    processes.add(13, 11, "/bin/bash -l")
    processes.add(14, 13, "STAR --runThreadN 4")
    assert processes.order(10) == Ordered(moved=3)
    assert processes.moved() == [12, 13, 14]
    assert processes.scores()[11] == processes.scores()[10] == IDE_SCORE


def test_r_sessions_go_before_rstudios_server(processes: Processes) -> None:
    rstudio(processes)
    processes.add(15, 14, "bash -l")
    processes.order(10)
    assert processes.moved() == [14, 15]


def test_a_server_that_was_started_anew_is_still_the_ides(processes: Processes) -> None:
    """By its supervisor, with programs of the user's older than it."""
    rstudio(processes)
    processes.add(30, 10, "python train.py")
    processes.add(40, 12, "/usr/lib/rstudio-server/bin/rserver --server-daemonize 0", uid=0)
    processes.order(10)
    assert processes.moved() == [14, 30]


def test_without_an_init_the_first_process_is_the_server(processes: Processes) -> None:
    processes.add(11, 1, "/opt/conda/bin/python /opt/conda/bin/jupyter-lab", comm="jupyter-lab")
    processes.add(12, 11, KERNEL, comm="python")
    processes.order(11)
    assert processes.moved() == [12]


def test_nobody_is_spared_for_a_name(processes: Processes) -> None:
    """Neither below the server, nor as an orphan that the init has adopted, nor as a child of one's own."""
    jupyterlab(processes)
    processes.add(12, 11, "jupyter-lab hog.py", comm="jupyter-lab")
    processes.add(13, 10, "rserver", comm="rserver")
    processes.add(14, 13, "tini", comm="tini")
    processes.order(10)
    assert processes.moved() == [12, 13, 14]


def test_what_becomes_the_server_is_spared_although_it_was_something_else_first(processes: Processes) -> None:
    """As a script of s6's that becomes rserver."""
    processes.add(10, 1, "s6-svscan -t0", uid=0)
    processes.add(11, 10, "s6-supervise fdholderd", uid=0)
    processes.add(12, 10, "s6-supervise rstudio", uid=0)
    processes.add(13, 12, "bash ./run", uid=0)
    processes.order(10)
    assert processes.moved() == [13]
    processes.add(13, 12, "/usr/lib/rstudio-server/bin/rserver", uid=0)
    processes.seconds = 2
    assert processes.order(10) == Ordered(moved=1)
    assert processes.moved() == []


def test_who_lowers_their_own_score_is_put_back(processes: Processes) -> None:
    jupyterlab(processes)
    processes.add(12, 11, KERNEL, comm="python")
    processes.order(10)
    (processes.proc / "12" / "oom_score_adj").write_text("100\n")
    processes.seconds = SETTLES_SECONDS + AGAIN_SECONDS + 1
    processes.order(10)
    assert processes.moved() == [12]


def test_who_wants_to_go_first_may(processes: Processes) -> None:
    jupyterlab(processes)
    processes.add(12, 11, KERNEL, comm="python", score=1000)
    assert processes.order(10) == Ordered()
    assert processes.scores()[12] == 1000


def test_processes_that_are_old_are_left_alone_for_a_while(processes: Processes) -> None:
    jupyterlab(processes)
    processes.order(10)
    processes.seconds = SETTLES_SECONDS + 1
    processes.order(10)
    (processes.proc / "11" / "stat").unlink()
    processes.seconds += AGAIN_SECONDS / 2
    assert processes.order(10) == Ordered(), "nothing was read, or it would be gone"


def test_who_has_the_number_of_one_that_has_ended_is_left_alone(processes: Processes) -> None:
    """Numbers of processes come again: one is given away before the look, another between the look and the write."""
    jupyterlab(processes)
    for pid in (12, 13, 14):
        processes.add(pid, 11, KERNEL, comm="python")
    (processes.proc / "12" / "cgroup").write_text("0::/system.slice/ssh.service\n")
    look = processes.orders._look

    def given_away_meanwhile(seen: Any, pids: Sequence[int]) -> list[int]:
        due = look(seen, pids)
        stat = processes.proc / "13" / "stat"
        stat.write_text(stat.read_text().replace(" 130 0 0", " 999 0 0"))
        return due

    processes.orders._look = given_away_meanwhile  # type: ignore[method-assign]
    assert processes.order(10) == Ordered(moved=1)
    assert processes.moved() == [14]


def test_instances_are_not_spared_before_the_server_itself() -> None:
    """Services of the server have 0."""
    assert 0 < IDE_SCORE < PROGRAM_SCORE <= 1000


def test_real_processes_are_moved_and_moved_back() -> None:
    """Whoever may not lower a score may set it back as far as it was."""
    child = "subprocess.Popen([sys.executable, '-c', 'input()'])"
    parent = f"import subprocess, sys; {child}; print(1, flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", parent], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as server:
        assert server.stdout is not None
        assert server.stdout.readline() == "1\n"
        (below,) = Path("/proc", str(server.pid), "task", str(server.pid), "children").read_text().split()
        scores = [Path("/proc", pid, "oom_score_adj") for pid in (str(server.pid), below)]
        for one in scores:
            one.write_text(str(IDE_SCORE))
        # A container's id is in the path of its group; these are in the tests' own, whatever that is.
        assert OomOrder().order({"/": (server.pid, [server.pid, int(below)])}) == Ordered(moved=1)
        assert [int(one.read_text()) for one in scores] == [IDE_SCORE, PROGRAM_SCORE]
        assert OomOrder().order({"/": (int(below), [int(below)])}) == Ordered(moved=1)
        assert int(scores[1].read_text()) == IDE_SCORE
        server.communicate()
