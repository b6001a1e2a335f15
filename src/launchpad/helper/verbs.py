"""The helper's verbs: all that it can be asked. What each is, and the form of its arguments, its contract declares."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

from pydantic import ValidationError
from pydantic_core import to_jsonable_python

from ..contract import Verb, verbs_of
from ..errors import HelperRefused
from ..runtime.base import ConnectionCutter, Containers, Images, Launches, Network, Runtime
from ..storage.archives import Archives, ArchiveVerbs
from ..storage.base import HomeVerbs
from ..storage.snapshots import SnapshotVerbs
from .archives import ArchiveGuard
from .guard import Guard


def helper_verbs(runtime: Runtime, guard: Guard, archives: Archives) -> Verbs:
    """All that the portal can ask for; what only looks, or names an instance of ours, goes straight to the runtime."""
    return Verbs(
        (Containers, runtime),
        (Network, runtime),
        (Images, runtime),
        (Launches, guard),
        (ConnectionCutter, guard),
        (HomeVerbs, guard),
        (SnapshotVerbs, guard),
        (ArchiveVerbs, ArchiveGuard(guard, archives)),
    )


class Verbs:
    """`answer` and `follow` are the whole surface; both raise HelperRefused for what is no verb or no fit argument.

    Args:
        served: contracts, each with what implements it here.
    """

    def __init__(self, *served: tuple[type, object]) -> None:
        self._verbs: dict[str, tuple[Verb, Callable[..., Any]]] = {
            verb.name: (verb, getattr(target, verb.method))
            for contract, target in served
            for verb in verbs_of(contract)
            if verb.refusal is None
        }

    @property
    def names(self) -> list[str]:
        return list(self._verbs)

    def is_stream(self, name: str) -> bool:
        return name in self._verbs and self._verbs[name][0].is_stream

    async def answer(self, name: str, body: bytes) -> Any:
        """The value, as JSON has it.

        Args:
            body: the arguments, as they were sent.
        """
        return to_jsonable_python(await self._called(name, body))

    async def follow(self, name: str, body: bytes) -> AsyncIterator[Any]:
        async for item in self._called(name, body):
            yield to_jsonable_python(item)

    def _called(self, name: str, body: bytes) -> Any:
        if name not in self._verbs:
            raise HelperRefused("The server's helper refused: there is no such call.")
        verb, method = self._verbs[name]
        try:
            arguments = verb.read(body or b"{}")
        except ValidationError as error:
            first = error.errors(include_input=False, include_url=False)[0]
            where = ".".join(map(str, first["loc"])) or "arguments"
            raise HelperRefused(f"The server's helper refused: “{where}”: {first['msg']}.") from error
        return method(**arguments)
