"""What an instance cookie opens: the answer to what nginx asks at every request."""

from __future__ import annotations

from ...store import gate
from ...store.changes import Change, ChangeFeed
from ...store.database import Database
from ...store.gate import GateRow
from .remembered import Answer, Remembered

MOST = 10_000


class Entrances:
    """Answers with what is recorded, whatever the time and the state: the gate decides what follows from it."""

    def __init__(self, database: Database, feed: ChangeFeed) -> None:
        self._database = database
        self._rows: Remembered[tuple[str, str], GateRow] = Remembered(feed, MOST)

    async def of(self, secret_digest: str, instance_id: str) -> GateRow | None:
        """What the cookie and the instance belong to, or None when it is no cookie of that instance.

        Raises:
            StoreUnavailable: it is not known, and the database does not answer.
        """

        async def read() -> Answer[GateRow] | None:
            async with self._database.reading() as db:
                row = await gate.decide(db, secret_digest, instance_id)
            if row is None:
                return None
            made_of = (
                Change("grants", secret_digest),
                Change("instances", instance_id),
                Change("logins", row.login_id),
                Change("users", row.owner_id),
            )
            return Answer(row, made_of)

        return await self._rows.get((secret_digest, instance_id), read)
