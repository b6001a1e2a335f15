"""What administrators' lists show, each page from one look at the database."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from sqlalchemy.ext.asyncio import AsyncConnection

from ..domain.instances import ENDED, LIVE, Instance, State
from ..domain.mail import MailFailure
from ..domain.paging import Place
from ..domain.users import User
from ..errors import InvalidInput
from ..store import instance_history, instances, listings, mail_failures, users
from ..store.database import Database


@dataclass(frozen=True)
class InstanceFilter:
    """`search` looks in the owner's address and the environment; `states` are those that are wanted."""

    search: str = ""
    states: Collection[State] = LIVE

    @property
    def begins_with_ended(self) -> bool:
        return not any(state in LIVE for state in self.states)


@dataclass(frozen=True)
class ListStart:
    """Where a page begins: among those that are active, newest first, or the ended ones, the latest end first."""

    ended: bool = False
    before: Place | None = None

    @classmethod
    def parse(cls, text: str) -> ListStart:
        """Raises InvalidInput for what `str` did not write."""
        kind, _, place = text.partition("~")
        try:
            return cls(kind == "ended", Place.parse(place))
        except ValueError:
            raise InvalidInput("That page of the list cannot be found. Begin with its first page.") from None

    def __str__(self) -> str:
        return f"{'ended' if self.ended else 'active'}~{self.before}"


@dataclass(frozen=True)
class ListedInstance:
    """An instance with its owner; `queue_position` is None unless it is queued."""

    instance: Instance
    owner: User | None
    queue_position: int | None


@dataclass(frozen=True)
class ListedUser:
    """A user, how many live instances they have, and whether mail reaches them."""

    user: User
    live_instances: int
    mail_failure: MailFailure | None


def newest_first(found: list[Instance], limit: int) -> list[Instance]:
    """A page of several lists, each of which is in that order."""
    return sorted(found, key=lambda one: (one.created_at, one.id), reverse=True)[:limit]


class ListingService:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def instances(
        self, wanted: InstanceFilter, *, limit: int, start: ListStart | None = None
    ) -> tuple[list[ListedInstance], ListStart | None]:
        """A page of everyone's instances, active ones before ended ones, and where the next one begins (None: it is
        the last).
        """
        start = start or ListStart(ended=wanted.begins_with_ended)
        search = wanted.search.strip()
        found: list[Instance] = []
        further = None
        async with self._database.reading() as db:
            for ended in (False, True):
                if ended < start.ended or not any((state in ENDED) is ended for state in wanted.states):
                    continue
                before = start.before if ended is start.ended else None
                find = listings.ended if ended else listings.active
                some = await find(db, wanted.states, search, limit=limit + 1 - len(found), before=before)
                found += some
                if len(found) > limit:
                    last = found[limit - 1]
                    further = ListStart(not last.is_live, last.place if last.is_live else last.ended_place)
                    del found[limit:]
                    break
            return await _listed(db, found), further

    async def everyone(self, *, with_ended: bool, limit: int, before: Place | None) -> list[ListedInstance]:
        """Everyone's, newest first."""
        async with self._database.reading() as db:
            found = await instances.page(db, limit=limit, before=before)
            if with_ended:
                found += await instance_history.newest(db, limit=limit, before=before)
            return await _listed(db, newest_first(found, limit))

    async def users(self, *, search: str, limit: int, after: str | None) -> list[ListedUser]:
        """Users by e-mail address; `after` is the last address of the page before."""
        async with self._database.reading() as db:
            found = await users.page(db, search=search, limit=limit, after=after)
            live = await listings.count_live(db, [user.id for user in found])
            failures = await mail_failures.of_addresses(db, [user.email for user in found])
        return [ListedUser(user, live.get(user.id, 0), failures.get(user.email)) for user in found]


async def _listed(db: AsyncConnection, found: list[Instance]) -> list[ListedInstance]:
    owners = await users.by_ids(db, {instance.owner_id for instance in found})
    queued = any(instance.state is State.QUEUED for instance in found)
    positions = await listings.queue_positions(db) if queued else {}
    return [ListedInstance(one, owners.get(one.owner_id), positions.get(one.id)) for one in found]
