"""nginx keeps the gate's answer to the end of its third of a second; not a WebSocket's yes or a page's no."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from web.nginx_stub import PAGE, Answer, Headers, Stage, stage

MINE: Headers = [("Cookie", "lp_instance=mine")]


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def running() -> AsyncIterator[Stage]:
    async with stage(web={"gate_cache": True}) as here:
        yield here


@pytest.fixture
async def here(running: Stage) -> Stage:
    await until_a_second_begins()  # what earlier tests were told is forgotten
    running.reset()
    return running


async def until_a_second_begins() -> None:
    await asyncio.sleep(1 - time.time() % 1 + 0.05)


async def test_within_a_third_of_a_second_the_gate_is_asked_once_and_every_request_arrives(here: Stage) -> None:
    begun = int(time.time())
    for number in range(20):
        assert (await here.instances(f"/i/{here.my_id}/{number}", headers=MINE)).status == 200
    thirds = 3 * (int(time.time()) - begun + 1)
    assert len(here.mine.requests) == 20
    assert 1 <= len(here.portal.asked()) <= thirds < 20


async def test_s3_a_yes_is_asked_for_anew_in_each_third_of_a_second(here: Stage) -> None:
    """What is left of the second is for the portal, which may hear of another process half a second late."""
    for _ in range(2):
        asked = len(here.portal.asked())
        await here.instances(f"/i/{here.my_id}/", headers=MINE)
        await asyncio.sleep(0.41)
        await here.instances(f"/i/{here.my_id}/", headers=MINE)
        assert len(here.portal.asked()) - asked == 2
        await asyncio.sleep(0.41)


async def test_what_was_kept_is_passed_on_as_the_gate_said_it(here: Stage) -> None:
    here.allow(here.my_id, here.mine.address, prefix="keep", cookie="theirs=1", headers=["Authorization: token 0123"])
    for _ in range(3):
        await here.instances(f"/i/{here.my_id}/x", headers=MINE)
    assert len(here.portal.asked()) < 3
    for received in here.mine.requests:
        assert received.target == f"/i/{here.my_id}/x"
        assert received.get("Cookie") == "theirs=1"
        assert received.get("Authorization") == "token 0123"


async def test_s3_a_yes_is_over_within_a_second_of_its_end(here: Stage) -> None:
    assert (await here.instances(f"/i/{here.my_id}/", headers=MINE)).status == 200
    here.portal.answers[here.my_id] = Answer(401)
    ended = time.monotonic()
    while (await here.instances(f"/i/{here.my_id}/", headers=MINE)).status == 200:
        assert time.monotonic() - ended < 1.1
    assert (await here.instances(f"/i/{here.my_id}/", headers=MINE)).status == 401


@pytest.mark.parametrize(
    "other",
    [
        [("Cookie", "lp_instance=other")],
        [],
        [*MINE, ("Origin", "https://evil.example")],
        [*MINE, ("Sec-Fetch-Site", "cross-site")],
        [*MINE, ("Upgrade", "websocket"), ("Connection", "Upgrade")],
        [("Cookie", "lp_instance=mine; more=1")],
    ],
    ids=["another cookie", "no cookie", "another origin", "another site", "a WebSocket", "one more cookie"],
)
async def test_a_request_that_differs_is_asked_for_anew(here: Stage, other: Headers) -> None:
    await here.instances(f"/i/{here.my_id}/", headers=MINE)
    asked = len(here.portal.asked())
    here.portal.answers[here.my_id] = Answer(403)
    assert (await here.instances(f"/i/{here.my_id}/", headers=other)).status == 403
    assert len(here.portal.asked()) == asked + 1


async def test_another_method_and_another_instance_are_asked_for_anew(here: Stage) -> None:
    await here.instances(f"/i/{here.my_id}/", headers=MINE)
    assert (await here.instances(f"/i/{here.your_id}/", headers=MINE)).status == 404
    here.portal.answers[here.my_id] = Answer(403)
    assert (await here.instances(f"/i/{here.my_id}/", method="POST", headers=MINE)).status == 403


NO = {
    "nobody": (Answer(401), 401),
    "nobody, for an open page": (Answer(401, [("X-Gate-Means", "424")]), 424),
    "not allowed": (Answer(403), 403),
    "ended": (Answer(403, [("X-Gate-Means", "404")]), 404),
    "ended, for an open page": (Answer(403, [("X-Gate-Means", "503")]), 503),
}


@pytest.mark.parametrize(("no", "status"), NO.values(), ids=NO.keys())
@pytest.mark.parametrize("upgrade", [[], [("Upgrade", "websocket"), ("Connection", "Upgrade")]], ids=["call", "socket"])
async def test_a_no_to_a_call_is_kept_until_its_third_of_a_second_ends(
    here: Stage, no: Answer, status: int, upgrade: Headers
) -> None:
    """A page that is still open after its instance has ended may ask as often as it likes."""
    here.portal.answers[here.my_id] = no
    begun = int(time.time())
    for _ in range(30):
        assert (await here.instances(f"/i/{here.my_id}/api", headers=[*MINE, *upgrade])).status == status
    thirds = 3 * (int(time.time()) - begun + 1)
    assert 1 <= len(here.portal.asked()) <= thirds < 30
    here.allow(here.my_id, here.mine.address)
    allowed = time.monotonic()
    while (await here.instances(f"/i/{here.my_id}/api", headers=MINE)).status != 200:
        assert time.monotonic() - allowed < 1.1, "what becomes ready is not kept out"
    assert (await here.instances(f"/i/{here.my_id}/api", headers=[("Cookie", "lp_instance=new")])).status == 200


async def test_a_websockets_yes_is_not_kept(here: Stage) -> None:
    """It lives on for hours: whether it may begin is asked each time."""
    socket: Headers = [("Upgrade", "websocket"), ("Connection", "Upgrade")]
    for number in range(1, 4):
        assert (await here.instances(f"/i/{here.my_id}/api", headers=[*MINE, *socket])).status == 200
        assert len(here.portal.asked()) == number
    here.portal.answers[here.my_id] = Answer(403)
    assert (await here.instances(f"/i/{here.my_id}/api", headers=[*MINE, *socket])).status == 403


async def test_where_a_page_load_is_sent_is_kept_for_no_other_page(here: Stage) -> None:
    """The gate says so itself: the address of the page is in its answer."""
    for name in ("a", "b", "a"):
        back = f"{here.settings.public_url}/instances/{here.my_id}/open?next=%2F{name}"
        here.portal.answers[here.my_id] = Answer(401, [("X-Gate-Location", back), ("Cache-Control", "no-store")])
        answer = await here.instances(f"/i/{here.my_id}/{name}", headers=[*MINE, *PAGE])
        assert (answer.status, answer.get("Location")) == (303, back)


async def test_what_a_frozen_instances_page_is_told_is_kept_for_nobody(here: Stage) -> None:
    """The next request, of the same page and with the same cookie, may be what wakes it."""
    frozen = Answer(403, [("X-Gate-Means", "429"), ("Cache-Control", "no-store")])
    here.portal.answers[here.my_id] = frozen
    for upgrade in ([], [("Upgrade", "websocket"), ("Connection", "Upgrade")]):
        for _ in range(3):
            assert (await here.instances(f"/i/{here.my_id}/api", headers=[*MINE, *upgrade])).status == 429
    assert len(here.portal.asked()) == 6
    here.allow(here.my_id, here.mine.address)
    assert (await here.instances(f"/i/{here.my_id}/api", headers=MINE)).status == 200


async def test_an_open_page_a_program_and_a_page_load_are_asked_for_apart(here: Stage) -> None:
    """The same refusal may mean something else to each."""
    here.portal.answers[here.my_id] = Answer(403, [("X-Gate-Means", "404")])
    await here.instances(f"/i/{here.my_id}/api", headers=MINE)
    here.portal.answers[here.my_id] = Answer(403, [("X-Gate-Means", "424")])
    script = [*MINE, ("Sec-Fetch-Mode", "cors")]
    assert (await here.instances(f"/i/{here.my_id}/api", headers=script)).status == 424
    assert (await here.instances(f"/i/{here.my_id}/api", headers=[*MINE, ("Referer", "http://x/")])).status == 424
    assert (await here.instances(f"/i/{here.my_id}/api", headers=[*MINE, *PAGE])).status == 403


async def test_g7_an_odd_yes_is_not_made_good_by_keeping_it(here: Stage) -> None:
    here.portal.answers[here.my_id] = Answer(200, here.portal.answers[here.my_id].headers)
    for _ in range(3):
        assert (await here.instances(f"/i/{here.my_id}/", headers=MINE)).status >= 500
    assert here.mine.requests == []


async def test_a_dead_portal_closes_instances_within_a_second(here: Stage) -> None:
    assert (await here.instances(f"/i/{here.my_id}/", headers=MINE)).status == 200
    await here.portal.close()
    ended = time.monotonic()
    try:
        while (await here.instances(f"/i/{here.my_id}/", headers=MINE)).status == 200:
            assert time.monotonic() - ended < 1.1
    finally:
        await here.portal.listen(here.socket)


async def test_a_persons_act_is_asked_about_beside_what_the_page_asks_by_itself(here: Stage) -> None:
    """The gate hears of it in its second, with what it needs to tell, however often the page asks."""
    quiet: Headers = [("X-RStudio-Refresh-Auth-Creds", "0")]
    await until_a_second_begins()
    for _ in range(3):
        for path, headers in (("rpc/get_events", quiet), ("rpc/console_input", []), ("rpc/console_input", quiet)):
            answer = await here.instances(f"/i/{here.my_id}/{path}", method="POST", headers=[*MINE, *headers])
            assert answer.status == 200
    told = {(one.get("X-Gate-Uri"), one.get("X-Gate-Quiet") or "") for one in here.portal.asked()}
    base = f"/i/{here.my_id}/rpc/"
    assert {(f"{base}get_events", "0"), (f"{base}console_input", ""), (f"{base}console_input", "0")} == told
