"""The stand-in does what the platform can observe of rocker/rstudio."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Callable
from time import monotonic, sleep
from typing import Any

import httpx
import pytest
import websockets

from images.conftest import UID, Start, Started
from support.live import docker

BROWSER = {"User-Agent": "Mozilla/5.0 Chrome/140.0"}
HEALTH = "/auth-public-key"


class Session:
    """A browser that has come in."""

    def __init__(self, started: Started) -> None:
        self.http = httpx.Client(base_url=started.url, headers=BROWSER, timeout=70)
        self.http.get("/auth-sign-in")
        self.http.headers["X-RS-CSRF-Token"] = str(self.http.cookies["rs-csrf-token"])
        self.last = 0

    def call(self, method: str, *params: object, **headers: str) -> Any:
        answer = self.http.post(f"/rpc/{method}", json={"params": list(params)}, headers=headers)
        assert answer.status_code == 200, answer.text
        return answer.json()["result"]

    def run(self, code: str) -> str:
        """What R prints for this code."""
        self.call("console_input", code)
        text = ""
        deadline = monotonic() + 30
        while monotonic() < deadline:
            for event in self.call("get_events", self.last):
                self.last = event["id"]
                text += event["data"] if event["type"] == "console_output" else ""
                if event["type"] == "console_prompt":
                    return text
        raise AssertionError(text)


def test_redirects_and_cookies_stay_below_the_root_path(start_rstudio: Start) -> None:
    """Whatever way the prefix is written; absolute, and secure under https."""
    started = start_rstudio()
    started.wait_for(HEALTH)
    for written in ("i/abc", "/i/abc", "/i/abc/"):
        answer = httpx.get(f"{started.url}/", headers=BROWSER | {"X-RStudio-Root-Path": written, "Host": "lab.org"})
        assert answer.status_code == 302
        assert answer.headers["location"] == "http://lab.org/i/abc/auth-sign-in?appUri=%2F"
    proxied = BROWSER | {"X-RStudio-Root-Path": "/i/abc", "X-Forwarded-Proto": "https", "Host": "lab.org"}
    answer = httpx.get(f"{started.url}/auth-sign-in", headers=proxied)
    assert answer.headers["location"] == "https://lab.org/i/abc/"
    cookies = answer.headers.get_list("set-cookie")
    assert len(cookies) == 5
    assert all("Path=/i/abc" in one and "HttpOnly" in one and "Secure" in one for one in cookies)
    plain = httpx.get(f"{started.url}/auth-sign-in", headers=BROWSER).headers.get_list("set-cookie")
    assert all("Path=/;" in f"{one};" and "Secure" not in one for one in plain)
    assert "unsupported_browser" in httpx.get(f"{started.url}/").headers["location"]
    assert answer.headers["connection"] == "close"


def test_r_is_real_and_calls_need_their_token(start_rstudio: Start) -> None:
    started = start_rstudio()
    started.wait_for(HEALTH)
    session = Session(started)
    assert session.call("client_init")["stand_in"] is True
    assert "port-token" in session.http.cookies
    assert session.run("x <- 6 * 7\nprint(x)\nf <- function(a) {\n  a + 1\n}\nf(x)") == "[1] 42\n[1] 43\n"
    assert "Error" in session.run("stop('on purpose')")
    assert session.call("list_environment") == ["f", "x"]
    assert httpx.post(f"{started.url}/rpc/client_init", json={}).status_code == 403
    assert started.exec("id", "-u", "rstudio") == str(UID)
    session.run("writeLines('a', '~/a.txt')")
    assert (started.home / "a.txt").stat().st_uid == UID
    users = set(started.exec("sh", "-c", "ps -eo user:20,args | grep -E 'front|session|R/bin'").split("\n"))
    assert any(line.startswith("rstudio-server") and "front" in line for line in users)
    assert any(line.startswith("rstudio ") and "exec/R" in line for line in users)


def test_events_are_held_until_there_are_some(start_rstudio: Start) -> None:
    started = start_rstudio()
    started.wait_for(HEALTH)
    session, other = Session(started), Session(started)
    session.run("1")
    session.call("console_input", "Sys.sleep(1.5); cat('late')")
    began = monotonic()
    while True:
        events = other.call("get_events", other.last)
        other.last = events[-1]["id"] if events else other.last
        if any(one["type"] == "console_output" and "late" in one["data"] for one in events):
            break
    assert 1.0 < monotonic() - began < 10


async def test_sockets(start_rstudio: Start) -> None:
    """One echoes; the other is a shell of the user's own."""
    started = await asyncio.to_thread(start_rstudio)
    await asyncio.to_thread(started.wait_for, HEALTH)
    base = started.url.replace("http", "ws")
    async with websockets.connect(f"{base}/p/0/echo/") as echo:
        await echo.send("hello")
        assert await echo.recv() == "hello"
    async with websockets.connect(f"{base}/p/0/terminal/1/") as terminal:
        await terminal.send("id -u\n")
        seen = ""
        async with asyncio.timeout(10):
            while str(UID) not in seen:
                seen += str(await terminal.recv())


def test_uploads_stream_and_other_large_bodies_do_not(start_rstudio: Start) -> None:
    """200 MB pass a container of 256 MB; chunked bodies and other large ones are refused."""
    started = start_rstudio()
    started.wait_for(HEALTH)
    size = 200 * 1024 * 1024
    answer = httpx.post(f"{started.url}/upload", files={"file": ("big", bytes(size))}, timeout=60)
    assert answer.json() == {"result": {"bytes": size}}
    assert (started.home / "big").stat().st_uid == UID
    chunked = httpx.post(f"{started.url}/rpc/get_events", content=iter([b"{}"]))
    assert chunked.status_code == 411


def test_terminated_it_saves_and_restores(start_rstudio: Start) -> None:
    """Even while R is busy; the file that says so is there meanwhile."""
    started = start_rstudio()
    started.wait_for(HEALTH)
    session = Session(started)
    session.run("kept <- 'still here'")
    session.call("console_input", "Sys.sleep(60)")
    active = started.home / ".local/share/rstudio/sessions/active"
    _until(lambda: next(active.glob("session-*/properites/executing")).read_text() == "1")
    began = monotonic()
    started.stop()
    assert monotonic() - began < 8
    assert docker("inspect", "-f", "{{.State.ExitCode}}", started.name) == "0"
    assert list(active.glob("session-*/suspended-session-data/environment.RData"))
    again = start_rstudio()
    again.wait_for(HEALTH)
    assert "still here" in Session(again).run("kept")


def test_killed_amid_saving_it_says_so(start_rstudio: Start) -> None:
    started = start_rstudio()
    started.wait_for(HEALTH)
    Session(started).run("1")
    folder = next((started.home / ".local/share/rstudio/sessions/active").glob("session-*/suspended-session-data"))
    docker("kill", started.name)
    (folder / "saving").touch()
    os.chown(folder / "saving", UID, UID)
    again = start_rstudio()
    again.wait_for(HEALTH)
    assert "abnormally terminated" in Session(again).run("1")


def test_without_kill_nothing_is_saved(start_rstudio: Start) -> None:
    started = start_rstudio(without="KILL")
    started.wait_for(HEALTH)
    Session(started).run("lost <- 1")
    started.stop(3)
    assert not list(started.home.glob(".local/share/rstudio/sessions/active/*/suspended-session-data/*.RData"))


@pytest.mark.parametrize("capability", ["CHOWN", "DAC_OVERRIDE", "FOWNER", "SETGID", "SETUID"])
def test_each_capability_is_needed(start_rstudio: Start, capability: str) -> None:
    """Without it the server does not come up."""
    started = start_rstudio(without=capability)
    deadline = monotonic() + 8
    while monotonic() < deadline:
        state = docker("inspect", "-f", "{{.State.Status}}", started.name)
        if state == "exited":
            return
        sleep(0.1)
    raise AssertionError(f"it starts without {capability}")


def test_other_variables_are_readable_to_the_user(start_rstudio: Start) -> None:
    """Which is why the platform passes no secret."""
    started = start_rstudio(LAB="geo")
    started.wait_for(HEALTH)
    assert Session(started).run("cat(Sys.getenv('LAB'))").strip() == "geo"


def test_it_says_that_it_is_a_stand_in(start_rstudio: Start) -> None:
    started = start_rstudio()
    started.wait_for(HEALTH)
    session = Session(started)
    assert "Stand-in for RStudio" in session.http.get("/").text
    image = docker("inspect", "-f", "{{json .Config.Labels}}", started.name)
    assert json.loads(image)["org.launchpad.stand-in"] == "true"


def _until(condition: Callable[[], bool]) -> None:
    deadline = monotonic() + 15
    while not condition():
        assert monotonic() < deadline
        sleep(0.05)
