"""Btrfs file systems of a test's own."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

MIB = 1024**2


def run(*arguments: str | Path) -> str:
    return subprocess.run(list(map(str, arguments)), check=True, capture_output=True, text=True).stdout


def turn_quotas_on(place: Path) -> None:
    """And waits until everything is counted."""
    run("btrfs", "quota", "enable", place)
    run("btrfs", "quota", "rescan", "-w", place)


@contextmanager
def btrfs_in_a_file(size_mib: int, *options: str, quotas: bool = True) -> Iterator[Path]:
    """A btrfs of its own, mounted outside of pytest's folders, which pytest removes with what is in them."""
    with tempfile.TemporaryDirectory(prefix="launchpad-test-btrfs-") as folder:
        image, place = Path(folder, "image"), Path(folder, "mounted")
        with image.open("wb") as file:
            file.truncate(size_mib * MIB)
        run("mkfs.btrfs", "-q", *options, image)
        place.mkdir()
        Path(folder).chmod(0o755)  # users write in their homes
        run("mount", "-o", "loop", image, place)
        try:
            if quotas:
                turn_quotas_on(place)
            yield place
        finally:
            run("umount", "--lazy", place)  # also when a test that failed left something open; the loop device goes too
