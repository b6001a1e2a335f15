"""The whole portal over a fake engine, and a program that speaks its JSON API."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx

from launchpad.domain.instances import State
from launchpad.platform import Platform
from launchpad.settings import SnapshotSettings
from launchpad.web.app import create_app
from launchpad.web.cookies import CookieNames
from support.events import events_in
from support.platforms import START, World, reaches, sign_in
from support.snapshots import CopiedSnapshots

PUBLIC_URL, INSTANCES_URL = "http://localhost:8080", "http://localhost:8081"
API = "/api/v1"
JSON = "application/json"
PROBLEM = "application/problem+json"


class Visitor:
    """A browser or program with its own cookies; `csrf` is sent along once it is signed in."""

    def __init__(self, portal: Portal, client: str) -> None:
        self.portal = portal
        self.client = client
        self.http = httpx.AsyncClient(
            transport=httpx.ASGITransport(app=portal.app, client=(client, 4711), raise_app_exceptions=False),
            base_url=PUBLIC_URL,
        )
        self.csrf: str | None = None
        self.me: dict[str, Any] = {}

    async def call(
        self, method: str, path: str, /, body: object = None, *, headers: Mapping[str, str] | None = None, **query: Any
    ) -> httpx.Response:
        """A call below /api/v1 with the CSRF token where there is one."""
        given = {"X-CSRF-Token": self.csrf} if self.csrf else {}
        address = (
            path
            if path.startswith(("/api", "/gate", "/healthz", "/readyz", "/metrics", "/.well-known"))
            else API + path
        )
        return await self.http.request(
            method, address, json=body, params=query or None, headers={**given, **(headers or {})}
        )

    async def get(self, path: str, /, **query: Any) -> Any:
        """The body of a call that must succeed."""
        answer = await self.call("GET", path, **query)
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def sign_in(self, address: str) -> Visitor:
        """With the cookie of a login that nobody had to type a code for."""
        platform = self.portal.platform
        _, secret = await sign_in(platform, address, client=self.client)
        self.http.cookies.set(CookieNames.of(platform.settings).login, secret)
        self.me = await self.get("/me")
        self.csrf = self.me["csrf_token"]
        return self

    async def launch(self, environment: str = "jupyterlab", **size: Any) -> dict[str, Any]:
        """One that runs."""
        answer = await self.call("POST", "/instances", {"environment": environment, **size})
        assert answer.status_code == 202, answer.text
        await reaches(self.portal.platform, answer.json()["id"], State.RUNNING)
        shown: dict[str, Any] = await self.get(f"/instances/{answer.json()['id']}")
        return shown

    async def stopped(self, environment: str = "jupyterlab") -> dict[str, Any]:
        instance = await self.launch(environment)
        await self.call("POST", f"/instances/{instance['id']}/stop")
        await reaches(self.portal.platform, instance["id"], State.STOPPED)
        return instance

    async def events(self, instance_id: str) -> list[tuple[str, Any]]:
        """All events of a stream that ends, each with its data."""
        answer = await self.call("GET", f"/instances/{instance_id}/events")
        assert answer.headers["Content-Type"].startswith("text/event-stream")
        return events_in(answer.text)


class Portal:
    def __init__(self, world: World, platform: Platform) -> None:
        self.world = world
        self.platform = platform
        self.app: Any = create_app(platform)
        self.visitors: list[Visitor] = []

    def visitor(self, client: str = "192.0.2.1") -> Visitor:
        self.visitors.append(Visitor(self, client))
        return self.visitors[-1]

    async def signed_in(self, address: str) -> Visitor:
        return await self.visitor(f"192.0.2.{len(self.visitors) + 10}").sign_in(address)

    def fingerprint(self) -> str:
        """Of everything in the database."""
        tables = [name for (name,) in self.world.rows("SELECT name FROM sqlite_master WHERE type = 'table'")]
        rows = {name: sorted(map(repr, self.world.rows(f'SELECT * FROM "{name}"'))) for name in tables}
        return hashlib.sha256(repr(sorted(rows.items())).encode()).hexdigest()


@asynccontextmanager
async def open_api(
    folder: Path, settings: Mapping[str, Any] | None = None, *, copied: bool = False, **engine: int
) -> AsyncIterator[Portal]:
    """Args: copied: snapshots of homes are kept, as copies."""
    world = World(folder, settings, **engine)
    if copied:
        world.snapshots = CopiedSnapshots(world.homes_root, SnapshotSettings(), world.clock)
    world.clock.now = START.replace(year=2126)  # httpx drops cookies that expire before its own clock
    portal = Portal(world, await world.open())
    try:
        yield portal
    finally:
        for visitor in portal.visitors:
            await visitor.http.aclose()
        await world.close()


def problem(answer: httpx.Response, status: int, code: str, *fields: str) -> dict[str, Any]:
    """The body of a refusal, which has RFC 9457's members and names the offending fields."""
    assert answer.status_code == status, answer.text
    assert answer.headers["Content-Type"] == PROBLEM
    body: dict[str, Any] = answer.json()
    assert body["status"] == status
    assert body["code"] == code
    assert all(isinstance(body[member], str) and body[member] for member in ("type", "title", "detail"))
    assert [error["field"] for error in body.get("errors", [])] == list(fields)
    assert all(error["message"] for error in body.get("errors", []))
    return body
