"""The built images, started with the options the platform uses."""

from __future__ import annotations

import os
import secrets
import shlex
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from time import monotonic, sleep

import httpx
import pytest

from support.live import built_image, docker

UID = 220_005
RSTUDIO_CAPABILITIES = ("CHOWN", "DAC_OVERRIDE", "FOWNER", "KILL", "SETGID", "SETUID")


@dataclass
class Started:
    """A container and where it is reached."""

    name: str
    url: str
    home: Path

    def exec(self, *command: str) -> str:
        return docker("exec", self.name, *command)

    def stop(self, grace_seconds: int = 12) -> None:
        docker("stop", "-t", str(grace_seconds), self.name)

    def wait_for(self, path: str, seconds: float = 120) -> None:
        deadline = monotonic() + seconds
        while True:
            try:
                if httpx.get(self.url + path, timeout=60).status_code < 400:
                    return
            except httpx.HTTPError:
                pass
            assert monotonic() < deadline, docker("logs", self.name)
            sleep(0.05)


Start = Callable[..., Started]


@pytest.fixture
def home(tmp_path: Path) -> Path:
    folder = tmp_path / "home"
    folder.mkdir(mode=0o700)
    os.chown(folder, UID, UID)
    return folder


class StartRStudio:
    """Starts the stand-in with the home, as the platform does."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.names: list[str] = []

    def __call__(self, without: str = "", volume: str = "", command: str = "", **variables: str) -> Started:
        """`without` leaves a capability out, `volume` mounts one more, `variables` adds some or changes them."""
        name = f"launchpad-test-{secrets.token_hex(4)}"
        self.names.append(name)
        capabilities = [f"--cap-add={one}" for one in RSTUDIO_CAPABILITIES if one != without]
        given = {
            "DISABLE_AUTH": "true",
            "RUNROOTLESS": "false",
            "USERID": str(UID),
            "GROUPID": str(UID),
            "S6_SERVICES_GRACETIME": "10000",
            "S6_KILL_GRACETIME": "500",
        } | variables
        docker(
            *("run", "-d", "--name", name, "--cap-drop=ALL", *capabilities, "--security-opt=no-new-privileges"),
            *("--memory=256m", "--memory-swap=256m", "-p", "127.0.0.1::8787", "-v", f"{self.home}:/home/rstudio"),
            *(("-v", volume) if volume else ()),
            *(word for key, value in given.items() for word in ("-e", f"{key}={value}")),
            *(built_image("rstudio-standin"), *shlex.split(command)),
        )
        ports = subprocess.run(["docker", "port", name, "8787/tcp"], capture_output=True, text=True, check=False).stdout
        return Started(name, f"http://{ports.split()[0]}" if ports else "", self.home)


@pytest.fixture
def start_rstudio(home: Path) -> Iterator[StartRStudio]:
    start = StartRStudio(home)
    yield start
    for name in start.names:
        docker("rm", "-f", name)


@pytest.fixture
def start_jupyterlab(home: Path) -> Iterator[Start]:
    """Starts JupyterLab as the platform does: any uid with group 0, no capability at all."""
    started: list[str] = []

    def start(token: str = "t") -> Started:
        name = f"launchpad-test-{secrets.token_hex(4)}"
        started.append(name)
        docker(
            *("run", "-d", "--name", name, "--cap-drop=ALL", "--security-opt=no-new-privileges"),
            *("--user", f"{UID}:0", "--group-add", "100", "-e", "NB_USER=zed", "-e", f"JUPYTER_TOKEN={token}"),
            *("-p", "127.0.0.1::8888", "-v", f"{home}:/home/jovyan", built_image("jupyterlab")),
            *("start-notebook.py", "--ServerApp.base_url=/i/abc/"),
        )
        address = docker("port", name, "8888/tcp").split()[0]
        return Started(name, f"http://{address}", home)

    yield start
    for name in started:
        docker("rm", "-f", name)
