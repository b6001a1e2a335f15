"""Long links and many cookies, the whole way: instance, sign-in, code, ticket, and back to the same address."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from urllib.parse import urljoin, urlsplit

import httpx
import pytest

from support.echo_environment import echo_environment
from support.live import BROWSER, MODES, LivePlatform, Person
from support.smtp import MailServer

KB = 1024
PAGE = {**BROWSER, "Sec-Fetch-Mode": "navigate"}
COOKIES = "; ".join(f"c{number:02}={'x' * 1018}" for number in range(32))


@pytest.fixture(scope="module", params=MODES)
async def live(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, mail: MailServer
) -> AsyncIterator[LivePlatform]:
    often = {"sends_per_hour_per_address": 1000, "sends_per_day_per_address": 1000}
    tables = {"environments": [echo_environment()], "sign_in": often}
    live = LivePlatform(tmp_path_factory.mktemp("long"), mail, tables, mode=request.param)
    await live.start()
    yield live
    await live.stop()


QUERIES = {
    "plain": "abcdefgh",
    "percent-encoded": "%C3%A4%20%2F",
    "signs that grow when encoded": "&a=/?:@",
    "what cannot be compressed": "".join(f"{number * 2654435761 % 2**32:08x}" for number in range(1, 2200)),
}


def link(person: Person, instance_id: str, query: str, size: int) -> str:
    start = person.instance_url(instance_id, "/x?q=")
    room = size - len(urlsplit(start).path) - len("?q=")
    text = query * (room // len(query) + 1)
    return start + re.sub(r"%.?$", "", text[:room])


async def follow(http: httpx.AsyncClient, url: str, **how: str) -> httpx.Response:
    """As a browser does, up to what is no redirect."""
    answer = await http.get(url, headers={**PAGE, **how})
    for _ in range(12):
        if answer.status_code not in (302, 303, 307):
            return answer
        answer = await http.get(urljoin(str(answer.url), answer.headers["location"]), headers={**PAGE, **how})
    raise AssertionError(f"round and round: {answer.headers['location'][:200]}")


@pytest.mark.parametrize("query", QUERIES.values(), ids=QUERIES.keys())
async def test_a_link_of_8_kb_survives_sign_in(live: LivePlatform, query: str) -> None:
    """Somebody follows a link, is asked who they are, and is at that very address afterwards."""
    async with live.person("lena@example.org") as lena:
        instance = await lena.launch_and_wait("echo")
        for size in (4 * KB, 8 * KB, 16 * KB):
            wanted = link(lena, instance["id"], query, size)
            async with live.client() as browser:
                answer = await follow(browser, wanted)
                assert answer.status_code == 200, answer.text[:300]
                assert answer.url.path == "/sign-in"
                form = {"email": lena.email, "next": hidden_next(answer)}
                seen = len(live.mail.mails_to(lena.email))
                own = {"Origin": live.public_url, **PAGE}
                answer = await browser.post("/sign-in", data=form, headers=own)
                assert answer.status_code == 303, answer.text[:300]
                answer = await follow(browser, urljoin(live.public_url, answer.headers["location"]))
                assert answer.url.path == "/sign-in/code", answer.text[:300]
                form = {"code": await live.mail.code_for(lena.email, seen=seen), "next": hidden_next(answer)}
                answer = await browser.post("/sign-in/code", data=form, headers=own)
                assert answer.status_code == 303, answer.text[:300]
                answer = await follow(browser, urljoin(live.public_url, answer.headers["location"]))
                assert answer.status_code == 200, answer.text[:300]
                root = lena.instance_url(instance["id"], "")
                assert root + answer.json()["path"] == wanted
                # Signed in, and without the instance's cookie, as in a browser that was closed.
                for cookie in [one for one in browser.cookies.jar if one.name.endswith("lp_instance")]:
                    browser.cookies.jar.clear(cookie.domain, cookie.path, cookie.name)
                answer = await follow(browser, wanted)
                assert root + answer.json()["path"] == wanted
        await lena.stop(instance["id"])


async def test_32_kb_of_cookies_go_the_whole_way(live: LivePlatform) -> None:
    """To the portal, through the gate, to the application; and a link is come back to with them."""
    async with live.person("mona@example.org") as mona:
        instance = await mona.launch_and_wait("echo")
        await mona.open(instance["id"])
        jar = {one.name: one.value for one in mona.http.cookies.jar}
        everything = "; ".join([*(f"{name}={value}" for name, value in jar.items()), COOKIES])
        async with httpx.AsyncClient(timeout=60, verify=False) as http:
            sent = {"Cookie": everything}
            me = await http.get(f"{live.public_url}/api/v1/me", headers=sent)
            assert (me.status_code, me.json().get("email")) == (200, mona.email)
            for _ in range(3):
                answer = await http.get(mona.instance_url(instance["id"], "/x"), headers=sent)
                assert answer.status_code == 200, answer.text[:300]
                assert answer.json()["cookie"] == COOKIES
            without = {"Cookie": "; ".join(f"{n}={v}" for n, v in jar.items() if "instance" not in n) + f"; {COOKIES}"}
            wanted = link(mona, instance["id"], "&a=/?:@", 8 * KB)
            answer = await http.get(wanted, headers={**PAGE, **without})
            for _ in range(3):
                assert answer.status_code == 303, answer.text[:300]
                there = urljoin(str(answer.url), answer.headers["location"])
                answer = await http.get(there, headers={**PAGE, **without})
            assert answer.headers["location"] == wanted
        await mona.stop(instance["id"])


async def test_a_link_that_cannot_be_come_back_to_says_so(live: LivePlatform) -> None:
    """Longer than what is kept through sign-in; with the instance's cookie it still works."""
    async with live.person("nina@example.org") as nina:
        instance = await nina.launch_and_wait("echo")
        wanted = link(nina, instance["id"], "abcdefgh", 24 * KB)
        answer = await nina.http.get(wanted, headers=PAGE)
        assert answer.status_code == 414
        assert "too long to sign in with" in answer.text
        await nina.open(instance["id"])
        answer = await nina.http.get(wanted, headers=PAGE)
        assert answer.status_code == 200
        assert wanted.endswith(answer.json()["path"])
        await nina.stop(instance["id"])


def hidden_next(answer: httpx.Response) -> str:
    found = re.search(r'name="next" value="([^"]*)"', answer.text)
    assert found, answer.text[:2000]
    return found[1].replace("&amp;", "&").replace("&#39;", "'").replace("&#34;", '"')
