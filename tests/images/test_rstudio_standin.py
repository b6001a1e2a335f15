"""The stand-in does what the platform can observe of rocker/rstudio.

What is asked here holds for the real server too, as far as nothing else is said; the stand-in is what can be had.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from time import monotonic

import httpx
import websockets

from images.conftest import UID, Started, StartRStudio
from support.live import docker
from support.rstudio import INVALID_CLIENT, UNAUTHORIZED, UNAVAILABLE, RStudio

BROWSER = {"User-Agent": "Mozilla/5.0 Chrome/140.0"}
HEALTH = "/auth-public-key"
BUSY_MACHINE_SECONDS = 60.0


async def started_by(start: StartRStudio, *, answers: bool = True, **how: str) -> Started:
    started = await asyncio.to_thread(start, **how)
    if answers:
        await asyncio.to_thread(started.wait_for, HEALTH)
    return started


@asynccontextmanager
async def tab(started: Started) -> AsyncIterator[RStudio]:
    """A browser of its own that has come in."""
    async with httpx.AsyncClient(timeout=BUSY_MACHINE_SECONDS) as http:
        rstudio = RStudio(http, started.url)
        await rstudio.enter()
        yield rstudio


async def get(url: str, headers: dict[str, str] | None = None) -> httpx.Response:
    """Without cookies."""
    async with httpx.AsyncClient(timeout=BUSY_MACHINE_SECONDS) as http:
        return await http.get(url, headers=headers)


async def chunks() -> AsyncIterator[bytes]:
    yield b"{}"


async def until(condition: Callable[[], Awaitable[bool] | bool]) -> None:
    async with asyncio.timeout(BUSY_MACHINE_SECONDS):
        while True:
            found = condition()
            if found if isinstance(found, bool) else await found:
                return
            await asyncio.sleep(0.05)


def active(started: Started) -> Path:
    return started.home / ".local/share/rstudio/sessions/active"


async def test_redirects_and_cookies_stay_below_the_root_path(start_rstudio: StartRStudio) -> None:
    """Whatever way the prefix is written; absolute, and secure under https."""
    started = await started_by(start_rstudio)
    for written in ("i/abc", "/i/abc", "/i/abc/"):
        answer = await get(f"{started.url}/", headers=BROWSER | {"X-RStudio-Root-Path": written, "Host": "lab.org"})
        assert answer.status_code == 302
        assert answer.headers["location"] == "http://lab.org/i/abc/auth-sign-in?appUri=%2F"
    proxied = BROWSER | {"X-RStudio-Root-Path": "/i/abc", "X-Forwarded-Proto": "https", "Host": "lab.org"}
    answer = await get(f"{started.url}/auth-sign-in", headers=proxied)
    assert answer.headers["location"] == "https://lab.org/i/abc/"
    cookies = answer.headers.get_list("set-cookie")
    assert len(cookies) == 5
    assert all("; path=/i/abc;" in one and "HttpOnly" in one and "secure" in one for one in cookies)
    plain = (await get(f"{started.url}/auth-sign-in", headers=BROWSER)).headers.get_list("set-cookie")
    assert all("; path=/;" in one and "secure" not in one for one in plain)
    assert "unsupported_browser" in (await get(f"{started.url}/")).headers["location"]
    assert answer.headers["connection"] == "close"


async def test_r_is_real_and_runs_as_the_user(start_rstudio: StartRStudio) -> None:
    started = await started_by(start_rstudio)
    async with tab(started) as rstudio:
        assert rstudio.cookie("port-token")
        printed = await rstudio.run("x <- 6 * 7\nprint(x)\nf <- function(a) {\n  a + 1\n}\nf(x)")
        assert [line for line in printed.splitlines() if line.startswith("[")] == ["[1] 42", "[1] 43"]
        assert "Error" in await rstudio.run("stop('on purpose')")
        assert [one["name"] for one in await rstudio.call("list_environment")] == ["f", "x"]
        assert started.exec("id", "-u", "rstudio") == str(UID)
        await rstudio.run("writeLines('a', '~/a.txt')")
        assert (started.home / "a.txt").stat().st_uid == UID
        listed = started.exec("ps", "-eo", "user:20,comm").splitlines()
        users = {words[1]: words[0] for words in (line.split() for line in listed) if len(words) == 2}
        assert users["rserver"] == "rstudio-server"
        assert users["rsession"] == "rstudio"


async def test_calls_want_the_log_in_the_token_and_the_clients_id(start_rstudio: StartRStudio) -> None:
    started = await started_by(start_rstudio)
    async with tab(started) as rstudio, httpx.AsyncClient(timeout=BUSY_MACHINE_SECONDS) as nobody:
        await rstudio.run("1")
        stranger = RStudio(nobody, started.url)
        assert await stranger.error("client_init") == UNAUTHORIZED
        forged = await rstudio.post("console_input", "2", "", 0, **{"X-RS-CSRF-Token": "another"})
        assert forged.json()["error"]["code"] == UNAUTHORIZED
        rstudio.client_id, own = "another", rstudio.client_id
        assert await rstudio.error("console_input", "2", "", 0) == INVALID_CLIENT
        assert await rstudio.error("get_events", -1) == INVALID_CLIENT
        rstudio.client_id = own
        assert "[1] 2" in await rstudio.run("2")


async def test_uploads_and_local_applications_want_the_log_in(start_rstudio: StartRStudio) -> None:
    started = await started_by(start_rstudio)
    async with tab(started) as rstudio, httpx.AsyncClient(timeout=BUSY_MACHINE_SECONDS) as nobody:
        address = await rstudio.start_application()
        assert (await rstudio.http.get(address, headers=BROWSER)).text == "a local application"
        refused = await nobody.get(address, headers=BROWSER)
        assert "a local application" not in refused.text
        assert refused.status_code in (302, 401)
        sent = await nobody.post(f"{started.url}/upload", data={"targetDirectory": "~"}, files={"file": ("a", b"a")})
        assert sent.status_code == 401 or sent.json()["error"]["code"] == UNAUTHORIZED
        assert not (started.home / "a").exists()
        assert (await rstudio.http.get(f"{started.url}/p/0/echo", headers=BROWSER)).status_code == 404


async def test_a_local_applications_redirect_lacks_the_prefix(start_rstudio: StartRStudio) -> None:
    """That the proxy took off: it is the proxy's to mend. Sockets pass."""
    started = await started_by(start_rstudio)
    async with tab(started) as rstudio:
        address = await rstudio.start_application()
        answer = await rstudio.http.get(f"{address}redirect", headers=BROWSER | {"X-RStudio-Root-Path": "/i/abc"})
        assert answer.status_code == 302
        assert answer.headers["location"] == f"{httpx.URL(address).path}landing"
        cookies = "; ".join(f"{one.name}={one.value}" for one in rstudio.http.cookies.jar)
        socket = f"{address}echo/".replace("http", "ws", 1)
        async with websockets.connect(
            socket, additional_headers={"Cookie": cookies}, proxy=None, open_timeout=120
        ) as echo:
            await echo.send("hello")
            assert await echo.recv() == "hello"


async def test_a_terminal_is_a_shell_of_the_users_own(start_rstudio: StartRStudio) -> None:
    """The parameters of `start_terminal` are fewer here than the real server's."""
    started = await started_by(start_rstudio)
    async with tab(started) as rstudio:
        made = await rstudio.call("start_terminal")
        cookies = "; ".join(f"{one.name}={one.value}" for one in rstudio.http.cookies.jar)
        url = f"{started.url}/p/{made['channel_id']}/terminal/{made['handle']}/".replace("http", "ws", 1)
        async with websockets.connect(
            url, additional_headers={"Cookie": cookies}, proxy=None, open_timeout=120
        ) as terminal:
            await terminal.send("id -u\n")
            seen = ""
            async with asyncio.timeout(BUSY_MACHINE_SECONDS):
                while str(UID) not in seen:
                    seen += str(await terminal.recv())


async def test_events_are_held_and_answered_within_ten_seconds(start_rstudio: StartRStudio) -> None:
    started = await started_by(start_rstudio)
    async with tab(started) as rstudio:
        await rstudio.run("1")
        while await rstudio.events():  # until nothing happens any more
            pass
        began = monotonic()
        assert await rstudio.events() == []
        assert 5 < monotonic() - began < BUSY_MACHINE_SECONDS
        assert "late" in await rstudio.run("Sys.sleep(1.5); cat('late')")


async def test_the_newest_tab_takes_the_session(start_rstudio: StartRStudio) -> None:
    """An older one is told at once, also while it waits for events."""
    started = await started_by(start_rstudio)
    async with tab(started) as older:
        await older.run("kept <- 'of both'")
        while await older.events():
            pass
        waiting = asyncio.create_task(older.error("get_events", older.last))
        await asyncio.sleep(0.5)
        async with tab(started) as newer:
            assert await waiting == INVALID_CLIENT
            assert "of both" in await newer.run("kept")
            assert await older.error("console_input", "1", "", 0) == INVALID_CLIENT


async def test_quit_ends_the_session_and_not_the_container(start_rstudio: StartRStudio) -> None:
    started = await started_by(start_rstudio)
    async with tab(started) as rstudio:
        await rstudio.run("lost <- 1")
        await rstudio.call("console_input", "quit('no')", "", 0)
        seen: set[str] = set()
        while "quit" not in seen:
            seen |= {str(one["type"]) for one in await rstudio.events()}
        await until(lambda: _is_unavailable(rstudio))
        assert (await get(started.url + HEALTH)).status_code == 200
    async with tab(started) as again:
        assert "not found" in await again.run("lost")
    assert docker("inspect", "-f", "{{.State.Running}}", started.name) == "true"


async def _is_unavailable(rstudio: RStudio) -> bool:
    """Whether there is no session any more: who only listens starts none."""
    answer = (await rstudio.post("get_events", rstudio.last)).json()
    return bool(answer.get("error", {}).get("code") == UNAVAILABLE)


async def test_r_that_is_killed_is_started_again_by_the_next_call(start_rstudio: StartRStudio) -> None:
    """Silently: the page's client id holds on, and no event tells of it. So it is after too much memory, too."""
    started = await started_by(start_rstudio)
    async with tab(started) as rstudio:
        await rstudio.run("lost <- 1")
        started.exec("sh", "-c", "kill -9 $(pgrep -x -u rstudio R || pgrep -x rsession)")
        await until(lambda: _is_unavailable(rstudio))
        assert await rstudio.call("ping") is None
        assert "not found" in await rstudio.run("lost")
        assert "terminated" not in await rstudio.run("1")
        grow = "x <- list(); for (i in 1:500) x[[i]] <- runif(2e6)"
        await rstudio.call("console_input", grow, "", 0)
        await until(lambda: _is_unavailable(rstudio))
        assert "[1] 3" in await rstudio.run("1 + 2")
        assert docker("inspect", "-f", "{{.State.Running}}", started.name) == "true"


async def test_a_failing_server_keeps_the_container_running(start_rstudio: StartRStudio, tmp_path: Path) -> None:
    """It is supervised: tried again and again, and its log says why."""
    wrong = tmp_path / "rserver.conf"
    wrong.write_text("rsession-which-r=/usr/bin/R\nauth-none=1\nno-such-option=1\n")
    started = await started_by(
        start_rstudio, answers=False, volume=f"{wrong}:/etc/rstudio/disable_auth_rserver.conf:ro"
    )
    await until(lambda: _logged(started).count("unrecognised option 'no-such-option'") >= 2)
    assert docker("inspect", "-f", "{{.State.Running}}", started.name) == "true"
    wrong.write_text("rsession-which-r=/usr/bin/R\nauth-none=1\n")
    started.exec("cp", "/etc/rstudio/disable_auth_rserver.conf", "/etc/rstudio/rserver.conf")
    await asyncio.to_thread(started.wait_for, HEALTH)


def _logged(started: Started) -> str:
    done = subprocess.run(["docker", "logs", started.name], capture_output=True, check=True)
    return (done.stdout + done.stderr).decode(errors="replace")


async def test_uploads_stream_and_other_large_bodies_do_not(start_rstudio: StartRStudio) -> None:
    """200 MB pass a container of 256 MB; chunked bodies and other large ones are refused."""
    started = await started_by(start_rstudio)
    size = 200 * 1024 * 1024
    async with tab(started) as rstudio:
        await rstudio.upload("big", bytes(size))
        assert (started.home / "big").stat().st_size == size
        assert (started.home / "big").stat().st_uid == UID
        chunked = await rstudio.http.post(f"{started.url}/rpc/get_events", content=chunks())
        assert chunked.status_code == 411
        fetched = await rstudio.http.get(f"{started.url}/files/big", headers=BROWSER)
        assert len(fetched.content) == size


async def test_terminated_it_saves_and_restores(start_rstudio: StartRStudio) -> None:
    """Even while R is busy; the file that says so is there meanwhile."""
    started = await started_by(start_rstudio)
    async with tab(started) as rstudio:
        await rstudio.run("kept <- 'still here'")
        await rstudio.call("console_input", "Sys.sleep(600)", "", 0)
        await until(lambda: next(active(started).glob("session-*/properites/executing")).read_text() == "1")
        await asyncio.to_thread(started.stop, 60)
    assert docker("inspect", "-f", "{{.State.ExitCode}}", started.name) == "0"
    assert any(path.is_file() for path in active(started).glob("session-*/suspended-session-data/*"))
    again = await started_by(start_rstudio)
    async with tab(again) as rstudio:
        assert "still here" in await rstudio.run("kept")


async def test_services_are_waited_for_and_the_end_is_a_fixed_pause(start_rstudio: StartRStudio) -> None:
    """S6_KILL_GRACETIME is slept through though nobody is left; S6_SERVICES_GRACETIME only bounds the waiting."""
    began: dict[str, float] = {}
    for pause in ("500", "6000"):
        started = await started_by(start_rstudio, S6_SERVICES_GRACETIME="60000", S6_KILL_GRACETIME=pause)
        async with tab(started) as rstudio:
            await rstudio.run("1")
        begun = monotonic()
        await asyncio.to_thread(started.stop, 90)
        began[pause] = monotonic() - begun
        assert docker("inspect", "-f", "{{.State.ExitCode}}", started.name) == "0", "it was not killed for its time"
    assert began["6000"] >= 6


async def test_killed_amid_saving_it_says_so(start_rstudio: StartRStudio) -> None:
    """`saving` is the stand-in's own file; RStudio marks it in its own way."""
    started = await started_by(start_rstudio)
    async with tab(started) as rstudio:
        await rstudio.run("1")
    folder = next(active(started).glob("session-*/suspended-session-data"))
    docker("kill", started.name)
    (folder / "saving").touch()
    os.chown(folder / "saving", UID, UID)
    again = await started_by(start_rstudio)
    async with httpx.AsyncClient(timeout=BUSY_MACHINE_SECONDS) as http:
        rstudio = RStudio(http, again.url)
        await rstudio.http.get(f"{again.url}/auth-sign-in", headers=BROWSER)
        assert "saving" not in str(await rstudio.post("ping"))
        await until(lambda: not (folder / "saving").exists())


async def test_without_kill_nothing_is_saved(start_rstudio: StartRStudio) -> None:
    started = await started_by(start_rstudio, without="KILL")
    async with tab(started) as rstudio:
        await rstudio.run("lost <- 1")
    await asyncio.to_thread(started.stop, 3)
    assert not any(path.is_file() for path in active(started).glob("session-*/suspended-session-data/*.RData"))


async def test_each_capability_is_needed(start_rstudio: StartRStudio) -> None:
    """Without it the server does not come up, and the container goes on. RStudio 2024.12 may do without FOWNER."""
    for capability in ("CHOWN", "DAC_OVERRIDE", "FOWNER", "SETGID", "SETUID"):
        started = await started_by(start_rstudio, answers=False, without=capability)
        await until(lambda started=started: _logged(started).count("rserver ended with") >= 2)  # type: ignore[misc]
        with suppress(httpx.HTTPError):
            assert (await get(started.url + HEALTH)).status_code != 200
        assert docker("inspect", "-f", "{{.State.Running}}", started.name) == "true", capability


async def test_with_another_uid_the_user_is_made_anew_and_the_home_chowned(start_rstudio: StartRStudio) -> None:
    """As rocker's init does: all that is in the home changes its owner, and the shell is another."""
    inside = start_rstudio.home / "folder"
    inside.mkdir()
    os.chown(inside, 12345, 12345)
    started = await started_by(start_rstudio)
    assert inside.stat().st_uid == UID
    assert started.exec("getent", "passwd", "rstudio").endswith(":/home/rstudio:/bin/sh")
    assert "staff" in started.exec("id", "-Gn", "rstudio").split()
    assert started.exec("id", "-g", "rstudio") == str(UID)


async def test_with_the_uid_of_the_image_nothing_is_touched(start_rstudio: StartRStudio) -> None:
    """USERID left alone: the user is who stands in /etc/passwd, and the home is as it was."""
    home: Path = start_rstudio.home
    inside = home / "folder"
    inside.mkdir()
    os.chown(inside, 12345, 12345)
    before = (inside.stat(), home.stat())
    edit = f"sed -i 's/^rstudio:x:1000:1000:/rstudio:x:{UID}:{UID}:/' /etc/passwd && exec /init"
    started = await started_by(start_rstudio, USERID="1000", GROUPID="1000", command=f"sh -c {json.dumps(edit)}")
    assert [(one.st_uid, one.st_ctime_ns) for one in (inside.stat(), home.stat())] == [
        (one.st_uid, one.st_ctime_ns) for one in before
    ]
    async with tab(started) as rstudio:
        assert str(UID) in await rstudio.run("system('id -u', intern = TRUE)")
    assert started.exec("getent", "passwd", "rstudio").endswith(":/home/rstudio:/bin/bash")


async def test_other_variables_are_readable_to_the_user(start_rstudio: StartRStudio) -> None:
    """Which is why the platform passes no secret."""
    started = await started_by(start_rstudio, LAB="geo")
    async with tab(started) as rstudio:
        assert "geo" in await rstudio.run("cat(Sys.getenv('LAB'))")
        assert "geo" in await rstudio.run("system('echo $LAB', intern = TRUE)")


async def test_it_says_that_it_is_a_stand_in(start_rstudio: StartRStudio) -> None:
    """Of course only the stand-in does."""
    started = await started_by(start_rstudio)
    async with tab(started) as rstudio:
        assert "Stand-in for RStudio" in (await rstudio.http.get(f"{started.url}/", headers=BROWSER)).text
    image = docker("inspect", "-f", "{{json .Config.Labels}}", started.name)
    assert json.loads(image)["org.launchpad.stand-in"] == "true"
