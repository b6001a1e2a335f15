"""The objects of a platform point one way, as its modules do: nobody holds somebody who holds them."""

from __future__ import annotations

import types
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from launchpad.settings import tables
from launchpad.wiring import build_platform

# Who is told is not held: that a part hears of changes makes it no part of what tells them.
SUBSCRIPTIONS = ("_listeners",)


def is_part(value: object) -> bool:
    return type(value).__module__.startswith("launchpad.") and not isinstance(value, type)


def room_of(value: object) -> str:
    """A part and the helpers of its own module, or package, may know each other."""
    return ".".join(type(value).__module__.split(".")[:3])


def held_by(value: object) -> Iterator[object]:
    """What an object holds: its attributes, what is in containers, and what functions have closed over."""
    if isinstance(value, types.MethodType):
        yield value.__self__
    elif isinstance(value, types.FunctionType):
        for cell in value.__closure__ or ():
            yield cell.cell_contents
    elif isinstance(value, partial):
        yield from (value.func, *value.args, *value.keywords.values())
    elif isinstance(value, dict | types.MappingProxyType):
        yield from value.values()
    elif isinstance(value, list | tuple | set | frozenset):
        yield from value
    elif is_part(value) and hasattr(value, "__dict__"):
        yield from (held for name, held in vars(value).items() if name not in SUBSCRIPTIONS)


def circle(start: object) -> list[str] | None:
    """The names of parts that hold each other in a circle; None: there is none."""
    done: set[int] = set()
    alive: list[object] = []  # an id is one object's as long as that lives

    def walk(value: object, above: tuple[object, ...]) -> list[str] | None:
        for at, one in enumerate(above):
            if one is value:
                around = (*above[at:], value)
                if len({room_of(each) for each in around if is_part(each)}) > 1:
                    return [type(each).__name__ for each in around]
                return None
        if id(value) in done:
            return None
        for held in held_by(value):
            if found := walk(held, (*above, value)):
                return found
        done.add(id(value))
        alive.append(value)
        return None

    return walk(start, ())


class Holder:
    def __init__(self) -> None:
        self.held: list[object] = []


class Other(Holder):
    pass


def test_a_circle_is_found_however_it_is_tied() -> None:
    one, other = Holder(), Other()
    Holder.__module__, Other.__module__ = "launchpad.one", "launchpad.other"
    one.held.append({"other": partial(lambda: other)})
    assert circle(one) is None
    other.held.append(lambda: one)
    found = circle(one)
    assert found is not None
    assert found[0] == found[-1]


async def test_no_service_holds_one_that_holds_it(tmp_path: Path) -> None:
    settings = {"state_dir": tmp_path, "engine": {"runtime": "fake"}, "homes": {"root": tmp_path, "driver": "plain"}}
    platform = build_platform(tables(settings))
    seen: set[str] = set()

    def names(value: object) -> None:
        for held in held_by(value):
            if is_part(held) and type(held).__name__ not in seen:
                seen.add(type(held).__name__)
                names(held)

    names(platform)
    assert {"InstanceRunner", "AdmissionService", "SweepService", "InstanceService", "EndRecorder"} <= seen
    assert circle(platform) is None
    await platform.aclose()
