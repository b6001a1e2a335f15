"""An entry of the catalogue: which image, how it is started, how it is reached."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Literal

from .activity import PersonRules

# What calls of a page may get whose instance has ended. Not 502: that is an instance that should answer and does not.
CallStatus = Literal[401, 403, 404, 410, 424, 503]
CALL_STATUSES: tuple[CallStatus, ...] = (401, 403, 404, 410, 424, 503)
CALLS_WHEN_ENDED: CallStatus = 424

# Which of the server's GPUs: all of them, how many (0: none), or those of these ids.
Gpus = Literal["all"] | int | tuple[str, ...]


class Prefix(StrEnum):
    """What happens to `/i/<id>` on the way in: some applications know their base path, others want it stripped."""

    KEEP = "keep"
    STRIP = "strip"


# The group that owns the package folders of jupyter/docker-stacks' images, and where they lie.
SHARED_PACKAGES_GROUP = "100"
SHARED_PACKAGES_PREFIX = "/opt/conda"


def whole_cores(cpus: float) -> int:
    """How many processors a program should count on that may use so many cores: rounded up, at least one."""
    return max(1, math.ceil(cpus))


@dataclass(frozen=True)
class Placeholders:
    """What the templates of an environment may name in braces.

    `cpus` (whole, see `whole_cores`) and `memory_bytes` are the instance's size, known where a container is composed;
    the templates of addresses and headers do not name them.
    """

    root_path: str
    token: str
    username: str
    uid: int
    home: str
    dashboard_url: str = ""
    cran_mirror: str = ""
    time_zone: str = "Etc/UTC"
    cpus: int = 1
    memory_bytes: int = 0

    def fill(self, template: str) -> str:
        """`template` with the values of `{root_path}`, `{token}`, `{username}` … put in; other braces stay."""
        for name, value in vars(self).items():
            template = template.replace("{" + name + "}", str(value))
        return template


@dataclass(frozen=True)
class Environment:
    """One web application that users may launch.

    `user`, `command`, `env_vars`, `request_headers`, `health_path` and `start_path` are templates (see Placeholders).

    Attributes:
        image: the image as the engine names it; the default, to be pulled.
        build: the recipe below `images/` that stands in where `image` cannot be had.
        home: where the owner's home is mounted in the container; it is also mounted at /home/<username>.
        user: the container's `uid:gid`; empty starts it as the image says (RStudio's init needs root).
        capabilities: what stays of Linux's capabilities; everything else is dropped.
        request_headers: headers nginx sets on every request to the instance; a client's own are discarded.
        python_prefixes: prefixes of Pythons in the image whose packages its user could change; pip installs into the
            home there. None: that of docker-stacks, if its group is granted.
        package_cache: the folder (a template) for what pip, uv, conda and renv have downloaded; empty: the home.
        gpus: which of the server's GPUs its instances see; they are shared, not shared out.
        shared_memory_percent: how much of an instance's memory may be in `/dev/shm`.
        health_path: answers below 400 once the application is usable, without log-in.
        calls_when_ended: the status that calls of pages get which are still open when the instance has ended or its
            user has signed out: one at which the application stops asking and says something true.
        messages_thaw: whether a message that comes over an open WebSocket says that somebody is there.
        bookmark_paths: beginnings of paths in bookmarks, and what they are within the instance.
        stop_grace_seconds: how long the application may take to save when it is stopped.
        failure_patterns: regular expressions of lines in the log that say, when they repeat, that it cannot start.
        safe_mode_env_vars, safe_mode_command: what safe mode changes besides what it changes everywhere.
        person: which requests only come when a person does something.
    """

    name: str
    title: str
    description: str
    image: str
    build: str | None
    port: int
    home: str
    prefix: Prefix
    health_path: str
    start_path: str
    user: str = ""
    groups: tuple[str, ...] = ()
    command: tuple[str, ...] = ()
    env_vars: Mapping[str, str] = field(default_factory=dict)
    request_headers: Mapping[str, str] = field(default_factory=dict)
    capabilities: tuple[str, ...] = ()
    python_prefixes: tuple[str, ...] | None = None
    package_cache: str = ""
    gpus: Gpus = 0
    pids_limit: int = 2048
    shared_memory_percent: int = 50
    stop_grace_seconds: int = 10
    start_timeout_seconds: int = 120
    calls_when_ended: CallStatus = CALLS_WHEN_ENDED
    messages_thaw: bool = True
    failure_patterns: tuple[str, ...] = ()
    safe_mode_env_vars: Mapping[str, str] = field(default_factory=dict)
    safe_mode_command: tuple[str, ...] = ()
    person: PersonRules = field(default_factory=PersonRules)
    bookmark_paths: Mapping[str, str] = field(default_factory=dict)

    @property
    def shared_python_prefixes(self) -> tuple[str, ...]:
        """Prefixes of the Pythons that must not take packages in, as they would be gone with the container."""
        if self.python_prefixes is not None:
            return self.python_prefixes
        granted = {*self.groups, self.user.partition(":")[2]}
        return (SHARED_PACKAGES_PREFIX,) if granted & {SHARED_PACKAGES_GROUP, "users"} else ()

    def path_of_bookmark(self, path: str) -> str:
        """Where a bookmark's path is within the instance."""
        for beginning, within in self.bookmark_paths.items():
            if path == beginning or path.startswith((f"{beginning}/", f"{beginning}?")):
                return within + path.removeprefix(beginning)
        return path
