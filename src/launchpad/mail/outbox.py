"""Mail without a server: files in the outbox, and a word in the terminal."""

from __future__ import annotations

import asyncio
import os
import secrets
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from email import policy
from email.message import EmailMessage
from pathlib import Path

from ..errors import MailUnavailable
from .base import check_message
from .messages import code_of


def print_code(message: EmailMessage) -> None:
    """Shows the one who watches the terminal what a mail to somebody would have said."""
    code = code_of(message)
    what = f"code {code}" if code else str(message["Subject"])
    print(f"  ✉  {message['To']}: {what}", file=sys.stderr, flush=True)


class Outbox:
    """Writes `<folder>/<time>-<random>.eml`, readable to the owner of the process only."""

    def __init__(self, folder: Path, announce: Callable[[EmailMessage], None] = print_code) -> None:
        self._folder = folder
        self._announce = announce

    async def send(self, message: EmailMessage) -> None:
        check_message(message)
        try:
            await asyncio.to_thread(self._write, message)
        except OSError as error:
            raise MailUnavailable("The mail could not be written to the outbox.") from error
        self._announce(message)

    async def check(self) -> None:
        if not await asyncio.to_thread(os.access, self._folder, os.W_OK):
            raise MailUnavailable(f"The outbox {self._folder} cannot be written.")

    def _write(self, message: EmailMessage) -> None:
        name = f"{datetime.now(UTC):%Y%m%dT%H%M%S.%f}-{secrets.token_hex(4)}.eml"
        beside = self._folder / f".{name}"
        descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(message.as_bytes(policy=policy.SMTP))
        beside.rename(self._folder / name)
