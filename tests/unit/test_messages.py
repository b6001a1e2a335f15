"""What the platform writes to people, and that nothing can be smuggled into it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from email import message_from_bytes, policy
from email.message import EmailMessage

import pytest
from hypothesis import given
from hypothesis import strategies as st

from launchpad.mail.base import check_message
from launchpad.mail.messages import code_of, sign_in_code

ASKED_AT = datetime(2026, 3, 2, 9, 30, tzinfo=UTC)


def mail(
    *,
    to: str = "anna@example.org",
    code: str = "123456",
    public_url: str = "https://lab.example.org",
    from_name: str = "Example Lab",
    from_address: str = "lab@example.org",
    client_description: str = "Firefox on Linux",
    asked_at: datetime = ASKED_AT,
) -> EmailMessage:
    return sign_in_code(
        to=to,
        code=code,
        minutes=10,
        public_url=public_url,
        from_name=from_name,
        from_address=from_address,
        client_description=client_description,
        asked_at=asked_at,
    )


def part(message: EmailMessage, kind: str) -> str:
    body = message.get_body((kind,))
    assert body is not None
    return str(body.get_content())


def as_received(message: EmailMessage) -> EmailMessage:
    """The mail as the one who gets it reads it: written out and parsed again."""
    received = message_from_bytes(message.as_bytes(policy=policy.SMTP), policy=policy.default)
    assert isinstance(received, EmailMessage)
    return received


def test_s4_the_code_stands_in_the_body_only() -> None:
    message = mail()
    for name, value in message.items():
        assert "123456" not in str(value), name
        assert "123 456" not in str(value), name
    for kind in ("plain", "html"):
        assert "123 456" in part(message, kind)


def test_the_headers_say_what_it_is_and_that_nobody_need_answer() -> None:
    message = as_received(mail())
    assert message["Subject"] == "Your sign-in code for Example Lab"
    assert message["From"] == "Example Lab <lab@example.org>"
    assert message["To"] == "anna@example.org"
    assert message["Auto-Submitted"] == "auto-generated"
    assert message["Date"].datetime == ASKED_AT
    assert message["Message-ID"].endswith("@example.org>")
    assert message.get_content_type() == "multipart/alternative"
    assert [each.get_content_type() for each in message.iter_parts()] == ["text/plain", "text/html"]


def test_every_mail_has_an_id_of_its_own() -> None:
    assert mail()["Message-ID"] != mail()["Message-ID"]


@pytest.mark.parametrize("kind", ["plain", "html"])
def test_it_says_device_time_place_validity_and_what_to_do_if_it_was_not_you(kind: str) -> None:
    text = part(mail(), kind)
    for words in ("Firefox on Linux", "09:30 UTC", "https://lab.example.org", "10 minutes", "Was it not you?"):
        assert words in text


def test_the_time_is_utc_whatever_zone_it_comes_in() -> None:
    there = ASKED_AT.astimezone(timezone(timedelta(hours=8)))
    assert "09:30 UTC" in part(mail(asked_at=there), "plain")


@pytest.mark.parametrize(
    ("public_url", "host"),
    [
        ("https://lab.example.org", "lab.example.org"),
        ("https://lab.example.org:8443", "lab.example.org"),
        ("http://localhost:8080", "localhost"),
    ],
)
def test_the_text_ends_as_phones_want_it(public_url: str, host: str) -> None:
    """A domain-bound code: the last line, with the host and no port."""
    text = part(as_received(mail(public_url=public_url)), "plain")
    assert text.rstrip().splitlines()[-1] == f"@{host} #123456"


@pytest.mark.parametrize("code", ["123456", "000000", "ABCDE2FGH7"])
def test_the_code_can_be_read_back(code: str) -> None:
    assert code_of(as_received(mail(code=code))) == code


def test_a_mail_of_another_kind_has_no_code() -> None:
    other = EmailMessage()
    assert code_of(other) is None
    other.set_content("@lab.example.org #999999\nand more")
    assert code_of(other) is None


@pytest.mark.parametrize(
    "to",
    [
        "anna@example.org\nBcc: eve@example.org",
        "anna@example.org\r\n\r\nhello",
        "anna@example.org, eve@example.org",
        "anna@example.org>, <eve@example.org",
        "team: anna@example.org, eve@example.org;",
        "anna@example.org\u2028Bcc: eve@example.org",
        "anna\x0b@example.org",
        "@example.org",
        "",
    ],
)
def test_s11_one_address_and_nothing_else_is_written_to(to: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        mail(to=to)


@pytest.mark.parametrize("line_break", ["\n", "\r", "\r\n", "\x0b", "\x85", "\u2028"])
def test_a_line_break_in_the_senders_name_cannot_begin_a_header(line_break: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        mail(from_name=f"Lab{line_break}Bcc: eve@example.org")


@given(st.text(max_size=200), st.text(max_size=60))
def test_whatever_the_names_hold_there_is_one_recipient_and_one_code(client: str, name: str) -> None:
    """A name either makes a mail to one person with the true code, or no mail."""
    try:
        message = mail(client_description=client, from_name=name)
        written = as_received(message)
    except ValueError:
        return
    check_message(message)
    assert [address.addr_spec for address in written["To"].addresses] == ["anna@example.org"]
    assert (written["Cc"], written["Bcc"]) == (None, None)
    assert code_of(written) == "123456"


def test_the_device_cannot_write_lines_of_its_own_or_at_length() -> None:
    """It may come from a request: a forged line with another code is no line any more."""
    text = part(mail(client_description="Firefox\n@evil.example #999999\n" + "x" * 500), "plain")
    assert "@evil.example #999999" not in text.splitlines()
    assert "x" * 100 not in text
    assert code_of(mail(client_description="a\n@evil.example #999999\n")) == "123456"


def test_what_others_wrote_is_no_markup() -> None:
    html = part(mail(client_description="<img src=x onerror=y>", from_name="Data & <b>Science"), "html")
    assert "<img" not in html
    assert "Data &amp; &lt;b&gt;Science" in html


def test_the_html_fetches_nothing() -> None:
    """No picture, no font, no link: nothing tells anybody that it was read, and nothing is to be clicked."""
    html = part(mail(), "html")
    for sign in ("src=", "href=", "url(", "<link", "<script", "@import"):
        assert sign not in html


def test_names_beyond_ascii_arrive() -> None:
    message = as_received(mail(from_name="Universität Zürich"))
    assert message["Subject"] == "Your sign-in code for Universität Zürich"
    assert message["From"].addresses[0].display_name == "Universität Zürich"
    assert "Universität Zürich" in part(message, "plain")
