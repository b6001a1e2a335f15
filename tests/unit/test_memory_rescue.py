"""More memory for a running instance, and who is told that it runs short; over a fake engine."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from launchpad.domain.ends import memory_notice
from launchpad.domain.instances import Instance, State
from launchpad.domain.memory import MemoryDeath
from launchpad.domain.users import User, UserStatus
from launchpad.errors import (
    Conflict,
    EngineRefused,
    EngineUnavailable,
    Forbidden,
    InvalidInput,
    NotFound,
    QuotaExceeded,
)
from launchpad.platform import Platform
from launchpad.runtime.base import Caps
from launchpad.services.users import UserChange
from support.databases import on_every_database
from support.platforms import ACTOR, World, launch, reaches, sign_in, until

GB = 1024**3
SETTINGS: dict[str, Any] = {
    "capacity": {"cpus": 16, "memory": "8g"},
    "limits": {"memory": ["1g", "2g", "4g", "6g", "8g"], "default_memory": "1g", "instances_per_environment": 4},
}


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    world = World(tmp_path, SETTINGS)
    yield world
    await world.close()


async def running(platform: Platform, owner: User, gigabytes: int = 1, **size: Any) -> Instance:
    launched = await launch(platform, owner, memory_bytes=gigabytes * GB, **size)
    return await reaches(platform, launched.id, State.RUNNING)


async def given(world: World, platform: Platform, instance: Instance, gigabytes: int, owner: User | None) -> Instance:
    return await platform.rescue.give(instance.id, gigabytes * GB, ACTOR, world.clock(), owner=owner)


async def cap(world: World, instance: Instance) -> int | None:
    caps = await world.runtime.caps(instance.id)
    return caps.memory_bytes if caps else None


async def test_it_is_in_force_at_once_counts_at_once_and_is_recorded(
    world: World, platform: Platform, alice: User
) -> None:
    instance = await running(platform, alice)
    there = await given(world, platform, instance, 4, alice)
    assert (there.state, there.limits.memory_bytes, there.launched_memory_bytes) == (State.RUNNING, 4 * GB, GB)
    assert await cap(world, instance) == 4 * GB
    assert (await platform.offers.use()).reserved.memory_bytes == 4 * GB
    ((actor, details),) = world.rows("SELECT actor, details FROM audit WHERE action = 'instance.memory_raised'")
    assert actor == ACTOR.name
    assert "1 GB \\u2192 4 GB" in details


async def test_the_next_launch_has_its_own_size_again(world: World, platform: Platform, alice: User) -> None:
    """Given twice, the first size is what counts; the record of the end says so, too."""
    instance = await running(platform, alice)
    await given(world, platform, instance, 2, alice)
    await given(world, platform, instance, 4, alice)
    await platform.instances.stop(instance.id, alice, ACTOR, world.clock())
    ended = await reaches(platform, instance.id, State.STOPPED)
    (recorded,) = await platform.instances.ended(alice)
    for one in (ended, recorded):
        assert (one.limits.memory_bytes, one.launch_limits.memory_bytes) == (4 * GB, GB)


async def test_what_had_run_out_before_is_told_with_the_size_of_then(
    world: World, platform: Platform, alice: User
) -> None:
    instance = await running(platform, alice)
    world.runtime.deaths[instance.id] = (MemoryDeath("STAR", int(0.9 * GB), world.clock()),)
    await platform.memory.tend(world.clock())
    there = await given(world, platform, instance, 4, alice)
    told = str(memory_notice(there))
    assert "needed more than its 1 GB of memory" in told
    assert "(STAR, 0.9 of 1 GB)" in told
    await platform.instances.stop(instance.id, alice, ACTOR, world.clock())
    ended = await reaches(platform, instance.id, State.STOPPED)
    assert "a program in it ran out of memory at 1 GB (STAR, 0.9 of 1 GB, on " in str(ended.reason)


async def test_only_sizes_that_are_offered_and_larger(world: World, platform: Platform, alice: User) -> None:
    instance = await running(platform, alice, 2)
    for gigabytes in (1, 2, 3):
        with pytest.raises(InvalidInput) as refused:
            await given(world, platform, instance, gigabytes, alice)
        assert refused.value.fields["memory"].startswith("it has 2 GB and can be given 4 GB, 6 GB, 8 GB")
    assert await cap(world, instance) == 2 * GB


async def test_only_what_runs_and_is_ones_own(world: World, platform: Platform, alice: User) -> None:
    instance = await running(platform, alice)
    bob = (await sign_in(platform, "bob@a.org"))[0]
    with pytest.raises(NotFound):
        await given(world, platform, instance, 2, bob)
    assert await platform.freezing.freeze(instance.id, world.clock(), "by its owner")
    with pytest.raises(Conflict, match="thaw it first"):
        await given(world, platform, instance, 2, alice)
    await platform.freezing.thaw(instance.id, world.clock())
    await platform.users.change(alice.id, UserChange(status=UserStatus.SUSPENDED), ACTOR, world.clock())
    with pytest.raises((Forbidden, Conflict)):
        await given(world, platform, instance, 2, alice)


async def test_a_quota_counts_all_that_its_owner_has(world: World, platform: Platform, alice: User) -> None:
    instance, _ = await running(platform, alice), await running(platform, alice, 2)
    quota = UserChange(quota=alice.quota.__class__(memory_bytes=5 * GB))
    await platform.users.change(alice.id, quota, ACTOR, world.clock())
    with pytest.raises(QuotaExceeded, match="Your quota is 5 GB, of which 3 GB are left"):
        await given(world, platform, instance, 4, alice)
    assert (await given(world, platform, instance, 2, alice)).limits.memory_bytes == 2 * GB


async def test_what_the_server_does_not_have_is_refused_with_what_it_has(
    world: World, platform: Platform, alice: User
) -> None:
    instance, _ = await running(platform, alice), await running(platform, alice, 4)
    with pytest.raises(Conflict, match="can have at most 4 GB"):
        await given(world, platform, instance, 8, alice)
    assert await cap(world, instance) == GB
    assert (await given(world, platform, instance, 4, alice)).limits.memory_bytes == 4 * GB


@pytest.mark.slow
async def test_nobody_is_passed_in_the_queue_by_it(world: World, platform: Platform, alice: User) -> None:
    """Who waits for 6 GB can start in a day, and would have to wait for two; when they give up, it is given."""
    instance = await running(platform, alice, 2, days=2)
    await running(platform, alice, 4, days=1)
    bob = (await sign_in(platform, "bob@a.org"))[0]
    waiting = await launch(platform, bob, memory_bytes=6 * GB)
    assert waiting.state is State.QUEUED
    with pytest.raises(Conflict, match="Others have queued for that memory before"):
        await given(world, platform, instance, 4, alice)
    assert await cap(world, instance) == 2 * GB
    await platform.instances.stop(waiting.id, bob, ACTOR, world.clock())
    assert (await given(world, platform, instance, 4, alice)).passed_until is None


async def test_it_may_pass_who_waits_for_its_own_end_anyway(world: World, platform: Platform, alice: User) -> None:
    """But then it cannot be extended beyond, while they wait."""
    instance = await running(platform, alice, 1, days=2)
    bob = (await sign_in(platform, "bob@a.org"))[0]
    assert (await launch(platform, bob, memory_bytes=8 * GB)).state is State.QUEUED
    raised = await given(world, platform, instance, 4, alice)
    assert raised.passed_until == instance.expires_at
    with pytest.raises(Conflict, match="started before others who had waited"):
        await platform.instances.extend(instance.id, alice, 1, ACTOR, world.clock())


@on_every_database
async def test_two_at_once_never_have_more_than_there_is(tmp_path: Path) -> None:
    """Through two portals of one database; one of them is told that it is not there."""
    world = World(tmp_path, SETTINGS)
    one, two = await world.open(), await world.open()
    alice = (await sign_in(one, "alice@a.org"))[0]
    first, second = await running(one, alice, 2), await running(one, alice, 2)
    answers = await asyncio.gather(
        given(world, one, first, 4, alice), given(world, two, second, 8, alice), return_exceptions=True
    )
    await world.close()
    refused = [one for one in answers if isinstance(one, Conflict)]
    assert len(refused) == 1, answers


async def test_what_the_engine_refuses_is_taken_back(world: World, platform: Platform, alice: User) -> None:
    instance = await running(platform, alice)
    world.runtime.refusing.add("update")
    with pytest.raises(EngineRefused):
        await given(world, platform, instance, 2, alice)
    there = await platform.instances.get_any(instance.id)
    assert (there.limits.memory_bytes, there.launched_memory_bytes) == (GB, None)
    assert world.rows("SELECT count(*) FROM audit WHERE action = 'instance.memory_not_raised'") == [(1,)]


async def test_a_portal_that_dies_in_between_leaves_what_is_wanted_to_the_next(
    world: World, platform: Platform, alice: User
) -> None:
    """Between row and engine: the row says 2 GB, the container has 1; so does an engine that was away."""
    instance = await running(platform, alice)
    world.runtime.go_down()
    with pytest.raises(EngineUnavailable, match="is given as soon as it does"):
        await given(world, platform, instance, 2, alice)
    await world.crash(platform)
    world.runtime.come_back()
    assert await cap(world, instance) == GB
    later = await world.open()
    await later.memory.tend(world.clock())
    assert await cap(world, instance) == 2 * GB
    assert (await later.instances.get_any(instance.id)).state is State.RUNNING


async def test_what_the_engine_refuses_after_all_is_taken_back_too(
    world: World, platform: Platform, alice: User
) -> None:
    """It was away when it was asked first."""
    instance = await running(platform, alice)
    await given(world, platform, instance, 2, alice)
    world.runtime.go_down()
    with pytest.raises(EngineUnavailable):
        await given(world, platform, instance, 4, alice)
    world.runtime.come_back()
    world.runtime.refusing.add("update")
    for _ in range(3):
        await platform.memory.tend(world.clock())
    there = await platform.instances.get_any(instance.id)
    assert (there.limits.memory_bytes, there.launched_memory_bytes) == (2 * GB, GB)
    assert (await platform.offers.use()).reserved.memory_bytes == await cap(world, instance) == 2 * GB
    assert world.rows("SELECT count(*) FROM audit WHERE action = 'instance.memory_not_raised'") == [(1,)]


async def test_the_engine_is_asked_until_it_is_in_force_and_not_for_ever(
    world: World, platform: Platform, alice: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    instance = await running(platform, alice)
    await given(world, platform, instance, 2, alice)
    asked = list[str]()

    async def caps(instance_id: str) -> Caps:
        asked.append(instance_id)
        return Caps(memory_bytes=2 * GB if len(asked) > 1 else GB, swap_bytes=0, cpus=1, pids=1)

    monkeypatch.setattr(world.runtime, "caps", caps)
    for _ in range(5):
        await platform.memory.tend(world.clock())
    assert asked == [instance.id] * 2
    await given(world, platform, instance, 4, alice)
    await platform.memory.tend(world.clock())
    assert len(asked) == 3, "another size is looked at anew"


async def warned(world: World, platform: Platform) -> int:
    """Passes over two samples; how many mails there are about memory."""
    for _ in range(2):
        await platform.live.usage.sample()
        await platform.memory.tend(world.clock())

    async def all_sent() -> bool:
        return not world.rows("SELECT 1 FROM outgoing_mails")

    await until(all_sent)
    return sum("out of memory" in str(letter["Subject"]) for letter in world.letters.sent)


async def test_the_owner_is_told_once_for_each_size(world: World, platform: Platform, alice: User) -> None:
    """By mail, with the numbers, and on the card as long as it lasts."""
    instance = await running(platform, alice)
    world.runtime.memory_used[instance.id] = int(0.89 * GB)
    before = await warned(world, platform)
    world.runtime.memory_used[instance.id] = int(0.93 * GB)
    assert await warned(world, platform) == before + 1
    assert await warned(world, platform) == before + 1
    environment = platform.catalogue["jupyterlab"]
    (lack,) = platform.live.lacked(await platform.instances.get_any(instance.id), environment, alice.username)
    assert lack.startswith("more than 90 % of its 1 GB of memory is in use")
    await given(world, platform, instance, 2, alice)
    assert await warned(world, platform) == before + 1
    assert platform.live.lacked(await platform.instances.get_any(instance.id), environment, alice.username) == ()
    world.runtime.memory_used[instance.id] = int(1.95 * GB)
    assert await warned(world, platform) == before + 2
    assert (await platform.memory.last_day(world.clock())) == {"ended": 0, "warned": 2, "raised": 1}
    assert (await platform.memory.last_day(world.clock() + timedelta(days=2)))["warned"] == 0


async def test_a_size_that_was_not_to_be_had_is_no_reason_to_write_again(
    world: World, platform: Platform, alice: User
) -> None:
    instance = await running(platform, alice)
    world.runtime.memory_used[instance.id] = int(0.93 * GB)
    before = await warned(world, platform)
    world.runtime.refusing.add("update")
    with pytest.raises(EngineRefused):
        await given(world, platform, instance, 2, alice)
    assert await warned(world, platform) == before


async def test_what_is_over_at_once_is_no_reason_to_write(world: World, platform: Platform, alice: User) -> None:
    instance = await running(platform, alice)
    world.runtime.memory_used[instance.id] = int(0.99 * GB)
    await platform.live.usage.sample()
    await platform.memory.tend(world.clock())
    world.runtime.memory_used[instance.id] = GB // 4
    assert (await platform.instances.get_any(instance.id)).memory_warned_at is None
    await warned(world, platform)
    assert (await platform.instances.get_any(instance.id)).memory_warned_at is None


async def test_the_mail_says_how_much_and_where_more_is_to_be_had(
    world: World, platform: Platform, alice: User
) -> None:
    instance = await running(platform, alice)
    world.runtime.memory_used[instance.id] = int(0.95 * GB)
    await warned(world, platform)
    world.run(platform, *platform.mail.loops())

    async def arrived() -> Any:
        return next((one for one in world.letters.sent if "nearly out of memory" in str(one["Subject"])), None)

    letter = await until(arrived)
    assert str(letter["Subject"]).endswith("JupyterLab is nearly out of memory")
    text = letter.get_body(("plain",)).get_content()
    assert "0.95 of 1 GB" in text
    assert f"/dashboard#instance-{instance.id}" in text
