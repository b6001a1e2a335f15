"""What is pushed to the readers of event streams, and how it waits for them."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass, field

from ...domain.instances import Instance
from ...domain.signin import Login
from ...domain.users import User
from .usage import Sample

HEARTBEAT = b": still there\n\n"
USAGE_SILENT_SECONDS = 60.0  # so often numbers are told that hardly change
BUSY_CORES = 0.1  # an idle kernel uses less
BEHIND_MOST = 100  # messages that wait for one reader


class Follower:
    """One stream: what is still to be sent, and its end."""

    def __init__(self, user: User, login: Login | None, instance_id: str) -> None:
        self.user = user
        self.login = login
        self.instance_id = instance_id
        self._messages: deque[bytes] = deque()
        self.has_ended = False
        self._wakes = asyncio.Event()

    @property
    def counted_as(self) -> str:
        """Whose streams are counted together: a browser's, or those of a user's programs."""
        return self.login.id if self.login is not None else self.user.id

    def push(self, message: bytes) -> None:
        if self.has_ended:
            return
        if len(self._messages) >= BEHIND_MOST:
            self.end()  # nobody reads; a browser that still lives comes again, and begins with what is so then
        else:
            self._messages.append(message)
            self._wakes.set()

    def beat(self) -> None:
        """A sign of life, unless something is on its way anyway."""
        if not self._messages:
            self.push(HEARTBEAT)

    def end(self) -> None:
        """After what was pushed so far."""
        self.has_ended = True
        self._wakes.set()

    async def read(self) -> bytes:
        """Waits for what is to be sent next, several messages at once where they have come at once; empty: the end."""
        while not self._messages and not self.has_ended:
            await self._wakes.wait()
            self._wakes.clear()
        whole = b"".join(self._messages)
        self._messages.clear()
        return whole


@dataclass
class Channel:
    """One instance that is followed: as its followers were told of it last."""

    instance: Instance
    username: str
    followers: dict[Follower, None] = field(default_factory=dict)
    told: tuple[object, ...] = ()
    at: tuple[object, ...] = ()
    state: bytes = b""
    stage: bytes = b""
    usage: bytes = b""
    sample: Sample | None = None

    def push(self, message: bytes) -> None:
        for follower in self.followers:
            follower.push(message)


def message(event: str, data: str) -> bytes:
    """As the HTML standard has it (server-sent events): JSON has no line breaks of its own."""
    return f"event: {event}\ndata: {data}\n\n".encode()


def differs(sample: Sample, told: Sample | None, memory_limit_bytes: int) -> bool:
    """Whether somebody who looks would see a difference, or was told nothing for long."""
    if told is None or sample.at - told.at >= USAGE_SILENT_SECONDS:
        return True
    memory_bytes = abs(sample.usage.memory_bytes - told.usage.memory_bytes)
    cores = (sample.usage.cpu_seconds - told.usage.cpu_seconds) / max(sample.at - told.at, 1.0)
    return (
        memory_bytes >= max(memory_limit_bytes // 200, 2**20)
        or cores >= BUSY_CORES
        or cores < 0
        or sample.usage.pids != told.usage.pids
    )
