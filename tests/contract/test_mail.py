"""What `mail/base.py` promises, held against the outbox and against real SMTP servers."""

from __future__ import annotations

import asyncio
import socket
import ssl
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email import message_from_bytes, policy
from email.message import EmailMessage, Message
from ipaddress import IPv4Address
from pathlib import Path
from time import monotonic
from typing import Any, Literal

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from launchpad.errors import MailUnavailable
from launchpad.mail.base import Mailer, Step
from launchpad.mail.messages import sign_in_code
from launchpad.mail.outbox import Outbox
from launchpad.mail.smtp import SmtpMailer
from launchpad.settings import MailSettings
from support.ports import free_ports
from support.talking import Talker

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
    """An SMTP server that keeps mails, and who sent them how; it answers sender, recipient and DATA as told."""

    def __init__(
        self, answer: str = "250 kept", recipient_answer: str = "250 fine", sender_answer: str = "250 fine"
    ) -> None:
        self.mails: list[tuple[list[str], Message]] = []
        self.authenticated: list[bool] = []
        self.answer = answer
        self.recipient_answer = recipient_answer
        self.sender_answer = sender_answer

    async def handle_MAIL(  # noqa: N802 - aiosmtpd's
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        envelope.mail_from = address
        return self.sender_answer

    async def handle_RCPT(  # noqa: N802 - aiosmtpd's
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        if self.recipient_answer.startswith("250"):
            envelope.rcpt_tos.append(address)
        return self.recipient_answer

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802 - aiosmtpd's
        assert isinstance(envelope.content, bytes)
        if self.answer.startswith("250"):
            self.mails.append((envelope.rcpt_tos, message_from_bytes(envelope.content)))
            self.authenticated.append(bool(session.authenticated))
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

    def start(
        security: str = "none",
        *,
        answer: str = "250 kept",
        recipient_answer: str = "250 fine",
        sender_answer: str = "250 fine",
        trusted: bool = True,
    ) -> tuple[Server, MailSettings]:
        server, port = Server(answer, recipient_answer, sender_answer), free_ports(1)[0]
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
    assert b"123456" in mail.as_bytes(policy=policy.SMTP)


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


async def test_the_outbox_is_for_its_owner_only_and_says_the_code(tmp_path: Path) -> None:
    said: list[str] = []
    await Outbox(tmp_path, announce=lambda message: said.append(str(message["To"]))).send(mail_to())
    (path,) = tmp_path.glob("*.eml")
    assert path.stat().st_mode & 0o777 == 0o600
    assert said == ["anna@example.org"]


async def test_the_outbox_makes_its_folder_for_its_owner_only(tmp_path: Path) -> None:
    await Outbox(tmp_path / "outbox", announce=lambda message: None).send(mail_to())
    assert (tmp_path / "outbox").stat().st_mode & 0o777 == 0o700


async def test_the_outbox_shows_recipient_and_code_in_the_terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    await Outbox(tmp_path).send(mail_to())
    other = mail_to()
    other.clear_content()
    other.set_content("Nothing to see.")
    other.replace_header("Subject", "Something else")
    await Outbox(tmp_path).send(other)
    shown = capsys.readouterr()
    assert shown.err.splitlines() == ["  ✉  anna@example.org: code 123456", "  ✉  anna@example.org: Something else"]
    assert shown.out == ""


async def test_a_terminal_that_is_gone_does_not_lose_the_mail(tmp_path: Path) -> None:
    def gone(message: EmailMessage) -> None:
        raise BrokenPipeError

    await Outbox(tmp_path, announce=gone).send(mail_to())
    assert len(list(tmp_path.glob("*.eml"))) == 1


async def test_an_outbox_that_cannot_be_written_is_unavailable(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for place in (tmp_path / "missing" / "outbox", tmp_path / "file"):
        mailer = Outbox(place, announce=lambda message: None)
        for work in (mailer.send(mail_to()), mailer.check()):
            with pytest.raises(MailUnavailable) as refused:
                await work
            assert not refused.value.permanent


async def test_a_full_disk_leaves_no_half_mail_in_the_outbox(tmp_path: Path) -> None:
    """And the next one is written when there is room again."""
    outbox = tmp_path / "outbox"
    outbox.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(outbox)], check=True)
    try:
        (outbox / "filler").write_bytes(b"x" * 64 * 1024)
        mailer = Outbox(outbox, announce=lambda message: None)
        with pytest.raises(MailUnavailable):
            await mailer.send(mail_to())
        assert [path.name for path in outbox.iterdir()] == ["filler"]
        (outbox / "filler").unlink()
        await mailer.send(mail_to())
        assert len(list(outbox.glob("*.eml"))) == 1
    finally:
        subprocess.run(["umount", str(outbox)], check=True)


@pytest.mark.parametrize("security", ["starttls", "tls"])
async def test_it_logs_in(start_server: StartServer, security: str) -> None:
    server, settings = start_server(security)
    await SmtpMailer(settings).send(mail_to())
    assert server.authenticated == [True]


@pytest.mark.parametrize("security", ["starttls", "tls"])
async def test_a_wrong_password_is_permanent(start_server: StartServer, security: str) -> None:
    server, settings = start_server(security)
    wrong = SmtpMailer(MailSettings.model_validate(settings.model_dump() | {"password": "not this one"}))
    for work in (wrong.check(), wrong.send(mail_to())):
        with pytest.raises(MailUnavailable) as refused:
            await work
        assert refused.value.permanent
        assert (refused.value.step, refused.value.reply) == (Step.LOG_IN, 535)
        assert refused.value.mail_status == "5.7.8"
        assert not refused.value.recipient_refused
    assert server.mails == []


@pytest.mark.parametrize(("answer", "permanent"), [("451 later", False), ("554 never", True)])
async def test_f6_a_refusal_is_ours_to_tell(start_server: StartServer, answer: str, permanent: bool) -> None:
    """4xx may be tried again, 5xx not; none of the server's words are in the error."""
    _, settings = start_server("none", answer=f"{answer} secret-host-name")
    with pytest.raises(MailUnavailable) as refused:
        await SmtpMailer(settings).send(mail_to())
    assert refused.value.permanent is permanent
    assert (refused.value.step, refused.value.reply) == (Step.MESSAGE, int(answer[:3]))
    assert "secret-host-name" not in refused.value.detail


@pytest.mark.parametrize(("answer", "permanent"), [("450 busy", False), ("550 nobody here", True)])
async def test_f6_a_refused_recipient_is_ours_to_tell(start_server: StartServer, answer: str, permanent: bool) -> None:
    server, settings = start_server("none", recipient_answer=f"{answer} secret-host-name")
    with pytest.raises(MailUnavailable) as refused:
        await SmtpMailer(settings).send(mail_to())
    assert refused.value.permanent is permanent
    assert (refused.value.step, refused.value.reply) == (Step.RECIPIENT, int(answer[:3]))
    assert "secret-host-name" not in refused.value.detail
    assert server.mails == []


async def test_a_refused_sender_is_ours_to_tell(start_server: StartServer) -> None:
    _, settings = start_server("none", sender_answer="553 secret-host-name")
    with pytest.raises(MailUnavailable) as refused:
        await SmtpMailer(settings).send(mail_to())
    assert (refused.value.permanent, refused.value.step, refused.value.reply) == (True, Step.SENDER, 553)
    assert "secret-host-name" not in refused.value.detail


@pytest.mark.parametrize(
    ("answer", "status", "recipient_refused"),
    [
        ("550 5.1.1 <anna@example.org> nobody here", "5.1.1", True),
        ("552 5.2.2 over quota", "5.2.2", True),
        ("450 4.2.0 greylisted", "4.2.0", True),
        ("550 nobody here", None, False),
        ("554 5.7.1 relay access denied", "5.7.1", False),
        ("550 4.1.1 of two minds", None, False),
        ("550 see 5.1.1 in the manual", None, False),
    ],
)
async def test_the_status_code_of_a_refused_recipient_is_kept(
    start_server: StartServer, answer: str, status: str | None, recipient_refused: bool
) -> None:
    """That relaying is denied is said of a recipient, and means everybody."""
    _, settings = start_server("none", recipient_answer=answer)
    with pytest.raises(MailUnavailable) as refused:
        await SmtpMailer(settings).send(mail_to())
    assert refused.value.mail_status == status
    assert refused.value.recipient_refused is recipient_refused


async def test_the_status_code_of_a_refused_mail_is_kept(start_server: StartServer) -> None:
    _, settings = start_server("none", answer="550 5.7.23 SPF does not allow it")
    with pytest.raises(MailUnavailable) as refused:
        await SmtpMailer(settings).send(mail_to())
    assert refused.value.mail_status == "5.7.23"
    assert not refused.value.recipient_refused


async def test_without_starttls_nothing_is_sent(start_server: StartServer) -> None:
    """It never falls back to plain text."""
    server, settings = start_server("none")
    with pytest.raises(MailUnavailable) as refused:
        await SmtpMailer(settings.model_copy(update={"security": "starttls"})).send(mail_to())
    assert refused.value.step == Step.TLS
    assert server.mails == []


@pytest.mark.parametrize("security", ["starttls", "tls"])
async def test_a_certificate_nobody_signed_is_refused(start_server: StartServer, security: str) -> None:
    server, settings = start_server(security, trusted=False)
    with pytest.raises(MailUnavailable) as refused:
        await SmtpMailer(settings).send(mail_to())
    assert refused.value.step == Step.TLS
    assert server.mails == []


async def test_nobody_there(tmp_path: Path) -> None:
    settings = MailSettings(host="127.0.0.1", port=free_ports(1)[0], security="none", timeout_seconds=1)
    with pytest.raises(MailUnavailable) as refused:
        await SmtpMailer(settings).send(mail_to())
    assert not refused.value.permanent
    assert (refused.value.step, refused.value.reply) == (Step.CONNECT, None)


@pytest.mark.parametrize("kind", ["missing", "no certificate", "a directory"])
async def test_certificates_that_cannot_be_read_make_mail_unavailable(
    start_server: StartServer, tmp_path: Path, kind: str
) -> None:
    """An error of ours, so that whoever sends mails in the background goes on."""
    server, settings = start_server("starttls")
    place = tmp_path / "ca.pem"
    if kind == "no certificate":
        place.write_text("nothing of the kind")
    elif kind == "a directory":
        place.mkdir()
    mailer = SmtpMailer(settings.model_copy(update={"ca_file": place}))
    for work in (mailer.send(mail_to()), mailer.check()):
        with pytest.raises(MailUnavailable) as refused:
            await work
        assert not refused.value.permanent
    assert server.mails == []


# -- servers that stop in the middle -----------------------------------------------------------------------------------


@dataclass
class Script(Talker):
    """Talks as an SMTP server does until the named step, and then says nothing more or hangs up.

    The steps are `banner` and the client's commands; `.` is the end of the mail's text.
    """

    stops_at: str
    then: Literal["hangs", "hangs up"]
    seen: list[str] = field(default_factory=list)

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        step, answer, in_text = "banner", "220 here", False
        while True:
            if step == self.stops_at:
                if self.then == "hangs":
                    await reader.read()
                return
            if answer:
                writer.write(f"{answer}\r\n".encode())
                await writer.drain()
            line = (await reader.readline()).decode().rstrip("\r\n")
            if in_text and line != ".":
                step, answer = "text", ""
                continue
            step = (line.split() or [""])[0].upper()
            if not step:
                return
            self.seen.append(step)
            in_text = step == "DATA"
            answer = {"DATA": "354 go on", "QUIT": "221 bye"}.get(step, "250 fine")


async def scripted(script: Script) -> tuple[asyncio.Server, MailSettings]:
    server = await asyncio.start_server(script, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    return server, MailSettings(host="127.0.0.1", port=port, security="none", timeout_seconds=0.3)


@pytest.mark.parametrize("then", ["hangs", "hangs up"])
@pytest.mark.parametrize("step", ["banner", "EHLO", "MAIL", "RCPT", "DATA", "."])
async def test_f6_a_server_that_stops_at_any_step_is_given_up_in_time(
    step: str, then: Literal["hangs", "hangs up"]
) -> None:
    """Not for good: it may be there again a moment later."""
    script = Script(step, then)
    server, settings = await scripted(script)
    began = monotonic()
    with pytest.raises(MailUnavailable) as refused:
        await SmtpMailer(settings).send(mail_to())
    assert monotonic() - began < 4 * settings.timeout_seconds + 2
    assert not refused.value.permanent
    assert step == "banner" or step in script.seen
    server.close()
    await server.wait_closed()


@pytest.mark.parametrize(
    ("security", "answers"),
    [
        ("tls", []),
        ("starttls", [b"220 here\r\n", b"250-fine\r\n250 STARTTLS\r\n"]),
        ("starttls", [b"220 here\r\n", b"250-fine\r\n250 STARTTLS\r\n", b"220 go on\r\n"]),
    ],
    ids=["implicit TLS", "asked for TLS", "in the handshake"],
)
async def test_f6_a_server_that_hangs_on_the_way_to_tls_is_given_up_in_time(
    security: str, answers: list[bytes]
) -> None:
    heard: list[bytes] = []

    async def answer_and_hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for answer in answers:
            writer.write(answer)
            heard.append(await reader.read(4096))
        while more := await reader.read(4096):
            heard.append(more)
        writer.close()

    server = await asyncio.start_server(answer_and_hang, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    settings = MailSettings.model_validate(
        {"host": "127.0.0.1", "port": port, "security": security, "timeout_seconds": 0.3}
        | {"username": NAME, "password": PASSWORD}
    )
    began = monotonic()
    with pytest.raises(MailUnavailable) as refused:
        await SmtpMailer(settings).send(mail_to())
    assert monotonic() - began < 4 * settings.timeout_seconds + 2
    assert not refused.value.permanent
    assert not any(word in b"".join(heard) for word in (b"AUTH", b"MAIL FROM", b"123456")), "nothing goes in the clear"
    server.close()
    await server.wait_closed()


@pytest.mark.parametrize("then", ["hangs", "hangs up"])
async def test_an_accepted_mail_is_not_refused_for_a_bad_goodbye(then: Literal["hangs", "hangs up"]) -> None:
    """It would be sent twice."""
    script = Script("QUIT", then)
    server, settings = await scripted(script)
    began = monotonic()
    await SmtpMailer(settings).send(mail_to())
    assert monotonic() - began < 3
    assert script.seen == ["EHLO", "MAIL", "RCPT", "DATA", ".", "QUIT"]
    server.close()
    await server.wait_closed()


async def test_a_server_that_drips_is_given_up_in_all() -> None:
    """Every single step is in time; the whole is not."""

    async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            writer.write(b"220-here\r\n")
            while not writer.is_closing():
                writer.write(b"220-and\r\n")
                await writer.drain()
                await asyncio.sleep(0.1)
        except ConnectionError:
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(drip, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    settings = MailSettings(host="127.0.0.1", port=port, security="none", timeout_seconds=0.3)
    began = monotonic()
    with pytest.raises(MailUnavailable):
        await SmtpMailer(settings).send(mail_to())
    assert monotonic() - began < 4 * settings.timeout_seconds + 2
    server.close()
    await server.wait_closed()


async def test_a_server_that_does_not_even_take_the_connection_is_given_up_in_time() -> None:
    """Its queue of connections is full, as behind a firewall that drops everything."""
    with socket.socket() as listening, ExitStack() as filling:
        listening.bind(("127.0.0.1", 0))
        listening.listen(0)
        for _ in range(4):
            waiting = filling.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(listening.getsockname())
        port = listening.getsockname()[1]
        settings = MailSettings(host="127.0.0.1", port=port, security="none", timeout_seconds=0.3)
        began = monotonic()
        with pytest.raises(MailUnavailable) as refused:
            await SmtpMailer(settings).send(mail_to())
        assert monotonic() - began < 4 * settings.timeout_seconds + 2
        assert not refused.value.permanent
