"""From a `ContainerSpec` to the body of the engine's create call, and back from what it inspects. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

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
)

LOOPBACK = "127.0.0.1"
SHM_SHARE = 4  # a quarter of the memory may be shared memory; it counts towards the cap
NO_START_YET = "0001-01-01T00:00:00Z"


def create_body(spec: ContainerSpec, settings: EngineSettings, deployment_id: str) -> dict[str, Any]:
    """The body. Everything that is not granted is dropped; memory and swap have one cap together.

    No `Init`: the images bring their own, and under the engine's RStudio dies before its session is saved. No restart
    policy: an instance that ends has ended, and the platform says why.
    """
    port = f"{spec.network_port}/tcp"
    host: dict[str, Any] = {
        "NetworkMode": settings.network,
        "PortBindings": {port: [{"HostIp": LOOPBACK, "HostPort": settings.port_range}]},
        "Memory": spec.memory_bytes,
        "MemorySwap": spec.memory_bytes,
        "NanoCpus": int(spec.cpus * 1_000_000_000),
        "PidsLimit": spec.pids_limit,
        "ShmSize": max(64 * 1024**2, spec.memory_bytes // SHM_SHARE),
        "CapDrop": ["ALL"],
        "CapAdd": sorted(spec.capabilities),
        "SecurityOpt": ["no-new-privileges"],
        "Privileged": False,
        "GroupAdd": list(spec.groups),
        # No core dumps: they would fill the home. Open files stay as the engine has them; raising may be forbidden.
        "Ulimits": [{"Name": "core", "Soft": 0, "Hard": 0}],
        "LogConfig": {"Type": "json-file", "Config": {"max-size": str(settings.log_bytes), "max-file": "2"}},
        "RestartPolicy": {"Name": "no"},
        # Mounts, not Binds: a source that is missing is refused, not made by the engine as root.
        "Mounts": [
            {"Type": "bind", "Source": str(mount.source), "Target": mount.target, "ReadOnly": mount.read_only}
            for mount in spec.mounts
        ],
    }
    if settings.oci_runtime:
        host["Runtime"] = settings.oci_runtime
    body: dict[str, Any] = {
        "Image": spec.image,
        "Env": [f"{name}={value}" for name, value in spec.env_vars.items()],
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
    status = _state(str(state["Status"]))
    running = status is ContainerState.RUNNING
    started = str(state.get("StartedAt") or NO_START_YET)
    return Container(
        instance_id=labels.get(LABEL_INSTANCE, ""),
        owner_id=labels.get(LABEL_OWNER, ""),
        environment=labels.get(LABEL_ENVIRONMENT, ""),
        state=status,
        address=_address((inspected.get("NetworkSettings") or {}).get("Ports")) if running else None,
        exit_code=int(state["ExitCode"]) if status is ContainerState.EXITED else None,
        out_of_memory=bool(state.get("OOMKilled")),
        started_at=None if started == NO_START_YET else instant(started),
    )


def instant(text: str) -> datetime:
    """The engine's RFC 3339 with nanoseconds, to the microsecond."""
    whole, _, rest = text.removesuffix("Z").partition(".")
    return datetime.fromisoformat(f"{whole}.{rest[:6].ljust(6, '0')}+00:00")


def _state(status: str) -> ContainerState:
    if status == "created":
        return ContainerState.CREATED
    if status in ("running", "paused", "restarting"):
        return ContainerState.RUNNING
    return ContainerState.EXITED


def _address(ports: Mapping[str, Any] | None) -> Address | None:
    for bindings in (ports or {}).values():
        for binding in bindings or ():
            if binding["HostIp"] == LOOPBACK:
                return Address(LOOPBACK, int(binding["HostPort"]))
    return None
