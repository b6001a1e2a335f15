"""What labs are guaranteed and may have at most: the settings', until an administrator changes it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection

from ..domain.audit_words import changes_in_words
from ..domain.lab_capacity import LabCapacity, labs_of, labs_table, problems
from ..errors import EngineUnavailable, InvalidInput
from ..settings import Settings
from ..store import audit, kv
from ..store.database import Database
from .audit import Actor
from .offers import OfferService

_KEY = "lab_capacity"


class LabCapacityService:
    def __init__(self, database: Database, settings: Settings, offers: OfferService) -> None:
        self._database = database
        self._offers = offers
        self._of_settings = {one.lab: one.capacity for one in settings.lab_capacity}

    async def labs(self) -> dict[str, LabCapacity]:
        """By the names of the labs that have a capacity of their own."""
        async with self._database.reading() as db:
            return await self.labs_in(db)

    async def labs_in(self, db: AsyncConnection) -> dict[str, LabCapacity]:
        """As `labs`, inside a transaction."""
        changed: dict[str, dict[str, Any]] | None = await kv.get(db, _KEY)
        return dict(self._of_settings) if changed is None else labs_of(changed)

    async def set_lab(self, lab: str, capacity: LabCapacity, actor: Actor, now: datetime) -> dict[str, LabCapacity]:
        """Sets one lab's; nothing guaranteed and no maximum removes it. Running instances keep what they have.

        Raises:
            InvalidInput: with what is wrong, by `lab`, or by "" where labs are guaranteed more than the server has.
        """
        try:
            server = await self._offers.capacity()
        except EngineUnavailable:
            server = None
        lab = lab.strip()
        if not lab:
            raise InvalidInput("Which lab?", fields={"lab": "fill this in"})
        async with self._database.transaction() as db:
            before = await self.labs_in(db)
            labs = {**before, lab: capacity}
            if capacity.is_nothing:
                del labs[lab]
            if found := problems(labs, server):
                fields = {"" if not name else "lab": text for name, text in found.items()}
                raise InvalidInput(f"That cannot be set: {'; '.join(found.values())}.", fields=fields)
            await kv.put(db, _KEY, labs_table(labs), now)
            await audit.add(
                db,
                at=now,
                actor=actor.name,
                client=actor.client,
                action="lab_capacity.changed",
                subject=lab,
                details=changes_in_words(_one(before, lab), _one(labs, lab)),
            )
        return labs


def _one(labs: Mapping[str, LabCapacity], lab: str) -> dict[str, Any]:
    return labs_table({lab: labs.get(lab, LabCapacity())})[lab]
