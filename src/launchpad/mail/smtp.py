"""Mail through an SMTP server: STARTTLS, implicit TLS or none; log-in; every step bounded in time."""

from __future__ import annotations

import asyncio
import ssl
from contextlib import suppress
from email.message import EmailMessage

import aiosmtplib
import structlog

from ..domain.mail import find_status
from ..errors import MailUnavailable
from ..settings import MailSettings
from .base import Step, check_message

log = structlog.get_logger(__name__)

STEPS_IN_ALL = 4  # connecting, TLS, log-in, message: the whole may take as long as four slow steps
GOODBYE_SECONDS = 1.0
LASTING = range(500, 600)


class SmtpMailer:
    """A connection a message: mails are rare, and a kept connection is one more thing that can be stale.

    `settings.timeout_seconds` bounds each step (connecting, one command and its answer), four times as much the whole.
    """

    def __init__(self, settings: MailSettings) -> None:
        self._settings = settings

    async def send(self, message: EmailMessage) -> None:
        check_message(message)
        await self._with_server(message)

    async def check(self) -> None:
        await self._with_server(None)

    async def _with_server(self, message: EmailMessage | None) -> None:
        settings = self._settings
        client: aiosmtplib.SMTP | None = None
        step = Step.TLS
        try:
            # Inside the `try`: a file of certificates that went missing is a mail server that cannot be used.
            client = await self._client()
            async with asyncio.timeout(settings.timeout_seconds * STEPS_IN_ALL):
                step = Step.CONNECT
                await client.connect()
                if settings.security == "starttls":
                    step = Step.TLS
                    await client.starttls()  # a server without it is refused
                if settings.username:
                    step = Step.LOG_IN
                    await client.login(settings.username, self._password())
                if message is not None:
                    step = Step.MESSAGE
                    await client.send_message(message)
            await _say_goodbye(client)
        except (aiosmtplib.SMTPException, OSError, TimeoutError) as error:
            permanent, step, status = _is_permanent(error), _step(error, step), _status_of(error)
            log.warning("smtp.failed", host=settings.host, step=step, error=repr(error), permanent=permanent)
            raise MailUnavailable(
                "The mail server did not accept the mail.",
                permanent=permanent,
                step=step,
                reply=_reply(error),
                recipient_refused=_is_about_the_recipient(error, status),
                mail_status=status,
            ) from error
        finally:
            if client is not None:
                client.close()

    async def _client(self) -> aiosmtplib.SMTP:
        settings = self._settings
        return aiosmtplib.SMTP(
            hostname=settings.host,
            port=settings.port,
            timeout=settings.timeout_seconds,
            use_tls=settings.security == "tls",
            start_tls=False,  # TLS and log-in are steps of their own
            tls_context=await asyncio.to_thread(self._tls) if settings.security != "none" else None,
        )

    def _password(self) -> str:
        return self._settings.password.get_secret_value() if self._settings.password else ""

    def _tls(self) -> ssl.SSLContext:
        """The system's certificates and `ca_file`.

        Raises:
            OSError: `ca_file` cannot be read or holds no certificates.
        """
        context = ssl.create_default_context()
        if self._settings.ca_file is not None:
            context.load_verify_locations(cafile=self._settings.ca_file)
        return context


async def _say_goodbye(client: aiosmtplib.SMTP) -> None:
    """What happens now changes nothing: the mail is the server's. A failure here would only send it twice."""
    with suppress(aiosmtplib.SMTPException, OSError, TimeoutError):
        await client.quit(timeout=GOODBYE_SECONDS)


def _status_of(error: BaseException) -> str | None:
    """The enhanced status code (RFC 2034) of the server's answer, where its class agrees with the reply code's."""
    answer = error.recipients[0] if isinstance(error, aiosmtplib.SMTPRecipientsRefused) else error
    if not isinstance(answer, aiosmtplib.SMTPResponseException):
        return None
    status = find_status(answer.message)
    if status and status[0] == str(answer.code)[0]:
        return status
    # RFC 4954, section 6: the reply code says as much for a log-in.
    return "5.7.8" if isinstance(answer, aiosmtplib.SMTPAuthenticationError) and answer.code == 535 else None


def _is_about_the_recipient(error: BaseException, status: str | None) -> bool:
    """By its code, since "relay access denied" is said of a recipient, too, and means us."""
    of_address_or_mailbox = status is not None and status.split(".")[1] in ("1", "2")
    return of_address_or_mailbox and isinstance(error, aiosmtplib.SMTPRecipientsRefused)


def _is_permanent(error: BaseException) -> bool:
    """Whether the server said 5xx, for good: a refused log-in, sender or recipient."""
    if isinstance(error, aiosmtplib.SMTPRecipientsRefused):
        return all(refused.code in LASTING for refused in error.recipients)
    return isinstance(error, aiosmtplib.SMTPResponseException) and error.code in LASTING


def _step(error: BaseException, reached: Step) -> Step:
    """The step that failed; what the library does in one call is told apart by its error."""
    if isinstance(error, aiosmtplib.SMTPSenderRefused):
        return Step.SENDER
    if isinstance(error, aiosmtplib.SMTPRecipientsRefused | aiosmtplib.SMTPRecipientRefused):
        return Step.RECIPIENT
    if isinstance(error.__cause__, ssl.SSLError):  # implicit TLS is part of connecting
        return Step.TLS
    return reached


def _reply(error: BaseException) -> int | None:
    """The number that the server answered with, if it answered."""
    if isinstance(error, aiosmtplib.SMTPRecipientsRefused):
        return error.recipients[0].code
    return error.code if isinstance(error, aiosmtplib.SMTPResponseException) else None
