"""A second process of a platform, for the test of the fair queue: launches for the people it is told, and stops.

Started with a JSON document of settings and people's addresses; prints the ids of what it has launched, one a line,
then `done`. For each line `stop <id>` of its input it stops that one and prints `stopped <id>`; it ends with its input.
"""

from __future__ import annotations

import asyncio
import json
import sys

from launchpad.services.audit import Actor
from launchpad.services.instances import LaunchRequest
from launchpad.settings import tables
from launchpad.wiring import build_platform

ACTOR = Actor("test")
AT_ONCE = 4


async def main() -> None:
    told = json.loads(sys.argv[1])
    platform = build_platform(tables(told["settings"]))
    launches = asyncio.Semaphore(AT_ONCE)

    async def launch(email: str) -> None:
        async with launches:
            user = await platform.users.by_email(email)
            instance = await platform.instances.launch(user, LaunchRequest("jupyterlab"), ACTOR, platform.now())
            print(instance.id, flush=True)

    await asyncio.gather(*(launch(email) for email in told["people"]))
    print("done", flush=True)
    while line := await asyncio.to_thread(sys.stdin.readline):
        instance_id = line.split()[1]
        await platform.instances.stop_any(instance_id, ACTOR, platform.now())
        print(f"stopped {instance_id}", flush=True)
    await platform.aclose()


if __name__ == "__main__":
    asyncio.run(main())
