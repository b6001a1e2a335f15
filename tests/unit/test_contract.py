"""Each verb of the runtime is declared once; what asks, answers and implements it follow, and none is left out."""

from __future__ import annotations

import inspect
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

import pytest
from pydantic import ValidationError

from launchpad.contract import by_root_only, verb, verbs_of
from launchpad.domain.activity import Program
from launchpad.domain.instances import Address
from launchpad.domain.memory import MemoryDeath
from launchpad.errors import EngineRefused
from launchpad.helper.archives import ArchiveGuard
from launchpad.helper.guard import Guard
from launchpad.helper.verbs import helper_verbs
from launchpad.helper_client import HelperClient, asking
from launchpad.parts import composer_of, cutter_of, images_of
from launchpad.runtime.base import (
    ConnectionCutter,
    Container,
    ContainerActivity,
    Containers,
    ContainerState,
    Images,
    Launches,
    Network,
    RuntimeEvent,
    Usage,
)
from launchpad.runtime.cutting import KernelCutter
from launchpad.runtime.engine import EngineRuntime
from launchpad.runtime.fake import FakeRuntime
from launchpad.services.catalogue import catalogue_of
from launchpad.services.composer import Composer
from launchpad.settings import tables
from launchpad.storage.archives import Archives, ArchiveVerbs
from launchpad.storage.base import Homes, HomeVerbs
from launchpad.storage.choose import choose_archives, choose_snapshots
from launchpad.storage.helper import HelperArchives, HelperHomes, HelperSnapshots
from launchpad.storage.plain import PlainHomes
from launchpad.storage.snapshots import Snapshots, SnapshotVerbs

CONTRACTS = (Containers, Network, Images, Launches, ConnectionCutter, HomeVerbs, SnapshotVerbs, ArchiveVerbs)
IMPLEMENTATIONS = [
    *((contract, kind) for contract in (Containers, Network, Images) for kind in (EngineRuntime, FakeRuntime)),
    *((ConnectionCutter, kind) for kind in (KernelCutter, FakeRuntime, Guard)),
    *((Launches, kind) for kind in (Composer, Guard)),
    (HomeVerbs, Guard),
    (SnapshotVerbs, Guard),
    (ArchiveVerbs, ArchiveGuard),
]


def public(kind: type) -> set[str]:
    return {name for name, method in vars(kind).items() if callable(method) and not name.startswith("_")}


@pytest.mark.parametrize("contract", CONTRACTS)
def test_everything_in_a_contract_is_declared(contract: type) -> None:
    assert {each.method for each in verbs_of(contract)} == public(contract)


@pytest.mark.parametrize(("contract", "kind"), IMPLEMENTATIONS)
def test_implementations_have_every_verb_as_it_is_declared(contract: type, kind: type) -> None:
    """With the same arguments in the same order, the same defaults, and answers of the same kind."""
    for each in verbs_of(contract):
        method = getattr(kind, each.method)
        assert not getattr(method, "__isabstractmethod__", False)
        there = list(inspect.signature(method).parameters.values())[1:]
        declared = list(each.signature.parameters.values())
        assert [(p.name, p.kind, p.default) for p in there] == [(p.name, p.kind, p.default) for p in declared]
        assert inspect.iscoroutinefunction(method) is inspect.iscoroutinefunction(each.declared) or each.is_stream


def test_the_helper_answers_to_what_is_declared_and_to_nothing_else(tmp_path: Path) -> None:
    """And what asks it can ask for just that; images are made by root."""
    settings = tables({"state_dir": str(tmp_path), "homes": {"root": str(tmp_path), "driver": "plain"}})
    runtime, homes = FakeRuntime("none"), PlainHomes(tmp_path)
    composer = composer_of(settings, runtime, images_of(settings, runtime), homes)
    guard = Guard(
        settings,
        catalogue_of(settings),
        runtime,
        composer,
        cutter_of(runtime),
        homes,
        choose_snapshots(settings, homes),
    )
    served = helper_verbs(runtime, guard, choose_archives(settings, homes))
    every = [each for contract in CONTRACTS for each in verbs_of(contract)]
    allowed = [each for each in every if each.refusal is None]
    assert served.names == [each.name for each in allowed]
    assert len(set(served.names)) == len(served.names), "no name means two things"
    assert {each.method for each in every} - {each.method for each in allowed} == {
        *("pull_image", "build_image", "import_image")
    }
    asker = asking(HelperClient(tmp_path / "none.sock"), *CONTRACTS)
    assert all(callable(getattr(asker, each.method)) for each in every)
    assert not hasattr(asker, "start")


def test_homes_are_asked_for_by_verbs_that_homes_have() -> None:
    assert public(HelperHomes) >= public(Homes)
    names = {"homes_check": "check", "homes_enforce_limits": "enforces_limits", "homes_owners": "owners"}
    names |= {"home_exists": "exists", "home_prepare": "prepare", "home_use": "use"}
    names |= {"homes_disk": "disk", "home_measure": "measure"}
    assert set(names) == public(HomeVerbs)
    beside = {"path_of", "stage"}  # where it would be; and what only whoever fills homes needs
    assert {*names.values(), *beside} == public(Homes) | {"enforces_limits"}


def test_snapshots_are_asked_for_by_verbs_that_snapshots_have_but_none_is_removed_by_its_name() -> None:
    assert public(HelperSnapshots) >= public(Snapshots)
    names = {"snapshots_obstacle": "obstacle", "snapshots_taken": "taken"}
    names |= {"snapshot_take": "take", "snapshots_thin": "thin", "snapshots_summary": "summary"}
    assert set(names) == public(SnapshotVerbs)
    assert {*names.values(), "forget"} == public(Snapshots)


def test_archives_are_asked_for_by_verbs_that_archives_have() -> None:
    assert public(HelperArchives) >= public(Archives)
    names = {"archives_summary": "summary", "archives_of": "of", "archives_tidy": "tidy", "archive_make": "make"}
    names |= {"archive_verify": "verify", "archive_restore": "restore", "archive_copy": "copy"}
    names |= {"home_remove": "remove_home"}
    assert set(names) == public(ArchiveVerbs)
    assert set(names.values()) == public(Archives)


class Odd(Protocol):
    @verb(seconds=5, longer_by="grace")
    async def wait_for(self, name: str, grace: int = 2) -> list[Address]: ...

    @verb(moment="since")
    def happens(self, since: float | None = None) -> AsyncIterator[RuntimeEvent]: ...

    @by_root_only("Root only.")
    def make(self, name: str) -> AsyncIterator[str]: ...


WAIT, HAPPENS, MAKE = verbs_of(Odd)


class Line:
    """Remembers what it was asked, and answers with what it was given."""

    def __init__(self, *answers: Any) -> None:
        self.answers = answers
        self.asked: list[tuple[str, Any, float | None]] = []

    async def ask(self, name: str, arguments: Any, *, seconds: float | None = None) -> Any:
        self.asked.append((name, arguments, seconds))
        return self.answers[0]

    async def follow(self, name: str, arguments: Any) -> AsyncIterator[Any]:
        self.asked.append((name, arguments, None))
        for answer in self.answers:
            yield answer


async def test_a_call_is_sent_whole_and_its_answer_comes_as_declared() -> None:
    line = Line([{"host": "192.0.2.7", "port": 20001}])
    asker: Odd = asking(line, Odd)  # type: ignore[arg-type]
    assert await asker.wait_for("x") == [Address("192.0.2.7", 20001)]
    assert await asker.wait_for(name="y", grace=30) == [Address("192.0.2.7", 20001)]
    assert line.asked == [("wait-for", {"name": "x", "grace": 2}, 7.0), ("wait-for", {"name": "y", "grace": 30}, 35.0)]
    with pytest.raises(TypeError):
        await asker.wait_for("x", 1, 2)  # type: ignore[call-arg]


async def test_a_stream_begins_with_its_call_and_not_with_the_first_look() -> None:
    line = Line({"instance_id": "a", "kind": "ended"})
    asker: Odd = asking(line, Odd)  # type: ignore[arg-type]
    following = asker.happens()
    called = datetime.now(UTC).timestamp()
    assert [event async for event in following] == [RuntimeEvent("a", "ended")]
    assert line.asked[0][1]["since"] <= called
    assert [event async for event in asker.happens(7.5)] == [RuntimeEvent("a", "ended")]
    assert line.asked[1][1] == {"since": 7.5}


async def test_what_only_root_may_is_refused_without_asking() -> None:
    line = Line()
    asker: Odd = asking(line, Odd)  # type: ignore[arg-type]
    with pytest.raises(EngineRefused, match="Root only"):
        [step async for step in asker.make("x")]
    assert line.asked == []


@pytest.mark.parametrize(
    "body",
    [
        *("", "[]", "{", "null", '"x"', '{"name": 7}', '{"name": "x", "grace": "3"}', '{"name": "x", "grace": 1.5}'),
        *('{"name": "x", "grace": true}', '{"name": "x", "more": 1}', "{}"),
    ],
)
def test_arguments_are_as_declared_or_refused(body: str) -> None:
    assert WAIT.read(b'{"name": "x"}') == {"name": "x", "grace": 2}, "the allowed case"
    with pytest.raises(ValidationError):
        WAIT.read(body.encode())


def test_values_come_back_as_they_were_sent() -> None:
    """Through JSON: containers with their state, address and instants, and use by instance."""
    verbs = {each.method: each for each in verbs_of(Containers)}
    found = Container(
        "a", "o", "e", ContainerState.PAUSED, Address("::1", 7), started_at=datetime(2026, 3, 2, 9, 30, tzinfo=UTC)
    )
    typed_at = datetime(2026, 3, 2, 9, 30, tzinfo=UTC)
    programs = (Program("STAR", 11.0, 5, "STAR --x"),)
    activity = ContainerActivity(Usage(1, 2.5, 3), 4, programs=programs, terminal_input_at=typed_at)
    for method, value in (
        ("list_containers", [found]),
        ("find", None),
        ("usage_all", {"a": Usage(1, 2.5, 3, peak_memory_bytes=4), "b": Usage(1, 0.0, 1)}),
        ("activity_all", {"a": activity}),
        (
            "tend_memory",
            {"a": (MemoryDeath("R session", None, typed_at, of_server=True), MemoryDeath("", 5, typed_at))},
        ),
    ):
        each = verbs[method]
        plain = json.loads(json.dumps(each._answer.dump_python(value, mode="json")))
        assert each.answer(plain) == value
    assert HAPPENS.is_stream
    assert not WAIT.is_stream
    assert MAKE.refusal == "Root only."
