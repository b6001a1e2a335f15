"""Two people at once never see each other's files, instances or ports."""

from __future__ import annotations

import asyncio

import httpx

from support.live import BROWSER, LivePlatform, docker


async def test_two_people_are_apart(shared_platform: LivePlatform) -> None:
    """Neither the API, nor the gate, nor the network, nor the disk lets one reach the other."""
    live = shared_platform
    async with live.person("anna@example.org") as anna, live.person("ben@example.org") as ben:
        hers, his = await asyncio.gather(anna.launch_and_wait("jupyterlab"), ben.launch_and_wait("jupyterlab"))
        await anna.open(hers["id"])
        await ben.open(his["id"])

        # Lists and calls: somebody else's instance does not exist.
        assert [one["id"] for one in (await anna.http.get("/api/v1/instances")).json()] == [hers["id"]]
        for method, path in (("GET", ""), ("POST", "/stop"), ("GET", "/open"), ("DELETE", ""), ("GET", "/events")):
            answer = await anna.http.request(method, f"/api/v1/instances/{his['id']}{path}")
            assert answer.status_code == 404, (method, path, answer.text)

        # The gate: her cookie opens hers and not his.
        mine = await anna.http.get(anna.instance_url(hers["id"], "/api/contents"))
        assert mine.status_code == 200, mine.text
        cookie = next(one for one in anna.http.cookies.jar if one.name == "lp_instance")
        async with httpx.AsyncClient(timeout=60) as stranger:
            theirs = await stranger.get(
                anna.instance_url(his["id"], "/api/contents"), headers={"Cookie": f"lp_instance={cookie.value}"}
            )
        assert theirs.status_code == 401

        # The network: from her container neither his container nor any published port answers; her own does.
        mine_inside, his_inside = live.container_of(hers["id"]), live.container_of(his["id"])
        his_address = his_inside["NetworkSettings"]["Networks"][live.network]["IPAddress"]
        his_port = his_inside["NetworkSettings"]["Ports"]["8888/tcp"][0]["HostPort"]
        gateway = mine_inside["NetworkSettings"]["Networks"][live.network]["Gateway"]
        probe = (
            "import socket,sys\n"
            "s=socket.socket(); s.settimeout(2)\n"
            "sys.exit(0 if s.connect_ex((sys.argv[1], int(sys.argv[2]))) == 0 else 7)"
        )
        reachable = [
            await _exit_code(mine_inside["Id"], "python3", "-c", probe, *target)
            for target in ((his_address, "8888"), (gateway, his_port), ("127.0.0.1", "8888"))
        ]
        assert reachable == [7, 7, 0]

        # The disk: each sees its own home, owned by its own uid, closed to others.
        assert (live.homes / "anna").stat().st_uid != (live.homes / "ben").stat().st_uid
        assert (live.homes / "anna").stat().st_mode & 0o077 == 0
        docker("exec", mine_inside["Id"], "sh", "-c", "echo hers > /home/anna/note.txt")
        assert (live.homes / "anna" / "note.txt").stat().st_uid == (live.homes / "anna").stat().st_uid
        seen = docker("exec", his_inside["Id"], "sh", "-c", "ls /home; ls -A /home/ben")
        assert "anna" not in seen
        assert "note.txt" not in seen

        # The ports are different and on loopback only.
        bindings = [inside["NetworkSettings"]["Ports"]["8888/tcp"] for inside in (mine_inside, his_inside)]
        assert bindings[0][0]["HostPort"] != bindings[1][0]["HostPort"]
        assert all(binding["HostIp"] == "127.0.0.1" for both in bindings for binding in both)

        await asyncio.gather(anna.stop(hers["id"]), ben.stop(his["id"]))
        gone = await anna.http.get(anna.instance_url(hers["id"], "/lab"), headers=BROWSER)
        assert gone.status_code == 404


async def _exit_code(container: str, *command: str) -> int:
    process = await asyncio.create_subprocess_exec("docker", "exec", container, *command)
    return await process.wait()
