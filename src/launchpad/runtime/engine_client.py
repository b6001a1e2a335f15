"""One client of the engine's API, with every failure of it turned into one of ours."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import Any

import aiodocker
import aiohttp
import structlog
from aiodocker.exceptions import DockerError

from ..errors import EngineRefused, EngineUnavailable

log = structlog.get_logger(__name__)

ANSWER_SECONDS = 30  # for calls that do not wait for a container or an image
CONNECT_SECONDS = 5
NOT_CONNECTED = 900  # aiodocker's own status for an engine that cannot be reached


class EngineClient:
    """Opened at its first use, in the event loop that runs then."""

    def __init__(self, host: str) -> None:
        self._host = host
        self._docker: aiodocker.Docker | None = None

    @property
    def docker(self) -> aiodocker.Docker:
        if self._docker is None:
            timeout = aiohttp.ClientTimeout(total=ANSWER_SECONDS, sock_connect=CONNECT_SECONDS)
            self._docker = aiodocker.Docker(url=self._host, timeout=timeout)
        return self._docker

    async def aclose(self) -> None:
        if self._docker is not None:
            await self._docker.close()
            self._docker = None

    async def json(
        self, path: str, method: str = "GET", *, data: Any = None, params: dict[str, Any] | None = None
    ) -> Any:
        """One call that answers JSON; DockerError passes through for the caller to read its status."""
        with answering():
            return await self.docker._query_json(path, method, data=data, params=params)

    async def call(
        self, path: str, method: str, *, params: dict[str, Any] | None = None, seconds: float = ANSWER_SECONDS
    ) -> bytes:
        """One call that may take `seconds`; the answer's bytes. DockerError passes through."""
        timeout = aiohttp.ClientTimeout(total=seconds, sock_connect=CONNECT_SECONDS)
        with answering():
            async with self.docker._query(path, method, params=params, timeout=timeout) as response:
                return await response.read()

    async def lines(
        self,
        path: str,
        method: str = "GET",
        *,
        params: dict[str, Any] | None = None,
        data: Any = None,
        content_type: str = "application/json",
    ) -> AsyncIterator[dict[str, Any]]:
        """A call that answers with a stream of JSON objects, without an end in time."""
        timeout = aiohttp.ClientTimeout(total=None, sock_read=None, sock_connect=CONNECT_SECONDS)
        headers = {"Content-Type": content_type}
        with answering():
            async with self.docker._query(
                path, method, params=params, data=data, headers=headers, timeout=timeout
            ) as response:
                try:
                    async for line in aiodocker.jsonstream.json_stream_stream(response, raise_on_error=False):
                        yield line
                finally:
                    response.close()  # a reader that goes away early leaves the connection mid-stream


@contextmanager
def answering() -> Iterator[None]:
    """Raises EngineUnavailable where the engine does not answer; DockerError, its refusal, passes through."""
    try:
        yield
    except (aiohttp.ClientError, OSError, TimeoutError, DockerError) as error:
        if isinstance(error, DockerError) and error.status != NOT_CONNECTED:
            raise
        log.warning("engine.unavailable", error=repr(error))
        raise EngineUnavailable(
            "The container engine does not answer. Your files are safe; please try again in a minute.",
            retry_after_seconds=30,
        ) from error


def refused(error: DockerError, what: str) -> EngineRefused:
    """Our error for a refusal; the engine's own words go to the log only."""
    log.warning("engine.refused", what=what, status=error.status, message=error.message)
    return EngineRefused(f"The container engine could not {what}. Your administrator finds the reason in the log.")
