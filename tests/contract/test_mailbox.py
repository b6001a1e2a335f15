"""What `mail/mailbox.py` promises, held against the fake and against a real IMAP server (Dovecot)."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from time import monotonic
from typing import Any

import pytest

from launchpad.errors import MailboxUnavailable
from launchpad.mail.bounces import REPORT_BYTES, read_bounces
from launchpad.mail.imap import ImapMailbox
from launchpad.mail.mailbox import FakeMailbox, Mailbox, Mark
from launchpad.settings import MailSettings
from support.imap import PASSWORD, ImapServer
from support.ports import free_ports
from support.reports import ORDINARY, POSTFIX, READ_RECEIPT, report
from support.talking import Talker


@pytest.fixture(scope="session")
def imap() -> Iterator[ImapServer]:
    server = ImapServer()
    yield server
    server.stop()


def settings_for(server: ImapServer, security: str = "tls", *, trusted: bool = True, **values: Any) -> MailSettings:
    tables: dict[str, Any] = {"timeout_seconds": 5, "bounces": server.settings(security, **values)}
    if trusted:
        tables["ca_file"] = server.chain
    return MailSettings.model_validate(tables)


@dataclass
class Box:
    """A mailbox, and what can be done to it from outside: a mail arrives, what is unread, its numbers change."""

    mailbox: Mailbox
    put: Callable[[bytes], object]
    unseen: Callable[[], list[bytes]]
    renumber: Callable[[], None]


def subject_of(content: bytes) -> bytes:
    return content.partition(b"Subject: ")[2].partition(b"\n")[0].strip()


@pytest.fixture(params=["fake", "tls", "starttls", "none"])
def box(request: pytest.FixtureRequest) -> Box:
    """Every implementation, and every kind of connection."""
    if request.param == "fake":
        fake = FakeMailbox()

        def renumber() -> None:
            fake.validity += 1

        def unseen() -> list[bytes]:
            return [subject_of(letter.content) for letter in fake.letters if letter.uid not in fake.seen]

        return Box(fake, fake.put, unseen, renumber)
    server: ImapServer = request.getfixturevalue("imap")
    server.empty()
    return Box(ImapMailbox(settings_for(server, request.param)), server.put, server.unseen, server.renumber)


async def test_reports_come_in_order_and_stay_unread(box: Box) -> None:
    for number in range(3):
        box.put(report(f"p{number}@example.org", subject=f"s{number}"))
    batch = await box.mailbox.reports(None)
    assert [subject_of(letter.content) for letter in batch.letters] == [b"s0", b"s1", b"s2"]
    assert [letter.uid for letter in batch.letters] == sorted(letter.uid for letter in batch.letters)
    assert box.unseen() == [b"s0", b"s1", b"s2"]


async def test_a_report_comes_whole(box: Box) -> None:
    box.put(POSTFIX)
    (letter,) = (await box.mailbox.reports(None)).letters
    assert read_bounces(letter.content) == read_bounces(POSTFIX)
    assert letter.content.replace(b"\r\n", b"\n") == POSTFIX


async def test_what_does_not_call_itself_a_report_is_not_even_read(box: Box) -> None:
    box.put(ORDINARY)
    box.put(READ_RECEIPT)
    box.put(ORDINARY.replace(b"Subject: ", b"Content-Type: text/plain\nSubject: "))
    batch = await box.mailbox.reports(None)
    assert [subject_of(letter.content) for letter in batch.letters] == [b"Read: a test mail"]
    assert len(box.unseen()) == 3


async def test_an_empty_mailbox_is_nothing_special(box: Box) -> None:
    batch = await box.mailbox.reports(None)
    assert batch.letters == ()
    assert (await box.mailbox.reports(batch.mark)).letters == ()
    await box.mailbox.mark_seen(batch, [])


async def test_reading_goes_on_behind_the_mark(box: Box) -> None:
    """Also where nothing was marked as read, and where nothing new is there."""
    box.put(report("a@example.org", subject="old"))
    first = await box.mailbox.reports(None)
    assert (await box.mailbox.reports(first.mark)).letters == ()
    assert (await box.mailbox.reports(first.mark)).mark == first.mark
    box.put(report("b@example.org", subject="new"))
    second = await box.mailbox.reports(first.mark)
    assert [subject_of(letter.content) for letter in second.letters] == [b"new"]


async def test_those_that_are_named_are_marked_as_read_and_no_others(box: Box) -> None:
    for name in ("one", "two", "three"):
        box.put(report("a@example.org", subject=name))
    batch = await box.mailbox.reports(None)
    await box.mailbox.mark_seen(batch, [batch.letters[1].uid])
    assert box.unseen() == [b"one", b"three"]
    again = await box.mailbox.reports(None)
    assert [subject_of(letter.content) for letter in again.letters] == [b"one", b"three"]
    await box.mailbox.mark_seen(batch, [one.uid for one in batch.letters] + [batch.mark.uid + 1000])
    assert box.unseen() == []


async def test_a_bounded_number_at_a_time(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("launchpad.mail.mailbox.LETTERS", 2)
    for number in range(5):
        box.put(report("a@example.org", subject=f"s{number}"))
    found: list[bytes] = []
    mark: Mark | None = None
    for expected in (2, 2, 1, 0):
        batch = await box.mailbox.reports(mark)
        assert len(batch.letters) == expected
        found += [subject_of(letter.content) for letter in batch.letters]
        mark = batch.mark
    assert found == [b"s0", b"s1", b"s2", b"s3", b"s4"]


async def test_of_a_huge_one_only_the_beginning_is_brought(box: Box) -> None:
    box.put(report("a@example.org") + b"x" * 70 * 1000 + (b"y" * 70 + b"\n") * 10_000)
    (letter,) = (await box.mailbox.reports(None)).letters
    assert len(letter.content) == REPORT_BYTES
    assert read_bounces(letter.content)


async def test_when_the_numbers_change_reading_begins_anew_and_old_ones_mark_nothing(box: Box) -> None:
    box.put(report("a@example.org", subject="one"))
    before = await box.mailbox.reports(None)
    box.renumber()
    after = await box.mailbox.reports(before.mark)
    assert after.mark.validity != before.mark.validity
    assert len(after.letters) == 1
    await box.mailbox.mark_seen(before, [letter.uid for letter in before.letters])
    assert box.unseen() == [b"one"]
    await box.mailbox.mark_seen(after, [letter.uid for letter in after.letters])
    assert box.unseen() == []


# -- IMAP alone --------------------------------------------------------------------------------------------------------


async def refused(settings: MailSettings) -> MailboxUnavailable:
    with pytest.raises(MailboxUnavailable) as caught:
        await ImapMailbox(settings).reports(None)
    return caught.value


async def test_a_wrong_password_is_unavailable_and_nothing_is_told_of_it(
    imap: ImapServer, capfd: pytest.CaptureFixture[str]
) -> None:
    error = await refused(settings_for(imap, password="not this one"))
    assert error.detail == "The mailbox for bounces could not be read."
    logged = capfd.readouterr()
    assert "imap.failed" in logged.out + logged.err
    assert "not this one" not in logged.out + logged.err


async def test_a_folder_that_is_not_there(imap: ImapServer) -> None:
    await refused(settings_for(imap, folder="Bounces"))


async def test_nobody_there(imap: ImapServer) -> None:
    await refused(settings_for(imap, port=free_ports(1)[0]))


@pytest.mark.parametrize("security", ["tls", "starttls"])
async def test_a_certificate_nobody_signed_is_refused(imap: ImapServer, security: str) -> None:
    await refused(settings_for(imap, security, trusted=False))


@pytest.mark.parametrize("security", ["tls", "starttls"])
async def test_a_certificate_for_another_name_is_refused(imap: ImapServer, security: str) -> None:
    await refused(settings_for(imap, security, host="127.0.0.1"))


async def test_certificates_that_cannot_be_read(imap: ImapServer, tmp_path: Path) -> None:
    await refused(settings_for(imap).model_copy(update={"ca_file": tmp_path / "missing.pem"}))


class Silent(Talker):
    """Speaks as an IMAP server does, until it has given so many answers; then it hangs, or drips."""

    def __init__(self, answers: int, *, drips: bool = False, capabilities: str = "IMAP4rev1") -> None:
        self._answers = answers
        self._drips = drips
        self._capabilities = capabilities
        self.heard: list[bytes] = []

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        answer = b"* OK here\r\n"
        for _ in range(self._answers):
            writer.write(answer)
            line = await reader.readline()
            if not line:
                return
            self.heard.append(line)
            tag, command, *_ = line.split()
            extra = {
                b"CAPABILITY": f"* CAPABILITY {self._capabilities}\r\n".encode(),
                b"SELECT": b"* 1 EXISTS\r\n* OK [UIDVALIDITY 7] here\r\n",
                b"UID": b"* SEARCH 1\r\n",
            }.get(command, b"")
            answer = extra + tag + b" OK done\r\n"
        while self._drips and not writer.is_closing():
            writer.write(b"* OK and\r\n")
            await writer.drain()
            await asyncio.sleep(0.05)
        await reader.read()


@pytest.mark.parametrize("drips", [False, True], ids=["hangs", "drips"])
@pytest.mark.parametrize(
    ("answers", "command"),
    [
        (0, b""),
        (1, b"CAPABILITY"),
        (2, b"LOGIN"),
        (3, b"SELECT"),
        (4, b"CAPABILITY"),
        (5, b"UID SEARCH"),
        (6, b"UID FETCH"),
    ],
)
async def test_a_server_that_stops_at_any_step_is_given_up_in_time_and_its_thread_ends(
    answers: int, command: bytes, drips: bool
) -> None:
    """Also one that keeps each single step in time and never comes to an end."""
    script = Silent(answers, drips=drips)
    server = await asyncio.start_server(script, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    log_in = {"host": "127.0.0.1", "port": port, "security": "none", "username": "me", "password": "pass word"}
    settings = MailSettings.model_validate({"timeout_seconds": 0.3, "bounces": log_in})
    began = monotonic()
    await refused(settings)
    assert monotonic() - began < 4 * 0.3 + 2
    assert command in (script.heard[-1] if script.heard else b"")
    deadline = monotonic() + 5
    while any("imaplib" in str(frame) for frame in frames_of_threads()):
        assert monotonic() < deadline, "a thread still waits"
        await asyncio.sleep(0.02)
    server.close()
    await server.wait_closed()


def frames_of_threads() -> list[str]:
    """The files that the code of all other threads is in."""
    import sys

    found = []
    for ident, frame in sys._current_frames().items():
        while ident != threading.get_ident() and frame is not None:
            found.append(frame.f_code.co_filename)
            frame = frame.f_back  # type: ignore[assignment]
    return found


class Slow(Talker):
    """Has letters 1 to `letters`, takes its time for each, and cannot bring those in `broken`."""

    def __init__(self, letters: int, seconds: float, broken: frozenset[int] = frozenset()) -> None:
        self._letters, self._seconds, self._broken = letters, seconds, broken

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"* OK here\r\n")
        while line := await reader.readline():
            tag, command, *words = line.split()
            verdict, answer = b"OK", b""
            if command == b"CAPABILITY":
                answer = b"* CAPABILITY IMAP4rev1\r\n"
            elif command == b"SELECT":
                answer = b"* OK [UIDVALIDITY 7] here\r\n"
            elif words[:1] == [b"SEARCH"]:
                first = int(words[words.index(b"UID") + 1].partition(b":")[0])
                uids = range(min(first, self._letters), self._letters + 1)
                answer = b"* SEARCH " + b" ".join(b"%d" % uid for uid in uids) + b"\r\n"
            elif words[:1] == [b"FETCH"]:
                await asyncio.sleep(self._seconds)
                if int(words[1]) in self._broken:
                    verdict = b"NO"
                else:
                    answer = b"* 1 FETCH (UID %s BODY[]<0> {4}\r\nmail)\r\n" % words[1]
            writer.write(answer + tag + b" " + verdict + b" done\r\n")


def settings_of(server: asyncio.Server, timeout_seconds: float) -> MailSettings:
    port = server.sockets[0].getsockname()[1]
    log_in = {"host": "127.0.0.1", "port": port, "security": "none", "username": "me", "password": "pass word"}
    return MailSettings.model_validate({"timeout_seconds": timeout_seconds, "bounces": log_in})


async def test_of_many_letters_a_slow_server_brings_some_each_time() -> None:
    """Else a full mailbox would never be read: each time would begin anew, and be too short."""
    server = await asyncio.start_server(Slow(letters=30, seconds=0.1), "127.0.0.1", 0)
    mailbox = ImapMailbox(settings_of(server, timeout_seconds=0.5))
    found: list[int] = []
    mark: Mark | None = None
    while len(found) < 30:
        batch = await mailbox.reports(mark)
        assert batch.letters
        found += [letter.uid for letter in batch.letters]
        assert batch.mark.uid == found[-1]
        mark = batch.mark
    assert found == list(range(1, 31))
    server.close()
    await server.wait_closed()


async def test_a_letter_that_the_server_cannot_bring_holds_up_no_other() -> None:
    server = await asyncio.start_server(Slow(letters=3, seconds=0, broken=frozenset({1, 3})), "127.0.0.1", 0)
    settings = settings_of(server, timeout_seconds=5)
    batch = await ImapMailbox(settings).reports(None)
    assert ([letter.uid for letter in batch.letters], batch.mark.uid) == ([2], 3)
    with pytest.raises(MailboxUnavailable):  # where it brings nothing at all, nothing is passed over
        await ImapMailbox(settings).reports(Mark(7, 2))
    server.close()
    await server.wait_closed()


async def test_without_starttls_no_log_in_is_sent() -> None:
    """It never falls back to plain text."""
    script = Silent(9)
    server = await asyncio.start_server(script, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    log_in = {"host": "127.0.0.1", "port": port, "security": "starttls", "username": "me", "password": "pass word"}
    await refused(MailSettings.model_validate({"timeout_seconds": 1, "bounces": log_in}))
    assert not any(b"pass word" in line or b"LOGIN" in line for line in script.heard)
    server.close()
    await server.wait_closed()


async def test_a_log_in_with_odd_signs_stays_one_command() -> None:
    """Where the server knows only LOGIN: quotes and backslashes of the log-in do not end it."""
    script = Silent(9)
    server = await asyncio.start_server(script, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    log_in = {"host": "127.0.0.1", "port": port, "security": "none", "username": 'm"e', "password": 'a" b\\'}
    settings = MailSettings.model_validate({"timeout_seconds": 1, "bounces": log_in})
    await ImapMailbox(settings).reports(None)
    assert any(line.endswith(b' LOGIN "m\\"e" "a\\" b\\\\"\r\n') for line in script.heard), script.heard
    beyond = settings.model_copy(update={"bounces": settings.bounces.model_copy(update={"username": "m\r\ne"})})
    await refused(beyond)
    server.close()
    await server.wait_closed()


async def test_a_password_beyond_ascii_logs_in(imap: ImapServer) -> None:
    assert not PASSWORD.isascii()
    assert (await ImapMailbox(settings_for(imap)).reports(None)).mark.validity > 0


async def test_a_fake_that_is_down_is_unavailable() -> None:
    fake = replace(FakeMailbox(), is_down=True)
    with pytest.raises(MailboxUnavailable):
        await fake.reports(None)
