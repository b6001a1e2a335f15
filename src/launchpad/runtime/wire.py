"""The contract's values as JSON and back, for the helper's socket."""

from __future__ import annotations

from typing import Any

from pydantic import TypeAdapter
from pydantic_core import to_jsonable_python

from ..domain.instances import Address
from .base import Caps, Container, ContainerSpec, HostFacts, ImageInfo, NetworkFacts, RuntimeEvent, Usage

SPEC = TypeAdapter(ContainerSpec)
ADDRESSES = TypeAdapter(tuple[Address, ...])
HOST = TypeAdapter(HostFacts)
NETWORK = TypeAdapter(NetworkFacts)
CONTAINER = TypeAdapter(Container)
FOUND = TypeAdapter(Container | None)
CONTAINERS = TypeAdapter(list[Container])
USAGE = TypeAdapter(Usage | None)
USAGES = TypeAdapter(dict[str, Usage])
CAPS = TypeAdapter(Caps | None)
EVENT = TypeAdapter(RuntimeEvent)
IMAGES = TypeAdapter(list[ImageInfo])


def plain(value: object) -> Any:
    """A value of the contract, or many, as JSON has them."""
    return to_jsonable_python(value)
