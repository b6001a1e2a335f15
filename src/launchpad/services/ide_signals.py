"""What Jupyter says of its kernels: the IDE's own signal of work that takes no processor time."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from ..domain.environments import Environment, Prefix
from ..domain.instances import Address, Instance
from ..http_client import FAILURES, HttpClient
from .launching import Launcher

PATIENCE_SECONDS = 3.0
ASKED_AT_ONCE = 16
ANSWER_BYTES = 256 * 1024
# So that asking is no activity of its own.
_PATH = "/api/kernels?no_track_activity=1"


@dataclass(frozen=True)
class Kernels:
    """Of one Jupyter server: how many carry something out, and when one was last given something to do, or answered."""

    busy: int = 0
    last_activity_at: datetime | None = None


class JupyterSignals:
    """Asks Jupyter servers at their own addresses, with what nginx puts into every request. They are users' programs:
    what they say counts for their own instance and nothing else, and is read no further than a size and a moment.
    """

    def __init__(self, launcher: Launcher) -> None:
        self._launcher = launcher
        self._http = HttpClient()

    async def of(self, asked: Sequence[tuple[Instance, Environment]]) -> Mapping[str, Kernels]:
        """The kernels of each, by the instance's id; those that do not answer are left out."""
        few = asyncio.Semaphore(ASKED_AT_ONCE)

        async def one(instance: Instance, environment: Environment) -> Kernels | None:
            async with few:
                return None if instance.address is None else await self._ask(instance, environment, instance.address)

        answers = await asyncio.gather(*(one(instance, environment) for instance, environment in asked))
        found = {instance.id: answer for (instance, _), answer in zip(asked, answers, strict=True)}
        return {instance_id: kernels for instance_id, kernels in found.items() if kernels is not None}

    async def _ask(self, instance: Instance, environment: Environment, address: Address) -> Kernels | None:
        values = self._launcher.placeholders(environment, instance.id, "", 0)
        headers = {name: values.fill(text) for name, text in environment.request_headers.items()}
        prefix = values.root_path if environment.prefix is Prefix.KEEP else ""
        try:
            url = f"http://{address}{prefix}{_PATH}"
            async with (
                asyncio.timeout(PATIENCE_SECONDS),
                self._http.call("GET", url, headers=headers) as answer,
            ):
                if answer.status != 200:
                    return None
                text = b""
                async for piece in answer.aiter_stream():
                    text += piece
                    if len(text) >= ANSWER_BYTES:
                        break
        except FAILURES:
            return None
        return kernels_in(text[:ANSWER_BYTES])

    async def aclose(self) -> None:
        await self._http.aclose()


def kernels_in(text: bytes) -> Kernels | None:
    """What an answer to `GET /api/kernels` says; None where it is none.

    A user's program has written it: whatever is in it, nothing is raised, since everybody's looks would end there.
    """
    try:
        listed = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(listed, list):
        return None
    kernels = [one for one in listed if isinstance(one, dict)]
    times = [at for one in kernels if (at := _instant(one.get("last_activity"))) is not None]
    busy = sum(one.get("execution_state") == "busy" for one in kernels)
    return Kernels(busy, max(times, default=None))


def _instant(text: object) -> datetime | None:
    try:
        at = datetime.fromisoformat(text) if isinstance(text, str) else None
        return at.astimezone(UTC) if at is not None and at.tzinfo is not None else None
    except (ValueError, OverflowError):  # the last: before the year 1, or after 9999, in UTC
        return None
