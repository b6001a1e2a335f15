"""Live events of instances, pushed to every page that follows one.

A change is looked up and put into text once, for all who follow the instance. While nothing changes nothing is done,
but for a heartbeat now and then.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Coroutine, Mapping, Sequence
from datetime import datetime
from time import monotonic
from typing import Any, Protocol

from ...domain.admission import queue_in_words
from ...domain.ends import notices_of
from ...domain.environments import Environment
from ...domain.instances import Instance, State
from ...domain.signin import Login
from ...domain.users import User
from ...errors import TooManyStreams
from ...runtime.base import Usage
from ...settings import Settings
from ...store.changes import EVERYTHING, Change, ChangeFeed
from ..logins import LoginService, is_live
from .followers import Channel, Follower, differs, message
from .models import Live
from .usage import Sample

TICK_SECONDS = 0.25
LATE_AFTER_SECONDS = 10.0
CHECK_SECONDS = 1.0  # what no change tells: the time of logins, and everything while the feed is not current
HEARTBEAT_SECONDS = 20.0  # so long a stream is silent at most: proxies close what is silent for a minute
HOME_SECONDS = 10.0  # how often the home of somebody who looks is looked at
HOMES_A_TICK = 2
HOMES_LOOKED_THROUGH = 100  # a tick, for those that are due
BATCH = 50  # streams that are served before others get a turn


class EventTexts(Protocol):
    """How events are put into words: JSON, in the terms of the API."""

    def state(self, instance: Instance, queue_position: int | None, notices: Sequence[str]) -> str: ...

    def usage(self, usage: Usage) -> str: ...


class EventStreams:
    """Whoever follows instances in this process.

    A stream ends with its instance, and as soon as its reader is no longer signed in.
    """

    def __init__(
        self,
        live: Live,
        feed: ChangeFeed,
        logins: LoginService,
        settings: Settings,
        catalogue: Mapping[str, Environment],
        now: Callable[[], datetime],
        texts: EventTexts,
    ) -> None:
        self._live = live
        self._feed = feed
        self._logins = logins
        self._settings = settings
        self._catalogue = catalogue
        self._now = now
        self._texts = texts
        self._channels: dict[str, Channel] = {}
        self._of_login: dict[str, set[Follower]] = defaultdict(set)
        self._of_user: dict[str, set[Follower]] = defaultdict(set)
        self._count: Counter[str] = Counter()
        self._next_beats: deque[Follower] = deque()
        self._beats_due = 0.0
        self._next_homes: deque[Channel] = deque()
        self._instances_changed = False
        self._doubtful: set[Follower] = set()  # whose readers may have been signed out
        self._samples: Mapping[str, Sample] | None = None
        self._working: asyncio.Task[None] | None = None
        self._failed: BaseException | None = None
        self._asking: set[asyncio.Task[object]] = set()
        self._checked_at = 0.0
        feed.subscribe(self._heard)
        live.usage.subscribe(self._sampled)

    def __len__(self) -> int:
        return sum(self._count.values())

    # -- one stream ----------------------------------------------------------------------------------------------------

    async def open(self, user: User, login: Login | None, instance: Instance) -> Follower:
        """Begins to follow an instance, with its state and stage now. Whoever opens it closes it.

        Args:
            instance: as it was read for this request.

        Raises:
            TooManyStreams: this login follows as many instances as one may.
            StoreUnavailable: it cannot be said how the instance is.
        """
        follower = Follower(user, login, instance.id)
        if self._count[follower.counted_as] >= self._settings.web.streams_per_login:
            raise TooManyStreams(
                "This browser follows too many instances at the same time. Close some of its pages.",
                retry_after_seconds=10,
            )
        self._count[follower.counted_as] += 1
        opened = False
        try:
            if self._feed.is_current:
                await self._live.instances.catch_up()
                instance = await self._live.instances.get(instance.id, user.id)
            position = await self._live.instances.queue_position(instance)
            self._join(follower, instance, position)
            opened = True
        finally:
            if not opened:
                self._uncount(follower)
        return follower

    def _join(self, follower: Follower, instance: Instance, position: int | None) -> None:
        channel = self._channels.get(instance.id)
        if channel is None:
            channel = Channel(instance, follower.user.username)
            self._tell(channel, instance, position)
        follower.push(channel.state)
        follower.push(channel.stage)
        if not channel.instance.is_live:
            follower.end()
            return
        if not channel.followers:
            self._channels[instance.id] = channel
            self._next_homes.append(channel)
        channel.followers[follower] = None
        self._of_user[follower.user.id].add(follower)
        if follower.login is not None:
            self._of_login[follower.login.id].add(follower)
        self._next_beats.append(follower)
        if channel.usage:
            follower.push(channel.usage)
        else:
            self._want_usage(instance)
        if self._live.homes.age_seconds(channel.username) > HOME_SECONDS:
            self._look_at_home(channel.username)
        if self._live.instances.is_behind:
            self._instances_changed = True
            self._work()

    def close(self, follower: Follower) -> None:
        """The reader has gone, or the stream has ended."""
        self._uncount(follower)
        channel = self._channels.get(follower.instance_id)
        if channel is not None:
            channel.followers.pop(follower, None)
            if not channel.followers:
                del self._channels[follower.instance_id]
        self._doubtful.discard(follower)
        for known, key in ((self._of_user, follower.user.id), (self._of_login, follower.login and follower.login.id)):
            if key is not None and key in known:
                known[key].discard(follower)
                if not known[key]:
                    del known[key]
        follower.end()

    def _uncount(self, follower: Follower) -> None:
        self._count[follower.counted_as] -= 1
        if not self._count[follower.counted_as]:
            del self._count[follower.counted_as]

    # -- what happens --------------------------------------------------------------------------------------------------

    def _heard(self, changes: Sequence[Change]) -> None:
        if not self._channels:
            return
        if EVERYTHING in changes:
            self._doubt_all()
        for change in changes:
            if change.table == "instances":
                self._instances_changed = True
            elif change.table == "logins":
                self._doubtful |= self._of_login.get(change.key, set())
            elif change.table == "users":
                self._doubtful |= self._of_user.get(change.key, set())
        self._work()

    def _sampled(self, samples: Mapping[str, Sample]) -> None:
        if self._channels:
            self._samples = samples
            self._work()

    def _doubt_all(self) -> None:
        self._instances_changed = True
        self._doubtful.update(*self._of_user.values())

    def _work(self) -> None:
        """Sees to what was heard, in a task that ends when nothing is left."""
        if self._working is None and (self._instances_changed or self._doubtful or self._samples is not None):
            self._working = asyncio.create_task(self._catch_up(), name="event streams")
            self._working.add_done_callback(self._worked)

    def _worked(self, done: asyncio.Task[None]) -> None:
        self._working = None
        if not done.cancelled():
            self._failed = done.exception()
            if self._failed is None:
                self._work()

    async def _catch_up(self) -> None:
        if self._doubtful:
            await self._check_readers()
        if self._instances_changed:
            self._instances_changed = False
            done = False
            try:
                await self._tell_changes()
                done = True
            finally:
                self._instances_changed |= not done
        if (samples := self._samples) is not None:
            self._samples = None
            await self._tell_usage(samples)

    async def _check_readers(self) -> None:
        """Ends the streams of those who are signed out or suspended; each reader is looked up once."""
        doubtful, self._doubtful = self._doubtful, set()
        readers: dict[str, list[Follower]] = defaultdict(list)
        for follower in doubtful:
            readers[follower.counted_as].append(follower)
        now = self._now()
        while readers:
            _, theirs = readers.popitem()
            checked = False
            try:
                there = await self._logins.still_there(theirs[0].user, theirs[0].login, now)
                checked = True
            finally:
                if not checked:
                    self._doubtful.update(theirs, *readers.values())
            for follower in theirs:
                if there is None:
                    follower.end()
                else:
                    follower.login = there[1]

    async def _tell_changes(self) -> None:
        await self._live.instances.catch_up()
        gone = []
        for number, channel in enumerate(list(self._channels.values())):
            instance = self._live.instances.known(channel.instance.id)
            if instance is None:
                gone.append(channel)
            else:
                self._tell(channel, instance, self._live.instances.position(instance.id))
            if number % BATCH == BATCH - 1:
                await asyncio.sleep(0)
        if gone:
            ended = await self._live.instances.ended_among([channel.instance.id for channel in gone])
            for channel in gone:
                if (instance := ended.get(channel.instance.id)) is not None:
                    self._tell(channel, instance, None)
                for follower in channel.followers:
                    follower.end()

    def _tell(self, channel: Channel, instance: Instance, position: int | None) -> None:
        """Pushes what is new of an instance: its state (and what its owner has to know of it), its stage and place."""
        if instance.state is State.RUNNING and channel.instance.state is not State.RUNNING:
            self._want_usage(instance)
        channel.instance = instance
        lacks = self._live.lacked(instance, self._catalogue.get(instance.environment), channel.username)
        notices = notices_of(instance, lacks)
        ends = instance.ends_at, instance.kept_until, instance.estimated_start_at
        told = (instance.shown_state, instance.reason, instance.limits, notices, ends)
        at = (instance.stage, position)
        if told == channel.told and at == channel.at:
            return
        channel.state = message("state", self._texts.state(instance, position, notices))
        if told != channel.told:
            channel.push(channel.state)
        if at != channel.at:
            stage = {
                "stage": instance.stage,
                "state": instance.state,
                "queue_position": position,
                "queue_text": queue_in_words(position, instance.stage) if position else None,
            }
            channel.stage = message("stage", json.dumps(stage))
            channel.push(channel.stage)
        channel.told, channel.at = told, at

    def _tell_again(self, channel: Channel) -> None:
        """What is known of its instance, which may lack something now, or no longer."""
        self._tell(channel, channel.instance, self._live.instances.position(channel.instance.id))

    def _want_usage(self, instance: Instance) -> None:
        """Has one that just began to run sampled soon; the sample comes as every other one does."""
        if instance.state is State.RUNNING:
            self._ask(self._live.usage.of(instance))

    def _look_at_home(self, username: str) -> None:
        async def look() -> None:
            await self._live.homes.look(username)
            for channel in self._channels.values():
                if channel.username == username:
                    self._tell_again(channel)

        self._ask(look())

    def _ask(self, what: Coroutine[Any, Any, object]) -> None:
        task = asyncio.create_task(what)
        self._asking.add(task)
        task.add_done_callback(self._asking.discard)

    async def _tell_usage(self, samples: Mapping[str, Sample]) -> None:
        for number, channel in enumerate(list(self._channels.values())):
            if (sample := samples.get(channel.instance.id)) is not None:
                if differs(sample, channel.sample, channel.instance.limits.memory_bytes):
                    channel.sample = sample
                    channel.usage = message("usage", self._texts.usage(sample.usage))
                    channel.push(channel.usage)
                self._tell_again(channel)
            if number % BATCH == BATCH - 1:
                await asyncio.sleep(0)

    # -- what time brings ----------------------------------------------------------------------------------------------

    async def run(self, beat: Callable[[], None]) -> None:
        """One clock for all streams, until it is cancelled; calls `beat` at every tick."""
        while True:
            await asyncio.sleep(TICK_SECONDS)
            self.tick(monotonic())
            beat()

    def tick(self, at: float) -> None:
        """What is due at the instant `at` of the monotonic clock. Raises what has gone wrong since the last one."""
        self._beat_some()
        self._look_at_some_homes()
        if at - self._checked_at >= CHECK_SECONDS:
            self._checked_at = at
            if not self._feed.is_current:
                self._doubt_all()
            now = self._now()
            for theirs in self._of_login.values():
                self._doubtful.update(
                    one for one in theirs if one.login is not None and not is_live(one.login, self._settings, now)
                )
        failed, self._failed = self._failed, None
        self._work()
        if failed is not None:
            raise failed

    def _beat_some(self) -> None:
        """Every stream has its turn once in HEARTBEAT_SECONDS, and few have it at the same time."""
        self._beats_due += len(self._next_beats) * TICK_SECONDS / HEARTBEAT_SECONDS
        for _ in range(int(self._beats_due)):
            self._beats_due -= 1
            if self._next_beats:
                follower = self._next_beats.popleft()
                if not follower.has_ended:
                    follower.beat()
                    self._next_beats.append(follower)

    def _look_at_some_homes(self) -> None:
        """Those of whoever follows something that runs, the oldest numbers first."""
        looked = 0
        for _ in range(min(len(self._next_homes), HOMES_LOOKED_THROUGH)):
            channel = self._next_homes.popleft()
            if self._channels.get(channel.instance.id) is not channel:
                continue
            self._next_homes.append(channel)
            runs = channel.instance.state is State.RUNNING
            if runs and self._live.homes.age_seconds(channel.username) > HOME_SECONDS:
                self._look_at_home(channel.username)
                looked += 1
            if looked == HOMES_A_TICK:
                return

    async def aclose(self) -> None:
        """Ends every stream."""
        for channel in list(self._channels.values()):
            for follower in channel.followers:
                follower.end()
        tasks = [*self._asking, *([self._working] if self._working is not None else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
