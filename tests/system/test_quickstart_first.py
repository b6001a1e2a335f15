"""What `./quickstart` refuses, it refuses before it installs anything: on a machine without any of our packages."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from pathlib import Path

import pytest

from support.ports import free_ports

ROOT = Path(__file__).resolve().parents[2]
SECONDS = 180  # patience; it takes about one


class Clone:
    """What the quick start needs of a clone, without a virtual environment, and with an `apt-get` that only tells."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "clone"
        self.folder.mkdir()
        for name in ("quickstart", "pyproject.toml", "requirements.lock"):
            shutil.copy(ROOT / name, self.folder)
        for name in ("scripts", "src", "docs"):
            shutil.copytree(ROOT / name, self.folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        self.installed = folder / "installed"
        self.programs = folder / "programs"
        self.programs.mkdir()
        for name in ("apt-get", "pip", "dpkg"):
            program = self.programs / name
            program.write_text(f'#!/bin/sh\necho "{name} $*" >>{self.installed}\nexit 1\n')
            program.chmod(0o755)
        ports = free_ports(2)
        homes = folder / "homes"
        homes.mkdir()
        self.variables = {
            "LAUNCHPAD_PUBLIC_URL": f"http://localhost:{ports[0]}",
            "LAUNCHPAD_INSTANCES_URL": f"http://localhost:{ports[1]}",
            "LAUNCHPAD_STATE_DIR": str(folder / "state"),
            "LAUNCHPAD_HOMES__ROOT": str(homes),
        }

    def start(self, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        """With a path on which nginx and Docker are not found, so that they would have to be installed."""
        found = [shutil.which(name) for name in ("bash", "python3", "readlink", "dirname", "id", "sha256sum", "cat")]
        for path in (*found, *map(shutil.which, ("cut", "tr", "rm", "mktemp", "tail", "grep", "printf", "env"))):
            if path is not None and not (self.programs / Path(path).name).exists():
                (self.programs / Path(path).name).symlink_to(path)
        return subprocess.run(
            ["./quickstart", *arguments],
            cwd=self.folder,
            env={"PATH": str(self.programs), "HOME": os.environ.get("HOME", "/root"), **self.variables, **variables},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )

    def refusal(self, *arguments: str, **variables: str) -> str:
        done = self.start(*arguments, **variables)
        assert done.returncode == 1, done.stdout + done.stderr
        assert "nothing was installed" in done.stderr
        assert not self.installed.exists(), self.installed.read_text()
        assert not (self.folder / ".venv").exists()
        return done.stderr


@pytest.fixture
def clone(tmp_path: Path) -> Clone:
    return Clone(tmp_path)


def test_what_is_in_order_goes_on_to_the_packages(clone: Clone) -> None:
    """The control of the refusals below."""
    done = clone.start()
    assert "nothing was installed" not in done.stderr
    assert "apt-get update" in clone.installed.read_text()


def test_settings_that_cannot_be_read(clone: Clone, tmp_path: Path) -> None:
    missing = tmp_path / "missing.toml"
    assert f"{missing}: there is no such settings file" in clone.refusal("--config", str(missing))
    broken = tmp_path / "broken.toml"
    broken.write_text("public_url = \n")
    assert f"{broken}: this is not valid TOML" in clone.refusal(LAUNCHPAD_CONFIG=str(broken))


def test_settings_that_there_are_not(clone: Clone, tmp_path: Path) -> None:
    file = tmp_path / "launchpad.toml"
    file.write_text('[homes]\nrot = "/srv"\n')
    assert "homes.rot: there is no such setting; did you mean homes.root?" in clone.refusal("--config", str(file))
    said = clone.refusal(LAUNCHPAD_PUBLIC_ULR="http://localhost:1")
    assert "LAUNCHPAD_PUBLIC_ULR: there is no such setting; did you mean public_url?" in said


def test_homes_that_are_not_there_and_whose_place_is_not_either(clone: Clone, tmp_path: Path) -> None:
    """A volume that is not mounted is not replaced by a directory of the system's disk."""
    root = tmp_path / "volume" / "homes"
    said = clone.refusal(LAUNCHPAD_HOMES__ROOT=str(root))
    assert f"{root} does not exist, nor does {root.parent}" in said
    assert f"sudo install -d -m 0755 {root}" in said
    assert not root.parent.exists()


def test_homes_that_are_missing_are_made_where_only_root_can_write(clone: Clone, tmp_path: Path) -> None:
    root = tmp_path / "new-homes"
    done = clone.start(LAUNCHPAD_HOMES__ROOT=str(root))
    assert f"Created {root} for home folders" in done.stdout
    assert root.stat().st_mode & 0o777 == 0o755
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o777)
    said = clone.start(LAUNCHPAD_HOMES__ROOT=str(shared / "homes"))
    assert said.returncode == 1
    assert "others than root can write" in said.stderr
    assert not (shared / "homes").exists()


def test_homes_that_are_no_directory(clone: Clone, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "homes")
    assert "is not a directory, or a link to one" in clone.refusal(LAUNCHPAD_HOMES__ROOT=str(link))


def test_a_state_directory_that_cannot_be_written(clone: Clone, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("")
    assert f"state_dir: {file} is not a directory" in clone.refusal(LAUNCHPAD_STATE_DIR=str(file / "state"))
    assert "state_dir: /proc cannot be written" in clone.refusal(LAUNCHPAD_STATE_DIR="/proc/state")


def test_a_port_that_is_taken(clone: Clone) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        said = clone.refusal(LAUNCHPAD_PUBLIC_URL=f"http://localhost:{port}")
    assert f"Port {port} of http://localhost:{port} is in use" in said
    assert "LAUNCHPAD_PUBLIC_URL=" in said


def test_an_address_that_is_none(clone: Clone) -> None:
    assert "public_url: “lab” is not an address" in clone.refusal(LAUNCHPAD_PUBLIC_URL="lab")
