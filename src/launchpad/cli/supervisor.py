"""The process of `./quickstart` that stays: starts portal and nginx, watches over them, and stops everything in order.

It loads nothing but the standard library. What needs the settings, the engine or the database is done by processes of
the whole program that end: `prepare` before, `stop-instances` afterwards (see `quickstart.py`).
"""

from __future__ import annotations

import ctypes
import http.client
import json
import os
import signal
import socket
import ssl
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from time import monotonic
from typing import Any
from urllib.parse import urlsplit

from ..errors import Unavailable
from ..settings_place import state_dir
from .engine_networks import set_network_list_aside
from .only_one import hold

PORTAL_START_SECONDS = 30
STOP_INSTANCES_SECONDS = 45.0  # it takes about two; cut short, on a busy machine, it would leave containers behind
RESTART_PAUSE_SECONDS = 1.0
LOOK_SECONDS = 0.1
DEATHS_TO_GIVE_UP, DEATHS_WITHIN_SECONDS = 5, 60.0
TAIL_LINES = 20
OWN_FOLDER = "var"  # where the state is unless it is set
_SIGNALS = {signal.SIGINT, signal.SIGTERM, signal.SIGCHLD}
_PR_SET_PDEATHSIG = 1  # prctl(2)
_libc = ctypes.CDLL(None, use_errno=True)


class Child:
    """A running program, in a session of its own, so that Ctrl-C reaches only us and we stop things in order."""

    def __init__(
        self,
        name: str,
        *command: str,
        variables: Mapping[str, str] | None = None,
        log: Path | None = None,
        ends_with_us: bool = True,
        pass_fds: Sequence[int] = (),
    ) -> None:
        self.name = name
        self._log = log
        output = log.open("ab") if log is not None else None

        def before() -> None:
            """In the child: the kernel sends SIGTERM when our process dies, even by SIGKILL."""
            signal.pthread_sigmask(signal.SIG_SETMASK, ())
            if ends_with_us:
                _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)

        try:
            self._process = subprocess.Popen(  # noqa: S603 - commands of ours
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env={**os.environ, **(variables or {})},
                start_new_session=True,
                preexec_fn=before,
                pass_fds=pass_fds,
            )
        except FileNotFoundError as error:
            raise Unavailable(f"{command[0]} is not installed.") from error
        finally:
            if output is not None:
                output.close()

    @property
    def returncode(self) -> int | None:
        """None while it runs."""
        return self._process.poll()

    def wait(self) -> int:
        """Its exit code, as soon as it has ended."""
        return self._process.wait()

    def stop(self, patience_seconds: float) -> None:
        """Asks it to end, and kills it when it does not."""
        if self.returncode is not None:
            return
        self._process.terminate()
        try:
            self._process.wait(patience_seconds)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def tail(self) -> str:
        """The last lines of its log, for people; empty when it has none of its own."""
        if self._log is None or not self._log.exists():
            return ""
        with self._log.open(encoding="utf-8", errors="replace") as file:
            lines = deque(file, TAIL_LINES)
        return f"Its last log lines ({self._log}):\n{''.join(lines)}" if lines else ""


def run(config: Path | None) -> int:
    """The whole platform on this machine, until it is told to stop; the exit code.

    Raises:
        LaunchpadError: it could not be started, or what it runs ends again and again.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)  # taken by _stop_is_wanted
    for number in (signal.SIGINT, signal.SIGTERM):  # a shell that starts us in the background has them ignored
        signal.signal(number, signal.SIG_DFL)
    folder = state_dir(config, default=Path(OWN_FOLDER))
    if folder is None:  # the settings cannot be read; `prepare` says why
        return Child("program", *_program("prepare", config)).wait()
    lock = hold(folder)
    supervisor = Supervisor(config, folder)
    try:
        if supervisor.start():
            lock.write(f" {supervisor.public_url}")
            lock.flush()
            supervisor.watch()
    finally:
        supervisor.stop()
        lock.close()
    return supervisor.code


class Supervisor:
    def __init__(self, config: Path | None, folder: Path) -> None:
        self.code = 0
        self._config = config
        self._variables = {"LAUNCHPAD_STATE_DIR": str(folder)}
        self._facts: dict[str, Any] = {}
        self._engine: Child | None = None
        self._engine_log: Path | None = None
        self._portal: Child | None = None
        self._nginx: Child | None = None

    @property
    def public_url(self) -> str:
        return str(self._facts["public_url"])

    def start(self) -> bool:
        """False: it was told to stop meanwhile, or what prepares has said why it could not."""
        if not self._prepare():
            return False
        self._start_portal()
        self._start_nginx()
        if not self._wait_until_ready():
            return False
        for line in self._facts["greeting"]:
            print(line, flush=True)
        print(f"Ready: {self.public_url}", flush=True)
        return True

    def watch(self) -> None:
        """Until it is told to stop: whoever dies is started again; who dies again and again ends everything."""
        again: dict[str, Callable[[], None]] = {
            "portal": self._start_portal,
            "nginx": self._start_nginx,
            "engine": self._start_engine,
        }
        deaths: list[float] = []
        while not _stop_is_wanted(None):
            parts = {"portal": self._portal, "nginx": self._nginx, "engine": self._engine}
            for name, child in parts.items():
                if child is None or child.returncode is None:
                    continue
                deaths = [at for at in deaths if monotonic() - at < DEATHS_WITHIN_SECONDS] + [monotonic()]
                if len(deaths) >= DEATHS_TO_GIVE_UP:
                    raise Unavailable(f"The {name} stopped {len(deaths)} times within a minute. {child.tail()}")
                print(f"The {name} stopped ({child.returncode}); restarting it.", file=sys.stderr, flush=True)
                if _stop_is_wanted(RESTART_PAUSE_SECONDS, whatever_children=True):
                    return
                again[name]()

    def stop(self) -> None:
        """Ends everything in the order that loses nothing."""
        if not (self._portal or self._nginx or self._engine):
            return
        say("Stopping …")
        if self._portal is not None:
            self._portal.stop(3.0)
            stopping = Child("program", *_program("stop-instances", self._config), variables=self._variables)
            deadline = monotonic() + STOP_INSTANCES_SECONDS
            while stopping.returncode is None and monotonic() < deadline:
                _stop_is_wanted(LOOK_SECONDS)
            stopping.stop(1.0)
        if self._nginx is not None:
            self._nginx.stop(2.0)
        if self._engine is not None:
            self._engine.stop(4.0)
        print("Stopped.", flush=True)

    def _prepare(self) -> bool:
        """Has the settings checked and the engine and its images got; False as `start`."""
        reading, writing = os.pipe()
        child = Child(
            "program",
            *_program("prepare", self._config),
            *("--report", str(writing)),
            variables=self._variables,
            pass_fds=[writing],
        )
        os.close(writing)
        os.set_blocking(reading, False)
        said = b""
        with open(reading, "rb", buffering=0) as reports:
            while True:
                ended = child.returncode is not None
                said += reports.read() or b""
                while b"\n" in said:
                    line, said = said.split(b"\n", 1)
                    self._take(json.loads(line))
                if ended:
                    break
                if self._engine is not None and self._engine.returncode is not None:
                    if self._engine_log is not None and (moved := set_network_list_aside(self._engine_log)) is not None:
                        say(f"The list of networks of the engine was damaged; it is now {moved}")
                        self._start_engine()
                        continue
                    child.stop(2.0)
                    raise Unavailable(f"The container engine does not start. {self._engine.tail()}")
                if _stop_is_wanted(LOOK_SECONDS):
                    child.stop(5.0)
                    return False
        self.code = child.returncode or 0
        return self.code == 0 and "public_url" in self._facts

    def _take(self, report: dict[str, Any]) -> None:
        if "engine_log" in report:
            self._engine_log = Path(report["engine_log"])
            self._start_engine()
        else:
            self._facts = report

    def _start_engine(self) -> None:
        # It outlives us if we are killed: users' instances run in it. The next start finds it.
        # On one processor: Debian's engine (20.10) takes two locks in either order when a container ends, and is deaf
        # for ever when two processors meet there (moby/moby#42545). It only starts and ends containers.
        command = ("dockerd", "--live-restore")
        variables = {"GOMAXPROCS": "1"}
        self._engine = Child("engine", *command, variables=variables, log=self._engine_log, ends_with_us=False)

    def _start_portal(self) -> None:
        say("Starting the portal")
        self._portal = Child(
            "portal",
            *_program("serve", self._config),
            "--quiet",
            variables={**self._variables, "LAUNCHPAD_WEB__SWEEP_SECONDS": str(self._facts["sweep_seconds"])},
        )

    def _start_nginx(self) -> None:
        say("Starting nginx")
        log = Path(self._facts["nginx_log"])
        self._nginx = Child("nginx", "nginx", "-c", self._facts["nginx_configuration"], "-g", "daemon off;", log=log)

    def _wait_until_ready(self) -> bool:
        """Until the portal answers through nginx, as a browser would ask; behind an outer proxy, by its socket."""
        deadline = monotonic() + PORTAL_START_SECONDS
        while monotonic() < deadline:
            for child in (self._portal, self._nginx):
                if child is not None and child.returncode is not None:
                    raise Unavailable(f"The {child.name} did not start. {child.tail()}")
            if _is_ready(self.public_url, self._facts["ready_socket"]):
                return True
            if _stop_is_wanted(LOOK_SECONDS):
                return False
        raise Unavailable(f"The portal does not answer at {self.public_url}.")


def say(text: str) -> None:
    """A step, for the one who watches."""
    print(f"\033[1m·\033[0m {text}" if sys.stdout.isatty() else f"· {text}", flush=True)


def _program(command: str, config: Path | None) -> tuple[str, ...]:
    return (sys.executable, "-m", "launchpad", command, *(("--config", str(config)) if config else ()))


def _stop_is_wanted(seconds: float | None, *, whatever_children: bool = False) -> bool:
    """Whether SIGINT or SIGTERM has come; waits for a signal, such as a child's end, for so long (None: for ever)."""
    deadline = None if seconds is None else monotonic() + seconds
    while True:
        if deadline is None:
            number: int | None = signal.sigwait(_SIGNALS)
        else:
            found = signal.sigtimedwait(_SIGNALS, max(0.0, deadline - monotonic()))
            number = found.si_signo if found else None
        if number == signal.SIGCHLD and whatever_children:
            continue
        return number in (signal.SIGINT, signal.SIGTERM)


def _is_ready(url: str, by_socket: str) -> bool:
    parts = urlsplit(url)
    host = parts.hostname or "localhost"
    connection: http.client.HTTPConnection
    if by_socket:
        connection = _UnixConnection(by_socket)
    elif parts.scheme == "https":
        anybody = ssl.create_default_context()
        anybody.check_hostname, anybody.verify_mode = False, ssl.CERT_NONE  # a trial's certificate may be its own
        connection = http.client.HTTPSConnection(host, parts.port, timeout=2, context=anybody)
    else:
        connection = http.client.HTTPConnection(host, parts.port, timeout=2)
    try:
        connection.request("GET", "/readyz", headers={"Host": parts.netloc})
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=2)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(2)
        self.sock.connect(self._path)
