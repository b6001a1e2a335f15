"""Reads live events as a page does, without a web server."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

from launchpad.domain.instances import Instance
from launchpad.domain.signin import Login
from launchpad.domain.users import User
from launchpad.platform import Platform


def events_in(text: str) -> list[tuple[str, Any]]:
    """Every event with its data; signs of life are none."""
    found = []
    for block in text.replace("\r\n", "\n").strip().split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.splitlines() if ": " in line and line[0] != ":")
        if "event" in fields:
            found.append((fields["event"], json.loads(fields["data"])))
    return found


async def follow(
    platform: Platform, user: User, login: Login | None, instance: Instance
) -> AsyncIterator[tuple[str, Any]]:
    """The events of an instance until its stream ends."""
    follower = await platform.events.open(user, login, instance)
    try:
        while part := await follower.read():
            for event in events_in(part.decode()):
                yield event
    finally:
        platform.events.close(follower)
