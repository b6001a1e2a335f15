"""How paths of files, whose names are bytes, are said in addresses and in JSON.

Inside, a path is a text in which bytes that are no UTF-8 are surrogates, as Python has names of files. It is addressed
by its percent-encoded bytes; where it is only shown, what is no UTF-8 becomes a replacement character.
"""

from __future__ import annotations

import os
from urllib.parse import parse_qsl, quote, unquote_to_bytes

FIELDS_MAX = 1100
SAFE = "/-._~!$'()*,;:@"


def encoded(path: str) -> str:
    """To be put behind `path=` as it is."""
    return quote(os.fsencode(path), safe=SAFE)


def decoded(path: str) -> str:
    """Of what `encoded` gave; other characters stay what they are."""
    return os.fsdecode(unquote_to_bytes(path))


def shown(path: str) -> str:
    return os.fsencode(path).decode("utf-8", "replace")


def is_text(path: str) -> bool:
    """Whether all of it is UTF-8."""
    return not any("\ud800" <= character <= "\udfff" for character in path)


def joined(folder: str, name: str) -> str:
    return f"{folder.strip('/')}/{name}".strip("/")


def in_query(query: bytes, name: str) -> list[str]:
    """The paths that a query names, whatever their bytes are.

    Raises:
        ValueError: it has more fields than any of ours.
    """
    text = query.decode("latin-1")
    pairs = parse_qsl(text, keep_blank_values=True, errors="surrogateescape", max_num_fields=FIELDS_MAX)
    return [value for key, value in pairs if key == name]


def download_header(name: str, *, inline: bool = False) -> str:
    """A Content-Disposition (RFC 6266) with the name as it is, and in ASCII for those who read no other."""
    plain = "".join(one if " " <= one <= "~" and one not in '"\\%' else "_" for one in shown(name)) or "file"
    kind = "inline" if inline else "attachment"
    return f"{kind}; filename=\"{plain}\"; filename*=UTF-8''{quote(shown(name), safe='')}"
