"""What a card shows of what goes on in an instance: a line of words, small plots, and their numbers as a table."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise

from ...domain.activity import Activity, Point, Step, cores_in_words, merged, rate_in_words, step_of
from ...domain.instances import Instance, State
from ...domain.policy import Decision, Why
from ...domain.sizes import describe_bytes
from ...services.activity import KnowsActivity
from .idle import KnowsIdle
from .words import span_in_words

KEPT_PLOTS = 500
WIDTH, HEIGHT = 240, 48  # of a plot, in its own units
IN_USE_FOR = timedelta(minutes=5)  # since a person's last act, one counts as there
LEAST_CORES, LEAST_RATE = 0.1, 10_000.0  # what the top of a plot is at least: noise is no mountain


@dataclass(frozen=True)
class Plot:
    """One curve. `line` and `area` are paths; several pieces where nothing was recorded in between."""

    label: str
    now: str
    most: str
    line: str
    area: str


@dataclass(frozen=True)
class Row:
    """A line of the table, of the time from `at` on."""

    at: datetime
    cores: str
    memory: str
    disk: str


@dataclass(frozen=True)
class Span:
    """The last hour or day."""

    key: str
    title: str
    plots: tuple[Plot, ...]
    rows: tuple[Row, ...]


@dataclass(frozen=True)
class ActivityCard:
    """`text` says what it does now; `tone` is working, used or idle. `spans` are empty before anything was recorded."""

    text: str
    tone: str
    spans: tuple[Span, ...] = ()


class ActivityViews:
    """Builds them; curves are read once a minute at most."""

    def __init__(self, activity: KnowsActivity, idle: KnowsIdle) -> None:
        self._activity = activity
        self._idle = idle
        self._spans_of: OrderedDict[str, tuple[datetime, tuple[Span, ...]]] = OrderedDict()

    async def of(self, instance: Instance, now: datetime) -> ActivityCard | None:
        """None before the first look at it, and when it does not run."""
        known = self._activity.latest(instance.id) if instance.state is State.RUNNING else None
        if known is None:
            return None
        text, tone = text_of(known, now, self._idle.decision(instance, now))
        return ActivityCard(text, tone, await self._spans(instance, step_of(now, Step.MINUTE)))

    async def _spans(self, instance: Instance, minute: datetime) -> tuple[Span, ...]:
        kept = self._spans_of.get(instance.id)
        if kept is not None and kept[0] == minute:
            return kept[1]
        spans = await self._read(instance, minute)
        self._spans_of.pop(instance.id, None)
        self._spans_of[instance.id] = minute, spans
        if len(self._spans_of) > KEPT_PLOTS:
            self._spans_of.popitem(last=False)
        return spans

    async def _read(self, instance: Instance, minute: datetime) -> tuple[Span, ...]:
        hour, day = minute - timedelta(hours=1), step_of(minute, Step.QUARTER) - timedelta(hours=24)
        _, minutes = await self._activity.points(instance.id, hour, minute, Step.MINUTE)
        _, quarters = await self._activity.points(instance.id, day, minute, Step.QUARTER)
        if not minutes and not quarters:
            return ()
        cap = instance.limits.memory_bytes
        return (
            span_of("hour", "Last hour", minutes, hour, minute, Step.MINUTE, timedelta(minutes=5), cap),
            span_of("day", "Last day", quarters, day, minute, Step.QUARTER, timedelta(hours=1), cap),
        )


def text_of(known: Activity, now: datetime, decision: Decision | None = None) -> tuple[str, str]:
    """What it does now, in words, and the tone of it.

    Args:
        decision: what the idle policy makes of it; where its work alone keeps it from ending one day, that is said.
    """
    if known.work.is_working:
        alone = now - known.last_person_at >= IN_USE_FOR
        keeps = alone and decision is not None and decision.why is Why.WORKING
        return f"{'Kept running' if keeps else 'Working'}: {known.work.evidence}", "working"
    if now - known.last_person_at < IN_USE_FOR:
        return "In use", "used"
    return f"Idle for {span_in_words(now - known.idle_since)}", "idle"


def span_of(
    key: str,
    title: str,
    points: Sequence[Point],
    since: datetime,
    until: datetime,
    step: Step,
    row: timedelta,
    memory_bytes: int,
) -> Span:
    """The plots of a time and its table.

    Args:
        row: how long a line of the table is.
        memory_bytes: the instance's own, the top of its curve.
    """

    def plot(label: str, value: Callable[[Point], float], words: Callable[[float], str], top: float) -> Plot:
        values = [(point.at, value(point)) for point in points]
        highest = max((one for _, one in values), default=0.0)
        line, area = paths(values, since, until, step, max(top, highest))
        return Plot(label, words(values[-1][1]) if values else "none", words(highest), line, area)

    return Span(
        key,
        title,
        (
            plot("CPU", lambda one: one.cpu_cores, cores_in_words, LEAST_CORES),
            plot("Memory", lambda one: one.memory_without_cache_bytes, _bytes, memory_bytes),
            plot("Disk", _disk, rate_in_words, LEAST_RATE),
        ),
        rows_of(points, row),
    )


def rows_of(points: Sequence[Point], row: timedelta) -> tuple[Row, ...]:
    """A table of what the curves show, in fewer steps."""
    lines: dict[datetime, list[Point]] = {}
    seconds = row.total_seconds()
    for point in points:
        at = datetime.fromtimestamp(point.at.timestamp() // seconds * seconds, point.at.tzinfo)
        lines.setdefault(at, []).append(point)
    return tuple(
        Row(at, cores_in_words(one.cpu_cores), _bytes(one.memory_without_cache_bytes), rate_in_words(_disk(one)))
        for at, one in ((at, merged(few, at)) for at, few in lines.items())
    )


def paths(
    values: Sequence[tuple[datetime, float]], since: datetime, until: datetime, step: Step, top: float
) -> tuple[str, str]:
    """A curve and the area below it, as SVG's paths in a box of WIDTH by HEIGHT; a gap where steps are missing."""
    if not values:
        return "", ""
    whole = max((until - since).total_seconds(), 1.0)

    def place(at: datetime, value: float) -> tuple[float, float]:
        x = ((at - since).total_seconds() + step / 2) / whole * WIDTH
        return min(max(x, 0.0), float(WIDTH)), HEIGHT - 1 - value / top * (HEIGHT - 3)

    pieces: list[list[tuple[float, float]]] = [[place(*values[0])]]
    for (before, _), (at, value) in pairwise(values):
        if (at - before).total_seconds() > 1.5 * step:
            pieces.append([])
        pieces[-1].append(place(at, value))
    lines, areas = [], []
    for piece in pieces:
        if len(piece) == 1:  # one step alone is a dash
            x, y = piece[0]
            piece = [(x - 1.0, y), (x + 1.0, y)]
        text = " ".join(f"{x:.1f},{y:.1f}" for x, y in piece)
        lines.append(f"M{text}")
        areas.append(f"M{piece[0][0]:.1f},{HEIGHT} {text} {piece[-1][0]:.1f},{HEIGHT}Z")
    return "".join(lines), "".join(areas)


def _disk(point: Point) -> float:
    return point.disk_read_bytes_per_second + point.disk_written_bytes_per_second


def _bytes(number: float) -> str:
    return describe_bytes(int(number))
