"""A world, its platform and a user: what most tests of services begin with. A file that needs others makes its own."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from launchpad.domain.users import User
from launchpad.platform import Platform
from support.platforms import World, sign_in


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    world = World(tmp_path)
    yield world
    await world.close()


@pytest.fixture
async def platform(world: World) -> Platform:
    return await world.open()


@pytest.fixture
async def alice(world: World, platform: Platform) -> User:
    return (await sign_in(platform, "alice@a.org"))[0]
