"""Mail without a server: files in the outbox, and a word in the terminal."""

from __future__ import annotations

import asyncio
import os
import re
import secrets
import stat
import sys
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from email import policy
from email.message import EmailMessage
from pathlib import Path

import structlog

from ..errors import MailUnavailable
from .base import check_message
from .messages import code_of

log = structlog.get_logger(__name__)

# `<time>-<random>.eml`, the same hidden while it is written, and the file that a check writes.
OURS = re.compile(r"\.?\d{8}T\d{6}\.\d{6}-[0-9a-f]{8}\.eml|\.probe-[0-9a-f]{8}")


def print_code(message: EmailMessage) -> None:
    """Shows the one who watches the terminal what a mail to somebody would have said.

    Raises:
        OSError: the terminal is gone.
    """
    code = code_of(message)
    what = f"code {code}" if code else str(message["Subject"])
    print(f"  ✉  {message['To']}: {what}", file=sys.stderr, flush=True)


KEPT = timedelta(days=7)


class Outbox:
    """Writes `<folder>/<time>-<random>.eml`, readable to the owner of the process only.

    Args:
        folder: made with mode 0700 when it is missing; the one above it must be there.
        announce: is told of every mail that was written; may raise OSError, which changes nothing.
    """

    def __init__(self, folder: Path, announce: Callable[[EmailMessage], None] = print_code) -> None:
        self._folder = folder
        self._announce = announce

    async def send(self, message: EmailMessage) -> None:
        check_message(message)
        try:
            await asyncio.to_thread(self._write, message)
        except OSError as error:
            log.warning("outbox.failed", folder=str(self._folder), error=str(error))
            raise MailUnavailable("The mail could not be written to the outbox.") from error
        try:
            self._announce(message)
        except OSError as error:  # the mail is written; a terminal that is gone must not make it be sent again
            log.warning("outbox.not_announced", error=str(error))

    async def check(self) -> None:
        try:
            await asyncio.to_thread(self._try)
        except OSError as error:
            log.warning("outbox.failed", folder=str(self._folder), error=str(error))
            raise MailUnavailable(f"The outbox {self._folder} is not writable.") from error

    async def prune(self, before: datetime) -> int:
        """Removes mails that were written before that instant, and what is left of any that were not written whole.

        Returns:
            How many files went.

        Raises:
            OSError: the folder cannot be read or changed.
        """
        return await asyncio.to_thread(self._prune, before.timestamp())

    # -- in a thread -------------------------------------------------------------------------------------------------

    def _try(self) -> None:
        """Writes and removes a file: to root, permissions alone would say yes on a read-only file system."""
        probe = self._new(f".probe-{secrets.token_hex(4)}")
        probe.unlink()

    def _write(self, message: EmailMessage) -> None:
        """Under a hidden name first, so that whoever watches the folder sees whole mails only."""
        name = f"{datetime.now(UTC):%Y%m%dT%H%M%S.%f}-{secrets.token_hex(4)}.eml"
        beside = self._new(f".{name}", message.as_bytes(policy=policy.SMTP))
        beside.rename(self._folder / name)

    def _prune(self, before: float) -> int:
        removed = 0
        with suppress(FileNotFoundError):  # nothing was written yet; or an administrator removes files as well
            for path in self._folder.iterdir():
                state = path.lstat()
                if OURS.fullmatch(path.name) and stat.S_ISREG(state.st_mode) and state.st_mtime < before:
                    path.unlink(missing_ok=True)
                    removed += 1
        return removed

    def _new(self, name: str, content: bytes = b"") -> Path:
        """A new file, 0600; nothing stays of one that could not be written."""
        self._folder.mkdir(mode=0o700, exist_ok=True)
        path = self._folder / name
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(content)
        except OSError:
            path.unlink()
            raise
        return path
