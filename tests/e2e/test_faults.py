"""Faults that only real parts can show: the portal killed amid its work, a locked database, two hundred clicks."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from collections.abc import AsyncIterator, Iterator
from time import monotonic

import pytest

from support.echo_environment import echo_environment
from support.live import LivePlatform, built_image, docker
from support.smtp import MailServer

RESTARTED_SECONDS = 60  # what F1 allows, after the restart
STAGES = ("preparing your files", "checking the image", "creating the container", "starting the application")
STATES = ("stopping",)


@pytest.fixture(scope="module")
async def live(tmp_path_factory: pytest.TempPathFactory, mail: MailServer) -> AsyncIterator[LivePlatform]:
    live = LivePlatform(tmp_path_factory.mktemp("faults"), mail, {"environments": [echo_environment()]})
    await live.start()
    yield live
    await live.stop()


@contextlib.contextmanager
def store_of(live: LivePlatform) -> Iterator[sqlite3.Connection]:
    db = sqlite3.connect(live.state / "launchpad.db", timeout=60, isolation_level=None)
    try:
        yield db
    finally:
        db.close()


async def reaches(live: LivePlatform, instance_id: str, step: str) -> str:
    """Waits for a step of a launch, as the store records it, or one after it; which one it was."""
    order = [*STAGES, "ready"]
    later = order[order.index(step) :] if step in order else [step]
    with store_of(live) as db:
        deadline = monotonic() + 60
        while True:
            state, stage = db.execute("SELECT state, stage FROM instances WHERE id = ?", (instance_id,)).fetchone()
            if stage in later or state in later:
                return str(stage)
            assert monotonic() < deadline, f"still {state}, {stage}\n{live.log()}"
            await asyncio.sleep(0.002)


@pytest.mark.parametrize("step", [*STAGES, *STATES])
async def test_f1_a_portal_that_is_killed_at_any_step_loses_nothing(live: LivePlatform, step: str) -> None:
    """After the restart the instance runs or has ended with a reason, with one container or none, and a retry works."""
    async with live.person(f"{step.replace(' ', '-')}@example.org") as person:
        if step in STATES:
            instance = await person.launch_and_wait("echo")
            assert (await person.http.post(f"/api/v1/instances/{instance['id']}/stop")).status_code == 202
        else:
            instance = await person.launch("echo")
        await reaches(live, instance["id"], step)
        await live.kill_portal()
        began = monotonic()
        await live.start_portal()
        wanted = ("stopped",) if step in STATES else ("running", "failed")
        found = await person.wait_for(instance["id"], *wanted, patience_seconds=RESTARTED_SECONDS)
        assert monotonic() - began < RESTARTED_SECONDS
        runs = found["state"] == "running"
        mine = docker("ps", "-aq", "--filter", f"label=org.launchpad.instance={instance['id']}").split()
        assert len(mine) == (1 if runs else 0)
        on_network = docker("ps", "-aq", "--filter", f"network={live.network}").split()
        assert sorted(on_network) == sorted(live.containers()), "none without a label"
        if runs:
            assert (await person.open(instance["id"])).status_code == 200
            await person.stop(instance["id"])
        else:
            assert found["reason"]
        again = await person.launch_and_wait("echo")
        assert (await person.open(again["id"])).status_code == 200
        await person.stop(again["id"])


async def test_f7_a_locked_database_is_waited_for_and_then_told(live: LivePlatform) -> None:
    """What only reads goes on, what changes waits and answers 503 at last; then everything works by itself."""
    async with live.person("lara@example.org") as lara:
        with store_of(live) as db:
            db.execute("BEGIN IMMEDIATE")
            change = asyncio.ensure_future(lara.http.post("/api/v1/instances", json={"environment": "echo"}))
            began = monotonic()
            while monotonic() - began < 10:
                assert (await lara.http.get("/api/v1/instances")).status_code == 200
                page = await lara.http.get("/", follow_redirects=True, headers={"Accept": "text/html"})
                assert page.status_code == 200
                await asyncio.sleep(0.5)
            refused = await change
            db.execute("ROLLBACK")
        assert refused.status_code == 503, refused.text
        assert "locked" not in refused.text.lower()
        assert refused.json()["title"]
        assert (await lara.http.get("/api/v1/instances?all=true")).json() == [], "no half row"
        instance = await lara.launch_and_wait("echo")
        await lara.stop(instance["id"])


async def test_f9_two_hundred_clicks_of_one_person_are_one_instance(live: LivePlatform) -> None:
    async with live.person("nils@example.org") as nils:
        answers = await asyncio.gather(
            *(nils.http.post("/api/v1/instances", json={"environment": "echo"}) for _ in range(200))
        )
        assert {answer.status_code for answer in answers} <= {202, 409, 429}
        assert len({answer.json()["id"] for answer in answers if answer.status_code == 202}) == 1
        (instance,) = (await nils.http.get("/api/v1/instances?all=true")).json()
        await nils.wait_for(instance["id"], "running")
        assert len(live.containers()) == 1
        await nils.stop(instance["id"])
        assert live.containers() == []


async def test_f14_sweeps_that_die_or_run_together_end_everything_once(live: LivePlatform) -> None:
    """Without a portal, as the timer runs them: nothing that has not expired and nobody else's container is touched."""
    image = built_image("jupyterlab")
    stranger = docker("run", "-d", "--entrypoint", "sleep", image, "600")
    try:
        async with live.person("petra@example.org") as petra, live.person("quinn@example.org") as quinn:
            due, other = await petra.launch_and_wait("echo"), await quinn.launch_and_wait("echo")
            await live.kill_portal()
            with store_of(live) as db:
                sql = "UPDATE instances SET expires_at = created_at WHERE id = ?"
                db.execute(sql, (due["id"],))
            command = (*live.program.command, "sweep", "--json")
            dies = await asyncio.create_subprocess_exec(*command, env=live.variables)
            await reaches(live, due["id"], "stopping")
            dies.kill()
            await dies.wait()
            two = [await asyncio.create_subprocess_exec(*command, env=live.variables) for _ in range(2)]
            assert [await one.wait() for one in two] == [0, 0]
            with store_of(live) as db:
                rows = dict(db.execute("SELECT id, state FROM instances WHERE id IN (?, ?)", (due["id"], other["id"])))
                sql = "SELECT count(*) FROM audit WHERE action = 'instance.expired' AND subject LIKE ?"
                (ends,) = db.execute(sql, (f"%{due['id']}%",)).fetchone()
            assert rows == {due["id"]: "expired", other["id"]: "running"}
            assert ends == 1
            assert live.containers() == [docker("ps", "-q", "--filter", f"label=org.launchpad.instance={other['id']}")]
            assert docker("inspect", "-f", "{{.State.Running}}", stranger) == "true"
            await live.start_portal()
            assert (await quinn.open(other["id"])).status_code == 200
            await quinn.stop(other["id"])
    finally:
        docker("rm", "-f", stranger)
