"""Where shared data may be seen in instances: nowhere that belongs to a home, to the system or to the platform."""

from __future__ import annotations

import posixpath
from collections.abc import Iterable, Sequence
from pathlib import PurePosixPath
from typing import Protocol

# Instances see homes at /home/<username>, and usernames are not known beforehand.
HOMES = "/home"
# The kernel's, and what the platform mounts itself: nothing there, above or below.
KEPT = ("/proc", "/sys", "/dev", "/opt/launchpad")
# Folders that an image lives from; single places in them may be mounted over.
SYSTEM = ("/bin", "/boot", "/etc", "/lib", "/lib64", "/opt", "/root", "/run", "/sbin", "/tmp", "/usr", "/var")  # noqa: S108
OWN_FILES = ("/etc/ssl/certs/ca-certificates.crt", "/etc/conda/condarc.d/launchpad.yml", "/etc/profile.d/launchpad.sh")


class _Mount(Protocol):
    @property
    def name(self) -> str: ...
    @property
    def target(self) -> str: ...


class _Environment(Protocol):
    @property
    def name(self) -> str: ...
    @property
    def home(self) -> str: ...


def check_mounts(mounts: Sequence[_Mount], environments: Iterable[_Environment]) -> None:
    """Holds every target against the places that are not to be covered.

    Raises:
        ValueError: one of them is, lies in, or would hide such a place; or two are the same.
    """
    homes = {each.home: each.name for each in environments}
    seen: dict[str, str] = {}
    for mount in mounts:
        target = posixpath.normpath("/" + mount.target.lstrip("/"))
        said = f"mounts: the target “{mount.target}” of “{mount.name}”"
        if ".." in PurePosixPath(mount.target).parts:
            raise ValueError(f"{said} must not contain “..”")
        if target == "/":
            raise ValueError(f"{said} would hide the whole image; choose a folder of its own, such as /data")
        for home, environment in homes.items():
            if _touch(target, home):
                raise ValueError(
                    f"{said} is, lies in or contains the home folder of the environment “{environment}” ({home}); "
                    "choose a place outside it, such as /data"
                )
        if _touch(target, HOMES):
            raise ValueError(
                f"{said} lies below /home, where instances see home folders; choose another place, such as /data"
            )
        for kept in KEPT:
            if _touch(target, kept):
                raise ValueError(f"{said} is, lies in or contains {kept}, which instances need as it is")
        if target in SYSTEM or any(_contains(target, file) for file in OWN_FILES):
            raise ValueError(f"{said} would hide what the image has there; choose another place, such as /data")
        if target in seen:
            raise ValueError(f"{said} is that of “{seen[target]}”, too")
        seen[target] = mount.name


def _touch(one: str, other: str) -> bool:
    return _contains(one, other) or _contains(other, one)


def _contains(folder: str, path: str) -> bool:
    return PurePosixPath(path).is_relative_to(folder)
