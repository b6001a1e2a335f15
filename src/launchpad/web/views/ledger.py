"""What pages show of the access ledger."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

from ...domain.audit_words import actor_in_words, particulars_in_words
from ...domain.environments import Environment
from ...services.ledger import LedgerEntry
from ..ledger_schemas import in_words


@dataclass(frozen=True)
class LedgerRow:
    """An entry as a line of a list. `times`: how often it was looked at, the last time at `last_at`."""

    at: datetime
    who: str
    what: str
    detail: str
    times: int
    last_at: datetime
    is_everyones: bool


def ledger_rows(entries: Iterable[LedgerEntry], catalogue: Mapping[str, Environment]) -> list[LedgerRow]:
    return [
        LedgerRow(
            at=entry.record.at,
            who=actor_in_words(entry.record.actor),
            what=in_words(entry, catalogue),
            detail=particulars_in_words(entry.record.details),
            times=entry.times,
            last_at=entry.last_at,
            is_everyones=entry.is_everyones,
        )
        for entry in entries
    ]
