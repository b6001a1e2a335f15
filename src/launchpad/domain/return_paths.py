"""Where somebody wanted to go before they had to sign in or be let in, as the value of a query parameter.

On the way an address is put into an address several times, and percent-encoding makes it up to three times as long each
time: 8 kB would not fit any more. So what would grow long is compressed and written in signs that need no encoding.
The address itself carries it: nothing is stored for visitors whom nobody knows, and a restart forgets nothing.
"""

from __future__ import annotations

import zlib
from base64 import urlsafe_b64decode, urlsafe_b64encode
from urllib.parse import quote

LINK_MAX = 16 * 1024  # characters of a path inside an instance that is come back to
RETURN_PATH_MAX = 32 * 1024  # of any path, such as one of the portal that holds the other
SHORT = 1000  # characters that are sent as they are, percent-encoded
_MARK = "~"  # a path begins with a slash


def as_parameter(path: str) -> str:
    """`path` as it stands in a query, to be read with `from_parameter`."""
    plain = quote(path, safe="")
    if len(plain) <= SHORT:
        return plain
    packed = urlsafe_b64encode(zlib.compress(path.encode(), 9)).decode().rstrip("=")
    return _MARK + packed


def from_parameter(text: str) -> str:
    """The path in a parameter's decoded value; a plain one is taken as it is.

    Raises:
        ValueError: it is packed, and no such path comes out.
    """
    if not text.startswith(_MARK):
        return text
    unpacking = zlib.decompressobj()
    try:
        packed = urlsafe_b64decode(text[1:] + "=" * (-len(text[1:]) % 4))
        path = unpacking.decompress(packed, RETURN_PATH_MAX + 1).decode()
    except (zlib.error, ValueError) as error:  # UnicodeDecodeError and binascii.Error are ValueErrors
        raise ValueError("no packed path") from error
    if not unpacking.eof or len(path) > RETURN_PATH_MAX:
        raise ValueError("a packed path that is too long, or cut short")
    return path
