"""What a visit to a frozen instance waits for: page loads through nginx and the gate, of a real application.

    python benchmarks/thaw.py [--environment jupyterlab|rstudio] [--rounds 20]

Each round loads a page twice: from an instance that is awake, and from the same one frozen. The table has the medians
and the 95th percentiles of both, and of the rounds' differences, which is what a thaw costs at the gate; quote the
differences, since machines are noisy. Needs root, nginx, Docker and the environment's image (`launchpad images build`).
Takes about two minutes.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from time import perf_counter

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from support.live import BROWSER, LivePlatform, Person  # noqa: E402 - the path has to be set first
from support.smtp import MailServer  # noqa: E402

PAGES = {"jupyterlab": "/api", "rstudio": "/auth-public-key"}  # small answers, so that little but the way is measured
PAGE_LOAD = BROWSER | {"Sec-Fetch-Mode": "navigate"}
GOAL_MS = 300


async def loads(person: Person, instance_id: str, path: str) -> float:
    """Milliseconds until a page load is answered in full."""
    begun = perf_counter()
    answer = await person.http.get(person.instance_url(instance_id, path), headers=PAGE_LOAD)
    took = (perf_counter() - begun) * 1000
    if answer.status_code != 200:
        raise SystemExit(f"{answer.url}: {answer.status_code} {answer.text[:200]}")
    return took


async def measure(environment: str, rounds: int) -> tuple[list[float], list[float]]:
    """Milliseconds of page loads from an awake and from a frozen instance, round by round."""
    mail = MailServer()
    mail.start()
    awake, frozen = [], []
    with tempfile.TemporaryDirectory(prefix="launchpad-thaw-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        live = LivePlatform(folder, mail)
        try:
            await live.start()
            async with live.person("bench@example.org") as person:
                instance = await person.launch_and_wait(environment, memory="1g")
                await person.open(instance["id"])
                for number in range(rounds + 1):
                    await asyncio.sleep(0.2)
                    first = await loads(person, instance["id"], PAGES[environment])
                    answer = await person.http.post(f"/api/v1/instances/{instance['id']}/freeze")
                    answer.raise_for_status()
                    await person.wait_for(instance["id"], "frozen")
                    second = await loads(person, instance["id"], PAGES[environment])
                    await person.wait_for(instance["id"], "running")
                    if number:  # the first round warms everything up
                        awake.append(first)
                        frozen.append(second)
        finally:
            await live.stop()
            mail.stop()
    return awake, frozen


def _row(name: str, numbers: Sequence[float]) -> str:
    ordered = sorted(numbers)
    late = ordered[min(len(ordered) - 1, round(0.95 * (len(ordered) - 1)))]
    return f"{name:<28}{statistics.median(ordered):>10.1f}{late:>10.1f}{ordered[-1]:>10.1f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--environment", choices=sorted(PAGES), default="jupyterlab")
    parser.add_argument("--rounds", type=int, default=20)
    arguments = parser.parse_args()
    awake, frozen = asyncio.run(measure(arguments.environment, arguments.rounds))
    beyond = [after - before for before, after in zip(awake, frozen, strict=True)]
    print(f"{arguments.environment}, {arguments.rounds} rounds, milliseconds")
    print(f"{'':<28}{'median':>10}{'95 %':>10}{'most':>10}")
    print(_row("awake", awake))
    print(_row("frozen", frozen))
    print(_row("beyond the awake answer", beyond))
    met = "met" if statistics.median(beyond) < GOAL_MS else "missed"
    print(f"The goal of {GOAL_MS} ms beyond an awake instance's answer is {met}.")


if __name__ == "__main__":
    main()
