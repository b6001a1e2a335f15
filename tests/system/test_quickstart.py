"""`./quickstart` as a newcomer runs it: from the terminal, with nothing set but where it listens."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from time import monotonic, sleep

import httpx
import pytest

from support.live import docker
from support.ports import free_ports

ROOT = Path(__file__).resolve().parents[2]
FIRST_START_SECONDS = 600
SECOND_START_SECONDS = 20  # these are patience, on a machine that has other work
STOP_SECONDS = 120


class Quickstart:
    """One run of the command; what it prints is kept."""

    def __init__(self, folder: Path, ports: list[int]) -> None:
        self.folder = folder
        self.url = f"http://localhost:{ports[0]}"
        self.state = folder / "state"
        self._log = folder / f"log-{monotonic()}"
        clean = {name: value for name, value in os.environ.items() if not name.startswith("LAUNCHPAD_")}
        self._variables = clean | {
            "LAUNCHPAD_PUBLIC_URL": self.url,
            "LAUNCHPAD_INSTANCES_URL": f"http://localhost:{ports[1]}",
            "LAUNCHPAD_STATE_DIR": str(self.state),
            "LAUNCHPAD_HOMES__ROOT": str(folder / "homes"),
            "LAUNCHPAD_ENGINE__NETWORK": f"launchpad-test-{ports[0]}",
        }
        (folder / "homes").mkdir(exist_ok=True)
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                ["./quickstart"], cwd=ROOT, env=self._variables, stdout=log, stderr=log, stdin=subprocess.DEVNULL
            )

    @property
    def printed(self) -> str:
        return self._log.read_text(errors="replace")

    def wait_for(self, text: str, seconds: float) -> float:
        """How long it took until `text` was printed."""
        began = monotonic()
        while text not in self.printed:
            assert self.process.poll() is None, self.printed
            assert monotonic() - began < seconds, self.printed
            sleep(0.05)
        return monotonic() - began

    def wait_for_end(self, seconds: float) -> int:
        return self.process.wait(seconds)

    def children(self) -> list[int]:
        """Processes that run for it now."""
        listed = subprocess.run(
            ["pgrep", "-P", str(self.process.pid)], capture_output=True, text=True, check=False
        ).stdout
        return [int(pid) for pid in listed.split()]

    def sign_in(self, http: httpx.Client, email: str) -> None:
        """With the code that the terminal shows."""
        assert http.post("/api/v1/sign-in", json={"email": email}).status_code == 202
        self.wait_for(email, 60)
        code = re.findall(rf"{re.escape(email)}: code (\d+)", self.printed)[-1]
        answer = http.post("/api/v1/sign-in/verify", json={"code": code})
        assert answer.status_code == 200, answer.text
        http.headers["X-CSRF-Token"] = http.get("/api/v1/me").json()["csrf_token"]


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path
    name = tmp_path / "state" / "deployment-id"
    if name.exists():
        for container in docker("ps", "-aq", "--filter", f"label=org.launchpad.deployment={name.read_text()}").split():
            docker("rm", "-f", container)


def _end(run: Quickstart) -> None:
    if run.process.poll() is None:
        run.process.terminate()
        run.process.wait(STOP_SECONDS)
    network = run._variables["LAUNCHPAD_ENGINE__NETWORK"]
    subprocess.run(["docker", "network", "rm", network], capture_output=True, check=False)


def test_quickstart_from_first_start_to_sigterm(folder: Path) -> None:
    """Ready, sign-in by the code in the terminal, launch; SIGTERM ends everything in time; the next start is quick."""
    ports = free_ports(2)
    run = Quickstart(folder, ports)
    try:
        run.wait_for(f"Ready: {run.url}", FIRST_START_SECONDS)
        with httpx.Client(base_url=run.url, timeout=30) as http:
            run.sign_in(http, "newcomer@example.org")
            assert list((run.state / "outbox").glob("*.eml"))
            _wait_until(http, _launched(http), "running")

            again = Quickstart(folder, ports)
            assert again.wait_for_end(180) == 1
            assert "is already running" in again.printed
            assert run.url in again.printed
            assert http.get("/healthz").status_code == 200, "the first one goes on"

        children = run.children()
        began = monotonic()
        run.process.send_signal(signal.SIGTERM)
        assert run.wait_for_end(STOP_SECONDS) == 0, run.printed
        assert monotonic() - began < STOP_SECONDS
        assert not [pid for pid in children if Path(f"/proc/{pid}").exists()]
        deployment = (run.state / "deployment-id").read_text()
        assert docker("ps", "-aq", "--filter", f"label=org.launchpad.deployment={deployment}") == ""
        assert (folder / "homes" / "newcomer").is_dir()

        second = Quickstart(folder, ports)
        try:
            second.wait_for(f"Ready: {run.url}", 3 * SECOND_START_SECONDS)  # timed in test_fresh_machine.py
            with httpx.Client(base_url=run.url, timeout=30) as http:
                second.sign_in(http, "newcomer@example.org")
                ended = http.get("/api/v1/instances", params={"all": True}).json()
                assert [(one["state"], one["reason"]) for one in ended] == [("stopped", "the quick start was stopped")]
        finally:
            _end(second)
    finally:
        _end(run)


def test_quickstart_watches_over_its_parts(folder: Path) -> None:
    """A portal that is killed is started again; a quick start that is killed leaves nothing behind but work."""
    run = Quickstart(folder, free_ports(2))
    try:
        run.wait_for("Ready:", FIRST_START_SECONDS)
        portal = next(pid for pid in run.children() if b"serve" in Path(f"/proc/{pid}/cmdline").read_bytes())
        os.kill(portal, signal.SIGKILL)
        run.wait_for("restarting it", 60)
        with httpx.Client(base_url=run.url, timeout=60) as http:
            _until(lambda: http.get("/readyz").status_code == 200, 120)
        children = run.children()
        run.process.kill()
        run.process.wait()
        _until(lambda: not [pid for pid in children if Path(f"/proc/{pid}").exists()], 60)
    finally:
        _end(run)


def test_quickstart_refuses_a_taken_port(folder: Path) -> None:
    """It names the port and the setting, and starts nothing."""
    ports = free_ports(2)
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind(("127.0.0.1", ports[1]))
        taken.listen()
        run = Quickstart(folder, ports)
        assert run.wait_for_end(180) == 1
    assert f"Port {ports[1]}" in run.printed
    assert "LAUNCHPAD_INSTANCES_URL" in run.printed
    assert "Starting the portal" not in run.printed


def _launched(http: httpx.Client) -> str:
    """The id of a JupyterLab that was asked for."""
    answer = http.post("/api/v1/instances", json={"environment": "jupyterlab"})
    assert answer.status_code == 202, answer.text
    return str(answer.json()["id"])


def _wait_until(http: httpx.Client, instance_id: str, state: str) -> None:
    _until(lambda: http.get(f"/api/v1/instances/{instance_id}").json()["state"] == state, 300)


def _until(condition: Callable[[], bool], seconds: float) -> None:
    began = monotonic()
    while True:
        try:
            if condition():
                return
        except httpx.HTTPError:
            pass
        assert monotonic() - began < seconds
        sleep(0.05)
