"""What is work, in which words; what a person does; how points are packed."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from launchpad.domain.activity import (
    Activity,
    ActivitySample,
    IdeSignals,
    PersonRules,
    Point,
    Program,
    Step,
    WorkThresholds,
    merged,
    step_of,
    work_of,
)
from launchpad.domain.activity_codec import CHUNK_SECONDS, chunk_of, chunks_between, packed, unpacked
from launchpad.services.catalogue import catalogue_of
from launchpad.settings import Settings

AT = datetime(2026, 3, 2, 9, 30, tzinfo=UTC)
IDLE = ActivitySample("one", AT, 0.0, 10, 8, 5, 0.0, 0.0, 0.0, 0.0)
THRESHOLDS = WorkThresholds(0.02, 200_000, 20_000)


@pytest.mark.parametrize(
    ("changes", "evidence"),
    [
        ({"cpu_cores": 11.2, "programs": (Program("STAR", 11.2, 1), Program("R", 0.1, 1))}, "STAR, 11 cores"),
        ({"cpu_cores": 1.0, "programs": (Program("R: main.R", 1.0, 1),)}, "R: main.R, 1 core"),
        ({"cpu_cores": 0.03, "programs": (Program("R", 0.03, 1),)}, "R, a little CPU"),
        ({"cpu_cores": 2.5}, "programs, 2.5 cores"),
        ({"cpu_cores": 2.5, "ide_cpu_cores": 2.49}, ""),
        ({"cpu_cores": 0.019}, ""),
        ({"cpu_cores": 0.002, "job": Program("R: loop.R", 0.002, 1)}, "R: loop.R, a little CPU"),
        ({"cpu_cores": 0.002, "job": Program("vim", 0.0004, 1)}, ""),
        ({"cpu_cores": None}, ""),
        ({"signals": IdeSignals(True, "a notebook is running")}, "a notebook is running"),
        ({"signals": IdeSignals(kernels=3, terminals=2, last_activity_at=AT)}, ""),
        ({"network_received_bytes_per_second": 1_200_000.0}, "transferring data, 1.2 MB/s"),
        (
            {"network_received_bytes_per_second": 12_000.0, "network_sent_bytes_per_second": 9_000.0},
            "transferring data, 21 kB/s",
        ),
        ({"network_received_bytes_per_second": 19_000.0}, ""),
        ({"disk_written_bytes_per_second": 20e6}, "reading and writing files, 20 MB/s"),
        ({"disk_read_bytes_per_second": 190_000.0}, ""),
        ({}, ""),
    ],
)
def test_what_is_work_is_told_in_words(changes: dict[str, object], evidence: str) -> None:
    work = work_of((replace(IDLE, **changes),), THRESHOLDS)  # type: ignore[arg-type]
    assert (work.is_working, work.evidence) == (bool(evidence), evidence)


def test_of_several_samples_the_latest_that_worked_is_told() -> None:
    first = replace(IDLE, signals=IdeSignals(True, "R is running code"))
    second = replace(IDLE, cpu_cores=1.0, programs=(Program("make", 1.0, 1),))
    assert work_of((first, second, IDLE), THRESHOLDS).evidence == "make, 1 core"
    assert not work_of((), THRESHOLDS).is_working


def test_idle_is_counted_from_the_later_of_person_and_work() -> None:
    hour = timedelta(hours=1)
    assert Activity(IDLE, AT, None).idle_since == AT
    assert Activity(IDLE, AT, AT + hour).idle_since == AT + hour
    assert Activity(IDLE, AT + hour, AT).idle_since == AT + hour


CATALOGUE = catalogue_of(Settings())


@pytest.mark.parametrize(
    ("environment", "request_line", "is_act"),
    [
        ("jupyterlab", "GET /api/contents?content=1&hash=0&1764", False),
        ("jupyterlab", "GET /api/contents/work?content=1&hash=0&1764", False),
        ("jupyterlab", "GET /api/kernels?1764", False),
        ("jupyterlab", "GET /api/sessions?1764", False),
        ("jupyterlab", "GET /api/terminals?1764", False),
        ("jupyterlab", "GET /api/contents/a.ipynb?type=notebook&content=0&hash=0&1764", False),
        ("jupyterlab", "PUT /lab/api/workspaces/default?1764", False),
        ("jupyterlab", "GET /api/contents/a.ipynb?type=notebook&content=1&hash=1&1764", True),
        ("jupyterlab", "PUT /api/contents/a.ipynb?1764", True),
        ("jupyterlab", "POST /api/kernels/0a/interrupt", True),
        ("jupyterlab", "POST /api/terminals", True),
        ("jupyterlab", "DELETE /api/sessions/0a", True),
        ("jupyterlab", "PATCH /api/contents/a.ipynb", True),
        ("jupyterlab", "PUT /lab/api/settings/x", True),
        ("jupyterlab", "GET /lab/api/settings", False),
        ("jupyterlab", "GET /api/contents/a%20b/c.py?content=1&type=file&format=text&hash=0", True),
        ("jupyterlab", "GET /api/contents/type=file?content=1", False),
        ("jupyterlab", "HEAD /", False),
        ("jupyterlab", "OPTIONS /api/contents/a.ipynb", False),
        ("rstudio", "POST /events/get_events", False),
        ("rstudio", "POST /rpc/get_events_of_mine", True),
        ("rstudio", "POST /rpc/get_events", False),
        ("rstudio", "POST /rpc/ping", False),
        ("rstudio", "POST /rpc/client_init", False),
        ("rstudio", "GET /auth-public-key", False),
        ("rstudio", "POST /rpc/console_input", True),
        ("rstudio", "POST /rpc/get_completions", True),
        ("rstudio", "POST /upload", True),
    ],
)
def test_what_is_a_persons_act_in_the_shipped_environments(environment: str, request_line: str, is_act: bool) -> None:
    method, _, path = request_line.partition(" ")
    assert CATALOGUE[environment].person.is_persons_act(method, path) is is_act


def test_a_page_load_is_an_act_and_a_websocket_none() -> None:
    rules = PersonRules()
    assert rules.is_persons_act("GET", "/", is_page_load=True)
    assert not rules.is_persons_act("GET", "/api/kernels/0a/channels", is_upgrade=True)
    assert not rules.is_persons_act("GET", "/anything")
    assert rules.is_persons_act("POST", "/anything")


def test_a_page_that_says_so_asks_by_itself() -> None:
    rules = CATALOGUE["rstudio"].person
    assert rules.quiet_header == "X-RStudio-Refresh-Auth-Creds"
    assert not rules.is_persons_act("POST", "/rpc/console_input", quiet="0")
    assert rules.is_persons_act("POST", "/rpc/console_input", quiet="1")


POINT = Point(AT, 11.0625, 3 * 1024**4, 2048, 65_000, 1.0, 2.0, 3e9, 4.0, was_working=True)


@pytest.mark.parametrize("step", list(Step))
def test_points_come_back_as_they_were_packed(step: Step) -> None:
    begins_at = chunk_of(AT, step)
    second = replace(POINT, at=AT + timedelta(seconds=step), was_working=False, was_used=True)
    first = replace(POINT, at=step_of(AT, step))
    second = replace(second, at=first.at + timedelta(seconds=step))
    data = packed((second, first), begins_at, step)
    assert unpacked(data, begins_at, step) == [first, second]
    assert len(data) == 68


def test_of_two_points_of_one_time_the_later_one_counts_and_what_does_not_fit_is_cut_off() -> None:
    begins_at = chunk_of(AT, Step.MINUTE)
    huge = replace(POINT, cpu_cores=1e9, memory_bytes=2**60, processes=10**9, disk_read_bytes_per_second=-5.0)
    (read,) = unpacked(packed((POINT, huge), begins_at, Step.MINUTE) + b"torn", begins_at, Step.MINUTE)
    assert (read.cpu_cores, read.processes, read.disk_read_bytes_per_second) == ((2**32 - 1) / 10_000, 65_535, 0.0)


def test_chunks_of_a_time() -> None:
    begin = datetime(2026, 3, 2, tzinfo=UTC)
    assert len(chunks_between(begin, begin + timedelta(hours=1), Step.MINUTE)) == 4
    assert chunks_between(begin, begin, Step.MINUTE) == [int(begin.timestamp())]
    inside = chunks_between(begin + timedelta(minutes=14), begin + timedelta(minutes=16), Step.MINUTE)
    assert inside == [int(begin.timestamp()), int(begin.timestamp()) + CHUNK_SECONDS[Step.MINUTE]]


def test_several_points_as_one() -> None:
    second = replace(POINT, cpu_cores=1.0, memory_bytes=5, processes=7, was_working=False, was_used=True)
    one = merged((POINT, second), AT)
    assert one.cpu_cores == pytest.approx(6.03125)
    assert (one.memory_bytes, one.processes) == (POINT.memory_bytes, 65_000)
    assert one.was_working
    assert one.was_used
