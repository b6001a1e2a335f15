"""What a container is given that is to be a machine of its own, with a container engine inside."""

from __future__ import annotations

# Everything that a container engine inside needs. Not --privileged, which demands capabilities that the machine that
# runs the tests may lack itself.
NEARLY_ALL_RIGHTS = (
    *("--security-opt=seccomp=unconfined", "--security-opt=apparmor=unconfined"),
    *("--security-opt=systempaths=unconfined", "--device-cgroup-rule=a *:* rwm", "--cgroupns=host"),
    *("-v", "/sys/fs/cgroup:/sys/fs/cgroup:rw"),
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
