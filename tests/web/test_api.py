"""The JSON API, call by call, as interface.md fixes it."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from launchpad.domain.instances import State
from launchpad.runtime.base import Freezer
from launchpad.services.freezing import DRAIN
from launchpad.store import home_archives
from support.events import events_in, follow
from support.homes import archive_row
from support.platforms import reaches
from web.api_client import INSTANCES_URL, JSON, PROBLEM, PUBLIC_URL, Portal, Visitor, open_api, problem

ALICE, BOB, ADMIN = "alice@a.org", "bob@a.org", "admin@example.org"
INSTANCE_FIELDS = {
    "id",
    "environment",
    "state",
    "reason",
    "stage",
    "url",
    "created_at",
    "expires_at",
    "limits",
    "usage",
    "queue_position",
    "estimated_start_at",
}


@pytest.fixture
async def portal(tmp_path: Path) -> AsyncIterator[Portal]:
    async with open_api(tmp_path) as portal:
        yield portal


@dataclass
class Quiet:
    """A portal that several tests share, since what they ask for is refused and changes nothing."""

    portal: Portal
    admin: Visitor
    alice: Visitor


@pytest.fixture(scope="module")
async def quiet(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Quiet]:
    async with open_api(tmp_path_factory.mktemp("quiet")) as portal:
        yield Quiet(portal, await portal.signed_in(ADMIN), await portal.signed_in(ALICE))


# -- signing in --------------------------------------------------------------------------------------------------------


async def test_signing_in_and_out(portal: Portal) -> None:
    visitor = portal.visitor()
    asked = await visitor.call("POST", "/sign-in", {"email": ALICE})
    assert asked.status_code == 202
    assert set(asked.json()) == {"challenge_id", "expires_at"}
    assert datetime.fromisoformat(asked.json()["expires_at"]) == portal.world.clock() + timedelta(minutes=10)
    flags = asked.headers["Set-Cookie"].lower()
    assert flags.startswith("lp_challenge=")
    assert all(flag in flags for flag in ("; httponly", "; path=/", "; samesite=lax", "; max-age=600"))
    await portal.platform.mail.drain()
    code = portal.world.letters.codes(ALICE)[-1]
    assert code not in asked.text + str(asked.headers)
    verified = await visitor.call("POST", "/sign-in/verify", {"code": code})
    assert verified.status_code == 200
    user = verified.json()["user"]
    assert (user["email"], user["username"], user["role"]) == (ALICE, "alice", "user")
    cookies = verified.headers.get_list("Set-Cookie")
    names = [cookie.partition("=")[0] for cookie in cookies]
    assert names == ["lp_login", "lp_known", "lp_challenge", "lp_passkey"]
    assert "max-age" not in cookies[0].lower(), "not remembered: gone with the browser"
    assert all("expires" not in cookie.lower() for cookie in cookies[:2]), "an age: a wrong clock signs nobody out"
    assert all("max-age=0" in cookie.lower() for cookie in cookies[2:])
    me = await visitor.get("/me")
    assert set(me) >= {"id", "email", "username", "role", "lab", "quota", "csrf_token"}
    assert me == user
    out = await visitor.call("POST", "/sign-out", headers={"X-CSRF-Token": me["csrf_token"]})
    assert (out.status_code, out.content) == (204, b"")
    problem(await visitor.call("GET", "/me"), 401, "not-signed-in")


async def test_the_old_cookie_is_nobodys_after_signing_out(portal: Portal) -> None:
    alice = await portal.signed_in(ALICE)
    cookie = alice.http.cookies["lp_login"]
    await alice.call("POST", "/sign-out")
    answer = await portal.visitor().call("GET", "/me", headers={"Cookie": f"lp_login={cookie}"})
    problem(answer, 401, "not-signed-in")
    assert answer.headers["WWW-Authenticate"].startswith("Bearer")


async def test_a_remembered_login_stays_when_the_browser_closes(portal: Portal) -> None:
    visitor = portal.visitor()
    await visitor.call("POST", "/sign-in", {"email": ALICE})
    await portal.platform.mail.drain()
    code = portal.world.letters.codes(ALICE)[-1]
    verified = await visitor.call("POST", "/sign-in/verify", {"code": code, "remember": True})
    assert f"Max-Age={7 * 24 * 3600};" in verified.headers.get_list("Set-Cookie")[0]


async def test_under_https_cookies_are_host_only_and_secure(tmp_path: Path) -> None:
    urls = {"public_url": "https://lab.example.org", "instances_url": "https://run.example.org"}
    async with open_api(tmp_path, urls) as portal:
        asked = await portal.visitor().call("POST", "/sign-in", {"email": ALICE})
        cookie = asked.headers["Set-Cookie"]
        assert cookie.startswith("__Host-lp_challenge=")
        assert "; Secure" in cookie
        assert "domain" not in cookie.lower()


async def test_every_address_gets_the_same_answer(tmp_path: Path) -> None:
    """Same status, same bytes but for the random ones, same headers but for the cookie's value."""
    async with open_api(tmp_path, {"sign_in": {"allowed_domains": ["a.org", "example.org"]}}) as portal:
        admin, alice = await portal.signed_in(ADMIN), await portal.signed_in(ALICE)
        await admin.call("PATCH", f"/admin/users/{alice.me['id']}", {"status": "suspended"})
        seen = set()
        for address in (ADMIN, ALICE, "unknown@a.org"):
            answer = await portal.visitor("198.51.100.1").call("POST", "/sign-in", {"email": address})
            body = answer.json()
            body["challenge_id"] = len(body["challenge_id"])
            cookie = answer.headers["Set-Cookie"].split("; ", 1)
            seen.add((answer.status_code, str(body), len(cookie[0]), cookie[1], len(answer.content)))
        assert len(seen) == 1, seen


async def test_an_address_outside_the_allowed_domains_is_refused_with_their_names(tmp_path: Path) -> None:
    """They are public; known or not, the answer is the same."""
    async with open_api(tmp_path, {"sign_in": {"allowed_domains": ["a.org", "b.org"]}}) as portal:
        answers = []
        for address in (ADMIN, "x@elsewhere.org"):
            answer = await portal.visitor().call("POST", "/sign-in", {"email": address})
            problem(answer, 422, "invalid-input", "email")
            assert answer.json()["detail"] == "Only e-mail addresses at a.org or b.org can sign in here."
            assert "Set-Cookie" not in answer.headers
            answers.append(answer.content)
        assert answers[0] == answers[1]
        assert (await portal.visitor().call("POST", "/sign-in", {"email": ALICE})).status_code == 202


async def test_a_wrong_code_is_401_and_too_many_are_429(tmp_path: Path) -> None:
    rules = {"failures_per_hour_per_client": 2, "sends_per_hour_per_client": 2}
    async with open_api(tmp_path, {"sign_in": rules}) as portal:
        visitor = portal.visitor()
        problem(await visitor.call("POST", "/sign-in/verify", {"code": "123456"}), 401, "wrong-code")
        for _ in range(2):
            assert (await visitor.call("POST", "/sign-in", {"email": ALICE})).status_code == 202
        for _ in range(2):
            problem(await visitor.call("POST", "/sign-in/verify", {"code": "wrong"}), 401, "wrong-code", "code")
        for path, body in (("/sign-in", {"email": ALICE}), ("/sign-in/verify", {"code": "wrong"})):
            answer = await visitor.call("POST", path, body)
            problem(answer, 429, "too-many-requests")
            assert int(answer.headers["Retry-After"]) > 0


@pytest.mark.parametrize(
    ("headers", "allowed"),
    [
        ({"Origin": PUBLIC_URL}, True),
        ({}, True),
        ({"Sec-Fetch-Site": "same-origin"}, True),
        ({"Origin": INSTANCES_URL}, False),
        ({"Origin": "null"}, False),
        ({"Origin": "https://evil.org"}, False),
        ({"Sec-Fetch-Site": "same-site"}, False),
        ({"Sec-Fetch-Site": "cross-site"}, False),
    ],
)
async def test_the_sign_in_calls_come_from_the_portals_own_pages(
    quiet: Quiet, headers: dict[str, str], allowed: bool
) -> None:
    """Else another site's form could sign a victim in as the attacker."""
    for path, body in (("/sign-in", {"email": ALICE}), ("/sign-in/verify", {"code": "123456"})):
        answer = await quiet.portal.visitor().call("POST", path, body, headers=headers)
        if allowed:
            assert answer.status_code in (202, 401)
        else:
            problem(answer, 403, "forbidden")
            assert "Set-Cookie" not in answer.headers


# -- instances ---------------------------------------------------------------------------------------------------------


async def test_the_catalogue_has_its_choices_and_says_what_is_missing(portal: Portal) -> None:
    alice = await portal.signed_in(ALICE)
    portal.world.runtime.missing_images.add(portal.platform.catalogue["rstudio"].image)
    found = {one["name"]: one for one in await alice.get("/environments")}
    assert set(found) == {"jupyterlab", "rstudio"}
    lab = found["jupyterlab"]
    assert set(lab) >= {"name", "title", "choices", "defaults", "available"}
    assert lab["choices"] == {
        "memory": ["1g", "2g", "4g"],
        "cpus": [1, 2],
        "storage": ["16g", "64g"],
        "days": [1, 2, 7],
    }
    assert lab["defaults"] == {"memory": "1g", "cpus": 1, "storage": "64g", "days": 1}
    assert (lab["available"], found["rstudio"]["available"]) == (True, False)
    assert "not on this server" in found["rstudio"]["reason"]


async def test_opening_what_does_not_run_says_why_and_what_to_do(portal: Portal) -> None:
    alice = await portal.signed_in(ALICE)
    ended = await alice.stopped("jupyterlab")
    answer = await alice.call("GET", f"/instances/{ended['id']}/open")
    problem(answer, 409, "conflict")
    assert answer.json()["detail"] == "The instance ended on 2 March 2126, 09:30 UTC: stopped by you. Launch a new one."
    portal.world.runtime.hold("before start")
    starting = (await alice.call("POST", "/instances", {"environment": "jupyterlab"})).json()
    answer = await alice.call("GET", f"/instances/{starting['id']}/open")
    problem(answer, 409, "conflict")
    assert answer.json()["detail"] == "The instance is starting; wait until it is running."
    portal.world.runtime.release()


@pytest.mark.slow  # waits for a clock
async def test_an_instances_life(portal: Portal) -> None:
    alice = await portal.signed_in(ALICE)
    portal.world.runtime.hold("before start")
    size = {"memory": "2g", "cpus": 2, "storage": "16g", "days": 2}
    answer = await alice.call("POST", "/instances", {"environment": "jupyterlab", **size})
    assert answer.status_code == 202
    instance = answer.json()
    assert set(instance) >= INSTANCE_FIELDS
    assert (instance["state"], instance["url"], instance["usage"]) == ("starting", None, None)
    assert instance["limits"] == size
    assert instance["created_at"] == "2126-03-02T09:30:00Z"
    assert instance["expires_at"] == "2126-03-04T09:30:00Z"
    path = f"/instances/{instance['id']}"
    problem(await alice.call("GET", f"{path}/open"), 409, "conflict")
    problem(await alice.call("DELETE", path), 409, "conflict")
    portal.world.runtime.release()
    await reaches(portal.platform, instance["id"], State.RUNNING)
    running = await alice.get(path)
    assert running["url"] == f"{INSTANCES_URL}/i/{instance['id']}/"
    assert set(running["usage"]) == {"memory_bytes", "cpu_seconds", "pids"}
    assert [one["id"] for one in await alice.get("/instances")] == [instance["id"]]
    opened = await alice.call("GET", f"{path}/open", next="/lab/tree/x.ipynb")
    assert opened.status_code == 303
    assert opened.headers["Location"].startswith(f"{INSTANCES_URL}/enter?ticket=")
    assert opened.headers["Cache-Control"] == "no-store"
    problem(await alice.call("GET", f"{path}/open", next="//evil.org"), 404, "not-found")
    longer = await alice.call("POST", f"{path}/extend", {"days": 1})
    assert (longer.status_code, longer.json()["expires_at"]) == (200, "2126-03-05T09:30:00Z")
    problem(await alice.call("POST", f"{path}/extend", {"days": 3}), 422, "invalid-input", "days")
    portal.world.runtime.hold("before stop")
    stopping = await alice.call("POST", f"{path}/stop")
    assert (stopping.status_code, stopping.json()["state"]) == (202, "stopping")
    portal.world.runtime.release()
    await reaches(portal.platform, instance["id"], State.STOPPED)
    assert await alice.get("/instances") == []
    ended = await alice.get("/instances", all="true")
    assert [(one["state"], one["reason"], one["url"]) for one in ended] == [("stopped", "stopped by you", None)]
    problem(await alice.call("POST", f"{path}/extend", {"days": 1}), 409, "conflict")
    assert (await alice.call("POST", f"{path}/stop")).status_code == 202, "stopping twice changes nothing"
    gone = await alice.call("DELETE", path)
    assert (gone.status_code, gone.content) == (204, b"")
    problem(await alice.call("GET", path), 404, "not-found")
    assert await alice.get("/instances", all="true") == []


@pytest.mark.parametrize(
    ("size", "field"),
    [
        ({"memory": "3g"}, "memory"),
        ({"memory": "999999999t"}, "memory"),
        ({"memory": "lots"}, "memory"),
        ({"memory": "-1g"}, "memory"),
        ({"memory": 4}, "memory"),
        ({"cpus": 3}, "cpus"),
        ({"cpus": -1}, "cpus"),
        ({"cpus": "two"}, "cpus"),
        ({"storage": "1t"}, "storage"),
        ({"days": 30}, "days"),
        ({"days": 0}, "days"),
        ({"days": 10**30}, "days"),
        ({"days": 1.5}, "days"),
        ({"environment": "matlab"}, "environment"),
        ({"environment": "x" * 1000}, "environment"),
        ({"image": "evil:latest"}, "image"),
        ({"mounts": ["/etc"]}, "mounts"),
    ],
)
async def test_g3_what_is_not_offered_is_422_with_its_field(quiet: Quiet, size: dict[str, Any], field: str) -> None:
    body = {"environment": "jupyterlab", **size}
    problem(await quiet.alice.call("POST", "/instances", body), 422, "invalid-input", field)
    assert await quiet.alice.get("/instances", all="true") == []


@pytest.mark.parametrize(
    ("body", "fields"),
    [
        (b"{", ["body"]),
        (b"", ["body"]),
        (b"[]", ["body"]),
        (b'{"environment": "jupyterlab", "cpus": NaN}', ["cpus"]),
        (b'{"environment": "jupyterlab", "cpus": Infinity}', ["cpus"]),
        (b'{"environment": "\\ud800"}', ["environment"]),
    ],
)
async def test_what_is_no_proper_json_is_422(quiet: Quiet, body: bytes, fields: list[str]) -> None:
    headers = {"Content-Type": JSON, "X-CSRF-Token": str(quiet.alice.csrf)}
    answer = await quiet.alice.http.post("/api/v1/instances", content=body, headers=headers)
    problem(answer, 422, "invalid-input", *fields)


@pytest.mark.parametrize("code", ["\\ud800", "\\u0000", "x" * 101, "ü" * 6])
async def test_a_code_of_strange_signs_is_refused_like_any_other(portal: Portal, code: str) -> None:
    visitor = portal.visitor()
    await visitor.call("POST", "/sign-in", {"email": ALICE})
    body = f'{{"code": "{code}"}}'.encode()
    answer = await visitor.http.post("/api/v1/sign-in/verify", content=body, headers={"Content-Type": JSON})
    assert answer.status_code in (401, 422), answer.text


@pytest.mark.slow
async def test_quota_image_and_engine_are_told_apart(portal: Portal) -> None:
    admin, alice = await portal.signed_in(ADMIN), await portal.signed_in(ALICE)
    wish = {"environment": "rstudio", "memory": "2g"}
    portal.world.runtime.go_down()
    problem(await alice.call("POST", "/instances", wish), 503, "engine-unavailable")
    portal.world.runtime.come_back()
    portal.world.runtime.missing_images.add(portal.platform.catalogue["jupyterlab"].image)
    problem(await alice.call("POST", "/instances", {"environment": "jupyterlab"}), 503, "image-missing")
    users = f"/admin/users/{alice.me['id']}"
    assert (await admin.call("PATCH", users, {"quota": {"memory": "1g"}})).json()["quota"]["memory"] == "1g"
    problem(await alice.call("POST", "/instances", wish), 409, "quota-exceeded", "memory")
    await admin.call("PATCH", users, {"quota": {}})
    await alice.launch("rstudio")
    problem(await alice.call("POST", "/instances", {**wish, "memory": "4g"}), 409, "conflict")


@pytest.mark.slow
async def test_a_queued_instance_has_its_position(tmp_path: Path) -> None:
    async with open_api(tmp_path, {"capacity": {"memory": "1g", "cpus": 100}}) as portal:
        await (await portal.signed_in(ALICE)).launch()
        bob = await portal.signed_in(BOB)
        queued = (await bob.call("POST", "/instances", {"environment": "rstudio"})).json()
        assert (queued["state"], queued["queue_position"], queued["url"]) == ("queued", 1, None)
        capacity = await (await portal.signed_in(ADMIN)).get("/admin/capacity")
        assert (capacity["queued"], capacity["promised"]["instances"]) == (1, 1)


@pytest.mark.slow
async def test_lists_go_on_page_by_page(portal: Portal) -> None:
    alice, admin = await portal.signed_in(ALICE), await portal.signed_in(ADMIN)
    made = []
    for number in range(5):
        portal.world.clock.now += timedelta(minutes=number // 3)  # three of them at one instant
        made.append((await alice.stopped())["id"])
    for visitor, path in ((alice, "/instances"), (admin, "/admin/instances"), (admin, "/admin/audit")):
        seen: list[Any] = []
        cursor: dict[str, str] = {}
        for _ in range(20):
            # As a client does that puts the cursor into the address as it stands.
            query = "&".join(f"{name}={value}" for name, value in {"all": "true", "limit": "2", **cursor}.items())
            answer = await visitor.http.get(f"/api/v1{path}?{query}")
            assert answer.status_code == 200, answer.text
            assert len(answer.json()) <= 2
            seen += [one["id"] for one in answer.json()]
            if "X-Next-Cursor" not in answer.headers:
                break
            cursor = {"cursor": answer.headers["X-Next-Cursor"]}
        assert len(seen) == len(set(seen))
        if path != "/admin/audit":
            assert set(seen) == set(made)
            assert seen[0] == made[4]
        else:
            assert seen == sorted(seen, reverse=True)
            assert len(seen) > 10
    first = await admin.call("GET", "/admin/users", limit=1)
    second = await admin.call("GET", "/admin/users", limit=1, cursor=first.headers["X-Next-Cursor"])
    assert [one["email"] for one in first.json() + second.json()] == [ADMIN, ALICE]


@pytest.mark.parametrize(
    ("path", "query", "field"),
    [
        ("/instances", {"limit": 0}, "limit"),
        ("/instances", {"limit": 10**6}, "limit"),
        ("/instances", {"cursor": "yesterday"}, "cursor"),
        ("/instances", {"cursor": "2126-03-02T09:30:00Z"}, "cursor"),
        ("/instances", {"cursor": "2126-03-02T09:30:00~0123456789abcdef"}, "cursor"),
        ("/admin/instances", {"cursor": "2126-03-02T09:30:00"}, "cursor"),
        ("/admin/audit", {"cursor": 10**25}, "cursor"),
    ],
)
async def test_a_cursor_or_limit_that_is_none_is_422(
    quiet: Quiet, path: str, query: dict[str, Any], field: str
) -> None:
    problem(await quiet.admin.call("GET", path, **query), 422, "invalid-input", field)


# -- events ------------------------------------------------------------------------------------------------------------


async def test_events_tell_state_and_stage_first_then_changes_and_use_and_end_with_the_instance(
    portal: Portal,
) -> None:
    alice = await portal.signed_in(ALICE)
    runtime, platform = portal.world.runtime, portal.platform
    runtime.hold("before start")
    instance_id = (await alice.call("POST", "/instances", {"environment": "jupyterlab"})).json()["id"]
    owner = await platform.users.by_email(ALICE)
    seen: list[tuple[str, Any]] = []
    stream = follow(platform, owner, None, await platform.instances.get(instance_id, owner))

    async def read_to(kind: str, state: str | None = None) -> None:
        async for event in stream:
            seen.append(event)
            if event[0] == kind and state in (None, seen[-1][1].get("state")):
                return

    async with asyncio.timeout(20):
        await read_to("stage", "starting")
        runtime.release()
        await read_to("usage")
        runtime.hold("before stop")
        await alice.call("POST", f"/instances/{instance_id}/stop")
        await read_to("stage", "stopping")
        runtime.release()
        await read_to("the end")
    assert [kind for kind, _ in seen[:2]] == ["state", "stage"]
    assert set(seen[0][1]) >= INSTANCE_FIELDS
    assert set(seen[1][1]) == {"stage", "state", "queue_position", "queue_text"}
    assert [data["state"] for kind, data in seen if kind == "state"] == ["starting", "running", "stopping", "stopped"]
    assert set(next(data for kind, data in seen if kind == "usage")) == {"memory_bytes", "cpu_seconds", "pids"}
    assert {kind for kind, _ in seen} == {"state", "stage", "usage"}


@pytest.mark.slow
async def test_the_events_of_an_ended_instance_are_its_end(portal: Portal) -> None:
    alice = await portal.signed_in(ALICE)
    instance = await alice.stopped()
    events = await alice.events(instance["id"])
    assert [(kind, data["state"]) for kind, data in events] == [("state", "stopped"), ("stage", "stopped")]
    assert events[0][1]["reason"] == "stopped by you"


async def test_the_events_of_a_forgotten_instance_end(portal: Portal) -> None:
    alice = await portal.signed_in(ALICE)
    portal.world.runtime.hold("before start")
    instance = (await alice.call("POST", "/instances", {"environment": "jupyterlab"})).json()
    stream = asyncio.create_task(alice.call("GET", f"/instances/{instance['id']}/events"))
    await alice.call("POST", f"/instances/{instance['id']}/stop")
    await reaches(portal.platform, instance["id"], State.STOPPED)
    await alice.call("DELETE", f"/instances/{instance['id']}")
    answer = await asyncio.wait_for(stream, 20)
    assert answer.status_code in (200, 404)
    assert all(kind in ("state", "stage") for kind, _ in events_in(answer.text))


# -- tokens ------------------------------------------------------------------------------------------------------------


async def test_a_personal_token_is_shown_once_and_works_without_a_csrf_token(portal: Portal) -> None:
    alice = await portal.signed_in(ALICE)
    made = await alice.call("POST", "/tokens", {"name": "laptop"})
    assert made.status_code == 201
    secret = made.json()["token"]
    assert secret.startswith("lp_")
    assert len(secret) > 40
    listed = await alice.get("/tokens")
    assert [one["name"] for one in listed] == ["laptop"]
    assert secret not in str(listed)
    stored = b"".join(path.read_bytes() for path in (portal.world.folder / "state").glob("launchpad.db*"))
    assert secret.encode() not in stored
    program, bearer = portal.visitor(), {"Authorization": f"Bearer {secret}"}
    me = await program.call("GET", "/me", headers=bearer)
    assert (me.json()["email"], me.json()["csrf_token"]) == (ALICE, None)
    launched = await program.call("POST", "/instances", {"environment": "jupyterlab"}, headers=bearer)
    assert launched.status_code == 202
    await reaches(portal.platform, launched.json()["id"], State.RUNNING)
    opened = await program.call("GET", f"/instances/{launched.json()['id']}/open", headers=bearer)
    problem(opened, 403, "forbidden")
    for wrong in (f"Bearer {secret}x", "Bearer", f"Basic {secret}", "Bearer lp_", f"Bearer {secret[3:]}"):
        problem(await program.call("GET", "/me", headers={"Authorization": wrong}), 401, "not-signed-in")
    gone = await alice.call("DELETE", f"/tokens/{listed[0]['id']}")
    assert gone.status_code == 204
    problem(await program.call("GET", "/me", headers=bearer), 401, "not-signed-in")
    problem(await alice.call("DELETE", f"/tokens/{listed[0]['id']}"), 404, "not-found")


async def test_a_token_belongs_to_its_user_and_is_silent_while_they_are_suspended(portal: Portal) -> None:
    alice, bob, admin = [await portal.signed_in(address) for address in (ALICE, BOB, ADMIN)]
    made = (await alice.call("POST", "/tokens", {"name": "laptop"})).json()
    problem(await bob.call("DELETE", f"/tokens/{made['id']}"), 404, "not-found")
    assert await bob.get("/tokens") == []
    await admin.call("PATCH", f"/admin/users/{alice.me['id']}", {"status": "suspended"})
    bearer = {"Authorization": f"Bearer {made['token']}"}
    problem(await portal.visitor().call("GET", "/me", headers=bearer), 401, "not-signed-in")
    await admin.call("PATCH", f"/admin/users/{alice.me['id']}", {"status": "active"})
    assert (await portal.visitor().call("GET", "/me", headers=bearer)).status_code == 200


@pytest.mark.parametrize("name", ["", "  ", "x" * 61])
async def test_a_token_has_a_name(quiet: Quiet, name: str) -> None:
    problem(await quiet.alice.call("POST", "/tokens", {"name": name}), 422, "invalid-input", "name")


# -- administrators ----------------------------------------------------------------------------------------------------


async def test_an_administrator_changes_role_status_lab_and_quota(portal: Portal) -> None:
    admin, alice = await portal.signed_in(ADMIN), await portal.signed_in(ALICE)
    path = f"/admin/users/{alice.me['id']}"
    quota = {"memory": "8g", "cpus": 4.0, "storage": None, "instances": 3}
    changed = await admin.call("PATCH", path, {"role": "admin", "lab": "genomics", "quota": quota})
    assert changed.status_code == 200
    assert {name: changed.json()[name] for name in ("role", "lab", "quota", "status")} == {
        "role": "admin",
        "lab": "genomics",
        "quota": quota,
        "status": "active",
    }
    assert (await admin.call("PATCH", path, {"lab": None})).json()["lab"] is None
    kept = (await admin.call("PATCH", path, {})).json()
    assert (kept["role"], kept["quota"]) == ("admin", quota), "what is left out stays"
    assert (await alice.get("/me"))["quota"] == quota
    assert [one["email"] for one in await admin.get("/admin/users", search="genomics")] == []
    problem(await admin.call("PATCH", "/admin/users/nobody", {"lab": "x"}), 404, "not-found")
    await admin.call("PATCH", path, {"role": "user"})
    problem(await admin.call("PATCH", f"/admin/users/{admin.me['id']}", {"role": "user"}), 409, "conflict")


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"role": "root"}, "role"),
        ({"status": "gone"}, "status"),
        ({"email": "x@x.org"}, "email"),
        ({"lab": "x" * 101}, "lab"),
        ({"quota": {"memory": "999999999t"}}, "quota.memory"),
        ({"quota": {"instances": 10**30}}, "quota.instances"),
        ({"quota": {"instances": -1}}, "quota.instances"),
        ({"quota": {"cpus": -0.5}}, "quota.cpus"),
    ],
)
async def test_a_change_of_a_user_that_makes_no_sense_is_422(quiet: Quiet, body: Any, field: str) -> None:
    problem(await quiet.admin.call("PATCH", f"/admin/users/{quiet.admin.me['id']}", body), 422, "invalid-input", field)


async def test_suspension_ends_logins_and_instances(portal: Portal) -> None:
    admin, alice = await portal.signed_in(ADMIN), await portal.signed_in(ALICE)
    instance = await alice.launch()
    await admin.call("PATCH", f"/admin/users/{alice.me['id']}", {"status": "suspended"})
    problem(await alice.call("GET", "/me"), 401, "not-signed-in")
    ended = await reaches(portal.platform, instance["id"], State.STOPPED)
    assert "suspended" in str(ended.reason)


@pytest.mark.slow
async def test_freeze_and_thaw(portal: Portal) -> None:
    """The state says so once it stands still, its address stays; where nothing can be frozen, 409 has the reason."""
    alice = await portal.signed_in("alice@a.org")
    instance = await alice.launch("jupyterlab")
    await reaches(portal.platform, instance["id"], State.RUNNING)
    path = f"/instances/{instance['id']}"
    asked = await alice.call("POST", f"{path}/freeze")
    assert (asked.status_code, asked.json()["state"]) == (202, "running")
    portal.world.clock.now += DRAIN
    await portal.platform.freezing.tend(portal.world.clock())
    frozen = await alice.get(path)
    assert (frozen["state"], frozen["frozen_reason"]) == ("frozen", "by its owner")
    assert frozen["frozen_at"] == portal.world.clock().isoformat().replace("+00:00", "Z")
    assert frozen["url"] == f"{INSTANCES_URL}/i/{instance['id']}/"
    assert (await alice.call("POST", f"{path}/freeze")).status_code == 202, "freezing twice changes nothing"
    thawed = await alice.call("POST", f"{path}/thaw")
    assert (thawed.status_code, thawed.json()["state"], thawed.json()["frozen_at"]) == (202, "running", None)
    assert (await alice.call("POST", f"{path}/thaw")).status_code == 202
    portal.world.runtime.freezer_facts = Freezer(False, "the kernel has no freezer")
    portal.platform.freezing._capability = None
    refused = await alice.call("POST", f"{path}/freeze")
    problem(refused, 409, "conflict")
    assert "the kernel has no freezer" in refused.json()["detail"]


@pytest.mark.slow
async def test_an_administrator_sees_stops_and_extends_everyones(portal: Portal) -> None:
    admin, alice = await portal.signed_in(ADMIN), await portal.signed_in(ALICE)
    instance = await alice.launch()
    shown = await admin.get("/admin/instances")
    assert [(one["id"], one["owner"], one["owner_id"]) for one in shown] == [(instance["id"], ALICE, alice.me["id"])]
    path = f"/admin/instances/{instance['id']}"
    longer = await admin.call("POST", f"{path}/extend", {"days": 2})
    assert (longer.status_code, longer.json()["expires_at"]) == (200, "2126-03-05T09:30:00Z")
    stopped = await admin.call("POST", f"{path}/stop")
    assert (stopped.status_code, stopped.json()["owner"]) == (202, ALICE)
    ended = await reaches(portal.platform, instance["id"], State.STOPPED)
    assert ended.reason == "stopped by an administrator"
    for method, end in (("POST", "/stop"), ("POST", "/extend")):
        body = {"days": 1} if end == "/extend" else None
        problem(await admin.call(method, f"/admin/instances/nothing{end}", body), 404, "not-found")
    actions = [one["action"] for one in await admin.get("/admin/audit", search=instance["id"])]
    assert actions == ["instance.stopped", "instance.extended", "instance.launched"]


async def test_limits_are_replaced_for_everybody(portal: Portal) -> None:
    admin, alice = await portal.signed_in(ADMIN), await portal.signed_in(ALICE)
    before = await admin.get("/admin/limits")
    assert set(before) == {"memory", "cpus", "storage", "days", "defaults", "instances_per_user"}
    changed = {**before, "memory": ["1g", "8g"], "days": [1, 30], "instances_per_user": 1}
    answer = await admin.call("PUT", "/admin/limits", changed)
    assert (answer.status_code, answer.json()) == (200, changed)
    assert await admin.get("/admin/limits") == changed
    assert (await alice.get("/environments"))[0]["choices"]["memory"] == ["1g", "8g"]
    wish = {"environment": "jupyterlab", "memory": "2g"}
    problem(await alice.call("POST", "/instances", wish), 422, "invalid-input", "memory")
    await alice.launch(memory="8g", days=30)
    problem(await alice.call("POST", "/instances", {"environment": "rstudio"}), 409, "quota-exceeded", "instances")
    del changed["instances_per_user"]
    assert (await admin.call("PUT", "/admin/limits", changed)).json()["instances_per_user"] == 1, "left out: kept"


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"memory": []}, "memory"),
        ({"memory": ["2g", "1g"]}, "memory"),
        ({"memory": ["64g"]}, "memory"),
        ({"cpus": [0, 1]}, "cpus"),
        ({"days": [2, 7]}, "days"),
        ({"days": [1, 10**9]}, "days.1"),
        ({"storage": ["999999999t"]}, "storage.0"),
        ({"instances_per_user": -1}, "instances_per_user"),
        ({"surprise": 1}, "surprise"),
    ],
)
async def test_limits_that_cannot_be_offered_are_422_with_the_field(quiet: Quiet, change: Any, field: str) -> None:
    before = await quiet.admin.get("/admin/limits")
    problem(await quiet.admin.call("PUT", "/admin/limits", {**before, **change}), 422, "invalid-input", field)
    assert await quiet.admin.get("/admin/limits") == before


# -- refusals that every call shares -----------------------------------------------------------------------------------


@pytest.mark.slow
async def test_somebody_elses_instance_is_404_whatever_is_asked(portal: Portal) -> None:
    alice, bob, admin = [await portal.signed_in(address) for address in (ALICE, BOB, ADMIN)]
    running, ended = await alice.launch(), await alice.stopped("rstudio")
    never = "0123456789abcdef"
    for visitor in (bob, admin):
        for instance_id in (running["id"], ended["id"], never):
            path = f"/instances/{instance_id}"
            answers = [
                await visitor.call("GET", path),
                await visitor.call("GET", f"{path}/events"),
                await visitor.call("GET", f"{path}/open"),
                await visitor.call("POST", f"{path}/stop"),
                await visitor.call("POST", f"{path}/extend", {"days": 1}),
                await visitor.call("DELETE", path),
            ]
            assert len({answer.text for answer in answers}) == 1, "also in its words like one that never was"
            for answer in answers:
                problem(answer, 404, "not-found")
    assert (await alice.get(f"/instances/{running['id']}"))["state"] == "running"
    assert (await alice.get(f"/instances/{ended['id']}"))["state"] == "stopped"


FROM_THE_START = {"Upload-Offset": "0"}


@pytest.mark.slow
async def test_g2_every_change_without_its_csrf_token_is_403_and_changes_nothing(portal: Portal) -> None:
    admin, alice = await portal.signed_in(ADMIN), await portal.signed_in(ALICE)
    running, ended = await admin.launch(), await admin.stopped("rstudio")
    token = (await admin.call("POST", "/tokens", {"name": "x"})).json()
    limits = await admin.get("/admin/limits")
    announced = (await admin.call("POST", "/admin/announcements", {"text": "New disks"})).json()
    begun = [(await admin.call("POST", "/home/uploads", {"path": name, "size_bytes": 5})).json()["id"] for name in "ab"]
    await admin.call("POST", "/labs", {"name": "genomics"})
    await alice.call("POST", "/labs/requests", {"name": "genomics"})
    await admin.call("POST", "/home/folders", {"path": "given"})
    shared = (await admin.call("POST", "/shares", {"path": "given", "with": [ALICE]})).json()["id"]
    await portal.signed_in(ADMIN)
    [login] = [one for one in await admin.get("/logins") if not one["current"]]
    async with portal.platform.database.transaction() as db:
        archive = archive_row(alice.me["id"], alice.me["username"], 200_001, portal.platform.now())
        await home_archives.add(db, archive)
    changes: list[tuple[str, str, object]] = [
        ("POST", "/sign-out", None),
        ("POST", "/instances", {"environment": "rstudio"}),
        ("POST", f"/instances/{running['id']}/extend", {"days": 1}),
        ("POST", f"/instances/{running['id']}/keep", {"hours": 8}),
        ("POST", f"/admin/instances/{running['id']}/extend", {"days": 1}),
        *(
            ("POST", f"{whose}/instances/{running['id']}/{verb}", None)
            for whose in ("", "/admin")
            for verb in ("freeze", "thaw")
        ),
        ("PATCH", f"/instances/{running['id']}", {"memory": "2g"}),
        ("POST", f"/instances/{running['id']}/stop", None),
        ("DELETE", f"/instances/{ended['id']}", None),
        ("POST", "/tokens", {"name": "y"}),
        ("DELETE", f"/tokens/{token['id']}", None),
        ("PATCH", f"/admin/users/{alice.me['id']}", {"status": "suspended"}),
        ("POST", f"/admin/instances/{running['id']}/stop", None),
        ("PUT", f"/admin/users/{alice.me['id']}/leaving", {"reason": "left"}),
        ("POST", f"/admin/users/{alice.me['id']}/archives", None),
        *(
            ("POST", f"/admin/users/{alice.me['id']}/archives/archive1/{verb}", None)
            for verb in ("verify", "restore", "remove-home")
        ),
        ("POST", f"/admin/users/{alice.me['id']}/home/copies", {"to": ADMIN, "reason": "a project"}),
        ("DELETE", f"/logins/{login['id']}", None),
        ("PATCH", "/me", {"time_zone": "Asia/Singapore"}),
        ("POST", "/admin/announcements", {"text": "x"}),
        ("DELETE", f"/admin/announcements/{announced['id']}", None),
        ("PUT", "/home/files?path=whole", "content"),
        ("POST", "/home/folders", {"path": "folder"}),
        ("POST", "/home/moves", {"from": "folder", "to": "moved"}),
        ("POST", "/home/copies", {"from": "whole", "to": "copied"}),
        ("DELETE", "/home/files?path=copied", None),
        ("POST", "/home/uploads", {"path": "later", "size_bytes": 5}),
        ("PATCH", f"/home/uploads/{begun[0]}", "abc"),
        ("DELETE", f"/home/uploads/{begun[1]}", None),
        ("POST", "/home/trash/restore", {"ids": ["copied"]}),
        ("POST", "/home/trash/empty", {}),
        ("POST", "/shares", {"path": "whole", "with": ["bob@example.org"]}),
        ("DELETE", f"/shares/{shared}", None),
        ("POST", "/home/libraries/dismissals", {"key": "rstudio R 4.2 4.6"}),
        ("POST", "/home/caches/pip/empty", None),
        ("POST", "/home/restores", {"snapshot": "20260302T093000Z", "path": "whole", "to": "beside"}),
        ("POST", "/labs", {"name": "biology"}),
        ("POST", "/labs/requests", {"name": "genomics"}),
        ("PATCH", "/labs/genomics", {"title": "Genomics Group"}),
        ("DELETE", f"/labs/genomics/requests/{ALICE}", None),
        ("PUT", f"/labs/genomics/members/{ALICE}", None),
        ("DELETE", f"/labs/genomics/members/{ALICE}", None),
        ("PUT", "/admin/lab-capacity", {"lab": "x", "max_memory": "8g"}),
        ("PUT", "/admin/policies", {"everyone": {"action": "stop", "idle_minutes": 60}}),
        ("POST", "/admin/policies/replay", {"idle_hours": 1}),
        ("POST", "/sign-out-everywhere", None),
        ("PUT", "/admin/limits", {**limits, "days": [1]}),
    ]
    document = await admin.get("/openapi.json")
    changing = {
        (method.upper(), path)
        for path, operations in document["paths"].items()
        for method in operations
        if method not in ("get", "head") and not path.startswith("/api/v1/sign-in")
    }
    assert len(changing) == len(changes), "a call that changes something stands in the list above"
    before = portal.fingerprint()
    for wrong in (None, "", "x" * 64, str(alice.csrf)):
        admin.csrf = wrong
        for method, path, body in changes:
            problem(await admin.call(method, path, body, headers=FROM_THE_START), 403, "forbidden")
    assert portal.fingerprint() == before
    assert sorted(os.listdir(portal.world.homes_root / admin.me["username"])) == [".local", "given"]
    admin.csrf = admin.me["csrf_token"]
    everywhere = changes.pop(-2)
    for method, path, body in [*changes[1:], everywhere]:
        answer = await admin.call(method, path, body, headers=FROM_THE_START)
        if path == "/home/restores":
            problem(answer, 404, "not-found")  # these homes have no snapshots
        else:
            assert answer.status_code < 300, (method, path)


@pytest.mark.slow
async def test_g2_no_get_changes_the_database(portal: Portal) -> None:
    """But for the note when somebody was last seen, which is made once a minute at most; and for the ticket of Open."""
    admin = await portal.signed_in(ADMIN)
    running, ended = await admin.launch(), await admin.stopped("rstudio")
    upload = (await admin.call("POST", "/home/uploads", {"path": "later", "size_bytes": 5})).json()["id"]
    await admin.call("PUT", "/home/files?path=file", "content")
    await admin.call("POST", "/labs", {"name": "genomics"})
    await admin.call("POST", "/home/folders", {"path": "given"})
    await admin.call("PUT", "/home/files?path=given/file", "content")
    shared = (await admin.call("POST", "/shares", {"path": "given", "with": [ALICE]})).json()["id"]
    queries: dict[str, dict[str, Any]] = {
        "search": {"name": "x"},
        "files": {"path": "file"},
        "archives": {"path": "file"},
    }
    before = portal.fingerprint()
    document = await admin.get("/openapi.json")
    asked = 0
    for path, operations in document["paths"].items():
        for instance_id in (running["id"], ended["id"]):
            if "get" not in operations or path.endswith("/open"):
                continue
            if path.endswith("/events") and instance_id == running["id"]:
                continue  # it does not end
            address = path.replace("{instance_id}", instance_id).replace("{upload_id}", upload)
            address = address.replace("{name}", "genomics").replace("{share_id}", shared)
            address = address.replace("{user_id}", admin.me["id"])
            answer = await admin.call("GET", address, **queries.get(re.sub(".*/(home|{share_id})/", "", path), {}))
            assert answer.status_code == 200, path
            asked += 1
    for path in ("/", "/sign-in", "/dashboard", "/account", "/admin", "/admin/users", "/healthz", "/readyz"):
        answer = await admin.http.get(path, headers={"Accept": "text/html"})
        assert answer.status_code in (200, 303), path
    assert asked > 10
    assert portal.fingerprint() == before


# -- errors, headers, documents ----------------------------------------------------------------------------------------

HEADERS = (
    "Content-Security-Policy",
    "X-Content-Type-Options",
    "X-Frame-Options",
    "Referrer-Policy",
    "Cross-Origin-Opener-Policy",
    "Cross-Origin-Resource-Policy",
    "Permissions-Policy",
)


@pytest.mark.parametrize("path", ["/", "/sign-in", "/healthz", "/nothing", "/api/v1/me", "/api/v1/nothing", "/readyz"])
async def test_every_answer_carries_the_protecting_headers(quiet: Quiet, path: str) -> None:
    answer = await quiet.portal.visitor().http.get(path, headers={"Accept": "text/html"})
    assert all(answer.headers[name] for name in HEADERS)
    assert "frame-ancestors 'none'" in answer.headers["Content-Security-Policy"]
    assert answer.headers["Cache-Control"] == "no-store"


@pytest.mark.slow
async def test_a_fault_of_ours_is_a_500_in_the_right_form_with_the_headers_and_no_inner_text(tmp_path: Path) -> None:
    async with open_api(tmp_path) as portal:

        async def fault() -> None:
            raise ZeroDivisionError("the inner text")

        for path in ("/api/v1/fault", "/fault"):
            portal.app.add_api_route(path, fault)
        visitor = portal.visitor()
        answer = await visitor.call("GET", "/fault", headers={"Accept": "text/html"})
        problem(answer, 500, "internal-error")
        page = await visitor.http.get("/fault", headers={"Accept": "text/html"})
        assert page.status_code == 500
        assert page.headers["Content-Type"].startswith("text/html")
        assert "has been logged" in page.text
        for one in (answer, page):
            assert "inner text" not in one.text
            assert all(one.headers[name] for name in HEADERS)
            assert one.headers["Cache-Control"] == "no-store"


async def test_errors_are_pages_for_people_and_problems_for_programs(portal: Portal) -> None:
    visitor = portal.visitor()
    page = await visitor.http.get("/nothing", headers={"Accept": "text/html"})
    assert (page.status_code, page.headers["Content-Type"]) == (404, "text/html; charset=utf-8")
    problem(await visitor.http.get("/nothing"), 404, "not-found")
    problem(await visitor.http.get("/api/v1/nothing", headers={"Accept": "text/html"}), 404, "not-found")
    problem(await visitor.http.get("/dashboard", headers={"Accept": JSON}), 401, "not-signed-in")
    led = await visitor.http.get("/dashboard?x=1", headers={"Accept": "text/html"})
    assert (led.status_code, led.headers["Location"]) == (303, "/sign-in?next=%2Fdashboard%3Fx%3D1")
    wrong_method = await visitor.call("PUT", "/me")
    problem(wrong_method, 405, "http")
    assert wrong_method.headers["Allow"] == "GET"


@pytest.mark.slow
async def test_the_openapi_document_is_whole(portal: Portal) -> None:
    """Every call has an answer that is described, refusals are problems, and every reference leads somewhere."""
    document = (await portal.visitor().call("GET", "/openapi.json")).json()
    assert document["openapi"].startswith("3.1")
    assert document["info"]["title"]
    names = set()

    def references(part: Any) -> list[str]:
        if isinstance(part, dict):
            own = [part["$ref"]] if isinstance(part.get("$ref"), str) else []
            return own + [one for value in part.values() for one in references(value)]
        return [one for value in part for one in references(value)] if isinstance(part, list) else []

    for reference in references(document):
        kind, name = reference.removeprefix("#/components/").split("/")
        assert name in document["components"][kind], reference
    for path, operations in document["paths"].items():
        assert path.startswith("/api/v1/")
        for method, operation in operations.items():
            names.add(operation["operationId"])
            answers = operation["responses"]
            good = [status for status in answers if status < "400" and status not in ("206", "304")]  # of a 200
            assert len(good) == 1, f"{method} {path}"
            if good[0] in ("200", "201", "202"):
                assert answers[good[0]]["content"], f"{method} {path}"
                for content in answers[good[0]]["content"].values():
                    assert content.get("schema") or content.get("itemSchema"), f"{method} {path}"
            assert {"401", "403", "404", "409", "422", "429", "503"} <= set(answers)
            assert all(list(answers[status]["content"]) == [PROBLEM] for status in answers if status >= "400")
    assert len(names) == sum(map(len, document["paths"].values()))


# -- health ------------------------------------------------------------------------------------------------------------


async def test_health_is_the_process_and_readiness_the_store_and_the_engine(portal: Portal) -> None:
    visitor = portal.visitor()
    assert await visitor.get("/healthz") == {"status": "ok"}
    ready = await visitor.get("/readyz")
    assert set(ready.pop("loops").values()) == {"starting"}, "nothing has been started yet"
    assert ready == {"store": "ok", "engine": "ok", "status": "ok"}
    portal.world.runtime.go_down()
    assert (await visitor.call("GET", "/healthz")).status_code == 200
    answer = await visitor.call("GET", "/readyz")
    assert answer.status_code == 503
    unready = answer.json()
    del unready["loops"]
    assert unready == {"store": "ok", "engine": "not answering", "status": "unavailable"}


async def test_metrics_are_for_this_machine_or_the_token(tmp_path: Path) -> None:
    async with open_api(tmp_path, {"web": {"metrics_token": "a-long-metrics-token"}}) as portal:
        here, elsewhere = portal.visitor("127.0.0.1"), portal.visitor("192.0.2.1")
        await (await portal.signed_in(ALICE)).launch()
        answer = await here.call("GET", "/metrics")
        assert answer.status_code == 200
        assert answer.headers["Content-Type"].startswith("text/plain")
        assert 'launchpad_instances{state="running"} 1.0' in answer.text
        assert "launchpad_engine_up 1.0" in answer.text
        assert ALICE not in answer.text
        problem(await elsewhere.call("GET", "/metrics"), 401, "not-signed-in")
        wrong = {"Authorization": "Bearer another"}
        problem(await elsewhere.call("GET", "/metrics", headers=wrong), 401, "not-signed-in")
        right = {"Authorization": "Bearer a-long-metrics-token"}
        assert (await elsewhere.call("GET", "/metrics", headers=right)).status_code == 200
        portal.world.runtime.go_down()
        assert "launchpad_engine_up 0.0" in (await here.call("GET", "/metrics")).text


async def test_a_contact_for_weaknesses_is_shown_where_it_is_looked_for(tmp_path: Path) -> None:
    async with open_api(tmp_path, {"security_contact": "mailto:security@institute.edu"}) as portal:
        answer = await portal.visitor().call("GET", "/.well-known/security.txt")
    assert answer.headers["Content-Type"] == "text/plain; charset=utf-8"
    fields = dict(line.split(": ", 1) for line in answer.text.splitlines())
    assert fields["Contact"] == "mailto:security@institute.edu"
    expires = datetime.fromisoformat(fields["Expires"].replace("Z", "+00:00"))
    assert timedelta(0) < expires - portal.world.clock() < timedelta(days=366)


async def test_the_events_end_when_their_reader_is_signed_out(portal: Portal) -> None:
    alice = await portal.signed_in(ALICE)
    instance = await alice.launch()
    user = await portal.platform.users.get(alice.me["id"])
    found = await portal.platform.logins.authenticate(alice.http.cookies["lp_login"], portal.world.clock())
    assert found is not None
    mine = await portal.platform.instances.get(instance["id"], user)

    async def read() -> None:
        async for _ in follow(portal.platform, *found, mine):
            pass

    reading = asyncio.create_task(read())
    await asyncio.sleep(0.2)
    assert not reading.done()
    await alice.call("POST", "/sign-out")
    await asyncio.wait_for(reading, 5)
