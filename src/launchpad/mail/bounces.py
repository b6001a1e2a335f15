"""Reports of undelivered mail (delivery status notifications, RFC 3464), as mail servers and Amazon SES send them.

What is read here was written by strangers, so little is: the head, the boundary it names, and of the parts the one
with the delivery status. Nothing is parsed in depth, and nothing in a message can make this raise.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from ..domain.mail import find_status
from ..domain.signin import normalise_address

REPORT_BYTES = 256 * 1024  # what is read of a message; the delivery status comes before the mail it is about
PARTS = 10
RECIPIENTS = 5  # a report about a mail of ours has one

_BLANK_LINE = re.compile(rb"\n[ \t]*\n")
_BOUNDARY = re.compile(r"""boundary\s*=\s*(?:"([^"]{1,70})"|([^\s;"]{1,70}))""", re.IGNORECASE)
_DIAGNOSTIC = re.compile(r"\s*[\w-]{1,40}\s*;\s*(?:\d{3}[ -])?(.*)", re.DOTALL)


@dataclass(frozen=True)
class Bounce:
    """A recipient that a mail did not reach.

    Attributes:
        addresses: what the recipient is called, normalised: as the sender wrote it where the report tells, then as
            the last server did (after forwarding another one). At least one.
        status: the enhanced status code, where there is a sensible one.
    """

    addresses: tuple[str, ...]
    status: str | None


def read_bounces(message: bytes) -> list[Bounce]:
    """The recipients that a message reports as failed; none when it is no such report. Never raises."""
    head, body = _halves(message[:REPORT_BYTES].replace(b"\r\n", b"\n"))
    content_type = _fields(head).get("content-type", "")
    boundary = _BOUNDARY.search(content_type)
    if not content_type.lower().startswith("multipart/report") or boundary is None:
        return []
    delimiter = b"\n--" + (boundary[1] or boundary[2]).encode("ascii", "replace")
    for part in (b"\n" + body).split(delimiter, PARTS)[1:]:
        part_head, status = _halves(part.partition(b"\n")[2])
        kind = _fields(part_head).get("content-type", "").lower()
        if kind.startswith(("message/delivery-status", "message/global-delivery-status")):
            return _failed(status)
    return []


def _failed(status: bytes) -> list[Bounce]:
    found = []
    for block in _BLANK_LINE.split(status.strip(b"\n"), 2 * RECIPIENTS):
        fields = _fields(block)
        if not fields.get("action", "").lower().startswith("failed"):
            continue
        names = (_address(fields.get(name, "")) for name in ("original-recipient", "final-recipient"))
        addresses = tuple(dict.fromkeys(name for name in names if name is not None))
        if addresses:
            found.append(Bounce(addresses, _status(fields)))
    return found[:RECIPIENTS]


def _status(fields: dict[str, str]) -> str | None:
    """That of the field; where it only says "failed" (5.0.0), what the last server's answer begins with."""
    status = find_status(fields.get("status", ""))
    if status is None or status.endswith(".0.0"):
        said = _DIAGNOSTIC.match(fields.get("diagnostic-code", ""))
        status = (find_status(said[1]) if said else None) or status
    return status if status and status[0] in "45" else None


def _address(field: str) -> str | None:
    """Of "rfc822; alice@example.org"."""
    text = field.partition(";")[2] or field
    try:
        return normalise_address(text.strip().removeprefix("<").removesuffix(">"))
    except ValueError:
        return None


def _halves(entity: bytes) -> tuple[bytes, bytes]:
    """Head and body, which a blank line parts; a body alone begins with it."""
    if entity.startswith(b"\n"):
        return b"", entity[1:]
    found = _BLANK_LINE.search(entity)
    return (entity[: found.start()], entity[found.end() :]) if found else (entity, b"")


def _fields(head: bytes) -> dict[str, str]:
    """Fields by their names in small letters, unfolded; of several with one name, the first."""
    unfolded = re.sub(r"\n[ \t]+", " ", head.decode("ascii", "replace"))
    fields: dict[str, str] = {}
    for line in unfolded.split("\n"):
        name, colon, value = line.partition(":")
        if colon:
            fields.setdefault(name.strip().lower(), value.strip())
    return fields
