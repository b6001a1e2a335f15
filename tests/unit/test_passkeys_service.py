"""Passkeys: what one opens, and everything that it does not."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from launchpad.domain.signin import Login
from launchpad.domain.users import User, UserStatus
from launchpad.errors import Conflict, InvalidInput, LaunchpadError, NotFound, TooManyRequests, WrongCode
from launchpad.platform import Platform
from launchpad.services.audit import Actor
from launchpad.services.logins import Client
from launchpad.services.users import UserChange
from launchpad.settings import tables
from launchpad.wiring import build_platform
from support.authenticator import Device
from support.databases import on_every_database
from support.platforms import ACTOR, World, sign_in

ORIGIN = "http://localhost:8080"
HERE = Client("192.0.2.9", "Firefox")


class Desk:
    """Alice, who is signed in."""

    def __init__(self, world: World, platform: Platform, user: User, login: Login) -> None:
        self.world, self.platform, self.user, self.login = world, platform, user, login
        self.actor = Actor.of(user, HERE.address)

    @property
    def now(self) -> Any:
        return self.world.clock()

    async def add(self, device: Device, name: str = "laptop", **how: Any) -> Any:
        options = await self.platform.passkeys.ask_to_add(self.user, self.login, self.now)
        answer = device.make(options, **how)
        return await self.platform.passkeys.add(self.user, self.login, answer, name, self.actor, self.now)

    async def touch(self, device: Device, **how: Any) -> tuple[str, dict[str, Any]]:
        """The cookie and the device's answer."""
        asked = await self.platform.passkeys.ask_to_sign_in(self.now)
        return asked.cookie, device.sign(asked.options, **how)

    async def sign_in(self, cookie: str | None, answer: dict[str, Any], client: Client = HERE) -> Any:
        return await self.platform.passkeys.sign_in(cookie, answer, False, client, self.now)


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    world = World(tmp_path, {"sign_in": {"failures_per_hour_per_client": 100}})
    platform = await world.open()
    user, secret = await sign_in(platform, "alice@a.org")
    found = await platform.logins.authenticate(secret, world.clock())
    assert found is not None
    yield Desk(world, platform, user, found[1])
    await world.close()


@pytest.mark.slow
@on_every_database
async def test_a_passkey_signs_its_owner_in_and_tells_them_that_it_was_added(desk: Desk) -> None:
    device = Device(ORIGIN)
    await desk.add(device, "  my \n laptop ")
    await desk.platform.mail.drain()
    letter = desk.world.letters.sent[-1]
    assert "passkey was added" in str(letter["Subject"])
    assert [part.get_content_type() for part in letter.iter_parts()] == ["text/plain", "text/html"]
    for part in letter.iter_parts():
        assert "my laptop" in part.get_content()
    signed_in = await desk.sign_in(*await desk.touch(device))
    assert signed_in.user.id == desk.user.id
    found = await desk.platform.logins.authenticate(signed_in.secret, desk.now)
    assert found is not None
    [passkey] = await desk.platform.passkeys.of_user(desk.user)
    assert (passkey.name, passkey.sign_count, passkey.last_used_at) == ("my laptop", 1, desk.now)
    records = await desk.platform.audit.page()
    assert [(one.action, dict(one.details)) for one in records[:2]] == [
        ("sign-in.succeeded", {"by": "passkey"}),
        ("passkey.added", {"passkey": "my laptop"}),
    ]


@pytest.mark.slow
@on_every_database
async def test_fifty_with_one_answer_are_one_login(desk: Desk) -> None:
    device = Device(ORIGIN)
    await desk.add(device)
    cookie, answer = await desk.touch(device)
    got = await asyncio.gather(*(desk.sign_in(cookie, answer) for _ in range(50)), return_exceptions=True)
    assert sum(not isinstance(one, BaseException) for one in got) == 1
    assert all(isinstance(one, WrongCode) for one in got if isinstance(one, BaseException))


Spoil = Callable[[Device], None]


@pytest.mark.parametrize(
    "spoil",
    [
        lambda device: setattr(device, "origin", "http://evil.example"),
        lambda device: setattr(device, "origin", "http://localhost:8081"),
        lambda device: setattr(device, "rp_id", "evil.example"),
        lambda device: setattr(device, "_key", Device(ORIGIN)._key),
        lambda device: setattr(device, "credential_id", b"unknown"),
    ],
    ids=["another site", "the instances' origin", "another relying party", "another key", "an unknown passkey"],
)
async def test_what_is_not_exactly_that_passkey_here_opens_nothing(desk: Desk, spoil: Spoil) -> None:
    device = Device(ORIGIN)
    await desk.add(device)
    assert await desk.sign_in(*await desk.touch(device))
    spoil(device)
    with pytest.raises(WrongCode):
        await desk.sign_in(*await desk.touch(device))


@on_every_database
async def test_an_unverified_user_an_old_answer_and_another_browsers_are_refused(desk: Desk) -> None:
    device = Device(ORIGIN)
    await desk.add(device)
    with pytest.raises(WrongCode):
        await desk.sign_in(*await desk.touch(device, verified=False))
    cookie, answer = await desk.touch(device)
    with pytest.raises(WrongCode):
        await desk.sign_in((await desk.platform.passkeys.ask_to_sign_in(desk.now)).cookie, answer)
    with pytest.raises(WrongCode):
        await desk.sign_in(None, answer)
    desk.world.clock.now += timedelta(minutes=5)
    with pytest.raises(WrongCode):
        await desk.sign_in(cookie, answer)


@on_every_database
async def test_a_counter_that_goes_back_is_a_copied_device(desk: Desk) -> None:
    device = Device(ORIGIN)
    await desk.add(device)
    assert await desk.sign_in(*await desk.touch(device))
    device.sign_count = 0
    with pytest.raises(WrongCode):
        await desk.sign_in(*await desk.touch(device))


@on_every_database
async def test_removed_and_suspended_ones_open_nothing_and_the_answer_is_the_same(desk: Desk) -> None:
    device = Device(ORIGIN)
    passkey = await desk.add(device)
    texts = []
    await desk.platform.users.change(desk.user.id, UserChange(status=UserStatus.SUSPENDED), ACTOR, desk.now)
    with pytest.raises(WrongCode) as suspended:
        await desk.sign_in(*await desk.touch(device))
    texts.append(suspended.value.detail)
    await desk.platform.users.change(desk.user.id, UserChange(status=UserStatus.ACTIVE), ACTOR, desk.now)
    await desk.platform.passkeys.remove(desk.user, passkey.id, desk.actor, desk.now)
    with pytest.raises(WrongCode) as removed:
        await desk.sign_in(*await desk.touch(device))
    texts.append(removed.value.detail)
    assert len(set(texts)) == 1


@pytest.mark.slow
@on_every_database
async def test_nobody_removes_somebody_elses(desk: Desk) -> None:
    passkey = await desk.add(Device(ORIGIN))
    bob, _ = await sign_in(desk.platform, "bob@a.org")
    with pytest.raises(NotFound):
        await desk.platform.passkeys.remove(bob, passkey.id, ACTOR, desk.now)
    assert await desk.platform.passkeys.of_user(desk.user)


@pytest.mark.slow
@on_every_database
async def test_there_are_ten_at_most_and_none_twice(desk: Desk) -> None:
    devices = [Device(ORIGIN) for _ in range(10)]
    for device in devices[:9]:
        await desk.add(device)
    with pytest.raises(Conflict, match="here already"):
        await desk.add(devices[0])
    await desk.add(devices[9])
    with pytest.raises(Conflict, match="10 passkeys already"):
        await desk.add(Device(ORIGIN))


@pytest.mark.parametrize("spoil", [{"origin": "http://evil.example"}, {"rp_id": "evil.example"}])
async def test_what_another_site_had_made_is_not_kept(desk: Desk, spoil: dict[str, str]) -> None:
    device = Device(ORIGIN)
    for name, value in spoil.items():
        setattr(device, name, value)
    with pytest.raises(InvalidInput):
        await desk.add(device)
    with pytest.raises(InvalidInput):
        await desk.add(Device(ORIGIN), verified=False)
    assert await desk.platform.passkeys.of_user(desk.user) == []


@pytest.mark.parametrize("answer", [{}, {"id": "x"}, {"id": 5, "rawId": [], "response": "x"}, {"id": "é" * 3000}])
async def test_nonsense_is_refused_in_plain_words(desk: Desk, answer: dict[str, Any]) -> None:
    await desk.platform.passkeys.ask_to_add(desk.user, desk.login, desk.now)
    with pytest.raises(LaunchpadError):
        await desk.platform.passkeys.add(desk.user, desk.login, answer, "x", desk.actor, desk.now)
    asked = await desk.platform.passkeys.ask_to_sign_in(desk.now)
    with pytest.raises(WrongCode):
        await desk.sign_in(asked.cookie, answer)


@pytest.mark.slow
@on_every_database
async def test_tries_of_a_client_are_bounded(desk: Desk) -> None:
    for _ in range(100):
        with pytest.raises(WrongCode):
            await desk.sign_in("x", {"id": "x"})
    device = Device(ORIGIN)
    await desk.add(device)
    with pytest.raises(TooManyRequests):
        await desk.sign_in(*await desk.touch(device))
    assert await desk.sign_in(*await desk.touch(device), client=Client("192.0.2.10"))


@pytest.mark.parametrize(
    ("url", "possible"),
    [
        ("http://localhost:8080", True),
        ("http://lab.localhost:8080", True),
        ("https://lab.example.org", True),
        ("http://lab.example.org", False),
        ("http://127.0.0.1:8080", False),
        ("https://192.0.2.1", False),
    ],
)
async def test_passkeys_need_a_host_name_and_a_secure_connection(tmp_path: Path, url: str, possible: bool) -> None:
    scheme = url.partition(":")[0]
    settings = {
        "public_url": url,
        "instances_url": f"{scheme}://run.example.org",
        "state_dir": tmp_path,
        "homes": {"root": str(tmp_path), "driver": "plain"},
        "engine": {"runtime": "fake"},
    }
    platform = build_platform(tables(settings))
    assert platform.passkeys.possible is possible
    await platform.aclose()
