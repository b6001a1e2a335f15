"""What is read of processes and of files inside: trees of files as the kernel shows them, and real terminals."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import time
from pathlib import Path, PurePosixPath
from typing import cast

import pytest

from launchpad.domain.usage import Usage
from launchpad.runtime.activity_reader import ActivityReader, Measured
from launchpad.runtime.control_groups import ControlGroup, ControlGroups
from launchpad.runtime.inside import data_folder_of, r_is_busy, terminals_of
from launchpad.runtime.processes import TICKS, ProcessLook, disk_bytes, look_at, network_bytes
from launchpad.runtime.program_names import is_ide_server, is_kernel, program_name

KERNEL = "/home/x/.local/share/jupyter/runtime/kernel-0f6e-11aa.json"


@pytest.mark.parametrize(
    ("command", "name"),
    [
        ("/usr/local/bin/STAR --runThreadN 11", "STAR"),
        ("/usr/lib/R/bin/exec/R --no-echo --no-restart --file=/home/x/main.R", "R: main.R"),
        ("/usr/lib/R/bin/exec/R -f main.R", "R: main.R"),
        ("/usr/lib/R/bin/exec/R", "R"),
        ("/usr/lib/rstudio-server/bin/rsession -u rstudio", "R"),
        ("python3 -u train.py --epochs 3", "Python: train.py"),
        ("/opt/conda/bin/python3.11 -m torch.distributed", "Python: torch.distributed"),
        ("python -c pass", "Python"),
        (f"/opt/conda/bin/python -m ipykernel_launcher -f {KERNEL}", "notebook kernel (Python)"),
        (f"/usr/lib/R/bin/exec/R --slave -e IRkernel::main() --args {KERNEL}", "notebook kernel (R)"),
        ("bash run.sh", "Shell: run.sh"),
        ("-bash", "bash"),
        ("bash -c while:;do:;done", "bash"),
        ("java -Xmx4g -jar /opt/picard.jar SortSam", "Java: picard.jar"),
        ("make -j2", "make"),
        ("cc1 -quiet x.c", "cc1"),
        ("\x1b[2Jevil\n", "[2Jevil"),
    ],
)
def test_programs_are_called_as_people_know_them(command: str, name: str) -> None:
    assert program_name("comm", command.split(" ")) == name


def test_what_has_no_command_line_is_called_as_the_kernel_does() -> None:
    assert program_name("kworker", []) == "kworker"
    assert program_name("x", [""]) == "x"


@pytest.mark.parametrize(
    ("comm", "command", "is_server"),
    [
        ("jupyter-lab", "/opt/conda/bin/python /opt/conda/bin/jupyter-lab --port=8888", True),
        ("rserver", "/usr/lib/rstudio-server/bin/rserver", True),
        ("tini", "tini -g -- start.sh", True),
        ("python3", "/usr/bin/python3 /usr/lib/rstudio-server/bin/rserver", True),
        ("rsession", "/usr/lib/rstudio-server/bin/rsession -u x", False),
        ("python", f"python -m ipykernel_launcher -f {KERNEL}", False),
        ("python", "python train.py", False),
        ("STAR", "STAR /home/x/jupyter-lab/genome", False),
    ],
)
def test_the_ides_own_servers_are_known(comm: str, command: str, is_server: bool) -> None:
    assert is_ide_server(comm, command.split(" ")) is is_server


def test_a_script_that_becomes_the_program_of_its_name_is_called_like_that(tmp_path: Path) -> None:
    """As R does; its name for the kernel, its number and its age stay."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "tool").symlink_to("/bin/cat")
    script = tmp_path / "tool"
    script.write_text(f"#!/bin/sh\nread line; exec {tmp_path}/bin/tool\n")
    script.chmod(0o755)

    def until_it_is(program: str, process: subprocess.Popen[bytes]) -> None:
        deadline = time.monotonic() + 60
        while Path(f"/proc/{process.pid}/cmdline").read_text().split("\0")[0] != program:
            assert time.monotonic() < deadline
            time.sleep(0.01)

    with subprocess.Popen([script], stdin=subprocess.PIPE) as process:
        assert process.stdin is not None
        until_it_is("/bin/sh", process)
        before = look_at([process.pid], None, 1.0, Path("/proc"))
        process.stdin.write(b"go on\n")
        process.stdin.flush()
        until_it_is(f"{tmp_path}/bin/tool", process)
        after = look_at([process.pid], before, 2.0, Path("/proc"))
        process.stdin.close()
    assert before.processes[process.pid].named.name == "Shell: tool"
    assert after.processes[process.pid].named.name == "tool"


def test_kernels_are_known_by_their_file() -> None:
    assert is_kernel(["java", "-jar", "kernel.jar", KERNEL])
    assert not is_kernel(["python", "kernel.json"])


class Proc:
    """A machine's /proc, as far as it is read."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def process(
        self,
        pid: int,
        command: str,
        *,
        own: int = 0,
        children: int = 0,
        parent: int = 1,
        started: int = 10,
        group: int = 0,
        session: int = 0,
        terminal: int = 0,
    ) -> None:
        """Ticks that it took itself, and those of its children that have ended."""
        folder = self.root / str(pid)
        folder.mkdir(exist_ok=True)
        words = command.split(" ")
        of_terminal = [str(number) for number in (group, session, terminal)]
        fields = [
            "S",
            str(parent),
            *of_terminal,
            *["0"] * 6,
            str(own),
            "0",
            str(children),
            "0",
            "20",
            "0",
            "1",
            "0",
            str(started),
        ]
        comm = words[0].rpartition("/")[2][:15]
        (folder / "stat").write_text(f"{pid} ({comm}) {' '.join(fields)} 4096 25 0\n")
        (folder / "cmdline").write_bytes(b"\0".join(word.encode() for word in words) + b"\0")

    def end(self, pid: int) -> None:
        for name in ("stat", "cmdline"):
            (self.root / str(pid) / name).unlink()


@pytest.fixture
def proc(tmp_path: Path) -> Proc:
    return Proc(tmp_path)


def looked(proc: Proc, *pids: int, before: ProcessLook | None = None, at: float = 0.0) -> ProcessLook:
    return look_at(pids, before, at, proc.root)


SHELL = {"group": 2, "session": 2, "terminal": 34816}


def job_of(
    proc: Proc, before: dict[int, int], after: dict[int, int], **jobs: dict[str, int]
) -> tuple[str, float] | None:
    """What is said of the busiest job, of processes' ticks before and after; `jobs` are commands and their places."""

    def write(ticks: dict[int, int]) -> ProcessLook:
        for pid, (command, where) in enumerate(jobs.items(), start=2):
            taken = {"children": ticks[pid]} if where is SHELL else {"own": ticks[pid]}
            proc.process(pid, command.replace("_", " "), **where, **taken)
        return looked(proc, *ticks, before=first, at=0.0 if first is None else 10.0)

    first: ProcessLook | None = None
    first = write(before)
    job = write(after).job
    return None if job is None else (job.name, job.cores)


FOREGROUND = {"group": 3, "session": 2, "terminal": 34816}
IN_NONE = {"group": 3, "session": 3, "terminal": 0}


def test_a_job_in_a_terminal_is_known_however_little_it_takes(proc: Proc) -> None:
    few = max(1, TICKS // 50)
    assert job_of(proc, {2: 5, 3: 7}, {2: 5, 3: 7 + few}, bash=SHELL, Rscript_loop=FOREGROUND) == (
        "R: loop",
        round(few / TICKS / 10, 3),
    )


def test_a_loop_in_the_shell_itself_is_a_job(proc: Proc) -> None:
    """It waits for one short program after the other, which no look sees."""
    assert job_of(proc, {2: 5}, {2: 5 + TICKS}, bash=SHELL) == ("bash", 0.1)


@pytest.mark.parametrize(
    ("command", "where", "taken"),
    [
        ("Rscript_loop", FOREGROUND, 0),  # waits for a person, or for ever
        ("python3_kernel", IN_NONE, 500),
        ("top", FOREGROUND, 500),
        ("watch_ls", FOREGROUND, 500),
    ],
)
def test_what_waits_what_has_no_terminal_and_what_only_watches_is_no_job(
    proc: Proc, command: str, where: dict[str, int], taken: int
) -> None:
    assert job_of(proc, {2: 5, 3: 7}, {2: 5, 3: 7 + taken}, bash=SHELL, **{command: where}) is None


def test_a_shell_that_is_typed_into_is_no_job(proc: Proc) -> None:
    """What it takes itself is not counted: its prompt, completions, what is typed."""
    proc.process(2, "bash", own=5, **SHELL)
    first = looked(proc, 2)
    proc.process(2, "bash", own=5 + TICKS, **SHELL)
    assert looked(proc, 2, before=first, at=10.0).job is None


@pytest.mark.slow  # waits for a clock
def test_the_kernel_tells_a_shell_and_its_jobs_apart(tmp_path: Path) -> None:
    """A real shell in a real terminal, at its prompt and with a program that sleeps and computes."""
    shell, terminal = pty.fork()
    if shell == 0:
        os.execvp("bash", ["bash", "--norc", "-i"])
    try:
        os.write(terminal, b"python3 -c 'while True: sum(range(100000)); __import__(\"time\").sleep(0.01)'\n")
        deadline = time.monotonic() + 60
        job = None
        while job is None:
            assert time.monotonic() < deadline
            pids = [shell, *children_of(shell)]
            before = look_at(pids, None, time.monotonic(), Path("/proc"))
            time.sleep(0.5)
            job = look_at(pids, before, time.monotonic(), Path("/proc")).job
        assert job.name == "Python"
    finally:
        os.kill(shell, signal.SIGKILL)
        os.waitpid(shell, 0)
        os.close(terminal)


def children_of(pid: int) -> list[int]:
    return [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def test_the_busiest_since_the_look_before_stands_first(proc: Proc) -> None:
    proc.process(2, "STAR", own=100)
    proc.process(3, "python train.py", own=5)
    proc.process(4, "sleep 100")
    first = looked(proc, 2, 3, 4)
    assert first.programs == ()
    proc.process(2, "STAR", own=100 + 110 * TICKS)
    proc.process(3, "python train.py", own=5 + 2 * TICKS)
    second = looked(proc, 2, 3, 4, before=first, at=10.0)
    assert [(one.name, one.cores) for one in second.programs] == [("STAR", 11.0), ("Python: train.py", 0.2)]


def test_programs_of_one_name_are_one(proc: Proc) -> None:
    for pid in (2, 3, 4, 5):
        proc.process(pid, "/usr/lib/R/bin/exec/R --file=main.R")
    first = looked(proc, 2, 3, 4, 5)
    for pid in (2, 3, 4, 5):
        proc.process(pid, "/usr/lib/R/bin/exec/R --file=main.R", own=10 * TICKS)
    (program,) = looked(proc, 2, 3, 4, 5, before=first, at=10.0).programs
    assert (program.name, program.cores) == ("R: main.R", 4.0)


def test_what_lived_between_two_looks_counts_for_who_waited_for_it(proc: Proc) -> None:
    proc.process(2, "make -j2")
    first = looked(proc, 2)
    proc.process(2, "make -j2", children=20 * TICKS)
    (program,) = looked(proc, 2, before=first, at=10.0).programs
    assert (program.name, program.cores) == ("make", 2.0)


def test_what_was_counted_before_is_not_counted_again_when_it_has_ended(proc: Proc) -> None:
    """Nor with a shell in between that has ended as well."""
    proc.process(2, "make -j2")
    proc.process(3, "sh -c cc", parent=2)
    proc.process(4, "cc1 x.c", parent=3, own=0)
    first = looked(proc, 2, 3, 4)
    proc.process(4, "cc1 x.c", parent=3, own=10 * TICKS)
    second = looked(proc, 2, 3, 4, before=first, at=10.0)
    assert [(one.name, one.cores) for one in second.programs] == [("cc1", 1.0)]
    proc.end(3)
    proc.end(4)
    proc.process(2, "make -j2", children=12 * TICKS)
    third = looked(proc, 2, 3, 4, before=second, at=20.0)
    assert [(one.name, one.cores) for one in third.programs] == [("make", 0.2)]


def test_a_number_that_is_used_again_is_another_process(proc: Proc) -> None:
    proc.process(2, "STAR", own=500 * TICKS)
    first = looked(proc, 2)
    proc.process(2, "samtools sort", own=1 * TICKS, started=99)
    (program,) = looked(proc, 2, before=first, at=10.0).programs
    assert (program.name, program.cores) == ("samtools", 0.1)


def test_the_ides_own_server_is_counted_apart(proc: Proc) -> None:
    proc.process(2, "python /opt/conda/bin/jupyter-lab", own=3 * TICKS)
    proc.process(3, f"python -m ipykernel_launcher -f {KERNEL}", own=TICKS)
    first = looked(proc, 2, 3)
    proc.process(2, "python /opt/conda/bin/jupyter-lab", own=9 * TICKS)
    second = looked(proc, 2, 3, before=first, at=10.0)
    assert second.programs == ()
    assert second.ide_cpu_seconds == 9.0
    assert second.kernels == 1


def test_one_that_has_ended_meanwhile_is_left_out(proc: Proc) -> None:
    proc.process(2, "STAR")
    assert set(looked(proc, 2, 77).processes) == {2}


def test_bytes_of_disks_and_networks(proc: Proc) -> None:
    proc.process(2, "dd")
    (proc.root / "2" / "io").write_text(
        "rchar: 1\nwchar: 2\nread_bytes: 4096\nwrite_bytes: 8192\ncancelled_write_bytes: 4096\n"
    )
    (proc.root / "2" / "net").mkdir()
    lines = (
        "Inter-| Receive",
        " face |bytes",
        "    lo: 999 1 0 0 0 0 0 0 999 1",
        "  eth0: 100 1 0 0 0 0 0 0 200 1",
        "  eth1:10 1 0 0 0 0 0 0 20 1",
    )
    (proc.root / "2" / "net" / "dev").write_text("\n".join(lines) + "\n")
    assert disk_bytes((2, 77), proc.root) == (4096, 4096)
    assert network_bytes(2, proc.root) == (110, 220)
    assert network_bytes(77, proc.root) == (0, 0)


def test_a_terminal_that_was_typed_into_says_so_and_one_that_printed_does_not() -> None:
    """Over this machine's own, whose kernel notes it to eight seconds: what is looked for is longer ago than that."""
    here = os.getpid()
    begun = time.time()
    controller, terminal = pty.openpty()
    try:
        before = terminals_of(here, Path("/proc"))
        name = os.ttyname(terminal)
        os.utime(terminal, (begun - 1000, begun - 1000))
        os.write(terminal, b"printed\n")
        assert os.stat(name).st_atime == pytest.approx(begun - 1000, abs=1)
        os.write(controller, b"typed\n")
        assert os.read(terminal, 10) == b"typed\n"
        after = terminals_of(here, Path("/proc"))
        assert os.stat(name).st_atime >= begun - 10
        assert after.input_at is not None
        assert after.input_at >= begun - 10
        assert before.number >= 1
    finally:
        os.close(controller)
        os.close(terminal)


class NoGroups:
    """Control groups that say next to nothing."""

    def measure(self, group: ControlGroup) -> tuple[Usage, int]:
        return Usage(0, 0.0, 1), 0

    def processes(self, group: ControlGroup) -> list[int]:
        return []

    def disk_bytes(self, group: ControlGroup) -> tuple[int, int]:
        return 0, 0


def test_a_terminal_whose_user_has_set_its_times_to_nonsense_ends_no_look() -> None:
    """It is the user's own, and so are its times; the look goes over everybody's containers."""
    reader = ActivityReader(cast(ControlGroups, NoGroups()))
    here = Measured("c", "i", os.getpid(), cast(ControlGroup, None))
    controller, terminal = pty.openpty()
    try:
        os.utime(terminal, (1e12, 1e12))
        found = reader.read_all([here])["i"]
    finally:
        os.close(controller)
        os.close(terminal)
    assert found.terminals >= 1
    assert found.terminal_input_at is None


class Inside:
    """A container's own files, as /proc/<pid>/root shows them."""

    def __init__(self, root: Path) -> None:
        self.proc = root / "proc"
        self.inside = root / "container"
        (self.proc / "5").mkdir(parents=True)
        self.inside.mkdir()
        (self.proc / "5" / "root").symlink_to(self.inside)
        self.session = self.inside / "home/x/.local/share/rstudio/sessions/active/session-1f"
        (self.session / "properites").mkdir(parents=True)
        self.folder = PurePosixPath("/home/x/.local/share/rstudio")

    def say(self, text: str) -> Path:
        file = self.session / "properites" / "executing"
        file.write_text(text)
        return file

    def is_busy(self, since: float = 0.0) -> bool:
        return r_is_busy(5, self.folder, since, self.proc)


@pytest.fixture
def inside(tmp_path: Path) -> Inside:
    return Inside(tmp_path)


def test_r_is_busy_when_rstudio_says_so(inside: Inside) -> None:
    assert not inside.is_busy()
    inside.say("0")
    assert not inside.is_busy()
    inside.say("1")
    assert inside.is_busy()


def test_the_word_of_a_session_that_was_killed_is_too_old(inside: Inside) -> None:
    file = inside.say("1")
    os.utime(file, (1000, 1000))
    assert inside.is_busy(since=999)
    assert not inside.is_busy(since=1001)


@pytest.mark.parametrize("what", ["folder", "session", "file", "pipe"])
def test_no_link_is_followed_and_nothing_but_a_file_is_read(inside: Inside, tmp_path: Path, what: str) -> None:
    """What is there belongs to the user, and whoever looks may be root."""
    file = inside.say("1")
    assert inside.is_busy()
    elsewhere = tmp_path / "elsewhere"
    place = {"folder": inside.inside / "home/x/.local", "session": inside.session, "file": file, "pipe": file}[what]
    place.rename(elsewhere)
    if what == "pipe":
        os.mkfifo(place)
    else:
        place.symlink_to(elsewhere)
    assert not inside.is_busy()


def test_where_rstudio_keeps_its_data(inside: Inside) -> None:
    variables = inside.proc / "5" / "environ"
    assert data_folder_of(5, inside.proc) is None
    for text, folder in (
        (b"A=1\0HOME=/home/x\0", "/home/x/.local/share/rstudio"),
        (b"HOME=/home/x\0XDG_DATA_HOME=/data\0", "/data/rstudio"),
        (b"XDG_DATA_HOME=/data\0RSTUDIO_DATA_HOME=/tmp/safe\0", "/tmp/safe"),
    ):
        variables.write_bytes(text)
        assert data_folder_of(5, inside.proc) == PurePosixPath(folder)
    variables.write_bytes(b"HOME=\0")
    assert data_folder_of(5, inside.proc) is None


def test_a_path_cannot_climb(inside: Inside) -> None:
    inside.say("1")
    assert not r_is_busy(5, PurePosixPath("/home/../home/x/.local/share/rstudio"), 0.0, inside.proc)
