"""The engine's small image, made of this machine's busybox, and the runtimes that the contract is held against."""

from __future__ import annotations

import io
import secrets
import subprocess
import tarfile
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from launchpad.helper_client import HelperClient
from launchpad.runtime.base import LABEL_DEPLOYMENT, ContainerSpec, Runtime
from launchpad.runtime.engine import EngineRuntime
from launchpad.runtime.fake import FakeRuntime
from launchpad.runtime.helper import HelperRuntime
from launchpad.settings import EgressSettings, EngineSettings, Settings
from launchpad.storage.plain import PlainHomes
from support.helper import guard_of, helper_thread
from support.live import docker, remove_network

BUSYBOX = Path("/bin/busybox")
SMALL_IMAGE = "launchpad-test/small:1"
LISTEN = ("/bin/busybox", "httpd", "-f", "-p", "8080", "-h", "/")


@pytest.fixture(scope="session")
def small_image() -> str:
    """Two megabytes: busybox and links to it."""
    held = io.BytesIO()
    with tarfile.open(fileobj=held, mode="w") as tar:
        for name, mode in (("bin", 0o755), ("tmp", 0o1777)):
            folder = tarfile.TarInfo(name)
            folder.type, folder.mode = tarfile.DIRTYPE, mode
            tar.addfile(folder)
        tar.add(BUSYBOX, "bin/busybox")
        for name in ("sh", "nc", "wget", "sleep", "cat", "echo", "touch", "tail"):
            link = tarfile.TarInfo(f"bin/{name}")
            link.type, link.linkname = tarfile.SYMTYPE, "busybox"
            tar.addfile(link)
    subprocess.run(["docker", "import", "-", SMALL_IMAGE], input=held.getvalue(), check=True, capture_output=True)
    return SMALL_IMAGE


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
async def helper(make_engine: MakeEngine, tmp_path: Path) -> AsyncIterator[HelperRuntime]:
    """The engine as a process without rights reaches it."""
    engine = make_engine()
    settings = Settings(engine=engine._settings)
    homes = PlainHomes(tmp_path)
    with helper_thread(tmp_path, engine, homes, guard_of(settings, engine, trusting=True)) as path:
        runtime = HelperRuntime(HelperClient(path))
        yield runtime
        for container in await runtime.list_containers():
            await runtime.remove(container.instance_id)
        await runtime.aclose()


@pytest.fixture(params=["fake", "engine", "helper"])
def runtime(request: pytest.FixtureRequest, small_image: str) -> Runtime:
    """Every implementation in turn."""
    made: Runtime = request.getfixturevalue(request.param)
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
