"""The mailbox for bounces over IMAP. Loaded only where one is set."""

from __future__ import annotations

import asyncio
import imaplib
import logging
import socket
import ssl
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from time import monotonic
from typing import Any, TypeVar

import structlog
from imapclient import SEEN, IMAPClient
from imapclient.exceptions import IMAPClientAbortError, IMAPClientError
from imapclient.imap4 import IMAP4WithTimeout
from imapclient.tls import IMAP4_TLS

from ..errors import MailboxUnavailable
from ..settings import MailSettings
from . import mailbox
from .bounces import REPORT_BYTES
from .mailbox import Batch, Letter, Mark

log = structlog.get_logger(__name__)

T = TypeVar("T")

STEPS_IN_ALL = 4  # as for SMTP: the whole may take as long as four slow steps
READING_STEPS = 2  # after as long as two, what has been read so far is enough for this time
REPORT_TYPE = "multipart/report"

logging.getLogger("imapclient").setLevel(logging.WARNING)  # below that it logs what is sent, a password among it


class ImapMailbox:
    """A connection each time, in a thread, since IMAPClient waits.

    `timeout_seconds` of the mail settings bounds each step, four times as much the whole; a connection that takes
    longer is cut, so that its thread ends, too.
    """

    def __init__(self, settings: MailSettings) -> None:
        self._mail = settings
        self._settings = settings.bounces

    async def reports(self, after: Mark | None) -> Batch:
        until = monotonic() + self._mail.timeout_seconds * READING_STEPS
        return await self._in_thread(lambda folder: _reports(folder, after, until))

    async def mark_seen(self, batch: Batch, uids: Sequence[int]) -> None:
        if uids:
            await self._in_thread(lambda folder: _mark_seen(folder, batch.mark.validity, uids))

    async def _in_thread(self, work: Callable[[_Folder], T]) -> T:
        connection = _Connection()
        seconds = self._mail.timeout_seconds * STEPS_IN_ALL
        try:
            async with asyncio.timeout(seconds):
                return await asyncio.to_thread(self._run, connection, work)
        except TimeoutError as error:
            log.warning("imap.too_slow", host=self._settings.host, seconds=seconds)
            raise MailboxUnavailable("The mailbox for bounces did not answer in time.") from error
        finally:
            connection.cut()

    # -- in a thread -------------------------------------------------------------------------------------------------

    def _run(self, connection: _Connection, work: Callable[[_Folder], T]) -> T:
        settings = self._settings
        try:
            with self._opened(connection) as folder:
                return work(folder)
        # ValueError: what the server said is not IMAP, or a log-in has signs in it that the protocol cannot carry.
        except (IMAPClientError, OSError, ValueError) as error:
            log.warning("imap.failed", host=settings.host, error=_without_password(repr(error), self._password))
            raise MailboxUnavailable("The mailbox for bounces could not be read.") from error

    @contextmanager
    def _opened(self, connection: _Connection) -> Iterator[_Folder]:
        """Connected, logged in, with the folder open for reading and writing."""
        settings = self._settings
        tls = settings.security == "tls"
        client = _Client(
            connection,
            settings.host,
            settings.port,
            ssl=tls,
            ssl_context=self._tls() if tls else None,
            timeout=self._mail.timeout_seconds,
        )
        try:
            if settings.security == "starttls":
                client.starttls(self._tls())  # a server without it is refused
                connection.hold(client.socket())
            if client.has_capability("AUTH=PLAIN"):
                client.plain_login(settings.username, self._password)
            else:
                client.login(_quoted(settings.username), self._password)
            selected = client.select_folder(settings.folder)
            yield _Folder(client, int(selected.get(b"UIDVALIDITY", 0)))
            with suppress(IMAPClientError, OSError):  # the work is done; a failure here changes nothing
                client.logout()
        finally:
            with suppress(OSError):
                client.shutdown()

    @property
    def _password(self) -> str:
        return self._settings.password.get_secret_value() if self._settings.password else ""

    def _tls(self) -> ssl.SSLContext:
        """The system's certificates and `mail.ca_file`.

        Raises:
            OSError: that file cannot be read or holds no certificates.
        """
        context = ssl.create_default_context()
        if self._mail.ca_file is not None:
            context.load_verify_locations(cafile=self._mail.ca_file)
        return context


class _Connection:
    """Lets the event loop cut what a thread waits for."""

    def __init__(self) -> None:
        self._socket: socket.socket | None = None
        self._is_cut = False

    def hold(self, held: socket.socket) -> None:
        """Raises TimeoutError when nobody waits for it any more."""
        self._socket = held
        if self._is_cut:
            self.cut()
            raise TimeoutError("cancelled before it was connected")

    def cut(self) -> None:
        self._is_cut = True
        if self._socket is not None:
            with suppress(OSError):  # it is closed already
                self._socket.shutdown(socket.SHUT_RDWR)


class _Client(IMAPClient):  # type: ignore[misc]  # ships no types
    """Can be cut from its first moment on; the library's constructor waits for the server's greeting."""

    def __init__(self, connection: _Connection, host: str, port: int, **arguments: Any) -> None:
        self._connection = connection
        super().__init__(host, port, **arguments)

    def _create_IMAP4(self) -> imaplib.IMAP4:  # noqa: N802 - the library's name
        connection = self._connection

        class Held(IMAP4_TLS if self.ssl else IMAP4WithTimeout):  # type: ignore[misc]
            def open(self, *arguments: Any, **named: Any) -> None:
                super().open(*arguments, **named)
                connection.hold(self.socket())

        timeout = self._timeout.connect
        where = (self.host, self.port, self.ssl_context, timeout) if self.ssl else (self.host, self.port, timeout)
        held: imaplib.IMAP4 = Held(*where)
        return held


@dataclass(frozen=True)
class _Folder:
    """An open folder, and what its numbers belong to."""

    client: IMAPClient
    validity: int


def _reports(folder: _Folder, after: Mark | None, until: float) -> Batch:
    """`until` is an instant of the monotonic clock."""
    read = after.uid if after and after.validity == folder.validity else 0
    # "n:*" is never empty: it holds the last message, whatever its number.
    found = folder.client.search(["UNSEEN", "UID", f"{read + 1}:*", "HEADER", "Content-Type", REPORT_TYPE])
    letters: list[Letter] = []
    refused: IMAPClientError | None = None
    for uid in sorted(uid for uid in found if uid > read)[: mailbox.LETTERS]:
        if letters and monotonic() > until:
            break
        read = uid
        try:
            answer = folder.client.fetch([uid], [f"BODY.PEEK[]<0.{REPORT_BYTES}>"])
        except IMAPClientAbortError:  # the connection is of no use any more
            raise
        except IMAPClientError as error:
            refused = error
            log.warning("imap.message_refused", uid=uid)
            continue
        content = next((part for name, part in answer.get(uid, {}).items() if name.startswith(b"BODY[")), None)
        if content is not None:  # else it was deleted meanwhile
            letters.append(Letter(uid, content[:REPORT_BYTES]))
    if refused is not None and not letters:  # it may be the server, and not the message
        raise refused
    return Batch(tuple(letters), Mark(folder.validity, read))


def _mark_seen(folder: _Folder, validity: int, uids: Sequence[int]) -> None:
    if folder.validity == validity:  # else the numbers are other mails' now
        folder.client.add_flags(uids, [SEEN], silent=True)


def _quoted(text: str) -> str:
    """A user name for LOGIN, which the library quotes the password of only."""
    return '"' + text.replace("\\", r"\\").replace('"', r"\"") + '"'


def _without_password(text: str, password: str) -> str:
    """For the log: some servers repeat what they were sent."""
    return text.replace(password, "…") if password else text
