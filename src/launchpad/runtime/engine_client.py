"""One client of the engine's API, with every failure of it turned into one of ours."""

from __future__ import annotations

import asyncio
import json
import os
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import httpcore
import structlog

from ..errors import EngineAnswer, EngineRefused, EngineUnavailable, SettingsError
from ..http_client import FAILURES, HttpClient, lines_of

log = structlog.get_logger(__name__)

ANSWER_SECONDS = 30.0  # for calls that do not wait for a container or an image
KEEP_SECONDS = 15.0  # a connection, for the next call
# The API spoken with engines that know it. Docker 29 has dropped every older one, 20.10 ends at 1.41.
API_VERSION = (1, 44)
SCHEMES = ("unix://", "tcp://", "http://", "https://")


class EngineClient:
    """Opened at its first use, in the event loop that runs then.

    Args:
        host: as in DOCKER_HOST.
        answer_seconds: patience for one answer where the call names no other.

    Raises:
        SettingsError: `host` is no address of an engine, or the certificates for it cannot be read.
    """

    def __init__(self, host: str, *, answer_seconds: float = ANSWER_SECONDS) -> None:
        if not host.startswith(SCHEMES):
            raise SettingsError(
                f"engine.host: “{host}” is not an engine's address; it must begin with one of {SCHEMES}."
            )
        self._answer_seconds = answer_seconds
        scheme, _, address = host.partition("://")
        tls = client_tls() if scheme in ("tcp", "https") else None
        if tls is None and scheme == "https":
            tls = ssl.create_default_context()
        secure = tls is not None
        self._http = HttpClient(socket=address if scheme == "unix" else None, tls=tls, keep_seconds=KEEP_SECONDS)
        # Any name will do in the URLs of a socket's calls.
        self._url = "http://engine" if scheme == "unix" else f"{'https' if secure else 'http'}://{address.rstrip('/')}"
        self._version: str | None = None
        self.engine_version = ""  # the engine's own, such as "20.10.24+dfsg1"; known once it has answered anything

    async def aclose(self) -> None:
        await self._http.aclose()

    async def json(
        self,
        path: str,
        method: str = "GET",
        *,
        params: dict[str, Any] | None = None,
        data: Any = None,
        seconds: float | None = None,
    ) -> Any:
        """One call that answers JSON, within `seconds`; EngineAnswer passes through for the caller to read."""
        answer = await self.call(path, method, params=params, data=data, seconds=seconds)
        with answering():
            return json.loads(answer)

    async def call(
        self,
        path: str,
        method: str,
        *,
        params: dict[str, Any] | None = None,
        data: Any = None,
        seconds: float | None = None,
    ) -> bytes:
        """As `json`; the answer's bytes."""
        body = None if data is None else json.dumps(data).encode()
        with answering():
            async with self._request(
                path, method, params=params, data=body, seconds=seconds or self._answer_seconds
            ) as response:
                return await response.aread()

    async def stream(
        self,
        path: str,
        method: str = "GET",
        *,
        params: dict[str, Any] | None = None,
        data: AsyncIterator[bytes] | None = None,
        content_type: str = "application/json",
        first_seconds: float | None = None,
    ) -> AsyncGenerator[bytes, None]:
        """A call whose answer comes in pieces, without an end in time; only its beginning has `first_seconds`.

        Raises:
            EngineUnavailable: also when the engine goes away before the end.
        """
        with answering():
            async with asyncio.timeout(first_seconds) as beginning:
                async with self._request(path, method, params=params, data=data, content_type=content_type) as response:
                    beginning.reschedule(None)
                    async for piece in response.aiter_stream():
                        yield piece
        self._version = None  # such a stream ends when the engine is stopped, perhaps for another version of it

    async def lines(self, path: str, method: str = "GET", **arguments: Any) -> AsyncIterator[dict[str, Any]]:
        """As `stream`; the JSON objects, one a line, of whatever length."""
        async for line in lines_of(self.stream(path, method, **arguments)):
            with answering():
                found: dict[str, Any] = json.loads(line)
            yield found

    @asynccontextmanager
    async def _request(
        self,
        path: str,
        method: str,
        *,
        params: dict[str, Any] | None = None,
        data: bytes | AsyncIterator[bytes] | None = None,
        content_type: str = "application/json",
        versioned: bool = True,
        seconds: float | None = None,
    ) -> AsyncIterator[httpcore.Response]:
        """The only place that speaks HTTP; the answer is read or thrown away at the end, within `seconds`."""
        try:
            async with asyncio.timeout(seconds):
                version = f"{self._version or await self._agree()}/" if versioned else ""
                async with self._http.call(
                    method,
                    f"{self._url}/{version}{path}",
                    params=params,
                    headers={"Content-Type": content_type},
                    content=data,
                ) as response:
                    if response.status >= 400:
                        raise EngineAnswer(response.status, _message_in(await response.aread()))
                    yield response
        except FAILURES:
            self._version = None
            raise

    async def _agree(self) -> str:
        """The version to speak: the engine's newest, at most ours, unless the engine has dropped that already."""
        async with self._request("version", "GET", versioned=False) as response:
            told = json.loads(await response.aread())
        self.engine_version = str(told.get("Version") or "")
        newest, oldest = (
            tuple(map(int, str(told.get(key) or "1.24").split("."))) for key in ("ApiVersion", "MinAPIVersion")
        )
        self._version = "v{}.{}".format(*max(min(newest, API_VERSION), oldest))
        return self._version


@contextmanager
def answering() -> Iterator[None]:
    """Raises EngineUnavailable where no engine answers, or not as one; EngineAnswer, its refusal, passes through."""
    try:
        yield
    except (*FAILURES, ValueError, KeyError) as error:
        log.warning("engine.unavailable", error=repr(error))
        raise EngineUnavailable(
            "The container engine does not answer. Your files are safe; please try again in a minute.",
            retry_after_seconds=30,
        ) from error


def refused(error: EngineAnswer, what: str) -> EngineRefused:
    """Our error for a refusal; the engine's own words go to the log only."""
    log.warning("engine.refused", what=what, status=error.engine_status, message=error.message)
    return EngineRefused(f"The container engine could not {what}. Your administrator can find the reason in the log.")


def client_tls() -> ssl.SSLContext | None:
    """What the docker command shows an engine on another machine, by its own variables; None where they ask for none.

    Raises:
        SettingsError: they name certificates that cannot be read.
    """
    if not os.environ.get("DOCKER_TLS_VERIFY"):
        return None
    folder = Path(os.environ.get("DOCKER_CERT_PATH") or "~/.docker").expanduser()
    try:
        context = ssl.create_default_context(cafile=str(folder / "ca.pem"))
        context.load_cert_chain(folder / "cert.pem", folder / "key.pem")
    except (OSError, ssl.SSLError) as error:
        raise SettingsError(f"engine.host: DOCKER_TLS_VERIFY is set, and {folder} cannot be used: {error}") from error
    return context


def _message_in(answer: bytes) -> str:
    """The engine's words in a refusal; whatever there is where another program answers."""
    text = answer.decode(errors="replace")
    try:
        return str(json.loads(text)["message"])
    except (ValueError, KeyError, TypeError):
        return text
