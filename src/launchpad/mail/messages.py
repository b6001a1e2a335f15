"""What the platform writes to people."""

from __future__ import annotations

import re
from datetime import datetime
from email.headerregistry import Address
from email.message import EmailMessage
from email.utils import format_datetime, make_msgid
from functools import cache
from pathlib import Path
from urllib.parse import urlsplit

import jinja2

CODE_HEADER_FREE = re.compile(r"^@\S+ #(\S+)$", re.MULTILINE)


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
) -> EmailMessage:
    """The mail with a sign-in code, in plain text and HTML; the code stands in neither subject nor header.

    The text ends in `@host #code`, which lets phones offer the code for this host only (domain-bound codes, WICG).

    Raises:
        ValueError: a line break in an address or a name.
    """
    host = urlsplit(public_url).hostname or ""
    values = {
        "code": code,
        "shown_code": f"{code[:3]} {code[3:]}" if len(code) == 6 else code,
        "minutes": minutes,
        "public_url": public_url,
        "host": host,
        "name": from_name,
        "client": client_description,
        "asked_at": f"{asked_at:%H:%M} UTC",
    }
    message = EmailMessage()
    message["Subject"] = f"Your sign-in code for {from_name}"
    message["From"] = Address(from_name, addr_spec=from_address)
    message["To"] = Address(addr_spec=to)
    message["Date"] = format_datetime(asked_at)
    message["Message-ID"] = make_msgid(domain=from_address.rpartition("@")[2])
    message["Auto-Submitted"] = "auto-generated"
    message.set_content(_templates().get_template("sign_in_code.txt.j2").render(values))
    message.add_alternative(_templates().get_template("sign_in_code.html.j2").render(values), subtype="html")
    return message


def code_of(message: EmailMessage) -> str | None:
    """The code in one of our mails, for the outbox's line in the terminal."""
    body = message.get_body(("plain",))
    found = CODE_HEADER_FREE.search(body.get_content()) if body is not None else None
    return found[1] if found else None
