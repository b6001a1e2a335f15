"""How long the server takes for every page and list of a large deployment: 10,000 users, 2,000 live instances,
200,000 ended ones and 400,000 records of the audit, in a fresh SQLite database, with an engine that does nothing.

Pages are asked for in this process, without nginx or a network, as a user, as administrator and without signing in:

- p50, p99: one request at a time, so what the server needs for one. It fails where a p99 is over the limit.
- cpu: processor time of one, which other work on the machine lengthens less.
- requests/s: eight at a time.

Every route that is read is measured or stands in LEFT_OUT with the reason; it fails where one is forgotten.

    python benchmarks/lists.py [--rounds 40] [--limit-ms 50] [--only admin/users]
"""

from __future__ import annotations

import argparse
import asyncio
import re
import statistics
import sys
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from time import perf_counter, process_time
from urllib.parse import quote

import httpx
from fastapi import FastAPI
from fastapi.routing import iter_route_contexts

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from launchpad.cli.memory import settle  # noqa: E402 - the path has to be set first
from launchpad.domain.paging import Place  # noqa: E402
from launchpad.services.logins import Client  # noqa: E402
from launchpad.web.app import create_app  # noqa: E402
from launchpad.web.cookies import CookieNames  # noqa: E402
from support.platforms import START, World  # noqa: E402
from support.population import Population, populate  # noqa: E402

HERE = Client("192.0.2.1", "Mozilla/5.0 (X11; Linux x86_64) Firefox/140.0")
CONNECTIONS = 8
# {user}, {live} and {ended} are ids; {middle_live} and {middle_ended} are places deep in the lists.
PUBLIC = ("/", "/sign-in", "/healthz", "/readyz", "/metrics")
USER = (
    "/dashboard",
    "/account",
    "/instances/{live}/log",
    "/api/v1/me",
    "/api/v1/logins",
    "/api/v1/tokens",
    "/api/v1/environments",
    "/api/v1/instances",
    "/api/v1/instances?all=true",
    "/api/v1/instances/{live}",
    "/api/v1/instances/{live}/log",
    "/api/v1/instances/{live}/activity",
    "/api/v1/instances/{live}/idle-decisions",
    "/api/v1/announcements",
)
ADMIN = (
    "/admin",
    "/admin/limits",
    "/admin/users",
    "/admin/users?q=person09990",
    "/admin/users?q=genomics",
    "/admin/users?q=überlingen",
    "/admin/users?q=nobody-at-all",
    "/admin/users?after=person05000@example.org",
    "/admin/users?after=person09900@example.org",
    "/admin/users/{user}",
    "/admin/instances",
    "/admin/instances?before=active~{middle_live}",
    "/admin/instances?q=person00042",
    "/admin/instances?state=queued",
    "/admin/instances?state=starting",
    "/admin/instances?state=running",
    "/admin/instances?state=stopping",
    "/admin/instances?state=stopped",
    "/admin/instances?state=expired",
    "/admin/instances?state=ended",
    "/admin/instances?state=ended&before=ended~{middle_ended}",
    "/admin/instances?state=failed&before=ended~{middle_ended}",
    "/admin/instances?state=failed",
    "/admin/instances?state=all",
    "/admin/instances?state=all&q=person00042",
    "/admin/instances?state=ended&q=example.org",
    "/admin/instances?state=ended&q=person0004",
    "/admin/instances?state=failed&q=rstudio",
    "/admin/instances?state=all&q=nobody-at-all",
    "/admin/instances/{live}/log",
    "/admin/audit",
    "/admin/audit?before=200000",
    "/admin/audit?q=person00042",
    "/admin/audit?q=nobody-at-all",
    "/admin/mail",
    "/admin/mail?q=nobody-at-all",
    "/admin/announcements",
    "/admin/policies",
    "/admin/policies/replay",
    "/api/v1/admin/policies",
    "/api/v1/admin/idle-decisions",
    "/api/v1/admin/lab-capacity",
    "/api/v1/admin/users",
    "/api/v1/admin/users?search=person0999",
    "/api/v1/admin/users?cursor=person05000@example.org&limit=200",
    "/api/v1/admin/instances",
    "/api/v1/admin/instances?all=true&limit=200",
    "/api/v1/admin/instances?all=true&limit=200&cursor={middle_ended}",
    "/api/v1/admin/instances/{live}/log",
    "/api/v1/admin/audit",
    "/api/v1/admin/audit?cursor=200000&limit=200",
    "/api/v1/admin/audit?search=person00042",
    "/api/v1/admin/limits",
    "/api/v1/admin/capacity",
    "/api/v1/admin/mail-failures",
)
LEFT_OUT = {
    "/.well-known/security.txt": "is a text of the settings",
    "/gate/authorize": "benchmarks/gate.py",
    "/gate/enter": "is a redirect of the gate",
    "/instances/{instance_id}/open": "is a redirect with a ticket",
    "/instances/{instance_id}/cookies": "only for browsers with too many cookies of an instance",
    "/api/v1/instances/{instance_id}/open": "is a redirect with a ticket",
    "/api/v1/instances/{instance_id}/events": "benchmarks/streams.py",
    "/static/{version}/{name:path}": "is a file",
    "/go/{environment}": "is a redirect, or a form for a launch",
    "/go/{environment}/{path:path}": "is a redirect, or a form for a launch",
    "/admin/policies/replay/ends.csv": "benchmarks/replay.py",
    "/extend/{token}": "needs a link of a mail",
    "/sign-in/code": "needs a sign-in that has begun; benchmarks/classroom.py",
    "/confirm": "needs an action that is to be confirmed",
    "/api/v1/openapi.json": "is no page and no list",
}


def forgotten(app: FastAPI) -> list[str]:
    """Routes that are read, and neither measured nor left out with a reason."""
    measured = [path.partition("?")[0] for path in (*PUBLIC, *USER, *ADMIN)]
    known = {re.sub(r"{\w+}", "{}", path) for path in (*measured, *LEFT_OUT)}
    read = [str(one.path) for one in iter_route_contexts(app.routes) if "GET" in (one.methods or ())]
    return [path for path in read if path not in LEFT_OUT and re.sub(r"{\w+}", "{}", path) not in known]


async def measure(http: httpx.AsyncClient, path: str, rounds: int) -> tuple[list[float], float, float]:
    """Milliseconds of each round, one after the other; processor time of one; requests a second, several at a time.

    The first, which fills caches, is left out.
    """

    async def ask(times: int) -> list[float]:
        took = []
        for _ in range(times):
            begun = perf_counter()
            answer = await http.get(path)
            took.append((perf_counter() - begun) * 1000)
            assert answer.status_code == 200, f"{path}: {answer.status_code} {answer.text[:200]}"
        return took

    await ask(1)
    used = process_time()
    took = await ask(rounds)
    cpu_ms = (process_time() - used) * 1000 / rounds
    each, begun = max(1, rounds // CONNECTIONS), perf_counter()
    await asyncio.gather(*(ask(each) for _ in range(CONNECTIONS)))
    return took, cpu_ms, each * CONNECTIONS / (perf_counter() - begun)


def percentile(values: Sequence[float], part: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(part * len(ordered)))]


def places(rows: Iterable[tuple[str, str]]) -> list[str]:
    """As lists write them, of instants and ids as the database has them."""
    return [str(Place(datetime.fromisoformat(f"{at}+00:00"), key)) for at, key in rows]


async def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--limit-ms", type=float, default=50.0)
    parser.add_argument("--only", default="", help="pages whose path has this in it")
    given = parser.parse_args()
    slow, size = [], Population()
    with tempfile.TemporaryDirectory() as folder:
        world = World(Path(folder), {"public_url": "http://localhost:8080", "instances_url": "http://localhost:8081"})
        world.clock.now = START.replace(year=2126)  # httpx drops cookies that expire before its own clock
        platform = await world.open()
        # The rows are without containers: whoever owns the work would end them all meanwhile.
        await platform.lease.release()
        begun = perf_counter()
        users = populate(world.database_file, size, world.clock())
        print(f"Made the database in {perf_counter() - begun:.1f} s, {world.database_file.stat().st_size >> 20} MB\n")
        watching = asyncio.create_task(platform.database.changes.watch())
        app = create_app(platform)
        if missing := forgotten(app):
            raise SystemExit(f"neither measured nor left out: {', '.join(missing)}")
        secrets = {}
        async with platform.database.transaction() as db:
            one = await platform.users.get(users[42])
            secrets["user"] = (await platform.logins.open(db, one, True, HERE, world.clock())).secret
            admin = replace(await platform.users.get(users[7]), role=type(one.role).ADMIN)
            secrets["admin"] = (await platform.logins.open(db, admin, True, HERE, world.clock())).secret
        await world.change("UPDATE users SET role = 'admin' WHERE id = ?", users[7])
        middle = "SELECT {0}, {1} FROM {2} WHERE {3} ORDER BY 1 LIMIT 1 OFFSET {4}"
        mine = "SELECT id FROM instances WHERE owner_id = ? AND state = 'running' LIMIT 1"
        names = {"user": users[42], "live": world.rows(mine, users[42])[0][0]}
        for name, where in (
            ("middle_live", ("created_at", "id", "instances", "ended_at IS NULL", size.live // 2)),
            ("middle_ended", ("ended_at", "instance_id", "instance_history", "1 = 1", size.ended // 2)),
        ):
            names[name] = quote(places(world.rows(middle.format(*where)))[0])
        settle()  # as the portal does
        print(f"{'page':<62}{'p50 ms':>9}{'p99 ms':>9}{'cpu ms':>9}{'requests/s':>12}")
        for who, paths in (("public", PUBLIC), ("user", USER), ("admin", ADMIN)):
            async with httpx.AsyncClient(
                transport=httpx.ASGITransport(app=app),
                base_url="http://localhost:8080",
                cookies={CookieNames.of(platform.settings).login: secrets[who]} if who in secrets else None,
                headers={"Sec-Fetch-Site": "same-origin"},
            ) as http:
                for path in (path for path in paths if given.only in path):
                    took, cpu_ms, rate = await measure(http, path.format(**names), given.rounds)
                    p99 = percentile(took, 0.99)
                    over = "  over" * (p99 > given.limit_ms)
                    print(
                        f"{path:<62}{statistics.median(took):>9.1f}{p99:>9.1f}{cpu_ms:>9.1f}{rate:>12.0f}{over}",
                        flush=True,
                    )
                    if p99 > given.limit_ms:
                        slow.append(path)
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
        await world.close()
    print(f"\n{len(slow)} over {given.limit_ms:g} ms" if slow else f"\nall within {given.limit_ms:g} ms")
    return 1 if slow else 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
