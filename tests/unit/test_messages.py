"""What the platform writes to people, and that nothing can be smuggled into it."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, timezone
from email import message_from_bytes, policy
from email.message import EmailMessage
from html import unescape
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from launchpad.mail import messages
from launchpad.mail.base import check_message
from launchpad.mail.messages import code_of, passkey_added, probe_mail, report, sign_in_code

APP_CSS = (Path(messages.__file__).parents[1] / "web/static/app.css").read_text()
COLOURS = re.compile(r"--([a-z-]+): light-dark\((#[0-9a-f]{6}, #[0-9a-f]{6})\)")
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


class _Seen(HTMLParser):
    """The text of an HTML part as it is read, by paragraphs and cells, without the mark."""

    def __init__(self) -> None:
        super().__init__()
        self.texts: list[str] = []
        self._skipping = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in ("style", "title") or dict(attrs).get("aria-hidden") == "true":
            self._skipping = tag
        if tag in ("p", "td", "br"):
            self.texts.append("")

    def handle_endtag(self, tag: str) -> None:
        if tag == self._skipping:
            self._skipping = ""

    def handle_data(self, data: str) -> None:
        if not self._skipping and self.texts:
            self.texts[-1] += data


def seen(html: str) -> list[str]:
    reader = _Seen()
    reader.feed(html)
    return [words for text in reader.texts if (words := " ".join(text.split()))]


HELP = {"help_url": "https://help.example.org/lab", "help_contact": "Room 2.14"}
COMMON: dict[str, Any] = {
    "to": "anna@example.org",
    "public_url": "https://lab.example.org",
    "from_name": "Example Lab",
    "from_address": "lab@example.org",
}
EVERY_MAIL = {
    "code": lambda more: sign_in_code(
        **COMMON, **more, code="519230", minutes=10, client_description="Firefox on Linux", asked_at=ASKED_AT
    ),
    "passkey": lambda more: passkey_added(**COMMON, **more, name="my <laptop>", added_at=ASKED_AT),
    "report": lambda more: report(
        **COMMON, **more, subject="backup drill failed", lines=["The disk is full.", "Look at it."], sent_at=ASKED_AT
    ),
    "test": lambda more: probe_mail(**COMMON, **more, sent_at=ASKED_AT),
}


@pytest.mark.parametrize("more", [{}, HELP], ids=["plain", "with help"])
@pytest.mark.parametrize("which", EVERY_MAIL)
def test_text_and_html_say_the_same(which: str, more: dict[str, str]) -> None:
    message = as_received(EVERY_MAIL[which](more))
    text = part(message, "plain").rstrip()
    if which == "code":
        text = text.removesuffix("@lab.example.org #519230")
    assert " ".join(text.split()) == " ".join(seen(part(message, "html")))
    for words in more.values():
        assert words in text


@pytest.mark.parametrize("which", EVERY_MAIL)
def test_every_mail_wears_the_platforms_look_in_tables_that_outlook_keeps_and_in_the_dark(which: str) -> None:
    html = part(EVERY_MAIL[which]({}), "html")
    assert html.count('<table role="presentation"') >= 3
    assert html.count("<table") == html.count('<table role="presentation"'), "for the looks, not read out as tables"
    assert "<div" not in html
    assert "prefers-color-scheme: dark" in html
    assert '<meta name="color-scheme" content="light dark">' in html
    for name in ("paper", "surface", "accent", "ink"):
        for colour in dict(COLOURS.findall(APP_CSS))[name].split(", "):
            assert colour in html, f"{name} as on the pages"


@pytest.mark.parametrize("which", EVERY_MAIL)
def test_no_mail_fetches_anything(which: str) -> None:
    html = part(EVERY_MAIL[which]({}), "html")
    for sign in ("src=", "href=", "url(", "<link", "<script", "@import"):
        assert sign not in html
    with_help = part(EVERY_MAIL[which](HELP), "html")
    assert re.findall(r'(?:src|href)="([^"]*)"', with_help) == [HELP["help_url"]], "the one link is the institute's"


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
        assert "123456" in part(message, kind)


@pytest.mark.parametrize("code", ["519230", "ABCDE2FGH7"])
def test_the_code_is_one_word_so_that_a_double_click_takes_all_of_it(code: str) -> None:
    message = as_received(mail(code=code))
    assert code in [line.strip() for line in part(message, "plain").splitlines()]
    assert code in seen(part(message, "html"))
    assert f">{code}<" in part(message, "html"), "nothing stands between its signs"


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
    text = " ".join((text if kind == "plain" else unescape(text)).split())
    for words in (
        "Firefox on Linux",
        "09:30 UTC",
        "https://lab.example.org",
        "10 minutes",
        "Didn't request this? Ignore this e-mail",
    ):
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


@pytest.mark.slow
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
