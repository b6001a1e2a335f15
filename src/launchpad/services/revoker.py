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
from ..runtime.base import ConnectionCutter
from ..settings import Settings
from ..store import gate
from ..store.database import Database
from .gate import grant_is_open

log = structlog.get_logger(__name__)

CHECK_SECONDS = 1.0
# A request that the gate let in just before may reach the instance just after the cut; nginx keeps a yes for a second.
AGAIN_AFTER = timedelta(seconds=1.5)

Way = tuple[str, str]  # an instance's id and a login's


class ConnectionRevoker:
    def __init__(self, database: Database, settings: Settings, cutter: ConnectionCutter) -> None:
        self._database = database
        self._settings = settings
        self._cutter = cutter
        self._open: Mapping[Way, Address] | None = None
        self._admitted: dict[Way, Address] = {}
        self._again: dict[Address, datetime] = {}

    def note_admitted(self, instance_id: str, login_id: str, address: Address) -> None:
        """The gate has just said yes: even a way that opens and ends between two looks is known."""
        self._admitted[(instance_id, login_id)] = address

    async def check(self, now: datetime) -> list[Address]:
        """Cuts what has to be cut, and answers with it. Call it every CHECK_SECONDS.

        The first look knows nothing of before: it cuts at every running instance that nobody has a way into.

        Raises:
            StoreUnavailable: the database does not answer; the next look makes up for it.
        """
        admitted, self._admitted = self._admitted, {}  # what comes in from here on is compared at the next check
        try:
            ways = await self._active_grants()
        except StoreUnavailable:
            self._admitted = admitted | self._admitted
            raise
        still_open = {
            (way.instance_id, way.login_id): way.address
            for way in ways
            if way.login_id is not None and grant_is_open(way, self._settings, now)
        }
        before = {**(self._open or {}), **admitted}
        closed = {address for way, address in before.items() if still_open.get(way) != address}
        if self._open is None:
            closed |= {way.address for way in ways} - set(still_open.values())
        self._open = still_open
        due = {address for address, at in self._again.items() if now >= at}
        self._again = {address: at for address, at in self._again.items() if address not in due}
        self._again |= dict.fromkeys(closed, now + AGAIN_AFTER)
        addresses = sorted(closed | due, key=str)
        if addresses:
            log.info("connections.cut", addresses=[str(address) for address in addresses])
            await self._cutter.cut(addresses)
        return addresses

    async def _active_grants(self) -> list[gate.ActiveGrant]:
        async with self._database.reading() as db:
            return await gate.active_grants(db)
