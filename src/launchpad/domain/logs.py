"""An application's output made fit to be kept and shown: bounded, readable, without our secrets. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable

KEPT_LINES = 200
KEPT_BYTES = 32 * 1024
MASK = "[hidden]"
FAILURES = 3  # a supervisor starts anew what fails; once or twice may be chance
LINE_LOOKED_AT = 2000  # characters

# Terminals' escape sequences: CSI (colours, cursor), OSC (titles, links) up to BEL or ST, and those of two characters.
_ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[@-Z\\-_])")
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")


def cleaned(text: str, secrets: Iterable[str] = ()) -> str:
    """The last `KEPT_LINES` lines, at most `KEPT_BYTES` of UTF-8, as plain text.

    What a terminal would have overwritten (progress bars) is left out, and so are escape sequences, control characters
    and marks that turn the direction of writing.

    Args:
        secrets: texts that are masked wherever they stand.
    """
    lines = _ESCAPES.sub("", text).replace("\r\n", "\n").split("\n")
    plain = "\n".join(_CONTROLS.sub("", line.rstrip("\r").rpartition("\r")[2]) for line in lines)
    for secret in sorted(filter(None, secrets), key=len, reverse=True):
        plain = plain.replace(secret, MASK)
    return _end_of("\n".join(plain.strip("\n").split("\n")[-KEPT_LINES:]))


def _end_of(text: str) -> str:
    """As many whole lines from the end as fit; of one that is longer than all, its end."""
    encoded = text.encode(errors="replace")
    if len(encoded) > KEPT_BYTES:
        encoded = encoded[-KEPT_BYTES:]
        _, cut, rest = encoded.partition(b"\n")
        encoded = rest if cut and rest else encoded
    text = encoded.decode(errors="ignore").strip("\n")
    return f"{text}\n" if text else ""


def fails_repeatedly(text: str, patterns: Iterable[str]) -> bool:
    """Whether `FAILURES` lines match one and the same of these regular expressions."""
    lines = [line[:LINE_LOOKED_AT] for line in text.splitlines()]
    return any(sum(1 for line in lines if re.search(pattern, line)) >= FAILURES for pattern in patterns)
