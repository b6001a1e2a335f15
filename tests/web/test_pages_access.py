"""Who may see and change what through the pages, and that nothing in them needs a looser content policy."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from web.pages_client import ADMIN, PUBLIC_URL, Portal, open_portal

USER_PAGES = ("/dashboard", "/account")
ADMIN_PAGES = ("/admin", "/admin/users", "/admin/instances", "/admin/limits", "/admin/policies/replay", "/admin/audit")


@pytest.fixture
async def portal(tmp_path: Path) -> AsyncIterator[Portal]:
    async with open_portal(tmp_path) as portal:
        yield portal


@pytest.mark.parametrize("path", USER_PAGES + ADMIN_PAGES)
async def test_somebody_not_signed_in_is_led_to_the_sign_in_and_back_afterwards(portal: Portal, path: str) -> None:
    page = await portal.person("x@example.org").get(path)
    assert page.path.startswith("/sign-in?next=")
    assert page.form("/sign-in").fields["next"] == path


@pytest.mark.parametrize("path", ADMIN_PAGES)
async def test_administration_is_for_administrators(portal: Portal, path: str) -> None:
    user = await portal.signed_in("user@example.org")
    refused = await user.get(path)
    assert refused.status == 403
    assert "Only administrators" in refused.words
    admin = await portal.signed_in(ADMIN)
    assert (await admin.get(path)).status == 200


async def test_a_user_sees_no_way_into_administration(portal: Portal) -> None:
    user, admin = await portal.signed_in("user@example.org"), await portal.signed_in(ADMIN)
    assert 'href="/admin"' not in (await user.get("/dashboard")).response.text
    assert 'href="/admin"' in (await admin.get("/dashboard")).response.text


@pytest.mark.slow
async def test_g2_every_form_that_changes_something_is_refused_without_its_csrf_token(portal: Portal) -> None:
    admin = await portal.signed_in(ADMIN)
    instance = await admin.running()
    user_id = instance.owner_id
    paths = ["/dashboard", "/account", f"/admin/users/{user_id}", "/admin/instances", "/admin/limits"]
    forms = [form for path in paths for form in (await admin.get(path)).forms if form.method == "post"]
    assert {form.action for form in forms} >= {
        "/sign-out",
        "/instances",
        f"/instances/{instance.id}/stop",
        f"/instances/{instance.id}/extend",
        "/account/tokens",
        f"/admin/users/{user_id}",
        f"/admin/instances/{instance.id}/stop",
        "/admin/limits",
    }
    for form in forms:
        fields = {name: value for name, value in form.fields.items() if name != "csrf_token"}
        for wrong in ({}, {"csrf_token": "0" * 64}):
            response = await admin.http.post(form.action, data={**fields, **wrong})
            assert response.status_code == 403, form.action
    assert [one.id for one in await admin.instances()] == [instance.id]


async def test_the_forms_before_sign_in_are_refused_from_other_sites(portal: Portal) -> None:
    person = portal.person("x@example.org")
    for path in ("/sign-in", "/sign-in/code", "/sign-in/resend"):
        response = await person.http.post(path, data={"email": person.address}, headers={"Origin": "http://evil.test"})
        assert response.status_code == 403
    allowed = await person.http.post("/sign-in", data={"email": person.address}, headers={"Origin": PUBLIC_URL})
    assert allowed.status_code == 200


@pytest.mark.slow
async def test_somebody_elses_instance_is_not_found(portal: Portal) -> None:
    owner, other = await portal.signed_in("owner@example.org"), await portal.signed_in(ADMIN)
    instance = await owner.running()
    assert (await other.get(f"/instances/{instance.id}/open")).status == 404
    token = (await other.get("/dashboard")).form("/sign-out").fields["csrf_token"]
    for action in ("stop", "extend", "forget"):
        response = await other.http.post(f"/instances/{instance.id}/{action}", data={"csrf_token": token, "days": "1"})
        assert response.status_code == 404
    assert (await owner.instances())[0].is_live


@pytest.mark.slow
async def test_no_page_holds_inline_scripts_or_styles_or_asks_another_server(portal: Portal) -> None:
    admin = await portal.signed_in(ADMIN)
    instance = await admin.running()
    paths = [*USER_PAGES, *ADMIN_PAGES, f"/admin/users/{instance.owner_id}", "/nowhere"]
    pages = [await admin.get(path) for path in paths]
    nobody = portal.person("x@example.org")
    pages += [
        await nobody.get("/"),
        await nobody.send((await nobody.get("/sign-in")).form("/sign-in"), email="y@z.org"),
    ]
    for page in pages:
        assert "default-src 'none'" in page.response.headers["Content-Security-Policy"]
        assert "unsafe" not in page.response.headers["Content-Security-Policy"]
        assert page.response.headers["Cache-Control"] == "no-store"
        for element in page.elements:
            assert element.tag != "style"
            assert element.tag != "script" or (element.attributes.get("src") and not element.text.strip())
            for name, value in element.attributes.items():
                assert name != "style"
                assert not name.startswith("on")
                if name in ("src", "href", "action"):
                    assert not re.match(r"(?i)\s*(https?:|//|data:|javascript:)", value or ""), value


@pytest.mark.slow
async def test_every_field_of_every_page_has_a_name_for_screen_readers(portal: Portal) -> None:
    admin = await portal.signed_in(ADMIN)
    instance = await admin.running()
    for path in (*USER_PAGES, *ADMIN_PAGES, f"/admin/users/{instance.owner_id}"):
        page = await admin.get(path)
        labelled = {element.attributes.get("for") for element in page.elements if element.tag == "label"}
        for element in page.elements:
            given = element.attributes
            if element.tag in ("input", "select") and given.get("type") not in ("hidden", "radio", "checkbox"):
                assert given.get("id") in labelled or given.get("aria-label"), (path, given)
        ids = [element.attributes["id"] for element in page.elements if "id" in element.attributes]
        assert len(ids) == len(set(ids)), path


async def test_static_files_are_kept_for_good_under_their_version_and_checked_again_under_another(
    portal: Portal,
) -> None:
    person = portal.person("x@example.org")
    address = next(
        str(element.attributes["href"])
        for element in (await person.get("/")).elements
        if element.attributes.get("rel") == "stylesheet"
    )
    present = await person.http.get(address)
    assert present.status_code == 200
    assert present.headers["Content-Type"].startswith("text/css")
    assert "immutable" in present.headers["Cache-Control"]
    old = await person.http.get("/static/0123456789ab/app.css")
    assert old.status_code == 200
    assert old.headers["Cache-Control"] == "no-cache"
    for missing in ("/static/x/nothing.css", "/static/x/../app.py", "/static/x/%2e%2e/app.py", "/static/x/"):
        assert (await person.http.get(missing)).status_code == 404


async def test_every_script_that_is_imported_is_there(portal: Portal) -> None:
    person = portal.person("x@example.org")
    wanted, seen = {"app.js", "theme.js"}, set[str]()
    while wanted - seen:
        name = (wanted - seen).pop()
        seen.add(name)
        script = await person.http.get(f"/static/now/{name}")
        assert script.status_code == 200, name
        assert script.headers["Content-Type"].startswith("text/javascript")
        wanted |= set(re.findall(r'from "\./([^"]+)"', script.text))
    assert len(seen) >= 5
