"""What goes on in instances: sampled by the owner of the work, kept as series, known to every process."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Protocol

from ..domain.activity import Activity, Point, Step


class KnowsActivity(Protocol):
    """What other services ask of `ActivityService`. None of it asks the engine or the store but `points`."""

    def latest(self, instance_id: str) -> Activity | None:
        """What is known of a running instance; None: it was not sampled yet, or it no longer runs."""
        ...

    def all(self) -> Mapping[str, Activity]:
        """The latest of every running instance, by its id."""
        ...

    def note_person(self, instance_id: str, now: datetime) -> None:
        """A person did something in it. The gate says so; cheap, and written down soon."""
        ...

    async def points(
        self, instance_id: str, since: datetime, until: datetime, step: Step | None = None
    ) -> tuple[Step, Sequence[Point]]:
        """What was recorded, also of one that has ended, in the order of time.

        Args:
            step: the resolution; None: the finest that is still kept for `since` and gives at most a few hundred points.
        """
        ...
