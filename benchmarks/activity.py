"""What it costs to know what goes on in many instances: processor time of a pass, and room in the database for a day.

Three parts. With real containers of Docker Engine, each with a few processes: the pass that looks into them, beside the
plain look at what they use. With an answering server in another process: asking Jupyter for its kernels, of every
instance, as if each had some. With as many instances as are wanted and nothing real behind them: a pass of the whole
service, and what a day of it leaves in the database, of which a part is written and the rest reckoned.

    python benchmarks/activity.py [--containers 20] [--instances 200] [--rounds 10] [--minutes 120]

The first part needs root and Docker Engine; --containers 0 leaves it out. Takes about two minutes.
"""

from __future__ import annotations

import argparse
import asyncio
import secrets
import sqlite3
import statistics
import sys
import tempfile
from collections.abc import Awaitable, Callable, Mapping
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from time import perf_counter, process_time

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from launchpad.domain.activity import Program, WorkThresholds  # noqa: E402 - the path has to be set first
from launchpad.domain.instances import Address, Instance, Stage, State  # noqa: E402
from launchpad.domain.limits import Limits  # noqa: E402
from launchpad.domain.usage import ContainerActivity, Usage  # noqa: E402
from launchpad.runtime.base import ContainerSpec  # noqa: E402
from launchpad.runtime.engine import EngineRuntime  # noqa: E402
from launchpad.runtime.oom_order import SETTLES_SECONDS  # noqa: E402
from launchpad.services.activity import ActivityService  # noqa: E402
from launchpad.services.catalogue import catalogue_of  # noqa: E402
from launchpad.services.ide_signals import JupyterSignals  # noqa: E402
from launchpad.services.launching import Launcher  # noqa: E402
from launchpad.services.live.usage import UsageSampler  # noqa: E402
from launchpad.services.memory import LOOK_SECONDS  # noqa: E402
from launchpad.settings import ActivitySettings, EngineSettings, Settings  # noqa: E402
from launchpad.store.database import Database  # noqa: E402
from support.live import remove_network  # noqa: E402
from support.small_image import make_small_image  # noqa: E402

GB, MB = 1024**3, 1024**2
AT = datetime(2026, 3, 2, tzinfo=UTC)
SAMPLE_SECONDS = ActivitySettings().sample_seconds
PROCESSES = 8  # of a container: an IDE with a kernel, a terminal and what looks after them


async def measured(name: str, rounds: int, many: int, ask: Callable[[], Awaitable[object]]) -> float:
    """Prints what a round takes; its processor time in milliseconds for one instance."""
    walls, own = [], process_time()
    for _ in range(rounds):
        begun = perf_counter()
        await ask()
        walls.append(perf_counter() - begun)
    each = 1000 * (process_time() - own) / rounds / many
    print(f"{name:44} {1000 * statistics.median(walls):10.1f} {each * many:10.1f} {each:10.3f}")
    return each


async def with_containers(many: int, rounds: int) -> tuple[float, float]:
    """Milliseconds of processor time that looking into one container takes, and seeing to its memory."""
    image, mark = make_small_image(), secrets.token_hex(4)
    settings = EngineSettings(network=f"launchpad-bench-{mark}", port_range="30000-31999")
    engine = EngineRuntime(settings, mark)
    idle = " & ".join(["/bin/busybox sleep 100000"] * (PROCESSES - 1))
    try:
        await engine.ensure_network()
        for number in range(many):
            await engine.start(
                ContainerSpec(
                    instance_id=f"{number:016}",
                    owner_id="owner",
                    environment="small",
                    image=image,
                    network_port=8080,
                    memory_bytes=64 * MB,
                    cpus=0.5,
                    pids_limit=64,
                    command=("/bin/busybox", "sh", "-c", idle),
                )
            )
        await engine.activity_all()  # what is known of each from now on
        await measured(f"what {many} containers use", rounds, many, engine.usage_all)
        looking = await measured(f"what goes on in {many} containers", rounds, many, engine.activity_all)
        await engine.tend_memory()
        await asyncio.sleep(SETTLES_SECONDS + 1)  # young processes are looked at more closely; most are older
        await engine.tend_memory()
        return looking, await measured(f"the memory of {many} containers", rounds, many, engine.tend_memory)
    finally:
        for container in await engine.list_containers():
            await engine.remove(container.instance_id)
        await engine.aclose()
        await remove_network(settings.network, mark)


KERNELS = """
import asyncio, json
ANSWER = json.dumps([{"id": "0" * 36, "name": "python3", "last_activity": "2026-03-02T09:30:00.000000Z",
                      "execution_state": "idle", "connections": 1}] * 2).encode()
HEAD = b"HTTP/1.1 200 OK\\r\\nContent-Type: application/json\\r\\nContent-Length: %d\\r\\n\\r\\n" % len(ANSWER)
async def answer(reader, writer):
    await reader.readuntil(b"\\r\\n\\r\\n")
    writer.write(HEAD + ANSWER)
    await writer.drain()
    writer.close()
async def main():
    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()
asyncio.run(main())
"""


async def with_kernels(many: int, rounds: int) -> float:
    """Milliseconds of processor time that asking one Jupyter server for its kernels takes, here, not there."""
    settings = Settings()
    environment = catalogue_of(settings)["jupyterlab"]
    signals = JupyterSignals(Launcher(settings, None, None, b"key"))  # type: ignore[arg-type]  # it starts nothing
    server = await asyncio.create_subprocess_exec(sys.executable, "-c", KERNELS, stdout=asyncio.subprocess.PIPE)
    try:
        assert server.stdout is not None
        address = Address("127.0.0.1", int(await server.stdout.readline()))
        asked = [(replace(one, address=address), environment) for one in await Made(many).of_everyone(limit=many)]
        assert len(await signals.of(asked)) == many
        return await measured(f"the kernels of {many} Jupyter servers", rounds, many, lambda: signals.of(asked))
    finally:
        await signals.aclose()
        server.terminate()
        await server.wait()


class Made:
    """As many instances as are wanted, that do something else at every look."""

    def __init__(self, many: int) -> None:
        self.ids = [f"{number:016}" for number in range(many)]
        self.looks = 0

    async def activity_all(self) -> Mapping[str, ContainerActivity]:
        self.looks += 1
        return {one: self._of(number) for number, one in enumerate(self.ids)}

    async def usage_all(self) -> Mapping[str, Usage]:
        return {one: made.usage for one, made in (await self.activity_all()).items()}

    def _of(self, number: int) -> ContainerActivity:
        busy = number % 3 * 10.0
        usage = Usage(GB + number * MB, self.looks * busy, 12)
        programs = (
            Program("STAR", busy / 30, GB, "STAR --runThreadN 11"),
            Program("R: main.R", 0.4, GB, "R --file=main.R"),
        )
        return ContainerActivity(usage, 2 * GB, self.looks * MB, 2 * self.looks * MB, programs=programs)

    async def of_everyone(self, *, limit: int) -> list[Instance]:
        limits = Limits(8 * GB, 2.0, 64 * GB, 1)
        return [
            Instance(one, "owner", "jupyterlab", State.RUNNING, Stage.READY, None, limits, AT, AT, started_at=AT)
            for one in self.ids[:limit]
        ]


class NoJupyter:
    async def of(self, asked: object) -> Mapping[str, object]:
        return {}

    async def aclose(self) -> None: ...


async def with_rows(many: int, minutes: int) -> tuple[float, float]:
    """Milliseconds of processor time of a pass for one instance, and bytes that a day of them takes."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "bench.db"
        database = Database(f"sqlite+aiosqlite:///{path}")
        await database.migrate()
        made = Made(many)
        service = ActivityService(
            database,
            made,
            UsageSampler(made),
            made,  # type: ignore[arg-type]
            NoJupyter(),  # type: ignore[arg-type]
            {},
            WorkThresholds(),
            lambda: True,
            SAMPLE_SECONDS,
        )
        try:
            await service.sample(AT)
            size = size_of(path)
            passes = int(minutes * 60 / SAMPLE_SECONDS)
            clock = iter(AT + timedelta(seconds=SAMPLE_SECONDS * number) for number in range(1, passes + 1))
            each = await measured(
                f"a pass over {many}, written down", passes, many, lambda: service.sample(next(clock))
            )
            written = size_of(path) - size
        finally:
            await service.aclose()
            await database.aclose()
    return each, written / minutes * 24 * 60


def size_of(path: Path) -> int:
    """Bytes of the pages that are in use."""
    with closing(sqlite3.connect(path)) as db:
        names = ("page_count", "freelist_count", "page_size")
        pages, free, size = (int(db.execute(f"PRAGMA {name}").fetchone()[0]) for name in names)
    return (pages - free) * size


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--containers", type=int, default=20)
    parser.add_argument("--instances", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--minutes", type=int, default=120)
    given = parser.parse_args()
    print(f"{'milliseconds':44} {'wall':>10} {'cpu':>10} {'cpu of one':>10}")
    looking, tending = await with_containers(given.containers, given.rounds) if given.containers else (0.0, 0.0)
    asking = await with_kernels(given.instances, given.rounds)
    writing, a_day = await with_rows(given.instances, given.minutes)
    share = (looking + asking + writing) * given.instances / 1000 / SAMPLE_SECONDS
    print(
        f"\n{given.instances} instances, a pass every {SAMPLE_SECONDS:g} s: {100 * share:.2f} % of a core (at most 1 %)"
    )
    memory = tending * given.instances / 1000 / LOOK_SECONDS
    print(f"their memory, a pass every {LOOK_SECONDS:g} s: {100 * memory:.2f} % of a core")
    print(f"a day of them in the database: {a_day / MB:.1f} MB (at most 50 MB)")


if __name__ == "__main__":
    asyncio.run(main())
