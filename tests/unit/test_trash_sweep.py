"""The Trash empties itself, also of those who never look."""

from __future__ import annotations

import os
from datetime import timedelta
from pathlib import Path

import pytest

from launchpad.domain.instances import State
from launchpad.errors import HomeUnavailable
from launchpad.services.trash_sweep import TrashSweep
from support.platforms import World, launch, reaches, sign_in

pytestmark = [pytest.mark.root]  # files are their owners'


async def test_what_is_too_old_goes_and_one_home_holds_up_no_other(tmp_path: Path) -> None:
    world = World(tmp_path)
    platform = await world.open()
    try:
        for name in ("anna", "bert", "carl", "dora"):
            user, _ = await sign_in(platform, f"{name}@example.org")
            if name == "carl":  # has no home yet
                continue
            await reaches(platform, (await launch(platform, user)).id, State.RUNNING)
            for file, days in (("old", 31), ("new", 29)):
                path = world.homes_root / name / file
                path.write_bytes(b"x")
                os.chown(path, user.uid, user.uid)
                await platform.files.put_into_trash(user, file, platform.now() - timedelta(days=days))
        os.chown(world.homes_root / "bert", 0, 0)
        sweep = TrashSweep(platform.database, platform.files)
        assert await sweep.run(platform.now()) == 2
        kept = {name: os.listdir(world.homes_root / name / ".local/share/Trash/files") for name in ("anna", "dora")}
        assert kept == {"anna": ["new"], "dora": ["new"]}
        assert sorted(os.listdir(world.homes_root / "bert/.local/share/Trash/files")) == ["new", "old"]
    finally:
        await world.close()


async def test_where_no_home_can_be_reached_it_is_tried_again(tmp_path: Path) -> None:
    world = World(tmp_path)
    platform = await world.open()
    try:
        user, _ = await sign_in(platform, "anna@example.org")
        await reaches(platform, (await launch(platform, user)).id, State.RUNNING)
        os.chown(world.homes_root / "anna", 0, 0)
        with pytest.raises(HomeUnavailable):
            await TrashSweep(platform.database, platform.files).run(platform.now())
    finally:
        await world.close()
