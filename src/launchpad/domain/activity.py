"""What goes on inside an instance, and what of it is work: decided here, purely, of what was sampled."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import IntEnum
from functools import cache

MB = 1000**2
_SHOWN_CORES = 0.05  # fewer are told in a word


@dataclass(frozen=True)
class Program:
    """One of the busiest programs of an instance.

    Attributes:
        name: as its user knows it: "STAR", or "R: main.R" where an interpreter runs a script.
        cores: the mean since the look before, with the children that ended in between.
        memory_bytes: what it holds in memory, pages shared with others included.
        command: the beginning of its command line.
    """

    name: str
    cores: float
    memory_bytes: int
    command: str = ""


@dataclass(frozen=True)
class IdeSignals:
    """What the IDE itself says of its user's work.

    Attributes:
        busy: something is being carried out, whether or not it takes processor time now.
        reason: what, in the user's words; empty when nothing is.
        kernels: Jupyter's kernels, 0 where there are none or none was asked.
        terminals: terminals that are open.
        last_activity_at: when a kernel was last given something to do, or answered.
        terminal_input_at: when somebody typed into a terminal; the output of programs does not count.
    """

    busy: bool = False
    reason: str = ""
    kernels: int = 0
    terminals: int = 0
    last_activity_at: datetime | None = None
    terminal_input_at: datetime | None = None


QUIET = IdeSignals()


@dataclass(frozen=True)
class ActivitySample:
    """What one instance did since the look before, about half a minute ago.

    Attributes:
        cpu_cores: the mean; None at the first look, as are the four rates.
        ide_cpu_cores: what of it the IDE's own server took, which serves pages and does no work of its user's.
        memory_bytes: page cache included; `memory_without_cache_bytes` is what cannot be given up.
        processes: and threads.
        programs: the busiest first, the IDE's own server left out.
        job: the busiest of those that were begun in a terminal; None: none took any processor time.
    """

    instance_id: str
    sampled_at: datetime
    cpu_cores: float | None
    memory_bytes: int
    memory_without_cache_bytes: int
    processes: int
    disk_read_bytes_per_second: float | None = None
    disk_written_bytes_per_second: float | None = None
    network_received_bytes_per_second: float | None = None
    network_sent_bytes_per_second: float | None = None
    programs: tuple[Program, ...] = ()
    job: Program | None = None
    signals: IdeSignals = QUIET
    ide_cpu_cores: float = 0.0

    @property
    def work_cores(self) -> float:
        """Cores without those of the IDE's own server."""
        return max(0.0, (self.cpu_cores or 0.0) - self.ide_cpu_cores)

    @property
    def disk_bytes_per_second(self) -> float:
        return (self.disk_read_bytes_per_second or 0.0) + (self.disk_written_bytes_per_second or 0.0)

    @property
    def network_bytes_per_second(self) -> float:
        return (self.network_received_bytes_per_second or 0.0) + (self.network_sent_bytes_per_second or 0.0)


@dataclass(frozen=True)
class WorkThresholds:
    """From where on something is work: what an IDE does by itself, with an open tab, is below.

    Attributes:
        cores: besides the IDE's own server.
        terminal_cores: of one program that was begun in a terminal, which nothing starts but a person: so less of it
            shows that it goes on than of all that an IDE does by itself.
        disk_bytes_per_second, network_bytes_per_second: both directions together.
    """

    cores: float = 0.02
    disk_bytes_per_second: float = 200_000
    network_bytes_per_second: float = 20_000
    terminal_cores: float = 0.001


@dataclass(frozen=True)
class Work:
    """Whether an instance works. `evidence` says what it does, in the user's words; empty when it does not."""

    is_working: bool
    evidence: str = ""


NO_WORK = Work(False)


@dataclass(frozen=True)
class Activity:
    """What is known of a running instance.

    Attributes:
        sample: the newest.
        last_person_at: when a person last did something in it, its launch included. What an open page does
            by itself is nothing of a person's.
        last_work_at: when it was last seen working; None: not yet.
        work: what it does now.
    """

    sample: ActivitySample
    last_person_at: datetime
    last_work_at: datetime | None
    work: Work = NO_WORK

    @property
    def idle_since(self) -> datetime:
        """Since when neither a person nor work has been seen."""
        return max(self.last_person_at, self.last_work_at or self.last_person_at)


def work_of(samples: Sequence[ActivitySample], thresholds: WorkThresholds) -> Work:
    """Whether an instance worked in any of these samples; the evidence is of the latest in which it did.

    Args:
        samples: of one instance, in the order of their times.
    """
    for sample in reversed(samples):
        if evidence := _evidence(sample, thresholds):
            return Work(True, evidence)
    return NO_WORK


def _evidence(sample: ActivitySample, thresholds: WorkThresholds) -> str:
    """The first of these that says something: programs, what the IDE carries out, a terminal's job, network, disk."""
    if sample.work_cores >= thresholds.cores:
        busiest = max(sample.programs, key=lambda one: one.cores, default=None)
        if busiest is not None and busiest.cores >= thresholds.cores / 2:
            return f"{busiest.name}, {cores_in_words(busiest.cores)}"
        if not sample.signals.busy:
            return f"programs, {cores_in_words(sample.work_cores)}"
    if sample.signals.busy:
        return sample.signals.reason or "code is running"
    if sample.job is not None and sample.job.cores >= thresholds.terminal_cores:
        return f"{sample.job.name}, {cores_in_words(sample.job.cores)}"
    if sample.network_bytes_per_second >= thresholds.network_bytes_per_second:
        return f"transferring data, {rate_in_words(sample.network_bytes_per_second)}"
    if sample.disk_bytes_per_second >= thresholds.disk_bytes_per_second:
        return f"reading and writing files, {rate_in_words(sample.disk_bytes_per_second)}"
    return ""


def cores_in_words(cores: float) -> str:
    """ "11 cores", "1 core", "0.4 cores", "a little CPU"."""
    if cores < _SHOWN_CORES:
        return "a little CPU"
    text = f"{cores:.0f}" if cores >= 9.95 else f"{cores:.1f}".removesuffix(".0")
    return f"{text} core" if text == "1" else f"{text} cores"


def rate_in_words(bytes_per_second: float) -> str:
    """ "25 kB/s", "1.2 MB/s"."""
    if bytes_per_second < MB:
        return f"{bytes_per_second / 1000:.0f} kB/s"
    text = f"{bytes_per_second / MB:.0f}" if bytes_per_second >= 10 * MB else f"{bytes_per_second / MB:.1f}"
    return f"{text} MB/s"


# -- series ------------------------------------------------------------------------------------------------------------


class Step(IntEnum):
    """The resolutions at which activity is kept, in seconds."""

    MINUTE = 60
    QUARTER = 900
    HOUR = 3600


@dataclass(frozen=True)
class Point:
    """A step of an instance's series: means over the step's samples, the most of memory and processes.

    Attributes:
        at: the beginning of the step.
        was_working: in any of its samples.
        was_used: a person did something in it.
    """

    at: datetime
    cpu_cores: float
    memory_bytes: int
    memory_without_cache_bytes: int
    processes: int
    disk_read_bytes_per_second: float = 0.0
    disk_written_bytes_per_second: float = 0.0
    network_received_bytes_per_second: float = 0.0
    network_sent_bytes_per_second: float = 0.0
    was_working: bool = False
    was_used: bool = False


def step_of(at: datetime, step: Step) -> datetime:
    """The beginning of the step that `at` lies in; steps begin with the hours of UTC."""
    return datetime.fromtimestamp(at.timestamp() // step * step, at.tzinfo)


def merged(points: Iterable[Point], at: datetime) -> Point:
    """Several points, at least one, as one of a coarser step that begins at `at`."""
    few = list(points)

    def mean(name: str) -> float:
        return math.fsum(getattr(one, name) for one in few) / len(few)

    return Point(
        at,
        cpu_cores=mean("cpu_cores"),
        memory_bytes=max(one.memory_bytes for one in few),
        memory_without_cache_bytes=max(one.memory_without_cache_bytes for one in few),
        processes=max(one.processes for one in few),
        disk_read_bytes_per_second=mean("disk_read_bytes_per_second"),
        disk_written_bytes_per_second=mean("disk_written_bytes_per_second"),
        network_received_bytes_per_second=mean("network_received_bytes_per_second"),
        network_sent_bytes_per_second=mean("network_sent_bytes_per_second"),
        was_working=any(one.was_working for one in few),
        was_used=any(one.was_used for one in few),
    )


def point_of(sample: ActivitySample, at: datetime, *, was_working: bool, was_used: bool) -> Point:
    """One sample as a point of the step that begins at `at`."""
    return Point(
        at,
        cpu_cores=sample.cpu_cores or 0.0,
        memory_bytes=sample.memory_bytes,
        memory_without_cache_bytes=sample.memory_without_cache_bytes,
        processes=sample.processes,
        disk_read_bytes_per_second=sample.disk_read_bytes_per_second or 0.0,
        disk_written_bytes_per_second=sample.disk_written_bytes_per_second or 0.0,
        network_received_bytes_per_second=sample.network_received_bytes_per_second or 0.0,
        network_sent_bytes_per_second=sample.network_sent_bytes_per_second or 0.0,
        was_working=was_working,
        was_used=was_used,
    )


# -- what a person does ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class PersonRules:
    """Which requests to an environment only come when a person does something.

    A page load always counts, a WebSocket's handshake never: pages make those by themselves, again and again.

    Attributes:
        requests: regular expressions of `METHOD /path?query`, the path as the application's page knows it below the
            instance's own address; one that begins it is enough.
        quiet_header: a header whose value "0" says that the page asks by itself; empty: there is none.
    """

    requests: tuple[str, ...] = field(default=("(POST|PUT|PATCH|DELETE) /",))
    quiet_header: str = ""

    def is_persons_act(
        self, method: str, path: str, *, is_page_load: bool = False, is_upgrade: bool = False, quiet: str = ""
    ) -> bool:
        """Whether a request shows that a person does something.

        Args:
            path: with its query, below the instance's own address.
            quiet: the value of `quiet_header`, where there is one.
        """
        if is_upgrade or quiet.strip() == "0":
            return False
        return is_page_load or any(one.match(f"{method} {path}") for one in _compiled(self.requests))


@cache
def _compiled(requests: tuple[str, ...]) -> tuple[re.Pattern[str], ...]:
    found = []
    for request in requests:
        method, _, path = request.partition(" ")
        found.append(re.compile(f"(?:{method}) (?:{path})"))
    return tuple(found)
