"""HTTP to what runs beside us: the engine, the helper, instances. httpcore, opened late and with few words.

What an answer is, and in which time it has to come, the callers say. aiohttp would do the same for 6 MB more in the
portal, most of it parts for other work (docs/performance.md).
"""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from urllib.parse import quote, urlencode

import httpcore

# What may go wrong with a call: nobody is there, the line breaks, the answer is no HTTP, no address; the time is up.
FAILURES = (
    httpcore.NetworkError,
    httpcore.ProtocolError,
    httpcore.TimeoutException,
    httpcore.UnsupportedProtocol,
    OSError,
    TimeoutError,
    UnicodeError,
)
CONNECT_SECONDS = 5.0
_AS_IT_IS = "%/:=&?~#+!$,;'@()*[]"  # of an address that is put together already


class HttpClient:
    """Any number of calls at once: a limit would let slow ones hold up everything else.

    Opened at its first use, in the event loop that runs then.

    Args:
        socket: path of the Unix socket that all calls go to, whatever host their addresses name.
        tls: for `https`.
        keep_seconds: how long a connection is kept for the next call; 0: each call makes its own.
    """

    def __init__(
        self, *, socket: str | None = None, tls: ssl.SSLContext | None = None, keep_seconds: float = 0.0
    ) -> None:
        self._socket = socket
        self._tls = tls
        self._keep_seconds = keep_seconds
        self._pool: httpcore.AsyncConnectionPool | None = None

    @asynccontextmanager
    async def call(
        self,
        method: str,
        url: str,
        *,
        params: Mapping[str, object] | None = None,
        headers: Mapping[str, str] | None = None,
        content: bytes | AsyncIterator[bytes] | None = None,
    ) -> AsyncIterator[httpcore.Response]:
        """The answer, once its head is here; it is not followed elsewhere. What is not read of it is thrown away.

        Raises:
            one of FAILURES, here and while the answer is read; only connecting has a time of its own.
        """
        own = {} if self._keep_seconds else {"Connection": "close"}
        given = [(name.encode(), value.encode()) for name, value in {**own, **(headers or {})}.items()]
        query = f"?{urlencode(params, safe='/:', quote_via=quote)}" if params else ""
        address = quote(url + query, safe=_AS_IT_IS)
        async with self._opened().stream(
            method, address, headers=given, content=content, extensions={"timeout": {"connect": CONNECT_SECONDS}}
        ) as response:
            yield response

    def _opened(self) -> httpcore.AsyncConnectionPool:
        if self._pool is None:
            self._pool = httpcore.AsyncConnectionPool(
                ssl_context=self._tls,
                max_connections=None,
                max_keepalive_connections=None if self._keep_seconds else 0,
                keepalive_expiry=self._keep_seconds,
                uds=self._socket,
            )
        return self._pool

    async def aclose(self) -> None:
        if self._pool is not None:
            await self._pool.aclose()
            self._pool = None


async def lines_of(pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The lines that have something in them, of whatever length; what follows the last line's end is none."""
    rest = b""
    async for piece in pieces:
        *whole, rest = (rest + piece).split(b"\n")
        for line in whole:
            if line.strip():
                yield line
