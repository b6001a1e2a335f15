"""Sign-in by e-mail code: challenges, codes, registration. What comes of it is `logins`' business."""

from __future__ import annotations

import hmac
import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta

import structlog
from sqlalchemy.ext.asyncio import AsyncConnection

from ..domain.naming import new_id
from ..domain.signin import (
    Login,
    SignInChallenge,
    code_digest,
    domain_allowed,
    new_code,
    new_secret,
    normalise_address,
    normalise_code,
    secret_digest,
)
from ..domain.users import User
from ..errors import InvalidInput, TooManyRequests, WrongCode
from ..mail.messages import sign_in_code
from ..settings import Settings
from ..storage.base import Homes
from ..store import audit, challenges, known_browsers, mail_failures, users
from ..store.database import Database
from .logins import Client, LoginService, SignedIn
from .mailing import MailQueue
from .registration import OnDisk, add_user, on_disk

log = structlog.get_logger(__name__)

HOUR = timedelta(hours=1)
FAILURES_BEFORE_LONG_CODES = 20
_LONG_CODE_ALPHABET = "ABCDEFGHJKLMNPQRSTUVWXYZ23456789"
LONG_CODE_LENGTH = 10


@dataclass(frozen=True)
class AskedChallenge:
    """What the browser keeps: `cookie` goes into the challenge cookie and nowhere else."""

    id: str
    expires_at: datetime
    cookie: str


class SignInService:
    def __init__(
        self,
        database: Database,
        settings: Settings,
        mail: MailQueue,
        homes: Homes,
        logins: LoginService,
        code_key: bytes,
    ) -> None:
        self._database = database
        self._settings = settings
        self._rules = settings.sign_in
        self._mail = mail
        self._homes = homes
        self._logins = logins
        self._code_key = code_key

    async def ask(self, address_text: str, client: Client, now: datetime) -> AskedChallenge:
        """Makes a challenge and, where the address may sign in, sends a code. The answer does not tell which.

        Raises:
            InvalidInput: it is no e-mail address.
            TooManyRequests: this address or client has asked too often.
        """
        try:
            address = normalise_address(address_text)
        except ValueError as error:
            raise InvalidInput(f"{str(error)[:1].upper()}{str(error)[1:]}.", fields={"email": str(error)}) from None
        try:
            return await self._ask(address, client, now)
        except TooManyRequests:
            await self.record_limited(address, client, now)
            raise

    async def _ask(self, address: str, client: Client, now: datetime) -> AskedChallenge:
        cookie = new_secret()
        async with self._database.transaction() as db:
            browser = await self._known(db, address, client)
            await self._check_sends(db, address, client, browser, now)
            user = await users.by_email(db, address)
            may = user.is_active if user else domain_allowed(address, self._rules.allowed_domains)
            code = await self._code(db, address, now)
            challenge_id = new_id()
            # A refused address gets a challenge that no code opens: the same work, the same answer.
            digest = code_digest(self._code_key, challenge_id, code if may else new_secret())
            challenge = SignInChallenge(
                id=challenge_id,
                address=address,
                cookie_digest=secret_digest(cookie),
                code_digest=digest,
                attempts=0,
                created_at=now,
                expires_at=now + timedelta(minutes=self._rules.code_minutes),
            )
            await challenges.add(db, challenge, client.key, browser)
            action = "sign-in.asked" if may else "sign-in.refused"
            await audit.add(
                db, at=now, actor=address, client=client.address, action=action, subject=address, details={}
            )
        if may:
            self._mail.put(
                sign_in_code(
                    to=address,
                    code=code,
                    minutes=self._rules.code_minutes,
                    public_url=self._settings.public_url,
                    from_name=self._settings.mail.from_name,
                    from_address=self._settings.mail.from_address,
                    client_description=describe_user_agent(client.user_agent),
                    asked_at=now,
                )
            )
        return AskedChallenge(challenge_id, challenge.expires_at, cookie)

    async def record_limited(self, address: str, client: Client, now: datetime) -> None:
        """Writes down that somebody met a limit: once an hour and client, so that nobody floods the record."""
        async with self._database.transaction() as db:
            if not await audit.was_recorded(db, "sign-in.limited", client.address, now - HOUR):
                await audit.add(
                    db,
                    at=now,
                    actor="unknown",
                    client=client.address,
                    action="sign-in.limited",
                    subject=address,
                    details={},
                )

    async def address_of(self, cookie: str | None, now: datetime) -> str | None:
        """The address a browser's live challenge was made for, to show it on the code page."""
        if not cookie:
            return None
        async with self._database.reading() as db:
            challenge = await challenges.by_cookie(db, secret_digest(cookie))
        return challenge.address if challenge and challenge.used_at is None and challenge.expires_at > now else None

    async def verify(
        self, cookie: str | None, code_text: str, remember: bool, client: Client, now: datetime
    ) -> SignedIn:
        """Signs in, registering the user at the first time.

        Raises:
            WrongCode: wrong, expired, used, out of tries, or another browser's code.
            TooManyRequests: this client has tried too often.
        """
        code = normalise_code(code_text)
        signed_in: SignedIn | None = None
        disk: OnDisk | None = None
        while signed_in is None:
            async with self._database.transaction() as db:
                challenge = await self._evaluate(db, cookie, code, client, now, recount=disk is None)
                if challenge is not None:
                    user = await users.by_email(db, challenge.address)
                    if user is None and disk is not None:
                        user = await self._register(db, challenge.address, disk, client, now)
                    if user is not None:
                        signed_in = await self._sign_in(db, challenge, user, remember, client, now)
            if challenge is None:
                raise WrongCode(
                    "That code is wrong or no longer works. Check the newest mail, or ask for another code.",
                    fields={"code": "wrong or no longer valid"},
                )
            if signed_in is None:  # a new user: look at the disk, which no transaction may wait for
                disk = await on_disk(self._homes, challenge.address)
        return signed_in

    async def confirm(
        self, cookie: str | None, code_text: str, user: User, login: Login, client: Client, now: datetime
    ) -> str:
        """Somebody who is signed in shows anew, by a code to their own address, who they are.

        Returns:
            The login's new secret for its cookie.

        Raises:
            WrongCode, TooManyRequests: as `verify`.
        """
        async with self._database.transaction() as db:
            challenge = await self._evaluate(db, cookie, normalise_code(code_text), client, now, recount=True)
            mine = challenge is not None and challenge.address == user.email
            if challenge is not None and mine and await challenges.use(db, challenge.id, now):
                await mail_failures.forget(db, challenge.address)
                return await self._logins.confirm(db, user, login, client, now)
        raise WrongCode(
            "That code is wrong or no longer works. Check the newest mail, or ask for another code.",
            fields={"code": "wrong or no longer valid"},
        )

    async def _evaluate(
        self, db: AsyncConnection, cookie: str | None, code: str, client: Client, now: datetime, *, recount: bool
    ) -> SignInChallenge | None:
        """The challenge that cookie and code open; a try is counted unless this is the second look at the same one."""
        if recount:
            tried = await challenges.count_verifications(db, since=now - HOUR, client=client.key)
            if tried >= self._rules.verifications_per_hour_per_client:
                raise TooManyRequests("Too many codes were tried from here. Wait an hour.", retry_after_seconds=3600)
        challenge = await challenges.by_cookie(db, secret_digest(cookie)) if cookie else None
        alive = challenge is not None and (
            not recount or await challenges.spend_attempt(db, challenge.id, self._rules.code_attempts, now)
        )
        if challenge is None or not alive:
            if recount:  # counts for the client, and is no failed guess at anybody's code
                await challenges.record_verification(db, client.key, "", True, now)
            return None
        right = hmac.compare_digest(code_digest(self._code_key, challenge.id, code), challenge.code_digest)
        right = right and challenge.used_at is None
        if recount:
            await challenges.record_verification(db, client.key, challenge.address, right, now)
            if not right:
                await audit.add(
                    db,
                    at=now,
                    actor=challenge.address,
                    client=client.address,
                    action="sign-in.wrong-code",
                    subject=challenge.address,
                    details={},
                )
        return challenge if right else None

    async def _register(self, db: AsyncConnection, address: str, disk: OnDisk, client: Client, now: datetime) -> User:
        user = await add_user(db, self._settings, address, disk, created_at=now)
        await audit.add(
            db,
            at=now,
            actor=address,
            client=client.address,
            action="user.registered",
            subject=address,
            details={"username": user.username, "uid": user.uid, "role": user.role},
        )
        return user

    async def _sign_in(
        self,
        db: AsyncConnection,
        challenge: SignInChallenge,
        user: User,
        remember: bool,
        client: Client,
        now: datetime,
    ) -> SignedIn | None:
        if not user.is_active or not await challenges.use(db, challenge.id, now):
            raise WrongCode("That code no longer works. Ask for another one.")
        await mail_failures.forget(db, challenge.address)  # the mail has arrived
        return await self._logins.open(db, user, remember, client, now)

    async def _known(self, db: AsyncConnection, address: str, client: Client) -> str | None:
        """The digest of a browser where this address has signed in before; its codes are counted by themselves.

        So whoever asks for somebody else's address uses up what strangers may ask for, and not what its owner may.
        """
        digest = secret_digest(client.known_browser) if client.known_browser else None
        return digest if digest and await known_browsers.knows(db, digest, address) else None

    async def _check_sends(
        self, db: AsyncConnection, address: str, client: Client, browser: str | None, now: datetime
    ) -> None:
        rules = self._rules
        for allowed, since, who in (
            (rules.sends_per_hour_per_address, now - HOUR, {"address": address, "browser": browser}),
            (rules.sends_per_day_per_address, now - 24 * HOUR, {"address": address, "browser": browser}),
            (rules.sends_per_hour_per_client, now - HOUR, {"client": client.key}),
        ):
            if await challenges.count_sends(db, since=since, **who) >= allowed:
                raise TooManyRequests(
                    "Too many codes were asked for. Use the newest one you have, or try again later.",
                    retry_after_seconds=3600,
                )

    async def _code(self, db: AsyncConnection, address: str, now: datetime) -> str:
        """Six digits, or ten characters where guessing is going on; nobody is locked out by a stranger."""
        failures = await challenges.count_verifications(db, since=now - HOUR, failed_only=True)
        in_a_row = await challenges.failures_in_a_row(db, address)
        if failures >= self._rules.failures_per_hour_total or in_a_row >= FAILURES_BEFORE_LONG_CODES:
            return "".join(secrets.choice(_LONG_CODE_ALPHABET) for _ in range(LONG_CODE_LENGTH))
        return new_code()


def describe_user_agent(user_agent: str) -> str:
    """ "Firefox on Linux", or "a browser" when it says nothing we know."""
    browsers = {"Edg/": "Edge", "OPR/": "Opera", "Firefox/": "Firefox", "Chrome/": "Chrome", "Safari/": "Safari"}
    systems = {
        "Android": "Android",
        "iPhone": "iPhone",
        "iPad": "iPad",
        "Windows": "Windows",
        "Mac OS X": "macOS",
        "Linux": "Linux",
    }
    browser = next((name for mark, name in browsers.items() if mark in user_agent), "a browser")
    system = next((name for mark, name in systems.items() if mark in user_agent), None)
    return f"{browser} on {system}" if system else browser
