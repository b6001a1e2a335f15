"""What a refused form leaves for the page after it, and that nobody can put anything there."""

from __future__ import annotations

import base64
import json
import secrets
import zlib
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from launchpad.errors import EngineUnavailable
from web.pages_client import ADMIN, PUBLIC_URL, Form, Person, Portal, SetClock, open_portal

HEADERS = {"Origin": PUBLIC_URL}


@pytest.fixture
async def clock() -> SetClock:
    return SetClock()


@pytest.fixture
async def portal(tmp_path: Path, clock: SetClock) -> AsyncIterator[Portal]:
    async with open_portal(tmp_path, now=clock) as portal:
        yield portal


def stale(form: Form) -> dict[str, str]:
    return {**form.fields, "csrf_token": "0" * 64}


async def sign_in_again(person: Person) -> None:
    """In another tab of the same browser, which leaves this one's pages with the old login's token."""
    person.http.cookies.delete("lp_login")
    await person.sign_in()


async def test_a_form_from_before_the_newest_sign_in_comes_back_with_what_was_typed(portal: Portal) -> None:
    admin = await portal.signed_in(ADMIN)
    old = (await admin.get("/admin/limits")).form("/admin/limits")
    await sign_in_again(admin)
    page = await admin.send(old, memory="3g, 5g", default_memory="5g")
    assert page.status == 403
    assert [one.status_code for one in page.response.history] == [303]
    assert "This page was from an earlier sign-in" in page.words
    assert page.response.headers["X-Launchpad-Problem"] == "stale-page"
    assert page.by_id("memory").attributes["value"] == "3g, 5g"
    again = await admin.send(page.form("/admin/limits"))
    assert "Limits saved" in again.words
    assert again.by_id("memory").attributes["value"] == "3g, 5g"


@pytest.mark.slow
@pytest.mark.parametrize("what", ["launch", "user", "token", "sign-out", "stop"])
async def test_every_kind_of_form_of_an_earlier_sign_in_says_so_and_works_at_the_second_try(
    portal: Portal, what: str
) -> None:
    admin = await portal.signed_in(ADMIN)
    user = await portal.platform.users.by_email(ADMIN)
    instance = await admin.running("rstudio") if what == "stop" else None
    path, action, typed = {
        "launch": ("/dashboard", "/instances", {"environment": "jupyterlab", "memory": "4g"}),
        "user": (f"/admin/users/{user.id}", f"/admin/users/{user.id}", {"lab": "chemistry"}),
        "token": ("/account", "/account/tokens", {"name": "nightly report"}),
        "sign-out": ("/account", "/sign-out", {}),
        "stop": ("/dashboard", f"/instances/{instance.id if instance else ''}/stop", {}),
    }[what]
    old = (await admin.get(path)).form(action, **({"environment": "jupyterlab"} if what == "launch" else {}))
    await sign_in_again(admin)
    page = await admin.send(old, **typed)
    assert page.status == 403
    assert "earlier sign-in" in page.words
    fresh = page.form(action, **({"environment": "jupyterlab"} if what == "launch" else {}))
    assert typed.items() <= fresh.fields.items(), "what was typed is kept"
    done = await admin.send(fresh)
    assert done.status == 200, done.words


async def test_a_refused_form_is_told_once_and_a_reload_is_an_ordinary_page(portal: Portal) -> None:
    person = await portal.signed_in("ada@example.org")
    form = (await person.get("/dashboard")).form("/instances", environment="jupyterlab")
    page = await person.send(form, memory="9999g")
    assert page.status == 422
    assert person.http.cookies.get("lp_form") is None
    again = await person.get(page.path)
    assert again.status == 200
    assert again.words != page.words


@pytest.mark.slow
async def test_what_no_page_has_a_place_for_stands_above_it(portal: Portal) -> None:
    person = await portal.signed_in("ada@example.org")
    token = (await person.get("/dashboard")).form("/sign-out").fields["csrf_token"]
    page = await person.send(Form("/instances/none/stop", "post", {"csrf_token": token}))
    assert (page.status, page.path.partition("?")[0]) == (404, "/dashboard")
    assert page.text_of("flash")
    instance = await person.running()
    page = await person.send(Form(f"/instances/{instance.id}/extend", "post", {"csrf_token": token, "days": "many"}))
    assert page.status == 422
    assert "days: “many” is not a whole number" in page.text_of("flash")


async def test_a_fault_of_the_engine_leads_back_too(portal: Portal) -> None:
    person = await portal.signed_in("ada@example.org")
    form = (await person.get("/dashboard")).form("/instances", environment="jupyterlab")

    async def away(*_: object, **__: object) -> None:
        raise EngineUnavailable("The container engine does not answer.")

    object.__setattr__(portal.platform.instances, "launch", away)
    page = await person.send(form)
    assert page.status == 503
    assert "The container engine does not answer." in page.words


async def test_who_is_signed_out_meanwhile_is_led_to_the_sign_in_and_back_to_the_page(portal: Portal) -> None:
    person = await portal.signed_in("ada@example.org")
    form = (await person.get("/account")).form("/account/tokens")
    person.http.cookies.delete("lp_login")
    page = await person.send(form, name="x")
    assert page.path.startswith("/sign-in?")
    assert "You are signed out, so nothing was changed" in page.words
    assert page.form("/sign-in").fields["next"] == "/account"


@pytest.mark.slow
async def test_who_has_to_confirm_first_finds_the_form_as_it_was_typed(portal: Portal, clock: SetClock) -> None:
    admin = await portal.signed_in(ADMIN)
    form = (await admin.get("/admin/limits")).form("/admin/limits")
    clock.now += timedelta(minutes=31)
    page = await admin.send(form, memory="3g, 5g", default_memory="5g")
    assert page.path.startswith("/confirm?next=")
    page = await admin.send(page.form("/confirm"))
    await portal.platform.mail.drain()
    page = await admin.send(page.form("/confirm/code"), code=portal.letters.newest_code(ADMIN))
    assert page.path.startswith("/admin/limits?")
    assert page.by_id("memory").attributes["value"] == "3g, 5g"
    assert "Limits saved" in (await admin.send(page.form("/admin/limits"))).words


async def test_the_page_with_the_form_is_the_one_the_browser_names_and_never_another_sites(portal: Portal) -> None:
    admin = await portal.signed_in(ADMIN)
    for referer, path in (
        (f"{PUBLIC_URL}/admin/instances?q=ada&said=saved", "/admin/instances?q=ada&after="),
        (f"{PUBLIC_URL}/dashboard?after=old", "/dashboard?after="),
        ("https://evil.org/admin", "/admin/instances?after="),
        (f"{PUBLIC_URL}//evil.org/x", "/admin/instances?after="),
        (f"{PUBLIC_URL}.evil.org/x", "/admin/instances?after="),
        ("", "/admin/instances?after="),
    ):
        headers = {**HEADERS, "Referer": referer}
        answer = await admin.http.post("/admin/instances/x/stop", data={}, headers=headers, follow_redirects=False)
        assert answer.status_code == 303
        assert answer.headers["Location"].startswith(path), referer


async def _left(person: Person, path: str = "/account/tokens", **fields: str) -> tuple[str, str]:
    """The address of the page after a refused form, and the cookie that waits for it."""
    answer = await person.http.post(path, data=fields, headers=HEADERS, follow_redirects=False)
    cookie = answer.headers["Set-Cookie"]
    assert "; HttpOnly" in cookie
    assert "; SameSite=lax" in cookie.replace("Lax", "lax")
    assert "Max-Age=600" in cookie
    return answer.headers["Location"], cookie.partition("=")[2].partition(";")[0]


async def _page(person: Person, location: str, sealed: str) -> str:
    """What that person's browser gets with this cookie, whatever it has besides."""
    jar = f"lp_login={person.http.cookies['lp_login']}; lp_form={sealed}".encode()
    answer = await person.portal.person("").http.get(location, headers={b"Cookie": jar})
    assert answer.status_code in (200, 403), "whatever is brought along, the page is there"
    return answer.text


@pytest.mark.slow
async def test_nothing_is_shown_but_what_the_portal_signed_for_this_page_login_and_time(
    portal: Portal, clock: SetClock
) -> None:
    ada, eve = await portal.signed_in("ada@example.org"), await portal.signed_in("eve@example.org")
    location, sealed = await _left(ada, name="tell-tale", csrf_token="0" * 64)
    assert "tell-tale" in await _page(ada, location, sealed)
    id = parse_qs(urlsplit(location).query)["after"][0]
    body, _, mark = sealed.partition(".")
    for forged in (
        "",
        ".",
        body,
        f"{body}.",
        f"{body}.{'0' * 64}",
        f"{body[:-2]}AA.{mark}",
        f"x{sealed}",
        "\u00e9.x",
        json.dumps({"id": id}),
    ):
        assert "tell-tale" not in await _page(ada, location, forged), forged
    assert "tell-tale" not in await _page(ada, "/account?after=another", sealed)
    assert "tell-tale" not in await _page(ada, "/account", sealed)
    assert "earlier sign-in" not in await _page(ada, f"/dashboard?after={id}", sealed)
    assert "tell-tale" not in await _page(eve, location, sealed)
    clock.now += timedelta(minutes=11)
    assert "tell-tale" not in await _page(ada, location, sealed)


async def test_a_code_is_never_kept_and_what_is_too_long_is_dropped(portal: Portal) -> None:
    person = await portal.signed_in("ada@example.org")
    location, sealed = await _left(person, name="tell-tale", code="123456", csrf_token="0" * 64)
    page = await _page(person, location, sealed)
    assert "tell-tale" in page
    packed = zlib.decompress(base64.urlsafe_b64decode(sealed.partition(".")[0] + "==="))
    assert b"tell-tale" in packed
    assert b"123456" not in packed
    assert b"0" * 64 not in packed
    stale = {"csrf_token": "0" * 64}
    for fields in ({"name": secrets.token_hex(250_000)}, {f"f{n}": secrets.token_hex(400) for n in range(200)}):
        location, sealed = await _left(person, **fields, **stale)
        assert len(sealed) < 4000, "as much as a browser keeps"
        assert "earlier sign-in" in await _page(person, location, sealed), "the reason is told in any case"
