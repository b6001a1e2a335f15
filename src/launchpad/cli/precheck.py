"""What `./quickstart` looks at before it installs anything: within a second, by the system's Python alone.

Whatever can be seen without the platform's packages is seen here, and said with what to do; a missing directory for
homes is offered to be made. What takes the packages (whether every value of the settings fits) is looked at by the
program itself, first of all.
"""

from __future__ import annotations

import argparse
import difflib
import os
import re
import shutil
import socket
import stat
import sys
import tempfile
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from ..errors import LaunchpadError, SettingsError, Unavailable
from ..settings_place import DEFAULT_CONFIG
from .only_one import insist_on_being_the_only_one

REFERENCE = Path(__file__).resolve().parents[3] / "docs" / "reference" / "settings.md"
PREFIX = "LAUNCHPAD_"
LISTS = {"ENVIRONMENTS", "MOUNTS"}  # lists of tables, looked into by the program itself
IPV6 = Path("/proc/net/if_inet6")
FIRST_START_BYTES = 4 * 2**30  # packages, and images with what they are built from
LATER_START_BYTES = 2**29
ENGINES_FOLDER = Path("/var/lib/docker")


def check(config: Path | None, clone: Path, variables: Mapping[str, str]) -> list[str]:
    """Looks at everything, and makes what is missing and may plainly be made; what was made, for people.

    Raises:
        LaunchpadError: the first thing that is wrong.
    """
    settings = _settings(config, variables)
    insist_on_being_the_only_one(_path(settings, "state_dir", str(clone / "var")))
    said = _homes(_path(settings, "homes.root", "/home"))
    _state(_path(settings, "state_dir", str(clone / "var")))
    _ports(settings)
    _room(clone)
    return said


# -- the settings ------------------------------------------------------------------------------------------------------


def _settings(config: Path | None, variables: Mapping[str, str]) -> dict[str, str]:
    """Keys such as `homes.root`, as far as they are plain; whoever names what there is not is told so."""
    known = _known()
    found: dict[str, str] = {}
    named = config or (Path(variables["LAUNCHPAD_CONFIG"]) if variables.get("LAUNCHPAD_CONFIG") else None)
    path = named or (DEFAULT_CONFIG if DEFAULT_CONFIG.exists() else None)
    if path is not None:
        for keys, value in _entries(_table(path), ()):
            _insist_on_known(keys, known, f"{path}: {'.'.join(keys)}")
            found[".".join(keys)] = str(value)
    for name, value in variables.items():
        if name.upper().startswith(PREFIX) and name != "LAUNCHPAD_CONFIG":
            keys = tuple(name.upper()[len(PREFIX) :].lower().split("__"))
            _insist_on_known(keys, known, f"The variable {name}")
            found[".".join(keys)] = value
    return found


def _known() -> set[str]:
    """Every setting, as the reference names its variable; empty where there is no reference."""
    with suppress(OSError):
        return set(re.findall(rf"`{PREFIX}([A-Z0-9_]+)`", REFERENCE.read_text(encoding="utf-8")))
    return set()


def _table(path: Path) -> dict[str, Any]:
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise SettingsError(f"{path}: there is no such settings file.") from None
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path}: the settings file cannot be read: {error}") from None
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f"{path}: this is not valid TOML: {error}") from None


def _entries(table: Mapping[str, Any], above: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    for key, value in table.items():
        if isinstance(value, dict) and value:
            yield from _entries(value, (*above, key))
        else:
            yield (*above, key), value


def _insist_on_known(keys: tuple[str, ...], known: set[str], where: str) -> None:
    wanted = "__".join(keys).upper()
    if not known or wanted in known or keys[0].upper() in LISTS:
        return
    if any(one.startswith(f"{wanted}__") for one in known):  # a whole table as JSON
        return
    near = difflib.get_close_matches(wanted, known, n=1)
    hint = f"; did you mean {near[0].lower().replace('__', '.')}?" if near else ""
    raise SettingsError(f"{where}: there is no such setting{hint} (docs/reference/settings.md)")


def _path(settings: Mapping[str, str], key: str, default: str) -> Path:
    return Path(settings.get(key, default)).expanduser().absolute()


# -- the machine -------------------------------------------------------------------------------------------------------


def _homes(root: Path) -> list[str]:
    """The directory of the homes; a missing one is made where nobody but root could put something in its place."""
    try:
        found = root.lstat()
    except FileNotFoundError:
        return _make_homes(root)
    except OSError as error:
        raise Unavailable(f"homes.root: {root} cannot be used: {error.strerror}.") from None
    if stat.S_ISLNK(found.st_mode) or not stat.S_ISDIR(found.st_mode):
        raise Unavailable(f"homes.root: {root} is not a directory, or a link to one. Name the directory itself.")
    if not os.access(root, os.W_OK | os.X_OK):
        raise Unavailable(f"homes.root: {root} cannot be written: its file system is read-only.")
    return []


def _make_homes(root: Path) -> list[str]:
    command = f"sudo install -d -m 0755 {root}"
    missing = f"homes.root: {root} does not exist"
    if not root.parent.is_dir():
        raise Unavailable(f"{missing}, nor does {root.parent}. If a volume is missing, mount it; else: {command}")
    above = root.parent.stat()
    if above.st_uid not in (0, os.geteuid()) or (above.st_mode & 0o022 and not above.st_mode & stat.S_ISVTX):
        raise Unavailable(f"{missing}, and others than root can write in {root.parent}. Make it yourself: {command}")
    if sys.stdin.isatty() and not _agrees(f"{missing}. Create it?"):
        raise Unavailable(f"{missing}. Make it, or set LAUNCHPAD_HOMES__ROOT to another directory.")
    try:
        root.mkdir(mode=0o755)
    except OSError as error:
        raise Unavailable(f"{missing}, and cannot be made: {error.strerror}.") from None
    return [f"Created {root} for home folders (homes.root)"]


def _agrees(question: str) -> bool:
    try:
        return input(f"{question} [Y/n] ").strip().lower() in ("", "y", "yes")
    except EOFError:
        return False


def _state(folder: Path) -> None:
    """Raises Unavailable where the state directory cannot be made or written; nothing is left behind."""
    there = folder
    while not there.exists() and there != there.parent:
        there = there.parent
    hint = f"so {folder} cannot be used. Set LAUNCHPAD_STATE_DIR."
    if not there.is_dir():
        raise Unavailable(f"state_dir: {there} is not a directory, {hint}")
    try:
        with tempfile.TemporaryFile(dir=there):
            pass
    except OSError as error:
        raise Unavailable(f"state_dir: {there} cannot be written ({error.strerror}), {hint}") from None


def _ports(settings: Mapping[str, str]) -> None:
    """Raises Unavailable for an address that is none, or whose port somebody else listens on."""
    urls = {
        "public_url": settings.get("public_url", "http://localhost:8080"),
        "instances_url": settings.get("instances_url", "http://localhost:8081"),
    }
    for key, url in urls.items():
        try:
            parts = urlsplit(url.replace("{instance}.", ""))
            port = parts.port or {"http": 80, "https": 443}[parts.scheme]
        except (ValueError, KeyError):
            raise Unavailable(f"{key}: “{url}” is not an address such as http://localhost:8080.") from None
        if any(name.startswith("proxy.") for name in settings):
            continue  # nginx listens elsewhere then; the program itself looks there
        if why_not_free(parts.hostname or "localhost", port) is not None:
            raise Unavailable(
                f"Port {port} of {url} is in use. Stop the program that uses it, or choose another with "
                f"LAUNCHPAD_{key.upper()}={parts.scheme}://{parts.hostname}:<port>."
            )


def why_not_free(host: str, port: int) -> OSError | None:
    """What nginx would meet when it listens there for that host name; None: nothing."""
    loopback = host in ("localhost", "127.0.0.1", "::1") or host.endswith(".localhost")
    addresses = [(socket.AF_INET, "127.0.0.1" if loopback else "0.0.0.0")]  # noqa: S104 - where nginx will listen
    if IPV6.exists():
        addresses.append((socket.AF_INET6, "::1" if loopback else "::"))
    for family, address in addresses:
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            try:
                probe.bind((address, port))
            except OSError as error:
                if family == socket.AF_INET6 and error.errno == 99:  # EADDRNOTAVAIL: no IPv6 on loopback
                    continue
                return error
    return None


def _room(clone: Path) -> None:
    """Raises Unavailable where the disks are too full for what a start adds."""
    is_first = not (clone / ".venv" / ".made-from").exists()
    needed = FIRST_START_BYTES if is_first else LATER_START_BYTES
    for folder in (clone, ENGINES_FOLDER if ENGINES_FOLDER.exists() else Path("/var/lib")):
        free = shutil.disk_usage(folder).free
        if free < needed:
            raise Unavailable(
                f"The disk of {folder} has {free / 2**30:.1f} GB left; {'a first' if is_first else 'this'} start needs "
                f"{needed / 2**30:.1f} GB. Free some space first."
            )


def main() -> int:
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--config", type=Path)
    parser.add_argument("--clone", type=Path, default=Path.cwd())
    options, _ = parser.parse_known_args()
    try:
        for text in check(options.config, options.clone, os.environ):
            print(f"· {text}", flush=True)
    except LaunchpadError as error:
        print(f"The quick start cannot work here yet, and nothing was installed.\n{error.detail}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
