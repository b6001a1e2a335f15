"""F16 on real parts: a backup of a working platform, brought back by the command, with containers that ran on."""

from __future__ import annotations

import asyncio
from pathlib import Path

import httpx
import pyrage

from support.firewalls import our_rules
from support.live import LivePlatform, StartPlatform, docker

KEY = pyrage.x25519.Identity.generate()


def _tables(tmp_path: Path) -> dict[str, dict[str, object]]:
    return {"backup": {"folder": str(tmp_path / "backups"), "recipients": [str(KEY.to_public())]}}


def _identity(tmp_path: Path) -> str:
    path = tmp_path / "identity.txt"
    path.write_text(f"# made by age-keygen\n{KEY}\n")
    return str(path)


def _there(live: LivePlatform, instance_id: str) -> bool:
    return bool(docker("ps", "-q", "--filter", f"label=org.launchpad.instance={instance_id}"))


async def test_f16_restored_containers_are_found_by_label_and_nobody_is_signed_in(
    start_platform: StartPlatform, tmp_path: Path
) -> None:
    """One instance from before the backup, which runs on; one from after it, which nobody could reach, and ends."""
    live = await start_platform(_tables(tmp_path))
    async with live.person("ines@example.org") as ines, live.person("juri@example.org") as juri:
        before = await ines.launch_and_wait("jupyterlab")
        made = (await asyncio.to_thread(live.command, "backup")).split("\n")[0]
        after = await juri.launch_and_wait("jupyterlab")
        refused = await asyncio.to_thread(live.command, "restore", made, ok=False)
        assert "is using this state directory" in refused

        assert live.portal is not None
        live.portal.terminate()
        await live.portal.wait()
        said = await asyncio.to_thread(live.command, "restore", made, "--identity", _identity(tmp_path))
        assert "Restored 2 users" in said
        assert f"Instance {after['id']}: ended" in said
        assert not _there(live, after["id"])
        assert _there(live, before["id"])
        await live.start_portal()

        assert (await ines.http.get("/api/v1/me")).status_code == 401, "old logins are revoked"
        await ines.sign_in()
        assert (await ines.get(before["id"]))["state"] == "running"
        assert (await ines.open(before["id"])).status_code == 200, "its keys came back, so its token still fits"
        assert (live.state / "launchpad.toml.restored").exists() is False, "these settings came from variables"
        await ines.stop(before["id"])


async def test_f16_on_another_server_it_becomes_the_same_deployment(
    start_platform: StartPlatform, tmp_path: Path
) -> None:
    old = await start_platform(_tables(tmp_path))
    async with old.person("kai@example.org") as kai:
        instance = await kai.launch_and_wait("jupyterlab")
    made = (await asyncio.to_thread(old.command, "backup")).split("\n")[0]
    new = await start_platform()
    async with new.person("lea@example.org") as lea:
        hers = await lea.launch_and_wait("jupyterlab")
        assert new.portal is not None
        new.portal.terminate()
        await new.portal.wait()
        identity = ("--identity", _identity(tmp_path))
        refused = await asyncio.to_thread(new.command, "restore", made, *identity, ok=False)
        assert f"stop them first: {hers['id']}" in refused
        await asyncio.to_thread(new.command, "instance", "stop", hers["id"])
        its_first_id = new.deployment_id
        assert any(our_rules(its_first_id).values())
    # The old server is no more, with all that ran on it.
    docker("rm", "-f", old.container_of(instance["id"])["Id"])
    said = await asyncio.to_thread(new.command, "restore", made, *identity)
    assert new.deployment_id == old.deployment_id
    assert f"Instance {instance['id']}: recorded as failed" in said
    assert not any(our_rules(its_first_id).values()), "the rules of the deployment that this was are gone"
    await new.start_portal(wait=False)


async def test_a_rehearsal_by_hand_and_the_drill_change_nothing(start_platform: StartPlatform, tmp_path: Path) -> None:
    live = await start_platform(_tables(tmp_path))
    async with live.person("mona@example.org") as mona:
        made = (await asyncio.to_thread(live.command, "backup")).split("\n")[0]
        identity = ("--identity", _identity(tmp_path))
        assert "can be restored: 1 users" in await asyncio.to_thread(
            live.command, "restore", made, "--check", *identity
        )
        assert "1 users" in await asyncio.to_thread(live.command, "drill")
        (mail,) = live.mail.mails_to("admin@example.org")[-1:]
        assert "drill passed" in str(mail["Subject"])
        assert "Notified admin@example.org" in await asyncio.to_thread(live.command, "report-failure", "some.service")
        assert "some.service failed" in str(live.mail.mails_to("admin@example.org")[-1]["Subject"])
        answer: httpx.Response = await mona.http.get("/api/v1/me")
        assert answer.status_code == 200
        Path(made).unlink()
        assert "no backup" in await asyncio.to_thread(live.command, "drill", ok=False)
