"""What it costs to know the use of many instances: control groups beside the engine's own statistics.

Starts small containers, and measures a list of them, the use of all of them, the use of one of them, and for comparison
what the engine's `stats` takes for one. Processor time is this process' own, and the engine's.

    python benchmarks/usage.py [--instances 50] [--rounds 20]

Needs root and Docker Engine. Takes about a second for each container.
"""

from __future__ import annotations

import argparse
import asyncio
import secrets
import statistics
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from time import perf_counter, process_time

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from launchpad.runtime.base import ContainerSpec  # noqa: E402 - the path has to be set first
from launchpad.runtime.engine import EngineRuntime  # noqa: E402
from launchpad.settings import EngineSettings  # noqa: E402
from support.live import remove_network  # noqa: E402
from support.small_image import make_small_image  # noqa: E402

TICKS = 100  # of the kernel's clock in a second, as /proc counts


def engine_seconds() -> float:
    """Processor time of every dockerd so far."""
    spent = 0
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            name, _, rest = stat.read_text(encoding="ascii", errors="replace").partition("(")[2].rpartition(")")
        except OSError:
            continue
        if name == "dockerd":
            spent += sum(map(int, rest.split()[11:13]))
    return spent / TICKS


async def measured(name: str, rounds: int, ask: Callable[[], Awaitable[object]]) -> None:
    walls = []
    own, engine = process_time(), engine_seconds()
    for _ in range(rounds):
        begun = perf_counter()
        await ask()
        walls.append(perf_counter() - begun)
    own, engine = process_time() - own, engine_seconds() - engine
    spent = f"{1000 * own / rounds:10.2f}   {1000 * engine / rounds:10.2f}"
    print(f"{name:34} {1000 * statistics.median(walls):10.2f}   {1000 * max(walls):10.2f}   {spent}")


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--instances", type=int, default=50)
    parser.add_argument("--rounds", type=int, default=20)
    given = parser.parse_args()
    image, mark = make_small_image(), secrets.token_hex(4)
    settings = EngineSettings(network=f"launchpad-bench-{mark}", port_range="30000-31999")
    engine = EngineRuntime(settings, mark)
    ids = [f"{number:016}" for number in range(given.instances)]
    try:
        await engine.ensure_network()
        for one in ids:
            await engine.start(
                ContainerSpec(
                    instance_id=one,
                    owner_id="owner",
                    environment="small",
                    image=image,
                    network_port=8080,
                    memory_bytes=64 * 1024**2,
                    cpus=0.5,
                    pids_limit=64,
                    command=("/bin/busybox", "sleep", "100000"),
                )
            )
        fresh = EngineRuntime(settings, mark)
        print(f"{given.instances} instances; milliseconds")
        print(f"{'':34} {'median':>10}   {'longest':>10}   {'own cpu':>10}   {'engine cpu':>10}")
        await measured("first usage_all of a new process", 1, fresh.usage_all)
        await fresh.aclose()
        await measured("usage_all", given.rounds, engine.usage_all)
        await measured("list_containers", given.rounds, engine.list_containers)
        await measured("usage of one", given.rounds, lambda: engine.usage(ids[0]))
        await measured("caps of one", given.rounds, lambda: engine.caps(ids[0]))
        name = f"containers/launchpad-{mark}-{ids[0]}/stats"
        params = {"stream": "false", "one-shot": "true"}
        await measured("the engine's stats of one", 3, lambda: engine._client.json(name, params=params))
    finally:
        for container in await engine.list_containers():
            await engine.remove(container.instance_id)
        await engine.aclose()
        await remove_network(settings.network, mark)


if __name__ == "__main__":
    asyncio.run(main())
