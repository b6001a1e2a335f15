"""The part of the fake runtime that makes instances stand still."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Protocol

from ..errors import EngineRefused
from .values import Container, ContainerState, Freezer


class _Standing(Protocol):
    container: Container
    goes: asyncio.Event


class FakeFreezer:
    """See `base.Containers`.

    Attributes:
        freezer_facts: what `freezer` answers; where it says no, nothing can be paused.
        unread: what waits unread for instances that stand still, in bytes, by their ids.
        pushed_out: the ids of those whose memory was to be pushed out, in order.
    """

    def __init__(self) -> None:
        self.freezer_facts = Freezer(True)
        self.unread: dict[str, int] = {}
        self.pushed_out: list[str] = []

    def _check(self) -> None:
        raise NotImplementedError

    def _standing(self, instance_id: str) -> _Standing | None:
        """What there is of an instance that is up."""
        raise NotImplementedError

    async def freezer(self) -> Freezer:
        self._check()
        return self.freezer_facts

    async def pause(self, instance_id: str) -> None:
        if not self.freezer_facts.can_freeze:
            raise EngineRefused("The container engine cannot freeze instances.")
        self._go(instance_id, ContainerState.PAUSED)

    async def resume(self, instance_id: str) -> None:
        self._go(instance_id, ContainerState.RUNNING)

    async def push_out(self, instance_id: str) -> None:
        self._check()
        self.pushed_out.append(instance_id)

    async def unread_bytes(self, instance_ids: Sequence[str]) -> Mapping[str, int]:
        self._check()
        return {one: self.unread.get(one, 0) for one in instance_ids if self._standing(one) is not None}

    def _go(self, instance_id: str, state: ContainerState) -> None:
        self._check()
        there = self._standing(instance_id)
        if there is None:
            raise EngineRefused("This instance is not running.")
        there.container = replace(there.container, state=state)
        if state is ContainerState.PAUSED:
            there.goes.clear()
        else:
            there.goes.set()
