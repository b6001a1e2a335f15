"""The helper's verbs: all that it can be asked, with the form and the bounds of every argument."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Annotated, Any

from pydantic import ConfigDict, Field, ValidationError, validate_call

from ..domain.instances import Address
from ..domain.naming import ID_PATTERN
from ..errors import HelperRefused
from ..runtime import wire
from ..runtime.base import ContainerSpec, Runtime
from ..storage.base import Homes
from .guard import Guard

InstanceId = Annotated[str, Field(pattern=rf"^{ID_PATTERN}$")]
# No part of dots alone: it would lead the question to something else of the engine's than an image.
ImageReference = Annotated[
    str, Field(max_length=255, pattern=r"^[A-Za-z0-9][A-Za-z0-9._:@-]*(/[A-Za-z0-9][A-Za-z0-9._:@-]*)*$")
]
LabelName = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,127}$")]
GraceSeconds = Annotated[int, Field(ge=0, le=600)]
Lines = Annotated[int, Field(ge=0, le=10_000)]
LimitBytes = Annotated[int, Field(gt=0, lt=2**60)]
Name = Annotated[str, Field(max_length=64)]

# As sent, or not at all: nothing is guessed from another type, and a name we do not know is refused.
_STRICT = ConfigDict(strict=True)
_DATACLASSES = ConfigDict(arbitrary_types_allowed=False)  # come as JSON has them: lists for tuples, text for paths


class Verbs:
    """`answer` and `follow` are the whole surface; both raise HelperRefused for what is no verb or no fit argument."""

    def __init__(self, runtime: Runtime, homes: Homes, guard: Guard) -> None:
        self._runtime = runtime
        self._homes = homes
        self._guard = guard
        self._answers: Mapping[str, Callable[..., Awaitable[Any]]] = {
            "host": _checked(self._host),
            "ensure-network": _checked(self._ensure_network),
            "mend-network": _checked(self._mend_network),
            "network": _checked(self._network),
            "start": validate_call(config=_DATACLASSES)(self._start),
            "find": _checked(self._find),
            "list-containers": _checked(self._list_containers),
            "stop": _checked(self._stop),
            "remove": _checked(self._remove),
            "usage": _checked(self._usage),
            "usage-all": _checked(self._usage_all),
            "caps": _checked(self._caps),
            "cut": validate_call(config=_DATACLASSES)(self._cut),
            "can-cut": _checked(self._can_cut),
            "log-tail": _checked(self._log_tail),
            "image-exists": _checked(self._image_exists),
            "list-images": _checked(self._list_images),
            "homes-check": _checked(self._homes_check),
            "homes-enforce-limits": _checked(self._homes_enforce_limits),
            "homes-owners": _checked(self._homes_owners),
            "home-exists": _checked(self._home_exists),
            "home-prepare": _checked(self._home_prepare),
            "home-use": _checked(self._home_use),
        }
        self._streams: Mapping[str, Callable[..., Awaitable[AsyncIterator[Any]]]] = {"events": _checked(self._events)}

    @property
    def names(self) -> list[str]:
        return [*self._answers, *self._streams]

    def is_stream(self, verb: str) -> bool:
        return verb in self._streams

    async def answer(self, verb: str, arguments: Mapping[str, Any]) -> Any:
        """The value, as JSON has it."""
        return wire.plain(await _call(self._answers, verb, arguments))

    async def follow(self, verb: str, arguments: Mapping[str, Any]) -> AsyncIterator[Any]:
        async for item in await _call(self._streams, verb, arguments):
            yield wire.plain(item)

    # -- containers --------------------------------------------------------------------------------------------------

    async def _host(self) -> Any:
        return await self._runtime.host()

    async def _ensure_network(self) -> None:
        await self._runtime.ensure_network()

    async def _mend_network(self) -> None:
        await self._runtime.mend_network()

    async def _network(self) -> Any:
        return await self._runtime.network()

    async def _start(self, spec: ContainerSpec) -> Any:
        checked = await self._guard.checked(spec, await self._runtime.host())
        await self._runtime.ensure_network()
        return await self._runtime.start(checked)

    async def _find(self, instance_id: InstanceId) -> Any:
        return await self._runtime.find(instance_id)

    async def _list_containers(self) -> Any:
        return await self._runtime.list_containers()

    async def _stop(self, instance_id: InstanceId, grace_seconds: GraceSeconds) -> None:
        await self._runtime.stop(instance_id, grace_seconds)

    async def _remove(self, instance_id: InstanceId) -> None:
        await self._runtime.remove(instance_id)

    async def _usage(self, instance_id: InstanceId) -> Any:
        return await self._runtime.usage(instance_id)

    async def _usage_all(self) -> Any:
        return await self._runtime.usage_all()

    async def _caps(self, instance_id: InstanceId) -> Any:
        return await self._runtime.caps(instance_id)

    async def _cut(self, addresses: tuple[Address, ...]) -> None:
        await self._runtime.cut(self._guard.addresses(addresses))

    async def _can_cut(self) -> bool:
        return await self._runtime.can_cut()

    async def _log_tail(self, instance_id: InstanceId, lines: Lines = 100) -> str:
        return await self._runtime.log_tail(instance_id, lines)

    async def _events(self, since: float) -> AsyncIterator[Any]:
        return self._runtime.events(since)

    # -- images: to be asked about, never made ---------------------------------------------------------------------

    async def _image_exists(self, reference: ImageReference) -> bool:
        return await self._runtime.image_exists(reference)

    async def _list_images(self, label: LabelName | None = None) -> Any:
        return await self._runtime.list_images(label)

    # -- homes -------------------------------------------------------------------------------------------------------

    async def _homes_check(self) -> None:
        await self._homes.check()

    async def _homes_enforce_limits(self) -> bool:
        return self._homes.enforces_limits

    async def _homes_owners(self) -> list[int]:
        return sorted(await self._homes.owners())

    async def _home_exists(self, username: Name) -> bool:
        return await self._homes.exists(self._guard.username(username))

    async def _home_prepare(self, username: Name, uid: int, limit_bytes: LimitBytes | None) -> None:
        await self._homes.prepare(self._guard.username(username), self._guard.uid(uid), limit_bytes)

    async def _home_use(self, username: Name) -> Any:
        use = await self._homes.use(self._guard.username(username))
        return [use.used_bytes, use.limit_bytes, use.free_bytes]


def _checked(verb: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
    return validate_call(config=_STRICT)(verb)


async def _call(verbs: Mapping[str, Callable[..., Awaitable[Any]]], verb: str, arguments: Mapping[str, Any]) -> Any:
    if verb not in verbs:
        raise HelperRefused("The server's helper refused: there is no such call.")
    try:
        return await verbs[verb](**arguments)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        where = ".".join(map(str, first["loc"])) or "arguments"
        raise HelperRefused(f"The server's helper refused: “{where}”: {first['msg']}.") from error
