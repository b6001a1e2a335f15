"""The supervisor of background work: named loops that go on whatever happens inside them, and how each of them fares.

A pass of a loop is a task of its own. However it ends, by an exception of any kind or by nothing at all, the loop takes
note, says so in the log, and begins the next pass after a pause that doubles with every failure in a row.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import structlog

from ..domain.background import LoopHealth, LoopState
from ..errors import LaunchpadError
from .background_records import Record

log = structlog.get_logger(__name__)

Beat = Callable[[], None]

OWNER_LOOKS_SECONDS = 0.5  # how soon a process that gets the lease begins with the owner's loops
WATCH_SECONDS = 1.0
CLOSING_SECONDS = 1.0
CANCEL_AGAIN_SECONDS = 1.0
RECORD_SECONDS = 5.0
GIVEN_UP_AFTER = 2  # times `late_after_seconds`: a pass that shows no sign of life for so long is begun anew
LONGEST_TEXT = 200


@dataclass(frozen=True)
class Loop:
    """What is done again and again. Made by `periodic` or `continuous`.

    Attributes:
        name: small letters and dashes; it stands in the log, in `/readyz`, in the metrics and in what doctor says.
        work: one pass. It is handed a function to call whenever something has succeeded; a return is a success, too.
        every_seconds: the pause after a pass that came to its end.
        late_after_seconds: without a success for so long, the loop is late.
        first_after_seconds: the pause before the first pass.
        retry_seconds: the pause after a failure; it doubles with every further one in a row, up to the longest.
        owner_only: runs in the process that owns the work, and in no other.
        goes_on: a pass does not end by itself.
    """

    name: str
    work: Callable[[Beat], Awaitable[object]]
    every_seconds: float
    late_after_seconds: float
    first_after_seconds: float = 0.0
    retry_seconds: float = 1.0
    longest_retry_seconds: float = 60.0
    owner_only: bool = True
    goes_on: bool = False


def periodic(
    name: str,
    work: Callable[[], Awaitable[object]],
    *,
    every_seconds: float,
    late_after_seconds: float,
    first_after_seconds: float = 0.0,
    retry_seconds: float = 1.0,
    longest_retry_seconds: float = 60.0,
    owner_only: bool = True,
) -> Loop:
    """A loop of short passes with a pause in between."""
    return Loop(
        name,
        lambda _beat: work(),
        every_seconds=every_seconds,
        late_after_seconds=late_after_seconds,
        first_after_seconds=first_after_seconds,
        retry_seconds=retry_seconds,
        longest_retry_seconds=longest_retry_seconds,
        owner_only=owner_only,
    )


def continuous(
    name: str,
    work: Callable[[Beat], Awaitable[object]],
    *,
    late_after_seconds: float,
    longest_retry_seconds: float = 60.0,
    owner_only: bool = True,
) -> Loop:
    """A loop of one pass that goes on, such as listening; it calls what it is handed whenever it has shown to work.

    A pass that ends by itself is begun anew after a second.
    """
    return Loop(
        name,
        work,
        every_seconds=1.0,
        late_after_seconds=late_after_seconds,
        longest_retry_seconds=longest_retry_seconds,
        owner_only=owner_only,
        goes_on=True,
    )


@dataclass(frozen=True)
class Time:
    """Seconds that only go forward, and a pause. Tests run a faster one."""

    monotonic: Callable[[], float] = time.monotonic
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep


class Background:
    """Runs loops from `start` to `aclose`.

    Args:
        loops: no two have one name.
        now: the clock, for what is told of the loops.
        is_owner: whether this process owns the work; asked often.
        records: a folder where every process writes down how its loops fare, for other processes on this machine.
        own_time: what pauses and lateness are measured with.
    """

    def __init__(
        self,
        loops: Iterable[Loop],
        *,
        now: Callable[[], datetime],
        is_owner: Callable[[], bool] = lambda: True,
        records: Path | None = None,
        own_time: Time | None = None,
    ) -> None:
        self._time = own_time or Time()
        self._now = now
        self._is_owner = is_owner
        self._record = Record(records) if records is not None else None
        self._recorded_at: float | None = None
        watch = periodic("watch", self._watch, every_seconds=WATCH_SECONDS, late_after_seconds=30, owner_only=False)
        self._running = [_Running(loop, self._time, now, self._may_run) for loop in (*loops, watch)]
        names = [one.loop.name for one in self._running]
        if len(set(names)) != len(names):
            raise ValueError(f"two loops have one name: {sorted(names)}")
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def loops(self) -> tuple[Loop, ...]:
        return tuple(one.loop for one in self._running)

    def health(self) -> tuple[LoopHealth, ...]:
        """How every loop fares now."""
        return tuple(one.health() for one in self._running)

    def late(self) -> tuple[str, ...]:
        """The names of the loops that are late."""
        return tuple(one.name for one in self.health() if one.state is LoopState.LATE)

    def start(self) -> None:
        """Begins with every loop; returns at once."""
        for one in self._running:
            one.begin()
            self._tasks.append(asyncio.create_task(one.run(), name=f"loop {one.loop.name}"))

    async def aclose(self) -> None:
        """Ends every loop: short passes may come to their end within a moment, everything else is cancelled."""
        ending = [one.last_pass() for one in self._running]
        under_way = {task for task in ending if task is not None}
        if under_way:
            await asyncio.wait(under_way, timeout=CLOSING_SECONDS)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks.clear()
        if self._record is not None:
            await asyncio.to_thread(self._record.remove)

    def _may_run(self, loop: Loop) -> bool:
        return not loop.owner_only or self._is_owner()

    async def _watch(self) -> None:
        """Ends passes that hang or are no longer ours, says which loops are late, and writes down how all fare."""
        told = False
        for one in self._running:
            told = one.look_after() or told
        due = self._recorded_at is None or self._time.monotonic() - self._recorded_at >= RECORD_SECONDS
        if self._record is not None and (told or due):
            await asyncio.to_thread(self._record.write, self.health(), self._now())
            self._recorded_at = self._time.monotonic()


async def _end(task: asyncio.Task[object]) -> None:
    """Cancels a pass until it is done: `asyncio.wait_for`, which libraries use, can lose a cancellation (bpo-37658)."""
    while not task.done():
        task.cancel()
        await asyncio.wait({task}, timeout=CANCEL_AGAIN_SECONDS)


@dataclass
class _Running:
    """One loop, and what is known of it."""

    loop: Loop
    time: Time
    now: Callable[[], datetime]
    may_run: Callable[[Loop], bool]
    begun: float | None = None  # of the monotonic clock, as `good` and `alive`
    good: float | None = None
    alive: float = 0.0
    current: asyncio.Task[object] | None = None
    ended_since: str | None = None  # why the pass under way was cancelled by us
    is_standby: bool = False
    is_closing: bool = False
    was_late: bool = False
    last_success_at: datetime | None = None
    failures: int = 0
    failures_in_a_row: int = 0
    last_error: str | None = None
    last_error_at: datetime | None = None

    def begin(self) -> None:
        self.begun = self.alive = self.time.monotonic()
        self.good = None

    def health(self) -> LoopHealth:
        return LoopHealth(
            self.loop.name,
            self._state(),
            self.last_success_at,
            self.failures,
            self.failures_in_a_row,
            self.last_error,
            self.last_error_at,
        )

    def _state(self) -> LoopState:
        if self.begun is None:
            return LoopState.STARTING
        if self.is_standby or not self.may_run(self.loop):
            return LoopState.STANDBY
        since = self.good if self.good is not None else self.begun + self.loop.first_after_seconds
        if self.time.monotonic() - since > self.loop.late_after_seconds:
            return LoopState.LATE
        if self.failures_in_a_row:
            return LoopState.FAILING
        return LoopState.STARTING if self.good is None else LoopState.OK

    def last_pass(self) -> asyncio.Task[object] | None:
        """Begins no other pass; the one that is under way, if it ends by itself."""
        self.is_closing = True
        return None if self.loop.goes_on else self.current

    async def run(self) -> None:
        await self.time.sleep(self.loop.first_after_seconds)
        while not self.is_closing:
            if not self.may_run(self.loop):
                self.is_standby = True
                await self.time.sleep(OWNER_LOOKS_SECONDS)
                continue
            if self.is_standby:
                self.is_standby = False
                self.begin()
            await self._pass()
            await self.time.sleep(self._pause())

    def _pause(self) -> float:
        if not self.failures_in_a_row:
            return self.loop.every_seconds
        doubled = self.loop.retry_seconds * float(2 ** min(self.failures_in_a_row - 1, 30))
        return min(doubled, self.loop.longest_retry_seconds)

    async def _pass(self) -> None:
        """One pass; never raises but CancelledError when this is to end."""
        self.alive = self.time.monotonic()
        self.ended_since = None
        self.current = asyncio.ensure_future(self._work())
        try:
            await asyncio.wait({self.current})
        finally:
            await _end(self.current)
        current, self.current = self.current, None
        if not current.cancelled():
            error = current.exception()
        elif self.ended_since is None:
            error = asyncio.CancelledError()  # a library's, which leaked: nobody here has cancelled the pass
        else:
            error = TimeoutError(self.ended_since)
        while isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]  # of a pass of several tasks, the first that failed ended the others
        if error is None:
            self._succeeded()
        elif self.may_run(self.loop):
            self._failed(error)

    async def _work(self) -> object:
        return await self.loop.work(self._succeeded)

    def _succeeded(self) -> None:
        if self.failures_in_a_row:
            log.info("loop.recovered", loop=self.loop.name, failures=self.failures_in_a_row)
        self.good = self.alive = self.time.monotonic()
        self.last_success_at = self.now()
        self.failures_in_a_row = 0

    def _failed(self, error: BaseException) -> None:
        self.failures += 1
        self.failures_in_a_row += 1
        self.last_error_at = self.now()
        ours = isinstance(error, LaunchpadError)
        if isinstance(error, LaunchpadError):
            self.last_error = error.detail[:LONGEST_TEXT]
        else:
            self.last_error = self.ended_since or type(error).__name__
        if self.failures_in_a_row & (self.failures_in_a_row - 1):
            return  # 1, 2, 4, 8, …: what fails every second must not fill the log
        numbers = {"loop": self.loop.name, "in_a_row": self.failures_in_a_row}
        if ours:
            log.warning("loop.failed", detail=self.last_error, **numbers)
        else:
            log.error("loop.fault", exc_info=error, **numbers)

    def look_after(self) -> bool:
        """Ends a pass that hangs or is no longer ours; True when whether it is late has changed."""
        silent = self.time.monotonic() - self.alive
        if self.current is not None and not self.current.done():
            if not self.may_run(self.loop):
                self.ended_since = "another process owns the work"
                self.current.cancel()
            elif silent > self.loop.late_after_seconds * GIVEN_UP_AFTER and self.ended_since is None:
                self.ended_since = f"no sign of life for {silent:.0f} seconds"
                self.current.cancel()
        is_late = self._state() is LoopState.LATE
        changed, self.was_late = is_late is not self.was_late, is_late
        if changed and is_late:
            log.error("loop.late", loop=self.loop.name, last_success_at=self.last_success_at, error=self.last_error)
        elif changed:
            log.info("loop.in_time", loop=self.loop.name)
        return changed
