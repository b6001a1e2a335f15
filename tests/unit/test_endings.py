"""Ends of instances over a fake engine: the log is kept, the cause is told, who ended it is known, nothing is lost."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path

import pytest

from launchpad.domain.causes import CauseKind
from launchpad.domain.instances import Instance, State
from launchpad.domain.users import User
from launchpad.errors import Conflict
from launchpad.platform import Platform
from launchpad.services.audit import Actor
from launchpad.services.instances import LaunchRequest
from support.databases import on_every_database
from support.platforms import ACTOR, World, launch, reaches, sign_in, until

BROKEN = """\
Traceback (most recent call last):
  File "/home/jovyan/.local/lib/python3.11/site-packages/jupyter_server/__init__.py", line 1, in <module>
ImportError: on purpose
"""


@pytest.fixture
async def platform(world: World) -> Platform:
    platform = await world.open()
    await world.observe(platform)
    return platform


async def running(world: World, platform: Platform, owner: User, environment: str = "jupyterlab") -> Instance:
    """An instance that runs while the observer listens."""

    async def listens() -> bool:
        return bool(world.runtime._listeners)

    await until(listens)
    return await reaches(platform, (await launch(platform, owner, environment)).id, State.RUNNING)


def record(world: World, action: str) -> tuple[str, str, dict[str, object]]:
    """Actor, subject and details of the one record of that action."""
    ((actor, subject, details),) = world.rows("SELECT actor, subject, details FROM audit WHERE action = ?", action)
    return actor, subject, json.loads(details)


async def failing(world: World, platform: Platform, owner: User, printed: str, exit_code: int = 1) -> Instance:
    """A start that fails after it has printed that."""
    world.runtime.deaf = True
    instance = await launch(platform, owner)
    await until(lambda: world.runtime.find(instance.id))
    world.runtime.printed[instance.id] = printed
    await world.runtime.kill(instance.id, exit_code=exit_code)
    return await reaches(platform, instance.id, State.FAILED)


@pytest.mark.slow  # waits for a clock
@on_every_database
async def test_a_failed_start_keeps_its_log_and_tells_the_cause(world: World, platform: Platform, alice: User) -> None:
    failed = await failing(world, platform, alice, BROKEN)
    assert str(failed.reason).startswith(
        "JupyterLab ended by itself with exit code 1: the Python package “jupyter_server”"
    )
    assert failed.cause is CauseKind.PACKAGE
    assert await platform.instance_logs.of(failed) == BROKEN
    assert await world.runtime.list_containers() == []
    actor, subject, details = record(world, "instance.failed")
    assert (actor, subject) == ("system", failed.id)
    assert (details["environment"], details["owner"]) == ("jupyterlab", "alice@a.org")
    assert "its owner's home folder" in str(details["reason"])


@pytest.mark.slow  # waits for a clock
async def test_the_kept_log_holds_no_secret_of_ours(world: World, platform: Platform, alice: User) -> None:
    world.runtime.deaf = True
    instance = await launch(platform, alice)
    await until(lambda: world.runtime.find(instance.id))
    token = platform.runner._launcher.token(instance.id)
    key = platform.state.key("codes").hex()
    world.runtime.printed[instance.id] = f"\x1b[1mhttp://x/lab?token={token}\x1b[0m\n{key}\nthe rest\n"
    assert token not in await platform.instance_logs.of(instance), "nor while it lives"
    await world.runtime.kill(instance.id, exit_code=3)
    failed = await reaches(platform, instance.id, State.FAILED)
    assert await platform.instance_logs.of(failed) == "http://x/lab?token=[hidden]\n[hidden]\nthe rest\n"
    assert world.rows(
        "SELECT count(*) FROM instance_logs WHERE text LIKE ? OR text LIKE ?", f"%{token}%", f"%{key}%"
    ) == [(0,)]


@pytest.mark.slow
@on_every_database
async def test_a_stopped_one_keeps_its_log_until_it_is_removed_from_the_list_or_old(
    world: World, platform: Platform, alice: User
) -> None:
    first, second = await running(world, platform, alice), await running(world, platform, alice, "rstudio")
    for instance in (first, second):
        world.runtime.printed[instance.id] = f"hello from {instance.environment}\n"
        await platform.instances.stop(instance.id, alice, ACTOR, world.clock())
        stopped = await reaches(platform, instance.id, State.STOPPED)
        assert await platform.instance_logs.of(stopped) == f"hello from {instance.environment}\n"
    await platform.instances.forget(first.id, alice, world.clock())
    assert world.rows("SELECT instance_id FROM instance_logs") == [(second.id,)]
    world.clock.now += timedelta(days=30, seconds=1)
    await platform.sweep.sweep(world.clock())
    assert world.rows("SELECT instance_id FROM instance_logs") == []
    assert await platform.instance_logs.of(await platform.instances.get(second.id, alice)) == ""


async def test_an_engine_that_cannot_give_the_log_holds_no_end_up(
    world: World, platform: Platform, alice: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    from launchpad.errors import EngineRefused

    async def refuse(instance_id: str, lines: int = 100) -> str:
        raise EngineRefused("It cannot be read.")

    instance = await running(world, platform, alice)
    world.runtime.log_tail = refuse  # type: ignore[method-assign]
    await platform.instances.stop(instance.id, alice, ACTOR, world.clock())
    assert (await reaches(platform, instance.id, State.STOPPED)).reason == "stopped by you"


@on_every_database
@pytest.mark.parametrize("way", ["kill_from_outside", "remove_from_outside"])
async def test_what_somebody_ends_outside_is_said_to_be_that_and_stands_in_the_audit(
    world: World, platform: Platform, alice: User, way: str
) -> None:
    instance = await running(world, platform, alice)
    await getattr(world.runtime, way)(instance.id)
    failed = await reaches(platform, instance.id, State.FAILED)
    assert "outside the platform" in str(failed.reason)
    assert "memory" not in str(failed.reason)
    actor, subject, details = record(world, "instance.failed")
    assert (actor, subject) == ("system", instance.id)
    assert "outside the platform" in str(details["reason"])
    assert details["owner"] == "alice@a.org"


async def test_a_stop_of_ours_is_not_taken_for_one_from_outside(world: World, platform: Platform, alice: User) -> None:
    instance = await running(world, platform, alice)
    await platform.instances.stop(instance.id, alice, ACTOR, world.clock())
    assert (await reaches(platform, instance.id, State.STOPPED)).reason == "stopped by you"
    assert world.rows("SELECT action FROM audit WHERE actor = 'system'") == []


@on_every_database
async def test_an_end_from_inside_stands_in_the_audit(world: World, platform: Platform, alice: User) -> None:
    instance = await running(world, platform, alice)
    await world.runtime.kill(instance.id, exit_code=0)
    assert (await reaches(platform, instance.id, State.STOPPED)).reason == "JupyterLab was shut down from inside"
    assert record(world, "instance.ended")[2]["reason"] == "JupyterLab was shut down from inside"


async def test_the_kernels_event_explains_an_end_that_the_engine_does_not(
    world: World, platform: Platform, alice: User
) -> None:
    """On version 1 of control groups the engine can miss that it was for memory."""
    instance = await running(world, platform, alice)
    world.runtime.run_out_of_memory(instance.id)
    await world.runtime.kill(instance.id, exit_code=137)
    failed = await reaches(platform, instance.id, State.FAILED)
    assert (failed.reason, failed.cause) == ("out of memory at 1 GB", CauseKind.MEMORY)


async def lacked(platform: Platform, instance_id: str, count: int) -> Instance:
    async def seen() -> Instance | None:
        found = await platform.instances.get_any(instance_id)
        return found if found.oom_count == count else None

    return await until(seen)


@on_every_database
async def test_lack_of_memory_is_counted_told_at_once_and_kept_at_the_end(
    world: World, platform: Platform, alice: User
) -> None:
    instance = await running(world, platform, alice)
    told: list[str] = []
    platform.database.changes.subscribe(lambda all: told.extend(one.key for one in all if one.table == "instances"))
    world.runtime.run_out_of_memory(instance.id)
    await lacked(platform, instance.id, 1)
    assert told == [instance.id], "pages that wait hear of it"
    world.runtime.run_out_of_memory(instance.id)  # the engine may tell of one kill twice
    world.clock.now += timedelta(seconds=10)
    world.runtime.run_out_of_memory(instance.id)
    await lacked(platform, instance.id, 2)
    world.clock.now += timedelta(minutes=10)
    await platform.instances.stop(instance.id, alice, ACTOR, world.clock())
    stopped = await reaches(platform, instance.id, State.STOPPED)
    assert str(stopped.reason).startswith("stopped by you; before, a program in it ran out of memory at 1 GB")


async def test_an_old_lack_of_memory_does_not_explain_a_later_kill(
    world: World, platform: Platform, alice: User
) -> None:
    instance = await running(world, platform, alice)
    world.runtime.run_out_of_memory(instance.id)
    await lacked(platform, instance.id, 1)
    world.clock.now += timedelta(hours=1)
    await world.runtime.kill(instance.id, exit_code=137)
    reason = str((await reaches(platform, instance.id, State.FAILED)).reason)
    assert reason.startswith("JupyterLab was killed (exit code 137)")
    assert "before, a program in it ran out of memory at 1 GB" in reason


@on_every_database
async def test_who_stopped_it_is_known(world: World, platform: Platform, alice: User) -> None:
    instance = await running(world, platform, alice)
    await platform.instances.stop_any(instance.id, Actor("admin@example.org", "192.0.2.9"), world.clock())
    stopped = await reaches(platform, instance.id, State.STOPPED)
    assert (stopped.reason, stopped.ended_by) == ("stopped by an administrator", "admin@example.org")
    assert record(world, "instance.stopped")[2]["reason"] == "stopped by admin@example.org"


FAILURE = "rserver[134]: ERROR system error 98 (Address already in use); LOGGED FROM: int main(int, char* const*)\n"


@pytest.mark.slow  # waits for a clock
@on_every_database
async def test_a_server_that_fails_again_and_again_is_noticed_before_its_time_is_up(
    world: World, platform: Platform, alice: User
) -> None:
    """Its supervisor keeps the container running. Two failures may be chance."""
    world.runtime.deaf = True
    instance = await launch(platform, alice, "rstudio")
    await until(lambda: world.runtime.find(instance.id))
    world.runtime.printed[instance.id] = FAILURE * 2
    await reaches(platform, instance.id, State.STARTING)
    world.runtime.printed[instance.id] = FAILURE * 3
    failed = await reaches(platform, instance.id, State.FAILED)
    assert str(failed.reason).startswith("RStudio does not start: it fails again and again: the port it listens on")
    assert failed.cause is CauseKind.PORT
    assert await platform.instance_logs.of(failed) == FAILURE * 3
    assert await world.runtime.list_containers() == []


@pytest.mark.slow
@on_every_database
async def test_safe_mode_passes_over_what_the_user_has_installed_and_set(
    world: World, platform: Platform, alice: User
) -> None:
    instance = await platform.instances.launch(alice, LaunchRequest("jupyterlab", safe_mode=True), ACTOR, world.clock())
    await reaches(platform, instance.id, State.RUNNING)
    assert (await platform.instances.get(instance.id, alice)).safe_mode
    spec = world.runtime._running[instance.id].spec
    assert spec.safe_mode
    for name, value in {
        "PYTHONNOUSERSITE": "1",
        "R_PROFILE_USER": "/dev/null",
        "LAUNCHPAD_SAFE_MODE": "1",
    }.items():
        assert spec.env_vars[name] == value
    assert spec.env_vars["JUPYTER_CONFIG_DIR"].startswith("/tmp/")
    assert spec.env_vars["JUPYTER_TOKEN"], "its own variables are there, too"
    again = await platform.instances.launch(alice, LaunchRequest("jupyterlab"), ACTOR, world.clock())
    assert again.id == instance.id
    rstudio = await running(world, platform, alice, "rstudio")
    assert not world.runtime._running[rstudio.id].spec.safe_mode
    with pytest.raises(Conflict, match="not in safe mode"):
        await platform.instances.launch(alice, LaunchRequest("rstudio", safe_mode=True), ACTOR, world.clock())


async def test_each_environment_says_what_safe_mode_changes_besides(tmp_path: Path) -> None:
    table = {
        "name": "own",
        "title": "Own",
        "image": "x/y:1",
        "port": 1234,
        "home": "/home/x",
        "command": ["serve"],
        "env_vars": {"MODE": "full", "PYTHONNOUSERSITE": ""},
        "safe_mode": {"env_vars": {"MODE": "plain"}, "command": ["--no-extensions"]},
    }
    world = World(tmp_path, {"environments": [table]})
    platform = await world.open()
    alice, _ = await sign_in(platform, "alice@a.org")
    instance = await platform.instances.launch(alice, LaunchRequest("own", safe_mode=True), ACTOR, world.clock())
    await reaches(platform, instance.id, State.RUNNING)
    spec = world.runtime._running[instance.id].spec
    assert list(spec.command) == ["serve", "--no-extensions"]
    assert (spec.env_vars["MODE"], spec.env_vars["PYTHONNOUSERSITE"]) == ("plain", "1")
    rstudio = platform.catalogue["rstudio"]
    assert rstudio.safe_mode_env_vars["RSTUDIO_DATA_HOME"].startswith("/tmp/")
    await world.close()


@pytest.mark.slow
@on_every_database
async def test_after_the_server_was_restarted_that_is_the_reason_and_only_once(
    world: World, platform: Platform, alice: User
) -> None:
    lost = await running(world, platform, alice)
    await world.crash(platform)
    await world.runtime.kill(lost.id, exit_code=255)
    await world.change("UPDATE kv SET value = ? WHERE key = 'endings.boot_id'", json.dumps("an earlier start"))
    restarted = await world.open()
    await restarted.sweep.sweep(world.clock())  # whichever process looks first
    assert (await reaches(restarted, lost.id, State.FAILED)).reason == "the server was restarted"
    later = await reaches(restarted, (await launch(restarted, alice)).id, State.RUNNING)
    await world.runtime.kill(later.id, exit_code=1)
    await restarted.sweep.sweep(world.clock())
    assert (await reaches(restarted, later.id, State.FAILED)).reason == "JupyterLab ended by itself with exit code 1"
