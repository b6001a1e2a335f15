"""What is remembered of containers that are up, over an engine that answers from a table."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import pytest

from launchpad.domain.memory import MemoryDeath
from launchpad.runtime.base import LABEL_DEPLOYMENT, LABEL_INSTANCE
from launchpad.runtime.control_groups import ControlGroups
from launchpad.runtime.engine_client import EngineClient
from launchpad.runtime.engine_containers import EngineContainers
from launchpad.runtime.kernel_log import KernelLog
from launchpad.runtime.memory_tender import MemoryTender, Tended

ID, INSTANCE, PID = "b" * 64, "a" * 16, 7323
PATH = f"system.slice/docker-{ID}.scope"


class Engine:
    """One container, whose first process is `pid`."""

    def __init__(self) -> None:
        self.pid = PID
        self.inspected = 0

    async def json(self, path: str, params: dict[str, Any] | None = None, *, seconds: float | None = None) -> Any:
        if path == "containers/json":
            return [{"Id": ID, "State": "running"}]
        self.inspected += 1
        labels = {LABEL_DEPLOYMENT: "d", LABEL_INSTANCE: INSTANCE}
        return {"Id": ID, "Config": {"Labels": labels}, "State": {"Status": "running", "ExitCode": 0, "Pid": self.pid}}


def first_process(folder: Path, pid: int) -> None:
    """Below a folder, a machine's /proc and control groups of version 2, as the container's first process is seen."""
    process, group = folder / "proc" / str(pid), folder / "cgroup" / PATH
    for one in (process, group, folder / "proc" / "self"):
        one.mkdir(parents=True, exist_ok=True)
    (folder / "proc" / "self" / "mountinfo").write_text(f"30 22 0:26 / {folder}/cgroup rw - cgroup2 cgroup2 rw\n")
    (process / "cgroup").write_text(f"0::/{PATH}\n")
    (group / "cgroup.procs").write_text(f"{pid}\n")


def containers_of(folder: Path, engine: Engine) -> EngineContainers:
    groups = ControlGroups(folder / "proc")
    made = EngineContainers(cast(EngineClient, engine), "d", groups)
    made._memory = MemoryTender(groups, folder / "proc", KernelLog(folder / "kmsg"))
    return made


async def test_a_container_is_inspected_once_and_again_after_a_restart_from_outside(tmp_path: Path) -> None:
    engine = Engine()
    containers = containers_of(tmp_path, engine)
    first_process(tmp_path, PID)
    seen = list[int]()
    tend = containers._memory.tend

    def tending(containers: Sequence[Tended]) -> Mapping[str, tuple[MemoryDeath, ...]]:
        seen.extend(one.pid for one in containers)
        return tend(containers)

    containers._memory.tend = tending  # type: ignore[method-assign]
    for _ in range(3):
        await containers.tend_memory()
    assert engine.inspected == 1
    engine.pid = PID + 1
    (tmp_path / "proc" / str(PID) / "cgroup").unlink()
    first_process(tmp_path, PID + 1)
    for _ in range(3):
        await containers.tend_memory()
    assert seen == [PID] * 4 + [PID + 1] * 2
    assert engine.inspected == 2


async def test_looks_that_are_cancelled_end_before_the_next_begins(tmp_path: Path) -> None:
    """Their thread goes on; as where the portal is restarted and asks its helper again at once."""
    containers = containers_of(tmp_path, Engine())
    begun, may_end = threading.Event(), threading.Event()
    at_once, most = 0, 0

    def slowly(containers: Sequence[Tended]) -> Mapping[str, tuple[MemoryDeath, ...]]:
        nonlocal at_once, most
        at_once += 1
        most = max(most, at_once)
        begun.set()
        may_end.wait(30)
        at_once -= 1
        return {}

    containers._memory.tend = slowly  # type: ignore[method-assign]
    first = asyncio.create_task(containers.tend_memory())
    await asyncio.to_thread(begun.wait, 30)
    first.cancel()
    second = asyncio.create_task(containers.tend_memory())
    await asyncio.sleep(0.05)
    may_end.set()
    with pytest.raises(asyncio.CancelledError):
        await first
    assert await second == {}
    assert most == 1
