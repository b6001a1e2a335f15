"""How many ended instances are on record in each state: counted once, then carried along by the changes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping

from ...domain.instances import Instance, State

MOST_CARRIED = 10_000  # ends; the count is taken anew after that many


class EndedCounts:
    """A count of the store, with the ids that were live in the same snapshot.

    Of an id that was live then, a change is known to add or not; of any other it may have been counted already, since
    what another process commits is told after it can be read. The count is then given up, and the store asked again.
    """

    def __init__(self) -> None:
        self._counts: Counter[State] | None = None
        self._live: set[str] = set()
        self._ended_since: dict[str, State] = {}

    @property
    def known(self) -> dict[State, int] | None:
        """None: the store has to be asked."""
        return dict(self._counts) if self._counts is not None else None

    def keep(self, counts: Mapping[State, int], live_ids: Collection[str]) -> None:
        """What one statement has read: how many have ended in each state, and which are live."""
        self._counts, self._live, self._ended_since = Counter(counts), set(live_ids), {}

    def forget(self) -> None:
        self._counts, self._live, self._ended_since = None, set(), {}

    def changed(self, instance_id: str, found: Instance | None) -> None:
        """An instance as it was read after a change of it; None: it is no longer on record."""
        if self._counts is None:
            return
        if found is not None and found.is_live:
            self._live.add(instance_id)
            return
        if (before := self._ended_since.pop(instance_id, None)) is not None:
            self._counts[before] -= 1
        elif instance_id in self._live:
            self._live.discard(instance_id)
        else:
            self.forget()
            return
        if found is not None:
            self._counts[found.state] += 1
            self._ended_since[instance_id] = found.state
        if len(self._ended_since) > MOST_CARRIED:
            self.forget()
