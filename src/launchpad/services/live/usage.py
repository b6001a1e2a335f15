"""What instances use: looked at by one sampler every few seconds, and told to everybody from there."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from time import monotonic
from typing import Protocol

from ...domain.history import UsedInAll
from ...domain.instances import Instance, State
from ...errors import EngineUnavailable
from ...runtime.base import ContainerActivity, Usage

SAMPLE_SECONDS = 5.0
LATE_AFTER_SECONDS = 15.0  # then whoever asks has a sample made
AGAIN_AFTER_SECONDS = 1.0  # at most so often, whoever asks
PATIENCE_SECONDS = 1.0  # of a page with a sample that it has made
KEPT_SECONDS = 600.0  # what is known of one that is gone, for whoever records its end


class LooksCloser(Protocol):
    """What a closer look needs of the runtime."""

    async def activity_all(self) -> Mapping[str, ContainerActivity]:
        """What goes on in every running container of this deployment, by its instance. Raises EngineUnavailable."""
        ...


class UsageSource(Protocol):
    """What the sampler needs of the runtime."""

    async def usage_all(self) -> Mapping[str, Usage]:
        """What every running container of this deployment uses, by its instance's id. Raises EngineUnavailable."""
        ...


@dataclass(frozen=True)
class Sample:
    """What an instance used at one moment of the monotonic clock.

    `cpu_cores` is the mean since the sample before, None at the first one. `peak_memory_bytes` is the most of all
    samples: the kernel's own peak counts what it keeps of files, which it gives up at need.
    `earlier_cpu_seconds` are those of containers that the instance had before this one.
    """

    usage: Usage
    at: float
    cpu_cores: float | None
    peak_memory_bytes: int
    earlier_cpu_seconds: float = 0.0


Listener = Callable[[Mapping[str, Sample]], None]


class UsageSampler:
    """The latest sample of each running instance. Between samples nobody asks for more.

    Args:
        clock: seconds that only go forward.
    """

    def __init__(self, source: UsageSource, clock: Callable[[], float] = monotonic) -> None:
        self._source = source
        self._clock = clock
        self._samples: dict[str, Sample] = {}
        self._sampled_at = float("-inf")
        self._sampling: asyncio.Task[None] | None = None
        self._sampling_since = 0.0
        self._missing: dict[str, float] = {}  # those that a look did not find, and when
        self._listeners: list[Listener] = []

    def subscribe(self, listener: Listener) -> None:
        """Calls `listener` with the samples of all that run, after each look."""
        self._listeners.append(listener)

    def latest(self, instance_id: str) -> Sample | None:
        """The newest sample of a running one; None where there is none yet, or the last look is too long ago."""
        found = self._samples.get(instance_id)
        return found if found is not None and found.at == self._sampled_at and not self._is_late else None

    async def of(self, instance: Instance) -> Sample | None:
        """As `latest`; for one that just began to run, and where nobody samples, a new look is made and waited for.

        Answers None instead when that takes longer than a second, or the engine does not answer.
        """
        if instance.state is not State.RUNNING:
            return None
        found = self.latest(instance.id)
        if found is None and self._clock() - self._missing.get(instance.id, float("-inf")) > AGAIN_AFTER_SECONDS:
            rest = (
                PATIENCE_SECONDS if self._sampling is None else self._sampling_since + PATIENCE_SECONDS - self._clock()
            )
            with suppress(EngineUnavailable, TimeoutError):
                await asyncio.wait_for(asyncio.shield(self._shared_sample()), max(rest, 0))
            found = self.latest(instance.id)
            if found is None:
                self._missing[instance.id] = self._clock()
        return found

    def used_in_all(self, instance_id: str) -> UsedInAll | None:
        """What one has used until its last sample; also of one that has ended since, for ten minutes."""
        last = self._samples.get(instance_id)
        if last is None:
            return None
        return UsedInAll(last.earlier_cpu_seconds + last.usage.cpu_seconds, last.peak_memory_bytes)

    async def sample(self) -> None:
        """Looks at all that run. The loop calls it every SAMPLE_SECONDS.

        Raises:
            EngineUnavailable: nothing can be said.
        """
        await asyncio.shield(self._shared_sample())

    async def renew(self) -> None:
        """As `sample`; nothing, where somebody has just looked."""
        if self._clock() - self._sampled_at > SAMPLE_SECONDS / 2:
            await self.sample()

    async def look_closer(self, source: LooksCloser) -> Mapping[str, ContainerActivity]:
        """Looks at all that goes on in those that run; what they use is a sample like any other.

        Raises:
            EngineUnavailable: nothing can be said.
        """
        found = await source.activity_all()
        self._take({instance_id: one.usage for instance_id, one in found.items()})
        return found

    async def aclose(self) -> None:
        """Gives up the look that is under way."""
        if self._sampling is not None:
            self._sampling.cancel()
            await asyncio.wait((self._sampling,))

    @property
    def _is_late(self) -> bool:
        return self._clock() - self._sampled_at > LATE_AFTER_SECONDS

    def _shared_sample(self) -> asyncio.Task[None]:
        """One look at a time, for all who ask."""
        if self._sampling is None:
            self._sampling_since = self._clock()
            self._sampling = asyncio.create_task(self._sample(), name="usage sample")
            self._sampling.add_done_callback(self._sampled)
        return self._sampling

    def _sampled(self, done: asyncio.Task[None]) -> None:
        self._sampling = None
        if not done.cancelled():
            done.exception()  # for those who wait, if any still do

    async def _sample(self) -> None:
        self._take(await self._source.usage_all())

    def _take(self, used: Mapping[str, Usage]) -> None:
        now = self._clock()
        kept = {key: one for key, one in self._samples.items() if now - one.at < KEPT_SECONDS}
        new = {instance_id: _sampled(usage, now, kept.get(instance_id)) for instance_id, usage in used.items()}
        self._samples, self._sampled_at = kept | new, now
        self._missing = {key: at for key, at in self._missing.items() if now - at < AGAIN_AFTER_SECONDS}
        for listener in self._listeners:
            listener(new)


def _sampled(usage: Usage, now: float, before: Sample | None) -> Sample:
    if before is None:
        return Sample(usage, now, None, usage.memory_bytes)
    peak = max(usage.memory_bytes, before.peak_memory_bytes)
    used, seconds = usage.cpu_seconds - before.usage.cpu_seconds, now - before.at
    if used < 0:  # another container of the same instance, after a start was taken over
        return Sample(usage, now, None, peak, before.earlier_cpu_seconds + before.usage.cpu_seconds)
    return Sample(usage, now, used / seconds if seconds > 0 else None, peak, before.earlier_cpu_seconds)
