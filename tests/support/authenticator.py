"""A passkey device in software: ES256, no attestation, its user always verified (WebAuthn 2, 6)."""

from __future__ import annotations

import hashlib
import json
import secrets
from base64 import urlsafe_b64encode
from typing import Any

import cbor2
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

PRESENT, VERIFIED, ATTESTED = 0x01, 0x04, 0x40


def base64url(data: bytes) -> str:
    return urlsafe_b64encode(data).rstrip(b"=").decode()


class Device:
    """Makes one passkey and signs with it; the arguments say what it claims, truly or not."""

    def __init__(self, origin: str, rp_id: str = "localhost") -> None:
        self.origin = origin
        self.rp_id = rp_id
        self.credential_id = secrets.token_bytes(32)
        self.sign_count = 0
        self._key = ec.generate_private_key(ec.SECP256R1())

    def _client_data(self, kind: str, challenge: str) -> bytes:
        said = {"type": kind, "challenge": challenge, "origin": self.origin, "crossOrigin": False}
        return json.dumps(said).encode()

    def _data(self, flags: int, attested: bytes = b"") -> bytes:
        head = hashlib.sha256(self.rp_id.encode()).digest()
        return head + bytes([flags]) + self.sign_count.to_bytes(4, "big") + attested

    def make(self, options: dict[str, Any], *, verified: bool = True) -> dict[str, Any]:
        """The answer to `navigator.credentials.create`, as the page's script writes it."""
        numbers = self._key.public_key().public_numbers()
        key = {1: 2, 3: -7, -1: 1, -2: numbers.x.to_bytes(32, "big"), -3: numbers.y.to_bytes(32, "big")}
        attested = bytes(16) + len(self.credential_id).to_bytes(2, "big") + self.credential_id + cbor2.dumps(key)
        flags = PRESENT | ATTESTED | (VERIFIED if verified else 0)
        statement = {"fmt": "none", "attStmt": {}, "authData": self._data(flags, attested)}
        return self._answer(
            {
                "clientDataJSON": base64url(self._client_data("webauthn.create", options["challenge"])),
                "attestationObject": base64url(cbor2.dumps(statement)),
            }
        )

    def sign(self, options: dict[str, Any], *, verified: bool = True) -> dict[str, Any]:
        """The answer to `navigator.credentials.get`."""
        self.sign_count += 1
        data = self._data(PRESENT | (VERIFIED if verified else 0))
        client_data = self._client_data("webauthn.get", options["challenge"])
        signature = self._key.sign(data + hashlib.sha256(client_data).digest(), ec.ECDSA(hashes.SHA256()))
        return self._answer(
            {
                "clientDataJSON": base64url(client_data),
                "authenticatorData": base64url(data),
                "signature": base64url(signature),
                "userHandle": None,
            }
        )

    def _answer(self, response: dict[str, Any]) -> dict[str, Any]:
        text = base64url(self.credential_id)
        return {"id": text, "rawId": text, "type": "public-key", "response": response}
