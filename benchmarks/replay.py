"""What a policy replay costs: how long it takes, how much memory, and how long it keeps others in the portal waiting.

Over a SQLite database of as many places as are wanted, each with an instance of a day after the other, every one of
them with days of work, of people and of idleness; in the steps that activity is kept in: minutes of the last two days,
quarters of an hour before. Beside it, in the same process, something that wants to be done every few milliseconds.

    python benchmarks/replay.py [--instances 200] [--days 30] [--rounds 5]

Needs no root and no engine. Takes about half a minute.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import resource
import statistics
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path
from time import perf_counter

from sqlalchemy import insert

from launchpad.domain.activity import Point, Step, step_of
from launchpad.domain.activity_codec import CHUNK_SECONDS, KEPT, packed
from launchpad.domain.policy import IdleAction, IdleRule
from launchpad.services.policy_replay import PolicyReplayService, ReplayReport, ReplayRequest
from launchpad.store import activity, instance_history
from launchpad.store.database import Database

GB = 1024**3
NOW = datetime(2026, 3, 31, 12, 0, tzinfo=UTC)
PATTERNS = 40  # of what goes on in a chunk
AT_ONCE = 2000
TICK_SECONDS = 0.005


def patterns(step: Step) -> list[bytes]:
    """Chunks that begin at 0: most of them of one kind of hour after the other, as people's days are."""
    chance = random.Random(7)
    begin, number = datetime.fromtimestamp(0, UTC), CHUNK_SECONDS[step] // step
    found = []
    for _ in range(PATTERNS):
        points, kind = [], "."
        for place in range(number):
            if chance.random() < (0.15 if step is Step.QUARTER else 0.02):
                kind = chance.choice("....wp")
            at = begin + timedelta(seconds=place * step)
            points.append(Point(at, 0.02, 3 * GB, GB, 40, was_working=kind == "w", was_used=kind == "p"))
        found.append(packed(points, 0, step))
    return found


async def fill(database: Database, places: int, days: int) -> tuple[int, int]:
    """How many chunks and how many points there are then."""
    chance, since = random.Random(11), NOW - timedelta(days=days)
    async with database.transaction() as db:
        for place in range(places):
            instances: list[dict[str, object]] = []
            for day in range(days):
                begin = since + timedelta(days=day, seconds=place)
                instances.append(
                    {
                        "instance_id": name_of(place, day),
                        "owner_id": f"owner{place}",
                        "owner_email": f"person{place}@example.org",
                        "lab": f"lab{place % 20}",
                        "environment": "jupyterlab" if place % 2 else "rstudio",
                        "memory_bytes": 16 * GB,
                        "cpus": 4.0,
                        "storage_bytes": GB,
                        "days": 1,
                        "created_at": begin,
                        "expires_at": begin + timedelta(days=1),
                        "started_at": begin,
                        "ended_at": begin + timedelta(days=1),
                        "state": "expired",
                        "reason": "expired",
                        "oom_count": 0,
                        "stand_in": False,
                    }
                )
            await db.execute(insert(instance_history.table), instances)
    chunks = points = 0
    for step in (Step.QUARTER, Step.MINUTE):
        few = patterns(step)
        begin = max(since, NOW - KEPT[step]) if step is Step.MINUTE else since
        rows: list[dict[str, object]] = []
        seconds = CHUNK_SECONDS[step]
        first = int(step_of(begin, Step.QUARTER).timestamp()) // seconds * seconds
        for begins_at in range(first, int(NOW.timestamp()), seconds):
            day = int(begins_at - since.timestamp()) // 86_400
            for place in range(places):
                data = chance.choice(few)
                points += len(data) // 34
                rows.append(
                    {
                        "step": int(step),
                        "begins_at": begins_at,
                        "instance_id": name_of(place, min(max(day, 0), days - 1)),
                        "points": data,
                    }
                )
        chunks += len(rows)
        for at in range(0, len(rows), AT_ONCE):
            async with database.transaction() as db:
                await db.execute(insert(activity.table), rows[at : at + AT_ONCE])
    return chunks, points


def name_of(place: int, day: int) -> str:
    return f"i{place:05}d{day:03}"


async def longest_wait(until: asyncio.Event) -> float:
    """How long something that wants to be done every few milliseconds had to wait at most, in milliseconds."""
    longest = 0.0
    while not until.is_set():
        begun = perf_counter()
        await asyncio.sleep(TICK_SECONDS)
        longest = max(longest, perf_counter() - begun - TICK_SECONDS)
    return longest * 1000


async def measure(places: int, days: int, rounds: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        database = Database(f"sqlite+aiosqlite:///{Path(folder) / 'launchpad.db'}")
        try:
            await database.migrate()
            chunks, points = await fill(database, places, days)
            print(f"{places} instances at a time for {days} days: {chunks:,} chunks, {points:,} points")
            service = PolicyReplayService(database, timedelta(minutes=3), timedelta(minutes=10), frees_memory=True)
            print(f"{'rule':24}{'ends':>8}{'seconds':>10}{'longest wait, ms':>20}{'more memory, MB':>18}")
            for minutes in (30, 240, 1440):
                await rule(service, minutes, days, rounds)
        finally:
            await database.aclose()


async def rule(service: PolicyReplayService, minutes: int, days: int, rounds: int) -> None:
    request = ReplayRequest(IdleRule(IdleAction.STOP, minutes), days)
    walls, waits, report = [], [], None
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for _ in range(rounds):
        done = asyncio.Event()
        waiting = asyncio.create_task(longest_wait(done))
        begun = perf_counter()
        report = await service.replay(request, NOW)
        walls.append(perf_counter() - begun)
        done.set()
        waits.append(await waiting)
    assert isinstance(report, ReplayReport)
    more = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    print(
        f"{request.rule.in_words:24}{len(report.ends):8,}{statistics.median(walls):10.2f}"
        f"{statistics.median(waits):20.1f}{more:18.1f}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--instances", type=int, default=200, help="at a time")
    parser.add_argument("--days", type=int, default=30)
    parser.add_argument("--rounds", type=int, default=5)
    wanted = parser.parse_args()
    asyncio.run(measure(wanted.instances, wanted.days, wanted.rounds))


if __name__ == "__main__":
    main()
