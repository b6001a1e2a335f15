"""How live events are put into words: in the terms of the API."""

from __future__ import annotations

from collections.abc import Sequence

from ..domain.instances import Instance
from ..domain.origins import InstancesOrigin
from ..domain.usage import Usage
from .schemas import InstanceView, UsageView


class ApiTexts:
    """See `services.live.streams.EventTexts`."""

    def __init__(self, origin: InstancesOrigin) -> None:
        self._origin = origin

    def state(self, instance: Instance, queue_position: int | None, notices: Sequence[str]) -> str:
        view = InstanceView.of(instance, self._origin, queue_position=queue_position, notices=notices)
        return view.model_dump_json()

    def usage(self, usage: Usage) -> str:
        return UsageView.of_usage(usage).model_dump_json()
