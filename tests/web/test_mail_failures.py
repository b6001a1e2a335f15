"""Mail that did not arrive: what administrators see of it, and that nobody else sees anything."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import httpx
import pytest

from launchpad.domain.mail import FailureKind
from launchpad.platform import Platform
from support.platforms import START
from web.api_client import Portal as ApiPortal
from web.api_client import Visitor, open_api, problem
from web.pages_client import ADMIN, PUBLIC_URL, Person, Portal, open_portal


@pytest.fixture
async def portal(tmp_path: Path) -> AsyncIterator[Portal]:
    async with open_portal(tmp_path) as portal:
        yield portal


@pytest.fixture
async def admin(portal: Portal) -> Person:
    return await portal.signed_in(ADMIN)


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[ApiPortal]:
    async with open_api(tmp_path) as portal:
        yield portal


async def note(platform: Platform, address: str, status: str | None, *, hours_ago: int = 0, times: int = 1) -> None:
    for _ in range(times):
        at = platform.now() - timedelta(hours=hours_ago)
        await platform.mail_failures.note(address, FailureKind.BOUNCED, status, at)


# -- pages -------------------------------------------------------------------------------------------------------------


@pytest.mark.slow
async def test_the_console_tells_whom_mail_does_not_reach_and_why(portal: Portal, admin: Person) -> None:
    await portal.signed_in("ada@example.org")
    await note(portal.platform, "ada@example.org", "5.1.1", hours_ago=2, times=3)
    await note(portal.platform, "new@example.org", "5.2.2")
    assert "2 delivery problems" in (await admin.get("/admin")).words

    table = await admin.get("/admin/mail")
    assert "ada@example.org ada Bounced No such mailbox status 5.1.1 3 2 h ago" in table.words
    assert "new@example.org never signed in Bounced Mailbox full status 5.2.2 1 just now" in table.words
    assert "new@example.org" not in (await admin.get("/admin/mail?q=ADA@")).words
    assert "No matches" in (await admin.get("/admin/mail?q=zoe")).words

    assert "Mail to this address bounced: no such mailbox" in (await admin.get("/admin/users")).words
    user = await portal.platform.users.by_email("ada@example.org")
    words = (await admin.get(f"/admin/users/{user.id}")).words
    assert "Mail to this address bounced: no such mailbox, 3 times, last 2 h ago" in words
    other = await portal.platform.users.by_email(ADMIN)
    assert "Mail to this address" not in (await admin.get(f"/admin/users/{other.id}")).words


async def test_an_address_is_forgotten_with_a_click(portal: Portal, admin: Person) -> None:
    for name in ("one@example.org", "two@example.org"):
        await note(portal.platform, name, None)
    page = await admin.get("/admin/mail")
    form = page.form("/admin/mail/forget", address="one@example.org")
    page = await admin.send(form)
    assert "one@example.org removed from list" in page.words
    assert "two@example.org" in page.words
    assert "one@example.org" not in page.text_of("results")
    assert (await admin.send(form)).status == 200, "twice does no harm"
    empty = await admin.send(page.form("/admin/mail/forget"))
    assert "No delivery problems known." in empty.words
    assert "0 delivery problems" in (await admin.get("/admin")).words


async def test_a_long_list_goes_on(portal: Portal, admin: Person, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("launchpad.web.pages.admin_mail.PAGE", 1)
    await note(portal.platform, "old+x@example.org", None, hours_ago=1)
    await note(portal.platform, "new+x@example.org", None)
    first = await admin.get("/admin/mail")
    assert "old+x@example.org" not in first.words
    onwards = next(
        str(one.attributes["href"]) for one in first.elements if "before=" in str(one.attributes.get("href"))
    )
    assert "old+x@example.org" in (await admin.get(onwards)).words
    assert (await admin.get("/admin/mail?before=zzz")).status == 422


async def test_a_mailbox_that_cannot_be_read_needs_attention(tmp_path: Path) -> None:
    nobody = {"host": "127.0.0.1", "port": 9, "security": "none", "username": "me", "password": "pass word"}
    async with open_portal(tmp_path, {"mail": {"bounces": nobody}}) as portal:
        admin = await portal.signed_in(ADMIN)
        assert "Reports of undelivered mail" not in (await admin.get("/admin")).words
        await portal.platform.sweep.sweep(portal.platform.now())
        assert "Bounce reports cannot be read" in (await admin.get("/admin")).words


async def test_what_is_not_known_without_a_mailbox_is_said(portal: Portal, admin: Person) -> None:
    assert "No mailbox for bounce reports is configured" in (await admin.get("/admin/mail")).words


# -- API and metrics ---------------------------------------------------------------------------------------------------


async def test_the_api_lists_them_newest_first_page_by_page(api: ApiPortal) -> None:
    ada, admin = await api.signed_in("ada@a.org"), await api.signed_in("admin@example.org")
    await note(api.platform, "ada@a.org", "5.2.2", hours_ago=1)
    await note(api.platform, "a+b~c@a.org", None, times=2)
    first = await admin.call("GET", "/admin/mail-failures", limit=1)
    now = START.replace(year=2126)
    assert first.json() == [
        {
            "address": "a+b~c@a.org",
            "kind": "bounced",
            "status": None,
            "reason": "no reason was given",
            "count": 2,
            "first_at": now.isoformat().replace("+00:00", "Z"),
            "last_at": now.isoformat().replace("+00:00", "Z"),
            "user_id": None,
        }
    ]
    (second,) = await admin.get("/admin/mail-failures", limit=1, cursor=first.headers["X-Next-Cursor"])
    assert (second["address"], second["reason"], second["user_id"]) == ("ada@a.org", "mailbox full", ada.me["id"])
    assert len(await admin.get("/admin/mail-failures", search="A+B")) == 1
    for cursor in ("x", "2126-03-02T09:30:00~a@a.org", "2126-03-02T09:30:00Z~"):
        problem(await admin.call("GET", "/admin/mail-failures", cursor=cursor), 422, "invalid-input", "cursor")


async def test_the_metrics_count_what_did_not_arrive(api: ApiPortal) -> None:
    await note(api.platform, "ada@a.org", "5.2.2", times=2)
    text = (await api.visitor("127.0.0.1").call("GET", "/metrics")).text
    assert 'launchpad_mail_failures_total{kind="bounced"} 2.0' in text
    assert 'launchpad_mail_failures_total{kind="given up"} 0.0' in text
    assert "ada@a.org" not in text


# -- nobody else -------------------------------------------------------------------------------------------------------


def bytes_of(answer: httpx.Response, address: str) -> str:
    """Everything that was answered, without what is another one for every challenge, and with the address replaced."""
    head = [f"{name}: {value}" for name, value in answer.headers.items() if name != "content-length"]
    text = f"{answer.status_code}\n{head}\n{answer.text}".replace(address, "ADDRESS")
    text = re.sub(r"lp_challenge=[\w-]{43};", "lp_challenge=SECRET;", text)
    text = re.sub(r"lp_form=[\w-]+\.[0-9a-f]{64};", "lp_form=SIGNED;", text)
    text = re.sub(r"expires=[^;]+;", "expires=NOW;", text)
    text = re.sub(r"after=[\w-]{8}\b", "after=ID", text)
    return re.sub(r'"challenge_id":"\w{16}"', '"challenge_id":"ID"', text)


async def ask_and_try(visitor: Visitor, address: str) -> list[str]:
    asked = await visitor.call("POST", "/sign-in", {"email": address})
    assert asked.status_code == 202
    html = {"Accept": "text/html", "Origin": PUBLIC_URL.replace("18080", "8080")}
    page = await visitor.http.get("/sign-in/code", headers=html)
    assert page.status_code == 200
    assert address in page.text
    wrong = await visitor.call("POST", "/sign-in/verify", {"code": "nothing"})
    wrong_page = await visitor.http.post("/sign-in/code", data={"code": "nothing"}, headers=html)
    told = await visitor.http.get(wrong_page.headers["Location"], headers=html)
    assert "That code is not right" in told.text
    again = await visitor.http.post("/sign-in/resend", headers=html)
    return [bytes_of(answer, address) for answer in (asked, page, wrong, wrong_page, told, again)]


@pytest.mark.slow
async def test_s10_an_address_that_mail_does_not_reach_gets_the_same_bytes(api: ApiPortal) -> None:
    """Of users and of nobody, refused by our mail server or come back: who signs in sees nothing of it."""
    names = ("user-fine", "user-back", "none-fine", "none-back", "none-refd")
    for name in names[:2]:
        await api.signed_in(f"{name}@a.org")
    for name in ("user-back", "none-back"):
        await note(api.platform, f"{name}@a.org", "5.1.1", times=3)
    await api.platform.mail_failures.note("none-refd@a.org", FailureKind.REFUSED, "5.1.1", api.platform.now())
    answers = {name: await ask_and_try(api.visitor("198.51.100.7"), f"{name}@a.org") for name in names}
    for name in names[1:]:
        assert answers[name] == answers["user-fine"], name
