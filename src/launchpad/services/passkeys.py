"""Passkeys (WebAuthn): adding them when signed in, and signing in, or confirming, with a touch.

The ceremonies and their checks are py_webauthn's; here is what they are bound to. A challenge is made by the server,
kept by it for a few minutes and taken once: for signing in it belongs to a browser's cookie, else to the login. The
device has to verify its user (PIN, finger, face), since the passkey is the only factor.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta
from email.message import EmailMessage
from ipaddress import ip_address
from typing import Any
from urllib.parse import urlsplit

from sqlalchemy.ext.asyncio import AsyncConnection

from ..domain.naming import new_id
from ..domain.passkeys import PASSKEY_NAME_MAX, PASSKEYS_MAX, Passkey
from ..domain.signin import Login, new_secret, secret_digest
from ..domain.users import User
from ..errors import Conflict, InvalidInput, NotFound, WrongCode
from ..mail.messages import passkey_added
from ..settings import Settings
from ..store import audit, challenges, passkeys, users
from ..store.database import Database
from .audit import Actor
from .logins import Client, LoginService, SignedIn
from .mailing import MailQueue
from .sign_in_limits import SignInLimits

LASTS = timedelta(minutes=5)
NOTICE_LASTS = timedelta(days=1)  # how long it is of use to be told of a new passkey
NOBODY = "passkey"  # stands for the address in the record of tries: who it was is not known when one fails
UNKNOWN = "That passkey is not known here, or was removed. Sign in with a code by e-mail."


@dataclass(frozen=True)
class Asked:
    """What the page hands to the browser (`options`, JSON) and, before there is a login, the cookie it belongs to."""

    options: dict[str, Any]
    cookie: str


class PasskeyService:
    def __init__(self, database: Database, settings: Settings, logins: LoginService, mail: MailQueue) -> None:
        self._database = database
        self._settings = settings
        self._limits = SignInLimits(settings.sign_in)
        self._logins = logins
        self._outgoing = mail
        self._host = urlsplit(settings.public_url).hostname or ""

    @property
    def possible(self) -> bool:
        """Browsers want a host name, with https or on the same machine (WebAuthn 3, 5.1.2)."""
        try:
            ip_address(self._host)
        except ValueError:
            return self._settings.is_https or self._host == "localhost" or self._host.endswith(".localhost")
        return False

    async def of_user(self, user: User) -> list[Passkey]:
        async with self._database.reading() as db:
            return await passkeys.of_user(db, user.id)

    # -- adding --------------------------------------------------------------------------------------------------------

    async def ask_to_add(self, user: User, login: Login, now: datetime) -> dict[str, Any]:
        """Options for `navigator.credentials.create`.

        Raises:
            Conflict: the user has as many as there may be.
        """
        challenge = secrets.token_bytes(32)
        async with self._database.transaction() as db:
            known = await passkeys.of_user(db, user.id)
            if len(known) >= PASSKEYS_MAX:
                raise Conflict(f"You have {PASSKEYS_MAX} passkeys already. Remove one that you do not use any more.")
            await passkeys.keep_challenge(db, f"add:{login.id}", challenge, now + LASTS)
        from . import ceremonies  # when the first one is held: it takes 15 MB

        return ceremonies.options_to_add(self._host, user, challenge, known)

    async def add(
        self, user: User, login: Login, credential: dict[str, Any], name: str, actor: Actor, now: datetime
    ) -> Passkey:
        """Keeps what the device made. Its owner is told by mail.

        Raises:
            InvalidInput: a name that is none, or an answer that does not fit what was asked.
            Conflict: the user has as many as there may be, or the device's is kept already.
        """
        name = " ".join(name.split())[:PASSKEY_NAME_MAX] or "Passkey"
        async with self._database.transaction() as db:
            challenge = await passkeys.take_challenge(db, f"add:{login.id}", now)
        if challenge is None:
            raise InvalidInput("That took too long. Please try again.")
        from . import ceremonies

        made = ceremonies.made(credential, challenge, self._host, self._settings.public_url)
        if made is None:
            raise InvalidInput("The device's answer could not be used. Please try again.")
        passkey = Passkey(
            id=new_id(),
            user_id=user.id,
            credential_id=ceremonies.encoded(made.credential_id),
            public_key=made.credential_public_key,
            sign_count=made.sign_count,
            name=name,
            created_at=now,
        )
        async with self._database.transaction() as db:
            if await passkeys.by_credential(db, passkey.credential_id) is not None:
                raise Conflict("That passkey is here already.")
            if await passkeys.count(db, user.id) >= PASSKEYS_MAX:
                raise Conflict(f"You have {PASSKEYS_MAX} passkeys already. Remove one that you do not use any more.")
            await passkeys.add(db, passkey)
            await _record(db, now, actor, "passkey.added", user.email, name)
            await self._outgoing.add(db, self._notice(user, name, now), now, now + NOTICE_LASTS)
        self._outgoing.wake()
        return passkey

    def _notice(self, user: User, name: str, now: datetime) -> EmailMessage:
        return passkey_added(
            to=user.email,
            name=name,
            public_url=self._settings.public_url,
            from_name=self._settings.mail.from_name,
            from_address=self._settings.mail.from_address,
            added_at=now,
            time_zone=user.time_zone,
            help_url=self._settings.help_url,
            help_contact=self._settings.help_contact,
        )

    async def remove(self, user: User, passkey_id: str, actor: Actor, now: datetime) -> None:
        """Raises NotFound when it is not one of the user's."""
        async with self._database.transaction() as db:
            gone = await passkeys.remove(db, passkey_id, user.id)
            if gone is None:
                raise NotFound("That passkey does not exist any more.")
            await _record(db, now, actor, "passkey.removed", user.email, gone.name, actor.on(user.id))

    async def remove_all(self, user: User, actor: Actor, now: datetime) -> int:
        async with self._database.transaction() as db:
            gone = await passkeys.remove_all(db, user.id)
            await _record(db, now, actor, "passkey.removed", user.email, f"all {gone}", actor.on(user.id))
        return gone

    # -- using ---------------------------------------------------------------------------------------------------------

    async def ask_to_sign_in(self, now: datetime) -> Asked:
        """Options for `navigator.credentials.get`: any passkey of this site, so no address has to be typed."""
        cookie, challenge = new_secret(), secrets.token_bytes(32)
        async with self._database.transaction() as db:
            await passkeys.keep_challenge(db, f"in:{secret_digest(cookie)}", challenge, now + LASTS)
        return Asked(self._options_to_use(challenge, []), cookie)

    async def ask_to_confirm(self, user: User, login: Login, now: datetime) -> dict[str, Any]:
        """As above, for one of the user's own."""
        challenge = secrets.token_bytes(32)
        async with self._database.transaction() as db:
            known = await passkeys.of_user(db, user.id)
            await passkeys.keep_challenge(db, f"confirm:{login.id}", challenge, now + LASTS)
        return self._options_to_use(challenge, known)

    def _options_to_use(self, challenge: bytes, known: list[Passkey]) -> dict[str, Any]:
        from . import ceremonies

        return ceremonies.options_to_use(self._host, challenge, known)

    async def sign_in(
        self, cookie: str | None, credential: dict[str, Any], remember: bool, client: Client, now: datetime
    ) -> SignedIn:
        """Signs in the passkey's owner.

        Raises:
            WrongCode: unknown, removed, not what was asked, or its owner may not sign in: the same text for all.
            TooManyRequests: too many tries failed there.
        """
        user: User | None = None
        async with self._database.transaction() as db:
            passkey = await self._evaluate(db, f"in:{secret_digest(cookie or '')}", credential, client, now)
            user = await users.by_id(db, passkey.user_id) if passkey else None
            if user is not None and user.is_active:
                return await self._logins.open(db, user, remember, client, now, by="passkey")
            await self._record_refusal(db, user, client, now)
        raise WrongCode(UNKNOWN)

    async def confirm(self, user: User, login: Login, credential: dict[str, Any], client: Client, now: datetime) -> str:
        """Somebody who is signed in shows anew who they are; the login's new secret. Raises as `sign_in`."""
        async with self._database.transaction() as db:
            passkey = await self._evaluate(db, f"confirm:{login.id}", credential, client, now)
            if passkey is not None and passkey.user_id == user.id:
                return await self._logins.confirm(db, user, login, client, now)
            await self._record_refusal(db, user, client, now)
        raise WrongCode(UNKNOWN)

    async def _evaluate(
        self, db: AsyncConnection, key: str, credential: dict[str, Any], client: Client, now: datetime
    ) -> Passkey | None:
        """The passkey that signed what was asked under `key`; a try is counted, and the challenge gone, either way."""
        await self._limits.check_failures(db, client, now)
        challenge = await passkeys.take_challenge(db, key, now)
        passkey = await passkeys.by_credential(db, str(credential.get("id", ""))[:1400])
        right = False
        if challenge is not None and passkey is not None:
            from . import ceremonies

            used = ceremonies.used(credential, challenge, self._host, self._settings.public_url, passkey)
            if used is not None:
                right = True
                await passkeys.used(db, passkey.id, used.new_sign_count, now)
        await challenges.record_verification(db, client.key, NOBODY, right, now)
        return passkey if right else None

    async def _record_refusal(self, db: AsyncConnection, user: User | None, client: Client, now: datetime) -> None:
        actor = Actor(user.email if user else "unknown", client.address)
        await _record(db, now, actor, "sign-in.refused", actor.name, "passkey")


async def _record(
    db: AsyncConnection,
    now: datetime,
    actor: Actor,
    action: str,
    subject: str,
    what: str,
    owner_id: str | None = None,
) -> None:
    await audit.add(
        db,
        at=now,
        actor=actor.name,
        client=actor.client,
        action=action,
        subject=subject,
        details={"passkey": what},
        owner_id=owner_id,
    )
