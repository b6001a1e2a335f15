"""What open event streams cost: many pages follow instances, nothing changes, then something does.

One portal over the fake engine, asked at its own socket, so that nobody but it is measured:

- the processor time it takes while nothing changes, with no stream and with all of them open;
- how long a change takes to its readers, made through this portal and made by another process in the database;
- how long `/api/v1/me` takes meanwhile.

    python benchmarks/streams.py [--streams 2000] [--people 100] [--seconds 10] [--changes 200]

Needs nothing but this repository. The load and the portal share the machine.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import resource
import sqlite3
import statistics
import sys
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from time import monotonic

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "src"))

from launchpad.domain.naming import new_id  # noqa: E402 - the path has to be set first
from launchpad.domain.signin import Login, new_secret, secret_digest  # noqa: E402
from launchpad.domain.users import Role, User, UserStatus  # noqa: E402
from launchpad.store import logins, users  # noqa: E402
from launchpad.store.database import Database  # noqa: E402

PATIENCE_SECONDS = 60.0
TARGETS = {
    "idle, share of a core": 0.10,
    "a change, p99": 0.200,
    "a change of another process, p99": 0.500,
    "/api/v1/me meanwhile, p99": 0.020,
}


@dataclass
class Person:
    """Somebody with one running instance, and what their streams have brought."""

    cookie: str
    csrf: str = ""
    instance_id: str = ""
    expires_at: str = ""
    arrived: dict[str, list[float]] = field(default_factory=dict)  # by the end that was told: when, for each stream


class Portal:
    """A portal in a process of its own."""

    def __init__(self, folder: Path, streams_per_login: int) -> None:
        self.folder = folder
        self.socket = folder / "portal.sock"
        self.variables = {name: text for name, text in os.environ.items() if not name.startswith("LAUNCHPAD_")} | {
            "LAUNCHPAD_PUBLIC_URL": "http://localhost:8080",
            "LAUNCHPAD_INSTANCES_URL": "http://localhost:8081",
            "LAUNCHPAD_STATE_DIR": str(folder / "state"),
            "LAUNCHPAD_HOMES__ROOT": str(folder / "homes"),
            "LAUNCHPAD_HOMES__DRIVER": "plain",
            "LAUNCHPAD_ENGINE__RUNTIME": "fake",
            "LAUNCHPAD_CAPACITY__MEMORY": "4000g",
            "LAUNCHPAD_CAPACITY__CPUS": "4000",
            "LAUNCHPAD_WEB__SOCKET": str(self.socket),
            "LAUNCHPAD_WEB__STREAMS_PER_LOGIN": str(streams_per_login),
            "PYTHONPATH": str(ROOT / "src"),
        }
        (folder / "homes").mkdir()
        self.process: asyncio.subprocess.Process | None = None

    @property
    def database(self) -> Path:
        return self.folder / "state" / "launchpad.db"

    async def start(self) -> None:
        with (self.folder / "portal.log").open("wb") as log:
            self.process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "launchpad", "serve", "--quiet", env=self.variables, stdout=log, stderr=log
            )
        async with asyncio.timeout(PATIENCE_SECONDS):
            while True:
                with suppress(OSError, ConnectionError, asyncio.IncompleteReadError):
                    if (await self.call("GET", "/readyz"))[0] == 200:
                        return
                assert self.process.returncode is None, (self.folder / "portal.log").read_text()
                await asyncio.sleep(0.1)

    async def stop(self) -> None:
        if self.process is not None and self.process.returncode is None:
            self.process.terminate()
            await self.process.wait()

    def processor_seconds(self) -> float:
        assert self.process is not None
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def memory_mb(self) -> float:
        assert self.process is not None
        lines = Path(f"/proc/{self.process.pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmRSS"))

    async def share_of_a_core(self, seconds: float) -> float:
        before, began = self.processor_seconds(), monotonic()
        await asyncio.sleep(seconds)
        return (self.processor_seconds() - before) / (monotonic() - began)

    async def call(self, method: str, path: str, person: Person | None = None, body: object = None) -> tuple[int, str]:
        """One call on a connection of its own."""
        async with self.asked(method, path, person, body) as (status, reader):
            return status, (await reader.read()).decode()

    @asynccontextmanager
    async def asked(
        self, method: str, path: str, person: Person | None = None, body: object = None
    ) -> AsyncIterator[tuple[int, asyncio.StreamReader]]:
        """The status of an answer, and what comes after its head."""
        reader, writer = await asyncio.open_unix_connection(str(self.socket))
        try:
            content = json.dumps(body).encode() if body is not None else b""
            lines = [f"{method} {path} HTTP/1.0", "Host: localhost:8080", f"Content-Length: {len(content)}"]
            if body is not None:
                lines.append("Content-Type: application/json")
            if person is not None:
                lines += [f"Cookie: lp_login={person.cookie}", f"X-CSRF-Token: {person.csrf}"]
            writer.write("\r\n".join([*lines, "", ""]).encode() + content)
            head = await reader.readuntil(b"\r\n\r\n")
            yield int(head.split()[1]), reader
        finally:
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()


async def sign_in_people(portal: Portal, number: int) -> list[Person]:
    """Puts users and logins into the database, as the sign-in would."""
    (portal.folder / "state").mkdir()
    database = Database(f"sqlite+aiosqlite:///{portal.database}")
    await database.migrate()
    now, people = datetime.now(UTC), []
    async with database.transaction() as db:
        for one in range(number):
            name, secret = f"person{one}", new_secret()
            user = User(
                new_id(), f"{name}@example.org", name, 20_000 + one, Role.USER, UserStatus.ACTIVE, None, created_at=now
            )
            await users.add(db, user)
            login = Login(new_id(), user.id, now, now, now + timedelta(hours=10), False, "192.0.2.1", "benchmark", now)
            await logins.add(db, login, secret_digest(secret))
            people.append(Person(secret))
    await database.aclose()
    return people


async def launch(portal: Portal, person: Person) -> None:
    _, me = await portal.call("GET", "/api/v1/me", person)
    person.csrf = json.loads(me)["csrf_token"]
    status, text = await portal.call("POST", "/api/v1/instances", person, {"environment": "jupyterlab", "days": 1})
    assert status == 202, text
    person.instance_id = json.loads(text)["id"]
    async with asyncio.timeout(PATIENCE_SECONDS):
        while True:
            instance = json.loads((await portal.call("GET", f"/api/v1/instances/{person.instance_id}", person))[1])
            if instance["state"] == "running":
                person.expires_at = instance["expires_at"]
                return
            assert instance["state"] in ("queued", "starting"), instance
            await asyncio.sleep(0.2)


async def follow(portal: Portal, person: Person, opened: asyncio.Semaphore) -> None:
    """One page that is looked at. Releases `opened` when its first event is there."""
    path = f"/api/v1/instances/{person.instance_id}/events"
    async with portal.asked("GET", path, person) as (status, reader):
        assert status == 200, await reader.read()
        first, event = True, b""
        while line := await reader.readline():
            if line.startswith(b"event:"):
                event = line[6:].strip()
            elif line.startswith(b"data:") and event == b"state":
                if first:
                    opened.release()
                first = False
                expires_at = json.loads(line[5:])["expires_at"]
                person.arrived.setdefault(instant(expires_at), []).append(monotonic())


def instant(text: str) -> str:
    """One spelling, whoever tells it."""
    return datetime.fromisoformat(text.replace("Z", "+00:00")).isoformat(timespec="milliseconds")


async def until_all_know(person: Person, expires_at: str, streams: int, began: float) -> list[float]:
    """How long it took to each stream, in seconds."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while len(person.arrived.get(expires_at, ())) < streams:
            await asyncio.sleep(0.002)
    return [at - began for at in person.arrived[expires_at]]


async def change_here(portal: Portal, people: Sequence[Person], streams: int, changes: int) -> list[float]:
    """Extends instances, one after the other."""
    took: list[float] = []
    for number in range(changes):
        person = people[number % len(people)]
        began = monotonic()
        path = f"/api/v1/instances/{person.instance_id}/extend"
        status, text = await portal.call("POST", path, person, {"days": 1})
        if status == 409:  # as long as may be
            continue
        assert status == 200, text
        took += await until_all_know(person, instant(json.loads(text)["expires_at"]), streams, began)
        await asyncio.sleep(0.01)
    return took


async def change_elsewhere(portal: Portal, people: Sequence[Person], streams: int, changes: int) -> list[float]:
    """Another process changes rows; nobody tells the portal."""
    took: list[float] = []
    database = sqlite3.connect(portal.database, isolation_level=None, timeout=10)
    try:
        for number in range(changes):
            person = people[number % len(people)]
            until = (datetime.now(UTC) + timedelta(days=3, seconds=number)).replace(microsecond=0)
            began = monotonic()
            stored = until.replace(tzinfo=None).isoformat(" ", timespec="microseconds")
            database.execute("UPDATE instances SET expires_at = ? WHERE id = ?", (stored, person.instance_id))
            took += await until_all_know(person, instant(until.isoformat()), streams, began)
            await asyncio.sleep(0.01)
    finally:
        database.close()
    return took


async def ask_me(portal: Portal, people: Sequence[Person], took: list[float]) -> None:
    """Somebody asks who they are, 25 times a second."""
    number = 0
    while True:
        began = monotonic()
        status, _ = await portal.call("GET", "/api/v1/me", people[number % len(people)])
        took.append(monotonic() - began)
        assert status == 200
        number += 1
        await asyncio.sleep(0.04)


def p99(seconds: Sequence[float]) -> float:
    ordered = sorted(seconds)
    return ordered[min(len(ordered) - 1, int(0.99 * len(ordered)))]


async def measure(given: argparse.Namespace, folder: Path) -> dict[str, float]:
    each = given.streams // given.people
    portal = Portal(folder, streams_per_login=each + 1)
    people = await sign_in_people(portal, given.people)
    await portal.start()
    following: list[asyncio.Task[None]] = []
    try:
        for at in range(0, len(people), 10):
            await asyncio.gather(*(launch(portal, person) for person in people[at : at + 10]))
        await asyncio.sleep(2)
        found = {"no stream, share of a core": await portal.share_of_a_core(given.seconds)}
        memory_mb = portal.memory_mb()
        opened = asyncio.Semaphore(0)
        began = monotonic()
        for person in people:
            following += [asyncio.create_task(follow(portal, person, opened)) for _ in range(each)]
            for _ in range(each):
                await asyncio.wait_for(opened.acquire(), PATIENCE_SECONDS)
        found["opening one, mean"] = (monotonic() - began) / len(following)
        await asyncio.sleep(3)
        found["idle, share of a core"] = await portal.share_of_a_core(2 * given.seconds)
        found["memory of one, KB"] = (portal.memory_mb() - memory_mb) * 1024 / len(following)
        me: list[float] = []
        asking = asyncio.create_task(ask_me(portal, people, me))
        await asyncio.sleep(given.seconds)
        here = await change_here(portal, people, each, given.changes)
        elsewhere = await change_elsewhere(portal, people, each, given.changes // 2)
        asking.cancel()
        with suppress(asyncio.CancelledError):
            await asking
        assert not any(task.done() for task in following), "a stream has ended"
        for name, seconds in (
            ("a change", here),
            ("a change of another process", elsewhere),
            ("/api/v1/me meanwhile", me),
        ):
            found[f"{name}, median"], found[f"{name}, p99"] = statistics.median(seconds), p99(seconds)
    finally:
        for task in following:
            task.cancel()
        await asyncio.gather(*following, return_exceptions=True)
        await portal.stop()
    return found


def shown(name: str, value: float) -> str:
    if name.endswith("share of a core"):
        return f"{value:.1%}"
    return f"{value:.1f}" if name.endswith("KB") else f"{1000 * value:.1f} ms"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--streams", type=int, default=2000)
    parser.add_argument("--people", type=int, default=100, help="who share them; each has one running instance")
    parser.add_argument("--seconds", type=float, default=10.0, help="of each measurement")
    parser.add_argument("--changes", type=int, default=200)
    given = parser.parse_args()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 2 * given.streams + 1000  # of this process, and of the portal, which inherits it
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(wanted, hard), hard))
    with tempfile.TemporaryDirectory(prefix="lp-") as folder:
        found = asyncio.run(measure(given, Path(folder)))
    print(f"{given.streams} streams of {given.people} people")
    missed = 0
    for name, value in found.items():
        target = TARGETS.get(name)
        verdict = "" if target is None else f"   target {shown(name, target)}" + ("" if value <= target else "  MISSED")
        missed += target is not None and value > target
        print(f"  {name:40} {shown(name, value):>10}{verdict}")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
