"""Backups: one file with the database, the keys and the settings, that can be brought back on another machine.

A tar with a manifest, compressed, and encrypted to the keys of the settings (age, https://age-encryption.org/v1).
Without such a key nothing secret goes into it: neither the deployment's keys nor the settings, which may hold
passwords. An encrypted one can also be read with a key of the server itself, so that the restore drill needs nobody: it
keeps a backup from whoever finds it elsewhere, and the server has the data anyway. Homes are not in it: they belong to
the site's own tool. Everything goes through in pieces, by way of files: the database may be larger than the memory.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import io
import json
import os
import re
import shutil
import tarfile
import tempfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO, cast

import pyrage
from pydantic import TypeAdapter

from .. import __version__
from ..errors import BackupUnusable, InvalidInput, StoreUnavailable
from ..store import snapshot
from ..store.revisions import known_revisions
from .held_files import HeldFile, no_room, room_for_a_file

FORMAT = 1
MANIFEST, DATABASE, KEY, DEPLOYMENT, SETTINGS = (
    "manifest.json",
    "launchpad.db",
    "secret.key",
    "deployment-id",
    "launchpad.toml",
)
PREFIX, STAMP = "launchpad-", "%Y%m%dT%H%M%SZ"
PLAIN, ENCRYPTED = ".tar.gz", ".tar.gz.age"
LARGEST_BYTES = 16 * 1024**3
AGE = b"age-encryption.org/"  # what a file of age begins with


@dataclass(frozen=True)
class Manifest:
    """What a backup says of itself. `revision` is the version of the tables; `digests` the SHA-256 of each file."""

    format: int
    version: str
    deployment_id: str
    created_at: str
    revision: str
    users: int
    instances: int
    digests: Mapping[str, str]


_MANIFEST = TypeAdapter(Manifest)


@dataclass(frozen=True)
class Backup:
    manifest: Manifest
    files: Mapping[str, HeldFile]

    @property
    def has_secrets(self) -> bool:
        return KEY in self.files


def create(
    *,
    state_dir: Path,
    settings_file: Path | None,
    folder: Path,
    recipients: Sequence[str],
    own_identity: str,
    deployment_id: str,
    now: datetime,
) -> Path:
    """Writes a backup into `folder` and returns where; whole or not at all, and readable by its owner only.

    Args:
        recipients: public keys of age (`age1…`) that can read it; none: without secrets, and not encrypted.
        own_identity: this server's private key, which can read an encrypted one, too.

    Raises:
        InvalidInput: a key is none.
        StoreUnavailable: the database cannot be copied, or the folder not be written.
    """
    keys = [_recipient(text) for text in recipients]
    if keys:
        keys.append(pyrage.x25519.Identity.from_str(own_identity).to_public())
    unfinished = f".{PREFIX}{deployment_id}-"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with _alone(state_dir), tempfile.TemporaryDirectory(prefix=unfinished, dir=folder) as name:
            for left in folder.glob(f"{unfinished}*"):
                if left.name != Path(name).name:  # by one that was killed: a copy of the database, in the clear
                    shutil.rmtree(left)
            copy = Path(name) / DATABASE
            snapshot.take(state_dir / DATABASE, copy)
            (Path(name) / DEPLOYMENT).write_bytes(deployment_id.encode())
            files = {DATABASE: copy, DEPLOYMENT: Path(name) / DEPLOYMENT}
            if keys:
                files[KEY] = state_dir / KEY
                if settings_file is not None:
                    files[SETTINGS] = settings_file
            manifest = Manifest(
                format=FORMAT,
                version=__version__,
                deployment_id=deployment_id,
                created_at=now.isoformat(timespec="seconds"),
                revision=snapshot.revision_of(copy),
                digests={name: _digest(path) for name, path in files.items()},
                **snapshot.counts(copy),
            )
            written = Path(name) / "packed"
            _pack(written, json.dumps(asdict(manifest), indent=2).encode(), files, now)
            if keys:
                written = _encrypted(written, Path(name) / "encrypted", keys)
            written.chmod(0o600)
            with written.open("rb") as file:
                os.fsync(file.fileno())
            target = folder / f"{PREFIX}{deployment_id}-{now.astimezone(UTC):{STAMP}}{ENCRYPTED if keys else PLAIN}"
            written.rename(target)
    except OSError as error:
        raise StoreUnavailable(f"The backup cannot be written to {folder}: {error.strerror}.") from error
    return target


def read(path: Path, identities: Sequence[str] = ()) -> Backup:
    """A backup with every file held against its digest.

    Args:
        identities: private keys of age (`AGE-SECRET-KEY-1…`), for one that is encrypted.

    Raises:
        BackupUnusable: it is not one, is damaged, or is of a form that only a newer version of the program knows.
        StoreUnavailable: the disk has no room for its files.
    """
    try:
        if path.stat().st_size > LARGEST_BYTES:
            raise BackupUnusable(f"{path} is too large to be a backup of this program.")
        with path.open("rb") as content, room_for_a_file() as decrypted:
            if content.read(len(AGE)) == AGE:
                content.seek(0)
                _decrypt(path, content, decrypted, identities)
            return _whole(path, decrypted if decrypted.tell() else content)
    except OSError as error:
        raise BackupUnusable(f"{path} cannot be read: {error.strerror}.") from error


def _whole(path: Path, content: BinaryIO) -> Backup:
    """Raises BackupUnusable unless every file is as the manifest says."""
    content.seek(0)
    try:
        files = _unpacked(content)
        written = files.pop(MANIFEST).read()
        said = json.loads(written)
        # Before the rest: a newer form may say other things of itself.
        if isinstance(said["format"], int) and said["format"] > FORMAT:
            raise BackupUnusable(f"{path} was made by a newer version ({said['version']}); install that one first.")
        manifest = _MANIFEST.validate_json(written, strict=True)
    except (tarfile.TarError, zlib.error, OSError, EOFError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise BackupUnusable(f"{path} is not a backup of this program, or it is damaged or incomplete.") from error
    for name in {DATABASE, DEPLOYMENT, *manifest.digests}:
        if name not in files or files[name].digest != manifest.digests.get(name):
            raise BackupUnusable(f"{path} is damaged: the content of {name} was changed.")
    if files[DEPLOYMENT].read().decode("ascii", "replace").strip() != manifest.deployment_id:
        raise BackupUnusable(f"{path} is damaged: it names two deployments.")
    return Backup(manifest, {name: files[name] for name in manifest.digests})


def check_version(backup: Backup) -> None:
    """Raises BackupUnusable for one that a newer version of the program made."""
    if backup.manifest.revision not in known_revisions():
        raise BackupUnusable(
            f"The backup was made by a newer version ({backup.manifest.version}); install that one first."
        )


def restore(backup: Backup, state_dir: Path, now: datetime) -> list[str]:
    """Puts a backup in the place of what is there, which is kept beside it; nobody is signed in afterwards.

    The portal must not run. Returns what was done, in words.

    Raises:
        BackupUnusable: the database in it is damaged, or was written by a newer version of the program.
        StoreUnavailable: the state directory cannot be written; what was there is still there.
    """
    check_version(backup)
    said = []
    try:
        state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        beside = state_dir / f"before-restore-{now.astimezone(UTC):{STAMP}}"
        with tempfile.TemporaryDirectory(prefix=".restore-", dir=state_dir) as name:
            fresh = Path(name)
            for file in (DATABASE, DEPLOYMENT, KEY):
                if file in backup.files:
                    backup.files[file].write_to(fresh / file)
                    (fresh / file).chmod(0o600)
            snapshot.revision_of(fresh / DATABASE)
            ended = snapshot.end_logins_and_codes(fresh / DATABASE)
            before = [state_dir / f"{DATABASE}{end}" for end in ("", "-wal", "-shm")]
            before += [state_dir / each.name for each in fresh.iterdir() if each.name != DATABASE]
            if any(each.exists() for each in before):
                beside.mkdir(mode=0o700)
                for each in before:
                    if each.exists():
                        each.rename(beside / each.name)
                said.append(f"The previous data is in {beside}.")
            for each in sorted(fresh.iterdir()):
                each.rename(state_dir / each.name)
    except OSError as error:
        raise StoreUnavailable(f"{state_dir} cannot be written: {error.strerror}.") from error
    counts = f"{backup.manifest.users} users and {backup.manifest.instances} instances"
    said.append(f"Restored {counts}, as of {backup.manifest.created_at}.")
    said.append(f"Ended {ended} logins, codes and API tokens; everybody has to sign in again.")
    if not backup.has_secrets:
        said.append(
            "The backup contains no keys; new ones are created, and applications of running instances are restarted."
        )
    return said


def newest(folder: Path, deployment_id: str, now: datetime) -> tuple[Path, datetime] | None:
    """The newest backup of this deployment and when it was made; None: there is none.

    One from the future was made while the clock was wrong. It would stay the newest, so any other goes before it.

    Raises:
        StoreUnavailable: the folder cannot be read.
    """
    there = _backups_in(folder, deployment_id)
    made = [each for each in there if each[1] <= now] or there[:1]
    return made[-1] if made else None


def remove_old(folder: Path, deployment_id: str, keep: int, now: datetime) -> int:
    """Keeps the newest backups of this deployment, and removes the rest; returns how many went.

    Those from the future stay and do not count: either they were made while the clock was wrong, or it is wrong now,
    and what was just made must not be the oldest.

    Raises:
        StoreUnavailable: the folder cannot be read or written.
    """
    old = [path for path, made_at in _backups_in(folder, deployment_id) if made_at <= now][:-keep]
    try:
        for each in old:
            each.unlink(missing_ok=True)  # another backup may have been at it
    except OSError as error:
        raise StoreUnavailable(f"Old backups in {folder} cannot be removed: {error.strerror}.") from error
    return len(old)


def new_identity() -> str:
    """A private key of age, `AGE-SECRET-KEY-1…`."""
    return str(pyrage.x25519.Identity.generate())


def _backups_in(folder: Path, deployment_id: str) -> list[tuple[Path, datetime]]:
    """With when they were made, oldest first. What has another name is somebody else's."""
    name = re.compile(rf"{PREFIX}{re.escape(deployment_id)}-(\d{{8}}T\d{{6}}Z)\.tar\.gz(\.age)?", re.ASCII)
    found = []
    try:
        for each in folder.iterdir() if folder.is_dir() else ():
            if named := name.fullmatch(each.name):
                with suppress(ValueError):  # no such day
                    found.append((each, datetime.strptime(named[1], STAMP).replace(tzinfo=UTC)))
    except OSError as error:
        raise StoreUnavailable(f"The folder of the backups, {folder}, cannot be read: {error.strerror}.") from error
    return sorted(found, key=lambda each: (each[1], each[0].name))


def _recipient(text: str) -> pyrage.x25519.Recipient:
    try:
        return pyrage.x25519.Recipient.from_str(text)
    except pyrage.RecipientError as error:
        raise InvalidInput(f"“{text[:20]}…” is not a public key of age; it must begin with age1.") from error


def _decrypt(path: Path, content: BinaryIO, target: BinaryIO, identities: Sequence[str]) -> None:
    if not identities:
        raise BackupUnusable(f"{path} is encrypted: name the file with its private key (--identity).")
    try:
        keys = [pyrage.x25519.Identity.from_str(text) for text in identities]
        pyrage.decrypt_io(content, target, keys)
    except pyrage.IdentityError as error:
        raise BackupUnusable(
            "The identity is not a private key of age; it must begin with AGE-SECRET-KEY-1."
        ) from error
    except (pyrage.DecryptError, OSError) as error:
        if isinstance(error, OSError) and error.errno == errno.ENOSPC:
            raise no_room(error) from error
        raise BackupUnusable(
            f"{path} cannot be decrypted with the private key that was given (--identity; without it, this server's "
            "own), or it is damaged."
        ) from error


def _encrypted(source: Path, target: Path, keys: Sequence[pyrage.x25519.Recipient]) -> Path:
    with source.open("rb") as content, target.open("wb") as written:
        pyrage.encrypt_io(content, written, keys)
    return target


@contextmanager
def _alone(state_dir: Path) -> Iterator[None]:
    """One backup of a state directory at a time; a second one waits. The folder may be remote, and is not locked."""
    descriptor = os.open(state_dir, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _unpacked(content: BinaryIO) -> dict[str, HeldFile]:
    """The files by their names, which lead nowhere. Raises ValueError when they would fill the disk."""
    files, room = {}, LARGEST_BYTES
    with tarfile.open(fileobj=content, mode="r:gz") as tar:
        for member in tar:
            room -= member.size
            if room < 0:
                raise ValueError("the contents are too large")
            if member.isreg() and (held := tar.extractfile(member)) is not None:
                files[member.name] = HeldFile(cast(BinaryIO, held))
    return files


def _pack(target: Path, manifest: bytes, files: Mapping[str, Path], now: datetime) -> None:
    with tarfile.open(target, mode="w:gz", compresslevel=6) as tar:
        _add(tar, MANIFEST, len(manifest), io.BytesIO(manifest), now)
        for name, path in files.items():
            with path.open("rb") as content:
                _add(tar, name, os.fstat(content.fileno()).st_size, content, now)


def _add(tar: tarfile.TarFile, name: str, size: int, content: BinaryIO, now: datetime) -> None:
    member = tarfile.TarInfo(name)
    member.size, member.mode, member.mtime = size, 0o600, int(now.timestamp())
    tar.addfile(member, content)


def _digest(path: Path) -> str:
    with path.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()
