"""What instances write outside their homes: who is told, who is stopped, and what doctor says of it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from launchpad.domain.ends import notices_of
from launchpad.domain.instances import Instance, State
from launchpad.ops.doctor.layers import layers
from launchpad.platform import Platform
from launchpad.runtime.base import HostFacts
from launchpad.runtime.engine_spec import host_of
from launchpad.settings import EngineSettings
from support.platforms import World, launch, reaches, sign_in

GB = 1024**3


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    world = World(tmp_path, {"engine": {"layer_limit": "10g"}})
    yield world
    await world.close()


async def running(world: World) -> tuple[Platform, Instance]:
    platform = await world.open()
    anna, _ = await sign_in(platform, "anna@example.org")
    instance = await reaches(platform, (await launch(platform, anna)).id, State.RUNNING)
    await platform.mail.drain()
    world.letters.sent.clear()
    return platform, instance


async def looked(world: World, platform: Platform, instance: Instance, written: int) -> tuple[Instance, int]:
    """The instance after a look, and how many mails it brought."""
    world.runtime.written[instance.id] = written
    await platform.layers.look(world.clock.now)
    await platform.runner.wait()
    await platform.mail.drain()
    sent = len(world.letters.sent)
    return await platform.instances.get_any(instance.id), sent


async def test_an_owner_is_told_once_until_there_is_room_again(world: World) -> None:
    platform, instance = await running(world)
    there, sent = await looked(world, platform, instance, 9 * GB)
    assert (there.written_bytes, sent, notices_of(there)) == (None, 0, ())
    there, sent = await looked(world, platform, instance, 11 * GB)
    assert (there.written_bytes, sent) == (11 * GB, 1)
    (told,) = notices_of(there)
    assert "it has written 11 GB outside the home folder" in told
    letter = world.letters.sent[0]
    assert letter["To"] == "anna@example.org"
    text = " ".join(letter.get_body(("plain",)).get_content().split())  # type: ignore[union-attr]
    assert "at most 10 GB may be there. It fills the server's disk" in text
    for written, kept in ((12, 12), (9, 9)):
        there, sent = await looked(world, platform, instance, written * GB)
        assert (there.state, sent) == (State.RUNNING, 1)
        assert there.written_bytes in (11 * GB, kept * GB)
    there, sent = await looked(world, platform, instance, 7 * GB)
    assert (there.written_bytes, sent, notices_of(there)) == (None, 1, ())
    there, sent = await looked(world, platform, instance, 10 * GB)
    assert (there.written_bytes, sent) == (10 * GB, 2)
    action = world.rows("SELECT count(*) FROM audit WHERE action = 'instance.layer_warned'")
    assert action == [(2,)]


async def test_where_it_is_so_set_what_stays_over_is_stopped(tmp_path: Path) -> None:
    world = World(tmp_path, {"engine": {"layer_limit": "10g", "layer_action": "stop"}})
    try:
        platform, instance = await running(world)
        there, sent = await looked(world, platform, instance, 11 * GB)
        assert (there.state, sent) == (State.RUNNING, 1)
        text = " ".join(world.letters.sent[0].get_body(("plain",)).get_content().split())  # type: ignore[union-attr]
        assert "If it still holds more than 10 GB in ten minutes, JupyterLab is stopped." in text
        there, sent = await looked(world, platform, instance, 12 * GB)
        assert (there.state, sent) == (State.STOPPED, 1)
        assert "it had written 12 GB outside your home folder, where at most 10 GB may be" in (there.reason or "")
    finally:
        await world.close()


def host(driver: str, below: str = "") -> HostFacts:
    status = [["Backing Filesystem", below]] if below else []
    info = {"NCPU": 1, "MemTotal": 1, "ServerVersion": "20.10", "Driver": driver, "DriverStatus": status}
    return replace(host_of(info), root_dir="/var/lib/docker")


@pytest.mark.parametrize(
    ("facts", "mounts", "limited"),
    [
        (host("btrfs"), "", True),
        (host("zfs"), "", True),
        (host("overlay2", "xfs"), "/dev/a / ext4 rw 0 0\n/dev/b /var/lib/docker xfs rw,prjquota 0 0", True),
        (host("overlay2", "xfs"), "/dev/b / xfs rw,pquota 0 0", True),
        (host("overlay2", "xfs"), "/dev/a / xfs rw,prjquota 0 0\n/dev/b /var/lib xfs rw,noquota 0 0", False),
        (host("overlay2", "extfs"), "/dev/a / ext4 rw,prjquota 0 0", False),
        (host("overlayfs"), "", False),
        (host(""), "", False),
    ],
)
def test_doctor_says_which_it_is(tmp_path: Path, facts: HostFacts, mounts: str, limited: bool) -> None:
    (tmp_path / "mounts").write_text(mounts)
    (finding,) = layers("layers", EngineSettings(), facts, tmp_path / "mounts")
    assert ("The engine limits" in finding.text) is limited
    assert ("checked every ten minutes: above 20 GB, its owner is warned." in finding.text) is not limited
    (finding,) = layers("layers", EngineSettings(layer_action="stop"), facts, tmp_path / "none")
    assert "20 GB" in finding.text
