"""Notices a browser that goes round in circles: let in again and again, and never coming with its new cookie."""

from __future__ import annotations

from collections import OrderedDict
from datetime import datetime, timedelta

LAPS_MAX = 3  # a browser gives up by itself after 20 redirects, and a lap has four
LAP_WITHIN = timedelta(seconds=30)
REMEMBERED_MAX = 1000  # of logins and instances; forgetting the oldest costs nothing but a lap


class RedirectLoops:
    """Counts how often each login was let into an instance at the same address without one request that worked."""

    def __init__(self) -> None:
        self._laps: OrderedDict[tuple[str, str], dict[str, list[datetime]]] = OrderedDict()

    def enters(self, login_id: str, instance_id: str, path: str, now: datetime) -> bool:
        """Somebody is let in; whether this is the LAPS_MAX-th time in a row that it did not help."""
        paths = self._laps.setdefault((login_id, instance_id), {})
        self._laps.move_to_end((login_id, instance_id))
        while len(self._laps) > REMEMBERED_MAX:
            self._laps.popitem(last=False)
        laps = [at for at in paths.get(path, []) if now - at < LAP_WITHIN]
        if len(paths) >= LAPS_MAX * 10:  # many tabs at once
            paths.clear()
        paths[path] = [*laps, now]
        return len(paths[path]) >= LAPS_MAX

    def works(self, login_id: str, instance_id: str) -> None:
        """A request of theirs came with the cookie."""
        self._laps.pop((login_id, instance_id), None)
