"""What the doctor says of settings and parts that are well, could be better, or are bad."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from launchpad.services.doctor import Level
from support.platforms import World

NAMES = {"public_url": "https://lab.example.org", "instances_url": "https://run.example.org"}
WILDCARD = {"public_url": "https://lab.example.org", "instances_url": "https://{instance}.lab.example.org"}


async def examined(folder: Path, settings: Mapping[str, Any]) -> dict[str, tuple[Level, str]]:
    world = World(folder, settings)
    try:
        findings = await (await world.open()).doctor.examine()
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
        *("origins", "sign-in", "database", "engine", "network", "connections", "images", "homes", "mail")
    ]
    assert found["engine"][0] is Level.OK
    assert found["sign-in"][0] is Level.WARN
    assert found["mail"] == (Level.WARN, found["mail"][1])
    assert "outbox" in found["mail"][1]


async def test_what_is_away_is_bad_and_the_rest_is_still_looked_at(tmp_path: Path) -> None:
    world = World(tmp_path, {**NAMES, "egress": {"rules": "off"}, "sign_in": {"allowed_domains": ["a.org"]}})
    platform = await world.open()
    world.runtime.go_down()
    found = {one.subject: one.level for one in await platform.doctor.examine()}
    world.runtime.come_back()
    again = {one.subject: one.level for one in await platform.doctor.examine()}
    world.runtime.missing_images.add("jupyter/datascience-notebook:2023-10-20")
    await world.close()
    assert (found["engine"], found["network"], found["database"]) == (Level.BAD, Level.BAD, Level.OK)
    assert (again["engine"], again["network"], again["sign-in"]) == (Level.OK, Level.WARN, Level.OK)
