"""What a user sees of themselves, their logins and their API tokens."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from web.pages_client import Portal, open_portal


@pytest.fixture
async def portal(tmp_path: Path) -> AsyncIterator[Portal]:
    async with open_portal(tmp_path) as portal:
        yield portal


@pytest.mark.slow
async def test_one_sees_who_one_is(portal: Portal) -> None:
    page = await (await portal.signed_in("ada.lovelace@example.org")).get("/account")
    for fact in ("ada.lovelace@example.org", "ada-lovelace", "/home/ada-lovelace", "Firefox on Linux", "192.0.2.7"):
        assert fact in page.words


@pytest.mark.slow
async def test_another_browser_can_be_signed_out_and_this_one_cannot_by_mistake(portal: Portal) -> None:
    here, there = await portal.signed_in("ada@example.org"), await portal.signed_in("ada@example.org")
    page = await here.get("/account")
    endings = [form for form in page.forms if form.action.endswith("/end")]
    assert len(endings) == 1
    assert "Firefox on Linux signed out" in (await here.send(endings[0])).words
    assert (await there.get("/account")).path.startswith("/sign-in")
    assert (await here.get("/account")).status == 200


@pytest.mark.slow
async def test_nobody_signs_out_somebody_else(portal: Portal) -> None:
    ada, bob = await portal.signed_in("ada@example.org"), await portal.signed_in("bob@example.org")
    user = await portal.platform.users.by_email("ada@example.org")
    login = (await portal.platform.logins.of_user(user, portal.platform.now()))[0]
    form = (await bob.get("/account")).form("/sign-out")
    form.action = f"/account/logins/{login.id}/end"
    await bob.send(form)
    assert (await ada.get("/account")).status == 200


@pytest.mark.slow
async def test_a_token_is_shown_once_works_and_can_be_revoked(portal: Portal) -> None:
    person = await portal.signed_in("ada@example.org")
    page = await person.send((await person.get("/account")).form("/account/tokens"), name="nightly report")
    secret = str(page.by_id("new-token").attributes["value"])
    assert secret.startswith("lp_")
    headers = {"Authorization": f"Bearer {secret}", "Accept": "application/json"}
    assert (await person.http.get("/api/v1/me", headers=headers)).json()["email"] == person.address
    again = await person.get("/account")
    assert secret not in again.response.text
    assert "nightly report" in again.words
    revoke = next(form for form in again.forms if form.action.endswith("/revoke"))
    assert "Token “nightly report” revoked" in (await person.send(revoke)).words
    person.http.cookies.clear()
    assert (await person.http.get("/api/v1/me", headers=headers)).status_code == 401


@pytest.mark.parametrize("name", ["", "   ", "x" * 61])
async def test_a_token_without_a_usable_name_is_refused_at_the_field(portal: Portal, name: str) -> None:
    person = await portal.signed_in("ada@example.org")
    page = await person.send((await person.get("/account")).form("/account/tokens"), name=name)
    assert page.status == 422
    assert "1 to 60 characters" in page.text_of("token-name-problem")


@pytest.mark.slow
async def test_signing_out_everywhere_and_everywhere_else(portal: Portal) -> None:
    here, there, third = [await portal.signed_in("ada@example.org") for _ in range(3)]
    others = (await here.get("/account")).form("/account/logins/end-all")
    assert others.fields["here"] == "stay"
    assert "All other browsers signed out" in (await here.send(others)).words
    assert (await there.get("/account")).path.startswith("/sign-in")
    assert (await third.get("/account")).path.startswith("/sign-in")
    page = await here.get("/account")
    [everywhere] = [form for form in page.forms if form.action == "/account/logins/end-all"]
    assert "here" not in everywhere.fields
    assert "You are signed out everywhere" in (await here.send(everywhere)).words
    assert (await here.get("/account")).path.startswith("/sign-in")
