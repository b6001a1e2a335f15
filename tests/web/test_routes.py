"""Who gets what from every route: a table of all of them, for nobody, another user, the owner and an administrator."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi.routing import iter_route_contexts

from launchpad.domain.naming import new_id
from launchpad.domain.passkeys import Passkey
from launchpad.services.audit import CLI
from launchpad.services.extension_links import Link
from launchpad.settings import tables
from launchpad.store import home_archives, passkeys
from launchpad.web.app import create_app
from launchpad.wiring import build_platform
from support.homes import archive_row
from web.api_client import PUBLIC_URL, Portal, Visitor, open_api

Answers = tuple[int, int, int, int]
WHO = ("nobody", "another user", "the owner", "an administrator")

# By kind of route, what each of WHO gets. A program's 401 is a page's 303 to the sign-in.
ANYBODY: Answers = (200, 200, 200, 200)
SIGNED_IN: Answers = (401, 200, 200, 200)
OWNERS: Answers = (401, 404, 200, 404)
ADMINS: Answers = (401, 403, 403, 200)
LABS: Answers = (401, 404, 200, 200)  # of the lab that the owner leads


def each(answers: Answers, good: int) -> Answers:
    """The same with another answer where it is allowed."""
    nobody, other, owner, admin = (good if status == 200 else status for status in answers)
    return nobody, other, owner, admin


# Everybody's own home; nobody names another one. `{upload_id}` is the owner's, and so nobody else's.
HOME: dict[str, tuple[Answers, Any]] = {
    "GET /api/v1/home": (SIGNED_IN, None),
    "GET /api/v1/home/entries": (SIGNED_IN, None),
    "GET /api/v1/home/search": (each(SIGNED_IN, 422), None),  # without a name
    "GET /api/v1/home/files": (each(SIGNED_IN, 409), None),  # the home itself is no file
    "PUT /api/v1/home/files": (each(SIGNED_IN, 409), None),
    "DELETE /api/v1/home/files": (each(SIGNED_IN, 409), None),
    "GET /api/v1/home/archives": (each(SIGNED_IN, 422), None),  # of nothing
    "POST /api/v1/home/folders": (each(SIGNED_IN, 201), {"path": "made"}),
    "POST /api/v1/home/moves": (each(SIGNED_IN, 404), {"from": "none", "to": "x"}),
    "POST /api/v1/home/copies": (each(SIGNED_IN, 404), {"from": "none", "to": "x"}),
    "GET /api/v1/home/uploads": (SIGNED_IN, None),
    "POST /api/v1/home/uploads": (each(SIGNED_IN, 201), {"path": "large", "size_bytes": 1}),
    "GET /api/v1/home/uploads/{upload_id}": (OWNERS, None),
    "HEAD /api/v1/home/uploads/{upload_id}": (each(OWNERS, 204), None),
    "PATCH /api/v1/home/uploads/{upload_id}": (each(SIGNED_IN, 422), None),  # without an offset
    "DELETE /api/v1/home/uploads/{upload_id}": (each(OWNERS, 204), None),
    "GET /api/v1/home/space": (SIGNED_IN, None),
    "POST /api/v1/home/caches/{cache}/empty": (each(SIGNED_IN, 204), None),
    "GET /api/v1/home/trash": (SIGNED_IN, None),
    "GET /api/v1/home/snapshots": (SIGNED_IN, None),
    "POST /api/v1/home/restores": (each(SIGNED_IN, 404), {"snapshot": "20200101T000000Z", "path": "a"}),
    "POST /api/v1/home/trash/restore": (each(SIGNED_IN, 404), {"ids": ["none"]}),
    "GET /api/v1/shares": (SIGNED_IN, None),
    "POST /api/v1/shares": (each(SIGNED_IN, 422), {"path": "made"}),  # with nobody
    "DELETE /api/v1/shares/{share_id}": (each(OWNERS, 204), None),
    "GET /api/v1/shares/{share_id}/entries": (OWNERS, None),
    "GET /api/v1/shares/{share_id}/files": (each(OWNERS, 409), None),  # a folder is no file
    "GET /api/v1/shares/{share_id}/archives": (OWNERS, None),
    "GET /api/v1/home/libraries": (SIGNED_IN, None),
    "POST /api/v1/home/libraries/dismissals": (each(SIGNED_IN, 204), {"key": "rstudio R 4.2 4.6"}),
    "POST /api/v1/home/trash/empty": (each(SIGNED_IN, 204), {}),
}

# The owner, `{lead}`, leads `{lab}`, and `{member}` is put into it.
OF_LABS: dict[str, tuple[Answers, Any]] = {
    "GET /api/v1/labs": (SIGNED_IN, None),
    "POST /api/v1/labs": ((401, 403, 403, 201), {"name": "physics"}),
    "POST /api/v1/labs/requests": (each(SIGNED_IN, 202), {"name": "nowhere"}),
    "GET /api/v1/labs/{lab}": (LABS, None),
    "PATCH /api/v1/labs/{lab}": (LABS, {"title": "Genomes"}),
    "PUT /api/v1/labs/{lab}/members/{member}": (LABS, None),
    "DELETE /api/v1/labs/{lab}/requests/{member}": (each(LABS, 404), None),  # does not ask
    "DELETE /api/v1/labs/{lab}/members/{lead}": ((401, 404, 403, 204), None),  # administrators remove leads
    "GET /api/v1/admin/labs": (ADMINS, None),
}

# All ids are the owner's: `{instance_id}` of a running instance, `{ended}` of an ended one.
API: dict[str, tuple[Answers, Any]] = {
    "GET /healthz": (ANYBODY, None),
    "GET /readyz": (ANYBODY, None),
    "GET /.well-known/security.txt": (each(ANYBODY, 404), None),  # no contact is set
    "GET /metrics": (each(ANYBODY, 401), None),  # not from this machine
    "GET /gate/authorize": (each(ANYBODY, 401), None),  # nobody has the instance's cookie
    "GET /gate/enter": (each(ANYBODY, 422), None),  # without a ticket
    "POST /gate/clear-cookies": (each(ANYBODY, 422), None),  # without an instance; elsewhere it asks whose page sent it
    "GET /api/v1/openapi.json": (ANYBODY, None),
    "POST /api/v1/sign-in": (each(ANYBODY, 202), {"email": "x@a.org"}),
    "POST /api/v1/sign-in/verify": (each(ANYBODY, 401), {"code": "1"}),
    "POST /api/v1/sign-out": (each(SIGNED_IN, 204), None),
    "POST /api/v1/sign-out-everywhere": (each(SIGNED_IN, 204), None),
    "GET /api/v1/logins": (SIGNED_IN, None),
    "DELETE /api/v1/logins/{login_id}": (each(OWNERS, 204), None),
    "GET /api/v1/me": (SIGNED_IN, None),
    "PATCH /api/v1/me": (SIGNED_IN, {"time_zone": "Asia/Singapore"}),
    "GET /api/v1/me/ledger": (SIGNED_IN, None),
    "GET /api/v1/me/ledger/export": (SIGNED_IN, None),
    "GET /api/v1/home": (SIGNED_IN, None),
    "GET /api/v1/announcements": (SIGNED_IN, None),
    "POST /api/v1/admin/announcements": (each(ADMINS, 201), {"text": "x"}),
    "DELETE /api/v1/admin/announcements/{announcement_id}": (each(ADMINS, 204), None),
    "GET /api/v1/environments": (SIGNED_IN, None),
    "GET /api/v1/instances": (SIGNED_IN, None),
    "POST /api/v1/instances": (each(SIGNED_IN, 202), {"environment": "jupyterlab"}),
    "GET /api/v1/instances/{instance_id}": (OWNERS, None),
    "PATCH /api/v1/instances/{instance_id}": (each(OWNERS, 422), {"memory": "3k"}),  # no size that is offered
    "GET /api/v1/instances/{ended}/events": (OWNERS, None),
    "GET /api/v1/instances/{instance_id}/log": (OWNERS, None),
    "GET /api/v1/instances/{instance_id}/activity": (OWNERS, None),
    "GET /api/v1/instances/{instance_id}/open": (each(OWNERS, 303), None),
    "POST /api/v1/instances/{instance_id}/stop": (each(OWNERS, 202), None),
    "POST /api/v1/instances/{instance_id}/extend": (OWNERS, {"days": 1}),
    "POST /api/v1/instances/{instance_id}/freeze": (each(OWNERS, 202), None),
    "POST /api/v1/instances/{instance_id}/thaw": (each(OWNERS, 202), None),
    "POST /api/v1/instances/{instance_id}/keep": (OWNERS, {"hours": 8}),
    "GET /api/v1/instances/{instance_id}/idle-decisions": (OWNERS, None),
    "DELETE /api/v1/instances/{ended}": (each(OWNERS, 204), None),
    **HOME,
    **OF_LABS,
    "GET /api/v1/tokens": (SIGNED_IN, None),
    "POST /api/v1/tokens": (each(SIGNED_IN, 201), {"name": "x"}),
    "DELETE /api/v1/tokens/{token_id}": (each(OWNERS, 204), None),
    "GET /api/v1/admin/users": (ADMINS, None),
    "PATCH /api/v1/admin/users/{user_id}": (ADMINS, {"lab": "x"}),
    "GET /api/v1/admin/users/{user_id}/leaving": (ADMINS, None),
    "PUT /api/v1/admin/users/{user_id}/leaving": (each(ADMINS, 422), {"archive_at": "2020-01-01T00:00:00Z"}),
    "POST /api/v1/admin/users/{user_id}/archives": (each(ADMINS, 202), None),
    "POST /api/v1/admin/users/{user_id}/archives/{archive_id}/verify": (each(ADMINS, 202), None),
    "POST /api/v1/admin/users/{user_id}/archives/{archive_id}/restore": (each(ADMINS, 202), None),
    "POST /api/v1/admin/users/{user_id}/archives/{archive_id}/remove-home": (each(ADMINS, 409), None),  # it is in use
    "POST /api/v1/admin/users/{user_id}/home/copies": (
        each(ADMINS, 202),
        {"to": "other@a.org", "reason": "They go on with it"},
    ),
    "GET /api/v1/admin/instances": (ADMINS, None),
    "GET /api/v1/admin/instances/{instance_id}/log": (ADMINS, None),
    "POST /api/v1/admin/instances/{instance_id}/stop": (each(ADMINS, 202), None),
    "POST /api/v1/admin/instances/{instance_id}/extend": (ADMINS, {"days": 1}),
    "POST /api/v1/admin/instances/{instance_id}/freeze": (each(ADMINS, 202), None),
    "POST /api/v1/admin/instances/{instance_id}/thaw": (each(ADMINS, 202), None),
    "GET /api/v1/admin/limits": (ADMINS, None),
    "PUT /api/v1/admin/limits": (each(ADMINS, 422), {}),
    "GET /api/v1/admin/lab-capacity": (ADMINS, None),
    "PUT /api/v1/admin/lab-capacity": (ADMINS, {"lab": "x", "max_memory": "8g"}),
    "GET /api/v1/admin/policies": (ADMINS, None),
    "POST /api/v1/admin/policies/replay": (ADMINS, {"idle_hours": 4}),
    "PUT /api/v1/admin/policies": (ADMINS, {"everyone": {"action": "stop", "idle_minutes": 240}}),
    "GET /api/v1/admin/idle-decisions": (ADMINS, None),
    "GET /api/v1/admin/homes": (ADMINS, None),
    "GET /api/v1/admin/homes/labs": (ADMINS, None),
    "GET /api/v1/admin/homes/disk": (ADMINS, None),
    "GET /api/v1/admin/capacity": (ADMINS, None),
    "GET /api/v1/admin/audit": (ADMINS, None),
    "GET /api/v1/admin/mail-failures": (ADMINS, None),
}

EVERYWHERE = "POST /api/v1/sign-out-everywhere"
SUSPEND, REACTIVATE = "POST /admin/users/{user_id}/suspend", "POST /admin/users/{user_id}/reactivate"
SIGN_OUT_OTHERS = {EVERYWHERE, SUSPEND, REACTIVATE}

PAGES: dict[str, tuple[Answers, Any]] = {
    "GET /static/{version}/{name:path}": (each(ANYBODY, 404), None),  # of that name there is none
    "HEAD /static/{version}/{name:path}": (each(ANYBODY, 404), None),
    "GET /": ((200, 303, 303, 303), None),
    "GET /sign-in": ((200, 303, 303, 303), None),
    "POST /sign-in": (each(ANYBODY, 303), {"email": "x@a.org"}),
    "GET /sign-in/code": (each(ANYBODY, 303), None),  # back to the address, without a challenge
    "POST /sign-in/code": (each(ANYBODY, 303), {"code": "1"}),
    "POST /sign-in/resend": (each(ANYBODY, 303), None),
    "GET /extend/{link}": (ANYBODY, None),  # whoever has the link of a mail
    "POST /extend/{link}": (each(ANYBODY, 422), {"days": "1"}),  # and nobody who adds nothing by hand
    "POST /sign-out": ((401, 303, 303, 303), None),
    "GET /dashboard": (SIGNED_IN, None),
    "POST /instances": (each(SIGNED_IN, 303), {"environment": "jupyterlab"}),
    "GET /instances/{instance_id}/open": (each(OWNERS, 303), None),
    "GET /instances/{instance_id}/log": (OWNERS, None),
    "GET /instances/{instance_id}/cookies": (each(OWNERS, 409), None),
    "POST /instances/{instance_id}/stop": (each(OWNERS, 303), None),
    "POST /instances/{instance_id}/extend": (each(OWNERS, 303), {"days": "1"}),
    "POST /instances/{instance_id}/keep": (each(OWNERS, 303), {"hours": "8"}),
    "POST /instances/{instance_id}/memory": (each(OWNERS, 303), {"memory": "3k"}),
    "POST /instances/{instance_id}/freeze": (each(OWNERS, 303), None),
    "POST /instances/{instance_id}/thaw": (each(OWNERS, 303), None),
    "POST /instances/{ended}/launch-again": (each(OWNERS, 303), {"here": "dashboard"}),
    "POST /instances/{ended}/forget": (each(OWNERS, 303), None),
    "GET /go/{environment}": (SIGNED_IN, None),
    "GET /go/{environment}/{path:path}": (each(SIGNED_IN, 303), None),
    "POST /go/{environment}": (each(SIGNED_IN, 303), None),
    "GET /files": (SIGNED_IN, None),
    "GET /files/item": (each(SIGNED_IN, 404), None),  # the home itself is no item
    "GET /files/space": (SIGNED_IN, None),
    "GET /files/trash": (SIGNED_IN, None),
    "POST /files/act": (each(SIGNED_IN, 422), {"do": "trash"}),  # nothing
    "POST /files/restore": (each(SIGNED_IN, 422), {"do": "beside"}),  # nothing
    "POST /files/folders": (each(SIGNED_IN, 303), {"name": "by-form"}),
    "POST /files/upload": (each(SIGNED_IN, 422), None),  # no file
    "POST /files/trash": (each(SIGNED_IN, 303), {"do": "empty"}),
    "POST /files/caches/{cache}/empty": (each(SIGNED_IN, 303), None),
    "GET /shared": (SIGNED_IN, None),
    "GET /shared/{own_share}": (OWNERS, None),
    "POST /shared/{own_share}/stop": (each(OWNERS, 303), None),
    "GET /s/{link_share}": (ANYBODY, None),  # whoever has the link
    "GET /s/{link_share}/files": (each(ANYBODY, 409), None),  # a folder is no file
    "GET /s/{link_share}/archives": (ANYBODY, None),
    "POST /files/share": (each(SIGNED_IN, 422), {"people": ""}),  # with nobody
    "POST /libraries/dismiss": (each(SIGNED_IN, 303), {"key": "rstudio R 4.2 4.6"}),
    "GET /account": (SIGNED_IN, None),
    "GET /account/ledger": (SIGNED_IN, None),
    "POST /account/time-zone": (each(SIGNED_IN, 303), {"time_zone": "Asia/Singapore"}),
    "POST /account/tokens": (SIGNED_IN, {"name": "x"}),
    "POST /account/tokens/{token_id}/revoke": (each(OWNERS, 303), None),
    "POST /account/logins/end-all": (each(SIGNED_IN, 303), {"here": "stay"}),
    "POST /account/passkeys/options": (SIGNED_IN, None),
    "POST /account/passkeys": (each(SIGNED_IN, 422), {}),
    "POST /account/passkeys/{passkey_id}/remove": (each(OWNERS, 303), None),
    "POST /sign-in/passkey/options": (ANYBODY, None),
    "POST /sign-in/passkey": (each(ANYBODY, 422), {}),
    "GET /confirm": (SIGNED_IN, None),
    "POST /confirm": (each(SIGNED_IN, 303), None),
    "POST /confirm/code": (each(SIGNED_IN, 401), {"code": "000000"}),
    "POST /confirm/passkey/options": (SIGNED_IN, None),
    "POST /confirm/passkey": (each(SIGNED_IN, 422), {}),
    "POST /account/logins/{login_id}/end": (each(SIGNED_IN, 303), None),  # others' do not end by it; see below
    "GET /admin": (ADMINS, None),
    "GET /admin/audit": (ADMINS, None),
    "GET /admin/users": (ADMINS, None),
    "GET /admin/users/{user_id}": (ADMINS, None),
    "POST /admin/users/{user_id}": (each(ADMINS, 303), {"role": "user", "lab": "x"}),
    "POST /admin/users/{user_id}/home-work": (each(ADMINS, 303), {"kind": "archive"}),
    "POST /admin/users/{user_id}/remove": (each(ADMINS, 422), {"reason": "x" * 501}),
    "POST /admin/users/{user_id}/suspend": (each(ADMINS, 303), None),
    "POST /admin/users/{user_id}/reactivate": ((401, 403, 401, 303), None),  # by then the owner is signed out
    "GET /admin/instances": (ADMINS, None),
    "GET /admin/instances/{instance_id}/log": (ADMINS, None),
    "POST /admin/instances/{instance_id}/stop": (each(ADMINS, 303), None),
    "POST /admin/instances/{instance_id}/extend": (each(ADMINS, 303), {"days": "1"}),
    "GET /labs": (SIGNED_IN, None),
    "POST /labs/requests": (each(SIGNED_IN, 303), {"name": "nowhere"}),
    "GET /labs/{lab}": (LABS, None),
    "POST /labs/{lab}": (each(LABS, 303), {"title": "Genomes"}),
    "POST /labs/{lab}/members": (each(LABS, 303), {"do": "add", "email": "other@a.org"}),
    "GET /admin/labs": (ADMINS, None),
    "POST /admin/labs": (each(ADMINS, 303), {"name": "statistics"}),
    "GET /admin/storage": (ADMINS, None),
    "GET /admin/limits": (ADMINS, None),
    "POST /admin/limits": (each(ADMINS, 422), None),
    "GET /admin/policies": (ADMINS, None),
    "GET /admin/policies/replay": (ADMINS, None),
    "GET /admin/policies/replay/ends.csv": (ADMINS, None),
    "POST /admin/policies": (each(ADMINS, 303), {"action": "stop", "idle_minutes": "240"}),
    "GET /admin/announcements": (ADMINS, None),
    "POST /admin/announcements": (each(ADMINS, 303), {"text": "x"}),
    "POST /admin/announcements/{announcement_id}/withdraw": (each(ADMINS, 303), None),
    "POST /admin/limits/labs": (each(ADMINS, 422), None),
    "GET /admin/mail": (ADMINS, None),
    "POST /admin/mail/forget": (each(ADMINS, 303), {"address": "x@a.org"}),
}

# Of these, what scripts of the pages call.
CALLS = {line for line in PAGES if line.startswith("POST") and re.search("/passkeys?(/options)?$", line)}


@dataclass
class Scene:
    portal: Portal
    people: tuple[Visitor, Visitor, Visitor, Visitor]
    names: dict[str, str]


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[Scene]:
    async with open_api(tmp_path, {"sharing": {"strangers": True}}) as portal:
        other, owner, admin = [
            await portal.signed_in(address) for address in ("other@a.org", "owner@a.org", "admin@example.org")
        ]
        ended, running = await owner.stopped("rstudio"), await owner.launch()
        token = await owner.call("POST", "/tokens", {"name": "laptop"})
        elsewhere = await portal.signed_in("owner@a.org")
        (login_id,) = portal.world.rows(
            "SELECT id FROM logins WHERE user_id = ? AND client = ?", owner.me["id"], "192.0.2.13"
        )[0]
        await portal.signed_in("member@a.org")
        await a_lab(portal, "owner@a.org")
        assert elsewhere.me["id"] == owner.me["id"]
        passkey = Passkey(new_id(), owner.me["id"], "eHg", b"x", 0, "laptop", portal.platform.now())
        async with portal.platform.database.transaction() as db:
            await passkeys.add(db, passkey)
            archive = archive_row(owner.me["id"], owner.me["username"], 200_001, portal.platform.now())
            await home_archives.add(db, archive)
        announced = await portal.platform.announcements.announce("New disks", CLI, portal.platform.now())
        upload = await owner.call("POST", "/home/uploads", {"path": "begun", "size_bytes": 3})
        await owner.call("POST", "/home/folders", {"path": "given"})
        given = {"path": "given", "with": ["somebody@example.org"]}
        shared = [(await owner.call("POST", "/shares", given)).json()["id"] for _ in range(2)]
        by_link = (await owner.call("POST", "/shares", {"path": "given", "link": True})).json()["link_url"]
        link = Link(running["id"], datetime.fromisoformat(running["expires_at"]))
        names = {
            "passkey_id": passkey.id,
            "instance_id": running["id"],
            "ended": ended["id"],
            "token_id": token.json()["id"],
            "login_id": login_id,
            "user_id": owner.me["id"],
            "announcement_id": announced.id,
            "archive_id": archive.id,
            "link": portal.platform.extensions._links.token(link),
            "lab": "genomics",
            "lead": "owner@a.org",
            "member": "member@a.org",
            "upload_id": upload.json()["id"],
            "share_id": shared[0],
            "own_share": shared[1],
            "link_share": by_link.partition("/s/")[2],
            "cache": "pip",
            "version": "x",
            "environment": "rstudio",
            "path:path": "file.R",
            "name:path": "nothing.css",
        }
        yield Scene(portal, (portal.visitor(), other, owner, admin), names)


async def a_lab(portal: Portal, lead: str) -> None:
    """Genomics, which somebody leads."""
    labs, users, now = portal.platform.labs, portal.platform.users, portal.platform.now()
    await labs.make("genomics", "Genomics", CLI, now)
    access = await labs.access(await users.by_email(lead), "genomics", as_admin=True)
    await labs.put(access, lead, CLI, now, is_lead=True)


def test_g1_every_route_stands_in_the_table(tmp_path: Path) -> None:
    settings = {"state_dir": tmp_path, "engine": {"runtime": "fake"}, "homes": {"root": str(tmp_path)}}
    app = create_app(build_platform(tables(settings)))
    routes = {f"{method} {route.path}" for route in iter_route_contexts(app.routes) for method in route.methods or ()}
    listed = {
        line.replace("{ended}", "{instance_id}")
        .replace("{link}", "{token}")
        .replace("{cache}", "{name}")
        .replace("{own_share}", "{share_id}")
        .replace("{link_share}", "{share_id}/{secret}")
        for line in API | PAGES
    }
    listed = {re.sub(r"\{(lead|member)\}", "{email}", line.replace("{lab}", "{name}")) for line in listed}
    assert routes == listed


async def ask(scene: Scene, visitor: Visitor, line: str, body: Any) -> httpx.Response:
    method, _, path = line.partition(" ")
    for name, value in scene.names.items():
        path = path.replace(f"{{{name}}}", value)
    assert "{" not in path
    if line in API:
        return await visitor.call(method, path, body)
    form = {**(body or {}), **({"csrf_token": visitor.csrf} if visitor.csrf else {})}
    kind = "application/json" if line in CALLS else "text/html"
    headers = {"Accept": kind, "Origin": PUBLIC_URL}
    return await visitor.http.request(method, path, data=form if method == "POST" else None, headers=headers)


async def check(scene: Scene, line: str) -> None:
    """Those who are refused come first, so that what they were refused is still there for those who are allowed."""
    answers, body = (API | PAGES)[line]
    for n in sorted(range(len(WHO)), key=lambda n: answers[n] < 400):
        answer = await ask(scene, scene.people[n], line, body)
        expected = answers[n]
        if expected == 401 and line in PAGES and line.startswith("GET"):
            assert answer.headers["Location"].startswith("/sign-in?next="), f"{line} by {WHO[n]}"
            expected = 303
        if line in PAGES and answer.status_code == 303 and expected != 303:  # no form is answered but by a redirect
            visitor = scene.people[n]
            if expected == 401 and "after=" not in answer.headers["Location"]:
                assert answer.headers["Location"].startswith("/sign-in?"), f"{line} by {WHO[n]}"
                continue
            answer = await visitor.http.get(answer.headers["Location"], headers={"Accept": "text/html"})
        assert answer.status_code == expected, f"{line} by {WHO[n]}: {answer.text[:300]}"


@pytest.mark.slow
async def test_g1_everybody_reads_what_the_table_says(scene: Scene) -> None:
    for line in API | PAGES:
        if line.startswith(("GET", "HEAD")):
            await check(scene, line)


def rank(line: str) -> int:
    """What needs things as they are comes before what changes them."""
    path = line.partition(" ")[2]
    if "/sign-in/" in path:
        return 0  # asks for a code that nobody has asked for yet
    return 3 if path.endswith(("/sign-out", "/sign-out-everywhere")) else 2 if path.endswith("/stop") else 1


@pytest.mark.slow
@pytest.mark.parametrize("table", [API, PAGES], ids=["API", "pages"])
async def test_g1_everybody_changes_what_the_table_says(scene: Scene, table: dict[str, tuple[Answers, Any]]) -> None:
    for line in sorted(table, key=rank):
        if not line.startswith(("GET", "HEAD")) and line not in SIGN_OUT_OTHERS:
            await check(scene, line)


@pytest.mark.slow
async def test_g1_signing_out_everywhere_is_for_those_who_are_signed_in(scene: Scene) -> None:
    """By itself, since nobody is signed in afterwards."""
    await check(scene, EVERYWHERE)


@pytest.mark.slow
async def test_g1_suspending_and_reactivating_is_for_administrators(scene: Scene) -> None:
    """By itself, since the owner is signed out by it."""
    await check(scene, SUSPEND)
    await check(scene, REACTIVATE)


@pytest.mark.slow
async def test_nobody_ends_somebody_elses_login(scene: Scene) -> None:
    line = "POST /account/logins/{login_id}/end"
    _, other, owner, admin = scene.people
    for visitor in (other, admin):
        await ask(scene, visitor, line, None)
    query = "SELECT count(*) FROM logins WHERE id = ?"
    assert scene.portal.world.rows(query, scene.names["login_id"]) == [(1,)]
    await ask(scene, owner, line, None)
    assert scene.portal.world.rows(query, scene.names["login_id"]) == [(0,)]


@pytest.mark.slow  # some nine hundred requests
async def test_every_form_of_a_page_is_answered_with_a_redirect(scene: Scene) -> None:
    """Whatever comes of it, going back or reloading never asks “Confirm Form Resubmission”."""
    forms = [line for line in sorted(PAGES, key=rank) if line.startswith("POST") and line not in CALLS]
    assert len(forms) >= 18
    for line in forms:
        path = line.partition(" ")[2]
        for name, value in scene.names.items():
            path = path.replace(f"{{{name}}}", value)
        for who, visitor in zip(WHO, scene.people, strict=True):
            good = {"csrf_token": visitor.csrf} if visitor.csrf else {}
            for fields in ({}, {"csrf_token": "0" * 64}, {**good, "days": "x", "email": "x", "role": "god"}, good):
                for referer in (None, f"{PUBLIC_URL}/account?said=saved", "https://evil.org/x"):
                    headers = {"Accept": "text/html", "Origin": PUBLIC_URL, **({"Referer": referer} if referer else {})}
                    answer = await visitor.http.post(path, data=fields, headers=headers)
                    assert answer.status_code == 303, f"{line} by {who}, {fields}: {answer.status_code}"
                    assert answer.headers["Location"].startswith("/"), answer.headers["Location"]
                    assert not answer.headers["Location"].startswith("//")
                if path.endswith("/sign-out") or "end-all" in path:
                    break  # who is signed out sends nothing more


@pytest.mark.slow
async def test_another_sites_form_and_a_programs_call_get_the_bare_status(scene: Scene) -> None:
    """Only a browser on our own pages is led back to them."""
    owner = scene.people[2]
    for headers in ({"Origin": "https://evil.org"}, {}, {"Origin": "null"}):
        answer = await owner.http.post(
            "/account/tokens", data={"name": "x"}, headers={"Accept": "text/html", **headers}
        )
        assert answer.status_code == 403, headers
