"""What two looks at a container say together, and the minutes that are gathered of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from ..domain.activity import ActivitySample, IdeSignals, Point, Step, merged, point_of, step_of
from ..domain.usage import ContainerActivity
from .ide_signals import Kernels


@dataclass
class Look:
    """What a container's counters were at the look before."""

    at: datetime
    container: ContainerActivity


@dataclass
class Minutes:
    """Samples of minutes that are not written yet, by their instances."""

    points: dict[str, dict[datetime, list[Point]]] = field(default_factory=dict)

    def add(self, sample: ActivitySample, *, was_working: bool, was_used: bool) -> None:
        at = step_of(sample.sampled_at, Step.MINUTE)
        point = point_of(sample, at, was_working=was_working, was_used=was_used)
        self.points.setdefault(sample.instance_id, {}).setdefault(at, []).append(point)

    def take_until(self, end: datetime) -> dict[str, list[Point]]:
        """The minutes that are over at `end`."""
        done: dict[str, list[Point]] = {}
        for instance_id in list(self.points):
            theirs = self.points[instance_id]
            over = [at for at in theirs if at < end]
            if over:
                done[instance_id] = [merged(theirs.pop(at), at) for at in over]
            if not theirs:
                del self.points[instance_id]
        return done

    def give_back(self, points: Mapping[str, Sequence[Point]]) -> None:
        """What could not be written."""
        for instance_id, theirs in points.items():
            for point in theirs:
                self.points.setdefault(instance_id, {}).setdefault(point.at, []).append(point)


def sampled(
    instance_id: str, now: datetime, container: ContainerActivity, before: Look | None, signals: IdeSignals
) -> ActivitySample:
    """What a container did since the look before; nothing can be said of rates at the first."""
    seconds = (now - before.at).total_seconds() if before is not None else 0.0
    earlier = before.container if before is not None and seconds > 0 else None

    def rate(count: Callable[[ContainerActivity], float]) -> float | None:
        if earlier is None or container.usage.cpu_seconds < earlier.usage.cpu_seconds:
            return None  # the first look, or another container of the instance
        return max(0.0, count(container) - count(earlier)) / seconds

    return ActivitySample(
        instance_id,
        now,
        cpu_cores=rate(lambda one: one.usage.cpu_seconds),
        memory_bytes=container.memory_with_cache_bytes,
        memory_without_cache_bytes=container.usage.memory_bytes,
        processes=container.usage.pids,
        disk_read_bytes_per_second=rate(lambda one: one.disk_read_bytes),
        disk_written_bytes_per_second=rate(lambda one: one.disk_written_bytes),
        network_received_bytes_per_second=rate(lambda one: one.network_received_bytes),
        network_sent_bytes_per_second=rate(lambda one: one.network_sent_bytes),
        programs=container.programs,
        job=container.job,
        signals=signals,
        ide_cpu_cores=rate(lambda one: one.ide_cpu_seconds) or 0.0,
    )


def signals_of(
    container: ContainerActivity, kernels: Kernels | None, before: IdeSignals | None, now: datetime
) -> IdeSignals:
    """What the IDE of a container says. What a user's programs say of time is believed up to now.

    A Jupyter server that has no time to answer carries out what it did before, as far as anybody knows; one that stands
    still carries out nothing.

    Args:
        kernels: what it answered; None: it was not asked, or did not answer.
        before: what was known of it before, also to another process.
    """
    busy, last = container.r_is_busy and not container.is_paused, None
    reason = "R is running code" if busy else ""
    if kernels is not None:
        last = kernels.last_activity_at
        if kernels.busy:
            busy, reason = (
                True,
                "a notebook is running" if kernels.busy == 1 else f"{kernels.busy} notebooks are running",
            )
    elif container.kernels and before is not None:
        last = before.last_activity_at
        if not container.is_paused:
            busy, reason = busy or before.busy, reason or before.reason
    typed = container.terminal_input_at
    return IdeSignals(
        busy,
        reason,
        container.kernels,
        container.terminals,
        min(last, now) if last is not None else None,
        min(typed, now) if typed is not None else None,
    )
