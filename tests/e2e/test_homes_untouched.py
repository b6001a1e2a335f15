"""A launch changes nothing in a home: no owner, no mode, no time; nor in shared data."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import NamedTuple

import pytest

from support.live import StartPlatform, built_image, docker
from support.lookalikes import rocker

FOREIGN = 234_567  # an owner that is neither the platform's nor the image's


class Seen(NamedTuple):
    """What a backup looks at, and what a chown changes."""

    uid: int
    gid: int
    mode: int
    changed_ns: int


def seen(folder: Path) -> dict[str, Seen]:
    found = {}
    for path in sorted(folder.rglob("*")):
        state = path.lstat()
        found[str(path.relative_to(folder))] = Seen(state.st_uid, state.st_gid, state.st_mode, state.st_ctime_ns)
    return found


def fill(home: Path, uid: int) -> None:
    """Files of the owner's, a setgid folder for a group, something that was brought in by somebody else, links."""
    for folder, owner, group, mode in (
        ("project", uid, uid, 0o750),
        ("group", uid, FOREIGN, 0o2770),
        ("foreign", FOREIGN, FOREIGN, 0o755),
    ):
        (home / folder).mkdir()
        os.chown(home / folder, owner, group)
        (home / folder).chmod(mode)
        for name in ("a.csv", "run.sh"):
            path = home / folder / name
            path.write_text("1,2\n")
            os.chown(path, owner, group)
            path.chmod(0o4750 if name == "run.sh" else 0o640)
    (home / "project" / "link").symlink_to("/etc/passwd")
    os.lchown(home / "project" / "link", uid, uid)


@pytest.mark.parametrize("environment", ["rstudio", "rocker", "jupyterlab"])
async def test_nothing_in_a_home_is_changed_by_a_launch(start_platform: StartPlatform, environment: str) -> None:
    """Whoever has 200,000 files would wait for them, and the next backup would read them all."""
    image = await asyncio.to_thread(rocker if environment == "rocker" else lambda: built_image("rstudio-standin"))
    live = await start_platform({"environments": [{"name": "rstudio", "image": image}]})
    async with live.person("hal@example.org") as hal:
        name = "jupyterlab" if environment == "jupyterlab" else "rstudio"
        first = await hal.launch_and_wait(name)
        await hal.stop(first["id"])
        home = live.homes / "hal"
        uid = home.stat().st_uid
        fill(home, uid)
        before, of_home = seen(home), (home.stat().st_uid, home.stat().st_gid, home.stat().st_mode)

        instance = await hal.launch_and_wait(name)
        if name == "rstudio":
            container = live.container_of(instance["id"])["Id"]
            assert docker("exec", container, "id", "-u", "rstudio") == str(uid)
            assert docker("exec", container, "id", "-g", "rstudio") == str(uid)
            assert "staff" not in docker("exec", container, "id", "-Gn", "rstudio").split()
            assert docker("exec", container, "cat", "/proc/1/comm") != "sh", "the image's init is process 1"
            await (await hal.enter_rstudio(instance["id"])).run("1")  # which starts the session
            session = docker("exec", container, "ps", "-o", "uid=,args=", "-e")
            assert [line for line in session.splitlines() if line.split()[0] == str(uid)], session
        assert await still(home, before) == {}
        await hal.stop(instance["id"])
        assert await still(home, before) == {}
        assert (home.stat().st_uid, home.stat().st_gid, home.stat().st_mode) == of_home


async def still(home: Path, before: dict[str, Seen]) -> dict[str, object]:
    """What is no longer as it was, of files that were there; what the application writes anew is its own business."""
    after = await asyncio.to_thread(seen, home)
    named = {path: (state, after.get(path)) for path, state in before.items() if after.get(path) != state}
    return {path: states for path, states in named.items() if path.split("/")[0] in ("project", "group", "foreign")}
