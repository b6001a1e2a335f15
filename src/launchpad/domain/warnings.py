"""Which ends of instances somebody has to be warned of now. Pure."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

SHORTEST_LEAD = timedelta(minutes=5)  # a mail that comes later than that is of no use
TOGETHER = timedelta(hours=1)  # what would be told so much later, at most, is told along


class EndKind(StrEnum):
    """`EXPIRY`: its time is up, or what it was granted beyond it. `IDLE`: the idle policy. `FROZEN`: it may not stand
    still for longer. `MAINTENANCE`: announced.
    """

    EXPIRY = "expiry"
    IDLE = "idle"
    FROZEN = "frozen"
    MAINTENANCE = "maintenance"


@dataclass(frozen=True)
class IdleEnd:
    """When the idle policy ends an instance, unless it is used or works before.

    Attributes:
        idle_since: since when neither a person nor work has been seen.
        freezes: it is frozen then, rather than stopped.
    """

    ends_at: datetime
    idle_since: datetime
    freezes: bool = False


@dataclass(frozen=True)
class Ending:
    """One end of one instance that is to come.

    Attributes:
        known_since: since when this end can be known; None: it is news, however soon it comes.
        detail: why, where the kind does not say it.
    """

    instance_id: str
    kind: EndKind
    ends_at: datetime
    known_since: datetime | None = None
    detail: str = ""


@dataclass(frozen=True)
class Sent:
    """Somebody was warned of an end, `lead_seconds` before it."""

    instance_id: str
    kind: EndKind
    ends_at: datetime
    lead_seconds: int


def leads_of(ending: Ending, leads: Sequence[timedelta]) -> list[timedelta]:
    """How long before this end a warning is due: whoever has just chosen an end is not told of it at once.

    A lead counts where the end has been known for as long again by then; where none does, one at half the time.
    """
    if ending.known_since is None or not leads:
        return list(leads)
    span = ending.ends_at - ending.known_since
    fitting = [lead for lead in leads if 2 * lead <= span]
    if fitting or span / 2 < SHORTEST_LEAD:
        return fitting
    return [timedelta(seconds=int((span / 2).total_seconds()))]


@dataclass(frozen=True)
class Warning:
    """What one person is told in one mail: the endings, in the order of their times, and what to note as sent."""

    endings: tuple[Ending, ...]
    sent: tuple[Sent, ...]


def warning_of(
    endings: Sequence[Ending], leads: Sequence[timedelta], sent: Collection[Sent], now: datetime
) -> Warning | None:
    """What a person has to be told now of the ends of their instances; None: nothing.

    What falls due within the next quarter of its lead, an hour at most, is told along, so that several ends that fall
    together are one mail. A process that comes late tells what it missed once, not once for each lead.
    """
    told: list[Ending] = []
    noted: list[Sent] = []
    is_due = False
    for ending in endings:
        if ending.ends_at <= now:
            continue
        own = leads_of(ending, leads)
        reached = [lead for lead in own if ending.ends_at - lead <= now]
        soon = [lead for lead in own if ending.ends_at - lead <= now + min(lead / 4, TOGETHER)]
        if not soon or _sent(ending, min(soon)) in sent:
            continue
        is_due = is_due or (bool(reached) and _sent(ending, min(reached)) not in sent)
        told.append(ending)
        noted += [one for lead in soon if (one := _sent(ending, lead)) not in sent]
    if not is_due:
        return None
    return Warning(tuple(sorted(told, key=lambda one: (one.ends_at, one.instance_id, one.kind))), tuple(noted))


def _sent(ending: Ending, lead: timedelta) -> Sent:
    return Sent(ending.instance_id, ending.kind, ending.ends_at, int(lead.total_seconds()))
