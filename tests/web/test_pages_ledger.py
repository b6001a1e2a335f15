"""H6: the owner reads on their account page, and by the API, who looked at or changed what is theirs."""

from __future__ import annotations

import csv
import io
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from web.api_client import Portal, Visitor, open_api

HTML = {"Accept": "text/html"}


@dataclass
class Scene:
    portal: Portal
    owner: Visitor
    admin: Visitor
    instance_id: str

    async def read(self, path: str) -> str:
        answer = await self.owner.http.get(path, headers=HTML)
        assert answer.status_code == 200, answer.text
        return answer.text.replace("<wbr>", "")

    async def look(self, times: int = 1) -> None:
        for _ in range(times):
            path = f"/admin/instances/{self.instance_id}/log"
            assert (await self.admin.http.get(path, headers=HTML)).status_code == 200
            self.portal.world.clock.now += timedelta(minutes=1)


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[Scene]:
    async with open_api(tmp_path) as portal:
        owner, admin = await portal.signed_in("ada@a.org"), await portal.signed_in("admin@example.org")
        running = await owner.launch()
        yield Scene(portal, owner, admin, running["id"])


async def test_h6_the_account_page_says_who_looked_and_how_often_in_words_and_the_owners_zone(scene: Scene) -> None:
    assert "Nobody else looked at or changed anything of yours" in await scene.read("/account")
    assert "Nobody else looked at or changed anything of yours" in await scene.read("/account/ledger")
    await scene.owner.call("PATCH", "/me", {"time_zone": "Asia/Singapore"})
    await scene.look(times=3)
    await scene.admin.call("POST", f"/admin/instances/{scene.instance_id}/extend", {"days": 2})
    for path in ("/account", "/account/ledger"):
        text = await scene.read(path)
        assert "admin@example.org" in text
        assert "Read the log of JupyterLab" in text
        assert "3 times, last" in text
        assert "Extended JupyterLab" in text
        assert "2 March 2126, 17:30 UTC+8" in text
        assert "until: 5 March 2126 at 17:30 UTC+8" in text
    assert "192.0.2.11" not in text, "where the administrator sat is not the owner's business"


async def test_h6_the_api_has_the_same_and_pages_it(scene: Scene) -> None:
    await scene.look(times=2)
    for days in (2, 7):
        await scene.admin.call("POST", f"/admin/instances/{scene.instance_id}/extend", {"days": days})
    everything = await scene.owner.get("/me/ledger")
    assert [(one["actor"], one["action"], one["times"], one["everyone"]) for one in everything] == [
        ("admin@example.org", "instance.extended", 1, False),
        ("admin@example.org", "instance.extended", 1, False),
        ("admin@example.org", "instance.log_read", 2, False),
    ]
    assert everything[2]["text"] == "Read the log of JupyterLab"
    assert everything[2]["subject"] == scene.instance_id
    paged: list[Any] = []
    cursor: dict[str, Any] = {}
    while True:
        answer = await scene.owner.call("GET", "/me/ledger", limit=2, **cursor)
        paged += answer.json()
        if "X-Next-Cursor" not in answer.headers:
            break
        cursor = {"cursor": answer.headers["X-Next-Cursor"]}
    assert paged == everything
    assert await scene.admin.get("/me/ledger") == [], "another's is not shown"


async def test_h6_lists_of_everyone_are_shown_to_who_wants_them(scene: Scene) -> None:
    await scene.portal.signed_in("bob@a.org")
    assert (await scene.admin.call("GET", "/admin/users")).status_code == 200
    assert await scene.owner.get("/me/ledger") == []
    (one,) = await scene.owner.get("/me/ledger", everyone=True)
    assert (one["text"], one["everyone"]) == ("Looked at a list of users", True)
    assert "Looked at a list of users" not in await scene.read("/account/ledger")
    assert "Looked at a list of users" in await scene.read("/account/ledger?everyone=true")


async def test_it_is_exported_whole_for_spreadsheets_and_programs(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("launchpad.services.ledger.PAGE_OF_EXPORT", 2)
    for fmt, nothing in (("csv", 1), ("json", 0)):
        answer = await scene.owner.call("GET", "/me/ledger/export", format=fmt)
        assert len(answer.json() if fmt == "json" else answer.text.splitlines()) == nothing
    platform = scene.portal.platform
    ada = await platform.users.by_email("ada@a.org")
    for lab in ("=cmd()", "b", "c", "d", "e"):
        await scene.admin.call("PATCH", f"/admin/users/{ada.id}", {"lab": lab})
    answer = await scene.owner.call("GET", "/me/ledger/export")
    assert answer.headers["Content-Type"].startswith("text/csv")
    assert 'filename="launchpad-access-ledger.csv"' in answer.headers["Content-Disposition"]
    rows = list(csv.DictReader(io.StringIO(answer.text)))
    assert [row["text"] for row in rows] == ["Changed your account"] * 5
    assert rows[-1]["details_text"] == "lab: none → =cmd()"
    program = (await scene.owner.call("GET", "/me/ledger/export", format="json")).json()
    assert program == await scene.owner.get("/me/ledger")
    assert (await scene.owner.call("GET", "/me/ledger/export", format="pdf")).status_code == 422


async def test_h6_what_cannot_be_recorded_is_not_shown(scene: Scene) -> None:
    """The log's text comes back as soon as looks can be recorded again."""
    path = f"/admin/instances/{scene.instance_id}/log"
    shown = await scene.admin.call("GET", path)
    assert shown.status_code == 200
    assert len(shown.text) > 5
    await scene.portal.world.change("DELETE FROM audit_looks")
    refuse = "CREATE TRIGGER refuse BEFORE INSERT ON audit BEGIN SELECT RAISE(FAIL, 'no room'); END"
    await scene.portal.world.change(refuse)
    for asked in (path, "/admin/instances", "/admin/audit"):
        answer = await scene.admin.call("GET", asked)
        assert answer.status_code >= 500, asked
        assert shown.text not in answer.text
        assert scene.instance_id not in answer.text.replace(path, "")
    await scene.portal.world.change("DROP TRIGGER refuse")
    assert (await scene.admin.call("GET", path)).text == shown.text
