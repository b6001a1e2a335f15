"""Whoever cannot start an application learns why, and gets in by safe mode: broken packages, settings, profiles."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from time import monotonic
from typing import Any

import httpx
import pytest

from support.live import LivePlatform, Person, StartPlatform, built_image, docker
from support.rstudio import RStudio

PATIENCE_SECONDS = 300


async def failed(person: Person, environment: str) -> dict[str, Any]:
    """A launch that fails, with the reason."""
    instance = await person.launch(environment, memory="1g")
    return await person.wait_for(instance["id"], "failed")


async def log_of(person: Person, instance_id: str) -> httpx.Response:
    return await person.http.get(f"/api/v1/instances/{instance_id}/log")


async def has_printed(person: Person, instance_id: str, words: str) -> str:
    """The log of an instance, once the words are in it."""
    deadline = monotonic() + PATIENCE_SECONDS
    while words not in (text := (await log_of(person, instance_id)).text):
        assert monotonic() < deadline, f"it prints only: {text}"
        await asyncio.sleep(0.5)
    return text


async def home_of(person: Person, environment: str = "jupyterlab") -> Path:
    """The owner's home, as a first launch makes it."""
    await person.stop((await person.launch_and_wait(environment, memory="1g"))["id"])
    return person.live.homes / str(person.me["username"])


def write(home: Path, name: str, text: str) -> None:
    """A file of the owner's own."""
    path = home / name
    docker("run", "--rm", "-v", f"{home}:/h", "--user", str(home.stat().st_uid), "--entrypoint", "sh", image(), "-c",
           f"mkdir -p /h/{Path(name).parent}")  # fmt: skip
    path.write_text(text, encoding="utf-8")


def image() -> str:
    return built_image("jupyterlab")


BROKEN = {
    "package": (
        ".local/lib/python3.11/site-packages/jupyter_server/__init__.py",
        "raise ImportError('on purpose')\n",
        "the Python package “jupyter_server” in your home folder does not work with it (ImportError: on purpose)",
    ),
    "settings": (
        ".jupyter/jupyter_server_config.py",
        "c.ServerApp.port = 'on purpose'\n",
        "one of your settings files does not work (The 'port' trait of a ServerApp instance expected",
    ),
}


@pytest.mark.parametrize("kind", BROKEN)
async def test_a_jupyterlab_that_its_user_broke_says_so_and_starts_in_safe_mode(
    shared_platform: LivePlatform, kind: str
) -> None:
    name, text, words = BROKEN[kind]
    live = shared_platform
    async with live.person(f"broken-{kind}@example.org") as owner, live.person("nosy@example.org") as nosy:
        home = await home_of(owner)
        write(home, name, text)
        ended = await failed(owner, "jupyterlab")
        assert words in ended["reason"]
        assert (ended["cause"], ended["safe_mode_helps"]) == (kind, True)

        log = await log_of(owner, ended["id"])
        assert (log.status_code, log.headers["content-type"]) == (200, "text/plain; charset=utf-8")
        assert "on purpose" in log.text
        assert not re.search(r"[0-9a-f]{64}", log.text), "no token of ours"
        assert (await log_of(nosy, ended["id"])).status_code == 404
        page = await owner.http.get(f"/instances/{ended['id']}/log", headers={"Accept": "text/html"})
        assert "on purpose" in page.text
        assert "Launch in safe mode" in page.text
        assert "on purpose" in live.command("instance", "log", ended["id"])
        dashboard = await owner.http.get("/dashboard", headers={"Accept": "text/html"})
        assert "Launch in safe mode" in dashboard.text

        safe = await owner.launch_and_wait("jupyterlab", memory="1g", safe_mode=True)
        assert safe["safe_mode"] is True
        lab = await owner.open(safe["id"])
        assert lab.status_code == 200
        assert "JupyterLab" in lab.text
        seen = docker("exec", live.container_of(safe["id"])["Id"], "ls", f"/home/{owner.me['username']}/{name}")
        assert seen.endswith(name), "the broken file is there to be repaired, as are all others"
        await owner.stop(safe["id"])
        assert (home / name).read_text(encoding="utf-8") == text, "nothing in the home was touched"


@pytest.mark.parametrize("code", ["stop('on purpose')\n", "cat('on purpose'); quit(status = 3)\n"])
async def test_an_r_that_its_users_profile_ends_says_so_and_starts_in_safe_mode(
    shared_platform: LivePlatform, code: str
) -> None:
    """The server of RStudio runs, and R does not: the log of the running instance has R's own words.

    That it has them is the stand-in's own: RStudio keeps them for the console.
    """
    live = shared_platform
    async with live.person(f"profile-{len(code)}@example.org") as owner:
        home = await home_of(owner, "rstudio")
        write(home, ".Rprofile", code)
        instance = await owner.launch_and_wait("rstudio", memory="1g")
        await owner.open(instance["id"])
        asking = asyncio.create_task(tab_of(owner, instance["id"]).post("client_init"))
        await has_printed(owner, instance["id"], "on purpose")
        asking.cancel()
        page = await owner.http.get(f"/instances/{instance['id']}/log", headers={"Accept": "text/html"})
        assert "your settings file ~/.Rprofile does not work" in page.text
        assert "safe mode" in page.text
        await owner.stop(instance["id"])

        saved = files_below(home / ".local/share/rstudio")
        safe = await owner.launch_and_wait("rstudio", memory="1g", safe_mode=True)
        tab = await owner.enter_rstudio(safe["id"])
        assert "42" in await tab.run("cat(6 * 7)")
        assert "TRUE FALSE" in await tab.run("cat(file.exists('~/.Rprofile'), any(grepl('^/home/', .libPaths())))")
        await owner.stop(safe["id"])
        assert files_below(home / ".local/share/rstudio") == saved, "saved sessions are left alone"
        assert (home / ".Rprofile").read_text(encoding="utf-8") == code


def tab_of(person: Person, instance_id: str) -> RStudio:
    return RStudio(person.http, person.instance_url(instance_id, "/"), {"Origin": person.live.origin.of(instance_id)})


def files_below(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


# What a supervisor prints of a server that cannot start, while the container runs.
SUPERVISED = """
n=0
while true; do
  n=$((n + 1))
  echo "tinyd[$n]: ERROR cannot bind: Address already in use"
  sleep 0.3
done
"""


async def test_a_supervised_server_that_cannot_start_is_noticed_long_before_its_time_is_up(
    start_platform: StartPlatform,
) -> None:
    table = {
        "name": "tiny-ide",
        "title": "Tiny IDE",
        "image": image(),
        "port": 9000,
        "home": "/home/coder",
        "health_path": "/ready",
        "user": "{uid}:{uid}",
        "command": ["sh", "-c", SUPERVISED],
        "start_timeout_seconds": 600,
        "failure_patterns": [r"tinyd\[\d+\]: ERROR"],
    }
    live = await start_platform({"environments": [table]})
    async with live.person("kim@example.org") as kim:
        ended = await failed(kim, "tiny-ide")
        assert ended["reason"].startswith("Tiny IDE does not start: it fails again and again: the port it listens on")
        assert "tinyd[1]: ERROR" in (await log_of(kim, ended["id"])).text
        assert live.containers() == []
        assert "instance.failed" in live.command("audit", "--search", "kim@example.org")


# As a site does that mounts a configuration of its own, with a word in it that this version does not know.
MISCONFIGURED = """
echo no-such-option=1 >>/etc/rstudio/disable_auth_rserver.conf
exec /bin/sh /opt/launchpad/bin/with-user rstudio {uid} {uid} /init
"""


async def test_an_rstudio_server_that_its_supervisor_starts_in_vain_is_noticed(start_platform: StartPlatform) -> None:
    """With the patterns that ship; the supervisor keeps the container running, and nothing answers for ten minutes."""
    table = {"name": "rstudio", "command": ["/bin/sh", "-c", MISCONFIGURED], "start_timeout_seconds": 600}
    live = await start_platform({"environments": [table]})
    async with live.person("rae@example.org") as rae:
        ended = await failed(rae, "rstudio")
        assert ended["reason"].startswith("RStudio does not start: it fails again and again"), ended["reason"]
        assert "no-such-option" in (await log_of(rae, ended["id"])).text
        assert live.containers() == []
