"""The program under test, as a user without rights can run it, wherever the clone and its Python lie.

A clone below /root, and a Python that lives there, are out of everybody's reach. Their folders are bound, read-only, to
places that all can read.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Program:
    """`command` and then the arguments; `variables` on top of the environment's."""

    command: tuple[str, ...]
    variables: Mapping[str, str]


OWN = Program((sys.executable, "-m", "launchpad"), {})


@contextmanager
def open_program() -> Iterator[Program]:
    with tempfile.TemporaryDirectory(prefix="launchpad-open-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        sources = {"clone": ROOT, "packages": Path(sysconfig.get_path("purelib"))}
        python, variables = sys.executable, {}
        if sys.base_prefix not in ("/usr", "/usr/local"):
            sources["python"] = Path(sys.base_prefix)
            inside = Path(sys.executable).resolve().relative_to(Path(sys.base_prefix).resolve())
            python = str(folder / "python" / inside)
            variables["PYTHONHOME"] = str(folder / "python")
        else:
            python = str(Path(sys.executable).resolve())
        bound = []
        try:
            for target, source in sources.items():
                place = folder / target
                place.mkdir()
                subprocess.run(["mount", "--bind", source, place], check=True)
                bound.append(place)
                subprocess.run(["mount", "-o", "remount,bind,ro", place], check=True)
            variables["PYTHONPATH"] = f"{folder / 'clone' / 'src'}:{folder / 'packages'}"
            yield Program((python, "-B", "-m", "launchpad"), variables)
        finally:
            for place in reversed(bound):
                subprocess.run(["umount", "--lazy", place], check=True)
            for place in bound:
                assert not any(place.iterdir()), f"{place} is still bound; nothing is removed"
                shutil.rmtree(place)
