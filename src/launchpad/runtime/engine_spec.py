"""From a `ContainerSpec` to the body of the engine's create call, and back from what the engine answers. Pure."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

from ..domain.environments import Gpus
from ..domain.instances import Address
from ..settings import EngineSettings
from .base import (
    LABEL_DEPLOYMENT,
    LABEL_ENVIRONMENT,
    LABEL_INSTANCE,
    LABEL_OWNER,
    Container,
    ContainerSpec,
    ContainerState,
    HostFacts,
)
from .values import IDE_SCORE

LOOPBACK = "127.0.0.1"
SHM_FLOOR_BYTES = 64 * 1024**2  # the engine's own
LOG_FILES = "2"
LOG_TAIL_CHARACTERS = 256 * 1024
NO_START_YET = "0001-01-01T00:00:00Z"
# What the engine gives a container whose image names none.
DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def create_body(
    spec: ContainerSpec,
    settings: EngineSettings,
    deployment_id: str,
    image_path: str = "",
    ports: str = "",
    *,
    limits_layer: bool = False,
) -> dict[str, Any]:
    """The body. Everything that is not granted is dropped; memory and swap have one cap together.

    `image_path` is the PATH of the image's own, looked at where the specification puts a folder before it; `ports` the
    range that the engine chooses from (empty: all of the instances'); `limits_layer`: whether the engine is to limit
    what is written into the container's own layer, which not every storage driver can.

    No restart policy: an instance that ends has ended, and the platform says why. After a reboot its port would be
    another one, and its home perhaps not yet mounted; a crash loop would look like an instance that runs.
    """
    port = f"{spec.network_port}/tcp"
    host: dict[str, Any] = {
        "NetworkMode": settings.network,
        "PortBindings": {port: [{"HostIp": LOOPBACK, "HostPort": ports or settings.port_range}]},
        "Memory": spec.memory_bytes,
        "MemorySwap": spec.memory_bytes,
        "NanoCpus": int(spec.cpus * 1_000_000_000),
        "PidsLimit": spec.pids_limit,
        "OomScoreAdj": IDE_SCORE,  # what its user runs is raised above it (`oom_order`)
        "ShmSize": max(SHM_FLOOR_BYTES, spec.shm_bytes),  # what is in it counts towards the cap
        "CapDrop": ["ALL"],
        "CapAdd": sorted(spec.capabilities),
        "SecurityOpt": ["no-new-privileges"],
        "Privileged": False,
        # Whatever the engine's default: images bring their own, and under the engine's RStudio dies before its
        # session is saved.
        "Init": False,
        "GroupAdd": list(spec.groups),
        # No core dumps: they would fill the home. Open files stay as the engine has them: an engine that has not the
        # right to raise the limit starts nothing when asked to.
        "Ulimits": [{"Name": "core", "Soft": 0, "Hard": 0}],
        "LogConfig": {"Type": "json-file", "Config": {"max-size": str(settings.log_bytes), "max-file": LOG_FILES}},
        "RestartPolicy": {"Name": "no"},
        # Mounts, not Binds: a source that is missing is refused, not made by the engine as root.
        "Mounts": [
            {"Type": "bind", "Source": str(mount.source), "Target": mount.target, "ReadOnly": mount.read_only}
            for mount in spec.mounts
        ],
    }
    if limits_layer:
        host["StorageOpt"] = {"size": str(settings.layer_limit)}
    if spec.gpus:
        host["DeviceRequests"] = [gpu_request(spec.gpus)]
    if settings.oci_runtime:
        host["Runtime"] = settings.oci_runtime
    env_vars = dict(spec.env_vars)
    if spec.first_in_path:
        env_vars.setdefault("PATH", with_first(spec.first_in_path, image_path))
    body: dict[str, Any] = {
        "Image": spec.image,
        "Env": [f"{name}={value}" for name, value in env_vars.items()],
        "ExposedPorts": {port: {}},
        "Labels": labels_of(spec, deployment_id),
        "StopTimeout": spec.stop_grace_seconds,
        "Healthcheck": {"Test": ["NONE"]},  # the platform asks the application itself
        "HostConfig": host,
    }
    if spec.hostname:
        body["Hostname"] = spec.hostname
    if spec.user:
        body["User"] = spec.user
    if spec.command:
        body["Cmd"] = list(spec.command)
    return body


def with_first(folder: str, path: str) -> str:
    """A PATH in which `folder` is the first place that is looked at."""
    return ":".join([folder, *(each for each in (path or DEFAULT_PATH).split(":") if each != folder)])


def path_of(variables: Iterable[str]) -> str:
    """The PATH among variables as the engine lists them, `NAME=value`; empty where there is none."""
    return next((each.removeprefix("PATH=") for each in variables if each.startswith("PATH=")), "")


def gpu_request(gpus: Gpus) -> dict[str, Any]:
    """As `docker run --gpus` asks: a number of GPUs (-1: all of them), or those of these ids."""
    wanted: dict[str, Any] = {"Driver": "nvidia", "Capabilities": [["gpu"]]}
    if isinstance(gpus, tuple):
        return wanted | {"DeviceIDs": list(gpus)}
    return wanted | {"Count": -1 if gpus == "all" else gpus}


def is_published(settings: EngineSettings, address: Address) -> bool:
    """Whether instances can have that address here."""
    first, _, last = settings.port_range.partition("-")
    return address.host == LOOPBACK and int(first) <= address.port <= int(last or first)


def labels_of(spec: ContainerSpec, deployment_id: str) -> dict[str, str]:
    return {
        LABEL_DEPLOYMENT: deployment_id,
        LABEL_INSTANCE: spec.instance_id,
        LABEL_OWNER: spec.owner_id,
        LABEL_ENVIRONMENT: spec.environment,
    }


def container_of(inspected: Mapping[str, Any]) -> Container:
    """What `GET /containers/{id}/json` says, in our words."""
    labels = inspected["Config"].get("Labels") or {}
    state = inspected["State"]
    status = state_of(str(state["Status"]))
    exit_code = int(state["ExitCode"]) if status is ContainerState.EXITED else None
    started = str(state.get("StartedAt") or NO_START_YET)
    return Container(
        instance_id=labels.get(LABEL_INSTANCE, ""),
        owner_id=labels.get(LABEL_OWNER, ""),
        environment=labels.get(LABEL_ENVIRONMENT, ""),
        state=status,
        address=_address((inspected.get("NetworkSettings") or {}).get("Ports")) if status.is_up else None,
        exit_code=exit_code,
        # Set as soon as anything in it was killed for memory; one that ended well later did not end of that.
        out_of_memory=bool(state.get("OOMKilled")) and exit_code not in (None, 0),
        started_at=None if started == NO_START_YET else instant(started),
    )


def listed_container(listed: Mapping[str, Any], inspected: Container) -> Container:
    """What one line of `GET /containers/json` says of a container that is up, over what it said when inspected."""
    published = (
        Address(LOOPBACK, int(port["PublicPort"]))
        for port in listed.get("Ports") or ()
        if port.get("IP") == LOOPBACK and port.get("PublicPort")
    )
    return replace(inspected, state=state_of(str(listed["State"])), address=next(published, None))


def process_of(inspected: Mapping[str, Any]) -> int:
    """The first process of a container that is up, as the engine's machine numbers it; 0 of any other."""
    return int(inspected["State"].get("Pid") or 0)


def instant(text: str) -> datetime:
    """The engine's RFC 3339 with nanoseconds, to the microsecond."""
    whole, _, rest = text.removesuffix("Z").partition(".")
    return datetime.fromisoformat(f"{whole}.{rest[:6].ljust(6, '0')}+00:00")


def host_of(info: Mapping[str, Any]) -> HostFacts:
    """What `GET /info` says, in our words. Engines without control groups leave their lines out."""
    options = [str(option) for option in info.get("SecurityOptions") or ()]  # "name=seccomp,profile=default"
    return HostFacts(
        cpus=int(info["NCPU"]),
        memory_bytes=int(info["MemTotal"]),
        engine_version=str(info["ServerVersion"]),
        cgroup_version=str(info.get("CgroupVersion") or ""),
        cgroup_driver=str(info.get("CgroupDriver") or ""),
        can_limit_memory=info.get("MemoryLimit"),
        can_limit_swap=info.get("SwapLimit"),
        can_limit_cpus=info.get("CpuCfsQuota"),
        can_limit_pids=info.get("PidsLimit"),
        outlives_restart=info.get("LiveRestoreEnabled"),
        security=tuple(option.partition(",")[0].removeprefix("name=") for option in options),
        root_dir=str(info.get("DockerRootDir") or ""),
        storage=_storage_of(info),
    )


def _storage_of(info: Mapping[str, Any]) -> str:
    """ "overlay2 on xfs", "btrfs"; empty where the engine does not say."""
    status = {str(row[0]): str(row[1]) for row in info.get("DriverStatus") or () if len(row) == 2}
    driver, below = str(info.get("Driver") or ""), status.get("Backing Filesystem", "")
    return f"{driver} on {below}" if driver and below and below != driver else driver


def log_text(framed: bytes) -> str:
    """The end of a log's text, without the 8-byte headers that tell output from error output."""
    parts, at = [], 0
    while at + 8 <= len(framed):
        (length,) = struct.unpack_from(">I", framed, at + 4)
        parts.append(framed[at + 8 : at + 8 + length])
        at += 8 + length
    return b"".join(parts).decode(errors="replace")[-LOG_TAIL_CHARACTERS:]


def reference_parts(reference: str) -> tuple[str, str]:
    """Repository and tag (or digest) of an image's reference; the tag is `latest` where it names none."""
    repository, at, digest = reference.partition("@")
    if at:
        return repository, digest
    folder, slash, name = reference.rpartition("/")
    name, _, tag = name.partition(":")
    return folder + slash + name, tag or "latest"


def number_of_ports(port_range: str) -> int:
    """How many ports `20000-29999`, or a single one, has."""
    first, _, last = port_range.partition("-")
    return int(last or first) - int(first) + 1


def state_of(status: str) -> ContainerState:
    if status == "created":
        return ContainerState.CREATED
    if status == "paused":
        return ContainerState.PAUSED
    if status in ("running", "restarting"):
        return ContainerState.RUNNING
    return ContainerState.EXITED


def _address(ports: Mapping[str, Any] | None) -> Address | None:
    for bindings in (ports or {}).values():
        for binding in bindings or ():
            if binding["HostIp"] == LOOPBACK:
                return Address(LOOPBACK, int(binding["HostPort"]))
    return None
