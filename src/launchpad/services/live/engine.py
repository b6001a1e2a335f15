"""What is known of the engine without asking it: its host, whether it answers, and which images it has."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol

from ...domain.environments import Environment
from ...errors import EngineUnavailable, ImageMissing
from ...runtime.base import HostFacts
from ..images import ResolvedImage
from .looked_up import LookedUp

ASK_SECONDS = 5.0
LATE_AFTER_SECONDS = 15.0


class AsksHost(Protocol):
    """What is needed of the runtime."""

    async def host(self) -> HostFacts:
        """Raises EngineUnavailable."""
        ...


class ResolvesImages(Protocol):
    """What is needed of the images."""

    async def resolve(self, environment: Environment) -> ResolvedImage:
        """Raises ImageMissing or EngineUnavailable."""
        ...


class LiveHost:
    """The host's facts, which stay once they are known, since a host does not grow; and whether the engine answers."""

    def __init__(self, runtime: AsksHost) -> None:
        self._runtime = runtime
        self._facts: HostFacts | None = None
        self._answers = LookedUp(self._ask, late_after_seconds=LATE_AFTER_SECONDS)

    async def facts(self, *, patience_seconds: float = 0) -> HostFacts:
        """Where the engine has not answered once yet, it is asked, and waited for as long as said, not as a page does.

        Raises:
            EngineUnavailable: it has still not answered.
        """
        if self._facts is None:
            await self.engine_answers()
        if self._facts is None and patience_seconds > 0:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._answers.renew(), patience_seconds)
        if self._facts is None:
            raise EngineUnavailable("The container engine does not answer.", retry_after_seconds=5)
        return self._facts

    async def engine_answers(self) -> bool:
        """Whether it did when it was asked last, a few seconds ago."""
        try:
            return await self._answers.get()
        except TimeoutError:
            return False

    async def renew(self) -> None:
        """The loop calls it every ASK_SECONDS."""
        await self._answers.renew()

    async def _ask(self) -> bool:
        try:
            self._facts = await self._runtime.host()
        except EngineUnavailable:
            return False
        return True

    async def aclose(self) -> None:
        await self._answers.aclose()


@dataclass(frozen=True)
class ImageOutlook:
    """What an environment would start now, or why it cannot, in a user's words."""

    image: ResolvedImage | None
    problem: str | None


NOT_KNOWN = ImageOutlook(None, "The container engine does not answer.")


class LiveImages:
    """The image of each environment. A launch asks the engine itself; this is what pages show before one."""

    def __init__(self, images: ResolvesImages, catalogue: Mapping[str, Environment]) -> None:
        self._images = images
        self._catalogue = catalogue
        self._found = LookedUp(self._look, late_after_seconds=3 * LATE_AFTER_SECONDS)

    async def of(self, environment: str) -> ImageOutlook:
        """The outlook of an environment of the catalogue."""
        try:
            return (await self._found.get()).get(environment, NOT_KNOWN)
        except TimeoutError:
            return NOT_KNOWN

    async def renew(self) -> None:
        """The loop calls it every ASK_SECONDS."""
        await self._found.renew()

    async def _look(self) -> Mapping[str, ImageOutlook]:
        return {name: await self._outlook(environment) for name, environment in self._catalogue.items()}

    async def _outlook(self, environment: Environment) -> ImageOutlook:
        try:
            return ImageOutlook(await self._images.resolve(environment), None)
        except (ImageMissing, EngineUnavailable) as missing:
            return ImageOutlook(None, missing.detail)

    async def aclose(self) -> None:
        await self._found.aclose()
