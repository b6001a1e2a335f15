"""What pages show of a home's use, and of everybody's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from urllib.parse import urlencode

from ...domain.home_lists import LabHomes, Sort, UserHome
from ...domain.home_use import NEARLY_FULL, MeasuredUse, signed_bytes, trend_in_words
from ...domain.instances import NEARLY, home_is_full
from ...domain.sizes import describe_bytes
from .meters import Meter, bytes_meter

PATH = "/admin/storage"


@dataclass(frozen=True)
class HomeCard:
    """Of the reader's own home, or of the disk of all. `warning` is empty while there is room; `tone` is its."""

    meter: Meter
    trend: str
    warning: str
    tone: str
    measured_at: datetime


def home_card(use: MeasuredUse | None) -> HomeCard | None:
    """None where nothing is known, as before the first launch."""
    if use is None or use.used_bytes is None:
        return None
    meter = bytes_meter("Files", use.used_bytes, use.limit_bytes)
    if use.is_floor:
        meter = Meter(meter.label, f"at least {meter.text}", meter.used, meter.total)
    warning, tone = _warning(use)
    trend = trend_in_words(use)
    return HomeCard(meter, trend[:1].upper() + trend[1:], warning, tone, use.measured_at)


def _warning(use: MeasuredUse) -> tuple[str, str]:
    full = home_is_full(use.used_bytes, use.limit_bytes, use.free_bytes)
    if full is not None and (use.share or 0.0) < NEARLY:
        return "The server's disk is full: nothing more can be saved. Your administrators have to make room.", "bad"
    if full is not None:
        return "Full: nothing more can be saved. Remove what you no longer need, or ask for more space.", "bad"
    if use.share is not None and use.share >= NEARLY_FULL:
        left = describe_bytes((use.limit_bytes or 0) - (use.used_bytes or 0))
        return f"Nearly full: {left} left. When it is full, nothing more can be saved.", "warn"
    return "", ""


def disk_card(use: MeasuredUse | None) -> HomeCard | None:
    """The disk that homes lie on, with everything else on it."""
    card = home_card(use)
    if use is None or card is None:
        return None
    free = describe_bytes(use.free_bytes or 0)
    meter = Meter("Used on the disk with home folders", f"{card.meter.text}, {free} free", *_of(card.meter))
    full = home_is_full(use.used_bytes, use.limit_bytes, use.free_bytes) is not None
    warning = "Full: nobody can save anything." if full else f"Nearly full: {free} left." if card.warning else ""
    return HomeCard(meter, card.trend, warning, card.tone, card.measured_at)


def _of(meter: Meter) -> tuple[float, float | None]:
    return meter.used, meter.total


@dataclass(frozen=True)
class UseCells:
    """Of a home, or of a lab's, in words; empty where nothing is known."""

    used: str = ""
    limit: str = ""
    share: str = ""
    week: str = ""
    month: str = ""
    of_disk: str = ""
    level: str = "ok"
    meter: Meter | None = None


def _grown(number: int | None) -> str:
    return "" if number is None else signed_bytes(number)


def _part(used_bytes: int, disk: MeasuredUse | None) -> str:
    """ "12 % of the disk"; empty where that is next to nothing."""
    if disk is None or not disk.limit_bytes or used_bytes < disk.limit_bytes / 100:
        return ""
    return f"{used_bytes / disk.limit_bytes:.0%} of the disk".replace("%", " %")


@dataclass(frozen=True)
class HomeRow:
    """A user on the administrators' list."""

    user_id: str
    email: str
    username: str
    lab: str | None
    cells: UseCells
    measured_at: datetime | None

    @classmethod
    def of(cls, one: UserHome, disk: MeasuredUse | None) -> HomeRow:
        user, use = one.user, one.use
        cells = UseCells()
        if use is not None and use.used_bytes is not None:
            meter = bytes_meter("Files", use.used_bytes, use.limit_bytes)
            cells = UseCells(
                used=f"{'≥ ' if use.is_floor else ''}{describe_bytes(use.used_bytes)}",
                limit=describe_bytes(use.limit_bytes) if use.limit_bytes else "none",
                share=f"{use.share:.0%}".replace("%", " %") if use.share is not None else "",
                week=_grown(use.growth.week_bytes),
                month=_grown(use.growth.month_bytes),
                of_disk=_part(use.used_bytes, disk),
                level="full" if (use.share or 0) >= NEARLY else "high" if (use.share or 0) >= NEARLY_FULL else "ok",
                meter=meter,
            )
        at = use.measured_at if use is not None and use.used_bytes is not None else None
        return cls(user.id, user.email, user.username, user.lab, cells, at)


@dataclass(frozen=True)
class LabRow:
    """A lab on the administrators' list; `lab` None: people without one."""

    lab: str | None
    people: int
    cells: UseCells

    @classmethod
    def of(cls, one: LabHomes, disk: MeasuredUse | None) -> LabRow:
        cells = UseCells(
            used=describe_bytes(one.used_bytes),
            limit=describe_bytes(one.limit_bytes) if one.limit_bytes else "none",
            week=_grown(one.grown_week_bytes),
            month=_grown(one.grown_month_bytes),
            of_disk=_part(one.used_bytes, disk),
        )
        return cls(one.lab, one.people, cells)


@dataclass(frozen=True)
class Column:
    """A column that the list can be sorted by, and the address that does it."""

    label: str
    sort: Sort
    path: str
    chosen: bool

    @property
    def direction(self) -> str:
        return "ascending" if self.sort is Sort.EMAIL else "descending"


COLUMNS: Mapping[Sort, str] = {
    Sort.EMAIL: "Person",
    Sort.USED: "Used",
    Sort.SHARE: "Of limit",
    Sort.WEEK: "7 days",
    Sort.MONTH: "30 days",
}


def columns(chosen: Sort, search: str) -> list[Column]:
    """The heads of the list."""
    return [Column(label, sort, path_of(sort, search), sort is chosen) for sort, label in COLUMNS.items()]


def path_of(sort: Sort, search: str = "", **more: str) -> str:
    """The address of a list."""
    given = {"q": search, "sort": "" if sort is Sort.USED else sort.value, **more}
    query = urlencode({name: value for name, value in given.items() if value})
    return f"{PATH}?{query}" if query else PATH
