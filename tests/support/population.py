"""A large deployment's database, made in seconds: users, live and ended instances, logins, the record of it all."""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from launchpad.domain.instances import Stage, State
from launchpad.domain.naming import new_id

GB = 1024**3
LABS = ("Genomics", "Proteomics", "Imaging", "Statistics", "Überlingen", None)
ENVIRONMENTS = ("rstudio", "jupyterlab")
KEPT = timedelta(days=90)  # as `ended_instance_days` is: older ones are in the history alone
ENDS = ("stopped",) * 80 + ("expired",) * 19 + ("failed",)


@dataclass(frozen=True)
class Population:
    users: int = 10_000
    live: int = 2_000
    queued: int = 50  # of the live ones
    ended: int = 200_000
    audit: int = 400_000
    tries: int = 20_000  # of signing in, as many as a day of an attack can leave


def populate(path: Path, size: Population, now: datetime) -> list[str]:
    """Fills a migrated SQLite database, which must not have users yet; returns the users' ids."""
    chance = random.Random(10)  # the same database every time
    ids = [new_id() for _ in range(size.users)]
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("PRAGMA synchronous = OFF")
        db.execute("PRAGMA cache_size = -300000")  # KiB
        triggers = db.execute("SELECT name, sql FROM sqlite_master WHERE type = 'trigger'").fetchall()
        for name, _ in triggers:  # nobody is to be told, and every row would be two
            db.execute(f"DROP TRIGGER {name}")
        _insert(db, "users", (_user(n, user_id, now) for n, user_id in enumerate(ids)))
        _insert(db, "logins", (_login(n, user_id, now) for n, user_id in enumerate(ids)))
        made = list(_instances(size, ids, now, chance))
        kept = _instant(now - KEPT)
        _insert(db, "instances", (one for one in made if one["ended_at"] is None or one["ended_at"] > kept))
        emails = {user_id: f"person{n:05}@example.org" for n, user_id in enumerate(ids)}
        _insert(db, "instance_history", (_end(one, emails) for one in made if one["ended_at"] is not None))
        _insert(db, "audit", (_record(n, size, ids, now) for n in range(size.audit)))
        _insert(db, "verifications", (_verification(n, size, now) for n in range(size.tries)))
        _insert(db, "challenges", (_challenge(n, now) for n in range(size.tries)))
        for _, sql in triggers:
            db.execute(sql)
    return ids


def _insert(db: sqlite3.Connection, table: str, rows: Iterable[dict[str, Any]]) -> None:
    rows = iter(rows)
    first = next(rows, None)
    if first is None:
        return
    columns = ", ".join(first)
    marks = ", ".join("?" * len(first))

    def values() -> Iterator[tuple[Any, ...]]:
        yield tuple(first.values())
        for row in rows:
            yield tuple(row.values())

    db.executemany(f"INSERT INTO {table} ({columns}) VALUES ({marks})", values())


def _instant(at: datetime) -> str:
    return at.strftime("%Y-%m-%d %H:%M:%S.%f")  # as SQLAlchemy writes it


def _user(n: int, user_id: str, now: datetime) -> dict[str, Any]:
    return {
        "id": user_id,
        "email": f"person{n:05}@example.org",
        "username": f"person{n:05}",
        "uid": 300_000 + n,
        "role": "user",
        "status": "active",
        "lab": LABS[n % len(LABS)],
        "created_at": _instant(now - timedelta(days=400)),
    }


def _login(n: int, user_id: str, now: datetime) -> dict[str, Any]:
    return {
        "id": new_id(),
        "user_id": user_id,
        "secret_digest": f"{n:064}",
        "created_at": _instant(now),
        "last_seen_at": _instant(now),
        "expires_at": _instant(now + timedelta(days=30)),
        "remembered": True,
        "client": "192.0.2.1",
        "user_agent": "Firefox",
        "fresh_at": _instant(now),
    }


def _instances(size: Population, ids: list[str], now: datetime, chance: random.Random) -> Iterator[dict[str, Any]]:
    for n in range(size.ended + size.live):
        live = n >= size.ended
        began = now - timedelta(minutes=(size.ended + size.live - n) * 2)
        state = chance.choice(ENDS)
        if live:
            state = "queued" if n >= size.ended + size.live - size.queued else "running"
        ended_at = None if live else _instant(began + timedelta(minutes=chance.randrange(1, 3000)))
        yield {
            "id": new_id(),
            "owner_id": ids[n % len(ids)] if live else chance.choice(ids),
            "environment": chance.choice(ENVIRONMENTS),
            "state": state,
            "stage": Stage.ENDED if not live else Stage.WAITING if state == State.QUEUED else Stage.READY,
            "reason": None if live else "stopped by you",
            "memory_bytes": GB,
            "cpus": 1.0,
            "storage_bytes": 16 * GB,
            "days": 1,
            "created_at": _instant(began),
            "expires_at": _instant(now + timedelta(days=1)),
            "started_at": None if state == "queued" else _instant(began),
            "ended_at": ended_at,
            "host": "127.0.0.1" if state == "running" else None,
            "port": 20_000 + n - size.ended if state == "running" else None,
            "image": "an-image",
            "stand_in": False,
            "safe_mode": False,
            "oom_count": 0,
        }


def _end(instance: dict[str, Any], emails: dict[str, str]) -> dict[str, Any]:
    """The record of an instance that has ended."""
    own = {name: value for name, value in instance.items() if name not in ("id", "stage", "host", "port")}
    return {"instance_id": instance["id"], "owner_email": emails[instance["owner_id"]], **own}


def _record(n: int, size: Population, ids: list[str], now: datetime) -> dict[str, Any]:
    return {
        "id": n + 1,
        "at": _instant(now - timedelta(minutes=size.audit - n)),
        "actor": f"person{n % len(ids):05}@example.org",
        "client": "192.0.2.1",
        "action": ("sign-in.succeeded", "instance.launched", "instance.stopped")[n % 3],
        "subject": ids[n % len(ids)],
        "details": f'{{"environment": "JupyterLab", "owner": "person{n % len(ids):05}@example.org"}}',
    }


def _verification(n: int, size: Population, now: datetime) -> dict[str, Any]:
    return {
        "client": f"192.0.2.{n % 250}",
        "address": f"person{n % size.users:05}@example.org",
        "succeeded": n % 5 == 0,
        "at": _instant(now - timedelta(seconds=size.tries - n)),
    }


def _challenge(n: int, now: datetime) -> dict[str, Any]:
    return {
        "id": new_id(),
        "address": f"person{n:05}@example.org",
        "client": f"192.0.2.{n % 250}",
        "cookie_digest": f"c{n}",
        "code_digest": "d",
        "attempts": 0,
        "created_at": _instant(now - timedelta(seconds=n)),
        "expires_at": _instant(now + timedelta(seconds=600)),
    }
