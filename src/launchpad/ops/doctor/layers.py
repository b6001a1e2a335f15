"""Whether what instances write outside their homes is limited by the engine, or watched."""

from __future__ import annotations

from pathlib import Path

from ...domain.sizes import describe_bytes
from ...runtime.base import HostFacts
from ...settings import EngineSettings
from .findings import Finding, Level

LIMITS_BY_ITSELF = ("btrfs", "zfs")
ON_XFS = "overlay2 on xfs"
PROJECT_QUOTA = {"pquota", "prjquota"}  # one option of two names


def layers(subject: str, settings: EngineSettings, host: HostFacts, mounts: Path) -> list[Finding]:
    """One line.

    Args:
        mounts: `/proc/self/mounts` of the engine's machine.
    """
    limit = describe_bytes(settings.layer_limit)
    if host.storage in LIMITS_BY_ITSELF or (host.storage == ON_XFS and _options(mounts, host.root_dir) & PROJECT_QUOTA):
        text = f"The engine limits what each instance writes outside its home folder to {limit} ({host.storage})."
        return [Finding(Level.OK, subject, text)]
    then = "its owner is warned" + (", and it is stopped ten minutes later" if settings.layer_action == "stop" else "")
    text = (
        f"What instances write outside their home folders is not limited by the engine ({host.storage or 'unknown'}), "
        f"but checked every ten minutes: above {limit}, {then}."
    )
    return [Finding(Level.OK, subject, text)]


def _options(mounts: Path, folder: str) -> set[str]:
    """The options of the mount that a folder lies on; none where that cannot be told."""
    best, options = "", set[str]()
    try:
        lines = mounts.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return options
    for line in lines:
        _, place, _, given, *_ = [*line.split(), "", "", "", ""]
        inside = folder == place or folder.startswith(place.rstrip("/") + "/")
        if inside and len(place) >= len(best):
            best, options = place, set(given.split(","))
    return options
