"""What the doctor says of settings and parts that are well, could be better, or are bad."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from launchpad.errors import HelperRefused
from launchpad.runtime.base import NetworkFacts
from launchpad.runtime.fake import FakeRuntime
from launchpad.services.doctor import Doctor, Level
from support.platforms import World, sign_in

NAMES = {"public_url": "https://lab.example.org", "instances_url": "https://run.example.org"}
WILDCARD = {"public_url": "https://lab.example.org", "instances_url": "https://{instance}.lab.example.org"}


async def examined(folder: Path, settings: Mapping[str, Any]) -> dict[str, tuple[Level, str]]:
    world = World(folder, settings)
    try:
        findings = await (await world.open()).doctor.examine(world.clock.now)
    finally:
        await world.close()
    assert all(finding.remedy for finding in findings if finding.level is Level.WARN), "a note says what to do"
    return {finding.subject: (finding.level, f"{finding.text} {finding.remedy}") for finding in findings}


@pytest.mark.parametrize(
    ("settings", "level", "words"),
    [
        ({"public_url": "http://localhost:1", "instances_url": "http://localhost:1"}, Level.BAD, "Semi-trusted mode"),
        ({"public_url": "http://lab.org", "instances_url": "http://run.org"}, Level.BAD, "in the clear"),
        ({}, Level.WARN, "Two ports of one host"),
        (NAMES, Level.OK, "two origins"),
        (WILDCARD, Level.OK, "a host name for each instance"),
    ],
)
async def test_how_portal_and_instances_are_kept_apart(
    tmp_path: Path, settings: dict[str, Any], level: Level, words: str
) -> None:
    found = await examined(tmp_path, settings)
    assert found["origins"][0] is level
    assert words in found["origins"][1]


async def test_every_part_is_looked_at(tmp_path: Path) -> None:
    found = await examined(tmp_path, NAMES)
    assert list(found) == [
        *("origins", "sign-in", "rights", "files", "database", "clock", "engine", "cgroups", "limits", "network"),
        *("connections", "ports", "names", "certificate", "nginx", "images", "homes", "disk", "sweep", "services"),
        *("backups", "mail", "mailbox", "versions"),
    ]
    for subject in ("files", "engine", "cgroups"):
        assert found[subject][0] is Level.OK, found[subject]
    assert found["rights"][0] is Level.WARN
    assert "It answers, and is whole." in found["database"][1]
    assert "Limits of homes" in found["homes"][1]
    assert "Nothing speaks TLS" in found["certificate"][1]
    assert found["sign-in"][0] is Level.WARN
    assert found["mail"] == (Level.WARN, found["mail"][1])
    assert "outbox" in found["mail"][1]


async def test_what_is_away_is_bad_and_the_rest_is_still_looked_at(tmp_path: Path) -> None:
    world = World(tmp_path, {**NAMES, "egress": {"rules": "off"}, "sign_in": {"allowed_domains": ["a.org"]}})
    platform = await world.open()
    world.runtime.go_down()
    found = {one.subject: one.level for one in await platform.doctor.examine(world.clock.now)}
    world.runtime.come_back()
    again = {one.subject: one.level for one in await platform.doctor.examine(world.clock.now)}
    world.runtime.missing_images.add("jupyter/datascience-notebook:2023-10-20")
    await world.close()
    assert (found["engine"], found["network"], found["database"]) == (Level.BAD, Level.BAD, Level.OK)
    assert (again["engine"], again["network"], again["sign-in"]) == (Level.OK, Level.WARN, Level.OK)


async def test_a_damaged_database_is_bad(tmp_path: Path) -> None:
    """Rows whose owner is gone, which no ordinary question notices."""
    world = World(tmp_path, NAMES)
    try:
        platform = await world.open()
        await sign_in(platform, world.letters, "anna@example.org")
        assert await platform.database.problems() == []
        database = sqlite3.connect(world.database_file)
        with database:
            database.execute("PRAGMA foreign_keys = OFF")
            database.execute("DELETE FROM users")
        database.close()
        found = {one.subject: one for one in await platform.doctor.examine(world.clock.now)}
    finally:
        await world.close()
    assert found["database"].level is Level.BAD
    assert "without its users" in found["database"].text
    assert "launchpad restore" in found["database"].remedy


async def test_a_helper_of_an_older_version_is_told(tmp_path: Path) -> None:
    class Older(FakeRuntime):
        async def network(self) -> NetworkFacts:
            raise HelperRefused("The server's helper refused: it has no such verb.")

    world = World(tmp_path, NAMES)
    try:
        platform = await world.open()
        doctor = Doctor(
            platform.database,
            platform.settings,
            Older("test"),
            platform.homes,
            platform.images,
            platform.mail,
            platform.sweep,
            platform.bounces,
            platform.catalogue,
            "test",
        )
        found = {one.subject: one for one in await doctor.examine(world.clock.now)}
    finally:
        await world.close()
    assert found["network"].level is Level.BAD
    assert "restart launchpad-helper" in found["network"].remedy
    assert found["engine"].level is Level.OK
