"""Closes what stays open when a user's access to an instance ends: WebSockets, long polls, downloads.

nginx asks the gate when a request begins, and a WebSocket is one request for hours. So the open grants are compared
every second with those of before: where one has gone, whatever ended it and in whichever process (sign-out, suspension,
expiry of a login, stop or expiry of the instance), the instance's connections are cut. Those of its owner's other
browsers are cut with them, and come back by themselves. What could not be cut stays due until it has been, or until the
port has another instance: the connections have ended with the container they led to, and those of now are others'.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from enum import Enum

import structlog

from ..domain.instances import Address
from ..errors import LaunchpadError
from ..runtime.base import ConnectionCutter
from ..settings import Settings
from ..store import gate
from ..store.database import Database
from .background import Loop, periodic
from .gate import grant_is_open

log = structlog.get_logger(__name__)

CHECK_SECONDS = 1.0
LATE_AFTER_SECONDS = 5.0  # as is promised of an open connection
# A request that the gate let in just before may reach the instance just after the cut; nginx keeps a yes for a second.
AGAIN_AFTER = timedelta(seconds=1.5)
SINGLES_FAILED = 3  # in a row: nothing works at the moment, and the next look is soon

Grant = tuple[str, str]  # an instance's id and a login's
Target = tuple[Address, str]  # where to cut, and the id of the instance that was there


class Cut(Enum):
    """A first cut is followed by another one."""

    FIRST = "first"
    AGAIN = "again"


class ConnectionRevoker:
    """Asks the cutter again and again for what it could not cut."""

    def __init__(self, database: Database, settings: Settings, cutter: ConnectionCutter) -> None:
        self._database = database
        self._settings = settings
        self._cutter = cutter
        self._open: Mapping[Grant, Address] | None = None
        self._admitted: dict[Grant, Address] = {}
        self._due: dict[Target, Cut] = {}  # not cut yet; those that have failed last come last
        self._again: dict[Target, datetime] = {}

    def loop(self, now: Callable[[], datetime]) -> Loop:
        return periodic(
            "connections",
            lambda: self.check(now()),
            every_seconds=CHECK_SECONDS,
            late_after_seconds=LATE_AFTER_SECONDS,
            longest_retry_seconds=CHECK_SECONDS,
        )

    def note_admitted(self, instance_id: str, login_id: str, address: Address) -> None:
        """The gate has just said yes: even a grant that opens and ends between two looks is known."""
        self._admitted[(instance_id, login_id)] = address

    async def check(self, now: datetime) -> list[Address]:
        """Cuts what has to be cut, and answers with it. Call it every CHECK_SECONDS.

        The first look knows nothing of before: it cuts at every instance that nobody has access to, also where one is
        being stopped: whoever decided that may have died before its connections were cut.

        Raises:
            StoreUnavailable: the database does not answer; the next look makes up for it.
            LaunchpadError, OSError: not everything could be cut; the next look tries it again.
        """
        admitted, self._admitted = self._admitted, {}  # what comes in from here on is compared at the next look
        grants: list[gate.ActiveGrant] | None = None
        try:
            async with self._database.reading() as db:
                grants = await gate.active_grants(db)
        finally:
            if grants is None:
                self._admitted = admitted | self._admitted
        still_open = {
            (grant.instance_id, grant.login_id): grant.address
            for grant in grants
            if grant.is_running and grant.login_id is not None and grant_is_open(grant, self._settings, now)
        }
        before = {**(self._open or {}), **admitted}
        closed = {(address, grant[0]) for grant, address in before.items() if still_open.get(grant) != address}
        if self._open is None:
            open_addresses = set(still_open.values())
            closed |= {(grant.address, grant.instance_id) for grant in grants if grant.address not in open_addresses}
        # What has ended is due before it is forgotten that it was open. A clock may be set back between two cuts.
        again = {target for target, at in self._again.items() if now >= at or at - now > AGAIN_AFTER}
        self._due.update(dict.fromkeys(sorted(again, key=str), Cut.AGAIN))
        self._due.update(dict.fromkeys(sorted(closed, key=str), Cut.FIRST))
        self._again = {target: at for target, at in self._again.items() if target not in self._due}
        self._open = still_open
        runs_at = {grant.address: grant.instance_id for grant in grants if grant.is_running}
        for address, instance_id in list(self._due):
            if runs_at.get(address, instance_id) != instance_id:
                del self._due[(address, instance_id)]
        return await self._cut_due(now)

    async def _cut_due(self, now: datetime) -> list[Address]:
        due = list(self._due)
        if not due:
            return []
        try:
            await self._cutter.cut(sorted({address for address, _ in due}, key=str))
        except (LaunchpadError, OSError):
            if len(due) == 1:
                raise
            return await self._cut_one_by_one(due, now)
        return self._note_cut(due, now)

    async def _cut_one_by_one(self, due: Sequence[Target], now: datetime) -> list[Address]:
        """One that cannot be cut, or that the helper does not take for an instance's, holds up no other."""
        failed: LaunchpadError | OSError | None = None
        in_a_row = 0
        done: list[Address] = []
        for target in due:
            try:
                await self._cutter.cut([target[0]])
            except (LaunchpadError, OSError) as error:
                failed = error
                in_a_row += 1
                self._due[target] = self._due.pop(target)  # behind the others, the next time
                if in_a_row == SINGLES_FAILED:
                    break
            else:
                in_a_row = 0
                done += self._note_cut([target], now)
        if failed is not None:
            raise failed
        return done

    def _note_cut(self, targets: Sequence[Target], now: datetime) -> list[Address]:
        addresses = sorted({address for address, _ in targets}, key=str)
        log.info("connections.cut", addresses=[str(address) for address in addresses])
        for target in targets:
            if self._due.pop(target) is Cut.FIRST:
                self._again[target] = now + AGAIN_AFTER
        return addresses
