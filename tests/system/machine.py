"""A whole server with systemd, built once for its recipe: as a container, or in qemu with a kernel of its own.

The container is as quick as the machine that runs the tests. The emulator needs no hardware virtualisation: it is slow,
and everywhere the same.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import secrets
import shutil
import subprocess
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from time import monotonic, sleep

from support.live import docker
from support.machines import NEARLY_ALL_RIGHTS, control_groups_for_systemd
from support.ports import free_ports

RECIPE = Path(__file__).parent / "machine" / "build-disk"
CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "launchpad-test"
BOOT_SECONDS = 1200


def disk() -> Path:
    """The folder of a server as the distribution leaves it; built at the first use, by one process."""
    mark = hashlib.sha256(RECIPE.read_bytes()).hexdigest()[:12]
    folder = CACHE / f"machine-{mark}"
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "complete").exists():
            for old in CACHE.glob("machine-*"):
                shutil.rmtree(old)
            folder.mkdir()
            done = subprocess.run([RECIPE, folder], capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
            (folder / "complete").touch()
    return folder


class Machine(ABC):
    """`run` runs a command as root in it; port 443 of it is `https_port` here."""

    https_port: int

    @abstractmethod
    def start(self) -> None:
        """Returns when commands can be run."""

    @abstractmethod
    def power_off(self) -> None:
        """As when the plug is pulled; nothing of it is left."""

    def run(self, script: str, *, ok: bool = True, seconds: float = 900) -> str:
        """What a shell script prints, errors included."""
        done = self._sh(script, seconds=seconds)
        assert not ok or done.returncode == 0, f"{script}\n{done.stdout}"
        return done.stdout

    def code(self, script: str, *, seconds: float = 900) -> int:
        return self._sh(script, seconds=seconds).returncode

    def copy_in(self, source: Path, target: str, names: Sequence[str] = (".",)) -> None:
        """Of a folder, what is named; all, where nothing is."""
        packed = subprocess.run(
            ["tar", "-c", "-C", str(source), "--null", "--verbatim-files-from", "-T", "-"],
            input="\0".join(names).encode(),
            check=True,
            capture_output=True,
        ).stdout
        command = self._command(f"mkdir -p {target} && tar -x -C {target} --no-same-owner")
        subprocess.run(command, input=packed, check=True, capture_output=True, timeout=900)

    @abstractmethod
    def _command(self, script: str) -> list[str]:
        """What runs a shell script in it, from here."""

    def _sh(self, script: str, *, seconds: float) -> subprocess.CompletedProcess[str]:
        command = self._command(f"exec 2>&1\n{script}")  # one stream, so that the order is kept
        try:
            return subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                check=False,
                timeout=seconds,
            )
        except subprocess.TimeoutExpired as late:
            printed = late.stdout or b""
            text = printed.decode(errors="replace") if isinstance(printed, bytes) else printed
            return subprocess.CompletedProcess(late.cmd, 255, f"{text}\n(not done within {seconds:.0f} s)")


class ContainerMachine(Machine):
    """Its first process is systemd; network, processes and Docker's storage are its own, the kernel is this one.

    Args:
        folder: for the disk of its state directory, which is small so that it can be filled.
        homes: what lies at /home; None: a folder of the container's own file system.
    """

    def __init__(self, folder: Path, *, state_mib: int = 512, homes: Path | None = None) -> None:
        self._homes = homes
        self.name = f"launchpad-test-server-{secrets.token_hex(4)}"
        self._image = self._imported(disk())
        self._state_disk, self._state = folder / "state.img", folder / "state"
        with self._state_disk.open("wb") as file:
            file.truncate(state_mib * 1024**2)
        subprocess.run(["mkfs.ext4", "-q", "-m", "0", str(self._state_disk)], check=True)
        self._state.mkdir()

    @staticmethod
    def _imported(folder: Path) -> str:
        """The distribution as an image; of another recipe's, only the files are kept."""
        tag = f"launchpad-test/server:{folder.name}"
        if subprocess.run(["docker", "image", "inspect", tag], capture_output=True, check=False).returncode != 0:
            docker("import", str(folder / "root.tar"), tag)
        return tag

    def start(self) -> None:
        subprocess.run(["mount", "-o", "loop", str(self._state_disk), str(self._state)], check=True)
        shutil.rmtree(self._state / "lost+found")
        docker(
            *("run", "-d", "--name", self.name, "--hostname", "server", "--stop-signal", "SIGRTMIN+3"),
            *("-p", "127.0.0.1::443", "-v", "/var/lib/docker", "-v", f"{self._state}:/var/lib/launchpad"),
            *("--tmpfs", "/run:exec", "--tmpfs", "/run/lock", "--tmpfs", "/tmp:exec", "-e", "container=docker"),
            *(("-v", f"{self._homes}:/home") if self._homes is not None else ()),
            *(*NEARLY_ALL_RIGHTS, *control_groups_for_systemd()),
            *(self._image, "/lib/systemd/systemd"),
        )
        self.https_port = int(docker("port", self.name, "443").rpartition(":")[2])
        deadline = monotonic() + BOOT_SECONDS
        while (state := self.run("systemctl is-system-running", ok=False).strip()) not in ("running", "degraded"):
            assert monotonic() < deadline, f"{state}\n{docker('logs', self.name)}"
            sleep(0.5)

    def shut_down(self) -> None:
        """As its administrator does it: systemd ends everything, and the disks are at rest."""
        # Programs in instances do not end at SIGTERM; they are given a minute and a half otherwise.
        short = "[Manager]\\nDefaultTimeoutStopSec=15s\\n"
        folder = "/run/systemd/system.conf.d"  # which is gone at the next start
        self.run(f"mkdir -p {folder} && printf '{short}' >{folder}/short.conf && systemctl daemon-reload")
        docker("stop", "--time", "240", self.name)

    def write_files(self, root: Path) -> None:
        """Everything that is on its disks, as it is on them, into an empty folder."""
        with subprocess.Popen(["docker", "export", self.name], stdout=subprocess.PIPE) as export:
            unpack = ("tar", "-x", "-C", str(root), "--numeric-owner", "--xattrs", "--xattrs-include=*")
            subprocess.run(unpack, stdin=export.stdout, check=True)
        assert export.returncode == 0
        (root / ".dockerenv").unlink(missing_ok=True)  # by which systemd would take itself to be in a container
        volumes = docker("inspect", "-f", "{{range .Mounts}}{{.Source}}\t{{.Destination}}\n{{end}}", self.name)
        for line in volumes.splitlines():
            source, _, target = line.partition("\t")
            if not target.startswith("/sys/"):
                # Attributes and all: they are what the engine's layers are made of.
                subprocess.run(["cp", "-a", f"{source}/.", str(root / target.lstrip("/"))], check=True)

    def power_off(self) -> None:
        subprocess.run(["docker", "rm", "-f", "-v", self.name], capture_output=True, check=False)
        subprocess.run(["umount", "--lazy", str(self._state)], capture_output=True, check=False)

    def _command(self, script: str) -> list[str]:
        return ["docker", "exec", "-i", self.name, "bash", "-c", script]


class EmulatedMachine(Machine):
    """In qemu, spoken to over ssh: a machine with a kernel of its own, at its next start.

    What it starts with was made in a container, at the speed of this machine: emulated, that takes ten times as long.

    Args:
        folder: for its disks.
        installed: a server that was shut down. Its homes come on a disk of their own, ext4 with project quotas.
    """

    def __init__(self, folder: Path, installed: ContainerMachine, *, memory_mib: int = 4096) -> None:
        self._folder = folder
        self._from = disk()
        self._memory_mib = memory_mib
        self.ssh_port, self.https_port = free_ports(2)
        self._process: subprocess.Popen[bytes] | None = None
        self._system, self._homes = folder / "system.img", folder / "homes.img"
        root, homes = folder / "root", folder / "homes"
        root.mkdir()
        try:
            installed.write_files(root)
            subprocess.run(["tar", "-x", "-C", str(root), "-f", str(self._from / "boot.tar")], check=True)
            with (root / "etc/fstab").open("a") as table:
                table.write("LABEL=homes /home ext4 prjquota,nodev,nosuid 0 2\n")
            (root / "home").rename(homes)
            (root / "home").mkdir()
            quotas = ("-O", "project,quota", "-E", "quotatype=usrquota:grpquota:prjquota")
            self._make_disk(self._homes, homes, 2, "-L", "homes", *quotas)
            self._make_disk(self._system, root, 8)
        finally:
            shutil.rmtree(root, ignore_errors=True)
            shutil.rmtree(homes, ignore_errors=True)

    @staticmethod
    def _make_disk(image: Path, files: Path, gib: int, *options: str) -> None:
        with image.open("wb") as file:
            file.truncate(gib * 1024**3)
        subprocess.run(["mkfs.ext4", "-q", *options, "-d", str(files), str(image)], check=True, capture_output=True)

    def start(self) -> None:
        forwards = f"hostfwd=tcp:127.0.0.1:{self.ssh_port}-:22,hostfwd=tcp:127.0.0.1:{self.https_port}-:443"
        with (self._folder / "console.log").open("ab") as log:
            self._process = subprocess.Popen(
                [
                    *("qemu-system-x86_64", "-accel", "tcg,thread=multi", "-smp", "2", "-m", str(self._memory_mib)),
                    *("-cpu", "max", "-nographic", "-no-reboot", "-rtc", "base=utc"),
                    *("-kernel", str(self._from / "vmlinuz"), "-initrd", str(self._from / "initrd.img")),
                    *("-append", "root=/dev/vda rw console=ttyS0 quiet systemd.show_status=0 mitigations=off"),
                    *("-drive", f"file={self._system},format=raw,if=virtio,cache=unsafe"),
                    *("-drive", f"file={self._homes},format=raw,if=virtio,cache=unsafe"),
                    *("-netdev", f"user,id=net,restrict=on,{forwards}", "-device", "virtio-net-pci,netdev=net"),
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        deadline = monotonic() + BOOT_SECONDS
        while self._sh("true", seconds=20).returncode != 0:
            assert self._process.poll() is None, self.console()
            assert monotonic() < deadline, self.console()
            sleep(1)

    def power_off(self) -> None:
        """As when the plug is pulled."""
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        for image in (self._system, self._homes):
            image.unlink(missing_ok=True)

    def console(self) -> str:
        return (self._folder / "console.log").read_text(errors="replace")[-4000:]

    def _command(self, script: str) -> list[str]:
        options = ("StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null", "LogLevel=ERROR", "ConnectTimeout=15")
        flags = [part for option in options for part in ("-o", option)]
        ssh = ["ssh", *flags, "-i", str(self._from / "key"), "-p", str(self.ssh_port), "root@127.0.0.1"]
        return [*ssh, script]
