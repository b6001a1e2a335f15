"""The portal dies; nobody's work does."""

from __future__ import annotations

import asyncio

from support.live import StartPlatform, docker


async def test_f1_killed_portal_loses_nothing(start_platform: StartPlatform) -> None:
    """Three instances run and one is starting: they keep running, and after the restart all four are true."""
    live = await start_platform({"limits": {"instances_per_user": 4, "instances_per_environment": 4}})
    async with live.person("carla@example.org") as carla:
        running = await asyncio.gather(
            carla.launch_and_wait("jupyterlab"),
            carla.launch_and_wait("rstudio"),
            carla.launch_and_wait("rstudio"),
        )
        started_at = {one["id"]: live.container_of(one["id"])["State"]["StartedAt"] for one in running}
        fourth = await carla.launch("jupyterlab")
        await asyncio.sleep(0.3)  # amid the launch, wherever that is
        await live.kill_portal()

        names = docker("ps", "-q", "--no-trunc", "--filter", f"network={live.network}").split()
        assert {live.container_of(one["id"])["Id"] for one in running} <= set(names)

        await live.start_portal()
        for one in running:
            instance = await carla.get(one["id"])
            assert instance["state"] == "running"
            assert live.container_of(one["id"])["State"]["StartedAt"] == started_at[one["id"]]
            page = await carla.open(one["id"])
            assert page.status_code == 200, page.text
        await carla.wait_for(fourth["id"], "running")
        assert (await carla.open(fourth["id"])).status_code == 200
        assert len(live.containers()) == 4, "no second and no forgotten container"


async def test_f15_instances_answer_again_after_the_portal_is_back(start_platform: StartPlatform) -> None:
    """While the portal is down instances fail closed; the kernels behind them live on."""
    live = await start_platform()
    async with live.person("dora@example.org") as dora:
        instance = await dora.launch_and_wait("jupyterlab")
        await dora.open(instance["id"])
        contents = dora.instance_url(instance["id"], "/api/contents")
        assert (await dora.http.get(contents)).status_code == 200
        await live.kill_portal()
        await asyncio.sleep(1.1)  # the gate's last answer holds until the end of its second
        down = await dora.http.get(contents)
        assert down.status_code >= 500
        assert "content" not in down.headers.get("content-type", "")
        assert '"writable"' not in down.text, "nothing of the instance gets through"
        await live.start_portal()
        assert (await dora.http.get(contents)).status_code == 200
