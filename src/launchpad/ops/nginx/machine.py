"""What the configuration depends on and only the machine knows."""

from __future__ import annotations

import grp
import os
import pwd
import re
import shutil
import socket
import stat
import subprocess
from pathlib import Path

_UNPRIVILEGED = ("www-data", "nginx", "nobody")


def has_ipv6_loopback() -> bool:
    """Whether ::1 can be listened on."""
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_STREAM) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


def wants_http2_directive() -> bool:
    """Whether the nginx of this machine is new enough for `http2 on` (1.25.1), and warns of `listen … http2`."""
    version = _version()
    return version is not None and version >= (1, 25, 1)


def wants_http2_sizes() -> bool:
    """Whether the nginx of this machine limits the heads of HTTP/2 by directives that later ones call obsolete."""
    version = _version()
    return version is not None and version < (1, 19, 7)


def _version() -> tuple[int, ...] | None:
    binary = shutil.which("nginx", path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin")
    if binary is None:
        return None
    said = subprocess.run([binary, "-v"], capture_output=True, text=True, timeout=10, check=False).stderr  # noqa: S603
    found = re.search(r"nginx/(\d+)\.(\d+)\.(\d+)", said)
    return tuple(map(int, found.groups())) if found else None


def worker_user(*paths: Path) -> str | None:
    """Whom nginx's workers run as when root starts it, `name group`; None when not root starts it.

    The first of www-data, nginx, nobody and the owners of the directories above `paths` that can reach every one of
    `paths`; below a closed directory of root's, such as /root, that is only root.
    """
    if os.geteuid() != 0:
        return None
    directories = {parent for path in paths for parent in path.absolute().parents if parent.is_dir()}
    directories |= {path.absolute() for path in paths if path.is_dir()}
    owners = sorted({directory.stat().st_uid for directory in directories} - {0})
    for user in (*map(_by_name, _UNPRIVILEGED), *map(_by_uid, owners)):
        if user is not None and all(_may_enter(user, directory) for directory in directories):
            return f"{user.pw_name} {grp.getgrgid(user.pw_gid).gr_name}"
    return "root root"


def _by_name(name: str) -> pwd.struct_passwd | None:
    try:
        return pwd.getpwnam(name)
    except KeyError:
        return None


def _by_uid(uid: int) -> pwd.struct_passwd | None:
    try:
        return pwd.getpwuid(uid)
    except KeyError:
        return None


def _may_enter(user: pwd.struct_passwd, directory: Path) -> bool:
    state = directory.stat()
    if state.st_uid == user.pw_uid:
        return bool(state.st_mode & stat.S_IXUSR)
    if state.st_gid in os.getgrouplist(user.pw_name, user.pw_gid):
        return bool(state.st_mode & stat.S_IXGRP)
    return bool(state.st_mode & stat.S_IXOTH)
