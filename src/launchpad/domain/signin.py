"""Sign-in by e-mail: addresses, codes, challenges, logins."""

from __future__ import annotations

import hashlib
import hmac
import secrets
import unicodedata
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from email_validator import EmailNotValidError, validate_email

CODE_DIGITS = 6
ADDRESS_MAX = 254  # RFC 5321, 4.5.3.1.3 less the angle brackets


def normalise_address(text: str) -> str:
    """One person's address in one spelling: surrounding blanks off, all of it in lower case, plain ASCII.

    A plus-address (`alice+lab@…`) stays another address than `alice@…`: whether the two reach the same mailbox is
    the mail server's business. No mail server in use tells `Alice@` from `alice@`, so case does not make two people.

    Raises:
        ValueError: it is no address a code can be sent to; the text says why.
    """
    address = text.strip()
    if len(address) > ADDRESS_MAX:
        raise ValueError("that address is longer than an e-mail address can be")
    if not address.isascii() or not address.isprintable():
        raise ValueError("write the address in plain letters, digits and the usual signs")
    try:
        valid = validate_email(address, check_deliverability=False, allow_smtputf8=False, allow_quoted_local=False)
    except EmailNotValidError:
        raise ValueError("that does not look like an e-mail address; it should be like name@institute.edu") from None
    # `normalized` would turn an xn-- domain into its look-alike letters; codes are sent to what was checked.
    return (valid.ascii_email or address).lower()


def domain_allowed(address: str, allowed_domains: tuple[str, ...]) -> bool:
    """Whether the part behind the @ is exactly one of `allowed_domains`; an empty tuple allows every domain."""
    return not allowed_domains or address.rpartition("@")[2] in {domain.lower() for domain in allowed_domains}


def new_code() -> str:
    return f"{secrets.randbelow(10**CODE_DIGITS):0{CODE_DIGITS}d}"


def normalise_code(text: str) -> str:
    """The code without the blanks and dashes people copy or type with it, its signs in their plain form.

    Full-width digits, as input methods for Chinese and Japanese type them, are the same digits; so are other scripts'.
    """
    plain = "".join(_plain_digit(sign) for sign in unicodedata.normalize("NFKC", text[:200]))
    return "".join(sign for sign in plain if not _is_between_digits(sign))[:64].upper()


def _plain_digit(sign: str) -> str:
    """“٣” is 3: what Unicode calls a decimal digit has a value."""
    value = unicodedata.decimal(sign, None)
    return sign if value is None else str(value)


def _is_between_digits(sign: str) -> bool:
    """Blanks, dashes of every width, and what is invisible (a copied zero-width space, a mark of direction)."""
    return sign.isspace() or sign == "\u2212" or unicodedata.category(sign) in ("Pd", "Cf", "Cc")


def code_digest(key: bytes, challenge_id: str, code: str) -> str:
    """What the store keeps of a code: an HMAC bound to its challenge, under a key kept outside the database."""
    return hmac.new(key, f"code:{challenge_id}:{code}".encode(), hashlib.sha256).hexdigest()


def new_secret() -> str:
    """256 random bits, URL-safe."""
    return secrets.token_urlsafe(32)


def secret_digest(secret: str) -> str:
    """What the store keeps of a random secret (256 bits need no salt and no slow hash)."""
    return hashlib.sha256(secret.encode()).hexdigest()


class ChallengeState(StrEnum):
    """What the browser that a code was asked for in may know about it; the same for every address."""

    LIVE = "live"
    EXPIRED = "expired"
    OUT_OF_TRIES = "out-of-tries"
    USED = "used"


@dataclass(frozen=True)
class SignInChallenge:
    """A code that was sent, and the browser it was asked for in. A suspended user's looks alike, and no code fits."""

    id: str
    address: str
    cookie_digest: str
    code_digest: str
    attempts: int
    created_at: datetime
    expires_at: datetime
    used_at: datetime | None = None

    def state(self, attempts_allowed: int, now: datetime) -> ChallengeState:
        if self.used_at is not None:
            return ChallengeState.USED
        if self.expires_at <= now:
            return ChallengeState.EXPIRED
        return ChallengeState.LIVE if self.attempts < attempts_allowed else ChallengeState.OUT_OF_TRIES


@dataclass(frozen=True)
class Login:
    """A browser that is signed in."""

    id: str
    user_id: str
    created_at: datetime
    last_seen_at: datetime
    expires_at: datetime
    remembered: bool
    client: str
    user_agent: str
    fresh_at: datetime  # when its user last showed who they are, or administered within the time that allows


@dataclass(frozen=True)
class ApiToken:
    """A personal API token, without its secret."""

    id: str
    user_id: str
    name: str
    created_at: datetime
    last_used_at: datetime | None
