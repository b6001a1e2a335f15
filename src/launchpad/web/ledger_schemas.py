"""What the API gives of the access ledger; its exports have the same columns."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from datetime import datetime
from enum import StrEnum
from typing import Any

from pydantic import BaseModel, Field

from ..domain.audit_words import act_in_words, actor_in_words, particulars_in_words
from ..domain.environments import Environment
from ..services.ledger import LedgerEntry
from .spreadsheets import csv_rows

COLUMNS = ("id", "at", "actor", "text", "details_text", "times", "last_at", "action", "subject", "everyone")


class ExportFormat(StrEnum):
    CSV = "csv"
    JSON = "json"


class LedgerView(BaseModel):
    """What somebody else did with one's things, or looked at."""

    id: int
    at: datetime
    actor: str = Field(description="An e-mail address, or `cli` for a command on the server.")
    action: str
    subject: str = Field(description="An instance's id, an e-mail address, or what else it was done to.")
    text: str = Field(description="What was done, in words.")
    details_text: str
    details: Mapping[str, Any]
    times: int = Field(description="How often, where something was viewed again within the hour.")
    last_at: datetime = Field(description="When for the last time.")
    everyone: bool = Field(description="It concerned everybody at once, such as a list of all instances.")

    @classmethod
    def of(cls, entry: LedgerEntry, catalogue: Mapping[str, Environment]) -> LedgerView:
        record = entry.record
        return cls(
            id=record.id,
            at=record.at,
            actor=record.actor,
            action=record.action,
            subject=record.subject,
            text=in_words(entry, catalogue),
            details_text=particulars_in_words(record.details),
            details=record.details,
            times=entry.times,
            last_at=entry.last_at,
            everyone=entry.is_everyones,
        )


def in_words(entry: LedgerEntry, catalogue: Mapping[str, Environment]) -> str:
    record = entry.record
    environment = catalogue.get(str(record.details.get("environment")))
    title = environment.title if environment is not None else ""
    return act_in_words(record.action, record.details, title, is_everyones=entry.is_everyones)


async def as_csv(pages: AsyncIterator[list[LedgerEntry]], catalogue: Mapping[str, Environment]) -> AsyncIterator[str]:
    """All of them as a table, a page at a time."""
    yield csv_rows([COLUMNS])
    async for page in pages:
        views = (LedgerView.of(entry, catalogue) for entry in page)
        rows = ({**view.model_dump(mode="json"), "actor": actor_in_words(view.actor)} for view in views)
        yield csv_rows([row[name] for name in COLUMNS] for row in rows)


async def as_json(pages: AsyncIterator[list[LedgerEntry]], catalogue: Mapping[str, Environment]) -> AsyncIterator[str]:
    """All of them as a JSON array, a page at a time."""
    before = "["
    async for page in pages:
        for entry in page:
            yield before + json.dumps(LedgerView.of(entry, catalogue).model_dump(mode="json"))
            before = ",\n"
    yield "]\n" if before != "[" else "[]\n"
