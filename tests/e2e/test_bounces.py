"""Mail that does not arrive, through a whole platform: a mail server that refuses, a mailbox with reports, a pipe."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

from support.imap import ImapServer
from support.live import LivePlatform, StartPlatform
from support.reports import ORDINARY, POSTFIX, report

NO_DATABASE = "sqlite+aiosqlite:////nowhere/x.db"


@pytest.fixture
def imap() -> Iterator[ImapServer]:
    server = ImapServer()
    yield server
    server.stop()


def failures(live: LivePlatform) -> dict[str, dict[str, Any]]:
    return {one["address"]: one for one in json.loads(live.command("mail", "failures", "--json"))}


async def ask(live: LivePlatform, address: str) -> None:
    async with live.client() as http:
        assert (await http.post("/api/v1/sign-in", json={"email": address})).status_code == 202


def pipe(live: LivePlatform, message: bytes, **variables: str) -> subprocess.CompletedProcess[bytes]:
    """As a mail server hands a mail to the command of an alias."""
    command = [*live.program.command, "mail", "take-bounce"]
    return subprocess.run(
        command, input=message, env={**live.variables, **variables}, capture_output=True, check=False, timeout=60
    )


async def test_whoever_waits_for_a_code_in_vain_is_found_with_the_reason(
    start_platform: StartPlatform, imap: ImapServer
) -> None:
    """Refused at once, or come back to the sender's mailbox, and off the list when a code has arrived."""
    bounces = imap.settings("starttls")
    live = await start_platform({"mail": {"bounces": bounces, "ca_file": str(imap.chain)}})
    live.mail.refuse("tippo@example.org", "550 5.1.1 <tippo@example.org>: no such user, says mx-17.secret.example")
    await ask(live, "tippo@example.org")
    async with asyncio.timeout(120):
        while "tippo@example.org" not in await asyncio.to_thread(failures, live):
            await asyncio.sleep(0.05)
    for content in (POSTFIX.replace(b"alice@", b"full@"), ORDINARY, report("stranger@example.org")):
        imap.put(content)
    await ask(live, "full@example.org")
    await live.mail.code_for("full@example.org")
    read = await asyncio.to_thread(live.command, "mail", "read-bounces")
    assert "Undelivered mails reported: 1." in read
    found = await asyncio.to_thread(failures, live)
    assert set(found) == {"tippo@example.org", "full@example.org"}
    assert (found["tippo@example.org"]["kind"], found["tippo@example.org"]["status"]) == ("refused", "5.1.1")
    assert (found["full@example.org"]["kind"], found["full@example.org"]["reason"]) == ("bounced", "no such mailbox")
    assert "mx-17" not in str(found)
    assert imap.unseen() == [b"A question", b"Undelivered"], "only ours is marked as read"
    table = await asyncio.to_thread(live.command, "mail", "failures")
    assert "full@example.org" in table
    assert "no such mailbox" in table

    async with live.person("full@example.org"):  # the code arrived this time
        assert set(await asyncio.to_thread(failures, live)) == {"tippo@example.org"}
    await asyncio.to_thread(live.command, "mail", "forget", "Tippo@example.org")
    assert await asyncio.to_thread(failures, live) == {}
    again = await asyncio.to_thread(live.command, "mail", "forget", "tippo@example.org", ok=False)
    assert "There is no entry for that address" in again
    assert "No known delivery problems" in await asyncio.to_thread(live.command, "mail", "failures")


async def test_a_sweep_goes_on_without_the_mailbox(start_platform: StartPlatform, imap: ImapServer) -> None:
    """The loop of its own fails, is told, and everything else works."""
    live = await start_platform({"mail": {"bounces": imap.settings("none", password="another one")}})
    assert "Nothing to do." in await asyncio.to_thread(live.command, "sweep")
    said = await asyncio.to_thread(live.command, "mail", "read-bounces", ok=False)
    assert "The mailbox for bounces could not be read." in said
    assert "another one" not in said
    async with live.client() as http, asyncio.timeout(60):
        while (ready := (await http.get("/readyz")).json())["loops"]["bounces"] != "failing":
            await asyncio.sleep(0.05)
    assert ready["status"] == "ok", "not late yet"
    while "bounces has failed" not in (told := await asyncio.to_thread(doctor, live)):
        assert "background: All background loops" in told, told
        await asyncio.sleep(0.2)
    assert "another one" not in told + live.log()


def doctor(live: LivePlatform) -> str:
    """Whatever its exit code: a platform of a test has more than one finding."""
    command = [*live.program.command, "doctor"]
    done = subprocess.run(command, env=live.variables, capture_output=True, text=True, check=False, timeout=120)
    return " ".join(done.stdout.split())


async def test_a_mail_server_pipes_reports_in(start_platform: StartPlatform) -> None:
    live = await start_platform()
    await ask(live, "alice@example.org")
    await live.mail.code_for("alice@example.org")
    done = await asyncio.to_thread(pipe, live, POSTFIX + b"x" * 1_000_000)
    assert (done.returncode, done.stdout) == (0, b"Undelivered mails reported: 1.\n"), done.stderr
    assert (await asyncio.to_thread(failures, live))["alice@example.org"]["count"] == 1
    for nothing in (b"", ORDINARY, os.urandom(10_000), report("stranger@example.org")):
        done = await asyncio.to_thread(pipe, live, nothing)
        assert (done.returncode, done.stdout) == (0, b"Undelivered mails reported: 0.\n"), done.stderr
    # Where no portal lives the command does it itself, and cannot.
    nowhere = {"LAUNCHPAD_STATE_DIR": str(live.folder / "no-portal"), "LAUNCHPAD_DATABASE_URL": NO_DATABASE}
    done = await asyncio.to_thread(pipe, live, POSTFIX, **nowhere)
    assert done.returncode == os.EX_TEMPFAIL, "the mail server tries again"
    assert len(await asyncio.to_thread(failures, live)) == 1
