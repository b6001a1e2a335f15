"""What passkeys need of py_webauthn. Loaded at the first ceremony: it takes 15 MB, and many portals never see one."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import structlog
from webauthn import (
    generate_authentication_options,
    generate_registration_options,
    options_to_json,
    verify_authentication_response,
    verify_registration_response,
)
from webauthn.authentication.verify_authentication_response import VerifiedAuthentication
from webauthn.helpers import base64url_to_bytes, bytes_to_base64url
from webauthn.helpers.exceptions import WebAuthnException
from webauthn.helpers.structs import (
    AuthenticatorSelectionCriteria,
    PublicKeyCredentialDescriptor,
    ResidentKeyRequirement,
    UserVerificationRequirement,
)
from webauthn.registration.verify_registration_response import VerifiedRegistration

from ..domain.passkeys import Passkey
from ..domain.users import User

log = structlog.get_logger(__name__)

encoded = bytes_to_base64url


def options_to_add(host: str, user: User, challenge: bytes, known: Sequence[Passkey]) -> dict[str, Any]:
    """What the browser is handed to make a passkey (JSON)."""
    options = generate_registration_options(
        rp_id=host,
        rp_name="Data-Science Launchpad",
        user_id=user.id.encode(),
        user_name=user.email,
        user_display_name=user.email,
        challenge=challenge,
        authenticator_selection=AuthenticatorSelectionCriteria(
            resident_key=ResidentKeyRequirement.REQUIRED,
            user_verification=UserVerificationRequirement.REQUIRED,
        ),
        exclude_credentials=[_descriptor(passkey) for passkey in known],
    )
    return _as_json(options)


def options_to_use(host: str, challenge: bytes, known: Sequence[Passkey]) -> dict[str, Any]:
    """What the browser is handed to use one (JSON)."""
    options = generate_authentication_options(
        rp_id=host,
        challenge=challenge,
        allow_credentials=[_descriptor(passkey) for passkey in known],
        user_verification=UserVerificationRequirement.REQUIRED,
    )
    return _as_json(options)


def made(credential: dict[str, Any], challenge: bytes, host: str, origin: str) -> VerifiedRegistration | None:
    """What the device made; None: the answer does not fit what was asked."""
    try:
        return verify_registration_response(
            credential=credential,
            expected_challenge=challenge,
            expected_rp_id=host,
            expected_origin=origin,
            require_user_verification=True,
        )
    except (WebAuthnException, ValueError, KeyError) as error:
        log.warning("passkey.refused", error=str(error))
        return None


def used(
    credential: dict[str, Any], challenge: bytes, host: str, origin: str, passkey: Passkey
) -> VerifiedAuthentication | None:
    """That the passkey was used; None: the answer does not fit what was asked."""
    try:
        return verify_authentication_response(
            credential=credential,
            expected_challenge=challenge,
            expected_rp_id=host,
            expected_origin=origin,
            credential_public_key=passkey.public_key,
            credential_current_sign_count=passkey.sign_count,
            require_user_verification=True,
        )
    except (WebAuthnException, ValueError, KeyError) as error:
        log.warning("passkey.refused", error=str(error))
        return None


def _descriptor(passkey: Passkey) -> PublicKeyCredentialDescriptor:
    return PublicKeyCredentialDescriptor(id=base64url_to_bytes(passkey.credential_id))


def _as_json(options: Any) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(options_to_json(options))
    return found
