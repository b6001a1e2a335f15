"""What the doctor says of settings and parts that are well, could be better, or are bad."""

from __future__ import annotations

import asyncio
import errno
import json
import pwd
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from launchpad.errors import HelperRefused
from launchpad.ops.doctor import Doctor, Level
from launchpad.ops.doctor.file_access import file_access
from launchpad.ops.doctor.storage import archives
from launchpad.ops.nginx.site import SITE
from launchpad.parts import cutter_of
from launchpad.platform import Platform
from launchpad.runtime.base import Engine, Freezer, HostFacts, NetworkFacts
from launchpad.runtime.fake import FakeRuntime
from launchpad.services.files import FilesService
from launchpad.settings import tables
from launchpad.storage.archives import ArchivesSummary
from launchpad.storage.files import HelperFiles
from support.platforms import World, sign_in

NAMES = {"public_url": "https://lab.example.org", "instances_url": "https://run.example.org"}
WILDCARD = {"public_url": "https://lab.example.org", "instances_url": "https://{instance}.lab.example.org"}


def doctor_of(platform: Platform, runtime: Engine) -> Doctor:
    """One that asks another engine."""
    return Doctor(
        platform.database,
        platform.settings,
        runtime,
        cutter_of(runtime),
        platform.homes,
        platform.images,
        platform.mail,
        platform.sweep,
        platform.bounces,
        platform.catalogue,
        "test",
        platform.idle_policy,
        platform.lab_capacity,
        platform.audit_verifier,
        platform.files,
        platform.snapshots,
        platform.home_work,
    )


async def examined(
    folder: Path, settings: Mapping[str, Any], runtime: Engine | None = None
) -> dict[str, tuple[Level, str]]:
    """With `runtime`, what is said of another engine."""
    world = World(folder, settings)
    try:
        platform = await world.open()
        doctor = platform.doctor if runtime is None else doctor_of(platform, runtime)
        findings = await doctor.examine(world.clock.now)
    finally:
        await world.close()
    assert all(finding.remedy for finding in findings if finding.level is Level.WARN), "a note says what to do"
    return {finding.subject: (finding.level, f"{finding.text} {finding.remedy}") for finding in findings}


@pytest.mark.parametrize(
    ("settings", "level", "words"),
    [
        ({"public_url": "http://localhost:1", "instances_url": "http://localhost:1"}, Level.BAD, "Semi-trusted mode"),
        ({"public_url": "http://lab.org", "instances_url": "http://run.org"}, Level.BAD, "unencrypted"),
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


@pytest.mark.slow
async def test_a_uid_that_somebody_else_has_is_found(tmp_path: Path) -> None:
    """65534 is that of nobody in every distribution; there is no 2000000."""
    nobody = pwd.getpwuid(65534).pw_name
    level, said = (await examined(tmp_path, {**NAMES, "homes": {"uid_base": 65534}}))["uids"]
    assert (level, f"65534 is the uid of “{nobody}”" in said) == (Level.BAD, True), said
    assert (await examined(tmp_path, {**NAMES, "homes": {"uid_base": 2_000_000}}))["uids"][0] is Level.OK


async def test_every_part_is_looked_at(tmp_path: Path) -> None:
    found = await examined(tmp_path, NAMES)
    assert list(found) == [
        *(
            "origins",
            "sign-in",
            "rights",
            "files",
            "database",
            "audit",
            "clock",
            "engine",
            "cgroups",
            "freezing",
            "idle",
            "memory",
            "labs",
            "layers",
            "limits",
        ),
        *(
            "network",
            "connections",
            "ports",
            "names",
            "certificate",
            "nginx",
            "images",
            "homes",
            "file-access",
            "snapshots",
            "archives",
            "uids",
            "disk",
            "storage",
            "sweep",
        ),
        *("background", "services", "backups", "mail", "mailbox", "versions"),
    ]
    for subject in ("files", "engine", "cgroups"):
        assert found[subject][0] is Level.OK, found[subject]
    assert found["rights"][0] is Level.WARN
    assert "It responds and is intact." in found["database"][1]
    assert "Limits of homes" in found["homes"][1]
    assert "There is no TLS" in found["certificate"][1]
    assert found["sign-in"][0] is Level.WARN
    assert found["mail"] == (Level.WARN, found["mail"][1])
    assert "outbox" in found["mail"][1]


@pytest.mark.slow
async def test_idle_rules_are_told_and_one_that_cannot_be_kept_is_a_warning(tmp_path: Path) -> None:
    for folder in ("off", "on"):
        (tmp_path / folder).mkdir()
    off = (await examined(tmp_path / "off", NAMES))["idle"]
    assert (off[0], "No idle rule is on" in off[1]) == (Level.OK, True)
    world = World(tmp_path / "on", {**NAMES, "idle": {"action": "freeze"}})
    platform = await world.open()
    able = [one for one in await platform.doctor.examine(world.clock.now) if one.subject == "idle"]
    world.runtime.freezer_facts = Freezer(False, "this kernel has no freezer")
    unable = [one for one in await platform.doctor.examine(world.clock.now) if one.subject == "idle"]
    await world.close()
    assert [one.level for one in (*able, *unable)] == [Level.OK, Level.WARN]
    assert "1 rule; 0 stopped, 0 frozen, 0 kept in the last 24 hours" in able[0].text
    assert "this kernel has no freezer" in unable[0].text


@pytest.mark.parametrize(
    ("guaranteed", "level", "words"),
    [
        ([], Level.OK, "No lab has a capacity of its own"),
        (["8g"], Level.OK, "1 lab; 8 GB and 2 cores guaranteed in all"),
        (["8g", "4000g"], Level.WARN, "3.9 TB and 4 cores would be guaranteed in all; this server has"),
    ],
)
async def test_labs_that_are_guaranteed_more_than_this_server_has(
    tmp_path: Path, guaranteed: list[str], level: Level, words: str
) -> None:
    """With `auto`, the settings alone cannot tell."""
    labs = [{"lab": f"lab {each}", "guaranteed_memory": each, "guaranteed_cpus": 2} for each in guaranteed]
    settings = {**NAMES, "capacity": {"memory": "auto", "cpus": "auto"}, "lab_capacity": labs}
    found, said = (await examined(tmp_path, settings))["labs"]
    assert (found, words in said) == (level, True), said


@pytest.mark.slow
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
        await sign_in(platform, "anna@example.org")
        assert await platform.database.problems() == []
        await world.change("DELETE FROM users")
        found = {one.subject: one for one in await platform.doctor.examine(world.clock.now)}
    finally:
        await world.close()
    assert found["database"].level is Level.BAD
    assert "without its users" in found["database"].text
    assert "launchpad restore" in found["database"].remedy


@pytest.mark.slow  # waits for a clock
async def test_a_database_that_cannot_be_read_at_all_is_called_damaged(tmp_path: Path) -> None:
    """And what does not need it is still looked at."""
    world = World(tmp_path, NAMES)
    try:
        platform = await world.open()
        await platform.database.aclose()
        world.database_file.write_bytes(b"no database" * 1000)
        found = {one.subject: one for one in await platform.doctor.examine(world.clock.now)}
    finally:
        await world.close()
    assert found["database"].level is Level.BAD
    assert "damaged" in found["database"].text
    assert "launchpad restore" in found["database"].remedy
    assert found["clock"].level is Level.BAD
    assert found["engine"].level is found["files"].level is Level.OK


async def test_a_database_of_a_newer_version_is_not_called_well(tmp_path: Path) -> None:
    world = World(tmp_path, NAMES)
    try:
        platform = await world.open()
        await world.change("UPDATE alembic_version SET version_num = 'of tomorrow'")
        found = {one.subject: one for one in await platform.doctor.examine(world.clock.now)}
    finally:
        await world.close()
    assert found["database"].level is Level.BAD
    assert "newer version" in found["database"].text


@pytest.mark.slow  # waits for a clock
async def test_an_engine_that_hangs_does_not_hide_a_full_disk(tmp_path: Path) -> None:
    """A full disk is what makes engines hang."""

    class HangingRuntime(FakeRuntime):
        async def host(self) -> HostFacts:
            await asyncio.Event().wait()
            raise AssertionError("it answers")

    world = World(tmp_path, NAMES)
    try:
        platform = await world.open()
        doctor = doctor_of(platform, HangingRuntime("test"))
        disk, versions = await doctor._disks("disk"), await doctor._versions("versions")
    finally:
        await world.close()
    assert [one.level for one in disk][-1:] == [Level.OK]
    assert "engine not known" in versions[0].text


async def test_an_engine_that_is_away_comes_with_what_to_do(tmp_path: Path) -> None:
    world = World(tmp_path, NAMES)
    try:
        platform = await world.open()
        world.runtime.go_down()
        found = {one.subject: one for one in await platform.doctor.examine(world.clock.now)}
    finally:
        await world.close()
    assert (found["engine"].level, found["network"].level) == (Level.BAD, Level.BAD)
    assert "systemctl status docker" in found["engine"].remedy


async def test_what_the_system_refuses_is_a_finding_and_the_rest_is_looked_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also a program that is there and does not start."""

    class Refused(FakeRuntime):
        async def can_cut(self) -> bool:
            raise PermissionError(errno.EPERM, "Operation not permitted", "/run/somewhere")

    programs = tmp_path / "programs"
    programs.mkdir()
    (programs / "nginx").write_text("no program")
    (programs / "nginx").chmod(0o755)
    monkeypatch.setenv("PATH", str(programs))
    found = await examined(tmp_path, NAMES, Refused("test"))
    assert found["connections"][0] is Level.BAD
    assert "Operation not permitted (/run/somewhere)" in found["connections"][1]
    assert "nginx not found" in found["versions"][1]


@pytest.mark.root  # mounts
@pytest.mark.slow  # waits for as long as the program does
def test_a_disk_that_never_answers_does_not_keep_the_command_from_its_end(tmp_path: Path) -> None:
    """A pipe in the place of nginx's site, in mounts of this command's own: whoever reads it waits for ever."""
    settings = tmp_path / "launchpad.toml"
    settings.write_text(
        f'public_url = "http://localhost:1"\ninstances_url = "http://localhost:2"\nstate_dir = "{tmp_path}/state"\n'
        f'[web]\nsocket = "{tmp_path}/web.sock"\n[homes]\nroot = "{tmp_path}"\ndriver = "plain"\n'
    )
    program = f"""
mkdir -p {SITE.parent} && mount -t tmpfs none {SITE.parent} && mkfifo {SITE}
exec {sys.executable} -m launchpad doctor --json --config {settings}
"""
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", program], capture_output=True, text=True, check=False, timeout=110
    )
    found = {one["subject"]: one["text"] for one in json.loads(done.stdout)}
    assert found["nginx"] == "No answer within 15 seconds."
    assert "Launchpad" in found["versions"]
    assert done.returncode == 1


async def test_files_that_the_helper_does_not_hand_out_are_told(world: World, platform: Platform) -> None:
    """Nobody listens, or something else does; with workers of the portal's own, which start, all is well."""

    async def seen(path: Path) -> tuple[Level, str]:
        asked = tables({**world.settings, "helper": {"socket": str(path.with_name("helper.sock"))}})
        files = FilesService(HelperFiles(path, asked.files), platform.homes, platform.offers, asked)
        [finding] = await file_access("file-access", asked, files)
        return finding.level, f"{finding.text} {finding.remedy}"

    path = world.folder / "helper-files.sock"
    level, said = await seen(path)
    assert (level, f"does not answer at {path}" in said) == (Level.BAD, True), said
    assert "systemctl status launchpad-helper.socket" in said
    other = await asyncio.start_unix_server(lambda _reader, writer: writer.close(), path)
    async with other:
        level, said = await seen(path)
    assert (level, f"does not answer at {path}" in said) == (Level.BAD, True), said
    [well] = await file_access("file-access", platform.settings, platform.files)
    assert (well.level, well.remedy) == (Level.OK, "")


async def test_a_helper_of_an_older_version_is_told(tmp_path: Path) -> None:
    class Older(FakeRuntime):
        async def network(self) -> NetworkFacts:
            raise HelperRefused("The server's helper refused: there is no such call.")

    found = await examined(tmp_path, NAMES, Older("test"))
    assert found["network"][0] is Level.BAD
    assert "restart launchpad-helper" in found["network"][1]
    assert found["engine"][0] is Level.OK


class Summed:
    """Archives as a folder has them, as far as doctor asks."""

    def __init__(self, summary: ArchivesSummary) -> None:
        self._summary = summary

    async def summary(self) -> ArchivesSummary:
        return self._summary


@pytest.mark.parametrize(
    ("found", "level", "words"),
    [
        (ArchivesSummary("/a", free_bytes=10**12), Level.OK, "none yet"),
        (ArchivesSummary("/a", free_bytes=10**12, number=3, bytes=10**9), Level.OK, "3 archives"),
        (ArchivesSummary("/a", obstacle="/a does not exist."), Level.BAD, "does not exist"),
        (ArchivesSummary("/a", free_bytes=10**12, number=1, unverified=("anna",)), Level.WARN, "never verified: anna"),
        (ArchivesSummary("/a", free_bytes=10**6, number=1), Level.WARN, "only"),
    ],
)
async def test_doctor_tells_of_archives(found: ArchivesSummary, level: Level, words: str) -> None:
    (finding,) = await archives("archives", Summed(found))  # type: ignore[arg-type]
    assert finding.level is level
    assert words in finding.text
