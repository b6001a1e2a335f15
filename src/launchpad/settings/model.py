"""All settings: one frozen, typed class. `file.py` reads it from one TOML file and from variables."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Self
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from ..domain.origins import InstancesOrigin
from ..domain.policy import IdlePolicy
from ..domain.sizes import parse_bytes
from ..settings_place import DEFAULT_STATE_DIR
from .activity import ActivitySettings
from .backup import BackupSettings
from .capacity import CapacitySettings, LabCapacitySettings, QueueSettings, check_lab_capacity
from .catalogue import with_shipped_environments
from .ends import EndSettings
from .environments import EnvironmentSettings
from .files import FilesSettings
from .freezing import FreezingSettings
from .front import ProxySettings, TlsSettings, WebSettings, check_proxy, listening_ports
from .idle import IdleRuleSettings, IdleSettings, check_idle_rules, idle_policy
from .images import ImageSettings
from .leaving import LeavingSettings
from .mail import MailSettings
from .mounts import check_mounts
from .sharing import SharingSettings
from .sign_in import SignInSettings
from .snapshots import SnapshotSettings
from .values import (
    AbsolutePath,
    Address,
    CoreNumbers,
    Cores,
    DayNumbers,
    EgressTarget,
    HelpContact,
    HelpUrl,
    InstancesUrl,
    Ipv4Range,
    Name,
    Origin,
    PortRange,
    Section,
    Size,
    Sizes,
    WholePath,
)

VARIABLE_PREFIX = "LAUNCHPAD_"


class HomesSettings(Section):
    """Where users' files are stored."""

    root: WholePath = Field(Path("/home"), description="Directory that holds the home folders, one for each user.")
    driver: Literal["auto", "plain", "btrfs", "project-quota"] = Field(
        "auto", description="How storage limits are enforced; `auto` picks what the file system offers."
    )
    uid_base: int = Field(200_000, ge=1000, le=2**31 - 100_000, description="First uid given to users.")
    walk_minutes: float = Field(
        60,
        ge=1,
        le=10_000,
        description="Where the file system does not count what home folders take up: how often that of a user with an "
        "active instance is measured, by a walk through it that gives way to everything else.",
    )
    walk_hours: float = Field(
        24, ge=0.1, le=1000, description="Likewise, how often those of users without an active instance are measured."
    )


class MountSettings(Section):
    """Shared data that instances see besides the home folder."""

    name: Name = Field(description="A short name, shown to administrators.")
    source: AbsolutePath = Field(description="Directory on the server.")
    target: AbsolutePath = Field(description="Where it is mounted in instances, for example /data.")
    mode: Literal["ro", "rw"] = Field("ro", description="Read-only, or writable as far as file permissions allow.")
    labs: tuple[str, ...] = Field((), description="Labs whose members have access. Empty: everyone.")


class EngineSettings(Section):
    """The container engine."""

    host: str = Field("unix:///var/run/docker.sock", description="Docker's socket, as in DOCKER_HOST.")
    network: str = Field(
        "launchpad",
        description="Docker network of the instances; created at first use, without traffic between containers.",
    )
    port_range: PortRange = Field("20000-29999", description="Loopback ports the engine publishes instances on.")
    keepalive_ports: int = Field(
        256,
        ge=0,
        le=4096,
        description="At how many of them, from the first, nginx keeps connections to instances open; the engine takes these "
        "first. Each takes 12 kB of nginx's memory. 0: at none. After a change render nginx's configuration again.",
    )
    runtime: Literal["engine", "kubernetes", "fake"] = Field(
        "engine",
        description=(
            "`engine`: one Docker Engine. `fake`: nothing is started, for demonstrations. `kubernetes` is not "
            "supported in this version."
        ),
    )
    oci_runtime: str = Field(
        "", description="Another OCI runtime, such as runsc (gVisor). Empty: the engine's default."
    )
    visible_cores: Literal["auto", "size", "all"] = Field(
        "auto",
        description="The processors that programs in an instance find: `size`, as many as its size has, by files mounted "
        "over /proc/cpuinfo and /sys/devices/system/cpu/online; `all`, the server's. `auto`: `size`, except with a "
        "runtime that has its own view (runsc, kata).",
    )
    layer_limit: Size = Field(
        parse_bytes("20g"),
        description="How much an instance may write outside its home folder and shared directories: into `/tmp`, `/var` "
        "and wherever else its image lets it. The engine enforces it where its storage driver can (overlay2 on XFS with "
        "`pquota`, btrfs, ZFS); elsewhere it is checked every ten minutes, see `layer_action`.",
    )
    layer_action: Literal["warn", "stop"] = Field(
        "warn",
        description="What is done where the engine does not enforce it: `warn` its owner; or `stop` an instance, too, "
        "that is over it ten minutes later still.",
    )
    log_bytes: Size = Field(parse_bytes("10m"), description="Size at which an instance's log is rotated; two are kept.")

    @property
    def ports(self) -> range:
        first, _, last = self.port_range.partition("-")
        return range(int(first), int(last or first) + 1)

    @property
    def port_choices(self) -> tuple[str, ...]:
        """The ranges that a port is asked of, one after the other: those with kept connections first, all of them last."""
        kept = self.ports[: self.keepalive_ports]
        if not 0 < len(kept) < len(self.ports):
            return (self.port_range,)
        return (f"{kept[0]}-{kept[-1]}", self.port_range)

    @property
    def limits_visible_cores(self) -> bool:
        own_view = any(name in self.oci_runtime for name in ("runsc", "kata"))
        return self.visible_cores == "size" or (self.visible_cores == "auto" and not own_view)


class HelperSettings(Section):
    """The privileged helper, through which a portal without rights reaches the engine and the home folders."""

    socket: AbsolutePath | None = Field(
        None, description="Its Unix socket. Empty: the portal does the work itself, and has to run as root."
    )
    user: str = Field(
        "launchpad", pattern=r"^[a-z_][a-z0-9_-]{0,31}$", description="The portal's user, which may send it requests."
    )
    state_dir: WholePath = Field(
        Path("/var/lib/launchpad-helper"), description="The helper's own data; only root may write there."
    )

    @property
    def files_socket(self) -> Path | None:
        """Beside `socket`: where the workers of files are asked for."""
        return Path(self.socket).with_name("helper-files.sock") if self.socket is not None else None


class EgressSettings(Section):
    """What instances may reach besides the internet."""

    rules: Literal["enforced", "off"] = Field(
        "enforced",
        description="`enforced`: instances reach neither the server nor private networks, and none starts without "
        "the rules. `off`: no rules, instances reach whatever the network allows.",
    )
    firewall: Literal["auto", "nftables", "iptables"] = Field(
        "auto",
        description="What holds the rules: a table of nftables, or chains of iptables. `auto`: nftables where the server "
        "has it.",
    )
    allow: tuple[EgressTarget, ...] = Field(
        (),
        description="Private addresses that instances may reach, such as a mirror, a proxy or a licence server: "
        '["10.1.2.0/24", "192.168.7.9:3128"].',
    )
    deny: tuple[Ipv4Range, ...] = Field((), description="Public ranges that they may not reach, such as your own.")


class LimitsSettings(Section):
    """The choices and defaults offered at launch, until an administrator changes them in the console."""

    memory: Literal["auto"] | Sizes = Field(
        "auto", description="Choices; `auto`: 1g, 2g, 4g … up to what the server has."
    )
    cpus: Literal["auto"] | CoreNumbers = Field("auto", description="Choices; `auto`: 1, 2, 4 … up to 16.")
    storage: Sizes = Field(
        tuple(map(parse_bytes, ("16g", "64g", "256g"))), description="Choices of the home folder's size."
    )
    days: DayNumbers = Field((1, 2, 7), description="Choices of an instance's duration.")
    default_memory: Literal["auto"] | Size = Field(
        "auto", description="Default; `auto`: an eighth of the server, at most 8g."
    )
    default_cpus: Literal["auto"] | Cores = Field("auto", description="Default; `auto`: 1, on large servers 2.")
    default_storage: Size = Field(parse_bytes("64g"), description="Default.")
    default_days: int = Field(1, ge=1, description="Default.")
    instances_per_user: int = Field(
        2, ge=0, description="Active instances of a user, unless the user's quota says otherwise."
    )
    instances_per_environment: int = Field(
        1,
        ge=1,
        description="Of these, how many of one environment. With 1, another launch returns the active one.",
    )


class Settings(BaseModel):
    """Everything that can be set. Read it with `load_settings`."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)

    public_url: Origin = Field("http://localhost:8080", description="Address of the portal.")
    instances_url: InstancesUrl = Field(
        "http://localhost:8081",
        description="Address of the instances: another port or host name than public_url, or a host name for each "
        "instance as in https://{instance}.lab.example.org, with a wildcard in DNS and certificate.",
    )
    state_dir: Path = Field(DEFAULT_STATE_DIR, description="Database, secrets (0600), outbox.")
    database_url: str = Field(
        "",
        pattern=r"^$|^(postgresql\+asyncpg://|sqlite\+aiosqlite:///)\S+$",
        description=(
            "Empty: SQLite in state_dir. Else PostgreSQL 15 or later, `postgresql+asyncpg://user:password@host/database`."
        ),
    )
    admin_emails: tuple[Address, ...] = Field((), description="Become administrators when they first sign in.")
    security_contact: str = Field(
        "",
        pattern=r"^$|^(mailto:|https://|tel:)\S+$",
        description=(
            "Where to report security vulnerabilities, `mailto:…` or `https://…`; shown at /.well-known/security.txt."
        ),
    )
    help_url: HelpUrl = Field("", description="Your institute's help page; every page and mail links to it.")
    help_contact: HelpContact = Field(
        "",
        description=(
            "Contact for questions, an e-mail address or a text such as a room; shown on every page and in mails."
        ),
    )
    audit_days: int = Field(400, ge=1, description="How long the audit log is kept.")
    ended_instance_days: int = Field(
        90,
        ge=30,
        description=(
            "How long an ended instance stays in the table of live ones. Lists show it afterwards, too, since its "
            "record in the history stays for ever; its log is kept for 30 days."
        ),
    )
    sign_in: SignInSettings = Field(default_factory=SignInSettings)
    mail: MailSettings = Field(default_factory=MailSettings)
    homes: HomesSettings = Field(default_factory=HomesSettings)
    files: FilesSettings = Field(default_factory=FilesSettings)
    sharing: SharingSettings = Field(default_factory=SharingSettings)
    snapshots: SnapshotSettings = Field(default_factory=SnapshotSettings)
    leaving: LeavingSettings = Field(default_factory=LeavingSettings)
    mounts: tuple[MountSettings, ...] = Field((), description="Shared data.")
    engine: EngineSettings = Field(default_factory=EngineSettings)
    helper: HelperSettings = Field(default_factory=HelperSettings)
    egress: EgressSettings = Field(default_factory=EgressSettings)
    images: ImageSettings = Field(default_factory=ImageSettings)
    capacity: CapacitySettings = Field(default_factory=CapacitySettings)
    lab_capacity: tuple[LabCapacitySettings, ...] = Field(
        (), description="Capacity by lab, until an administrator changes it in the console."
    )
    queue: QueueSettings = Field(default_factory=QueueSettings)
    limits: LimitsSettings = Field(default_factory=LimitsSettings)
    activity: ActivitySettings = Field(default_factory=ActivitySettings)
    freezing: FreezingSettings = Field(default_factory=FreezingSettings)
    idle: IdleSettings = Field(default_factory=IdleSettings)
    idle_rules: tuple[IdleRuleSettings, ...] = Field(
        (), description="Idle rules by environment, lab and user, until an administrator changes any in the console."
    )
    ends: EndSettings = Field(default_factory=EndSettings)
    environments: tuple[EnvironmentSettings, ...] = Field((), description="The environments that are offered.")
    backup: BackupSettings = Field(default_factory=BackupSettings)
    web: WebSettings = Field(default_factory=WebSettings)
    tls: TlsSettings = Field(default_factory=TlsSettings)
    proxy: ProxySettings = Field(default_factory=ProxySettings)

    @field_validator("environments", mode="before")
    @classmethod
    def _with_shipped(cls, value: object) -> object:
        return with_shipped_environments(value)

    @field_validator("state_dir")
    @classmethod
    def _whole_path(cls, value: Path) -> Path:
        return value.expanduser().absolute()

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if urlsplit(self.public_url).scheme != urlsplit(self.instances_url).scheme:
            raise ValueError("public_url and instances_url must both be https, or both http")
        if bool(self.tls.certificate) != bool(self.tls.key):
            raise ValueError("tls.certificate and tls.key belong together; one of them is missing")
        check_proxy(self.proxy, self.public_url, self.instances_url)
        check_lab_capacity(self.lab_capacity, self.capacity)
        check_mounts(self.mounts, self.environments)
        check_idle_rules(self.idle_rules, [one.name for one in self.environments])
        return self

    @property
    def instances(self) -> InstancesOrigin:
        return InstancesOrigin(self.instances_url)

    @property
    def is_https(self) -> bool:
        return self.public_url.startswith("https:")

    @property
    def idle_policy(self) -> IdlePolicy:
        """The idle rules, as far as the console does not say others."""
        return idle_policy(self.idle, self.idle_rules)

    @property
    def archive_folder(self) -> Path:
        """Where archives of homes are."""
        return self.leaving.folder_of(self.homes.root)

    @property
    def dashboard_url(self) -> str:
        """Where people find their instances."""
        return f"{self.public_url}/dashboard"

    @property
    def ports(self) -> tuple[int, int]:
        """Where nginx listens: for the portal, and for instances."""
        return listening_ports(self.proxy, self.public_url, self.instances_url)

    @property
    def resolved_database_url(self) -> str:
        return self.database_url or f"sqlite+aiosqlite:///{self.state_dir / 'launchpad.db'}"
