"""After a crash, and in the sweep: rows and engine are brought together again, by whoever is alive."""

from __future__ import annotations

import asyncio
import signal
import sys
from datetime import timedelta
from pathlib import Path

import pytest

from launchpad.domain.instances import Instance, State
from launchpad.domain.users import User
from launchpad.errors import Conflict, WrongCode
from launchpad.platform import Platform
from launchpad.services.logins import Client
from launchpad.store.lease import is_in_use
from support.databases import databases, on_every_database
from support.platforms import ACTOR, Clock, World, container_of, launch, reaches, sign_in

STEPS = (
    "before home",
    "after home",
    "before ensure_network",
    "before start",
    "after start",
)


async def launched(platform: Platform, owner: User) -> Instance:
    return await reaches(platform, (await launch(platform, owner)).id, State.RUNNING)


async def one_container(world: World, instance_id: str) -> None:
    assert [container.instance_id for container in await world.runtime.list_containers()] == [instance_id]


async def crash_at(world: World, platform: Platform, step: str) -> None:
    """The process dies as soon as it has come to that step."""
    await asyncio.wait_for(world.runtime.reached[step].wait(), 10)
    await world.crash(platform)
    world.runtime.release()


@on_every_database
@pytest.mark.parametrize("step", STEPS)
async def test_a_launch_whose_process_dies_at_any_step_is_finished_by_the_next_one(
    world: World, platform: Platform, alice: User, step: str
) -> None:
    world.runtime.hold(step)
    instance = await launch(platform, alice)
    await crash_at(world, platform, step)
    restarted = await world.open()
    await world.observe(restarted)  # as the portal does first of all
    await reaches(restarted, instance.id, State.RUNNING)
    await one_container(world, instance.id)
    assert (await launch(restarted, alice)).id == instance.id
    homes = [path.name for path in world.homes_root.iterdir()]
    assert homes == [alice.username], "no half-made home is left"
    assert [o.action for o in await restarted.sweep.sweep(world.clock())] == []


@on_every_database
async def test_a_launch_that_dies_before_anything_was_done_is_finished_too(
    world: World, platform: Platform, alice: User
) -> None:
    instance = await launch(platform, alice)
    await world.crash(platform)
    restarted = await world.open()
    await restarted.runner.reconcile_all()
    await reaches(restarted, instance.id, State.RUNNING)
    await one_container(world, instance.id)


@pytest.mark.slow
@on_every_database
async def test_a_launch_that_cannot_be_finished_fails_and_a_retry_works(
    world: World, platform: Platform, alice: User
) -> None:
    world.runtime.hold("after start")
    instance = await launch(platform, alice)
    await crash_at(world, platform, "after start")
    await world.runtime.kill(instance.id)
    world.runtime.missing_images.add(platform.catalogue["jupyterlab"].image)
    restarted = await world.open()
    await restarted.runner.reconcile_all()
    failed = await reaches(restarted, instance.id, State.FAILED)
    assert "not on this server" in str(failed.reason)
    await restarted.runner.wait()
    assert await world.runtime.list_containers() == []
    world.runtime.missing_images.clear()
    again = await launched(restarted, alice)
    await one_container(world, again.id)


@on_every_database
@pytest.mark.parametrize("step", ["before stop", "after stop", "before remove", "after remove"])
async def test_a_stop_whose_process_dies_at_any_step_is_finished_by_the_next_one(
    world: World, platform: Platform, alice: User, step: str
) -> None:
    instance = await launched(platform, alice)
    world.runtime.hold(step)
    await platform.instances.stop(instance.id, alice, ACTOR, world.clock())
    await crash_at(world, platform, step)
    restarted = await world.open()
    outcomes = await restarted.runner.reconcile_all()
    # "removed" where the new process' own watching was quicker than this pass, and had its end recorded already.
    assert {(one.instance_id, one.action) for one in outcomes} <= {
        (instance.id, "stop taken over"),
        (instance.id, "removed"),
    }
    stopped = await reaches(restarted, instance.id, State.STOPPED)
    assert stopped.reason == "stopped by you"
    assert await world.runtime.list_containers() == []


@pytest.mark.slow
@on_every_database
async def test_what_another_living_process_carries_out_is_left_to_it(
    world: World, platform: Platform, alice: User
) -> None:
    bob, _ = await sign_in(platform, "bob@a.org")
    running = await launched(platform, bob)
    world.runtime.hold("before start")
    world.runtime.hold("before stop")
    starting = await launch(platform, alice)
    await platform.instances.stop(running.id, bob, ACTOR, world.clock())
    await asyncio.wait_for(world.runtime.reached["before start"].wait(), 10)
    other = await world.open()
    assert await other.sweep.sweep(world.clock()) == []
    assert await platform.runner.reconcile_all() == [], "nor does it get in its own way"
    world.runtime.release()
    await reaches(platform, starting.id, State.RUNNING)
    await reaches(platform, running.id, State.STOPPED)
    assert world.runtime.starts == [running.id, starting.id]


@on_every_database
async def test_a_process_that_closes_in_good_order_hands_over_at_once(
    world: World, platform: Platform, alice: User
) -> None:
    world.runtime.hold("before start")
    instance = await launch(platform, alice)
    await asyncio.wait_for(world.runtime.reached["before start"].wait(), 10)
    world.opened.remove(platform)
    await world.end_background(platform)
    await platform.aclose()
    world.runtime.release()
    assert not is_in_use(world.folder / "state")
    restarted = await world.open()
    await restarted.runner.reconcile_all()
    await reaches(restarted, instance.id, State.RUNNING)


CHILD = """
import asyncio, sys
from pathlib import Path
from support.platforms import World, launch, sign_in

async def main():
    folder = Path(sys.argv[1])
    world = World(folder, {"database_url": sys.argv[2]})
    platform = await world.open()
    alice, _ = await sign_in(platform, "alice@a.org")
    world.runtime.hold("before start")
    instance = await launch(platform, alice)
    await world.runtime.reached["before start"].wait()
    print(instance.id, flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""


@pytest.mark.slow
@on_every_database
async def test_the_kernel_tells_that_a_process_was_killed(tmp_path: Path) -> None:
    """SIGKILL gives no time for farewells; its lease is free at that instant."""
    folder = tmp_path / "shared"
    folder.mkdir()
    paths = [str(Path(__file__).parents[1]), *sys.path]
    child = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        CHILD,
        str(folder),
        databases.url(folder / "state"),
        stdout=asyncio.subprocess.PIPE,
        env={"PYTHONPATH": ":".join(path for path in paths if path)},
    )
    assert child.stdout is not None
    instance_id = (await asyncio.wait_for(child.stdout.readline(), 30)).decode().strip()
    world = World(folder)
    platform = await world.open()
    assert not platform.lease.is_held, "the other one is alive"
    assert await platform.runner.reconcile_all() == []
    child.send_signal(signal.SIGKILL)
    await child.wait()
    await asyncio.wait_for(platform.lease.acquire(), 20)
    outcomes = await platform.runner.reconcile_all()
    assert [(one.instance_id, one.action) for one in outcomes] == [(instance_id, "start taken over")]
    await reaches(platform, instance_id, State.RUNNING)
    await one_container(world, instance_id)
    await world.close()


async def test_a_container_that_no_record_names_is_left_alone_and_reported(
    world: World, platform: Platform, alice: User
) -> None:
    await world.runtime.start(container_of("unknown000000000"))
    outcomes = await platform.sweep.sweep(world.clock())
    assert [(one.instance_id, one.action) for one in outcomes] == [("unknown000000000", "ignored")]
    await one_container(world, "unknown000000000")


@pytest.mark.slow
@on_every_database
async def test_the_container_of_an_instance_that_has_ended_is_removed(
    world: World, platform: Platform, alice: User
) -> None:
    instance = await launched(platform, alice)
    rest = await launched(platform, (await sign_in(platform, "bob@a.org"))[0])
    await platform.instances.stop(instance.id, alice, ACTOR, world.clock())
    await reaches(platform, instance.id, State.STOPPED)
    # As after a failed launch whose container the engine did not give up.
    await world.runtime.start(container_of(instance.id))
    outcomes = await platform.sweep.sweep(world.clock())
    assert [(one.instance_id, one.action) for one in outcomes] == [(instance.id, "removed")]
    await one_container(world, rest.id)


@on_every_database
async def test_an_instance_that_began_to_run_after_the_engine_was_asked_is_not_taken_for_gone(
    world: World, platform: Platform, alice: User
) -> None:
    """The list of containers is older than the rows: another process finished a launch in between."""
    other = await world.open()
    listed = await world.runtime.list_containers()
    instance = await launched(platform, alice)
    assert listed == []
    row = await other.instances.get_any(instance.id)
    assert await other.runner._reconcile(row, None) is None
    assert (await platform.instances.get_any(instance.id)).state is State.RUNNING
    await one_container(world, instance.id)


# -- the sweep ---------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@on_every_database
async def test_what_has_expired_is_ended_with_the_reason_and_nothing_else(
    world: World, platform: Platform, alice: User
) -> None:
    bob, _ = await sign_in(platform, "bob@a.org")
    short = await launched(platform, alice)
    long = await reaches(platform, (await launch(platform, bob, days=7)).id, State.RUNNING)
    world.clock.now += timedelta(hours=23, minutes=59)
    assert await platform.sweep.sweep(world.clock()) == []
    world.clock.now += timedelta(minutes=1)
    outcomes = await platform.sweep.sweep(world.clock())
    assert [(one.instance_id, one.action) for one in outcomes] == [(short.id, "expired")]
    expired = await reaches(platform, short.id, State.EXPIRED)
    assert expired.reason == "expired on 3 March 2026 at 09:30 UTC"
    assert await platform.sweep.sweep(world.clock()) == [], "once is enough"
    assert (await platform.instances.get_any(long.id)).state is State.RUNNING
    await one_container(world, long.id)


@pytest.mark.slow  # waits for a clock
@on_every_database
async def test_what_was_extended_since_it_was_looked_at_does_not_expire(
    world: World, platform: Platform, alice: User
) -> None:
    """A sweep has many to end, and somebody presses Extend meanwhile."""
    looked_at = await launched(platform, alice)
    world.clock.now += timedelta(hours=23, minutes=59)
    await platform.instances.extend(looked_at.id, alice, 1, ACTOR, world.clock())
    world.clock.now += timedelta(minutes=2)
    due = (looked_at, State.EXPIRED, "expired", world.clock())
    assert await platform.runner.end(*due, only_expired=True) is False
    assert (await platform.instances.get_any(looked_at.id)).state is State.RUNNING
    world.clock.now += timedelta(days=1)
    assert await platform.runner.end(*due[:3], world.clock(), only_expired=True) is True
    await reaches(platform, looked_at.id, State.EXPIRED)


@on_every_database
async def test_what_began_to_end_meanwhile_is_not_extended(world: World, platform: Platform, alice: User) -> None:
    """Nobody is told a new end of what is being stopped by another process."""
    instance = await launched(platform, alice)
    other = await world.open()
    asked = await platform.instances.get_any(instance.id)
    await other.instances.stop(instance.id, alice, ACTOR, world.clock())
    with pytest.raises(Conflict, match="Only an instance that runs"):
        await platform.instances._extend(asked, 2, ACTOR, world.clock())
    await platform.runner.reconcile_all()  # it owns the work
    stopped = await reaches(other, instance.id, State.STOPPED)
    assert stopped.expires_at == instance.expires_at


@pytest.mark.slow
@on_every_database
async def test_f14_two_sweeps_at_once_end_everything_once(world: World, platform: Platform) -> None:
    other = await world.open()
    users = [(await sign_in(platform, f"p{n}@a.org", client=f"192.0.2.{n}"))[0] for n in range(8)]
    found = [await launched(platform, user) for user in users]
    world.clock.now += timedelta(days=1)
    both = await asyncio.gather(*(one.sweep.sweep(world.clock()) for one in (platform, other)))
    ended = [outcome.instance_id for outcomes in both for outcome in outcomes if outcome.action == "expired"]
    assert sorted(ended) == sorted(instance.id for instance in found)
    for instance in found:
        await reaches(platform, instance.id, State.EXPIRED)
    assert world.rows("SELECT count(*) FROM audit WHERE action = 'instance.expired'") == [(8,)]
    assert await world.runtime.list_containers() == []


@pytest.mark.slow
@on_every_database
async def test_one_that_fails_does_not_stop_the_rest(world: World, platform: Platform) -> None:
    """Neither among what ends nor among what is compared with the engine."""
    users = [(await sign_in(platform, f"p{n}@a.org", client=f"192.0.2.{n}"))[0] for n in range(3)]
    found = [await launched(platform, user) for user in users]
    world.runtime.refusing.add(f"stop {found[0].id}")
    world.clock.now += timedelta(days=1)
    await platform.sweep.sweep(world.clock())
    for instance in found[1:]:
        await reaches(platform, instance.id, State.EXPIRED)
    await platform.runner.wait()
    assert (await platform.instances.get_any(found[0].id)).state is State.STOPPING
    world.runtime.refusing.clear()
    await platform.sweep.sweep(world.clock())
    await reaches(platform, found[0].id, State.EXPIRED)


@pytest.mark.slow
async def test_a_stray_that_cannot_be_removed_does_not_keep_the_sweep_from_its_work(
    world: World, platform: Platform, alice: User
) -> None:
    instance = await launched(platform, alice)
    await platform.instances.stop(instance.id, alice, ACTOR, world.clock())
    await reaches(platform, instance.id, State.STOPPED)
    await world.runtime.start(container_of(instance.id))
    world.runtime.refusing.add(f"remove {instance.id}")
    due = await launched(platform, (await sign_in(platform, "bob@a.org"))[0])
    world.clock.now += timedelta(days=1)
    outcomes = await platform.sweep.sweep(world.clock())
    assert [(one.instance_id, one.action) for one in outcomes] == [(instance.id, "unchanged"), (due.id, "expired")]


@pytest.mark.slow
@on_every_database
async def test_f14_a_sweep_that_dies_midway_is_finished_by_the_next(
    world: World, platform: Platform, alice: User
) -> None:
    instance = await launched(platform, alice)
    world.clock.now += timedelta(days=1)
    await platform.lease.release()
    sweeping = await world.open()
    world.runtime.hold("before stop")
    await sweeping.sweep.sweep(world.clock())
    await crash_at(world, sweeping, "before stop")
    await asyncio.wait_for(platform.lease.acquire(), 20)
    await platform.sweep.sweep(world.clock())
    expired = await reaches(platform, instance.id, State.EXPIRED)
    assert str(expired.reason).startswith("expired on 3 March")


@on_every_database
async def test_a_container_that_is_gone_is_recorded_as_failed(world: World, platform: Platform, alice: User) -> None:
    instance = await launched(platform, alice)
    await world.runtime.remove(instance.id)
    outcomes = await platform.sweep.sweep(world.clock())
    assert [(one.instance_id, one.action) for one in outcomes] == [(instance.id, "recorded as failed")]
    failed = await reaches(platform, instance.id, State.FAILED)
    assert failed.reason == "its container was removed from outside the platform"


@pytest.mark.slow
@on_every_database
async def test_the_sweep_lets_those_start_that_wait(tmp_path: Path) -> None:
    """As after a crash between an end and the start of the next."""
    world = World(tmp_path, {"capacity": {"memory": "1g", "cpus": 100}})
    platform = await world.open()
    one, _ = await sign_in(platform, "one@a.org")
    two, _ = await sign_in(platform, "two@a.org")
    first = await launched(platform, one)
    second = await launch(platform, two)
    assert second.state is State.QUEUED
    world.runtime.hold("after remove")
    await platform.instances.stop(first.id, one, ACTOR, world.clock())
    await crash_at(world, platform, "after remove")
    restarted = await world.open()
    await restarted.sweep.sweep(world.clock())
    await reaches(restarted, first.id, State.STOPPED)
    await restarted.sweep.sweep(world.clock())
    await reaches(restarted, second.id, State.RUNNING)
    await world.close()


@on_every_database
async def test_one_who_waited_too_long_is_told_so(tmp_path: Path) -> None:
    world = World(tmp_path, {"capacity": {"memory": "1g", "cpus": 100}})
    platform = await world.open()
    one, _ = await sign_in(platform, "one@a.org")
    two, _ = await sign_in(platform, "two@a.org")
    await reaches(platform, (await launch(platform, one, days=7)).id, State.RUNNING)
    waiting = await launch(platform, two)
    world.clock.now += timedelta(days=1)
    await platform.sweep.sweep(world.clock())
    expired = await platform.instances.get_any(waiting.id)
    assert (expired.state, expired.reason) == (State.EXPIRED, "its time ran out while it was queued")
    await world.close()


@on_every_database
async def test_old_challenges_and_logins_are_forgotten_and_live_ones_kept(
    world: World, platform: Platform, alice: User
) -> None:
    world.clock.now += timedelta(days=2, seconds=1)
    await platform.sign_in.ask("bob@a.org", Client("192.0.2.1"), world.clock())
    await platform.sweep.sweep(world.clock())
    assert world.rows("SELECT address FROM challenges") == [("bob@a.org",)]
    assert world.rows("SELECT count(*) FROM verifications") == [(0,)]
    assert world.rows("SELECT count(*) FROM logins") == [(0,)]
    assert world.rows("SELECT email FROM users") == [("alice@a.org",)]


@pytest.mark.parametrize("days", [-1, 1])
async def test_f8_a_clock_that_jumps_and_comes_back_revives_no_used_code(
    world: World, platform: Platform, days: int
) -> None:
    here = Client("192.0.2.1")
    asked = await platform.sign_in.ask("bob@a.org", here, world.clock())
    await platform.mail.drain()
    code = world.letters.codes("bob@a.org")[-1]
    await platform.sign_in.verify(asked.cookie, code, False, here, world.clock())
    for step in (days, -days):
        world.clock.now += timedelta(days=step)
        await platform.sweep.sweep(world.clock())
        with pytest.raises(WrongCode):
            await platform.sign_in.verify(asked.cookie, code, False, here, world.clock())


class Kernel:
    """Seconds since the machine started, which go on with the clock unless somebody sets that."""

    def __init__(self, clock: Clock) -> None:
        self.seconds = 1000.0
        self._clock = clock

    def __call__(self) -> float:
        return self.seconds

    def goes_on(self, seconds: float, *, set_by: timedelta = timedelta()) -> None:
        self.seconds += seconds
        self._clock.now += timedelta(seconds=seconds) + set_by


@pytest.fixture
def kernel(world: World) -> Kernel:
    """Of the portals that are opened after it."""
    world.elapsed = kernel = Kernel(world.clock)
    return kernel


@pytest.mark.slow
async def test_f8_a_clock_that_is_set_forward_ends_nobodys_work(
    world: World, kernel: Kernel, platform: Platform, alice: User
) -> None:
    """Nor anybody's login; it is said, and set right again everything expires as it should."""
    instance = await launched(platform, alice)
    await platform.sweep.sweep(world.clock())
    assert await platform.sweep.clock_held() is None
    kernel.goes_on(60, set_by=timedelta(days=1))
    outcomes = await platform.sweep.sweep(world.clock())
    assert [(one.instance_id, one.action) for one in outcomes] == [("-", "nothing expired")]
    assert await platform.sweep.clock_held() == (timedelta(days=1), 3600.0)

    await platform.lease.release()
    platform = await world.open()  # a portal that starts meanwhile knows of it
    kernel.goes_on(1800)
    await platform.sweep.sweep(world.clock())
    assert (await platform.instances.get_any(instance.id)).state is State.RUNNING
    assert world.rows("SELECT count(*) FROM logins") == [(1,)]

    kernel.goes_on(60, set_by=timedelta(days=-1))
    assert await platform.sweep.sweep(world.clock()) == []
    assert await platform.sweep.clock_held() is None
    kernel.goes_on(86400)
    await platform.sweep.sweep(world.clock())
    await reaches(platform, instance.id, State.EXPIRED)


@pytest.mark.slow
async def test_f8_a_clock_that_stays_forward_is_believed_after_an_hour(
    world: World, kernel: Kernel, platform: Platform, alice: User
) -> None:
    instance = await launched(platform, alice)
    await platform.sweep.sweep(world.clock())
    world.clock.now += timedelta(days=1, minutes=1)
    await platform.sweep.sweep(world.clock())
    for _ in range(60):
        assert (await platform.instances.get_any(instance.id)).state is State.RUNNING
        kernel.goes_on(60)
        await platform.sweep.sweep(world.clock())
    await reaches(platform, instance.id, State.EXPIRED)


async def test_f8_a_clock_that_is_set_back_ends_nothing_early(
    world: World, kernel: Kernel, platform: Platform, alice: User
) -> None:
    instance = await launched(platform, alice)
    for set_by in (timedelta(), timedelta(days=-1), timedelta(days=1)):
        kernel.goes_on(60, set_by=set_by)
        await platform.sweep.sweep(world.clock())
        assert (await platform.instances.get_any(instance.id)).state is State.RUNNING
