"""The section `[activity]`, and what of an environment's requests only a person makes."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator, Field

from ..domain.sizes import parse_bytes
from .values import HeaderName, Section, Size


class ActivitySettings(Section):
    """What instances do: how often it is sampled, and what counts as work."""

    sample_seconds: float = Field(
        30.0, ge=0.5, le=60, description="How often processes, disks, networks and IDEs are checked, in seconds."
    )
    work_cores: float = Field(
        0.02, gt=0, le=1, description="An instance works when its programs, the IDE's own server left out, use as much."
    )
    work_terminal_cores: float = Field(
        0.001,
        gt=0,
        le=1,
        description="It works when a program that was begun in a terminal uses as much: one that sleeps and computes "
        "from time to time. Programs that only watch others (top, htop, watch, tmux, screen) do not count.",
    )
    work_disk: Size = Field(
        parse_bytes("200k"), description="It works when it reads and writes as much on disks, in a second."
    )
    work_network: Size = Field(
        parse_bytes("20k"), description="It works when it receives and sends as much, in a second."
    )


def _request(text: str) -> str:
    method, blank, path = text.partition(" ")
    if not method or not blank or not path.startswith(("/", "(")) or re.search(r'["\s\x00-\x1f]', method + path):
        raise ValueError("write methods, a blank and a path as regular expressions, like “(POST|PUT) /api/”")
    try:
        re.compile(method), re.compile(path)
    except re.error as error:
        raise ValueError(f"this is no regular expression: {error}") from error
    return text


PersonRequest = Annotated[str, Field(max_length=500), AfterValidator(_request)]


class PersonSettings(Section):
    """How a person's act in this environment is told from what an open page does by itself.

    Loading a page always is one, the handshake of a WebSocket never.
    """

    requests: tuple[PersonRequest, ...] = Field(
        ("(POST|PUT|PATCH|DELETE) /",),
        description="Requests that come when a person does something, and no others: regular expressions of the "
        "method, a blank, and how the path and query below the instance's address begin.",
    )
    quiet_header: HeaderName | None = Field(
        None, description="A request header that the page sets to 0 when it asks by itself."
    )
