"""An image of two megabytes, made of this machine's busybox."""

from __future__ import annotations

import io
import subprocess
import tarfile
from pathlib import Path

BUSYBOX = Path("/bin/busybox")
SMALL_IMAGE = "launchpad-test/small:1"


def make_small_image() -> str:
    """Busybox and links to it; its reference."""
    held = io.BytesIO()
    with tarfile.open(fileobj=held, mode="w") as tar:
        for name, mode in (("bin", 0o755), ("tmp", 0o1777)):
            folder = tarfile.TarInfo(name)
            folder.type, folder.mode = tarfile.DIRTYPE, mode
            tar.addfile(folder)
        tar.add(BUSYBOX, "bin/busybox")
        for name in ("sh", "nc", "wget", "sleep", "cat", "echo", "touch", "tail", "head"):
            link = tarfile.TarInfo(f"bin/{name}")
            link.type, link.linkname = tarfile.SYMTYPE, "busybox"
            tar.addfile(link)
    subprocess.run(["docker", "import", "-", SMALL_IMAGE], input=held.getvalue(), check=True, capture_output=True)
    return SMALL_IMAGE
