"""How long from the click to a usable JupyterLab, against a bare `docker run` of the same image.

Both are measured in one run, in turn, since machines are noisy: quote the ratio. "Usable" is the same for both: the
application's health URL answers; ours is asked through nginx and the gate, with the cookie that Open gives.

    python benchmarks/launch.py [--rounds 10] [--at-once 20]

Needs root, Docker and nginx, and the environment's image (`launchpad images build`).
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import sys
import tempfile
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from time import monotonic

import httpx

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from support.live import LivePlatform, Person, docker  # noqa: E402 - the path has to be set first
from support.smtp import MailServer  # noqa: E402

POLL_SECONDS = 0.02
PATIENCE_SECONDS = 300
MEMORY_BYTES = 1024**3


class Bare:
    """`docker run` of the same image with the same limits, on a port of its own, without anything of ours."""

    def __init__(
        self, image: str, port: int, health_path: str, arguments: Sequence[str], home: Path, network: str
    ) -> None:
        self._image = image
        self._port = port
        self._health_path = health_path
        self._arguments = arguments
        self._home = home
        self._network = network

    async def until_usable(self) -> str:
        """Starts one; the container's id once it answers."""
        home = Path(tempfile.mkdtemp(dir=self._home))
        home.chmod(0o777)
        process = await asyncio.create_subprocess_exec(
            "docker",
            *("run", "-d", "-p", f"127.0.0.1::{self._port}", "-v", f"{home}:/home/jovyan", "--user", "200000:0"),
            *("--group-add", "100", "--memory", str(MEMORY_BYTES), "--memory-swap", str(MEMORY_BYTES), "--cpus", "1"),
            *("--cap-drop", "ALL", "--security-opt", "no-new-privileges", "--log-opt", "max-size=10m"),
            *("--network", self._network),
            self._image,
            *self._arguments,
            stdout=asyncio.subprocess.PIPE,
        )
        output, _ = await process.communicate()
        container = output.decode().strip()
        process = await asyncio.create_subprocess_exec(
            "docker", "port", container, f"{self._port}/tcp", stdout=asyncio.subprocess.PIPE
        )
        output, _ = await process.communicate()
        address = output.decode().split()[0]
        async with httpx.AsyncClient() as http:
            await _until_answers(http, f"http://{address}{self._health_path}")
        return container


class Ours:
    """A click by somebody who is signed in."""

    def __init__(self, person: Person, environment: str, health_path: str) -> None:
        self._person = person
        self._environment = environment
        self._health_path = health_path

    async def until_usable(self) -> str:
        """Launches one; the instance's id once its health URL answers through nginx."""
        instance = await self._person.launch(self._environment, memory="1g", cpus=1)
        async with self._person.http.stream("GET", f"/api/v1/instances/{instance['id']}/events") as events:
            async for line in events.aiter_lines():
                if line.startswith("data:") and '"state":"running"' in line.replace(" ", ""):
                    break
        await self._enter(instance["id"])
        await _until_answers(self._person.http, self._person.instance_url(instance["id"], self._health_path))
        return str(instance["id"])

    async def _enter(self, instance_id: str) -> None:
        answer = await self._person.http.get(f"/api/v1/instances/{instance_id}/open", follow_redirects=False)
        await self._person.http.get(answer.headers["location"], follow_redirects=False)

    async def stop(self, instance_id: str) -> None:
        await self._person.stop(instance_id)


async def _until_answers(http: httpx.AsyncClient, url: str) -> None:
    began = monotonic()
    while True:
        try:
            if (await http.get(url, follow_redirects=False)).status_code < 400:
                return
        except httpx.HTTPError:
            pass
        if monotonic() - began > PATIENCE_SECONDS:
            raise TimeoutError(url)
        await asyncio.sleep(POLL_SECONDS)


async def _timed(work: Callable[[], Awaitable[str]]) -> tuple[float, str]:
    began = monotonic()
    made = await work()
    return monotonic() - began, made


def _median(values: Sequence[float]) -> float:
    return statistics.median(values)


async def one_by_one(bare: Bare, ours: Ours, rounds: int) -> dict[str, object]:
    """`rounds` of each, in turn, after one of each that does not count."""
    bare_seconds, our_seconds = [], []
    for number in range(rounds + 1):
        seconds, container = await _timed(bare.until_usable)
        docker("rm", "-f", container)
        our, instance = await _timed(ours.until_usable)
        await ours.stop(instance)
        if number:
            bare_seconds.append(seconds)
            our_seconds.append(our)
            print(f"  round {number}: bare {seconds:.2f} s, ours {our:.2f} s, {our / seconds:.2f}×", flush=True)
    ratios = [our / seconds for our, seconds in zip(our_seconds, bare_seconds, strict=True)]
    return {
        "bare_median_seconds": round(_median(bare_seconds), 3),
        "ours_median_seconds": round(_median(our_seconds), 3),
        "ratio_of_medians": round(_median(our_seconds) / _median(bare_seconds), 3),
        "median_of_ratios": round(_median(ratios), 3),
    }


async def all_at_once(bare: Bare, everybody: Sequence[Ours], rounds: int) -> dict[str, object]:
    """All of them at the same instant; the time until the last one is usable, and the median of them."""
    last, medians = [], []
    for number in range(1, rounds + 1):
        timed = await asyncio.gather(*(_timed(bare.until_usable) for _ in everybody))
        docker("rm", "-f", *(container for _, container in timed))
        bare_seconds = [seconds for seconds, _ in timed]
        timed = await asyncio.gather(*(_timed(ours.until_usable) for ours in everybody))
        await asyncio.gather(*(ours.stop(made) for ours, (_, made) in zip(everybody, timed, strict=True)))
        our_seconds = [seconds for seconds, _ in timed]
        last.append(max(our_seconds) / max(bare_seconds))
        medians.append(_median(our_seconds) / _median(bare_seconds))
        print(
            f"  round {number}: bare {_median(bare_seconds):.1f} s (last {max(bare_seconds):.1f} s), "
            f"ours {_median(our_seconds):.1f} s (last {max(our_seconds):.1f} s)",
            flush=True,
        )
    return {
        "at_once": len(everybody),
        "ratio_of_medians": round(_median(medians), 3),
        "ratio_of_the_last": round(_median(last), 3),
    }


async def main(rounds: int, at_once: int, at_once_rounds: int) -> None:
    mail = MailServer()
    mail.start()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        live = LivePlatform(folder, mail)
        async with AsyncExitStack() as stack:
            await live.start()
            stack.push_async_callback(live.stop)
            people = [
                await stack.enter_async_context(live.person(f"user{number}@example.org"))
                for number in range(max(1, at_once))
            ]
            health = "/api"
            image = _image_of(live)
            homes = folder / "bare"
            homes.mkdir()
            await _make_network(people[0])
            bare = Bare(image, 8888, health, ["start-notebook.py"], homes, live.network)
            everybody = [Ours(person, "jupyterlab", health) for person in people]
            print(f"image {image}\none at a time, {rounds} rounds:", flush=True)
            result: dict[str, object] = {"image": image, "one": await one_by_one(bare, everybody[0], rounds)}
            if at_once:
                print(f"{at_once} at once, {at_once_rounds} rounds:", flush=True)
                result["many"] = await all_at_once(bare, everybody, at_once_rounds)
            print(json.dumps(result, indent=2))
    mail.stop()


async def _make_network(person: Person) -> None:
    """The first launch makes the instances' network, in which the bare containers run, too."""
    instance = await person.launch_and_wait("jupyterlab", memory="1g", cpus=1)
    await person.stop(instance["id"])


def _image_of(live: LivePlatform) -> str:
    rows = json.loads(live.command("images", "list", "--json"))
    return str(next(row["uses"] for row in rows if row["environment"] == "jupyterlab"))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--at-once", type=int, default=20)
    parser.add_argument("--at-once-rounds", type=int, default=3)
    given = parser.parse_args()
    asyncio.run(main(given.rounds, given.at_once, given.at_once_rounds))
