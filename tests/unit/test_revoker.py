"""Whose connections are cut when a way into an instance ends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

import pytest

from launchpad.domain.instances import Address, Instance, State
from launchpad.domain.signin import Login
from launchpad.domain.users import User, UserStatus
from launchpad.errors import ConnectionsNotCut, HelperRefused, HelperUnavailable
from launchpad.platform import Platform
from launchpad.services.gate import GateRequest
from launchpad.services.logins import Client
from launchpad.services.revoker import AGAIN_AFTER, ConnectionRevoker
from launchpad.services.users import UserChange
from support.platforms import ACTOR, World, launch, reaches, sign_in, until

HERE = Client("192.0.2.1")


class House:
    """One user with a running instance; `looks` are what the revoker cut at each look."""

    def __init__(self, world: World, platform: Platform) -> None:
        self.world = world
        self.platform = platform

    async def comes(self, address: str = "alice@a.org") -> tuple[User, Login]:
        user, secret = await sign_in(self.platform, address)
        found = await self.platform.logins.authenticate(secret, self.world.clock())
        assert found is not None
        return user, found[1]

    async def runs(self, owner: User) -> Instance:
        return await reaches(self.platform, (await launch(self.platform, owner)).id, State.RUNNING)

    async def enters(self, instance: Instance, login: Login) -> str:
        url = await self.platform.gate.ticket(instance, login, None, self.world.clock())
        ticket = url.partition("ticket=")[2].partition("&")[0]
        return (await self.platform.gate.enter(ticket, self.world.clock()))[1]

    async def check(self) -> list[Address]:
        return await self.platform.revoker.check(self.world.clock())


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    world = World(tmp_path)
    yield House(world, await world.open())
    await world.close()


async def test_while_everybody_may_stay_nothing_is_cut(house: House) -> None:
    user, login = await house.comes()
    instance = await house.runs(user)
    await house.check()
    await house.enters(instance, login)
    assert await house.check() == []
    await house.enters(instance, login)  # opened again in the same browser: another cookie
    assert await house.check() == []


@pytest.mark.parametrize("end", ["sign-out", "another browser signs it out", "suspension", "idle", "expiry", "stop"])
async def test_the_end_of_a_way_in_cuts_now_and_once_more(house: House, end: str) -> None:
    user, login = await house.comes()
    instance = await house.runs(user)
    await house.enters(instance, login)
    assert await house.check() == []
    platform, clock = house.platform, house.world.clock
    if end == "sign-out":
        await platform.logins.sign_out(user, login, HERE, clock())
    elif end == "another browser signs it out":
        await platform.logins.end(user, login.id, HERE, clock())
    elif end == "suspension":
        await platform.users.change(user.id, UserChange(status=UserStatus.SUSPENDED), ACTOR, clock())
    elif end == "idle":
        clock.now += timedelta(hours=12, seconds=1)
    elif end == "expiry":
        clock.now += timedelta(hours=24, seconds=1)
    else:
        await platform.instances.stop(instance.id, user, ACTOR, clock())
    assert await house.check() == [instance.address]
    assert await house.check() == []
    clock.now += AGAIN_AFTER
    assert await house.check() == [instance.address], "what came in together with the end"
    clock.now += AGAIN_AFTER
    assert await house.check() == []


async def test_a_way_that_opens_and_ends_between_two_looks_is_cut_as_well(house: House) -> None:
    user, login = await house.comes()
    instance = await house.runs(user)
    assert await house.check() == [instance.address], "the first look: nobody has a way in"
    house.world.clock.now += AGAIN_AFTER
    await house.check()
    cookie = await house.enters(instance, login)
    asked = GateRequest(instance.id, "/", "GET", f"lp_instance={cookie}", "", False, "", "", "")
    assert (await house.platform.gate.decide(asked, house.world.clock())).status == 204
    await house.platform.logins.sign_out(user, login, HERE, house.world.clock())
    assert await house.check() == [instance.address]


@pytest.mark.slow
async def test_one_of_two_browsers_leaves_and_others_instances_are_let_alone(house: House) -> None:
    user, here = await house.comes()
    _, there = await house.comes()
    other, others_login = await house.comes("bob@a.org")
    instance, others = await house.runs(user), await house.runs(other)
    for login in (here, there):
        await house.enters(instance, login)
    await house.enters(others, others_login)
    await house.check()
    await house.platform.logins.sign_out(user, here, HERE, house.world.clock())
    assert await house.check() == [instance.address]
    assert others.address != instance.address


async def test_the_first_look_cuts_where_nobody_may_be(house: House) -> None:
    """A sign-out by a command while the portal was down."""
    user, login = await house.comes()
    other, others_login = await house.comes("bob@a.org")
    instance, others = await house.runs(user), await house.runs(other)
    await house.enters(instance, login)
    await house.enters(others, others_login)
    await house.check()
    await house.platform.logins.sign_out(user, login, HERE, house.world.clock())
    again = ConnectionRevoker(house.platform.database, house.platform.settings, house.world.runtime)
    assert await again.check(house.world.clock()) == [instance.address]


async def test_the_first_look_cuts_what_is_being_stopped(house: House) -> None:
    """The portal that suspended its owner has died before it cut anything; its application may still take a while."""
    user, login = await house.comes()
    instance = await house.runs(user)
    await house.enters(instance, login)
    await house.check()
    house.world.runtime.go_down()
    await house.platform.users.change(user.id, UserChange(status=UserStatus.SUSPENDED), ACTOR, house.world.clock())
    assert (await house.platform.instances.get_any(instance.id)).state is State.STOPPING
    house.world.runtime.come_back()
    again = ConnectionRevoker(house.platform.database, house.platform.settings, house.world.runtime)
    assert await again.check(house.world.clock()) == [instance.address]
    assert await again.check(house.world.clock()) == []


async def test_an_instance_that_moved_to_another_port_is_cut_at_the_old_one(house: House) -> None:
    user, login = await house.comes()
    instance = await house.runs(user)
    await house.enters(instance, login)
    await house.check()
    assert instance.address is not None
    moved = replace(instance.address, port=1)
    async with house.platform.database.transaction() as db:
        await db.exec_driver_sql(f"UPDATE instances SET port = {moved.port}")
    assert await house.check() == [instance.address]


@pytest.mark.slow
@pytest.mark.parametrize("when", ["before the first cut", "before the second cut"])
async def test_who_has_the_port_next_is_let_alone(house: House, when: str) -> None:
    """The connections to an instance end with its container; those that its port has then are somebody else's."""
    user, login = await house.comes()
    other, others_login = await house.comes("bob@a.org")
    ended, next_one = await house.runs(user), await house.runs(other)
    await house.enters(ended, login)
    await house.enters(next_one, others_login)
    await house.check()
    await house.platform.instances.stop(ended.id, user, ACTOR, house.world.clock())
    if when == "before the second cut":
        assert await house.check() == [ended.address]
    assert ended.address is not None
    async with house.platform.database.transaction() as db:
        await db.exec_driver_sql(f"UPDATE instances SET port = {ended.address.port} WHERE id = '{next_one.id}'")
    house.world.clock.now += AGAIN_AFTER
    assert await house.check() == [next_one.address], "where it was before"
    house.world.clock.now += AGAIN_AFTER
    assert await house.check() == [next_one.address]


async def test_what_is_cut_is_told_to_the_runtime(house: House) -> None:
    user, login = await house.comes()
    instance = await house.runs(user)
    await house.enters(instance, login)
    await house.check()
    assert instance.address is not None
    reader, writer = await asyncio.open_connection(instance.address.host, instance.address.port)
    await asyncio.sleep(0.05)
    await house.platform.logins.sign_out(user, login, HERE, house.world.clock())
    await house.check()
    assert await asyncio.wait_for(reader.read(), 2) == b""
    writer.close()


# -- a cutter that fails -----------------------------------------------------------------------------------------------


class FailingCutter:
    """Raises what stands in `error`, for any of `only` if that names some."""

    def __init__(self) -> None:
        self.error: BaseException | None = None
        self.only: set[Address] = set()
        self.cuts: list[list[Address]] = []

    async def cut(self, addresses: Sequence[Address]) -> None:
        self.cuts.append(list(addresses))
        if self.error is not None and (not self.only or self.only & set(addresses)):
            raise self.error

    async def can_cut(self) -> bool:
        return self.error is None


@dataclass
class Suspended:
    """Somebody whose access has just ended, with a connection open."""

    house: House
    revoker: ConnectionRevoker
    cutter: FailingCutter
    address: Address

    async def check(self) -> list[Address]:
        return await self.revoker.check(self.house.world.clock())


async def suspended(house: House, *others: str) -> Suspended:
    cutter = FailingCutter()
    revoker = ConnectionRevoker(house.platform.database, house.platform.settings, cutter)
    user, login = await house.comes()
    instance = await house.runs(user)
    await house.enters(instance, login)
    for name in others:
        other, others_login = await house.comes(name)
        await house.enters(await house.runs(other), others_login)
    assert await revoker.check(house.world.clock()) == []
    for name in ("alice@a.org", *others):
        found = await house.platform.users.by_email(name)
        await house.platform.users.change(found.id, UserChange(status=UserStatus.SUSPENDED), ACTOR, house.world.clock())
    assert instance.address is not None
    return Suspended(house, revoker, cutter, instance.address)


FAILURES = [ConnectionsNotCut("ss has failed"), OSError(12, "Cannot allocate memory"), HelperUnavailable("away")]


@pytest.mark.parametrize("error", FAILURES, ids=[type(error).__name__ for error in FAILURES])
@pytest.mark.parametrize("times", [1, 2, 20])
async def test_a_cut_that_fails_is_tried_again_until_it_is_done(house: House, error: Exception, times: int) -> None:
    """However often; and only then, a moment later, once more."""
    there = await suspended(house)
    there.cutter.error = error
    for _ in range(times):
        with pytest.raises(type(error)):
            await there.check()
        house.world.clock.now += timedelta(seconds=1)
    there.cutter.error = None
    assert await there.check() == [there.address]
    assert await there.check() == []
    house.world.clock.now += AGAIN_AFTER
    there.cutter.error = error
    with pytest.raises(type(error)):
        await there.check()
    there.cutter.error = None
    assert await there.check() == [there.address], "the second one, too"
    house.world.clock.now += AGAIN_AFTER
    assert await there.check() == []


@pytest.mark.parametrize("error", [ZeroDivisionError(), asyncio.CancelledError()], ids=["fault", "cancelled"])
async def test_a_fault_or_a_cancelled_look_forgets_nothing(house: House, error: BaseException) -> None:
    there = await suspended(house)
    there.cutter.error = error
    with pytest.raises(type(error)):
        await there.check()
    there.cutter.error = None
    assert await there.check() == [there.address]


@pytest.mark.slow
async def test_one_that_cannot_be_cut_holds_up_no_other(house: House) -> None:
    """As one outside the range of ports that the helper knows, after that was changed in the settings."""
    there = await suspended(house, "bob@a.org", "carol@a.org")
    there.cutter.error, there.cutter.only = HelperRefused("not an instance's"), {there.address}
    with pytest.raises(HelperRefused):
        await there.check()
    alone = [addresses[0] for addresses in there.cutter.cuts if len(addresses) == 1]
    assert len(set(alone)) == 3
    there.cutter.cuts.clear()
    with pytest.raises(HelperRefused):
        await there.check()
    assert there.cutter.cuts == [[there.address]], "the others are done"


async def test_a_clock_that_is_set_back_puts_no_second_cut_off(house: House) -> None:
    there = await suspended(house)
    assert await there.check() == [there.address]
    house.world.clock.now -= timedelta(hours=10)
    assert await there.check() == [there.address]


@pytest.mark.slow  # waits for a clock
async def test_the_loop_cuts_the_connection_of_who_was_suspended_although_it_failed_at_first(house: House) -> None:
    """Through the supervisor, with a connection to the instance that is open all the time; health tells meanwhile."""
    world, platform = house.world, house.platform
    user, login = await house.comes()
    instance = await house.runs(user)
    await house.enters(instance, login)
    assert instance.address is not None
    real = world.runtime.cut
    failures = 0

    async def fails(addresses: Sequence[Address]) -> None:
        nonlocal failures
        failures += 1
        if failures <= 4:
            raise ConnectionsNotCut("Open connections could not be closed: ss has failed.")
        await real(addresses)

    world.runtime.cut = fails  # type: ignore[method-assign]
    reader, writer = await asyncio.open_connection(instance.address.host, instance.address.port)
    background = world.run(platform, platform.revoker.loop(world.clock))

    async def looked() -> bool:
        return next(iter(background.health())).last_success_at is not None

    await until(looked)
    world.runtime.hold("before stop")  # saving may take long, and its end closes the connection, too
    await platform.users.change(user.id, UserChange(status=UserStatus.SUSPENDED), ACTOR, world.clock())
    with suppress(ConnectionError):
        assert await asyncio.wait_for(reader.read(), 20) == b""
    writer.close()
    world.runtime.release()
    told = next(iter(background.health()))
    assert told.failures >= 2
    assert told.last_error == "Open connections could not be closed: ss has failed."
