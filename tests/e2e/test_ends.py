"""How instances end: stopped, expired, by themselves, out of memory."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from datetime import UTC, datetime, timedelta

from support.live import LivePlatform, docker


def _expire(live: LivePlatform, instance_id: str) -> None:
    """Turns the instance's clock forward, as a day of waiting would."""
    with sqlite3.connect(live.state / "launchpad.db", timeout=10) as db:
        past = (datetime.now(UTC) - timedelta(minutes=1)).replace(tzinfo=None)
        db.execute("UPDATE instances SET expires_at = ? WHERE id = ?", (past.isoformat(" "), instance_id))


async def test_sweep_ends_what_has_expired_and_nothing_else(shared_platform: LivePlatform) -> None:
    """One expired, one not: the sweep says what it did and why; a second sweep has nothing to do; the home stays."""
    live = shared_platform
    async with live.person("emil@example.org") as emil, live.person("fay@example.org") as fay:
        old, young = await asyncio.gather(emil.launch_and_wait("jupyterlab"), fay.launch_and_wait("jupyterlab"))
        docker("exec", live.container_of(old["id"])["Id"], "sh", "-c", "echo kept > /home/emil/kept.txt")
        _expire(live, old["id"])
        outcomes = json.loads(live.command("sweep", "--json"))
        assert [(one["instance"], one["action"]) for one in outcomes] == [(old["id"], "expired")]
        assert "expired on" in outcomes[0]["reason"]
        ended = await emil.get(old["id"])
        assert (ended["state"], ended["url"]) == ("expired", None)
        assert "expired on" in ended["reason"]
        assert json.loads(live.command("sweep", "--json")) == []
        assert (await fay.get(young["id"]))["state"] == "running"
        assert (live.homes / "emil" / "kept.txt").read_text() == "kept\n"
        await fay.stop(young["id"])


async def test_f3_a_container_that_dies_is_recorded_with_its_reason(shared_platform: LivePlatform) -> None:
    """Killed from outside: the true state within seconds, the home intact, a relaunch works."""
    async with shared_platform.person("gus@example.org") as gus:
        instance = await gus.launch_and_wait("jupyterlab")
        docker("kill", shared_platform.container_of(instance["id"])["Id"])
        ended = await _ended(gus, instance["id"])
        assert ended["state"] == "failed"
        assert "killed from outside the platform" in ended["reason"]
        assert "memory" not in ended["reason"]
        log = await gus.http.get(f"/api/v1/instances/{instance['id']}/log")
        assert "Jupyter Server" in log.text, "its last words are kept"
        again = await gus.launch_and_wait("jupyterlab")
        await gus.stop(again["id"])


async def test_f3_a_container_that_is_removed_outside_suggests_no_memory_and_stands_in_the_audit(
    shared_platform: LivePlatform,
) -> None:
    async with shared_platform.person("ivy@example.org") as ivy:
        instance = await ivy.launch_and_wait("jupyterlab")
        docker("rm", "-f", shared_platform.container_of(instance["id"])["Id"])
        ended = await _ended(ivy, instance["id"])
        assert "outside the platform" in ended["reason"]
        assert "memory" not in ended["reason"]
        records = json.loads(shared_platform.command("audit", "--search", instance["id"], "--json"))
        (record,) = [one for one in records if one["action"] == "instance.failed"]
        assert record["actor"] == "system"
        assert "outside the platform" in record["details"]["reason"]
        assert record["details"]["owner"] == "ivy@example.org"


async def test_f3_out_of_memory_says_so(shared_platform: LivePlatform) -> None:
    async with shared_platform.person("hal@example.org") as hal:
        instance = await hal.launch_and_wait("jupyterlab", memory="1g")
        container = shared_platform.container_of(instance["id"])["Id"]
        hog = "import os\nos.setpriority(os.PRIO_PROCESS,0,0)\nb=[]\nwhile True: b.append(bytearray(10**7))"
        await (await asyncio.create_subprocess_exec("docker", "exec", container, "python3", "-c", hog)).wait()
        # The kernel chose the hog; the application lives on, or the instance ended and says why.
        now = await hal.get(instance["id"])
        if now["state"] != "running":
            assert "out of memory at 1 GB" in (await _ended(hal, instance["id"]))["reason"]
        else:
            while not (notices := (await hal.get(instance["id"]))["notices"]):
                await asyncio.sleep(0.2)
            assert "needed more than its 1 GB of memory" in notices[0]
            ended = await hal.stop(instance["id"])
            assert "ran out of memory at 1 GB" in ended["reason"], "the first cause is not lost behind the last"


async def _ended(person: object, instance_id: str) -> dict[str, str]:
    for _ in range(300):
        instance = await person.get(instance_id)  # type: ignore[attr-defined]
        if instance["state"] in ("failed", "stopped", "expired"):
            return dict(instance)
        await asyncio.sleep(0.1)
    raise AssertionError("it did not end")
