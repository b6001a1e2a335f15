"""The dashboard is kept as it was rendered until something that it shows changes: nobody ever sees an old one."""

from __future__ import annotations

import asyncio
import random
import sqlite3
from collections.abc import Awaitable, Callable, Mapping
from datetime import timedelta
from pathlib import Path
from time import monotonic

import pytest

from launchpad.domain.limits import Quota
from launchpad.domain.usage import Usage
from launchpad.domain.users import Role, User
from launchpad.services.audit import Actor
from launchpad.services.live import Live
from launchpad.services.users import UserChange
from launchpad.store import instances
from launchpad.web.app import presenter_over
from launchpad.web.pages.frame import Frame
from launchpad.web.views.kept import Kept

from .pages_client import ADMIN, Person, Portal, SetClock, open_portal

ADDRESS = "ada@example.org"
ACTOR = Actor("test")
PATIENCE_SECONDS = 20
GB = 1024**3


class Scene:
    """A user with the dashboard open, and what can happen to what it shows."""

    def __init__(self, portal: Portal, ada: Person, clock: SetClock, folder: Path) -> None:
        self.portal = portal
        self.ada = ada
        self.clock = clock
        self.platform = portal.platform
        self.database = folder / "state" / "launchpad.db"
        self.memory_bytes = GB
        setattr(portal.runtime, "usage_all", self._usage_all)  # noqa: B010 - what the kernel would say

    async def _usage_all(self) -> Mapping[str, Usage]:
        return {one.id: Usage(self.memory_bytes, 1.0, 3) for one in await self.live()}

    async def user(self) -> User:
        return await self.platform.users.by_email(ADDRESS)

    async def live(self) -> list:  # type: ignore[type-arg]
        return await self.platform.instances.of_owner(await self.user())

    async def shown(self) -> str:
        answer = await self.ada.http.get("/dashboard")
        assert answer.status_code == 200
        return answer.text

    async def rendered_anew(self) -> str:
        """The same page from the store, by parts that have never seen anything."""
        state = self.portal.app.state
        before = state.presenter, state.pages
        platform = self.platform
        live = Live.over(platform.database, platform.runtime, platform.homes, platform.images, platform.catalogue)
        state.presenter = presenter_over(platform, live)
        await live.announcements.renew(platform.now())
        state.pages = Frame(platform.settings, platform.now, platform.state.key("forms"), live.announcements.shown)
        # What is looked at now and then, and not told by the store, is as it was looked at last.
        object.__setattr__(live, "usage", platform.live.usage)
        object.__setattr__(live, "homes", platform.live.homes)
        object.__setattr__(live, "images", platform.live.images)
        try:
            return await self.shown()
        finally:
            state.presenter, state.pages = before
            await live.host.aclose()

    async def check(self, what: str) -> str:
        """The page as it is now, which is the one that would be rendered anew."""
        for _ in range(20):
            kept = await self.shown()
            if kept == await self.rendered_anew():
                return kept
            # Something went on in between; then the page does, too.
            assert await self.shown() != kept, f"an old page after: {what}"
        raise AssertionError(f"never at rest after: {what}")

    # -- what can happen -----------------------------------------------------------------------------------------------

    async def launch(self) -> None:
        taken = {one.environment for one in await self.live()}
        for environment in [name for name in ("jupyterlab", "rstudio") if name not in taken][:1]:
            await self.ada.launch(environment)
            await self.platform.runner.wait()
            await self.platform.live.usage.sample()

    async def begin_to_start(self) -> None:
        self.portal.runtime.hold_starts()
        await self.ada.launch("jupyterlab")
        await asyncio.sleep(0.05)

    async def go_on_starting(self) -> None:
        self.portal.runtime.release_starts()
        await self.platform.runner.wait()

    async def stop(self) -> None:
        for one in (await self.live())[:1]:
            await self.platform.instances.stop(one.id, await self.user(), ACTOR, self.clock())
            await self.platform.runner.wait()

    async def die(self) -> None:
        for one in (await self.live())[:1]:
            await self.portal.runtime.kill(one.id)
            deadline = monotonic() + PATIENCE_SECONDS
            while one.id in {other.id for other in await self.live()}:
                assert monotonic() < deadline
                await asyncio.sleep(0.01)
            await self.platform.runner.wait()

    async def run_out_of_memory(self) -> None:
        for one in (await self.live())[:1]:
            await self.platform.runner.note_out_of_memory(one.id)

    async def extend(self) -> None:
        user = await self.user()
        for one in (await self.live())[:1]:
            if one.expires_at < self.clock() + timedelta(days=5):
                await self.platform.instances.extend(one.id, user, 2, ACTOR, self.clock())

    async def forget(self) -> None:
        user = await self.user()
        for one in (await self.platform.instances.ended(user))[:1]:
            await self.platform.instances.forget(one.id, user, self.clock())

    async def forget_one_of_long_ago(self) -> None:
        """Which only the history still has."""
        user = await self.user()
        for one in (await self.platform.instances.ended(user))[:1]:
            async with self.platform.database.transaction() as db:
                await instances.forget(db, one.id, user.id)
            await self.shown()
            await self.platform.instances.forget(one.id, user, self.clock())

    async def use_more_memory(self) -> None:
        self.memory_bytes += GB // 8
        await self.platform.live.usage.sample()

    async def fill_home(self) -> None:
        self.portal.homes.used_bytes = (self.portal.homes.used_bytes or 0) + GB
        await self.portal.measure_homes()

    async def change_quota(self) -> None:
        """First to one that is exceeded, then to another one each time."""
        user = await self.user()
        some = Quota(memory_bytes=(5 if user.quota.memory_bytes == 2 * GB else 2) * GB, instances=4)
        await self.platform.users.change(user.id, UserChange(quota=some), ACTOR, self.clock())

    async def change_lab(self) -> None:
        lab = f"Lab {random.randrange(1000)}"
        await self.platform.users.change((await self.user()).id, UserChange(lab=lab), ACTOR, self.clock())

    async def become_administrator(self) -> None:
        role = UserChange(role=Role.USER if (await self.user()).is_admin else Role.ADMIN)
        await self.platform.users.change((await self.user()).id, role, ACTOR, self.clock())

    async def change_limits(self) -> None:
        before = await self.platform.offers.limits()
        sizes = (GB, 2 * GB, random.choice([3, 4, 5]) * GB)
        offer = type(before.offer)(**{**vars(before.offer), "memory_bytes": sizes})
        await self.platform.offers.set_limits(type(before)(offer, random.choice([2, 3, 4])), ACTOR, self.clock())

    async def lose_an_image(self) -> None:
        image = self.platform.catalogue["rstudio"].image
        before = await self.platform.live.images.of("rstudio")
        self.portal.runtime.missing_images.symmetric_difference_update({image})
        deadline = monotonic() + PATIENCE_SECONDS
        while await self.platform.live.images.of("rstudio") == before:  # what was found is believed for some seconds
            assert monotonic() < deadline
            await asyncio.sleep(0.1)
            await self.platform.live.images.renew()

    async def pass_time(self) -> None:
        self.clock.now += timedelta(seconds=random.choice([1, 20, 61, 3600, 7 * 3600]))

    async def sign_in_again(self) -> None:
        self.ada.http.cookies.clear()
        await self.ada.sign_in()

    async def be_changed_by_another_process(self) -> None:
        for one in (await self.live())[:1]:
            later = one.expires_at + timedelta(minutes=7)
            with sqlite3.connect(self.database, timeout=20) as database:
                value = f"{later.replace(tzinfo=None):%Y-%m-%d %H:%M:%S.%f}"
                database.execute("UPDATE instances SET expires_at = ? WHERE id = ?", (value, one.id))
            database.close()
            deadline = monotonic() + PATIENCE_SECONDS
            while f"{later:%Y-%m-%dT%H:%M:%S}" not in await self.shown():
                assert monotonic() < deadline, "a change by another process is not noticed"
                await asyncio.sleep(0.02)


Happening = Callable[[Scene], Awaitable[None]]

# Each with what must stand there afterwards: without, that it is another page than before.
HAPPENINGS: dict[str, tuple[Happening, str]] = {
    "a launch": (Scene.launch, "Running"),
    "more memory in use": (Scene.use_more_memory, "1.1 GB of 2 GB"),
    "an instance killed for memory": (Scene.run_out_of_memory, "memory"),
    "an extension": (Scene.extend, ""),
    "another process": (Scene.be_changed_by_another_process, ""),
    "a second launch": (Scene.launch, "2 running"),
    "time": (Scene.pass_time, ""),
    "the end of a container": (Scene.die, "Failed"),
    "a stop": (Scene.stop, "Stopped"),
    "an ended one taken off the list": (Scene.forget, ""),
    "one that only the history has, too": (Scene.forget_one_of_long_ago, ""),
    "a launch under way": (Scene.begin_to_start, "is starting"),
    "the end of its start": (Scene.go_on_starting, "Running"),
    "another quota": (Scene.change_quota, "over your quota"),
    "another lab": (Scene.change_lab, "Lab:"),
    "another role": (Scene.become_administrator, 'href="/admin"'),
    "other limits": (Scene.change_limits, ""),
    "a missing image": (Scene.lose_an_image, "is not on this server"),
    "a fuller home": (Scene.fill_home, "1 GB"),
    "a new sign-in": (Scene.sign_in_again, ""),
}


SLOW = {"a launch under way", "the end of its start", "a missing image"}


async def scene_in(folder: Path, portal: Portal, clock: SetClock) -> Scene:
    await portal.signed_in(ADMIN)  # somebody else has to be one
    return Scene(portal, await portal.signed_in(ADDRESS), clock, folder)


@pytest.mark.slow
async def test_every_change_of_what_the_dashboard_shows_is_shown(tmp_path: Path) -> None:
    random.seed(1)
    clock = SetClock()
    async with open_portal(tmp_path, now=clock) as portal:
        scene = await scene_in(tmp_path, portal, clock)
        before = await scene.check("nothing")
        for what, (happen, text) in HAPPENINGS.items():
            if what == "time":
                clock.now += timedelta(hours=2)
            await happen(scene)
            after = await scene.check(what)
            if what != "a launch under way":
                assert after != before, what
                assert text in after, what
            before = after


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
async def test_whatever_happens_in_whatever_order_no_old_page_is_shown(tmp_path: Path, seed: int) -> None:
    random.seed(seed)
    clock = SetClock()
    calm = [name for name in HAPPENINGS if name not in SLOW]
    async with open_portal(tmp_path, now=clock) as portal:
        scene = await scene_in(tmp_path, portal, clock)
        for _ in range(25):
            what = random.choice(calm)
            await HAPPENINGS[what][0](scene)
            if (await scene.ada.http.get("/dashboard", follow_redirects=False)).status_code == 303:
                await scene.sign_in_again()  # time has signed them out
            await scene.check(what)


@pytest.mark.slow
async def test_everybody_sees_their_own_page(tmp_path: Path) -> None:
    async with open_portal(tmp_path) as portal:
        ada, ben = await portal.signed_in(ADDRESS), await portal.signed_in("ben@example.org")
        other_browser = await portal.signed_in(ADDRESS)
        for _ in range(2):
            pages = [(await person.http.get("/dashboard")).text for person in (ada, ben, other_browser)]
            assert len(set(pages)) == 3, "each has a token of its own against forged requests"
            assert ["ben@example.org" in page for page in pages] == [False, True, False]


@pytest.mark.slow
async def test_what_happened_is_told_once(tmp_path: Path) -> None:
    async with open_portal(tmp_path) as portal:
        ada = await portal.signed_in(ADDRESS)
        launched = await ada.launch("jupyterlab")
        assert "is starting" in launched.text_of("flash")
        await portal.platform.runner.wait()
        assert (await ada.get("/dashboard")).text_of("flash") == ""


def test_a_value_is_kept_while_all_it_is_made_of_is_equal() -> None:
    made: list[int] = []

    def make() -> int:
        made.append(len(made))
        return made[-1]

    kept: Kept[str, int] = Kept(2)
    assert [kept.get("a", (1, "x"), make) for _ in range(3)] == [0, 0, 0]
    assert kept.get("a", (1, "y"), make) == 1
    assert kept.get("a", (1, "x"), make) == 2, "only the latest is kept"
    assert [kept.get(key, (), make) for key in ("b", "a", "c", "b")] == [3, 4, 5, 6], "the least used one goes"
    assert len(kept) == 2
