"""What a container is given that is to be a machine of its own, with a container engine inside."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

# Everything that a container engine inside needs. Not --privileged, which demands capabilities that the machine that
# runs the tests may lack itself.
NEARLY_ALL_RIGHTS = (
    *("--security-opt=seccomp=unconfined", "--security-opt=apparmor=unconfined"),
    *("--security-opt=systempaths=unconfined", "--device-cgroup-rule=a *:* rwm", "--cgroupns=host"),
    *(
        f"--cap-add={name}"
        for name in (
            *(
                "AUDIT_WRITE",
                "CHOWN",
                "DAC_OVERRIDE",
                "DAC_READ_SEARCH",
                "FOWNER",
                "FSETID",
                "IPC_LOCK",
                "KILL",
                "LEASE",
            ),
            *("LINUX_IMMUTABLE", "MKNOD", "NET_ADMIN", "NET_BIND_SERVICE", "NET_RAW", "SETFCAP", "SETGID", "SETPCAP"),
            *("SETUID", "SYS_ADMIN", "SYS_CHROOT", "SYS_NICE", "SYS_PTRACE"),
        )
    ),
)

# For an engine without systemd, which uses what is there and mounts nothing.
SHARED_CONTROL_GROUPS = ("-v", "/sys/fs/cgroup:/sys/fs/cgroup:rw")


def control_groups_for_systemd() -> Iterator[str]:
    """Control groups for a systemd that must leave this machine's as they are.

    On version 1 it mounts every hierarchy that it misses and remounts their folder. A hierarchy that is mounted nowhere
    else makes this machine's own engine fail to measure its containers; so systemd finds something in each place.
    """
    here = Path("/sys/fs/cgroup")
    if (here / "cgroup.controllers").exists():
        yield from SHARED_CONTROL_GROUPS
        return
    yield from ("--tmpfs", f"{here}:mode=755")
    there = [path.name for path in here.iterdir()]
    for name in there:
        yield from ("-v", f"{here / name}:{here / name}:rw")
    for name in ("cpu,cpuacct", "net_cls,net_prio", "hugetlb", "misc", "perf_event", "rdma"):
        if name not in there:
            yield from ("--tmpfs", f"{here / name}")
