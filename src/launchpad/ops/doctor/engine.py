"""The engine, and whether what it should hold instances to is in force."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from ...domain.environments import Environment
from ...domain.instances import Instance, State
from ...domain.sizes import describe_bytes
from ...runtime.base import Caps, Freezer, HostFacts, MemoryWatch, Runtime
from ...runtime.engine_versions import hangs_when_many_end, version_numbers
from ...settings import Settings
from ...store import instances
from ...store.database import Database
from .findings import INSTALL_GUIDE, Finding, Level, numbers

OLDEST_TRIED = (20, 10)
SHIELDS_BY_ITSELF = (28, 0)
LARGEST_PAGE_BYTES = 64 * 1024  # the kernel rounds a limit down to whole pages
INSTANCES_LOOKED_AT = 20
_DAEMON = "/etc/docker/daemon.json"


def engine(subject: str, host: HostFacts) -> list[Finding]:
    """Its version, what a restart of it would end, and what confines containers besides."""
    found = []
    version = numbers(host.engine_version)
    if version is not None and version < OLDEST_TRIED:
        text = f"Version {host.engine_version} is older than any version this program was tested with."
        found.append(Finding(Level.WARN, subject, text, "Install Docker 20.10 or newer."))
    elif version_numbers(host.engine_version) is not None and hangs_when_many_end(host.engine_version):
        text = (
            f"Version {host.engine_version} can hang when several containers end at the same time (moby issue 46661). "
            "The platform ends one after the other, but containers that end by themselves can still meet."
        )
        remedy = "Install Docker 20.10.27 or newer. If it hangs: systemctl restart docker."
        found.append(Finding(Level.WARN, subject, text, remedy))
    if host.outlives_restart is False:
        text = "Instances end when the engine is restarted, for example by an update."
        remedy = f'Set "live-restore": true in {_DAEMON}, then “systemctl reload docker”.'
        found.append(Finding(Level.WARN, subject, text, remedy))
    if host.cgroup_version and "seccomp" not in host.security:
        text = "Containers may use every system call of the kernel: seccomp is off."
        remedy = f"Remove seccomp-profile = unconfined from {_DAEMON}, or use a kernel with seccomp."
        found.append(Finding(Level.WARN, subject, text, remedy))
    if "userns" in host.security or "rootless" in host.security:
        text = (
            "Containers run with other uids than home folders have (userns-remap or rootless): none can write to its "
            "home folder."
        )
        found.append(Finding(Level.BAD, subject, text, f"Run Docker as root, without userns-remap in {_DAEMON}."))
    size = describe_bytes(host.memory_bytes)
    return found or [Finding(Level.OK, subject, f"Version {host.engine_version}, {host.cpus} cores, {size} of memory.")]


def control_groups(subject: str, host: HostFacts, proc: Path) -> list[Finding]:
    """Whether the kernel lets the engine limit what an instance takes.

    Args:
        proc: /proc, which says whether there is swap at all.
    """
    if not host.cgroup_version:
        return [Finding(Level.OK, subject, "Not checked: the engine does not say what it can limit.")]
    found = []
    kinds = (
        ("memory", host.can_limit_memory, "one instance can use up the server's memory"),
        ("cores", host.can_limit_cpus, "one instance can use all cores"),
        ("processes", host.can_limit_pids, "a fork bomb in one instance takes the server down"),
    )
    for kind, can, so in kinds:
        if can is False:
            text = f"Limits of {kind} are not enforced: {so}. The kernel's control group for it is missing or disabled."
            remedy = "Boot without cgroup_disable=…, and with cgroup_enable=memory where the kernel needs it."
            found.append(Finding(Level.BAD, subject, text, remedy))
    if host.can_limit_swap is False:
        has_swap = _has_swap(proc)
        text = "Limits of memory do not count swap: an instance can use the server's swap beyond its size."
        if not has_swap:
            text = "Swap could not be limited, but this server has none."
        remedy = "Boot with swapaccount=1 (GRUB_CMDLINE_LINUX in /etc/default/grub, then update-grub), or without swap."
        found.append(Finding(Level.BAD if has_swap else Level.WARN, subject, text, remedy))
    if host.cgroup_version == "1":
        text = (
            "Control groups of version 1: limits are enforced, but the kernel and Docker are phasing out this version."
        )
        remedy = "Boot with systemd.unified_cgroup_hierarchy=1; Debian and Ubuntu use version 2 by default."
        found.append(Finding(Level.WARN, subject, text, remedy))
    ways = f"version {host.cgroup_version}, by {host.cgroup_driver or 'the engine'}"
    return found or [Finding(Level.OK, subject, f"Memory, swap, cores and processes can be limited ({ways}).")]


def freezing(subject: str, freezer: Freezer, *, is_wanted: bool) -> list[Finding]:
    """Whether instances can be frozen, and whether their memory can leave meanwhile. Neither is a fault."""
    if not is_wanted:
        return [Finding(Level.OK, subject, "Not checked: freezing is off (freezing.enabled).")]
    if not freezer.can_freeze:
        return [Finding(Level.OK, subject, f"Instances cannot be frozen: {freezer.why_not}.")]
    if freezer.why_memory_stays:
        text = f"Instances can be frozen; what they hold in memory stays there: {freezer.why_memory_stays}."
        return [Finding(Level.OK, subject, text)]
    return [Finding(Level.OK, subject, "Instances can be frozen, and their memory is pushed out to swap meanwhile.")]


def memory(subject: str, watch: MemoryWatch) -> list[Finding]:
    """Whether IDEs outlive their users' programs where memory runs out, and whether it can be told which one ended."""
    remedy = "Run the helper as root with the unit that the installer has written (CAP_SYS_RESOURCE, CAP_SYSLOG)."
    found = []
    if watch.why_not_ordered:
        text = "Where an instance's memory runs out, its IDE may be ended before its user's programs"
        found.append(Finding(Level.WARN, subject, f"{text}: {watch.why_not_ordered}.", remedy))
    if watch.why_not_explained:
        text = f"Which program was ended for lack of memory is not known for sure: {watch.why_not_explained}."
        found.append(Finding(Level.WARN, subject, text, remedy))
    well = "Where memory runs out, users' programs are ended before their IDEs, and their owners are told which."
    return found or [Finding(Level.OK, subject, well)]


async def limits(
    subject: str, database: Database, runtime: Runtime, catalogue: Mapping[str, Environment]
) -> list[Finding]:
    """Running instances' limits, as kernel and engine have them, held against the record."""
    async with database.reading() as db:
        running = await instances.in_states(db, State.RUNNING)
    if not running:
        return [Finding(Level.OK, subject, "Not checked: no instance is running.")]
    found, looked_at = [], 0
    for instance in running[-INSTANCES_LOOKED_AT:]:
        caps = await runtime.caps(instance.id)
        if caps is None:  # ended just now, or a case for the next sweep
            continue
        looked_at += 1
        wrong = beyond(instance, caps, catalogue.get(instance.environment))
        if wrong:
            text = f"The limits of instance {instance.id} are not enforced: {'; '.join(wrong)}."
            remedy = "See the findings on cgroups; then stop it and launch it again."
            found.append(Finding(Level.BAD, subject, text, remedy))
    if not looked_at:
        return [Finding(Level.OK, subject, "Not checked: no instance's container is running.")]
    text = f"Enforced, according to kernel and engine, for {looked_at} of {len(running)} running instances."
    return found or [Finding(Level.OK, subject, text)]


def beyond(instance: Instance, caps: Caps, environment: Environment | None) -> list[str]:
    """What an instance may take beyond its record, in words."""
    wrong = []
    promised = instance.limits
    if caps.memory_bytes is None or caps.memory_bytes > promised.memory_bytes + LARGEST_PAGE_BYTES:
        wrong.append(f"memory {_said(caps.memory_bytes)} instead of {describe_bytes(promised.memory_bytes)}")
    if caps.swap_bytes != 0:
        wrong.append(f"swap {_said(caps.swap_bytes)} instead of none")
    if caps.cpus is None or caps.cpus > promised.cpus + 0.01:
        wrong.append(f"cores {'without limit' if caps.cpus is None else f'{caps.cpus:g}'} instead of {promised.cpus:g}")
    if caps.pids is None or (environment is not None and caps.pids > environment.pids_limit):
        most = environment.pids_limit if environment is not None else "some"
        wrong.append(f"processes {'without limit' if caps.pids is None else caps.pids} instead of {most}")
    return wrong


async def network(subject: str, runtime: Runtime, settings: Settings) -> list[Finding]:
    """What instances reach and who reaches them, looked at before and after the sweep's own mending."""
    before = await runtime.network()
    await runtime.mend_network()
    now = await runtime.network()
    found = []
    if settings.egress.rules == "off":
        text = "Instances reach this server and whatever it reaches: egress.rules is “off”."
        remedy = "Remove that setting, unless another firewall confines them."
        found.append(Finding(Level.WARN, subject, text, remedy))
    for gap in now.gaps:
        text = f"Instances are not isolated from each other or from this server: {gap}."
        show = "nft list ruleset" if now.firewall == "nftables" else "iptables -S"
        remedy = f"Remove what is in the way; “launchpad sweep” applies the rules. See “{show}”."
        found.append(Finding(Level.BAD, subject, text, remedy))
    if mended := [gap for gap in before.gaps if gap not in now.gaps]:
        text = f"Rules were missing and have just been restored: {'; '.join(mended)}."
        remedy = "Find out what removes them (a firewall's reload?): instances are not isolated until the next sweep."
        found.append(Finding(Level.WARN, subject, text, remedy))
    if now.exists and not now.shielded:
        version = numbers((await runtime.host()).engine_version)
        if version is None or version < SHIELDS_BY_ITSELF:
            found.append(Finding(Level.WARN, subject, *_UNSHIELDED))
    if found:
        return found
    if not now.exists:
        return [
            Finding(
                Level.OK,
                subject,
                "Not checked: there is no network yet. The first launch creates it, with its rules.",
            )
        ]
    text = "Instances reach neither each other, nor this server, nor private networks; only this server reaches them."
    text += f" The rules are held by {now.firewall}." if now.firewall else ""
    return [Finding(Level.OK, subject, text)]


_UNSHIELDED = (
    (
        "Machines in the same network as this server can reach instances' ports without nginx: engines before 28.0 "
        "allow it."
    ),
    "Leave egress.rules “enforced”, update Docker, or add a rule to your firewall: iptables -I DOCKER-USER ! -i "
    "BRIDGE -o BRIDGE -m conntrack ! --ctstate RELATED,ESTABLISHED -j DROP, with the bridge of engine.network.",
)


def rights(subject: str, settings: Settings) -> list[Finding]:
    """Whose hands the engine's socket is in. To be asked as the portal's user, where there is a helper."""
    if settings.helper.socket is not None:
        socket = settings.engine.host.removeprefix("unix://")
        if os.geteuid() != 0 and os.access(socket, os.W_OK, effective_ids=True):
            text = (
                f"The portal has a helper, but its user can also write to {socket}, which is equivalent to root on "
                "this server."
            )
            remedy = (
                f"“id {settings.helper.user}” shows its groups; remove it from Docker's group, and restart the portal."
            )
            return [Finding(Level.BAD, subject, text, remedy)]
        return [
            Finding(Level.OK, subject, "The portal uses the privileged helper and has neither root nor the engine.")
        ]
    text = (
        "The portal's own process has the engine's socket, which is equivalent to root on this server: helper.socket "
        "is not set."
    )
    return [Finding(Level.WARN, subject, text, f"Fine for a trial; for a server, use install.sh ({INSTALL_GUIDE}).")]


def _said(size_bytes: int | None) -> str:
    return "without limit" if size_bytes is None else describe_bytes(size_bytes)


def _has_swap(proc: Path) -> bool:
    """True also where it cannot be told."""
    try:
        lines = (proc / "swaps").read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return True
    return len(lines) > 1
