"""Long links and many cookies: as far as nginx's own limits they arrive, and beyond those the answer says so."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from web.nginx_stub import PAGE, Answer, Exchange, Stage, problem, stage
from web.test_nginx_gate_cache import until_a_second_begins

KB = 1024
COOKIES = "; ".join(f"c{number:02}={'x' * 1018}" for number in range(32))  # 32 kB, as browsers would send them


@pytest_asyncio.fixture(scope="module", loop_scope="session", params=["asked each time", "kept for a second"])
async def running(request: pytest.FixtureRequest) -> AsyncIterator[Stage]:
    async with stage(web={"gate_cache": request.param == "kept for a second"}) as here:
        yield here


@pytest.fixture
async def here(running: Stage) -> Stage:
    if running.settings.web.gate_cache:
        await until_a_second_begins()  # what earlier tests were told is forgotten
    running.reset()
    return running


def link(instance_id: str, size: int) -> str:
    start = f"/i/{instance_id}/x?q="
    return start + "/&%20="[: (size - len(start)) % 6] + "/&%20=" * ((size - len(start)) // 6)


@pytest.mark.parametrize("size", [4 * KB, 8 * KB, 32 * KB])
async def test_a_long_link_reaches_the_instance(here: Stage, size: int) -> None:
    target = link(here.my_id, size)
    assert len(target) == size
    assert (await here.instances(target, headers=PAGE)).status == 200
    assert here.mine.requests[-1].target == target.removeprefix(f"/i/{here.my_id}")


async def test_32_kb_of_cookies_reach_portal_gate_and_application(here: Stage) -> None:
    assert len(COOKIES) >= 32 * KB - 2
    here.allow(here.my_id, here.mine.address, cookie=COOKIES)
    sent = f"lp_instance=mine; {COOKIES}"
    for _ in range(3):  # a kept answer holds them as well
        assert (await here.instances(f"/i/{here.my_id}/x", headers=[("Cookie", sent)])).status == 200
        assert here.mine.requests[-1].get("Cookie") == COOKIES
    assert here.portal.asked()[-1].get("Cookie") == sent
    assert (await here.page("/dashboard", headers=[("Cookie", sent)])).status == 200
    assert here.portal.pages()[-1].get("Cookie") == sent


async def test_a_link_that_grows_on_the_way_through_sign_in_arrives(here: Stage) -> None:
    """Each answer that says where to go on holds the address once more."""
    location = f"{here.settings.public_url}/instances/{here.my_id}/open?next={'~' + 'x' * 24 * KB}"
    here.portal.answers[here.my_id] = Answer(401, [("X-Gate-Location", location), ("Cache-Control", "no-store")])
    answer = await here.instances(link(here.my_id, 16 * KB), headers=PAGE)
    assert (answer.status, answer.get("Location")) == (303, location)

    async def onwards(exchange: Exchange) -> None:
        await exchange.respond(303, [("Location", location)])

    for path in ("/instances/x/open", "/api/v1/instances/x/open"):
        here.portal.handlers[path] = onwards
        answer = await here.page(f"{path}?next={'~' + 'x' * 24 * KB}")
        assert (answer.status, answer.get("Location")) == (303, location), path
    here.portal.handlers["/gate/enter"] = onwards
    assert (await here.instances(f"/enter?ticket=x&next={'~' + 'x' * 24 * KB}")).status == 303


async def test_what_is_longer_is_refused_in_true_words_and_without_a_reload(here: Stage) -> None:
    for ask in (here.instances, here.page):
        answer = await ask(link(here.my_id, 40 * KB), headers=PAGE)
        assert (answer.status, answer.get("Content-Type")) == (414, "text/html; charset=utf-8")
        assert "The link is too long" in answer.text
        assert "/dashboard" in answer.text
        assert "refresh" not in answer.text
        answer = await ask(f"/i/{here.my_id}/", headers=[*PAGE, ("Cookie", "c=" + "x" * 40 * KB)])
        assert answer.status == 431
        assert "32 kB of cookies" in answer.text
        assert "refresh" not in answer.text
    assert here.portal.requests == here.mine.requests == []


async def test_a_link_too_long_to_be_come_back_to_is_told_so(here: Stage) -> None:
    here.portal.answers[here.my_id] = Answer(401, [("X-Gate-Means", "too-long"), ("Cache-Control", "no-store")])
    answer = await here.instances(link(here.my_id, 20 * KB), headers=PAGE)
    assert answer.status == 414
    assert "too long to sign in with" in answer.text
    assert f'href="{here.settings.public_url}/dashboard"' in answer.text


API_ERRORS = {
    "a null byte": ("GET", "/api/v1/me%00", [], 400),
    "nonsense in a header": ("GET", "/api/v1/me", [("Content-Length", "x")], 400),
    "TRACE": ("TRACE", "/api/v1/me", [], 405),
    "a long link": ("GET", f"/api/v1/me?{'x' * 40 * KB}", [], 414),
    "many cookies": ("GET", "/api/v1/me", [("Cookie", "x" * 40 * KB)], 431),
    "a large body": ("POST", "/api/v1/me", [("Content-Length", str(2 * KB * KB))], 413),
}


@pytest.mark.parametrize(("method", "target", "headers", "status"), API_ERRORS.values(), ids=API_ERRORS.keys())
async def test_what_nginx_refuses_of_the_api_is_a_problem_and_of_pages_a_page(
    here: Stage, method: str, target: str, headers: list[tuple[str, str]], status: int
) -> None:
    answer = await here.page(target, method=method, headers=headers)
    body = problem(answer)
    assert answer.status == body["status"] == status
    assert body["title"]
    assert body["detail"]
    page = await here.page(target.replace("/api/v1", "/pages"), method=method, headers=headers)
    assert (page.status, page.get("Content-Type")) == (status, "text/html; charset=utf-8")
    assert f'href="{here.settings.public_url}/dashboard"' in page.text
    assert here.portal.requests == []


async def test_a_portal_that_is_away_answers_the_api_with_a_problem(here: Stage) -> None:
    await here.portal.close()
    try:
        answer = await here.page("/api/v1/me")
        assert (answer.status, problem(answer)["status"]) == (503, 503)
    finally:
        await here.portal.listen(here.socket)
