"""One memory of compiled SQL for all databases of a test run; by themselves each would compile every statement anew.

A process of the platform has one engine for its life; a run of the tests has thousands, each for some fifty statements,
and compiling them was a fifth of its work.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sqlalchemy.engine.interfaces import Dialect
from sqlalchemy.ext.asyncio import AsyncEngine

from launchpad.store import database

_memories: dict[type[Dialect], Any] = {}


def share_compiled_statements() -> None:
    """From now on, in this process, for every `Database`."""
    create: Callable[..., AsyncEngine] = vars(database)["create_async_engine"]

    def create_with_memory(url: str, **options: Any) -> AsyncEngine:
        engine = create(url, **options)
        kind = type(engine.sync_engine.dialect)
        if kind not in _memories:
            _memories[kind] = engine.sync_engine._compiled_cache
            # Those of one class compile a statement to the same text; the memory tells them apart as objects.
            setattr(kind, "__eq__", lambda one, other: type(one) is type(other))  # noqa: B010
            setattr(kind, "__hash__", lambda one: hash(type(one)))  # noqa: B010
        engine.sync_engine._compiled_cache = _memories[kind]
        return engine

    setattr(database, "create_async_engine", create_with_memory)  # noqa: B010
