"""Signing in and out through the pages, without scripts."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest

from launchpad.domain.users import UserStatus
from launchpad.services.audit import Actor
from launchpad.services.users import UserChange
from web.pages_client import PUBLIC_URL, Page, Person, Portal, SetClock, open_portal


@pytest.fixture
async def portal(tmp_path: Path) -> AsyncIterator[Portal]:
    async with open_portal(tmp_path, {"sign_in": {"allowed_domains": ["example.org"], "code_attempts": 3}}) as portal:
        yield portal


async def _ask(person: Person, path: str = "/sign-in") -> Page:
    return await person.send((await person.get(path)).form("/sign-in"), email=person.address)


@pytest.mark.slow
async def test_the_start_page_names_who_may_come_in_and_leads_those_who_are_in_to_the_dashboard(
    portal: Portal,
) -> None:
    person = portal.person("ada@example.org")
    page = await person.get("/")
    assert "example.org" in page.words
    await person.sign_in_with_code()
    assert (await person.get("/")).path == "/dashboard"
    assert (await person.get("/sign-in")).path == "/dashboard"


@pytest.mark.slow
async def test_signing_in_leads_back_to_where_one_wanted_to_go(portal: Portal) -> None:
    person = portal.person("ada@example.org")
    code_page = await _ask(person, (await person.get("/account")).path)
    assert "ada@example.org" in code_page.words
    await portal.platform.mail.drain()
    code = portal.letters.newest_code(person.address)
    page = await person.send(code_page.form("/sign-in/code"), code=f" {code[:3]}-{code[3:]} ")
    assert page.path == "/account"
    assert "ada@example.org" in page.words


@pytest.mark.parametrize("elsewhere", ["http://evil.test/", "//evil.test/", "/\\evil.test", "evil", "/a\nb"])
async def test_nobody_is_sent_elsewhere_after_sign_in(portal: Portal, elsewhere: str) -> None:
    person = portal.person("ada@example.org")
    code_page = await person.send((await person.get("/sign-in")).form("/sign-in"), email=person.address, next=elsewhere)
    await portal.platform.mail.drain()
    form = code_page.form("/sign-in/code")
    page = await person.send(form, code=portal.letters.newest_code(person.address), next=elsewhere)
    assert page.path == "/dashboard"
    assert page.response.url.host == "localhost"


async def test_what_is_no_address_is_said_at_the_field_which_keeps_what_was_typed(portal: Portal) -> None:
    person = portal.person("ada(at)example.org")
    page = await _ask(person)
    assert page.status == 422
    assert "does not look like" in page.text_of("email-problem")
    assert page.by_id("email").attributes["value"] == person.address
    assert page.by_id("email").attributes["aria-invalid"] == "true"


@pytest.mark.slow
async def test_a_suspended_address_gets_the_same_pages_as_an_unknown_one(portal: Portal) -> None:
    eve = await portal.signed_in("eve@example.org")
    user = await portal.platform.users.by_email(eve.address)
    change = UserChange(status=UserStatus.SUSPENDED)
    await portal.platform.users.change(user.id, change, Actor("test", ""), portal.platform.now())
    portal.letters.sent.clear()
    unknown, suspended = await _ask(portal.person("ada@example.org")), await _ask(portal.person("eve@example.org"))
    assert suspended.response.text.replace("eve@example.org", "ada@example.org") == unknown.response.text
    assert [one.status_code for one in suspended.response.history] == [303]
    await portal.platform.mail.drain()
    assert [letter["To"] for letter in portal.letters.sent] == ["ada@example.org"]


async def test_an_address_outside_the_allowed_domains_is_refused_at_once_at_its_field(portal: Portal) -> None:
    page = await _ask(portal.person("eve@example.com"))
    assert (page.status, page.path.partition("?")[0]) == (422, "/sign-in")
    assert [one.status_code for one in page.response.history] == [303]
    assert page.text_of("email-problem") == "Only e-mail addresses at example.org can sign in here"
    assert page.by_id("email").attributes["value"] == "eve@example.com"
    await portal.platform.mail.drain()
    assert portal.letters.sent == []


@pytest.mark.slow
async def test_a_wrong_code_is_said_at_the_field_and_the_right_one_still_works(portal: Portal) -> None:
    person = portal.person("ada@example.org")
    code_page = await _ask(person)
    await portal.platform.mail.drain()
    code = portal.letters.newest_code(person.address)
    wrong = await person.send(code_page.form("/sign-in/code"), code="000000" if code != "000000" else "111111")
    assert wrong.status == 401
    assert [one.status_code for one in wrong.response.history] == [303], "going back sends nothing again"
    assert "That code is not right" in wrong.text_of("code-problem")
    assert wrong.by_id("code").attributes["autocomplete"] == "one-time-code"
    assert (await person.send(wrong.form("/sign-in/code"), code=code)).path == "/dashboard"


@pytest.mark.slow
async def test_too_many_wrong_codes_are_said_and_a_new_one_is_a_click_away(portal: Portal) -> None:
    """Only in the browser where they were typed; the address is still known there."""
    person, elsewhere = portal.person("ada@example.org"), portal.person("ada@example.org")
    page, other = await _ask(person), await _ask(elsewhere)
    await portal.platform.mail.drain()
    code = portal.letters.newest_code(person.address)
    wrong = "000000" if code != "000000" else "111111"
    for _ in range(3):
        page = await person.send(page.form("/sign-in/code"), code=wrong)
    assert "Too many wrong codes" in page.words
    assert not page.has("code"), "nothing more to type"
    assert "Too many" not in (await elsewhere.get("/sign-in/code")).words
    page = await person.send(page.form("/sign-in/resend"))
    await portal.platform.mail.drain()
    newest = portal.letters.newest_code(person.address)
    assert (await person.send(page.form("/sign-in/code"), code=newest)).path == "/dashboard"
    assert "Too many" not in (await elsewhere.send(other.form("/sign-in/code"), code=wrong)).words


@pytest.mark.slow
async def test_an_expired_code_is_said_and_the_address_is_kept(tmp_path: Path) -> None:
    clock = SetClock()
    async with open_portal(tmp_path, now=clock) as portal:
        person = portal.person("ada@example.org")
        page = await _ask(person, "/sign-in?next=%2Faccount")
        await portal.platform.mail.drain()  # a mail is not sent any more once its code has expired
        clock.now += timedelta(minutes=11)
        page = await person.send(page.form("/sign-in/code"), code=portal.letters.newest_code(person.address))
        assert page.status == 401
        assert "The code has expired" in page.words
        assert "ada@example.org" in page.words
        page = await person.send(page.form("/sign-in/resend"))
        await portal.platform.mail.drain()
        code = portal.letters.newest_code(person.address)
        assert (await person.send(page.form("/sign-in/code"), code=code)).path == "/account", "and where to go, too"


@pytest.mark.slow
async def test_digits_of_another_width_cost_no_try(portal: Portal) -> None:
    person = portal.person("ada@example.org")
    page = await _ask(person)
    await portal.platform.mail.drain()
    code = portal.letters.newest_code(person.address)
    wide = "".join(chr(ord(digit) + 0xFEE0) for digit in code)
    pattern = str(page.by_id("code").attributes["pattern"])
    assert "\\p{Nd}" in pattern, "the browser lets them pass"
    assert (await person.send(page.form("/sign-in/code"), code=f"{wide[:3]}\u3000{wide[3:]}")).path == "/dashboard"


@pytest.mark.slow
async def test_remembering_keeps_the_cookie_beyond_the_browser_and_is_off_unless_chosen(portal: Portal) -> None:
    for stays in (False, True):
        person = portal.person("ada@example.org")
        code_page = await _ask(person)
        assert "remember" not in code_page.form("/sign-in/code").fields
        await portal.platform.mail.drain()
        choice = {"remember": "true"} if stays else {}
        code = portal.letters.newest_code(person.address)
        await person.send(code_page.form("/sign-in/code"), code=code, **choice)
        login = next(cookie for cookie in person.http.cookies.jar if cookie.name == "lp_login")
        assert (login.expires is not None) is stays


async def test_without_a_challenge_the_code_page_leads_back_and_says_why(portal: Portal) -> None:
    page = await portal.person("ada@example.org").get("/sign-in/code?next=%2Faccount")
    assert page.path.startswith("/sign-in?")
    assert "Ask for a new code" in page.words
    assert page.form("/sign-in").fields["next"] == "/account"


@pytest.mark.slow
async def test_another_code_can_be_sent_and_only_the_newest_works(portal: Portal) -> None:
    person = portal.person("ada@example.org")
    first = await _ask(person)
    await portal.platform.mail.drain()
    old = portal.letters.newest_code(person.address)
    second = await person.send(first.form("/sign-in/resend"))
    assert "New code sent" in second.words
    await portal.platform.mail.drain()
    new = portal.letters.newest_code(person.address)
    if old != new:
        assert (await person.send(second.form("/sign-in/code"), code=old)).status == 401
    assert (await person.send(second.form("/sign-in/code"), code=new)).path == "/dashboard"


@pytest.mark.slow
async def test_asking_too_often_is_said_where_one_asked(portal: Portal) -> None:
    person = portal.person("ada@example.org")
    page = await _ask(person)
    for _ in range(portal.platform.settings.sign_in.sends_per_hour_per_address):
        page = await person.send(page.form("/sign-in/resend"))
    assert page.status == 429
    assert [one.status_code for one in page.response.history] == [303]
    said = page.text_of("resend-problem")
    assert "5 codes were requested for this e-mail address in the last hour, which is the limit" in said
    assert "You can try again in 60 minutes" in said
    assert "newest" not in said, "who asked first may be somebody else, who has it"


@pytest.mark.slow
async def test_a_mail_server_that_does_not_answer_is_said_on_the_code_page(portal: Portal) -> None:
    person = portal.person("ada@example.org")
    code_page = await _ask(person)
    assert "mail server" not in code_page.text_of("mail-hint")
    portal.letters.refusing = True
    await person.send(code_page.form("/sign-in/resend"))
    await portal.platform.mail.drain()
    assert "mail server is not answering" in (await person.get("/sign-in/code")).text_of("mail-hint")


async def test_a_long_code_can_be_typed_on_a_phone(portal: Portal) -> None:
    person = portal.person("ada@example.org")
    page = await _ask(person)
    assert page.by_id("code").attributes["inputmode"] == "numeric"
    link = next(str(one.attributes["href"]) for one in page.elements if "letters=1" in str(one.attributes.get("href")))
    assert (await person.get(link)).by_id("code").attributes["inputmode"] == "text"


async def test_signing_out_ends_the_login(portal: Portal) -> None:
    person = await portal.signed_in("ada@example.org")
    cookie = person.http.cookies["lp_login"]
    page = await person.send((await person.get("/dashboard")).form("/sign-out"))
    assert "You are signed out" in page.words
    person.http.cookies.set("lp_login", cookie, domain="localhost")
    assert (await person.get("/dashboard")).path.startswith("/sign-in")


async def test_a_link_cannot_put_words_into_the_platforms_mouth(portal: Portal) -> None:
    person = portal.person("ada@example.org")
    page = await person.get("/?said=Your+account+is+closed")
    assert "closed" not in page.response.text
    assert str(page.response.url).startswith(PUBLIC_URL)
