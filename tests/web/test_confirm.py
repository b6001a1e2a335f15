"""Administrators who were away show anew who they are."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest

from support.authenticator import Device
from web.api_client import Portal, open_api, problem

ADMIN = "admin@example.org"
PAGE = {"Accept": "text/html"}


@pytest.fixture
async def portal(tmp_path: Path) -> AsyncIterator[Portal]:
    async with open_api(tmp_path) as portal:
        yield portal


async def test_after_half_an_hour_away_the_administration_asks_again_and_the_rest_does_not(portal: Portal) -> None:
    admin, clock = await portal.signed_in(ADMIN), portal.world.clock
    assert (await admin.call("GET", "/admin/limits")).status_code == 200
    clock.now += timedelta(minutes=29)
    assert (await admin.call("GET", "/admin/limits")).status_code == 200
    clock.now += timedelta(minutes=29)
    assert (await admin.call("GET", "/admin/limits")).status_code == 200, "who works there is not asked"
    clock.now += timedelta(minutes=31)
    limits = await admin.call("PUT", "/admin/limits", {})
    problem(limits, 403, "confirm-again")
    problem(await admin.call("GET", "/admin/users"), 403, "confirm-again")
    assert (await admin.call("GET", "/me")).status_code == 200
    page = await admin.http.get("/admin/users?search=x", headers=PAGE)
    assert page.headers["location"] == "/confirm?next=%2Fadmin%2Fusers%3Fsearch%3Dx"


async def away(portal: Portal) -> None:
    portal.world.clock.now += timedelta(minutes=31)


async def test_a_code_to_their_own_address_confirms_and_the_old_cookie_is_over(portal: Portal) -> None:
    admin = await portal.signed_in(ADMIN)
    await away(portal)
    old = admin.http.cookies["lp_login"]
    form = {"csrf_token": str(admin.csrf), "next": "/admin/users"}
    sent = await admin.http.post("/confirm", data=form, headers=PAGE)
    assert sent.headers["location"] == "/confirm?sent=true&next=%2Fadmin%2Fusers"
    await portal.platform.mail.drain()
    code = portal.world.letters.codes(ADMIN)[-1]
    wrong = await admin.http.post("/confirm/code", data={**form, "code": "000000"}, headers=PAGE)
    assert wrong.status_code == 401
    problem(await admin.call("GET", "/admin/users"), 403, "confirm-again")
    right = await admin.http.post("/confirm/code", data={**form, "code": code}, headers=PAGE)
    assert (right.status_code, right.headers["location"]) == (303, "/admin/users")
    assert (await admin.call("GET", "/admin/users")).status_code == 200
    stolen = await portal.visitor().call("GET", "/me", headers={"Cookie": f"lp_login={old}"})
    assert stolen.status_code == 401
    again = await admin.http.post("/confirm/code", data={**form, "code": code}, headers=PAGE)
    assert again.status_code == 401, "a code works once"
    assert any(one["action"] == "sign-in.confirmed" for one in await admin.get("/admin/audit"))


async def test_a_code_for_another_address_confirms_nothing(portal: Portal) -> None:
    admin = await portal.signed_in(ADMIN)
    await away(portal)
    await admin.call("POST", "/sign-in", {"email": "other@example.org"})
    await portal.platform.mail.drain()
    code = portal.world.letters.codes("other@example.org")[-1]
    form = {"csrf_token": str(admin.csrf), "code": code}
    assert (await admin.http.post("/confirm/code", data=form, headers=PAGE)).status_code == 401
    problem(await admin.call("GET", "/admin/users"), 403, "confirm-again")


async def test_a_change_that_comes_too_late_is_not_made_and_says_so(portal: Portal) -> None:
    admin, user = await portal.signed_in(ADMIN), await portal.signed_in("u@example.org")
    await away(portal)
    form = {"csrf_token": str(admin.csrf), "role": "admin", "status": "active"}
    page = await admin.http.post(f"/admin/users/{user.me['id']}", data=form, headers=PAGE)
    assert page.status_code == 403
    assert "Nothing was changed" in page.text
    assert 'href="/confirm?next=/admin"' in page.text
    assert (await user.get("/me"))["role"] == "user"


async def test_confirming_makes_nobody_an_administrator(portal: Portal) -> None:
    user = await portal.signed_in("u@example.org")
    await user.http.post("/confirm", data={"csrf_token": str(user.csrf)}, headers=PAGE)
    await portal.platform.mail.drain()
    code = portal.world.letters.codes("u@example.org")[-1]
    form = {"csrf_token": str(user.csrf), "code": code}
    assert (await user.http.post("/confirm/code", data=form, headers=PAGE)).status_code == 303
    problem(await user.call("GET", "/admin/users"), 403, "forbidden")


@pytest.mark.slow
async def test_a_passkey_confirms_too_and_only_ones_own(portal: Portal) -> None:
    admin, other = await portal.signed_in(ADMIN), await portal.signed_in("other@example.org")
    mine, theirs = Device("http://localhost:8080"), Device("http://localhost:8080")
    for visitor, device in ((admin, mine), (other, theirs)):
        headers = {"X-CSRF-Token": str(visitor.csrf)}
        options = (await visitor.http.post("/account/passkeys/options", headers=headers)).json()
        body = {"credential": device.make(options), "name": "x"}
        added = await visitor.http.post("/account/passkeys", json=body, headers=headers)
        assert added.status_code == 201, added.text
    await away(portal)
    headers = {"X-CSRF-Token": str(admin.csrf)}
    for device, status in ((theirs, 401), (mine, 200)):
        options = (await admin.http.post("/confirm/passkey/options", headers=headers)).json()
        body = {"credential": device.sign(options), "next": "/admin/users"}
        answer = await admin.http.post("/confirm/passkey", json=body, headers=headers)
        assert answer.status_code == status, answer.text
    assert answer.json() == {"location": "/admin/users"}
    assert (await admin.call("GET", "/admin/users")).status_code == 200


async def test_a_personal_token_is_not_asked(portal: Portal) -> None:
    admin = await portal.signed_in(ADMIN)
    token = (await admin.call("POST", "/tokens", {"name": "nightly"})).json()["token"]
    await away(portal)
    answer = await portal.visitor().call("GET", "/admin/users", headers={"Authorization": f"Bearer {token}"})
    assert answer.status_code == 200
