"""Content of users' files on its way to a browser: never active in the portal's origin, and in parts on demand."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

from fastapi import Response
from fastapi.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

# Neither scripts nor forms nor an origin of its own, whatever the browser takes it for.
LOCKED = {
    "Content-Security-Policy": "sandbox; default-src 'none'",
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "private, no-cache",
}
LOCKED_IMAGE = {**LOCKED, "Content-Security-Policy": "sandbox; default-src 'none'; style-src 'unsafe-inline'"}
# Browsers show a PDF with a program of their own. Chromium starts it in a frame whose answer asks for the sandbox, but
# not in a frame that has the attribute itself.
LOCKED_PDF = {
    **LOCKED,
    "Content-Security-Policy": "sandbox; default-src 'none'; frame-ancestors 'self'",
    "X-Frame-Options": "SAMEORIGIN",
}
BYTES = "application/octet-stream"
_RANGE = re.compile(r"bytes=(?:(\d{1,18})-(\d{0,18})|-(\d{1,18}))")


class Streamed(StreamingResponse):
    """Closes what its content comes from when it has been sent, and when nobody reads it any more."""

    def __init__(
        self,
        content: AsyncIterator[bytes],
        closing: AsyncExitStack,
        headers: Mapping[str, str],
        status_code: int = 200,
        media_type: str = BYTES,
    ) -> None:
        super().__init__(content, status_code=status_code, headers=headers, media_type=media_type)
        self._closing = closing

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with self._closing:
            await super().__call__(scope, receive, send)


@dataclass(frozen=True)
class Part:
    """Of a file of `size` bytes."""

    offset: int
    length: int
    size: int
    is_all: bool

    @property
    def headers(self) -> dict[str, str]:
        said = {"Content-Length": str(self.length), "Accept-Ranges": "bytes"}
        if not self.is_all:
            said["Content-Range"] = f"bytes {self.offset}-{self.offset + self.length - 1}/{self.size}"
        return said


def part_of(headers: Mapping[str, str], about: Mapping[str, Any]) -> Part | None:
    """What Range and If-Range ask for (RFC 9110); None: a part that the file does not have.

    Of several ranges, and of what cannot be understood, everything is sent, as one may.
    """
    size, etag = int(about["size"]), f'"{about["etag"]}"'
    everything = Part(0, size, size, is_all=True)
    asked = _RANGE.fullmatch(headers.get("range", ""))
    if asked is None or headers.get("if-range", etag) != etag:
        return everything
    first, last, tail = asked.groups()
    if tail is not None:
        length = min(int(tail), size)
        return Part(size - length, length, size, is_all=False) if length else None
    begin = int(first)
    end = min(int(last), size - 1) if last else size - 1
    if last and int(last) < begin:
        return everything
    return Part(begin, end - begin + 1, size, is_all=False) if begin < size else None


def secretly(answer: Response) -> Response:
    """The address holds the secret: no other site is told of it, and no search engine keeps it."""
    answer.headers["Referrer-Policy"] = "no-referrer"
    answer.headers["X-Robots-Tag"] = "noindex"
    return answer
