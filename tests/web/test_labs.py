"""Labs by the API, on pages and on the command line: who sees and changes what, and what is shown."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest

from launchpad.services.audit import CLI
from launchpad.services.users import UserChange
from web.api_client import PUBLIC_URL, Portal, Visitor, open_api, problem

ADA, BOB, CAT, ADMIN = "ada@a.org", "bob@a.org", "cat@a.org", "admin@example.org"


class Scene:
    """Ada leads genomics, in which Bob is, and Cat is not."""

    def __init__(self, portal: Portal, people: list[Visitor]) -> None:
        self.portal = portal
        self.ada, self.bob, self.cat, self.admin = people

    async def status(self, who: Visitor, method: str, path: str, body: object = None) -> int:
        return (await who.call(method, path, body)).status_code

    async def post(self, who: Visitor, path: str, **form: str) -> tuple[str, str]:
        """Where a form leads to, and the text of the page there."""
        headers = {
            "Accept": "text/html",
            "Origin": PUBLIC_URL,
            "Referer": f"{PUBLIC_URL}{path.removesuffix('/members')}",
        }
        answer = await who.http.post(path, data={**form, "csrf_token": who.csrf}, headers=headers)
        assert answer.status_code == 303, answer.text
        return answer.headers["Location"], await self.page(who, answer.headers["Location"], None)

    async def page(self, who: Visitor, path: str, status: int | None = 200) -> str:
        """The text of a page; `status` None: of one that tells what is wrong."""
        answer = await who.http.get(path, headers={"Accept": "text/html"})
        assert status is None or answer.status_code == status, answer.text
        return answer.text

    async def members(self) -> list[tuple[str, bool]]:
        found = await self.admin.get("/labs/genomics")
        return [(one["email"], one["is_lead"]) for one in found["members"]]


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[Scene]:
    async with open_api(tmp_path) as portal:
        made = Scene(portal, [await portal.signed_in(address) for address in (ADA, BOB, CAT, ADMIN)])
        answer = await made.admin.call("POST", "/labs", {"name": "genomics", "title": "Genomics Group"})
        assert answer.status_code == 201, answer.text
        assert await made.status(made.admin, "PUT", f"/labs/genomics/members/{ADA}", {"is_lead": True}) == 200
        assert await made.status(made.ada, "PUT", f"/labs/genomics/members/{BOB}") == 200
        yield made


async def test_members_see_their_lab_leads_its_requests_and_others_nothing(scene: Scene) -> None:
    assert await scene.status(scene.cat, "POST", "/labs/requests", {"name": "genomics"}) == 202
    seen = await scene.bob.get("/labs/genomics")
    assert (seen["title"], seen["may_change"], seen["requests"]) == ("Genomics Group", False, None)
    assert [(one["email"], one["is_lead"]) for one in seen["members"]] == [(ADA, True), (BOB, False)]
    leads = await scene.ada.get("/labs/genomics")
    assert (leads["may_change"], [one["email"] for one in leads["requests"]]) == (True, [CAT])
    for path in ("/labs/genomics", "/labs/nowhere", "/labs/..", "/labs/%00"):
        answer = await scene.cat.call("GET", path)
        problem(answer, 404, "not-found")
    refused = [await scene.cat.call("GET", f"/labs/{name}") for name in ("genomics", "nowhere")]
    assert refused[0].json()["detail"] == refused[1].json()["detail"], "whether it exists cannot be told"
    own = await scene.bob.get("/labs")
    assert own == [{"name": "genomics", "title": "Genomics Group", "is_lead": False, "counts": True, "members": 2}]
    assert await scene.cat.get("/labs") == []


async def test_a_request_is_answered_alike_for_labs_that_are_and_are_not(scene: Scene) -> None:
    for name in ("genomics", "nowhere"):
        answer = await scene.cat.call("POST", "/labs/requests", {"name": name})
        assert (answer.status_code, answer.json()) == (202, {"name": name})
    _, there = await scene.post(scene.cat, "/labs/requests", name="genomics")
    _, not_there = await scene.post(scene.cat, "/labs/requests", name="nowhere1")
    assert "If there is a lab genomics" in there.replace("“", "").replace("”", "")
    there, not_there = (text.replace('placeholder="genomics"', "") for text in (there, not_there))
    assert there.replace("genomics", "nowhere1") == not_there


async def test_leads_accept_decline_remove_and_rename_and_members_do_not(scene: Scene) -> None:
    for _ in range(2):
        await scene.cat.call("POST", "/labs/requests", {"name": "genomics"})
    refused: list[tuple[str, str, object]] = [
        ("PATCH", "/labs/genomics", {"title": "Mine"}),
        ("PUT", f"/labs/genomics/members/{CAT}", None),
        ("DELETE", f"/labs/genomics/members/{ADA}", None),
        ("DELETE", f"/labs/genomics/requests/{CAT}", None),
    ]
    for method, path, body in refused:
        assert await scene.status(scene.bob, method, path, body) == 403
        assert await scene.status(scene.cat, method, path, body) == 404
    assert await scene.status(scene.ada, "DELETE", f"/labs/genomics/requests/{CAT}") == 204
    assert await scene.status(scene.ada, "DELETE", f"/labs/genomics/requests/{CAT}") == 404
    assert await scene.status(scene.ada, "PUT", f"/labs/genomics/members/{CAT.upper()}") == 200
    assert await scene.status(scene.ada, "PUT", f"/labs/genomics/members/{CAT}", {"is_lead": True}) == 403
    assert await scene.status(scene.ada, "PUT", "/labs/genomics/members/nobody@a.org") == 404
    renamed = await scene.ada.call("PATCH", "/labs/genomics", {"title": "Genomes"})
    assert (renamed.json()["title"], renamed.json()["name"]) == ("Genomes", "genomics")
    assert await scene.status(scene.ada, "DELETE", f"/labs/genomics/members/{BOB}") == 204
    assert await scene.status(scene.bob, "GET", "/labs/genomics") == 404, "at once"
    assert await scene.status(scene.cat, "DELETE", f"/labs/genomics/members/{CAT}") == 204, "everybody may leave"
    assert await scene.members() == [(ADA, True)]


async def test_administrators_see_and_change_all_labs_but_only_with_a_fresh_sign_in(scene: Scene) -> None:
    (listed,) = await scene.admin.get("/admin/labs")
    assert (listed["name"], listed["key"], listed["leads"], listed["members"]) == ("genomics", "genomics", [ADA], 2)
    assert await scene.admin.get("/admin/labs", search="phys") == []
    assert await scene.status(scene.admin, "POST", "/labs", {"name": "genomics"}) == 409
    assert await scene.status(scene.admin, "POST", "/labs", {"name": "Über uns"}) == 422
    scene.portal.world.clock.now += timedelta(hours=2)
    for method, path in (("GET", "/labs/genomics"), ("PUT", f"/labs/genomics/members/{CAT}"), ("GET", "/admin/labs")):
        problem(await scene.admin.call(method, path), 403, "confirm-again")
    assert await scene.status(scene.admin, "GET", "/labs") == 200
    assert await scene.status(scene.ada, "PUT", f"/labs/genomics/members/{CAT}") == 200, "leads need none"


async def test_pages_of_labs_offer_what_their_reader_may(scene: Scene) -> None:
    await scene.post(scene.cat, "/labs/requests", name="genomics")
    path = "/labs/genomics"
    bobs, adas, admins = [await scene.page(who, path) for who in (scene.bob, scene.ada, scene.admin)]
    assert ("Add member" in bobs, "Requests to join" in bobs, CAT in bobs, "Leave" in bobs) == (
        False,
        False,
        False,
        True,
    )
    assert ("Add member" in adas, "Requests to join" in adas, "Make lead" in adas) == (True, True, False)
    assert ("Add member" in admins, "Make lead" in admins, "No longer lead" in admins) == (True, True, True)
    assert "Genomics Group" not in await scene.page(scene.cat, path, 404)
    assert "Genomics Group" not in await scene.page(scene.cat, "/labs")
    assert "Genomics Group" in await scene.page(scene.bob, "/labs")
    assert "Genomics Group" in await scene.page(scene.admin, "/admin/labs?q=genom")
    assert "No lab is called like that" in await scene.page(scene.admin, "/admin/labs?q=phys")


async def test_forms_of_a_lab_do_what_they_say_and_tell_what_is_wrong_beside_the_field(scene: Scene) -> None:
    where = "/labs/genomics/members"
    await scene.post(scene.cat, "/labs/requests", name="genomics")
    assert f"{CAT} added" in (await scene.post(scene.ada, where, do="add", email=f" {CAT} "))[1]
    assert await scene.members() == [(ADA, True), (BOB, False), (CAT, False)]
    _, refused = await scene.post(scene.ada, where, do="add", email="nobody@a.org")
    assert 'value="nobody@a.org" aria-invalid="true"' in refused
    assert "has signed in yet" in refused
    _, refused = await scene.post(scene.ada, where, do="lead", email=BOB)
    assert "Only administrators may do this" in refused
    assert f"{BOB} leads this lab" in (await scene.post(scene.admin, where, do="lead", email=BOB))[1]
    assert f"{BOB} no longer leads" in (await scene.post(scene.admin, where, do="unlead", email=BOB))[1]
    assert f"{CAT} removed" in (await scene.post(scene.ada, where, do="remove", email=CAT))[1]
    await scene.post(scene.cat, "/labs/requests", name="genomics")
    assert f"Request of {CAT} declined" in (await scene.post(scene.ada, where, do="decline", email=CAT))[1]
    location, page = await scene.post(scene.bob, where, do="leave", email=ADA)
    assert location.startswith("/labs?")
    assert "You left Genomics Group" in page
    assert await scene.members() == [(ADA, True)], "who leaves is who asks"
    assert "Genomes saved" in (await scene.post(scene.ada, "/labs/genomics", title=" Genomes "))[1]
    assert 'aria-describedby="lab-title-problem"' in (await scene.post(scene.ada, "/labs/genomics", title=" "))[1]


async def test_an_administrator_makes_a_lab_on_the_page(scene: Scene) -> None:
    _, refused = await scene.post(scene.admin, "/admin/labs", name="My Lab", title="x" * 101)
    assert 'id="name-problem"' in refused
    assert 'id="new-title-problem"' in refused
    assert 'id="name-problem"' in (await scene.post(scene.admin, "/admin/labs", name="genomics"))[1]
    location, page = await scene.post(scene.admin, "/admin/labs", name="physics", title="Physics <b>")
    assert location.startswith("/labs/physics?")
    assert "Physics &lt;b&gt; created" in page


async def test_a_lab_of_before_shows_administrators_what_settings_call_it(scene: Scene) -> None:
    platform = scene.portal.platform
    cat = await platform.users.by_email(CAT)
    await platform.users.change(cat.id, UserChange(lab="Dr. Müller's"), CLI, platform.now())
    assert (await scene.cat.get("/me"))["lab"] == "Dr. Müller's"
    assert "in settings and policies" in await scene.page(scene.admin, "/labs/dr-muller-s")
    assert "in settings and policies" not in await scene.page(scene.cat, "/labs/dr-muller-s")
    assert "in settings and policies" not in await scene.page(scene.admin, "/labs/genomics")
