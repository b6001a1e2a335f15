"""Two portals of one state directory: one owns the work, the other is a standby and takes over when the first dies."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import tempfile
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from itertools import starmap
from pathlib import Path
from time import monotonic

import httpx

from launchpad.control.client import SOCKET_NAME
from support.echo_environment import echo_environment
from support.live import LivePlatform, Person, StartPlatform, docker

PATIENCE_SECONDS = 120.0
PROMISED_SECONDS = 1.1


@asynccontextmanager
async def standby_of(live: LivePlatform) -> AsyncIterator[httpx.AsyncClient]:
    """A second portal, and a client of its own socket; it ends with the test."""
    short = tempfile.mkdtemp(prefix="lp-")  # a socket's path may have 107 characters
    path = Path(short) / "portal.sock"
    variables = {**live.variables, "LAUNCHPAD_WEB__SOCKET": str(path)}
    process = await live.serve(variables, live.folder / "standby.log")
    headers = {"Host": httpx.URL(live.public_url).netloc.decode(), "X-Forwarded-For": "127.0.0.1"}
    transport = httpx.AsyncHTTPTransport(uds=str(path))
    try:
        async with httpx.AsyncClient(
            transport=transport, base_url=live.public_url, headers=headers, timeout=60
        ) as http:
            deadline = monotonic() + PATIENCE_SECONDS
            while True:
                assert process.returncode is None, (live.folder / "standby.log").read_text()
                try:
                    if (await http.get("/healthz")).status_code == 200:
                        break
                except httpx.HTTPError:
                    assert monotonic() < deadline
                await asyncio.sleep(0.05)
            yield http
    finally:
        process.terminate()
        await process.wait()
        shutil.rmtree(short)


def owner(live: LivePlatform) -> int:
    """The process that owns the work, as it writes it down."""
    return int((live.state / "run" / "owner.lock").read_text())


async def test_k3_a_standby_takes_over_a_launch_whose_owner_is_killed(start_platform: StartPlatform) -> None:
    """It serves pages before, and does the work as soon as the owner has died: one container, one running instance."""
    live = await start_platform()
    assert live.portal is not None
    async with live.person("kira@example.org") as kira, standby_of(live) as http:
        first = live.portal.pid
        assert owner(live) == first
        http.cookies = kira.http.cookies
        assert (await http.get("/dashboard")).status_code == 200, "a standby serves pages"
        before = await kira.launch_and_wait("rstudio")
        instance = await kira.launch("jupyterlab")
        await asyncio.sleep(0.3)  # amid the launch, wherever that is
        live.portal.send_signal(signal.SIGKILL)
        await live.portal.wait()

        async def state(instance_id: str) -> str:
            return str((await http.get(f"/api/v1/instances/{instance_id}")).json()["state"])

        deadline = monotonic() + PATIENCE_SECONDS
        while await state(instance["id"]) != "running":
            assert monotonic() < deadline, (live.folder / "standby.log").read_text()[-4000:]
            await asyncio.sleep(0.1)
        assert owner(live) != first
        assert await state(before["id"]) == "running"
        names = docker("ps", "-aq", "--filter", f"label=org.launchpad.deployment={live.deployment_id}").split()
        assert len(names) == 2, "no second and no forgotten container"
        assert json.loads(live.command("sweep", "--json")) == [], "commands are answered by the new owner"

        await live.start_portal(wait=False)  # comes back, as a standby now
        await live.wait_until_ready()
        assert owner(live) != live.portal.pid
        assert "stopped" in await asyncio.to_thread(live.command, "instance", "stop", before["id"])


async def test_k3_what_a_standby_records_its_owner_carries_out(start_platform: StartPlatform) -> None:
    """A launch and a stop that come in at the standby; commands ask whoever owns the work."""
    live = await start_platform()
    assert live.portal is not None
    async with live.person("karl@example.org") as karl, standby_of(live) as http:
        http.cookies = karl.http.cookies
        http.headers["X-CSRF-Token"] = karl.http.headers["X-CSRF-Token"]
        answer = await http.post("/api/v1/instances", json={"environment": "jupyterlab"})
        assert answer.status_code == 202, answer.text
        instance = await karl.wait_for(answer.json()["id"], "running")
        assert len(live.containers()) == 1
        assert (await http.post(f"/api/v1/instances/{instance['id']}/stop")).status_code == 202
        await karl.wait_for(instance["id"], "stopped")
        assert live.containers() == []
        assert owner(live) == live.portal.pid
        assert (live.state / "run" / SOCKET_NAME).stat().st_uid == os.geteuid()


async def test_f10_more_people_than_places_by_two_portals(start_platform: StartPlatform) -> None:
    """As many run as there are places, at every moment; the rest queues, and is served as places become free."""
    places, people = 3, 10
    sizes = {"memory": ["1g"], "default_memory": "1g", "cpus": [1], "default_cpus": 1}
    live = await start_platform(
        {
            "environments": [echo_environment()],
            "limits": sizes,
            "capacity": {"memory": f"{places}g", "cpus": 64, "starts_at_once": 8},
        }
    )
    async with AsyncExitStack() as stack:
        standby = await stack.enter_async_context(standby_of(live))
        crowd = [await stack.enter_async_context(live.person(f"p{n}@example.org")) for n in range(people)]

        async def click(n: int, person: Person) -> str:
            if n % 2:
                return str((await person.launch("echo"))["id"])
            answer = await standby.post(
                "/api/v1/instances",
                json={"environment": "echo"},
                headers={"X-CSRF-Token": person.me["csrf_token"], "Cookie": cookie_header(person.http)},
            )
            assert answer.status_code == 202, answer.text
            return str(answer.json()["id"])

        waiting = dict(zip(await asyncio.gather(*starmap(click, enumerate(crowd))), crowd, strict=True))
        assert len(waiting) == people
        deadline = monotonic() + 120
        while waiting:
            states = {one: (await person.get(one))["state"] for one, person in waiting.items()}
            assert len(live.containers()) <= places
            assert sum(state in ("starting", "running", "stopping") for state in states.values()) <= places
            running = [one for one, state in states.items() if state == "running"]
            if len(running) == min(places, len(waiting)):  # nobody else may come in: let one go
                await waiting.pop(running[0]).stop(running[0])
            assert monotonic() < deadline, f"{states}\n{live.log()}"
            await asyncio.sleep(0.05)
        assert live.containers() == []


def cookie_header(http: httpx.AsyncClient) -> str:
    return "; ".join(f"{cookie.name}={cookie.value}" for cookie in http.cookies.jar)


async def test_s3_a_sign_out_at_another_portal_is_in_force_at_nginx_within_a_second(
    start_platform: StartPlatform,
) -> None:
    """nginx asks the owner, which hears of it by the feed, and keeps a yes for a part of the second only."""
    live = await start_platform()
    async with live.person("kurt@example.org") as kurt, standby_of(live) as http:
        instance = await kurt.launch_and_wait("rstudio")
        for _ in range(3):
            inside = kurt.instance_url(instance["id"], "/auth-public-key")
            deadline = monotonic() + PATIENCE_SECONDS
            await kurt.open(instance["id"])
            while (answer := await kurt.http.get(inside)).status_code != 200:  # a busy machine answers 502 for a moment
                assert monotonic() < deadline, f"{answer.status_code}\n{live.log()}"
                await asyncio.sleep(0.1)
            http.cookies = kurt.http.cookies
            http.headers["X-CSRF-Token"] = kurt.http.headers["X-CSRF-Token"]
            assert (await http.post("/api/v1/sign-out")).status_code == 204
            ended = monotonic()
            while (answer := await kurt.http.get(inside)).status_code != 401:
                # What was under way is cut, which nginx calls 502; that is closed, too.
                assert answer.status_code == 502 or monotonic() - ended < PROMISED_SECONDS
                assert answer.status_code in (200, 502)
                assert monotonic() - ended < PATIENCE_SECONDS
                await asyncio.sleep(0.02)
            await kurt.sign_in()
        await kurt.stop(instance["id"])
