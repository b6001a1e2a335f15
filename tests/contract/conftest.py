"""The engine's small image, made of this machine's busybox, and the runtimes that the contract is held against."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from launchpad.helper_client import HelperClient
from launchpad.parts import cutter_of
from launchpad.runtime.base import LABEL_DEPLOYMENT, ConnectionCutter, ContainerSpec, Engine
from launchpad.runtime.engine import EngineRuntime
from launchpad.runtime.fake import FakeRuntime
from launchpad.settings import EgressSettings, EngineSettings, Settings
from launchpad.storage.choose import choose_snapshots
from launchpad.storage.plain import PlainHomes
from support.helper import HelpedEngine, SpecifiedLaunches, TrustingGuard, helper_thread
from support.live import docker, remove_network
from support.small_image import BUSYBOX, SMALL_IMAGE, make_small_image

__all__ = ["BUSYBOX", "SMALL_IMAGE"]

LISTEN = ("/bin/busybox", "httpd", "-f", "-p", "8080", "-h", "/")


@pytest.fixture(scope="session")
def small_image() -> str:
    return make_small_image()


def engine_settings(**values: str) -> EngineSettings:
    """A network and a range of ports of its own; `values` are put over them."""
    mark = secrets.token_hex(4)
    first = 40000 + secrets.randbelow(100) * 50
    return EngineSettings.model_validate(
        {"network": f"launchpad-test-{mark}", "port_range": f"{first}-{first + 49}"} | values
    )


MakeEngine = Callable[..., EngineRuntime]


@pytest.fixture
async def make_engine() -> AsyncIterator[MakeEngine]:
    """Makes runtimes of a deployment and a network of their own; all that they made is removed afterwards."""
    made: list[tuple[EngineRuntime, EngineSettings, str]] = []

    def make(egress: EgressSettings | None = None, **values: str) -> EngineRuntime:
        settings = engine_settings(**values)
        deployment_id = secrets.token_hex(4)
        made.append((EngineRuntime(settings, deployment_id, egress), settings, deployment_id))
        return made[-1][0]

    yield make
    for runtime, settings, deployment_id in made:
        for container in await runtime.list_containers():
            await runtime.remove(container.instance_id)
        await runtime.aclose()
        await remove_network(settings.network, deployment_id)


@pytest.fixture
def engine(make_engine: MakeEngine) -> EngineRuntime:
    return make_engine()


@pytest.fixture
async def fake() -> AsyncIterator[FakeRuntime]:
    runtime = FakeRuntime(secrets.token_hex(4))
    runtime.missing_images.add("launchpad-test/none:1")
    yield runtime
    await runtime.aclose()


@pytest.fixture
async def helper(make_engine: MakeEngine, tmp_path: Path) -> AsyncIterator[HelpedEngine]:
    """The engine as a process without rights reaches it."""
    engine = make_engine()
    settings, launches = Settings(engine=engine._settings), SpecifiedLaunches(engine)
    homes = PlainHomes(tmp_path)
    guard = TrustingGuard(settings, (), engine, launches, cutter_of(engine), homes, choose_snapshots(settings, homes))
    with helper_thread(tmp_path, engine, guard) as path:
        helped = HelpedEngine(HelperClient(path), launches)
        runtime = helped.runtime
        yield helped
        for container in await runtime.list_containers():
            await runtime.remove(container.instance_id)
        await runtime.aclose()


@pytest.fixture(params=["fake", "engine", "helper"])
def runtime(request: pytest.FixtureRequest, small_image: str) -> Engine:
    """Every implementation in turn."""
    made: Engine = request.getfixturevalue(request.param)
    return made


@pytest.fixture
def cutter(runtime: Engine) -> ConnectionCutter:
    """What cuts connections to what `runtime` runs."""
    made: ConnectionCutter = runtime.cutter if isinstance(runtime, HelpedEngine) else cutter_of(runtime)
    return made


def specification(image: str, instance_id: str = "a" * 16, **values: object) -> ContainerSpec:
    """A container that listens and does nothing else."""
    defaults: dict[str, object] = {
        "instance_id": instance_id,
        "owner_id": "owner",
        "environment": "small",
        "image": image,
        "network_port": 8080,
        "memory_bytes": 64 * 1024**2,
        "cpus": 0.5,
        "pids_limit": 64,
        "command": LISTEN,
    }
    return ContainerSpec(**(defaults | values))  # type: ignore[arg-type]


def created_containers(engine: EngineRuntime) -> list[str]:
    """Containers of a deployment that were made and never started."""
    label = f"label={LABEL_DEPLOYMENT}={engine.deployment_id}"
    return docker("ps", "-aq", "--filter", "status=created", "--filter", label).split()
