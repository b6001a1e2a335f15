"""The state directory: keys that live outside the database, and the deployment's id."""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import re
import secrets
from pathlib import Path

from ..domain.naming import new_id
from ..errors import StoreUnavailable

DEPLOYMENT_ID = r"[0-9a-hjkmnp-tv-z]{8}"


class StateDir:
    """Opens `path`, making it (0700) and its keys (0600) at the first use.

    Raises:
        StoreUnavailable: it cannot be made, read or written; the text names the path.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
            for name in ("run", "outbox"):
                (path / name).mkdir(mode=0o700, exist_ok=True)
            self._given: set[bytes] = set()
            self._key = bytes.fromhex(_read_or_make(path / "secret.key", secrets.token_hex(32)))
            self.deployment_id = _read_or_make(path / "deployment-id", new_id()[:8])
        except (OSError, ValueError) as error:
            raise StoreUnavailable(f"The state directory {path} cannot be used: {error}") from error

    def key(self, purpose: str) -> bytes:
        """A 256-bit key for one purpose, derived from the deployment's secret."""
        derived = hmac.new(self._key, purpose.encode(), hashlib.sha256).digest()
        self._given.add(derived)
        return derived

    def text_key(self, name: str, fresh: str) -> str:
        """A key in a form of its own, kept in a file of that name (0600): `fresh` at the first use.

        Raises:
            StoreUnavailable: the file cannot be made or read.
        """
        try:
            return _read_or_make(self.path / name, fresh)
        except (OSError, ValueError) as error:
            raise StoreUnavailable(f"The key {self.path / name} cannot be used: {error}") from error

    def secrets(self) -> tuple[str, ...]:
        """The deployment's secret and the keys given out of it, in the forms in which a text could hold them."""
        keys = (self._key, *self._given)
        return tuple(form for key in keys for form in (key.hex(), base64.b64encode(key).decode()))

    @property
    def outbox(self) -> Path:
        return self.path / "outbox"

    @property
    def run(self) -> Path:
        return self.path / "run"


class HelperState:
    """What the privileged helper remembers, where only root writes (0755: instances read the certificates in it).

    Raises:
        StoreUnavailable: it cannot be made, or somebody else could write in it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            path.mkdir(mode=0o755, parents=True, exist_ok=True)
            state = path.lstat()
        except OSError as error:
            raise StoreUnavailable(f"The helper's directory {path} cannot be used: {error}") from error
        if state.st_uid != os.geteuid() or state.st_mode & 0o022:
            raise StoreUnavailable(f"The helper's directory {path} is writable for others; it must belong to root.")

    def deployment_id_of(self, portal_state: Path) -> str:
        """The deployment's id as the portal had it at the first start; what it says later changes nothing.

        Raises:
            StoreUnavailable: the portal has none yet.
        """
        own = self.path / "deployment-id"
        try:
            return (
                own.read_text(encoding="ascii") if own.exists() else _read_or_make(own, _deployment_id_in(portal_state))
            )
        except (OSError, ValueError) as error:
            raise StoreUnavailable(f"The deployment's id in {portal_state} cannot be read yet: {error}") from error

    def take_over(self, deployment_id: str) -> None:
        """Believes another id from now on: that of a deployment which root has brought here from a backup."""
        if not re.fullmatch(DEPLOYMENT_ID, deployment_id):
            raise StoreUnavailable("This is not a deployment's id.")
        beside = self.path / ".deployment-id"
        beside.write_text(deployment_id, encoding="ascii")
        beside.chmod(0o600)
        beside.rename(self.path / "deployment-id")


def _deployment_id_in(portal_state: Path) -> str:
    # The portal's user can put anything there: a link is not followed, and nothing but an id is taken.
    descriptor = os.open(portal_state / "deployment-id", os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as file:
        text = file.read(64).decode("ascii").strip()
    if not re.fullmatch(DEPLOYMENT_ID, text):
        raise ValueError("it is not a deployment's id")
    return text


def _read_or_make(path: Path, value: str) -> str:
    """The file's text; of processes that start at once, one makes it and all read the same.

    Raises:
        ValueError: the file is shorter than `value`, so it was cut short or emptied.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    if not path.exists():
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(value)
            file.flush()
            os.fsync(file.fileno())  # a power cut must not leave an empty key behind
        try:
            os.link(temporary, path)
        except FileExistsError:
            pass
        finally:
            temporary.unlink()
    text = path.read_text(encoding="ascii").strip()
    if len(text) < len(value):
        raise ValueError(f"{path.name} is incomplete; restore it from a backup")
    return text
