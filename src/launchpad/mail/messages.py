"""What the platform writes to people."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email.errors import HeaderParseError
from email.headerregistry import Address
from email.message import EmailMessage
from email.utils import format_datetime, make_msgid
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import jinja2

from ..domain.times import label, zone_of

BOUND_CODE = re.compile(r"@\S+ #(\S+)")  # the last line of the text
LONGEST_DESCRIPTION = 80


@cache
def _templates() -> jinja2.Environment:
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=jinja2.select_autoescape(("html.j2",)),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def sign_in_code(
    *,
    to: str,
    code: str,
    minutes: int,
    public_url: str,
    from_name: str,
    from_address: str,
    client_description: str,
    asked_at: datetime,
    help_url: str = "",
    help_contact: str = "",
) -> EmailMessage:
    """The mail with a sign-in code, in plain text and HTML; the code stands in neither subject nor header.

    The text ends in `@host #code`, which lets phones offer the code for this host only (domain-bound codes, WICG).

    Args:
        to: one address. `from_name`, `from_address`: the sender.
        minutes: how long the code works, to be told.
        public_url: where the reader asked for it; its host is the one the code is bound to.
        client_description: the device in the reader's words; line breaks in it become blanks, and it is cut at 80
            characters, since it may come from a request.
        asked_at: an aware instant, shown as hours and minutes in UTC.
        help_url, help_contact: where people find help, if set.

    Raises:
        ValueError: a line break in an address or a name, or not exactly one address in `to`.
    """
    message = _message(f"Your sign-in code for {from_name}", to, from_name, from_address, asked_at)
    return _filled(
        message,
        "sign_in_code",
        name=from_name,
        help_url=help_url,
        help_contact=help_contact,
        code=code,
        minutes=minutes,
        public_url=public_url,
        host=urlsplit(public_url).hostname or "",
        client=" ".join(client_description.split())[:LONGEST_DESCRIPTION],
        asked_at=f"{asked_at.astimezone(UTC):%H:%M} UTC",
    )


def passkey_added(
    *,
    to: str,
    name: str,
    public_url: str,
    from_name: str,
    from_address: str,
    added_at: datetime,
    time_zone: str | None = None,
    help_url: str = "",
    help_contact: str = "",
) -> EmailMessage:
    """Tells the owner of an account that it has another way in, when in their time zone, if it is known.

    Arguments and errors as above.
    """
    added = added_at.astimezone(zone_of(time_zone))
    message = _message(f"A passkey was added to your account at {from_name}", to, from_name, from_address, added_at)
    return _filled(
        message,
        "notice",
        name=from_name,
        help_url=help_url,
        help_contact=help_contact,
        lines=[
            f"A passkey was added to your account: “{name}”.",
            "Everybody who has that device and can unlock it can now sign in as you without a code.",
        ],
        small=[
            f"Added on {added:%-d %B %Y, %H:%M} {label(added)} at {public_url}",
            "Didn't add it? Sign in, remove the passkey and sign out everywhere, both under Account, and tell your "
            "administrators.",
        ],
    )


def probe_mail(
    *,
    to: str,
    public_url: str,
    from_name: str,
    from_address: str,
    sent_at: datetime,
    help_url: str = "",
    help_contact: str = "",
) -> EmailMessage:
    """What `launchpad doctor mail` sends. Arguments and errors as above."""
    message = _message(f"Test e-mail from {from_name}", to, from_name, from_address, sent_at)
    return _filled(
        message,
        "notice",
        name=from_name,
        help_url=help_url,
        help_contact=help_contact,
        lines=[f"This e-mail shows that {from_name} at {public_url} can write to you."],
        small=["An administrator sent it with “launchpad doctor mail”. There is nothing to do."],
    )


def report(
    *,
    to: str,
    subject: str,
    lines: Sequence[str],
    public_url: str,
    from_name: str,
    from_address: str,
    sent_at: datetime,
    help_url: str = "",
    help_contact: str = "",
) -> EmailMessage:
    """What the platform tells an administrator by itself; `lines` become paragraphs. The rest and errors as above."""
    return notice(
        to=to,
        subject=subject,
        lines=lines,
        small=[f"Sent by {from_name} at {public_url}, because you are one of its administrators."],
        from_name=from_name,
        from_address=from_address,
        sent_at=sent_at,
        help_url=help_url,
        help_contact=help_contact,
    )


@dataclass(frozen=True)
class EndNotice:
    """What a mail says of one instance; with a link, what it is for."""

    title: str
    lines: tuple[str, ...]
    link: str = ""
    link_label: str = ""


def ends(
    *,
    to: str,
    subject: str,
    notices: Sequence[EndNotice],
    time_zone: str | None,
    public_url: str,
    from_name: str,
    from_address: str,
    sent_at: datetime,
    help_url: str = "",
    help_contact: str = "",
) -> EmailMessage:
    """Warns the owner of instances that end soon; `time_zone`: that of the times in it, if it is the owner's.

    The rest and errors as above.
    """
    message = _message(subject, to, from_name, from_address, sent_at)
    zone = f"Times are those of {time_zone}" if time_zone else "Times are in UTC"
    small = [f"{zone}; you can change that under Account.", f"Your instances: {public_url}/dashboard"]
    if any(one.link for one in notices):
        small.insert(0, "The link works without signing in, and asks before it changes anything.")
    return _filled(
        message, "ends", name=from_name, help_url=help_url, help_contact=help_contact, ends=notices, small=small
    )


def notice(
    *,
    to: str,
    subject: str,
    lines: Sequence[str],
    small: Sequence[str],
    from_name: str,
    from_address: str,
    sent_at: datetime,
    help_url: str = "",
    help_contact: str = "",
) -> EmailMessage:
    """What a user is told of their instances; `lines` and `small` become paragraphs. The rest and errors as above."""
    message = _message(f"{from_name}: {subject}", to, from_name, from_address, sent_at)
    return _filled(
        message,
        "notice",
        name=from_name,
        help_url=help_url,
        help_contact=help_contact,
        lines=list(lines),
        small=list(small),
    )


def _filled(message: EmailMessage, template: str, **values: Any) -> EmailMessage:
    """The two parts, which say the same."""
    values["subject"] = str(message["Subject"])
    message.set_content(_templates().get_template(f"{template}.txt.j2").render(values))
    message.add_alternative(_templates().get_template(f"{template}.html.j2").render(values), subtype="html")
    return message


def _message(subject: str, to: str, from_name: str, from_address: str, at: datetime) -> EmailMessage:
    """The head of a mail."""
    message = EmailMessage()
    message["Subject"] = subject
    message["From"] = _address(from_address, from_name)
    message["To"] = _address(to)
    message["Date"] = format_datetime(at)
    message["Message-ID"] = make_msgid(domain=from_address.rpartition("@")[2])
    message["Auto-Submitted"] = "auto-generated"
    return message


def _address(spec: str, name: str = "") -> Address:
    """Exactly one address.

    Raises:
        ValueError: it is none, or more than one, or holds a line break.
    """
    try:
        return Address(name, addr_spec=spec)
    except (HeaderParseError, IndexError) as error:  # what the parser of the standard library says of "" and "@b"
        raise ValueError("this is no e-mail address") from error


def code_of(message: EmailMessage) -> str | None:
    """The code in one of our mails, for the outbox's line in the terminal; None in a mail without one."""
    body = message.get_body(("plain",))
    if body is None or body.get_payload() is None:
        return None
    lines = body.get_content().rstrip().splitlines()
    found = BOUND_CODE.fullmatch(lines[-1]) if lines else None
    return found[1] if found else None
