"""A change of version: what is refused before, and the way back."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from launchpad import __version__
from launchpad.errors import Conflict
from launchpad.ops import releases
from launchpad.settings import Settings, tables
from launchpad.store.database import Database


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    made = tables({"state_dir": str(tmp_path)})

    async def migrate() -> None:
        database = Database(made.resolved_database_url)
        await database.migrate()
        await database.aclose()

    asyncio.run(migrate())
    return made


def run(settings: Settings, *statements: str) -> None:
    with closing(sqlite3.connect(settings.state_dir / "launchpad.db")) as db, db:
        for statement in statements:
            db.execute(statement)


def notes(settings: Settings) -> list[str]:
    with closing(sqlite3.connect(settings.state_dir / "launchpad.db")) as db:
        return [row[0] for row in db.execute("SELECT key FROM kv ORDER BY key")]


def note(name: str) -> str:
    return f"INSERT INTO kv (key, value, changed_at) VALUES ('{name}', '1', '2026-01-01 00:00:00.000000')"


NEWER = ("UPDATE alembic_version SET version_num = '9999'", "CREATE TABLE later (id INTEGER)")


def test_the_same_version_and_older_ones_may_be_replaced(settings: Settings) -> None:
    for installed in (__version__, "0.0.9", "0.1.0rc1"):
        assert releases.check(settings, installed) == []


def test_going_back_is_refused_with_the_reason(settings: Settings) -> None:
    for installed in ("99.0", "0.1.1", "0.10.0"):
        with pytest.raises(Conflict, match=f"Version {installed} is installed, and this is the older"):
            releases.check(settings, installed)
    with pytest.raises(Conflict, match="“latest” is not a version of this program"):
        releases.check(settings, "latest")


def test_a_database_of_a_newer_version_is_left_alone(settings: Settings) -> None:
    run(settings, *NEWER)
    with pytest.raises(Conflict, match="written by a newer version"):
        releases.check(settings, __version__)


def test_a_server_without_a_database_has_nothing_to_keep(tmp_path: Path) -> None:
    fresh = tables({"state_dir": str(tmp_path / "fresh")})
    assert releases.check(fresh, __version__) == []
    assert releases.keep(fresh) is None


def test_an_upgrade_that_changed_the_tables_is_undone(settings: Settings) -> None:
    run(settings, note("before"))
    kept = releases.keep(settings)
    assert kept is not None
    assert kept.stat().st_mode & 0o777 == 0o600
    run(settings, note("since"), *NEWER)
    assert "from before the upgrade" in releases.go_back(settings)
    assert notes(settings) == ["before"]
    with closing(sqlite3.connect(settings.state_dir / "after-failed-upgrade.db")) as db:
        assert db.execute("SELECT count(*) FROM kv").fetchone() == (2,), "what was written is still to be had"
    assert releases.check(settings, __version__) == []


def test_one_that_did_not_loses_nothing(settings: Settings) -> None:
    releases.keep(settings)
    run(settings, note("since"))
    assert "nothing had to be restored" in releases.go_back(settings)
    assert notes(settings) == ["since"]


def test_without_a_copy_nothing_is_thrown_away(settings: Settings) -> None:
    run(settings, *NEWER)
    with pytest.raises(Conflict, match="no copy from before"):
        releases.go_back(settings)
    assert (settings.state_dir / "launchpad.db").exists()


def test_another_upgrade_keeps_the_newest_state(settings: Settings) -> None:
    releases.keep(settings)
    run(settings, note("later"))
    releases.keep(settings)
    run(settings, *NEWER)
    releases.go_back(settings)
    assert notes(settings) == ["later"]


def test_an_upgrade_that_was_broken_off_and_goes_on_keeps_the_copy_from_before_the_tables_changed(
    settings: Settings,
) -> None:
    run(settings, note("before"))
    releases.keep(settings)
    run(settings, note("since"))
    releases.keep(settings, again=True)  # nothing was changed yet, so what was written since is kept, too
    run(settings, *NEWER)
    assert releases.keep(settings, again=True) == settings.state_dir / releases.KEPT
    releases.go_back(settings)
    assert notes(settings) == ["before", "since"]
