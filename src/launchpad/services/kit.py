"""What every instance gets read-only from the platform: settings for R, conda and pip, and the processors it may use.

The files ship in `launchpad/kit`. Whoever composes containers (the helper where there is one, else the portal) has a
copy of its own in its state directory, which instances see at `/opt/launchpad`.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Sequence
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path

from ..domain.environments import Environment, whole_cores
from ..errors import StoreUnavailable
from ..runtime.base import BindMount

TARGET = "/opt/launchpad"
CONDA_TARGET = "/etc/conda/condarc.d/launchpad.yml"
PROFILE_TARGET = "/etc/profile.d/launchpad.sh"
CPUINFO_TARGET = "/proc/cpuinfo"
ONLINE_TARGET = "/sys/devices/system/cpu/online"
ADDRESS_MARK = b'"@DASHBOARD_URL@"'
HOST_CPUINFO = Path(CPUINFO_TARGET)


def pip_target(prefix: str) -> str:
    """Where the Python with that prefix looks for the settings of its pip."""
    return prefix.rstrip("/") + "/pip.conf"


class Kit:
    """A copy of the kit in `folder`, written anew as far as it differs.

    Args:
        folder: a place that nobody but the platform (with a helper: but root) can write.
        dashboard_url: where the entry in JupyterLab's launcher leads to.
        limit_cores: instances see as many processors as they may use, not all of the server.
        cpuinfo: the server's own /proc/cpuinfo.

    """

    def __init__(
        self, folder: Path, dashboard_url: str, *, limit_cores: bool = True, cpuinfo: Path = HOST_CPUINFO
    ) -> None:
        self._folder = folder
        self._address = json.dumps(dashboard_url).encode()
        self._files = folder / "kit"
        self._limit_cores = limit_cores
        self._cpuinfo = cpuinfo
        self._is_written = False
        self._processors: list[str] = []
        self._rest: list[str] = []

    def write(self) -> None:
        """Brings the copy up to date; done by itself before the first instance.

        Raises:
            StoreUnavailable: the folder cannot be written; the text names it.
        """
        try:
            self._bring(resources.files("launchpad") / "kit", self._files)
            text = self._cpuinfo.read_text(encoding="utf-8", errors="replace") if self._limit_cores else ""
        except OSError as error:
            raise StoreUnavailable(f"The files for instances in {self._folder} cannot be written: {error}") from error
        blocks = [block for block in text.split("\n\n") if block.strip()]
        self._processors = [block for block in blocks if block.startswith("processor")]
        self._rest = [block for block in blocks if not block.startswith("processor")]
        self._is_written = True

    def mounts(self, environment: Environment, cpus: float) -> Sequence[BindMount]:
        """What a new instance with so many cores gets.

        Raises:
            StoreUnavailable: the kit, or its view of the processors, cannot be written.
        """
        if not self._is_written:
            self.write()
        made = [
            BindMount(self._files, TARGET, read_only=True),
            BindMount(self._files / "conda" / "condarc.yml", CONDA_TARGET, read_only=True),
            BindMount(self._files / "shell" / "profile.sh", PROFILE_TARGET, read_only=True),
        ]
        pip = self._files / "pip" / "pip.conf"
        made += [BindMount(pip, pip_target(prefix), read_only=True) for prefix in environment.shared_python_prefixes]
        cores = whole_cores(cpus)
        # On a machine whose /proc/cpuinfo lists no processors in the usual form there is nothing to shorten.
        if self._limit_cores and cores < len(self._processors):
            folder = self._folder / "cores" / str(cores)
            self._write_cores(folder, cores)
            made += [
                BindMount(folder / "cpuinfo", CPUINFO_TARGET, read_only=True),
                BindMount(folder / "online", ONLINE_TARGET, read_only=True),
            ]
        return made

    def _bring(self, source: Traversable, target: Path) -> None:
        """The tree `source`, readable by everybody whatever the umask; what is no longer in it goes."""
        _folder(target)
        wanted = set()
        for entry in source.iterdir():
            if entry.name == "__pycache__":
                continue
            wanted.add(entry.name)
            if entry.is_dir():
                self._bring(entry, target / entry.name)
            else:
                content = entry.read_bytes().replace(ADDRESS_MARK, self._address)
                _write(target / entry.name, content, 0o755 if target.name == "bin" else 0o644)
        for path in target.iterdir():
            if path.name not in wanted and not path.name.startswith("."):  # another process may be writing
                shutil.rmtree(path) if path.is_dir() else path.unlink()

    def _write_cores(self, folder: Path, cores: int) -> None:
        blocks = [*self._processors[:cores], *self._rest]
        try:
            _folder(folder.parent)
            _folder(folder)
            _write(folder / "cpuinfo", "".join(f"{block.rstrip()}\n\n" for block in blocks).encode(), 0o644)
            _write(folder / "online", b"0\n" if cores == 1 else f"0-{cores - 1}\n".encode(), 0o644)
        except OSError as error:
            raise StoreUnavailable(f"{folder} cannot be written: {error}") from error


def _folder(path: Path) -> None:
    path.mkdir(exist_ok=True)
    if path.stat().st_mode & 0o777 != 0o755:
        path.chmod(0o755)


def _write(path: Path, content: bytes, mode: int) -> None:
    """Whole or not at all: instances that run read it meanwhile."""
    if path.is_file() and path.read_bytes() == content and path.stat().st_mode & 0o777 == mode:
        return
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    beside.write_bytes(content)
    beside.chmod(mode)
    beside.rename(path)
