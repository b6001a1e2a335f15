"""What `mail/base.py` promises, held against the outbox and against real SMTP servers."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from email import message_from_bytes, policy
from email.message import EmailMessage, Message
from ipaddress import IPv4Address
from pathlib import Path
from time import monotonic
from typing import Any

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from launchpad.errors import MailUnavailable
from launchpad.mail.base import Mailer
from launchpad.mail.messages import sign_in_code
from launchpad.mail.outbox import Outbox
from launchpad.mail.smtp import SmtpMailer
from launchpad.settings import MailSettings
from support.ports import free_ports

NAME, PASSWORD = "launchpad", "a real one"


def mail_to(address: str = "anna@example.org") -> EmailMessage:
    return sign_in_code(
        to=address,
        code="123456",
        minutes=10,
        public_url="https://lab.example.org",
        from_name="Launchpad",
        from_address="lp@example.org",
        client_description="Firefox on Linux",
        asked_at=datetime.now(UTC),
    )


class Server:
    """An SMTP server that keeps mails, wants a log-in if told so, and answers DATA as told."""

    def __init__(self, answer: str = "250 kept") -> None:
        self.mails: list[tuple[list[str], Message]] = []
        self.answer = answer

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802 - aiosmtpd's
        assert isinstance(envelope.content, bytes)
        if self.answer.startswith("250"):
            self.mails.append((envelope.rcpt_tos, message_from_bytes(envelope.content)))
        return self.answer


def authenticate(server: SMTP, session: Session, envelope: Envelope, mechanism: str, data: object) -> AuthResult:
    right = isinstance(data, LoginPassword) and data == LoginPassword(NAME.encode(), PASSWORD.encode())
    return AuthResult(success=right, handled=False)


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A certificate for 127.0.0.1 that signs itself, and its key."""
    folder = tmp_path_factory.mktemp("tls")
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(IPv4Address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    (folder / "cert.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    (folder / "key.pem").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return folder / "cert.pem", folder / "key.pem"


StartServer = Callable[..., tuple[Server, MailSettings]]


@pytest.fixture
def start_server(certificate: tuple[Path, Path]) -> Iterator[StartServer]:
    """Starts a server of a kind; the settings that reach it."""
    started: list[Controller] = []

    def start(security: str = "none", *, answer: str = "250 kept", trusted: bool = True) -> tuple[Server, MailSettings]:
        server, port = Server(answer), free_ports(1)[0]
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*certificate)
        extra: dict[str, Any] = {}
        if security == "tls":
            extra = {"ssl_context": context}
        elif security == "starttls":
            extra = {"tls_context": context, "require_starttls": True}
        if security != "none":
            # Under implicit TLS this server does not know that it is protected, and warns when it insists on a log-in.
            inside = security == "starttls"
            extra |= {"authenticator": authenticate, "auth_required": inside, "auth_require_tls": inside}
        controller = Controller(server, hostname="127.0.0.1", port=port, **extra)
        controller.start()
        started.append(controller)
        values: dict[str, object] = {
            "host": "127.0.0.1",
            "port": port,
            "security": security,
            "from_address": "lp@example.org",
            "timeout_seconds": 1,
        }
        if security != "none":
            values |= {"username": NAME, "password": PASSWORD}
        if trusted and security != "none":
            values["ca_file"] = certificate[0]
        return server, MailSettings.model_validate(values)

    yield start
    for controller in started:
        controller.stop()


@pytest.fixture(params=["outbox", "none", "starttls", "tls"])
def way(
    request: pytest.FixtureRequest, start_server: StartServer, tmp_path: Path
) -> tuple[Mailer, Callable[[], list[Message]]]:
    """Every implementation and every kind of connection; with it, what arrived."""
    if request.param == "outbox":
        kept = tmp_path / "outbox"
        kept.mkdir()

        def in_outbox() -> list[Message]:
            return [message_from_bytes(path.read_bytes()) for path in sorted(kept.glob("*.eml"))]

        return Outbox(kept, announce=lambda message: None), in_outbox
    server, settings = start_server(request.param)
    return SmtpMailer(settings), lambda: [mail for _, mail in server.mails]


Way = tuple[Mailer, Callable[[], list[Message]]]


async def test_a_mail_arrives_whole(way: Way) -> None:
    mailer, arrived = way
    message = mail_to()
    await mailer.send(message)
    (mail,) = arrived()
    assert mail["To"] == "anna@example.org"
    assert mail["Subject"] == message["Subject"]
    assert b"123 456" in mail.as_bytes(policy=policy.SMTP)


async def test_one_request_one_recipient(way: Way) -> None:
    """Two recipients, a copy, none at all: refused before anything is sent."""
    mailer, arrived = way
    two, copied, none = mail_to(), mail_to(), mail_to()
    two.replace_header("To", "a@example.org, b@example.org")
    copied["Cc"] = "b@example.org"
    del none["To"]
    for message in (two, copied, none):
        with pytest.raises(ValueError, match="exactly one recipient"):
            await mailer.send(message)
    assert arrived() == []


async def test_check_works_without_sending(way: Way) -> None:
    mailer, arrived = way
    await mailer.check()
    assert arrived() == []


def test_a_line_break_in_an_address_cannot_be_written() -> None:
    for address in ("anna@example.org\nBcc: x@example.org", "anna@example.org\r\n\r\nhello"):
        with pytest.raises(ValueError, match=r".+"):
            mail_to(address)


async def test_the_outbox_is_for_its_owner_only_and_says_the_code(tmp_path: Path) -> None:
    said: list[str] = []
    await Outbox(tmp_path, announce=lambda message: said.append(str(message["To"]))).send(mail_to())
    (path,) = tmp_path.glob("*.eml")
    assert path.stat().st_mode & 0o777 == 0o600
    assert said == ["anna@example.org"]


async def test_an_outbox_that_cannot_be_written_is_unavailable(tmp_path: Path) -> None:
    mailer = Outbox(tmp_path / "missing")
    for work in (mailer.send(mail_to()), mailer.check()):
        with pytest.raises(MailUnavailable):
            await work


@pytest.mark.parametrize(("answer", "permanent"), [("451 later", False), ("554 never", True)])
async def test_f6_a_refusal_is_ours_to_tell(start_server: StartServer, answer: str, permanent: bool) -> None:
    """4xx may be tried again, 5xx not; none of the server's words are in the error."""
    _, settings = start_server("none", answer=f"{answer} secret-host-name")
    with pytest.raises(MailUnavailable) as refused:
        await SmtpMailer(settings).send(mail_to())
    assert refused.value.permanent is permanent
    assert "secret-host-name" not in refused.value.detail


async def test_a_wrong_password_is_permanent(start_server: StartServer) -> None:
    _, settings = start_server("starttls")
    wrong = MailSettings.model_validate(settings.model_dump() | {"password": "not this one"})
    with pytest.raises(MailUnavailable) as refused:
        await SmtpMailer(wrong).check()
    assert refused.value.permanent


async def test_without_starttls_nothing_is_sent(start_server: StartServer) -> None:
    """It never falls back to plain text."""
    server, settings = start_server("none")
    with pytest.raises(MailUnavailable):
        await SmtpMailer(settings.model_copy(update={"security": "starttls"})).send(mail_to())
    assert server.mails == []


@pytest.mark.parametrize("security", ["starttls", "tls"])
async def test_a_certificate_nobody_signed_is_refused(start_server: StartServer, security: str) -> None:
    server, settings = start_server(security, trusted=False)
    with pytest.raises(MailUnavailable):
        await SmtpMailer(settings).send(mail_to())
    assert server.mails == []


async def test_nobody_there(tmp_path: Path) -> None:
    settings = MailSettings(host="127.0.0.1", port=free_ports(1)[0], security="none", timeout_seconds=1)
    with pytest.raises(MailUnavailable) as refused:
        await SmtpMailer(settings).send(mail_to())
    assert not refused.value.permanent


async def test_a_server_that_says_nothing_is_given_up_in_time() -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    server = await asyncio.start_server(silent, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    settings = MailSettings(host="127.0.0.1", port=port, security="none", timeout_seconds=0.5)
    began = monotonic()
    with pytest.raises(MailUnavailable):
        await SmtpMailer(settings).send(mail_to())
    assert monotonic() - began < 4
    server.close()
    await server.wait_closed()


def test_s4_the_code_stands_in_the_body_only() -> None:
    """Not in the subject and in no header; the text ends as phones want it."""
    message = mail_to()
    assert all("123456" not in str(value) and "123 456" not in str(value) for value in message.values())
    text = message.get_body(("plain",))
    assert text is not None
    assert text.get_content().rstrip().endswith("@lab.example.org #123456")
    assert message.get_body(("html",)) is not None
    assert message["Auto-Submitted"] == "auto-generated"
