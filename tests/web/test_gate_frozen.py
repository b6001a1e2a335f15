"""The gate of a frozen instance: what somebody does thaws it and goes on, what an open page does by itself waits."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path

import httpx
import pytest

from launchpad.domain.instances import Instance
from launchpad.domain.users import User, UserStatus
from launchpad.runtime.base import ContainerState
from launchpad.services.freezing import DRAIN
from launchpad.services.gate import NOT_NOW
from launchpad.store import users
from support.platforms import ACTOR, World
from web.test_gate import PAGE_LOAD, Door, refused_as_missing

CALL = {"Sec_Fetch_Mode": "cors", "Accept": "application/json"}
SOCKET = {"X_Gate_Upgrade": "websocket", "Origin": "http://localhost:8081"}


@dataclass
class Frost:
    """Somebody's instance, which can be frozen as often as wanted."""

    door: Door
    user: User
    instance: Instance
    cookie: str

    async def freeze(self) -> None:
        platform, clock = self.door.platform, self.door.world.clock
        await platform.freezing.freeze(self.instance.id, clock(), "idle")
        clock.now += DRAIN
        await platform.freezing.tend(clock())
        assert await self.stands_still()

    async def asks(self, path: str = "/", method: str = "GET", **headers: str) -> httpx.Response:
        uri = f"/i/{self.instance.id}{path}"
        return await self.door.asks(self.instance.id, self.cookie, uri=uri, method=method, **headers)

    async def stands_still(self) -> bool:
        found = await self.door.world.runtime.find(self.instance.id)
        return found is not None and found.state is ContainerState.PAUSED


@pytest.fixture
async def frost(tmp_path: Path) -> AsyncIterator[Frost]:
    world = World(tmp_path)
    door = Door(world, await world.open())
    user, login = await door.comes("alice@a.org")
    instance = await door.runs(user)
    frost = Frost(door, user, instance, await door.cookie(instance, login))
    await frost.freeze()
    yield frost
    await door.http.aclose()
    await world.close()


@pytest.mark.slow  # waits for a clock
async def test_a_page_load_thaws_and_goes_on(frost: Frost) -> None:
    answer = await frost.asks("/lab/tree/a.ipynb", **PAGE_LOAD)
    assert answer.status_code == 204
    assert answer.headers["X-Gate-Upstream"] == str(frost.instance.address)
    assert not await frost.stands_still()
    [(actor, action)] = frost.door.world.rows("SELECT actor, action FROM audit ORDER BY id DESC LIMIT 1")
    assert (actor, action) == ("alice@a.org", "instance.thawed")


async def test_what_an_open_page_does_by_itself_is_told_to_come_later_and_thaws_nothing(frost: Frost) -> None:
    """Nobody keeps that answer: the very next request may be somebody's."""
    for path, headers in (
        ("/api/kernels?1700000000000", CALL),
        ("/api/contents?content=1&1700000000000", CALL),
        ("/api/kernels/1/channels?session_id=2", SOCKET),
        ("/static/main.js", {"Referer": "http://localhost:8081/i/x/lab"}),
    ):
        answer = await frost.asks(path, **headers)
        assert (answer.status_code, answer.headers["X-Gate-Means"]) == (403, str(NOT_NOW)), path
        assert answer.headers["Cache-Control"] == "no-store"
        assert "X-Gate-Upstream" not in answer.headers
        assert await frost.stands_still()


@pytest.mark.slow  # waits for a clock
async def test_what_somebody_does_in_an_open_page_thaws(frost: Frost) -> None:
    origin = {"Origin": "http://localhost:8081", **CALL}
    for path, method in (
        ("/api/contents/a.ipynb", "PUT"),
        ("/api/sessions", "POST"),
        ("/api/contents/a.ipynb?type=notebook&content=1&1700000000000", "GET"),
    ):
        assert (await frost.asks(path, method, **origin)).status_code == 204, path
        assert not await frost.stands_still()
        await frost.freeze()


@pytest.mark.slow  # waits for a clock
async def test_after_a_visit_all_that_its_page_asks_for_goes_on(frost: Frost) -> None:
    """Also while this process does not know yet that the instance is awake; and if it was frozen again just then."""
    assert (await frost.asks("/lab", **PAGE_LOAD)).status_code == 204
    await frost.freeze()
    assert (await frost.asks("/static/main.js", **CALL)).status_code == 204
    assert not await frost.stands_still()


@pytest.mark.slow  # waits for a clock
async def test_one_that_is_about_to_stand_still_is_kept_free_of_what_pages_do(frost: Frost) -> None:
    """So that nothing is on its way when it does, and nothing waits inside it unread."""
    await frost.door.platform.freezing.thaw(frost.instance.id, frost.door.world.clock())
    assert (await frost.asks("/api/kernels", **CALL)).status_code == 204
    await frost.door.platform.freezing.freeze(frost.instance.id, frost.door.world.clock(), "idle")
    assert (await frost.asks("/api/kernels", **CALL)).headers["X-Gate-Means"] == str(NOT_NOW)
    assert (await frost.asks("/lab", **PAGE_LOAD)).status_code == 204
    await frost.door.platform.freezing.tend(frost.door.world.clock())
    assert not await frost.stands_still()


async def test_nobody_else_thaws_it(frost: Frost) -> None:
    """Neither without a cookie, nor with another user's, nor from another site's page; nor does a ticket alone."""
    mallory, login = await frost.door.comes("mallory@a.org")
    theirs = await frost.door.cookie(await frost.door.runs(mallory, "rstudio"), login)
    assert (await frost.door.asks(frost.instance.id, **PAGE_LOAD)).status_code == 401
    assert (await frost.door.asks(frost.instance.id, theirs, **PAGE_LOAD)).status_code == 401
    foreign = await frost.asks("/api/sessions", "POST", Origin="http://evil.example")
    assert foreign.status_code == 403
    assert "X-Gate-Means" not in foreign.headers
    assert await frost.stands_still()


@pytest.mark.slow  # waits for a clock
async def test_an_engine_that_is_away_makes_the_visit_wait_and_the_next_one_thaw(frost: Frost) -> None:
    frost.door.world.runtime.go_down()
    answer = await frost.asks("/lab", **PAGE_LOAD)
    assert answer.status_code == 503
    frost.door.world.runtime.come_back()
    await frost.door.platform.freezing.tend(frost.door.world.clock())
    assert (await frost.asks("/lab", **PAGE_LOAD)).status_code == 204
    assert not await frost.stands_still()


async def test_a_suspended_users_visit_thaws_nothing(frost: Frost) -> None:
    """Even in the moment before their instance is ended."""
    async with frost.door.platform.database.transaction() as db:
        await users.save(db, replace(frost.user, status=UserStatus.SUSPENDED))
    answer = await frost.asks("/lab", **PAGE_LOAD)
    assert answer.status_code == 401
    assert await frost.stands_still()


async def test_one_that_ends_is_told_as_ended(frost: Frost) -> None:
    await frost.door.platform.instances.stop(frost.instance.id, frost.user, ACTOR, frost.door.world.clock())
    assert refused_as_missing(await frost.asks("/lab", **PAGE_LOAD))
