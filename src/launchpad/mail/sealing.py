"""Mails as they may lie in a database: encrypted and bound to their row, since one can hold a sign-in code.

In the format of age, as the backups are: its library takes a fifth of the memory of OpenSSL's. The public half of the
key is kept nowhere, so only who has the key can make something that opens.
"""

from __future__ import annotations

from email import message_from_bytes, policy
from email.message import EmailMessage
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pyrage import x25519

_LETTERS = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"  # of Bech32, BIP 173
_GENERATOR = (0x3B6A57B2, 0x26508E6D, 0x1EA119FA, 0x3D4233DD, 0x2A1462B3)
_CHECKSUM_LETTERS = 6
_PREFIX = "age-secret-key-"


def seal(key: bytes, mail_id: str, message: EmailMessage) -> bytes:
    """The whole message, encrypted.

    Args:
        key: 256 bits.
        mail_id: what the message is kept under; it opens under no other.
    """
    import pyrage  # loaded with the first mail

    content = mail_id.encode() + b"\n" + message.as_bytes(policy=policy.default)
    sealed: bytes = pyrage.encrypt(content, [_identity(key).to_public()])
    return sealed


def unseal(key: bytes, mail_id: str, sealed: bytes) -> EmailMessage:
    """The message again.

    Raises:
        ValueError: it was sealed with another key or for another id, or is damaged.
    """
    import pyrage

    try:
        opened = pyrage.decrypt(sealed, [_identity(key)])
    except pyrage.DecryptError:
        raise ValueError("it was encrypted with another key, or is damaged") from None
    kept_under, _, content = opened.partition(b"\n")
    if kept_under != mail_id.encode():
        raise ValueError("it was encrypted under another id")
    return message_from_bytes(content, policy=policy.default)


@lru_cache(maxsize=2)
def _identity(key: bytes) -> x25519.Identity:
    from pyrage import x25519

    return x25519.Identity.from_str(_as_age_writes_keys(key))


def _as_age_writes_keys(key: bytes) -> str:
    """The 32 bytes in Bech32 (BIP 173), in capitals."""
    digits = [int(bits, 2) for bits in _groups_of_five(key)]
    prefix = [ord(letter) for letter in _PREFIX]
    expanded = [*(each >> 5 for each in prefix), 0, *(each & 31 for each in prefix)]
    rest = _remainder([*expanded, *digits, *[0] * _CHECKSUM_LETTERS]) ^ 1
    checksum = [(rest >> 5 * (_CHECKSUM_LETTERS - 1 - at)) & 31 for at in range(_CHECKSUM_LETTERS)]
    return f"{_PREFIX}1{''.join(_LETTERS[digit] for digit in digits + checksum)}".upper()


def _groups_of_five(key: bytes) -> list[str]:
    bits = "".join(f"{byte:08b}" for byte in key)
    bits += "0" * (-len(bits) % 5)
    return [bits[at : at + 5] for at in range(0, len(bits), 5)]


def _remainder(digits: list[int]) -> int:
    """Bech32's checksum: the remainder of a polynomial."""
    rest = 1
    for digit in digits:
        top = rest >> 25
        rest = (rest & 0x1FFFFFF) << 5 ^ digit
        for at, part in enumerate(_GENERATOR):
            rest ^= part if top >> at & 1 else 0
    return rest
