"""Signing in and out through the pages, without scripts."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from web.pages_client import PUBLIC_URL, Page, Person, Portal, open_portal


@pytest.fixture
async def portal(tmp_path: Path) -> AsyncIterator[Portal]:
    async with open_portal(tmp_path, {"sign_in": {"allowed_domains": ["example.org"], "code_attempts": 3}}) as portal:
        yield portal


async def _ask(person: Person, path: str = "/sign-in") -> Page:
    return await person.send((await person.get(path)).form("/sign-in"), email=person.address)


async def test_the_start_page_names_who_may_come_in_and_leads_those_who_are_in_to_the_dashboard(
    portal: Portal,
) -> None:
    person = portal.person("ada@example.org")
    page = await person.get("/")
    assert "example.org" in page.words
    await person.sign_in()
    assert (await person.get("/")).path == "/dashboard"
    assert (await person.get("/sign-in")).path == "/dashboard"


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


async def test_a_refused_address_gets_the_same_pages_as_an_allowed_one(portal: Portal) -> None:
    allowed, refused = await _ask(portal.person("ada@example.org")), await _ask(portal.person("eve@example.com"))
    assert refused.response.text.replace("eve@example.com", "ada@example.org") == allowed.response.text
    assert [one.status_code for one in refused.response.history] == [303]
    await portal.platform.mail.drain()
    assert [letter["To"] for letter in portal.letters.sent] == ["ada@example.org"]


async def test_a_wrong_code_is_said_at_the_field_and_the_right_one_still_works(portal: Portal) -> None:
    person = portal.person("ada@example.org")
    code_page = await _ask(person)
    await portal.platform.mail.drain()
    code = portal.letters.newest_code(person.address)
    wrong = await person.send(code_page.form("/sign-in/code"), code="000000" if code != "000000" else "111111")
    assert wrong.status == 401
    assert "wrong or no longer works" in wrong.text_of("code-problem")
    assert wrong.by_id("code").attributes["autocomplete"] == "one-time-code"
    assert (await person.send(wrong.form("/sign-in/code"), code=code)).path == "/dashboard"


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


async def test_asking_too_often_is_said_where_one_asked(portal: Portal) -> None:
    person = portal.person("ada@example.org")
    page = await _ask(person)
    for _ in range(portal.platform.settings.sign_in.sends_per_hour_per_address):
        page = await person.send(page.form("/sign-in/resend"))
    assert page.status == 429
    assert "Too many codes" in page.text_of("resend-problem")


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
