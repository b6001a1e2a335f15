"""The tables `[[environments]]` of the settings: the entries of the catalogue."""

from __future__ import annotations

from typing import Self

from pydantic import Field, model_validator

from ..domain.environments import CALLS_WHEN_ENDED, CallStatus, Prefix
from .activity import PersonSettings
from .values import (
    AbsolutePath,
    CacheFolder,
    Capability,
    CoreNumbers,
    Cores,
    DayNumbers,
    Days,
    GpuChoice,
    HeaderName,
    HealthPath,
    Ids,
    Name,
    Pattern,
    Section,
    Size,
    Sizes,
)


class OfferSettings(Section):
    """Choices of one environment that differ from `[limits]`; what is left out is taken from there."""

    memory: Sizes | None = Field(None, description="Choices of memory.")
    cpus: CoreNumbers | None = Field(None, description="Choices of cores.")
    storage: Sizes | None = Field(None, description="Choices of the home folder's size.")
    days: DayNumbers | None = Field(None, description="Choices of the duration.")
    default_memory: Size | None = Field(None, description="Default.")
    default_cpus: Cores | None = Field(None, description="Default.")
    default_storage: Size | None = Field(None, description="Default.")
    default_days: Days | None = Field(None, description="Default.")


class SafeModeSettings(Section):
    """What a launch in safe mode changes, besides the variables that it sets in every environment."""

    env_vars: dict[str, str] = Field(default_factory=dict, description="Variables put over the environment's own.")
    command: tuple[str, ...] = Field((), description="Words added to `command`, where that is not empty.")


class EnvironmentSettings(Section):
    """One entry of the catalogue.

    Texts may hold `{root_path}`, `{token}`, `{username}`, `{uid}`, `{home}`, `{dashboard_url}`, `{cran_mirror}`,
    `{time_zone}`; `command` and `env_vars` also `{cpus}`, the cores of the
    instance (whole, rounded up), and `{memory_bytes}`.
    """

    name: Name = Field(description="Stable name, used in the API.")
    title: str = Field(min_length=1, max_length=60, description="Name shown to users.")
    description: str = Field("", max_length=200, description="One line shown next to the title.")
    enabled: bool = Field(True, description="Offered on the dashboard.")
    image: str = Field(min_length=1, description="Image with its tag.")
    build: str | None = Field(None, description="Recipe in images/ to use where `image` is not available.")
    port: int = Field(ge=1, le=65535, description="Port the application listens on in the container.")
    home: AbsolutePath = Field(
        description="Where the user's home folder is mounted; also mounted at `/home/<username>`."
    )
    prefix: Prefix = Field(
        Prefix.STRIP, description="`keep` `/i/<id>` in requests for applications with a base path, or `strip` it."
    )
    health_path: HealthPath = Field(
        "/", description="Path, as the application sees it, that responds with a status below 400 once it is ready."
    )
    start_path: AbsolutePath = Field("/", description="Path within the instance that Open leads to.")
    bookmark_paths: dict[AbsolutePath, AbsolutePath] = Field(
        default_factory=dict,
        description="Beginnings of paths in bookmarks (`/go/<name>/…`) that are elsewhere within the instance.",
    )
    user: Ids = Field("", description="uid:gid the container runs as; empty: as the image says.")
    groups: tuple[str, ...] = Field((), description="Additional groups of the container's user.")
    command: tuple[str, ...] = Field((), description="Command; empty: the image's own.")
    env_vars: dict[str, str] = Field(
        default_factory=dict,
        description="Variables, besides those that every environment has (below). The user can read them: no secrets "
        "of yours. An empty one takes away what every environment has.",
    )
    request_headers: dict[HeaderName, str] = Field(
        default_factory=dict, description="Headers nginx sets on every request to the instance."
    )
    capabilities: tuple[Capability, ...] = Field((), description="Linux capabilities kept; all others are dropped.")
    python_prefixes: tuple[AbsolutePath, ...] | None = Field(
        None,
        description="Prefixes of the image's Pythons whose packages the user could change: pip installs into the home "
        "there. Unset: `/opt/conda` if group 100 is granted, which owns it in jupyter/docker-stacks.",
    )
    package_cache: CacheFolder = Field(
        "",
        description="Folder in instances in which pip, uv, conda and renv keep what they have downloaded or built, for "
        'example one that a lab shares: a folder of one of `[[mounts]]` with `mode = "rw"`, or in the home '
        "(`{home}/…`). Empty, or for users who do not have that mount: their home folder. Everybody who can write "
        "there can change packages that others install.",
    )
    gpus: GpuChoice = Field(0, description='NVIDIA GPUs that its instances share: `"all"`, how many, or a list of ids.')
    pids_limit: int = Field(2048, ge=16, description="Maximum number of processes and threads.")
    shared_memory_percent: int = Field(
        50,
        ge=1,
        le=100,
        description="Size of `/dev/shm`, in percent of the memory that an instance is launched with, at least 64 MB: "
        "PyTorch's data loaders and joblib pass data through it. What is in it counts as the instance's memory.",
    )
    stop_grace_seconds: int = Field(10, ge=1, le=600, description="Time to save when stopped, before it is killed.")
    start_timeout_seconds: int = Field(120, ge=5, le=3600, description="A launch that takes longer fails.")
    calls_when_ended: CallStatus = Field(
        CALLS_WHEN_ENDED,
        description="HTTP status for the calls of pages that are still open when their instance has ended or their "
        "user has signed out. Choose one at which the application stops asking and says something true: 424 and 503 "
        "(JupyterLab: “Server Connection Error”), 401 (RStudio: its log-in dialog).",
    )
    messages_thaw: bool = Field(
        True,
        description="Whether a message that an open page sends over its WebSocket thaws a frozen instance. Only where "
        "pages send none by themselves: JupyterLab's do not; RStudio's, with a terminal, and VS Code's do.",
    )
    failure_patterns: tuple[Pattern, ...] = Field(
        (), description="Regular expressions; a launch has failed, too, when three lines of its log match one of them."
    )
    safe_mode: SafeModeSettings = Field(
        default_factory=SafeModeSettings, description="What safe mode changes in this environment."
    )
    person: PersonSettings = Field(
        default_factory=PersonSettings, description="What of its requests shows that a person uses it."
    )
    offer: OfferSettings = Field(default_factory=OfferSettings, description="Choices that differ from [limits].")

    @model_validator(mode="after")
    def _size_where_it_is_known(self) -> Self:
        for text in (self.health_path, self.start_path, *self.request_headers.values()):
            if "{cpus}" in text or "{memory_bytes}" in text:
                raise ValueError("{cpus} and {memory_bytes} can stand in command and env_vars only")
        return self
