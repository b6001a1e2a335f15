"""The part of the fake runtime that runs out of memory, and of disk."""

from __future__ import annotations

from collections.abc import Mapping

from ..domain.memory import MemoryDeath
from .values import Container, MemoryWatch


class FakeMemory:
    """See `base.Containers`.

    Attributes:
        deaths: what was ended for lack of memory, by the instances' ids.
        memory_used: what instances use of their memory, in bytes, by their ids; others a quarter of their size.
        watch: what `memory_watch` answers.
        tended: how often memory was seen to.
        written: what instances have written outside their mounts, in bytes, by their ids.
    """

    def __init__(self) -> None:
        self.deaths: dict[str, tuple[MemoryDeath, ...]] = {}
        self.memory_used: dict[str, int] = {}
        self.watch = MemoryWatch()
        self.tended = 0
        self.written: dict[str, int] = {}

    def _check(self) -> None:
        raise NotImplementedError

    async def tend_memory(self) -> Mapping[str, tuple[MemoryDeath, ...]]:
        self._check()
        self.tended += 1
        return dict(self.deaths)

    async def list_containers(self) -> list[Container]:
        raise NotImplementedError

    async def written_all(self) -> Mapping[str, int]:
        up = [one.instance_id for one in await self.list_containers() if one.state.is_up]
        return {instance_id: self.written.get(instance_id, 0) for instance_id in up}

    async def memory_watch(self) -> MemoryWatch:
        self._check()
        return self.watch
