"""A host name for each instance: the id is in the name, and nothing else of a request can choose another."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from web.nginx_stub import PAGE, Answer, Headers, Stage, free_port, stage


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def running() -> AsyncIterator[Stage]:
    port = free_port()
    urls = {"public_url": f"http://lab.localhost:{port}", "instances_url": f"http://{{instance}}.lab.localhost:{port}"}
    async with stage(**urls) as here:
        yield here


async def test_g6_the_name_says_which_instance_and_the_path_arrives_as_it_was_sent(here: Stage) -> None:
    for prefix in ("strip", "keep"):
        here.allow(here.my_id, here.mine.address, prefix=prefix)
        target = "/a%2Fb/../%2e%2e//c;d=1?next=/i/x%0a"
        assert (await here.instances(target, of=here.my_id)).status == 200
        assert here.mine.requests[-1].target == target
        assert here.portal.asked()[-1].get("X-Gate-Instance") == here.my_id
        assert here.portal.asked()[-1].get("X-Gate-Uri") == target


@pytest.mark.parametrize("target", ["/i/{your}/", "/../{your}/", "//{your}.lab.localhost/", "/%2e%2e/i/{your}/"])
async def test_g6_no_path_leads_to_anothers_instance(here: Stage, target: str) -> None:
    here.allow(here.your_id, here.yours.address)
    await here.instances(target.replace("{your}", here.your_id), of=here.my_id)
    assert here.yours.requests == []
    assert {asked.get("X-Gate-Instance") for asked in here.portal.asked()} <= {here.my_id}


async def test_g6_of_several_names_the_one_that_nginx_takes_is_the_one_the_gate_is_asked_about(here: Stage) -> None:
    """An absolute address wins over Host (RFC 9112, 3.2.2); what is passed on names the same instance."""
    port = here.instances_port
    target = f"http://{here.your_id}.lab.localhost:{port}/x"
    assert (await here.instances(target, of=here.my_id)).status == 404
    assert [asked.get("X-Gate-Instance") for asked in here.portal.asked()] == [here.your_id]
    forged: Headers = [("X-Forwarded-Host", f"{here.your_id}.lab.localhost"), ("X-Gate-Instance", here.your_id)]
    assert (await here.instances("/", of=here.my_id, headers=forged)).status == 200
    assert here.mine.requests[-1].get("Host") == f"{here.my_id}.lab.localhost:{port}"
    assert here.mine.requests[-1].get("X-Forwarded-Host") == f"{here.my_id}.lab.localhost:{port}"
    assert here.mine.requests[-1].get("X-Gate-Instance") is None
    twice = [("Host", f"{here.your_id}.lab.localhost:{port}")]
    assert (await here.instances("/", of=here.my_id, headers=twice)).status == 400
    assert here.yours.requests == []


@pytest.mark.parametrize("change", [str.upper, lambda name: name.replace(".lab", "..lab"), lambda name: f"x.{name}"])
async def test_a_name_in_capitals_is_the_same_and_one_that_is_longer_is_none(here: Stage, change: object) -> None:
    name = f"{here.my_id}.lab.localhost"
    changed = change(name)  # type: ignore[operator]
    answer = await here.instances("/", authority=f"{changed}:{here.instances_port}")
    if changed == name.upper():
        assert answer.status == 200
    else:
        assert answer.status in (307, 400)
        assert here.mine.requests == []


async def test_a_name_that_is_no_instances_is_sent_to_the_portal(here: Stage) -> None:
    answer = await here.instances("/x?y", authority=f"unknown.lab.localhost:{here.instances_port}")
    assert (answer.status, answer.get("Location")) == (307, f"{here.settings.public_url}/x?y")


async def test_nobody_is_led_to_the_portal_and_back(here: Stage) -> None:
    location = f"{here.settings.public_url}/instances/{here.my_id}/open?next=%2Flab"
    here.portal.answers[here.my_id] = Answer(401, [("X-Gate-Location", location)])
    answer = await here.instances("/lab", of=here.my_id, headers=PAGE)
    assert (answer.status, answer.get("Location")) == (303, location)


async def test_a_ticket_is_taken_at_the_instances_own_name_and_the_portal_is_told_which(here: Stage) -> None:
    forged: Headers = [("X-Gate-Instance", here.your_id)]
    await here.instances("/_launchpad/enter?ticket=x&next=/", of=here.my_id, headers=forged)
    [asked] = here.portal.pages()
    assert asked.target == "/gate/enter?ticket=x&next=/"
    assert asked.all("X-Gate-Instance") == [here.my_id]
    await here.instances("/enter?ticket=x", of=here.my_id)
    assert here.mine.requests[-1].target == "/enter?ticket=x", "a plain path is the application's"


async def test_neither_gate_nor_portal_can_be_asked_there(here: Stage) -> None:
    for target in ("/gate/authorize", "/_gate", "/api/v1/me"):
        here.portal.requests.clear()
        await here.instances(target, of=here.my_id)
        assert here.portal.pages() == []
    assert [request.target for request in here.mine.requests] == ["/gate/authorize", "/api/v1/me"]


async def test_redirects_stay_at_the_name_and_cookies_cannot_be_set_for_a_wider_one(here: Stage) -> None:
    name = f"{here.my_id}.lab.localhost:{here.instances_port}"

    for location, expected in (
        (f"http://{name}/x", "/x"),
        (f"https://{name}/x", "/x"),
        (f"http://{here.mine.address}/y?z", "/y?z"),
        ("/plain", "/plain"),
        ("https://elsewhere.example/", "https://elsewhere.example/"),
    ):

        async def redirects(exchange: object, location: str = location) -> None:
            cookies = [("Set-Cookie", "a=1; Path=/; Domain=lab.localhost"), ("Set-Cookie", "b=1; Path=/deep")]
            await exchange.respond(302, [("Location", location), *cookies])  # type: ignore[attr-defined]

        here.mine.handlers["/"] = redirects
        answer = await here.instances("/", of=here.my_id)
        assert answer.get("Location") == expected
        # An empty Domain counts as none (RFC 6265, 5.2.3): the cookie is this host's alone.
        assert answer.all("Set-Cookie") == ["a=1; Path=/; Domain=", "b=1; Path=/deep"]


async def test_g7_a_dead_portal_closes_it(here: Stage) -> None:
    await here.portal.close()
    try:
        answer = await here.instances("/", of=here.my_id, headers=PAGE)
        assert answer.status == 503
        assert here.mine.requests == []
    finally:
        await here.portal.listen(here.socket)
