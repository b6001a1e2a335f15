"""Mails as they may lie in a database: encrypted and bound to their row, since one can hold a sign-in code."""

from __future__ import annotations

import secrets
from email import message_from_bytes, policy
from email.message import EmailMessage

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

_NONCE_BYTES = 12


def seal(key: bytes, mail_id: str, message: EmailMessage) -> bytes:
    """The whole message under AES-GCM.

    Args:
        key: 256 bits.
        mail_id: what the message is kept under; it opens under no other.
    """
    nonce = secrets.token_bytes(_NONCE_BYTES)
    return nonce + AESGCM(key).encrypt(nonce, message.as_bytes(policy=policy.default), mail_id.encode())


def unseal(key: bytes, mail_id: str, sealed: bytes) -> EmailMessage:
    """The message again.

    Raises:
        ValueError: it was sealed with another key or for another id, or is damaged.
    """
    try:
        content = AESGCM(key).decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], mail_id.encode())
    except InvalidTag:
        raise ValueError("it was encrypted with another key, or is damaged") from None
    return message_from_bytes(content, policy=policy.default)
