"""The line to the privileged helper: how the portal, which may do nothing itself, asks for what needs root.

JSON over HTTP on a Unix socket, `POST /<verb>`. The helper answers `{"value": …}`, or a status of 400 and above with
our error's code and text; a stream is one JSON object a line, of which the last one may be an error.
"""

from __future__ import annotations

import asyncio
import http.client
import json
import socket
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from functools import partial
from pathlib import Path
from typing import Any

import httpcore
import structlog

from . import errors
from .contract import Verb, verbs_of
from .errors import EngineRefused, HelperRefused, HelperUnavailable, LaunchpadError
from .http_client import FAILURES, HttpClient, lines_of

log = structlog.get_logger(__name__)

ANSWER_SECONDS = 60.0  # longer than the helper's own patience with the engine
LINE_BYTES = 2**20
_NOT_ANSWERING = (
    "The server's helper does not answer. Your administrator can see why with “systemctl status launchpad-helper”."
)
_KNOWN = {
    each.code: each
    for each in (
        errors.ArchiveDamaged,
        errors.Conflict,
        errors.ConnectionsNotCut,
        errors.EngineRefused,
        errors.EngineUnavailable,
        errors.GpuUnavailable,
        errors.HelperRefused,
        errors.HomeUnavailable,
        errors.ImageMissing,
        errors.NetworkUnavailable,
        errors.NoRoom,
        errors.NotFound,
    )
}


class HelperClient:
    """Opened at its first use, in the event loop that runs then.

    Every call raises what the helper raised, of `errors`: HelperUnavailable when it does not answer, HelperRefused for
    what it is not there to do.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        # A new connection a call: the helper may have been restarted since the last one.
        self._http = HttpClient(socket=str(path))

    async def ask(self, verb: str, arguments: Mapping[str, Any] | None = None, *, seconds: float | None = None) -> Any:
        """The value of the helper's answer, within `seconds`. Who is cancelled hangs up, and the helper stops work."""
        try:
            async with asyncio.timeout(seconds or ANSWER_SECONDS), self._called(verb, arguments) as answer:
                response = json.loads(await answer.aread())
        except (*FAILURES, ValueError) as error:
            raise _away(verb, error) from error
        return _value(response)

    async def follow(self, verb: str, arguments: Mapping[str, Any] | None = None) -> AsyncIterator[Any]:
        """What the helper says, one after the other, until it ends."""
        try:
            async with self._called(verb, arguments) as answer:
                ended = False
                async for line in lines_of(answer.aiter_stream()):
                    response = json.loads(line)
                    if "end" in response:
                        ended = True
                        break
                    if response:  # an empty object only shows that the helper is there
                        yield _value(response)
                if not ended:
                    raise ConnectionResetError("the stream was interrupted")
        except (*FAILURES, ValueError) as error:
            raise _away(verb, error) from error

    def ask_at_once(self, verb: str, *, seconds: float = 5.0) -> Any:
        """The same without an event loop, for what has to be known before there is one. Blocks."""
        connection = _UnixConnection(self._path, seconds)
        try:
            connection.request("POST", f"/{verb}", body="{}", headers={"Content-Type": "application/json"})
            response = json.loads(connection.getresponse().read(LINE_BYTES))
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise _away(verb, error) from error
        finally:
            connection.close()
        return _value(response)

    async def aclose(self) -> None:
        await self._http.aclose()

    def _called(self, verb: str, arguments: Mapping[str, Any] | None) -> AbstractAsyncContextManager[httpcore.Response]:
        body = json.dumps(arguments or {}).encode()
        return self._http.call(
            "POST", f"http://helper/{verb}", headers={"Content-Type": "application/json"}, content=body
        )


def asking(client: HelperClient, *contracts: type) -> Any:
    """What implements these contracts by asking the helper for each verb that they declare.

    It is of no class that a type checker knows: whoever calls says which contract it is.
    """
    return _Asking(client, [verb for contract in contracts for verb in verbs_of(contract)])


class _Asking:
    def __init__(self, client: HelperClient, verbs: Sequence[Verb]) -> None:
        self._client = client
        for verb in verbs:
            kind = _refuses if verb.refusal is not None else _follows if verb.is_stream else _asks
            setattr(self, verb.method, partial(kind, client, verb))

    async def aclose(self) -> None:
        await self._client.aclose()


async def _asks(client: HelperClient, verb: Verb, *given: Any, **named: Any) -> Any:
    arguments = verb.arguments(*given, **named)
    return verb.answer(await client.ask(verb.name, arguments, seconds=verb.seconds(arguments)))


def _follows(client: HelperClient, verb: Verb, *given: Any, **named: Any) -> AsyncIterator[Any]:
    return _followed(client, verb, verb.arguments(*given, **named))  # of now, not of the first look


async def _followed(client: HelperClient, verb: Verb, arguments: Mapping[str, Any]) -> AsyncIterator[Any]:
    async for item in client.follow(verb.name, arguments):
        yield verb.answer(item)


async def _refuses(_: HelperClient, verb: Verb, *__: Any, **___: Any) -> AsyncIterator[Any]:
    raise EngineRefused(str(verb.refusal))
    yield  # an async iterator, like those that are allowed


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path, seconds: float) -> None:
        super().__init__("helper", timeout=seconds)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


def error_body(error: LaunchpadError) -> dict[str, Any]:
    """How the helper says an error."""
    return {"error": error.code, "detail": error.detail, "retry_after_seconds": error.retry_after_seconds}


def _value(response: Any) -> Any:
    if not isinstance(response, dict) or "error" in response or "value" not in response:
        response = response if isinstance(response, dict) else {}
        kind = _KNOWN.get(str(response.get("error", "")), HelperUnavailable)
        detail = str(response.get("detail", _NOT_ANSWERING))
        if kind is HelperRefused:
            log.error("helper.refused", detail=detail)
        raise kind(detail, retry_after_seconds=response.get("retry_after_seconds"))
    return response["value"]


def _away(verb: str, error: Exception) -> HelperUnavailable:
    log.error("helper.away", verb=verb, error=repr(error))
    return HelperUnavailable(_NOT_ANSWERING)
