"""The files of homes, as their owners may reach them: the contract, and what speaks to the workers that fulfil it.

One suite, `tests/contract/test_files.py`, holds every implementation to it. The verbs are those of `fileworker.run`;
the implementations differ in nothing but the way to a worker.
"""

from __future__ import annotations

import asyncio
import json
import socket
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from pathlib import Path
from time import monotonic
from typing import Any, Protocol

import structlog

from .. import errors
from ..errors import FilesBusy, FilesUnavailable, LaunchpadError
from ..settings import FilesSettings
from .file_workers import BUSY_YOURSELF, RETRY_SECONDS, FileWorkers
from .fileworker.line import DATA, HEAD, JSON, LONGEST, PIECE, packed
from .owner import Owner

log = structlog.get_logger(__name__)

__all__ = ["CHECK", "DirectFiles", "Files", "HelperFiles", "Owner", "Received", "WorkerFiles"]

KEPT_SECONDS = 20.0  # less than a worker's own patience without a request
READY_SECONDS = 30.0
PART = 256 * 1024  # of content that is handed on at once
LONGEST_ANSWER = 16 * LONGEST
CHECK = {"check": True}  # to the helper, in place of an owner: for a worker of nobody's home
AWAY = "Files cannot be reached right now. Please try again in a moment."
_KNOWN: dict[str, type[LaunchpadError]] = {
    each.code: each
    for each in (
        errors.Changed,
        errors.Conflict,
        errors.FilesBusy,
        errors.FilesUnavailable,
        errors.Forbidden,
        errors.HelperRefused,
        errors.HomeUnavailable,
        errors.InvalidInput,
        errors.NoRoom,
        errors.NotFound,
        errors.TooLarge,
    )
}


class Received(Protocol):
    """What a verb answers that sends content: `header` first."""

    header: dict[str, Any]

    async def choose(self, **wanted: Any) -> None:
        """Says which part is wanted, where the verb asks for it."""
        ...

    def pieces(self) -> AsyncIterator[bytes]:
        """The content. Raises FilesUnavailable where it ends before its end."""
        ...

    async def last_word(self) -> dict[str, Any]:
        """The answer, of a verb that asks something amid its work."""
        ...


class Files(Protocol):
    """Each method raises what the worker refused with, of `errors`; FilesBusy where there is too much to do at once,
    HomeUnavailable where there is no such home, FilesUnavailable where nobody answers."""

    async def ask(self, owner: Owner, verb: str, **arguments: Any) -> dict[str, Any]:
        """One request, one answer."""
        ...

    def receive(self, owner: Owner, verb: str, **arguments: Any) -> AbstractAsyncContextManager[Received]:
        """A request that is answered with content; who leaves the context early cancels it."""
        ...

    async def send(self, owner: Owner, verb: str, content: AsyncIterator[bytes], **arguments: Any) -> dict[str, Any]:
        """A request with content. Where `content` raises, the worker gets no end of it, and so nothing whole."""
        ...

    async def release(self, owner: Owner) -> None:
        """Nothing more is to be done there for now: no worker is kept for it."""
        ...

    async def check(self) -> None:
        """Starts a worker that has nobody's home, and ends it. Raises FilesUnavailable where that does not work."""
        ...

    async def aclose(self) -> None: ...


class _Connection:
    """To one worker: one request after the other."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self.header: dict[str, Any] = {}
        self.is_idle = False  # the answer came to its end
        self.idle_since = 0.0

    @classmethod
    async def over(cls, opened: socket.socket, first: dict[str, Any] | None = None) -> _Connection:
        reader, writer = await asyncio.open_unix_connection(sock=opened, limit=PIECE)
        made = cls(reader, writer)
        try:
            async with asyncio.timeout(READY_SECONDS):
                if first is not None:
                    await made.say(first)
                await made.answer()
        except TimeoutError:
            await made.aclose()
            log.error("files.worker_late")
            raise FilesUnavailable(AWAY) from None
        except (LaunchpadError, asyncio.CancelledError):
            await made.aclose()
            raise
        return made

    @property
    def is_usable(self) -> bool:
        return self.is_idle and not self._reader.at_eof() and monotonic() - self.idle_since < KEPT_SECONDS

    async def say(self, what: dict[str, Any]) -> None:
        self.is_idle = False
        await self._write(packed(what))

    async def give(self, content: bytes) -> None:
        """A piece of content, of whatever length; an empty one is the last."""
        if not content:
            await self._write(HEAD.pack(DATA, 0))
        for at in range(0, len(content), PIECE):
            piece = content[at : at + PIECE]
            self._writer.write(HEAD.pack(DATA, len(piece)))
            await self._write(piece)

    async def answer(self) -> dict[str, Any]:
        kind, length = await self._head()
        if kind != JSON:
            raise FilesUnavailable(AWAY)
        self.header = self._heard(await self._rest(length))
        return self.header

    async def choose(self, **wanted: Any) -> None:
        await self._write(packed(wanted))

    async def last_word(self) -> dict[str, Any]:
        said = await self.answer()
        self.finished()
        return said

    async def pieces(self) -> AsyncIterator[bytes]:
        """As they arrive, and not only when a frame is whole."""
        while True:
            kind, length = await self._head()
            if kind == JSON:
                self._heard(await self._rest(length))  # a refusal amid it
                raise FilesUnavailable(AWAY)
            if not length:
                self.finished()
                return
            while length:
                try:
                    content = await self._reader.read(min(length, PART))
                except OSError as error:
                    raise FilesUnavailable(AWAY) from error
                if not content:
                    raise FilesUnavailable(AWAY)
                length -= len(content)
                yield content

    def finished(self) -> None:
        self.is_idle, self.idle_since = True, monotonic()

    def close(self) -> None:
        """At once, whatever is still to be written: that is how work under way is cancelled."""
        self._writer.transport.abort()

    async def aclose(self) -> None:
        self.close()
        with suppress(OSError):
            await self._writer.wait_closed()

    def _heard(self, content: bytes) -> dict[str, Any]:
        said: dict[str, Any] = json.loads(content)
        if "error" in said:
            kind = _KNOWN.get(str(said["error"]), FilesUnavailable)
            self.finished()
            detail = str(said.get("detail", AWAY)).encode("utf-8", "replace").decode()  # names may be of any bytes
            raise kind(detail, retry_after_seconds=said.get("retry_after_seconds"))
        return said

    async def _head(self) -> tuple[bytes, int]:
        kind, length = HEAD.unpack(await self._rest(HEAD.size))
        if length > LONGEST_ANSWER:
            raise FilesUnavailable(AWAY)
        return kind, length

    async def _rest(self, length: int) -> bytes:
        try:
            return await self._reader.readexactly(length)
        except (OSError, asyncio.IncompleteReadError) as error:
            log.warning("files.worker_gone", error=repr(error))
            raise FilesUnavailable(AWAY) from error

    async def _write(self, content: bytes) -> None:
        try:
            self._writer.write(content)
            await self._writer.drain()
        except OSError as error:
            raise FilesUnavailable(AWAY) from error


Connect = Callable[[Owner], Awaitable[_Connection]]


class WorkerFiles:
    """Implements `Files` over workers. Those that have nothing to do are kept for a moment, for the next request.

    Args:
        connect: a new worker's connection.
        settings: how many a user may have.
    """

    def __init__(self, connect: Connect, settings: FilesSettings) -> None:
        self._connect = connect
        self._most = settings.workers_per_user
        self._patience_seconds = settings.patience_seconds
        self._idle: dict[Owner, list[_Connection]] = {}
        self._at_work: Counter[int] = Counter()
        self._freed = asyncio.Condition()

    async def ask(self, owner: Owner, verb: str, **arguments: Any) -> dict[str, Any]:
        async with self._connected(owner) as line:
            await line.say({"verb": verb, **arguments})
            answer = await line.answer()
            line.finished()
            return answer

    @asynccontextmanager
    async def receive(self, owner: Owner, verb: str, **arguments: Any) -> AsyncIterator[Received]:
        async with self._connected(owner) as line:
            await line.say({"verb": verb, **arguments})
            await line.answer()
            yield line

    async def send(self, owner: Owner, verb: str, content: AsyncIterator[bytes], **arguments: Any) -> dict[str, Any]:
        async with self._connected(owner) as line:
            await line.say({"verb": verb, **arguments})
            answering = asyncio.ensure_future(line.answer())
            try:
                async for piece in content:
                    if piece:
                        with suppress(FilesUnavailable):  # its refusal says more
                            await line.give(piece)
                    if answering.done():
                        break  # before the end of it: a refusal
                else:
                    await line.give(b"")
                answer = await answering
            finally:
                early = not answering.done()
                if early:
                    answering.cancel()
                    with suppress(asyncio.CancelledError, LaunchpadError):
                        await answering
                line.is_idle = False
            line.finished()
            return answer

    async def release(self, owner: Owner) -> None:
        for line in self._idle.pop(owner, []):
            await line.aclose()

    async def aclose(self) -> None:
        idle = [line for lines in self._idle.values() for line in lines]
        self._idle.clear()
        for line in idle:
            await line.aclose()

    @asynccontextmanager
    async def _connected(self, owner: Owner) -> AsyncIterator[_Connection]:
        async with self._turn(owner):
            line = self._kept(owner) or await self._made(owner)
            try:
                yield line
            finally:
                if line.is_idle:
                    self._idle.setdefault(owner, []).append(line)
                else:
                    await line.aclose()  # whatever is under way is cancelled

    @asynccontextmanager
    async def _turn(self, owner: Owner) -> AsyncIterator[None]:
        """One user's requests wait for each other for a moment, as a page makes several at once."""
        try:
            async with asyncio.timeout(self._patience_seconds), self._freed:
                await self._freed.wait_for(lambda: self._at_work[owner.uid] < self._most)
                self._at_work[owner.uid] += 1
        except TimeoutError:
            raise FilesBusy(BUSY_YOURSELF, retry_after_seconds=RETRY_SECONDS) from None
        try:
            yield
        finally:
            self._at_work[owner.uid] -= 1
            if not self._at_work[owner.uid]:
                del self._at_work[owner.uid]
            async with self._freed:
                self._freed.notify_all()

    def _kept(self, owner: Owner) -> _Connection | None:
        self._close_old()
        lines = self._idle.get(owner, [])
        return lines.pop() if lines else None

    async def _made(self, owner: Owner) -> _Connection:
        try:
            return await self._connect(owner)
        except FilesBusy:
            if not any(self._idle.values()):
                raise
        await self.aclose()  # those who have nothing to do make room
        await asyncio.sleep(0.2)
        return await self._connect(owner)

    def _close_old(self) -> None:
        for owner, lines in list(self._idle.items()):
            for line in [line for line in lines if not line.is_usable]:
                lines.remove(line)
                line.close()
            if not lines:
                del self._idle[owner]


class DirectFiles(WorkerFiles):
    """For a portal that runs as root: it starts the workers itself."""

    def __init__(self, root: Path, settings: FilesSettings) -> None:
        super().__init__(self._begun, settings)
        self._workers = FileWorkers(root, settings)

    async def check(self) -> None:
        await (await _started(self._workers.try_one)).aclose()

    async def _begun(self, owner: Owner) -> _Connection:
        return await _started(lambda connection: self._start(owner, connection))

    async def _start(self, owner: Owner, connection: socket.socket) -> None:
        await self._workers.start(owner.username, owner.uid, connection, owner.snapshot)

    async def aclose(self) -> None:
        await super().aclose()
        await self._workers.aclose()


async def _started(start: Callable[[socket.socket], Awaitable[None]]) -> _Connection:
    ours, theirs = socket.socketpair()
    try:
        await start(theirs)
    except (LaunchpadError, OSError):
        ours.close()
        raise
    finally:
        theirs.close()
    return await _Connection.over(ours)


class HelperFiles(WorkerFiles):
    """For a portal without rights: the helper starts the workers, and hands the connection on to them."""

    def __init__(self, path: Path, settings: FilesSettings) -> None:
        super().__init__(self._begun, settings)
        self._path = path

    async def check(self) -> None:
        await (await self._reached(CHECK)).aclose()

    async def _begun(self, owner: Owner) -> _Connection:
        return await self._reached(owner.asked)

    async def _reached(self, first: dict[str, Any]) -> _Connection:
        made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        made.setblocking(False)
        try:
            await asyncio.get_running_loop().sock_connect(made, str(self._path))
        except OSError as error:
            made.close()
            log.error("files.helper_away", error=repr(error))
            raise FilesUnavailable(AWAY) from error
        return await _Connection.over(made, first)
