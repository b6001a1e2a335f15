"""Signing in: who gets a code, what a code opens, how often, and for how long."""

from __future__ import annotations

import asyncio
import hmac
import os
from datetime import timedelta
from pathlib import Path

import pytest

from launchpad.domain.signin import ChallengeState
from launchpad.domain.users import Role, UserStatus
from launchpad.errors import InvalidInput, LaunchpadError, NotFound, TooManyRequests, WrongCode
from launchpad.platform import Platform
from launchpad.services.logins import Client, SignedIn
from launchpad.services.registration import add_user, on_disk
from launchpad.services.users import UserChange
from support.databases import on_every_database
from support.platforms import ACTOR, World, launch, sign_in

HERE = Client("192.0.2.1", "Mozilla/5.0 (X11; Linux x86_64) Firefox/140.0")
ALICE = "alice@a.org"


async def ask(platform: Platform, world: World, address: str, client: Client = HERE) -> tuple[str, str]:
    """The cookie of a new challenge, and the code that was sent."""
    asked = await platform.sign_in.ask(address, client, world.clock())
    await platform.mail.drain()
    return asked.cookie, world.letters.codes(address)[-1]


async def verify(platform: Platform, world: World, cookie: str | None, code: str, client: Client = HERE) -> SignedIn:
    return await platform.sign_in.verify(cookie, code, False, client, world.clock())


def wrong(code: str) -> str:
    """Another code of the same kind."""
    return ("1" if code[0] == "0" else "0") + code[1:] if code.isdigit() else code[::-1] + "X"


@pytest.mark.slow
@on_every_database
async def test_a_user_is_registered_when_the_code_is_verified_not_when_it_is_asked_for(
    world: World, platform: Platform
) -> None:
    cookie, code = await ask(platform, world, ALICE)
    assert world.rows("SELECT email FROM users") == []
    signed_in = await verify(platform, world, cookie, code)
    assert world.rows("SELECT email FROM users") == [(ALICE,)]
    assert signed_in.user.email == ALICE
    assert signed_in.user.role is Role.USER
    assert not (world.homes_root / signed_in.user.username).exists(), "the home is made at the first launch"


@pytest.mark.root  # files belong to others
@on_every_database
async def test_nobody_gets_the_uid_of_files_whose_user_the_database_has_forgotten(
    world: World, platform: Platform
) -> None:
    """As after the restore of an older backup: who came since then has a home, and is unknown."""
    lost, _ = await sign_in(platform, "lost@example.org")
    home = await platform.homes.prepare(lost.username, lost.uid, None)
    await world.change("DELETE FROM users")
    stranger, _ = await sign_in(platform, "stranger@example.org")
    again, _ = await sign_in(platform, "lost@example.org")
    assert len({lost.uid, stranger.uid, again.uid}) == 3
    assert again.username != lost.username
    assert home.stat().st_uid == lost.uid


@pytest.mark.slow
async def test_the_first_of_all_is_no_administrator_unless_named_in_the_settings(
    world: World, platform: Platform
) -> None:
    first, _ = await sign_in(platform, "somebody@example.org")
    named, _ = await sign_in(platform, "Admin@Example.org".lower())
    assert (first.role, named.role) == (Role.USER, Role.ADMIN)


@on_every_database
async def test_naming_somebody_later_makes_no_administrator_and_taking_back_the_role_lasts(world: World) -> None:
    """`admin_emails` counts at the first sign-in only; afterwards the role is what administrators make of it."""
    first = await world.open()
    admin, _ = await sign_in(first, "admin@example.org")
    other, _ = await sign_in(first, "second@example.org")
    await first.users.change(other.id, UserChange(role=Role.ADMIN), ACTOR, world.clock())
    await first.users.change(admin.id, UserChange(role=Role.USER), ACTOR, world.clock())
    later, _ = await sign_in(first, "later@example.org")
    world.settings["admin_emails"] = ["admin@example.org", "later@example.org"]
    second = await world.open()
    assert (await sign_in(second, "admin@example.org"))[0].role is Role.USER
    assert (await sign_in(second, "later@example.org"))[0].role is later.role is Role.USER


@pytest.mark.slow
async def test_known_unknown_and_suspended_addresses_get_the_same_answer(tmp_path: Path) -> None:
    """The same kind of challenge, expiry and record; only the mail differs, which the one who asks does not see."""
    world = World(tmp_path, {"sign_in": {"allowed_domains": ["a.org"]}})
    platform = await world.open()
    await sign_in(platform, "known@a.org")
    suspended, _ = await sign_in(platform, "suspended@a.org")
    await platform.users.change(suspended.id, UserChange(status=UserStatus.SUSPENDED), ACTOR, world.clock())
    world.letters.sent.clear()
    answers = {}
    addresses = ("known@a.org", "new@a.org", "suspended@a.org")
    for address in addresses:
        answers[address] = await platform.sign_in.ask(address, HERE, world.clock())
    await platform.mail.drain()
    assert {(len(one.id), one.expires_at, len(one.cookie)) for one in answers.values()} == {
        (16, world.clock() + timedelta(minutes=10), 43)
    }
    assert sorted(letter["To"] for letter in world.letters.sent) == ["known@a.org", "new@a.org"]
    right = {address: world.letters.codes(address)[-1] for address in addresses[:2]}
    said: dict[str, list[tuple[str, dict[str, str]]]] = {}
    for address in addresses:
        cookie = answers[address].cookie
        before = await platform.sign_in.asked_before(cookie, world.clock())
        assert before is not None
        assert (before.address, before.state) == (address, ChallengeState.LIVE)
        for _ in range(6):
            with pytest.raises(WrongCode) as refused:
                await verify(platform, world, cookie, wrong(right.get(address, "000000")))
            said.setdefault(address, []).append((refused.value.detail, refused.value.fields))
        after = await platform.sign_in.asked_before(cookie, world.clock())
        assert after is not None
        assert after.state is ChallengeState.OUT_OF_TRIES
    assert said["suspended@a.org"] == said["new@a.org"] == said["known@a.org"]
    await world.close()


@pytest.mark.parametrize("address", ["x@evil-a.org", "x@a.org.evil.org", "x@sub.a.org", "known@b.org", "new@b.org"])
async def test_an_address_outside_the_allowed_domains_is_refused_at_once_known_or_not(
    tmp_path: Path, address: str
) -> None:
    """The domains are public; were who is known let in nevertheless, the answer would tell who is."""
    world = World(tmp_path, {"sign_in": {"allowed_domains": ["a.org", "c.org", "d.org"]}})
    platform = await world.open()
    async with platform.database.transaction() as db:
        disk = await on_disk(platform.homes, "known@b.org")
        await add_user(db, platform.settings, "known@b.org", disk, created_at=world.clock())
    with pytest.raises(InvalidInput) as refused:
        await platform.sign_in.ask(address, HERE, world.clock())
    assert refused.value.detail == "Only e-mail addresses at a.org, c.org or d.org can sign in here."
    assert list(refused.value.fields) == ["email"]
    await platform.mail.drain()
    assert world.letters.sent == []
    assert world.rows("SELECT * FROM challenges") == []
    recorded = "SELECT count(*) FROM audit WHERE action = 'sign-in.refused'"
    for _ in range(3):
        with pytest.raises(InvalidInput):
            await platform.sign_in.ask(address, HERE, world.clock())
    assert world.rows(recorded) == [(1,)], "written down once an hour and client"
    assert await ask(platform, world, "somebody@c.org")
    await world.close()


@pytest.mark.parametrize(
    "address",
    [
        "a@b@a.org",
        "a@localhost",
        "\uff21@a.org",
        "a@\u0430.org",
        "a@a.org\nBcc: x@x.org",
        "x" * 300 + "@a.org",
        "",
        "a.org",
    ],
)
async def test_what_is_no_address_is_refused_and_nothing_is_recorded(
    world: World, platform: Platform, address: str
) -> None:
    with pytest.raises(InvalidInput) as refused:
        await platform.sign_in.ask(address, HERE, world.clock())
    assert list(refused.value.fields) == ["email"]
    assert world.rows("SELECT * FROM challenges") == []
    assert world.letters.sent == []


@pytest.mark.slow
async def test_a_code_stands_nowhere_in_the_files_of_the_database(tmp_path: Path) -> None:
    """The store keeps an HMAC, under a key that it does not hold; the record of events has no code either."""
    world = World(tmp_path)
    platform = await world.open()
    secrets = []
    for number in range(5):
        # One is only asked for, one tried wrongly, the others used.
        cookie, code = await ask(platform, world, f"person{number}@a.org")
        secrets += [cookie, code]
        if number == 1:
            with pytest.raises(WrongCode):
                await verify(platform, world, cookie, wrong(code))
        if number > 1:
            secrets.append((await verify(platform, world, cookie, code)).secret)
    digests = {digest for (digest,) in world.rows("SELECT code_digest FROM challenges")}
    assert all(len(digest) == 64 for digest in digests)
    stored = b"".join(path.read_bytes() for path in (tmp_path / "state").glob("launchpad.db*"))
    for secret in secrets:
        assert secret.encode() not in stored
    for letter in world.letters.sent:
        assert not any(code in str(value) for code in secrets for value in letter.values()), "not in a header"
    challenge_id, digest = world.rows("SELECT id, code_digest FROM challenges ORDER BY created_at, id")[0]
    own = hmac.new(platform.state.key("codes"), f"code:{challenge_id}:".encode(), "sha256")
    codes = [code for number in range(5) for code in world.letters.codes(f"person{number}@a.org")]
    made = set()
    for code in codes:
        copy = own.copy()
        copy.update(code.encode())
        made.add(copy.hexdigest())
    assert digest in made
    await world.close()


@pytest.mark.slow
@on_every_database
@pytest.mark.parametrize("registered", [False, True])
async def test_fifty_correct_verifications_at_once_are_one_login(
    world: World, platform: Platform, registered: bool
) -> None:
    if registered:
        await sign_in(platform, ALICE)
    before = len(world.rows("SELECT id FROM logins"))
    other = await world.open()  # two processes share the work
    cookie, code = await ask(platform, world, ALICE)
    results = await asyncio.gather(
        *(verify((platform, other)[n % 2], world, cookie, code, Client(f"192.0.2.{n}")) for n in range(50)),
        return_exceptions=True,
    )
    assert len([result for result in results if isinstance(result, SignedIn)]) == 1
    assert all(isinstance(result, SignedIn | WrongCode) for result in results)
    assert len(world.rows("SELECT id FROM logins")) == before + 1
    assert len(world.rows("SELECT id FROM users")) == 1


@pytest.mark.slow
@on_every_database
async def test_of_two_hundred_wrong_codes_at_once_five_are_evaluated_then_the_right_one_fails_too(
    world: World, platform: Platform
) -> None:
    cookie, code = await ask(platform, world, ALICE)
    results = await asyncio.gather(
        *(verify(platform, world, cookie, wrong(code), Client(f"192.0.2.{n}")) for n in range(200)),
        return_exceptions=True,
    )
    assert {type(result) for result in results} == {WrongCode}
    assert world.rows("SELECT attempts FROM challenges") == [(5,)]
    assert world.rows("SELECT count(*) FROM verifications WHERE NOT succeeded") == [(5,)]
    with pytest.raises(WrongCode):
        await verify(platform, world, cookie, code)
    fresh = await ask(platform, world, ALICE)
    assert (await verify(platform, world, *fresh)).user.email == ALICE


async def test_the_number_of_tries_is_a_setting(tmp_path: Path) -> None:
    world = World(tmp_path, {"sign_in": {"code_attempts": 2}})
    platform = await world.open()
    cookie, code = await ask(platform, world, ALICE)
    for _ in range(2):
        with pytest.raises(WrongCode):
            await verify(platform, world, cookie, wrong(code))
    with pytest.raises(WrongCode):
        await verify(platform, world, cookie, code)
    await world.close()


@on_every_database
async def test_a_code_works_only_in_the_browser_that_asked_for_it(world: World, platform: Platform) -> None:
    """Another browser's right code fails and costs no try; its own challenge leaves mine alive."""
    mine, my_code = await ask(platform, world, ALICE)
    theirs, their_code = await ask(platform, world, ALICE, Client("198.51.100.9"))
    with pytest.raises(WrongCode):
        await verify(platform, world, theirs, my_code if my_code != their_code else wrong(my_code))
    for cookie in (None, "", "guess", "x" * 43):
        with pytest.raises(WrongCode):
            await verify(platform, world, cookie, my_code)
    assert (await verify(platform, world, mine, my_code)).user.email == ALICE
    tries = world.rows("SELECT attempts FROM challenges ORDER BY attempts")
    assert tries == [(1,), (1,)], "one wrong try on theirs, the right one on mine"


async def test_people_may_type_the_code_with_blanks_and_dashes(world: World, platform: Platform) -> None:
    cookie, code = await ask(platform, world, ALICE)
    assert (await verify(platform, world, cookie, f" {code[:3]} - {code[3:]}\n")).user.email == ALICE


@on_every_database
@pytest.mark.parametrize("minutes", [10, 11, 60 * 24])
async def test_a_code_expires_by_the_clock(world: World, platform: Platform, minutes: int) -> None:
    cookie, code = await ask(platform, world, ALICE)
    world.clock.now += timedelta(minutes=minutes)
    with pytest.raises(WrongCode, match="expired"):
        await verify(platform, world, cookie, code)
    before = await platform.sign_in.asked_before(cookie, world.clock())
    assert before is not None
    assert (before.address, before.state) == (ALICE, ChallengeState.EXPIRED), "a new one can be sent in one click"


async def test_a_code_works_until_just_before_it_expires(world: World, platform: Platform) -> None:
    cookie, code = await ask(platform, world, ALICE)
    world.clock.now += timedelta(minutes=9, seconds=59)
    assert (await verify(platform, world, cookie, code)).user.email == ALICE


@pytest.mark.parametrize("days", [-1, 1, -30, 30])
async def test_f8_a_clock_that_jumps_makes_no_used_code_live_again(world: World, platform: Platform, days: int) -> None:
    cookie, code = await ask(platform, world, ALICE)
    await verify(platform, world, cookie, code)
    for _ in range(2):  # there, and back again
        world.clock.now += timedelta(days=days)
        await platform.sweep.sweep(world.clock())
        with pytest.raises(WrongCode):
            await verify(platform, world, cookie, code)
        days = -days


@pytest.mark.slow
@on_every_database
async def test_an_address_gets_five_codes_an_hour_whoever_asks(world: World, platform: Platform) -> None:
    for number in range(5):
        await ask(platform, world, ALICE, Client(f"192.0.2.{number}"))
    with pytest.raises(TooManyRequests) as refused:
        await ask(platform, world, ALICE, Client("198.51.100.1"))
    assert refused.value.retry_after_seconds
    await ask(platform, world, "another@a.org")
    world.clock.now += timedelta(hours=1)
    await ask(platform, world, ALICE)


@pytest.mark.slow
@on_every_database
async def test_an_address_gets_twenty_codes_a_day(world: World, platform: Platform) -> None:
    for number in range(20):
        if number % 5 == 0:
            world.clock.now += timedelta(hours=1, seconds=1)
        await ask(platform, world, ALICE, Client(f"192.0.2.{number}"))
    world.clock.now += timedelta(hours=2)
    with pytest.raises(TooManyRequests):
        await ask(platform, world, ALICE)
    world.clock.now += timedelta(hours=22)
    await ask(platform, world, ALICE)


@pytest.mark.slow
async def test_a_suspended_address_meets_the_same_limits_as_a_known_one(world: World, platform: Platform) -> None:
    """Else the limit would tell who is suspended."""
    user, _ = await sign_in(platform, "x@a.org")
    await platform.users.change(user.id, UserChange(status=UserStatus.SUSPENDED), ACTOR, world.clock())
    world.clock.now += timedelta(hours=1)
    said = []
    for address in ("x@a.org", "new@a.org"):
        for number in range(5):
            await platform.sign_in.ask(address, Client(f"192.0.2.{number}"), world.clock())
        with pytest.raises(TooManyRequests) as refused:
            await platform.sign_in.ask(address, HERE, world.clock())
        said.append((refused.value.detail, refused.value.retry_after_seconds))
    assert said[0] == said[1]


@pytest.mark.slow  # 600 sign-ins
async def test_a_class_of_three_hundred_behind_one_address_signs_in_twice(world: World, platform: Platform) -> None:
    """With the settings as they are: 600 codes an hour for a client, and no limit on what succeeds."""
    assert platform.settings.sign_in.sends_per_hour_per_client == 600
    for round_number in range(2):
        addresses = [f"person{number}@a.org" for number in range(300)]
        cookies = [(await platform.sign_in.ask(one, HERE, world.clock())).cookie for one in addresses]
        await platform.mail.drain()
        for cookie, address in zip(cookies, addresses, strict=True):
            signed_in = await verify(platform, world, cookie, world.letters.codes(address)[-1])
            assert signed_in.user.email == address, round_number
    with pytest.raises(TooManyRequests):
        await ask(platform, world, ALICE)
    await ask(platform, world, ALICE, Client("198.51.100.1"))


@pytest.mark.slow
async def test_a_client_may_ask_for_so_many_codes_an_hour(tmp_path: Path) -> None:
    world = World(tmp_path, {"sign_in": {"sends_per_hour_per_client": 20}})
    platform = await world.open()
    for number in range(20):
        await ask(platform, world, f"person{number}@a.org")
    with pytest.raises(TooManyRequests):
        await ask(platform, world, ALICE)
    await ask(platform, world, ALICE, Client("198.51.100.1"))
    await world.close()


@pytest.mark.slow
async def test_a_trusted_network_may_do_ten_times_as_much(tmp_path: Path) -> None:
    rules = {
        "sends_per_hour_per_client": 3,
        "failures_per_hour_per_client": 2,
        "trusted_networks": ["192.0.2.0/24", "2001:db8:7::/48"],
    }
    world = World(tmp_path, {"sign_in": rules})
    platform = await world.open()
    for address in ("192.0.2.9", "::ffff:192.0.2.10", "2001:db8:7:1::5"):
        inside = Client(address)
        for number in range(30):
            await platform.sign_in.ask(f"p{number}-{address.count(':')}@a.org", inside, world.clock())
        with pytest.raises(TooManyRequests):
            await platform.sign_in.ask("late@a.org", inside, world.clock())
        for _ in range(20):
            with pytest.raises(WrongCode):
                await verify(platform, world, "no such challenge", "000000", inside)
        with pytest.raises(TooManyRequests):
            await verify(platform, world, "no such challenge", "000000", inside)
    outside = Client("198.51.100.1")
    for number in range(3):
        await platform.sign_in.ask(f"o{number}@a.org", outside, world.clock())
    with pytest.raises(TooManyRequests):
        await platform.sign_in.ask("late@a.org", outside, world.clock())
    await world.close()


@on_every_database
@pytest.mark.parametrize(
    ("rules", "said"),
    [
        (
            {"sends_per_hour_per_address": 2},
            "2 codes were requested for this e-mail address in the last hour, which is the limit. "
            "You can try again in 50 minutes.",
        ),
        (
            {"sends_per_day_per_address": 2},
            "2 codes were requested for this e-mail address in the last 24 hours, which is the limit. "
            "You can try again in 24 hours.",
        ),
        (
            {"sends_per_hour_per_client": 2},
            "2 codes were requested from your network in the last hour, by everybody there together, which is the "
            "limit. You can try again in 50 minutes.",
        ),
    ],
)
async def test_a_limit_says_which_it_is_and_when_it_ends_and_that_is_true(
    tmp_path: Path, rules: dict[str, int], said: str
) -> None:
    """Nobody is told to use a code they may not have: whoever asked may be somebody else."""
    world = World(tmp_path, {"sign_in": rules})
    platform = await world.open()
    for _ in range(2):
        await platform.sign_in.ask(ALICE, HERE, world.clock())
        world.clock.now += timedelta(minutes=5)
    with pytest.raises(TooManyRequests) as refused:
        await platform.sign_in.ask(ALICE, HERE, world.clock())
    assert refused.value.detail == said
    seconds = refused.value.retry_after_seconds
    assert seconds is not None
    world.clock.now += timedelta(seconds=seconds - 1)
    with pytest.raises(TooManyRequests):
        await platform.sign_in.ask(ALICE, HERE, world.clock())
    world.clock.now += timedelta(seconds=1)
    await platform.sign_in.ask(ALICE, HERE, world.clock())
    await world.close()


@on_every_database
async def test_a_browser_that_tried_too_often_is_told_so_and_no_other_is(world: World, platform: Platform) -> None:
    """After five wrong codes the right one fails with true words; who has another browser's cookie learns nothing."""
    cookie, code = await ask(platform, world, ALICE)
    other, _ = await ask(platform, world, ALICE, Client("198.51.100.1"))
    said = []
    for guess in [wrong(code)] * 5 + [code]:
        with pytest.raises(WrongCode) as refused:
            await verify(platform, world, cookie, guess)
        said.append(refused.value.detail)
    assert said[:4] == ["That code is not right. Check the newest e-mail, or ask for a new code."] * 4
    assert said[4:] == ["Too many wrong codes. Ask for a new code."] * 2
    for elsewhere, words in ((other, "not right"), ("guess", "has not asked")):
        with pytest.raises(WrongCode) as refused:
            await verify(platform, world, elsewhere, code, Client("198.51.100.1"))
        assert words in refused.value.detail
        assert "Too many" not in refused.value.detail


@pytest.mark.slow
@on_every_database
async def test_limits_hold_when_many_ask_at_once(world: World, platform: Platform) -> None:
    other = await world.open()
    results = await asyncio.gather(
        *((platform, other)[n % 2].sign_in.ask(ALICE, Client(f"192.0.2.{n}"), world.clock()) for n in range(40)),
        return_exceptions=True,
    )
    assert len([result for result in results if not isinstance(result, LaunchpadError)]) == 5
    assert world.rows("SELECT count(*) FROM challenges") == [(5,)]


@pytest.mark.slow
@on_every_database
async def test_a_client_may_fail_a_hundred_and_twenty_times_an_hour(world: World, platform: Platform) -> None:
    for number in range(24):
        cookie, code = await ask(platform, world, f"person{number}@a.org", Client(f"198.51.100.{number}"))
        for _ in range(5):
            with pytest.raises(WrongCode):
                await verify(platform, world, cookie, wrong(code))
        if number == 0:
            world.clock.now += timedelta(minutes=10)
    mine = await ask(platform, world, ALICE)
    with pytest.raises(TooManyRequests) as refused:
        await verify(platform, world, *mine)
    assert refused.value.detail == (
        "120 tries to sign in have failed from your network in the last hour, by everybody there together, "
        "which is the limit. You can try again in 50 minutes."
    )
    assert world.rows("SELECT attempts FROM challenges WHERE address = ?", ALICE) == [(0,)], "it costs no try"
    assert (await verify(platform, world, *mine, Client("203.0.113.1"))).user.email == ALICE


@pytest.mark.slow
@on_every_database
async def test_tries_at_no_code_count_for_their_client_and_make_no_codes_long(world: World, platform: Platform) -> None:
    """Who sends nonsense uses up their own tries; for the whole server only guesses at somebody's code count."""
    for _ in range(120):
        with pytest.raises(WrongCode):
            await verify(platform, world, "no such challenge", "000000", Client("198.51.100.1"))
    with pytest.raises(TooManyRequests):
        await verify(platform, world, "no such challenge", "000000", Client("198.51.100.1"))
    for _ in range(120):
        with pytest.raises(WrongCode):
            await verify(platform, world, "no such challenge", "000000", Client("198.51.100.2"))
    assert len((await ask(platform, world, ALICE))[1]) == 6


@pytest.mark.slow
@on_every_database
async def test_after_twenty_failures_in_a_row_an_address_gets_long_codes_and_is_not_locked_out(
    world: World, platform: Platform
) -> None:
    for _ in range(4):
        cookie, code = await ask(platform, world, ALICE, Client("198.51.100.1"))
        assert len(code) == 6
        assert code.isdigit()
        for _ in range(5):
            with pytest.raises(WrongCode):
                await verify(platform, world, cookie, wrong(code), Client("198.51.100.1"))
    cookie, code = await ask(platform, world, ALICE)
    assert len(code) == 10
    assert not code.isdigit()
    _, others = await ask(platform, world, "bob@a.org")
    assert len(others) == 6, "others are not concerned"
    assert (await verify(platform, world, cookie, code.lower())).user.email == ALICE
    world.clock.now += timedelta(hours=1)
    assert len((await ask(platform, world, ALICE))[1]) == 6, "a success ends the row"


@pytest.mark.slow
@on_every_database
async def test_past_the_limit_of_the_whole_server_new_codes_are_long_for_an_hour(tmp_path: Path) -> None:
    world = World(tmp_path, {"sign_in": {"failures_per_hour_total": 10}})
    platform = await world.open()
    for number in range(2):
        cookie, code = await ask(platform, world, f"person{number}@a.org")
        for _ in range(5):
            with pytest.raises(WrongCode):
                await verify(platform, world, cookie, wrong(code))
    cookie, code = await ask(platform, world, ALICE)
    assert len(code) == 10
    assert (await verify(platform, world, cookie, code)).user.email == ALICE
    world.clock.now += timedelta(hours=1, seconds=1)
    assert len((await ask(platform, world, ALICE))[1]) == 6
    await world.close()


# -- logins ------------------------------------------------------------------------------------------------------------


@on_every_database
async def test_a_login_ends_after_its_idle_time_and_use_keeps_it_alive(world: World, platform: Platform) -> None:
    user, secret = await sign_in(platform, ALICE)
    world.clock.now += timedelta(hours=11, minutes=59)
    found = await platform.logins.authenticate(secret, world.clock())
    assert found is not None
    assert found[0].id == user.id
    await platform.last_seen.settle()
    world.clock.now += timedelta(hours=11)
    assert await platform.logins.authenticate(secret, world.clock())
    _, idle = await sign_in(platform, ALICE)
    world.clock.now += timedelta(hours=12)
    assert await platform.logins.authenticate(idle, world.clock()) is None


@on_every_database
async def test_a_login_ends_after_a_day_even_when_it_is_used_all_the_time(world: World, platform: Platform) -> None:
    _, secret = await sign_in(platform, ALICE)
    for _ in range(23):
        world.clock.now += timedelta(hours=1)
        assert await platform.logins.authenticate(secret, world.clock())
    world.clock.now += timedelta(hours=1)
    assert await platform.logins.authenticate(secret, world.clock()) is None


@on_every_database
async def test_a_remembered_login_lasts_its_days_without_use(world: World, platform: Platform) -> None:
    _, secret = await sign_in(platform, ALICE, remember=True)
    world.clock.now += timedelta(days=6, hours=23)
    assert await platform.logins.authenticate(secret, world.clock())
    world.clock.now += timedelta(hours=1)
    assert await platform.logins.authenticate(secret, world.clock()) is None


@on_every_database
@pytest.mark.parametrize("secret", [None, "", "x" * 43, "' OR 1=1 --"])
async def test_a_guessed_login_is_nobody(world: World, platform: Platform, secret: str | None) -> None:
    await sign_in(platform, ALICE)
    assert await platform.logins.authenticate(secret, world.clock()) is None


@on_every_database
async def test_signing_out_ends_this_login_and_no_other(world: World, platform: Platform) -> None:
    user, here = await sign_in(platform, ALICE)
    _, there = await sign_in(platform, ALICE)
    found = await platform.logins.authenticate(here, world.clock())
    assert found is not None
    await platform.logins.sign_out(user, found[1], HERE, world.clock())
    assert await platform.logins.authenticate(here, world.clock()) is None
    assert await platform.logins.authenticate(there, world.clock())


@on_every_database
async def test_somebody_can_end_their_other_logins_but_nobody_elses(world: World, platform: Platform) -> None:
    alice, secret = await sign_in(platform, ALICE)
    bob, _ = await sign_in(platform, "bob@a.org")
    login = (await platform.logins.of_user(alice, world.clock()))[0]
    with pytest.raises(NotFound):
        await platform.logins.end(bob, login.id, HERE, world.clock())
    assert await platform.logins.authenticate(secret, world.clock())
    await platform.logins.end(alice, login.id, HERE, world.clock())
    assert await platform.logins.authenticate(secret, world.clock()) is None


@on_every_database
async def test_suspension_ends_every_login_and_no_code_opens_until_it_is_lifted(
    world: World, platform: Platform
) -> None:
    user, secret = await sign_in(platform, ALICE)
    cookie, code = await ask(platform, world, ALICE)  # asked for while still active
    await platform.users.change(user.id, UserChange(status=UserStatus.SUSPENDED), ACTOR, world.clock())
    assert await platform.logins.authenticate(secret, world.clock()) is None
    with pytest.raises(WrongCode):
        await verify(platform, world, cookie, code)
    sent = len(world.letters.sent)
    await platform.sign_in.ask(ALICE, HERE, world.clock())
    await platform.mail.drain()
    assert len(world.letters.sent) == sent
    await platform.users.change(user.id, UserChange(status=UserStatus.ACTIVE), ACTOR, world.clock())
    assert await platform.logins.authenticate(secret, world.clock()) is None, "the old login stays ended"
    assert (await sign_in(platform, ALICE))[0].id == user.id


async def test_a_csrf_token_belongs_to_one_login(world: World, platform: Platform) -> None:
    _, one = await sign_in(platform, ALICE)
    _, two = await sign_in(platform, ALICE)
    first = await platform.logins.authenticate(one, world.clock())
    second = await platform.logins.authenticate(two, world.clock())
    assert first is not None
    assert second is not None
    token = platform.logins.csrf_token(first[1])
    assert platform.logins.csrf_matches(first[1], token)
    for wrong_token in (None, "", token[:-1], platform.logins.csrf_token(second[1]), "ü"):
        assert not platform.logins.csrf_matches(first[1], wrong_token)


# -- who is who --------------------------------------------------------------------------------------------------------


@pytest.mark.root  # homes belong to their users
@on_every_database
async def test_two_people_with_one_local_part_get_two_usernames_uids_and_homes(
    world: World, platform: Platform
) -> None:
    one, _ = await sign_in(platform, "alice@a.org")
    two, _ = await sign_in(platform, "alice@b.org")
    assert (one.username, two.username) == ("alice", "alice-2")
    assert one.uid != two.uid
    for user in (one, two):
        await launch(platform, user)
    await platform.runner.wait()
    for user in (one, two):
        found = (world.homes_root / user.username).stat()
        assert (found.st_uid, found.st_gid, found.st_mode & 0o777) == (user.uid, user.uid, 0o700)


@pytest.mark.slow
@on_every_database
async def test_people_who_register_at_once_get_different_names_and_uids(world: World, platform: Platform) -> None:
    other = await world.open()
    cookies = [(*await ask(platform, world, f"alice@d{n}.org", Client(f"192.0.2.{n}")), n) for n in range(12)]
    signed_in = await asyncio.gather(
        *(verify((platform, other)[n % 2], world, cookie, code) for cookie, code, n in cookies)
    )
    assert len({one.user.username for one in signed_in}) == 12
    assert len({one.user.uid for one in signed_in}) == 12


@pytest.mark.root  # it belongs to others
@pytest.mark.parametrize("kind", ["directory", "file", "link"])
async def test_what_lies_in_the_homes_already_is_not_taken(world: World, platform: Platform, kind: str) -> None:
    """`/home/alice` may be a system user's, or a former owner's."""
    there = world.homes_root / "alice"
    if kind == "directory":
        there.mkdir()
        os.chown(there, 12345, 12345)
    elif kind == "file":
        there.write_text("keep me", encoding="utf-8")
    else:
        there.symlink_to("/nowhere")
    user, _ = await sign_in(platform, ALICE)
    assert user.username == "alice-2"
    assert there.lstat().st_uid == (12345 if kind == "directory" else 0)


@pytest.mark.slow
@on_every_database
async def test_a_known_browser_has_codes_of_its_own_and_none_is_known_by_its_word(
    world: World, platform: Platform
) -> None:
    """The cookie is given out at the sign-in; one that was put there by somebody else is replaced."""
    cookie, code = await ask(platform, world, ALICE)
    planted = Client("192.0.2.1", known_browser="planted by a stranger")
    first = await verify(platform, world, cookie, code, planted)
    assert first.known_browser != planted.known_browser
    stranger = Client("198.51.100.1", known_browser=planted.known_browser)
    for _ in range(4):
        await ask(platform, world, ALICE, stranger)
    with pytest.raises(TooManyRequests):
        await ask(platform, world, ALICE, stranger)
    mine = Client("192.0.2.1", known_browser=first.known_browser)
    for _ in range(4):
        await ask(platform, world, ALICE, mine)
    again = await verify(platform, world, *await ask(platform, world, ALICE, mine), mine)
    assert again.known_browser == first.known_browser
    with pytest.raises(TooManyRequests):
        await ask(platform, world, ALICE, mine)
    assert await ask(platform, world, "bob@a.org", mine), "for other addresses it is a browser like any"


@pytest.mark.parametrize(
    ("address", "key"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("unknown", "unknown"),
    ],
)
def test_an_ipv6_client_is_its_network(address: str, key: str) -> None:
    assert Client(address).key == key
