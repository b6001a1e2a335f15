"""What the doctor says of a server: open ports, disks, clock, files, timers, nginx's site."""

from __future__ import annotations

import ctypes
import struct
import subprocess
from collections.abc import Iterator
from datetime import timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest

from launchpad.domain.instances import State
from launchpad.ops.doctor import Finding, Level
from launchpad.ops.doctor.findings import numbers
from launchpad.ops.doctor.listening import Listener, listeners, parsed, ports
from launchpad.ops.doctor.machine import (
    Space,
    clock,
    disks,
    files,
    is_synchronised,
    judged,
    nginx,
    output_of,
    versions,
)
from launchpad.ops.doctor.units import UNITS, services, sweeps
from launchpad.ops.doctor.units import judged as judged_units
from launchpad.ops.doctor.units import parsed as parsed_units
from launchpad.ops.nginx.site import rendered
from launchpad.settings import Settings, tables
from support.platforms import START, World, launch, reaches, sign_in

TCP = """  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 00000000:0016 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1581 1 0 100 0 0 10 0
   1: 0100007F:4E21 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1582 1 0 100 0 0 10 0
   2: 0A01A8C0:0947 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1583 1 0 100 0 0 10 0
   3: 0A01A8C0:C350 0B01A8C0:0016 01 00000000:00000000 00:00000000 00000000     0        0 1584 1 0 100 0 0 10 0
"""
TCP6 = """  sl  local_address                         remote_address                        st tx_queue rx_queue tr
   0: 00000000000000000000000000000000:01BB 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000
   1: 00000000000000000000000001000000:1F90 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000
   2: 0000000000000000FFFF00000100007F:1F91 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000
   3: B80D0120000000000000000001000000:0CEA 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000
"""
HTTPS = {"public_url": "https://lab.example.org", "instances_url": "https://run.example.org:8443"}


def levels(found: list[Finding]) -> list[Level]:
    assert all(finding.remedy for finding in found if finding.level is not Level.OK)
    return [finding.level for finding in found]


def words(found: list[Finding]) -> str:
    return " ".join(f"{finding.text} {finding.remedy}" for finding in found)


# -- ports -------------------------------------------------------------------------------------------------------------


def test_the_kernels_lists_of_sockets_are_read() -> None:
    """Only those that listen; addresses of both kinds, in the machine's order of bytes."""
    assert [(one.port, one.address, one.is_open) for one in parsed(TCP)] == [
        (22, "0.0.0.0", True),
        (20001, "127.0.0.1", False),
        (2375, "192.168.1.10", True),
    ]
    assert [(one.port, ip_address(one.address), one.is_open) for one in parsed(TCP6)] == [
        (443, ip_address("::"), True),
        (8080, ip_address("::1"), False),
        (8081, ip_address("::ffff:127.0.0.1"), False),
        (3306, ip_address("2001:db8::1"), True),
    ]


def test_this_machines_own_sockets_are_found() -> None:
    server = subprocess.Popen(
        [
            "python3",
            "-c",
            "import socket; s = socket.create_server(('127.0.0.1', 0)); print(s.getsockname()[1], flush=True); input()",
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert server.stdout is not None
    port = int(server.stdout.readline())
    found = listeners()
    server.communicate("\n")
    assert found is not None
    assert Listener(port, "127.0.0.1") in found


def test_without_the_kernels_word_no_port_is_called_closed(tmp_path: Path) -> None:
    assert listeners(tmp_path) is None
    (said,) = ports("ports", tables(HTTPS), None)
    assert "Not checked" in said.text


@pytest.mark.parametrize(
    ("open_ports", "level", "says"),
    [
        ([22, 80, 443, 8443], Level.OK, "22, 80, 443, 8443"),
        ([], Level.OK, "none"),
        ([443, 111, 3306], Level.WARN, "111, 3306"),
        ([20000], Level.BAD, "20000"),
        ([29999], Level.BAD, "29999"),
        ([30000], Level.WARN, "30000"),
        ([2375], Level.BAD, "engine's API"),
        ([2376], Level.BAD, "engine's API"),
    ],
)
def test_what_listens_for_other_machines(open_ports: list[int], level: Level, says: str) -> None:
    local = [Listener(port, address) for port in (20005, 5432, 2375) for address in ("127.0.0.1", "::1")]
    found = ports("ports", tables(HTTPS), [*local, *(Listener(port, "0.0.0.0") for port in open_ports)])
    assert levels(found) == [level]
    assert says in found[0].text


@pytest.mark.parametrize(
    ("settings", "there", "missing"),
    [
        ({"public_url": "http://lab.org", "instances_url": "http://lab.org:81"}, (80, 81), ""),
        ({"public_url": "http://lab.org", "instances_url": "http://lab.org:81"}, (80,), "81"),
        ({"public_url": "http://lab.org", "instances_url": "http://run.org"}, (), "80"),
        ({**HTTPS, "proxy": {"trusted": ["10.1.2.3"], "tls": "outer"}}, (8080,), ""),
        ({**HTTPS, "proxy": {"trusted": ["10.1.2.3"], "tls": "outer"}}, (443,), "8080"),
    ],
)
def test_an_nginx_that_is_down_is_told_where_no_certificate_tells_it(
    settings: dict[str, Any], there: tuple[int, ...], missing: str
) -> None:
    found = ports("ports", tables(settings), [Listener(port, "127.0.0.1") for port in there])
    assert levels(found) == [Level.BAD if missing else Level.OK]
    assert (f"Nothing listens on {missing}," in found[0].text) is bool(missing)


def test_each_kind_of_open_port_is_told_by_itself() -> None:
    found = ports("ports", tables(HTTPS), [Listener(port, "::") for port in (2375, 20001, 25)])
    assert levels(found) == [Level.BAD, Level.BAD, Level.WARN]


# -- disks -------------------------------------------------------------------------------------------------------------

GB = 10**9


@pytest.mark.parametrize(
    ("space", "floor", "expected"),
    [
        (Space(100 * GB, 50 * GB, 1000, 500), 0, []),
        (Space(100 * GB, 50 * GB, 0, 0), 0, []),  # btrfs counts no files
        (Space(100 * GB, 9 * GB, 1000, 500), 0, [Level.WARN]),
        (Space(100 * GB, 1 * GB, 1000, 500), 0, [Level.BAD]),
        (Space(1 * GB, GB // 3, 1000, 500), 0, []),
        (Space(1 * GB, GB // 3, 1000, 500), GB // 2, [Level.BAD]),
        (Space(100 * GB, 50 * GB, 1000, 99), 0, [Level.WARN]),
        (Space(100 * GB, 50 * GB, 1000, 10), 0, [Level.BAD]),
        (Space(100 * GB, 1 * GB, 1000, 10), 0, [Level.BAD, Level.BAD]),
    ],
)
def test_what_is_scarce_on_a_disk(space: Space, floor: int, expected: list[Level]) -> None:
    assert levels(judged("disk", "/x", space, floor)) == expected


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    place = tmp_path / "small"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m,nr_inodes=100", "tmpfs", str(place)], check=True)
    yield place
    subprocess.run(["umount", str(place)], check=True)


@pytest.mark.root  # mounts
def test_a_real_file_system_that_fills_up(small_disk: Path, tmp_path: Path) -> None:
    """Bytes and files; where two things are on one disk it is told once."""
    (small_disk / "homes").mkdir()
    settings = tables({"state_dir": str(tmp_path), "homes": {"root": str(small_disk / "homes")}})

    def said() -> list[Finding]:
        return [finding for finding in disks("disk", settings, "") if str(small_disk) in finding.text]

    assert levels(said()) == [Level.OK]
    (small_disk / "filler").write_bytes(b"x" * (1024**2 - 64 * 1024))
    assert levels(said()) == [Level.WARN]
    with pytest.raises(OSError, match="No space"):
        (small_disk / "more").write_bytes(b"x" * 1024**2)
    assert levels(said()) == [Level.BAD]
    for number in range(90):
        (small_disk / f"{number}").touch()
    (bytes_, files_) = said()
    assert bytes_.level is Level.BAD
    assert "files can still be created" in files_.text


def test_what_cannot_be_looked_at_is_not_called_well(tmp_path: Path) -> None:
    settings = tables({"state_dir": str(tmp_path), "homes": {"root": str(tmp_path / "none")}})
    said = disks("disk", settings, str(tmp_path / "engine"))
    assert "(homes) cannot be checked" in words(said)
    assert "(images) cannot be checked" in words(said)
    assert f"{tmp_path} (" in words(said) or f"Free: {tmp_path}" in words(said)


# -- clock -------------------------------------------------------------------------------------------------------------


async def test_a_clock_that_was_set_back_is_noticed(tmp_path: Path) -> None:
    world = World(tmp_path)
    try:
        platform = await world.open()
        await sign_in(platform, "anna@example.org")
        right = await clock("clock", platform.database, None, world.clock.now)
        back = await clock("clock", platform.database, None, world.clock.now - timedelta(days=3))
    finally:
        await world.close()
    assert "set back" not in words(right)
    assert back[0].level is Level.BAD
    assert "3 days ahead" in back[0].text


def test_what_the_kernel_thinks_of_its_clock_is_told() -> None:
    """Held against another word of the same answer: STA_UNSYNC of `status`, the int at byte 40 of struct timex."""
    held = (ctypes.c_byte * 512)()
    assert ctypes.CDLL(None).adjtimex(ctypes.byref(held)) >= 0
    (status,) = struct.unpack_from("i", bytes(held), 40)
    assert is_synchronised() is not bool(status & 0x40)


# -- files -------------------------------------------------------------------------------------------------------------


def test_a_state_directory_that_others_may_enter_is_bad(tmp_path: Path) -> None:
    state = tmp_path / "state"
    state.mkdir(mode=0o700)
    settings = tables({"state_dir": str(state)})
    assert levels(files("files", settings, None)) == [Level.OK]
    state.chmod(0o750)
    (said,) = files("files", settings, None)
    assert said.level is Level.BAD
    assert "mode 0750" in said.text


@pytest.mark.parametrize(
    ("text", "mode", "expected"),
    [
        ('[mail]\nhost = "h"\npassword = "p"\n', 0o644, "mail.password"),
        ('[mail.bounces]\nhost = "h"\npassword = "p"\n', 0o644, "mail.bounces.password"),
        ('[web]\nmetrics_token = "t"\n', 0o604, "web.metrics_token"),
        ('database_url = "postgresql+asyncpg://u:p@h/d"\n', 0o644, "database_url"),
        ('[mail]\nhost = "h"\npassword = "p"\n', 0o640, ""),
        ('[mail]\nhost = "h"\n', 0o644, ""),
    ],
)
def test_a_settings_file_with_secrets_that_everybody_reads_is_bad(
    tmp_path: Path, text: str, mode: int, expected: str
) -> None:
    file = tmp_path / "launchpad.toml"
    file.write_text(text)
    file.chmod(mode)
    (said,) = files("files", tables({"state_dir": str(tmp_path / "none")}), file)
    assert said.level is (Level.BAD if expected else Level.OK)
    assert expected in said.text


# -- nginx -------------------------------------------------------------------------------------------------------------


def installed(folder: Path, **values: Any) -> Settings:
    tls = {"certificate": str(folder / "chain.pem"), "key": str(folder / "key.pem")}
    return tables({**HTTPS, "tls": tls, "web": {"socket": str(folder / "run" / "portal.sock")}, **values})


@pytest.mark.slow
def test_nginx_site_that_is_what_the_settings_make_of_it(tmp_path: Path) -> None:
    settings, site = installed(tmp_path), tmp_path / "launchpad"
    site.write_text(rendered(settings, None, "site").replace("\n", "  \n") + "\n\n")
    assert levels(nginx("nginx", settings, site)) == [Level.OK]
    changed = installed(tmp_path, instances_url="https://other.example.org")
    (said,) = nginx("nginx", changed, site)
    assert said.level is Level.WARN
    assert "launchpad-apply" in said.remedy


@pytest.mark.parametrize("kind", ["missing", "another's", "no socket"])
def test_nginx_site_that_is_not_ours_to_judge(tmp_path: Path, kind: str) -> None:
    site, settings = tmp_path / "launchpad", installed(tmp_path)
    if kind == "another's":
        site.write_text(rendered(installed(tmp_path / "other"), None, "site"))
    if kind == "no socket":
        settings = installed(tmp_path, web={})
        site.write_text("anything")
    (said,) = nginx("nginx", settings, site)
    assert said.level is Level.OK
    assert "Not checked" in said.text


# -- sweeps and units --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sweep_seconds", "ago_seconds", "level"),
    [
        (0, 30, Level.OK),
        (0, 299, Level.OK),
        (0, 301, Level.BAD),
        (0, None, Level.WARN),
        (10, 301, Level.BAD),
        (600, 301, Level.OK),
        (600, 3001, Level.BAD),
    ],
)
async def test_sweeps_that_do_not_come_are_bad(
    tmp_path: Path, sweep_seconds: int, ago_seconds: int | None, level: Level
) -> None:
    world = World(tmp_path, {"web": {"sweep_seconds": sweep_seconds}})
    try:
        platform = await world.open()
        if ago_seconds is not None:
            await platform.sweep.sweep(START - timedelta(seconds=ago_seconds))
        last = await platform.sweep.last()
        found = await sweeps("sweep", platform.settings, platform.database, last, START)
    finally:
        await world.close()
    assert levels(found) == [level]


async def test_without_any_sweep_an_instance_that_waits_for_one_makes_it_bad(tmp_path: Path) -> None:
    world = World(tmp_path)
    try:
        platform = await world.open()
        anna, _ = await sign_in(platform, "anna@example.org")
        instance = await launch(platform, anna)
        await reaches(platform, instance.id, State.RUNNING)
        arguments = ("sweep", platform.settings, platform.database, await platform.sweep.last())
        early = await sweeps(*arguments, START + timedelta(minutes=1))
        late = await sweeps(*arguments, START + timedelta(minutes=10))
    finally:
        await world.close()
    assert (levels(early), levels(late)) == ([Level.WARN], [Level.BAD])


def shown(**states: str) -> str:
    """What `systemctl show` prints; a unit's name with _ for - and no ending is a timer's."""
    blocks = []
    for unit in UNITS:
        state = states.get(unit.replace("launchpad-", "").replace(".", "_"), "not-found")
        load = "not-found" if state == "not-found" else "loaded"
        active = "inactive" if state == "not-found" else state
        result = "exit-code" if state == "failed" else "success"
        blocks.append(f"Result={result}\nId={unit}\nLoadState={load}\nActiveState={active}\n")
    return "\n".join(blocks)


@pytest.mark.parametrize(
    ("states", "expected", "says"),
    [
        ({}, [Level.OK], "not installed"),
        ({"sweep_timer": "active", "sweep_service": "inactive"}, [Level.OK], "timers: launchpad-sweep.timer."),
        ({"sweep_timer": "inactive"}, [Level.BAD], "launchpad-sweep.timer is installed, but not running"),
        ({"sweep_timer": "active", "backup_timer": "inactive"}, [Level.WARN], "launchpad-backup.timer"),
        (
            {"sweep_timer": "active", "drill_service": "failed"},
            [Level.BAD],
            "launchpad-drill.service has failed (exit-code)",
        ),
        ({"sweep_timer": "active", "helper_service": "failed"}, [Level.BAD], "journalctl -u launchpad-helper.service"),
    ],
)
def test_timers_and_failed_units(states: dict[str, str], expected: list[Level], says: str) -> None:
    found = judged_units("services", parsed_units(shown(**states)))
    assert levels(found) == expected
    assert says in words(found)


async def test_without_systemd_its_units_are_not_called_well(tmp_path: Path) -> None:
    (said,) = await services("services", tmp_path / "none")
    assert "systemd is not running here" in said.text


# -- versions ----------------------------------------------------------------------------------------------------------


async def test_versions_in_one_line(tmp_path: Path) -> None:
    (said, *_) = await versions("versions", tables({}), "27.1", enforces_limits=True)
    assert said.level is Level.OK
    for what in ("Launchpad 0.", "Python 3.", "engine 27.1", "nginx 1.", "Linux "):
        assert what in said.text


@pytest.mark.parametrize(
    ("text", "expected"),
    [("20.10.24+dfsg1", (20, 10)), ("28.0.0-rc.1", (28, 0)), ("6.1.0-13-amd64", (6, 1)), ("fake", None)],
)
def test_the_first_two_numbers_of_a_version(text: str, expected: tuple[int, int] | None) -> None:
    assert numbers(text) == expected


async def test_a_program_that_is_missing_or_fails_says_nothing() -> None:
    assert await output_of(("echo", "here")) == "here\n"
    assert await output_of(("false",)) is None
    assert await output_of(("launchpad-has-no-such-program",)) is None
