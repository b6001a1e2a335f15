"""Closes what stays open when somebody's way into an instance ends: WebSockets, long polls, downloads.

nginx asks the gate when a request begins, and a WebSocket is one request for hours. So whoever is in is compared every
second with whoever was: where a way in has gone, whatever ended it and in whichever process (sign-out, suspension,
expiry of a login, stop or expiry of the instance), the instance's connections are cut. Those of its owner's other
browsers are cut with them, and come back by themselves.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta

import structlog

from ..domain.instances import Address
from ..errors import StoreUnavailable
from ..runtime.base import Runtime
from ..settings import Settings
from ..store import gate
from ..store.database import Database
from .gate import way_is_open

log = structlog.get_logger(__name__)

LOOK_SECONDS = 1.0
# A request that the gate let in just before may reach the instance just after the cut; nginx keeps a yes for a second.
AGAIN_AFTER = timedelta(seconds=1.5)

Way = tuple[str, str]  # an instance's id and a login's


class Doorkeeper:
    def __init__(self, database: Database, settings: Settings, runtime: Runtime) -> None:
        self._database = database
        self._settings = settings
        self._runtime = runtime
        self._open: Mapping[Way, Address] | None = None
        self._let_in: dict[Way, Address] = {}
        self._again: dict[Address, datetime] = {}

    def let_in(self, instance_id: str, login_id: str, address: Address) -> None:
        """The gate has just said yes: even a way that opens and ends between two looks is known."""
        self._let_in[(instance_id, login_id)] = address

    async def look(self, now: datetime) -> list[Address]:
        """Cuts what has to be cut, and answers with it. Call it every LOOK_SECONDS.

        The first look knows nothing of before: it cuts at every running instance that nobody has a way into.

        Raises:
            StoreUnavailable: the database does not answer; the next look makes up for it.
        """
        let_in, self._let_in = self._let_in, {}  # what comes in from here on is compared at the next look
        try:
            ways = await self._ways_in()
        except StoreUnavailable:
            self._let_in = let_in | self._let_in
            raise
        still_open = {
            (way.instance_id, way.login_id): way.address
            for way in ways
            if way.login_id is not None and way_is_open(way, self._settings, now)
        }
        before = {**(self._open or {}), **let_in}
        closed = {address for way, address in before.items() if still_open.get(way) != address}
        if self._open is None:
            closed |= {way.address for way in ways} - set(still_open.values())
        self._open = still_open
        due = {address for address, at in self._again.items() if now >= at}
        self._again = {address: at for address, at in self._again.items() if address not in due}
        self._again |= dict.fromkeys(closed, now + AGAIN_AFTER)
        addresses = sorted(closed | due, key=str)
        if addresses:
            log.info("doors.cut", addresses=[str(address) for address in addresses])
            await self._runtime.cut(addresses)
        return addresses

    async def _ways_in(self) -> list[gate.WayIn]:
        async with self._database.reading() as db:
            return await gate.ways_in(db)
