"""The services over a real database and a fake engine, without a web server; several at once where a test needs it."""

from __future__ import annotations

import asyncio
import os
from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from email.message import EmailMessage
from pathlib import Path
from time import monotonic
from typing import Any, TypeVar

from launchpad.domain.instances import Instance, State
from launchpad.domain.users import User
from launchpad.errors import EngineRefused, MailUnavailable
from launchpad.mail.base import check_message
from launchpad.mail.mailbox import FakeMailbox
from launchpad.mail.messages import code_of
from launchpad.platform import Platform
from launchpad.runtime.base import Container, ContainerSpec, Engine
from launchpad.runtime.fake import GB, FakeRuntime
from launchpad.services.audit import Actor
from launchpad.services.background import Background, Loop
from launchpad.services.instances import LaunchRequest
from launchpad.services.logins import Client
from launchpad.services.registration import on_disk
from launchpad.settings import tables
from launchpad.storage.base import HomeUse
from launchpad.storage.files import DirectFiles, Owner
from launchpad.storage.plain import PlainHomes
from launchpad.storage.snapshots import Snapshots
from launchpad.store import users
from launchpad.wiring import build_platform

from .databases import databases

T = TypeVar("T")
START = datetime(2026, 3, 2, 9, 30, tzinfo=UTC)
PATIENCE_SECONDS = 120
ACTOR = Actor("test")


class Clock:
    """Stands still until it is moved."""

    def __init__(self, start: datetime = START) -> None:
        self.now = start

    def __call__(self) -> datetime:
        return self.now


class Letters:
    """A mailer that keeps what it is given, or raises what stands in `refusing`."""

    def __init__(self) -> None:
        self.sent: list[EmailMessage] = []
        self.to: dict[str, list[EmailMessage]] = defaultdict(list)
        self.refusing: MailUnavailable | None = None

    async def send(self, message: EmailMessage) -> None:
        check_message(message)
        if self.refusing is not None:
            raise self.refusing
        self.sent.append(message)
        self.to[message["To"]].append(message)

    async def check(self) -> None:
        return None

    def codes(self, address: str) -> list[str]:
        """The codes sent to an address, oldest first."""
        return [str(code_of(letter)) for letter in self.to[address]]


class SteppedRuntime(FakeRuntime):
    """A fake engine that can be held before and after each of its steps, that can refuse, and that counts starts."""

    def __init__(self, *, cpus: int = 8, memory_bytes: int = 32 * GB) -> None:
        super().__init__("test", cpus=cpus, memory_bytes=memory_bytes)
        self.gates: dict[str, asyncio.Event] = {}
        self.reached: dict[str, asyncio.Event] = defaultdict(asyncio.Event)
        self.refusing: set[str] = set()
        self.starts: list[str] = []
        self.deaf = False
        self.broken: set[str] = set()

    def hold(self, step: str) -> None:
        """Whoever comes to `step`, like "before start", waits there until `release`."""
        self.gates[step] = asyncio.Event()
        self.reached[step].clear()

    def release(self) -> None:
        for gate in self.gates.values():
            gate.set()
        self.gates.clear()

    async def at(self, step: str) -> None:
        self.reached[step].set()
        if step in self.gates:
            await self.gates[step].wait()

    def _may(self, verb: str, instance_id: str) -> None:
        if verb in self.broken:
            raise ZeroDivisionError("a fault of the program")
        if verb in self.refusing or f"{verb} {instance_id}" in self.refusing:
            raise EngineRefused("The container engine refused it.")

    async def image_exists(self, reference: str) -> bool:
        await self.at("before image_exists")
        return await super().image_exists(reference)

    async def ensure_network(self) -> None:
        await self.at("before ensure_network")
        await super().ensure_network()

    async def start(self, spec: ContainerSpec) -> Container:
        self._may("start", spec.instance_id)
        await self.at("before start")
        container = await super().start(spec)
        if self.deaf:
            server = self._running[spec.instance_id].server
            assert server is not None
            server.close()
            await server.wait_closed()
        self.starts.append(spec.instance_id)
        await self.at("after start")
        return container

    async def update(self, instance_id: str, memory_bytes: int | None = None, cpu_weight: int | None = None) -> None:
        self._may("update", instance_id)
        await super().update(instance_id, memory_bytes, cpu_weight)

    async def stop(self, instance_id: str, grace_seconds: int) -> None:
        await self.at("before stop")
        self._may("stop", instance_id)
        await super().stop(instance_id, grace_seconds)
        await self.at("after stop")

    async def remove(self, instance_id: str) -> None:
        await self.at("before remove")
        self._may("remove", instance_id)
        await super().remove(instance_id)
        await self.at("after remove")

    async def aclose(self) -> None:
        """The engine outlives the processes that talk to it; `shut_down` ends it."""

    async def shut_down(self) -> None:
        self.come_back()
        self.release()
        self.release_starts()
        await super().aclose()


class OwnFiles(DirectFiles):
    """Where others than root run the tests, homes are theirs, and so are the workers."""

    async def _begun(self, owner: Owner) -> Any:
        return await super()._begun(Owner(owner.username, os.geteuid()))


class SteppedHomes(PlainHomes):
    """Real homes that can be held before and after they are prepared, and remember their limit.

    Args:
        limits: the limit of each, by its name.
        used: how much those that it names are said to hold.
    """

    def __init__(
        self, root: Path, runtime: SteppedRuntime, limits: dict[str, int | None], used: Mapping[str, int]
    ) -> None:
        super().__init__(root)
        self._runtime = runtime
        self._limits = limits
        self._used = used

    async def use(self, username: str) -> HomeUse:
        if username not in self._used:
            return await super().use(username)
        return HomeUse(self._used[username], self._limits.get(username))

    async def prepare(self, username: str, uid: int, limit_bytes: int | None) -> Path:
        await self._runtime.at("before home")
        # Only root can give folders away; where others run the tests, they are theirs.
        path = await super().prepare(username, uid if os.geteuid() == 0 else os.geteuid(), limit_bytes)
        self._limits[username] = limit_bytes
        await self._runtime.at("after home")
        return path


def container_of(instance_id: str) -> ContainerSpec:
    """A container that a past of this deployment has left behind."""
    return ContainerSpec(
        instance_id=instance_id,
        owner_id="somebody",
        environment="jupyterlab",
        image="x",
        network_port=1,
        memory_bytes=1,
        cpus=1,
        pids_limit=1,
    )


class World:
    """One state directory, one engine, one clock; `open` is a process of the platform."""

    def __init__(self, folder: Path, settings: Mapping[str, Any] | None = None, **engine: int) -> None:
        self.folder = folder
        self.homes_root = folder / "homes"
        self.homes_root.mkdir(exist_ok=True)
        self.home_limits: dict[str, int | None] = {}
        self.home_use: dict[str, int] = {}
        self.clock = Clock()
        self.elapsed: Callable[[], float] | None = None  # what the clock is compared with; None: it is believed
        self.letters = Letters()
        self.mailbox = FakeMailbox()
        self.snapshots: Snapshots | None = None  # none are kept of plain homes, unless a test gives some
        self.runtime = SteppedRuntime(**engine)
        self.opened: list[Platform] = []
        self.background: dict[int, list[Background]] = defaultdict(list)
        self.settings = {
            "state_dir": folder / "state",
            "homes": {"root": str(self.homes_root), "driver": "plain"},
            "admin_emails": ["admin@example.org"],
            "limits": {
                "memory": ["1g", "2g", "4g"],
                "cpus": [1, 2],
                "storage": ["16g", "64g"],
                "days": [1, 2, 7],
                "default_memory": "1g",
                "default_cpus": 1,
            },
            "capacity": {"cpus": 100, "memory": "32g"},
            **(settings or {}),
        }
        self.database_url = str(self.settings.get("database_url") or databases.url(folder / "state"))
        if not self.database_url.startswith("sqlite"):
            self.settings["database_url"] = self.database_url

    @property
    def database_file(self) -> Path:
        return self.folder / "state" / "launchpad.db"

    async def open(self, *, mail: bool = True, runtime: Engine | None = None) -> Platform:
        """A process like the portal's, as far as the database, and one sender of mail unless that is not wanted.

        It takes up what others record, and admits; other background work is begun by whoever wants it, with `run`.

        Args:
            runtime: the engine as this process sees it, where that is not simply the world's.
        """
        platform = build_platform(
            tables(self.settings),
            now=self.clock,
            elapsed=self.elapsed,
            runtime=runtime or self.runtime,
            homes=SteppedHomes(self.homes_root, self.runtime, self.home_limits, self.home_use),
            files=None if os.geteuid() == 0 else OwnFiles(self.homes_root, tables(self.settings).files),
            snapshots=self.snapshots,
            mailer=self.letters,
            mailbox=self.mailbox,
        )
        await platform.database.migrate()
        await platform.lease.try_acquire()
        self.opened.append(platform)
        self.run(platform, platform.intents.loop(), platform.admission.loop())
        if mail:
            self.run(platform, platform.mail.loops()[0])
        return platform

    def run(self, platform: Platform, *loops: Loop) -> Background:
        """Begins with some of the process' background work."""
        background = Background(loops, now=self.clock)
        background.start()
        self.background[id(platform)].append(background)
        return background

    async def observe(self, platform: Platform) -> Background:
        """The process listens to the engine from now on."""
        return self.run(platform, platform.observer.loop())

    async def end_background(self, platform: Platform) -> None:
        for background in self.background.pop(id(platform), []):
            await background.aclose()

    async def crash(self, platform: Platform) -> None:
        """The process dies: what it did stops where it stands, and the kernel lets go of its lock."""
        self.opened.remove(platform)
        await self.end_background(platform)
        await platform.runner.drop()
        await platform.activity.aclose()
        await platform.events.aclose()
        await platform.live.aclose()
        await platform.lease.aclose()
        await platform.runner._launcher.aclose()
        await platform.database.aclose()

    async def close(self) -> None:
        self.runtime.release()
        self.runtime.release_starts()
        for platform in self.opened:
            await self.end_background(platform)
            await platform.aclose()
        await self.runtime.shut_down()

    def rows(self, sql: str, *values: object) -> list[tuple[Any, ...]]:
        """What stands in the database itself, past the platform."""
        return databases.rows(self.database_url, sql, *values)

    async def change(self, sql: str, *values: object) -> None:
        """Changes the database itself, past the platform."""
        await databases.change(self.database_url, sql, *values)


async def sign_in(
    platform: Platform, address: str, *, client: str = "192.0.2.1", remember: bool = False
) -> tuple[User, str]:
    """A user who is signed in, registered where they were not, and the secret of the login.

    As with the right code, but without one: the mail and its code were most of what a test of something else took.
    """
    here = Client(client, "Mozilla/5.0 (X11; Linux x86_64) Firefox/140.0")
    service, now = platform.sign_in, platform.now()
    disk = await on_disk(service._homes, address)
    async with platform.database.transaction() as db:
        user = await users.by_email(db, address) or await service._register(db, address, disk, here, now)
        assert user.is_active
        signed_in = await platform.logins.open(db, user, remember, here, now)
    return signed_in.user, signed_in.secret


async def launch(platform: Platform, owner: User, environment: str = "jupyterlab", **size: Any) -> Instance:
    return await platform.instances.launch(owner, LaunchRequest(environment, **size), ACTOR, platform.now())


async def reaches(platform: Platform, instance_id: str, *states: State) -> Instance:
    """The instance as soon as it is in one of the states."""

    async def there() -> Instance | None:
        instance = await platform.instances.get_any(instance_id)
        return instance if instance.state in states else None

    return await until(there, lambda: f"{instance_id} does not become {states}")


async def until(look: Callable[[], Awaitable[T | None]], words: Callable[[], str] = lambda: "it does not happen") -> T:
    """What `look` answers as soon as it is something."""
    deadline = monotonic() + PATIENCE_SECONDS
    pause_seconds = 0.01
    while not (found := await look()):
        assert monotonic() < deadline, words()
        await asyncio.sleep(pause_seconds)
        pause_seconds = min(1.2 * pause_seconds, 0.1)  # to look is no small work, and may be what it waits for
    return found


async def keep_current(world: World, platform: Platform) -> Background:
    """The process is told of what others change, as a portal is; returns once it is."""
    background = world.run(platform, *(loop for loop in platform.background.loops if loop.name == "changes"))
    await until(lambda: _is_current(platform), lambda: "the feed does not become current")
    return background


async def _is_current(platform: Platform) -> bool:
    return platform.database.changes.is_current
