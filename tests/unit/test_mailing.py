"""The queue of outgoing mail over a real database: what is kept, when it is tried again, what outlives a process."""

from __future__ import annotations

import asyncio
import sqlite3
from collections import Counter
from contextlib import closing
from datetime import timedelta
from email.message import EmailMessage
from itertools import pairwise
from pathlib import Path

import pytest

from launchpad.domain.mail import FailureKind
from launchpad.errors import MailUnavailable, StoreUnavailable
from launchpad.mail.messages import code_of
from launchpad.mail.sealing import seal, unseal
from launchpad.platform import Platform
from launchpad.services.background import Background
from launchpad.services.logins import Client
from launchpad.services.mailing import RETRY_AFTER_SECONDS, SENDERS, MailQueue
from launchpad.store import snapshot
from launchpad.store.database import Database
from support.platforms import World, until

ALICE = "alice@a.org"
HERE = Client("192.0.2.1", "Firefox")
KEY = b"k" * 32


class Mailer:
    """Keeps what it takes; what is done before that may be changed. `tried` counts all."""

    def __init__(self) -> None:
        self.sent: list[str] = []
        self.tried: Counter[str] = Counter()

    async def before(self, address: str) -> None:
        """Nothing."""

    async def send(self, message: EmailMessage) -> None:
        address = str(message["To"])
        self.tried[address] += 1
        await self.before(address)
        self.sent.append(address)

    async def check(self) -> None:
        return None


@pytest.fixture
async def platform(world: World) -> Platform:
    """Without a sender of its own."""
    return await world.open(mail=False)


def mail(address: str = ALICE) -> EmailMessage:
    message = EmailMessage()
    message["To"] = address
    message.set_content("Grüße …")
    return message


def queue_of(world: World, platform: Platform, mailer: Mailer, key: bytes = KEY) -> MailQueue:
    return MailQueue(platform.database, mailer, key, world.clock)


async def put(world: World, platform: Platform, queue: MailQueue, *addresses: str, minutes: float = 10) -> None:
    async with platform.database.transaction() as db:
        for address in addresses:
            await queue.add(db, mail(address), world.clock(), world.clock() + timedelta(minutes=minutes))
    queue.wake()


async def failures(platform: Platform) -> list[tuple[str, FailureKind, str | None]]:
    return [(one.address, one.kind, one.status) for one in await platform.mail_failures.page()]


# -- what is kept ------------------------------------------------------------------------------------------------------


async def test_a_code_that_waits_is_in_no_file_of_the_state_and_goes_when_it_was_sent(
    world: World, platform: Platform
) -> None:
    world.letters.refusing = MailUnavailable("later", mail_status="4.7.1")
    await platform.sign_in.ask(ALICE, HERE, world.clock())
    await platform.mail.drain()
    ((sealed, attempts),) = world.rows("SELECT sealed, attempts FROM outgoing_mails")
    assert attempts == 1
    world.letters.refusing = None
    world.clock.now += timedelta(seconds=RETRY_AFTER_SECONDS[0])
    await platform.mail.drain()
    (code,) = world.letters.codes(ALICE)
    files = {path: path.read_bytes() for path in (world.folder / "state").rglob("*") if path.is_file()}
    assert sealed[:100] in b"".join(files.values()), "also what was removed can be read in a file"
    for path, content in files.items():
        assert code.encode() not in content, path
        assert b"sign-in code" not in content, path
    assert world.rows("SELECT count(*) FROM outgoing_mails") == [(0,)]


async def test_what_is_sealed_opens_with_its_key_and_under_its_id_only() -> None:
    message = mail()
    sealed = seal(KEY, "one", message)
    again = unseal(KEY, "one", sealed)
    assert (again["To"], again.get_content()) == (message["To"], message.get_content())
    assert seal(KEY, "one", message) != sealed
    for key, mail_id, content in (
        (b"x" * 32, "one", sealed),
        (KEY, "two", sealed),
        (KEY, "one", sealed[:-1] + bytes([sealed[-1] ^ 1])),
        (KEY, "one", b""),
    ):
        with pytest.raises(ValueError, match=r"."):
            unseal(key, mail_id, content)


async def test_a_mail_of_another_key_is_dropped_and_stops_no_other(world: World, platform: Platform) -> None:
    """The state directory lost its key, or the database came from elsewhere."""
    mailer = Mailer()
    await put(world, platform, queue_of(world, platform, mailer, b"x" * 32), "lost@a.org")
    queue = queue_of(world, platform, mailer)
    await put(world, platform, queue, ALICE)
    await queue.drain()
    assert mailer.sent == [ALICE]
    assert await queue.waiting() == 0


async def test_a_code_that_was_not_committed_is_not_sent(world: World, platform: Platform) -> None:
    mailer = Mailer()
    queue = queue_of(world, platform, mailer)

    async def fails_after_that() -> None:
        async with platform.database.transaction() as db:
            await queue.add(db, mail(), world.clock(), world.clock() + timedelta(minutes=10))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await fails_after_that()
    await queue.drain()
    assert mailer.sent == []


async def test_a_backup_brings_no_mail_back(world: World, platform: Platform) -> None:
    await put(world, platform, platform.mail, ALICE)
    assert await platform.mail.waiting() == 1
    await world.end_background(platform)
    await platform.database.aclose()
    snapshot.end_logins_and_codes(world.database_file)
    assert world.rows("SELECT count(*) FROM outgoing_mails") == [(0,)]


# -- trying again ------------------------------------------------------------------------------------------------------


@pytest.mark.slow
async def test_a_mail_is_tried_again_after_growing_pauses_and_given_up_when_its_code_is_of_no_use(
    world: World, platform: Platform
) -> None:
    mailer = Mailer()

    async def greylists(address: str) -> None:
        raise MailUnavailable("later", mail_status="4.7.1")

    mailer.before = greylists  # type: ignore[method-assign]
    queue = queue_of(world, platform, mailer)
    began = world.clock()
    await put(world, platform, queue, ALICE)
    tries: list[float] = []
    while await queue.waiting():
        await queue.drain()
        if mailer.tried[ALICE] > len(tries):
            tries.append((world.clock() - began).total_seconds())
        world.clock.now += timedelta(seconds=1)
    pauses = [after - before for before, after in pairwise(tries)]
    assert pauses == list(RETRY_AFTER_SECONDS)
    assert tries[-1] < 600
    assert await failures(platform) == [(ALICE, FailureKind.GIVEN_UP, "4.7.1")]
    world.clock.now += timedelta(days=1)
    await queue.drain()
    assert mailer.tried[ALICE] == len(tries)


async def test_no_code_is_sent_after_it_has_expired(world: World, platform: Platform) -> None:
    """Whatever has kept it: nobody sent anything for so long, or the next try would come too late."""
    mailer = Mailer()
    queue = queue_of(world, platform, mailer)
    await put(world, platform, queue, ALICE)
    world.clock.now += timedelta(minutes=10)
    await queue.drain()
    assert (mailer.tried[ALICE], await queue.waiting()) == (0, 0)
    assert await failures(platform) == [(ALICE, FailureKind.GIVEN_UP, None)]

    async def refuses(address: str) -> None:
        raise MailUnavailable("later", mail_status="4.2.0")

    mailer.before = refuses  # type: ignore[method-assign]
    await put(world, platform, queue, "bob@a.org", minutes=0.02)
    await queue.drain()
    assert await queue.waiting() == 0


async def test_what_is_refused_for_good_is_told_once_and_what_arrives_in_the_end_is_not(
    world: World, platform: Platform
) -> None:
    world.letters.refusing = MailUnavailable("no", permanent=True, mail_status="5.7.1")
    await put(world, platform, platform.mail, ALICE)
    await platform.mail.drain()
    assert await failures(platform) == [(ALICE, FailureKind.REFUSED, "5.7.1")]
    world.letters.refusing = MailUnavailable("later")
    await put(world, platform, platform.mail, "bob@a.org")
    await platform.mail.drain()
    assert world.letters.sent == []
    world.letters.refusing = None
    world.clock.now += timedelta(seconds=RETRY_AFTER_SECONDS[0])
    await platform.mail.drain()
    assert [one["To"] for one in world.letters.sent] == ["bob@a.org"]
    assert len(await failures(platform)) == 1


@pytest.mark.slow
async def test_mails_that_wait_for_another_try_hold_up_nobody_elses(world: World, platform: Platform) -> None:
    """As in a class where one domain greylists: with four senders, four such mails stopped all others for minutes."""
    mailer = Mailer()

    async def greylists(address: str) -> None:
        if address.startswith("slow"):
            raise MailUnavailable("later", mail_status="4.7.1")

    mailer.before = greylists  # type: ignore[method-assign]
    queue = queue_of(world, platform, mailer)
    world.run(platform, *queue.loops())
    everybody = [f"{kind}{number}@a.org" for number in range(50) for kind in ("slow", "quick")]
    await put(world, platform, queue, *everybody)

    async def all_quick_ones() -> bool:
        return len(mailer.sent) == 50

    await until(all_quick_ones)
    world.clock.now += timedelta(seconds=RETRY_AFTER_SECONDS[0])
    mailer.before = Mailer().before  # type: ignore[method-assign]

    async def everybody_has_theirs() -> bool:
        return sorted(mailer.sent) == sorted(everybody)

    await until(everybody_has_theirs)
    assert max(mailer.tried.values()) == 2


@pytest.mark.slow
async def test_senders_that_hang_hold_up_no_sender_that_does_not(world: World, platform: Platform) -> None:
    """And a mail that is under way is nobody else's, however long it takes."""
    mailer, hanging = Mailer(), asyncio.Event()

    async def hangs(address: str) -> None:
        if address.startswith("slow"):
            await hanging.wait()

    mailer.before = hangs  # type: ignore[method-assign]
    queue = queue_of(world, platform, mailer)
    world.run(platform, *queue.loops())
    slow = [f"slow{number}@a.org" for number in range(SENDERS - 1)]
    await put(world, platform, queue, *slow)

    async def all_hang() -> bool:
        return len(mailer.tried) == len(slow)

    await until(all_hang)
    for number in range(20):
        await put(world, platform, queue, f"quick{number}@a.org")

    async def sent() -> bool:
        return len(mailer.sent) == 20

    await until(sent)
    hanging.set()
    await queue.drain()
    assert sorted(mailer.sent[20:]) == slow
    assert set(mailer.tried.values()) == {1}


async def test_a_clock_that_is_set_back_keeps_no_mail_waiting(world: World, platform: Platform) -> None:
    mailer = Mailer()

    async def refuses(address: str) -> None:
        raise MailUnavailable("later")

    mailer.before = refuses  # type: ignore[method-assign]
    queue = queue_of(world, platform, mailer)
    await put(world, platform, queue, ALICE)
    await queue.drain()
    mailer.before = Mailer().before  # type: ignore[method-assign]
    await queue.drain()
    assert mailer.sent == [], "it is not due yet"
    world.clock.now -= timedelta(days=1)
    await queue.drain()
    assert mailer.sent == [ALICE]


# -- faults ------------------------------------------------------------------------------------------------------------


async def test_a_try_that_waits_goes_on_in_the_next_process(world: World) -> None:
    """The portal is restarted between a 4xx and the next try; the code works."""
    first = await world.open()
    world.letters.refusing = MailUnavailable("later", mail_status="4.7.1")
    asked = await first.sign_in.ask(ALICE, HERE, world.clock())
    await first.mail.drain()
    await world.crash(first)
    world.letters.refusing = None
    second = await world.open()
    await second.mail.drain()
    assert world.letters.sent == [], "it is not due yet"
    world.clock.now += timedelta(seconds=RETRY_AFTER_SECONDS[0])
    await second.mail.drain()
    (code,) = world.letters.codes(ALICE)
    assert (await second.sign_in.verify(asked.cookie, code, False, HERE, world.clock())).user.email == ALICE


@pytest.mark.parametrize("killed", [True, False], ids=["killed", "closed in good order"])
async def test_a_mail_whose_sender_dies_in_the_middle_is_sent_by_the_next_process(world: World, killed: bool) -> None:
    hanging = asyncio.Event()
    reached = asyncio.Event()
    send = world.letters.send

    async def hangs(message: EmailMessage) -> None:
        reached.set()
        await hanging.wait()

    world.letters.send = hangs  # type: ignore[method-assign]
    first = await world.open()
    await first.sign_in.ask(ALICE, HERE, world.clock())
    await asyncio.wait_for(reached.wait(), 20)
    if killed:
        await world.crash(first)
    else:
        world.opened.remove(first)
        await world.end_background(first)
        await first.aclose()
    world.letters.send = send  # type: ignore[method-assign]
    second = await world.open()
    await second.mail.drain()
    assert world.letters.sent == [], "as far as the others know, somebody is at it"
    world.clock.now += timedelta(minutes=2) if killed else timedelta(seconds=RETRY_AFTER_SECONDS[0])
    await second.mail.drain()
    (code,) = world.letters.codes(ALICE)
    assert code_of(world.letters.sent[0]) == code


@pytest.mark.slow
async def test_a_fault_of_the_program_makes_one_mail_wait_and_no_other(world: World, platform: Platform) -> None:
    mailer = Mailer()

    async def breaks(address: str) -> None:
        if address == "odd@a.org":
            raise ZeroDivisionError

    mailer.before = breaks  # type: ignore[method-assign]
    queue = queue_of(world, platform, mailer)
    background = world.run(platform, *queue.loops())
    await put(world, platform, queue, "odd@a.org", *(f"p{number}@a.org" for number in range(20)))

    async def others() -> bool:
        return len(mailer.sent) == 20

    await until(others)
    assert errors_of(background) == {"ZeroDivisionError"}
    mailer.before = Mailer().before  # type: ignore[method-assign]
    world.clock.now += timedelta(seconds=RETRY_AFTER_SECONDS[0])

    async def odd_one() -> bool:
        return "odd@a.org" in mailer.sent

    await until(odd_one)


def errors_of(background: Background) -> set[str]:
    return {loop.last_error for loop in background.health() if loop.last_error}


async def test_what_was_sent_while_the_database_was_locked_is_not_sent_twice(world: World, tmp_path: Path) -> None:
    """Another process writes for longer than we wait, at the very moment when the mail server has taken the mail."""
    file = tmp_path / "locked.db"
    database = Database(f"sqlite+aiosqlite:///{file}", busy_seconds=0.05)
    await database.migrate()
    mailer = Mailer()
    with closing(sqlite3.connect(file, isolation_level=None)) as other:

        async def locks(address: str) -> None:
            other.execute("BEGIN IMMEDIATE")

        mailer.before = locks  # type: ignore[method-assign]
        queue = MailQueue(database, mailer, KEY, world.clock)
        async with database.transaction() as db:
            await queue.add(db, mail(), world.clock(), world.clock() + timedelta(days=1))
        with pytest.raises(StoreUnavailable):
            await queue.send_next()
        assert mailer.sent == [ALICE]
        world.clock.now += timedelta(hours=1)
        with pytest.raises(StoreUnavailable):
            await queue.send_next()
        other.execute("ROLLBACK")
    await queue.drain()
    assert mailer.sent == [ALICE]
    assert await queue.waiting() == 0
    await database.aclose()


# -- health ------------------------------------------------------------------------------------------------------------


@pytest.mark.slow
async def test_every_process_knows_whether_mail_fails(world: World) -> None:
    """Pages of a process that sends nothing show it, too, from the next code on that somebody asks for there."""
    sends, shows = await world.open(), await world.open(mail=False)
    world.letters.refusing = MailUnavailable("no", permanent=True)
    await sends.sign_in.ask(ALICE, HERE, world.clock())
    await sends.mail.drain()
    assert sends.mail.failing
    await shows.sign_in.ask("bob@a.org", HERE, world.clock())
    assert shows.mail.failing
    restarted = await world.open()
    await restarted.mail.drain()
    assert restarted.mail.failing
    world.letters.refusing = None
    await sends.sign_in.ask("carol@a.org", HERE, world.clock())
    await sends.mail.drain()
    assert not sends.mail.failing
    await shows.sign_in.ask("dora@a.org", HERE, world.clock())
    assert not shows.mail.failing
