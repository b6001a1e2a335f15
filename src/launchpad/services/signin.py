"""Sign-in by e-mail code: challenges, codes, registration. What comes of it is `logins`' business."""

from __future__ import annotations

import hmac
import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta
from email.message import EmailMessage

import structlog
from sqlalchemy.ext.asyncio import AsyncConnection

from ..domain.naming import new_id
from ..domain.signin import (
    ChallengeState,
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
from .sign_in_limits import HOUR, SignInLimits

log = structlog.get_logger(__name__)

_LONG_CODE_ALPHABET = "ABCDEFGHJKLMNPQRSTUVWXYZ23456789"
LONG_CODE_LENGTH = 10


@dataclass(frozen=True)
class AskedChallenge:
    """What the browser keeps: `cookie` goes into the challenge cookie and nowhere else."""

    id: str
    expires_at: datetime
    cookie: str


@dataclass(frozen=True)
class AskedBefore:
    """What a browser may know of the code that it asked for last."""

    address: str
    state: ChallengeState


# For the browser that asked for the code, and no other: its cookie is needed to learn any of this.
_WHY_NOT = {
    ChallengeState.LIVE: "That code is not right. Check the newest e-mail, or ask for a new code.",
    ChallengeState.EXPIRED: "That code has expired. Ask for a new code.",
    ChallengeState.OUT_OF_TRIES: "Too many wrong codes. Ask for a new code.",
    ChallengeState.USED: "That code was used already. Ask for a new code.",
}
NO_CODE = "This browser has not asked for a code, or that was too long ago. Ask for a new code."


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
        self._limits = SignInLimits(settings.sign_in)
        self._outgoing = mail
        self._homes = homes
        self._logins = logins
        self._code_key = code_key

    async def ask(self, address_text: str, client: Client, now: datetime) -> AskedChallenge:
        """Makes a challenge and sends a code. The answer is the same for every address of an allowed domain.

        A suspended user gets the same challenge and no mail. The allowed domains are public, so an address of another
        one is refused at once, known or not: else the answer would tell which of them are known.

        Raises:
            InvalidInput: it is no e-mail address, or none of an allowed domain.
            TooManyRequests: this address or client has asked too often.
        """
        try:
            address = normalise_address(address_text)
        except ValueError as error:
            raise InvalidInput(f"{str(error)[:1].upper()}{str(error)[1:]}.", fields={"email": str(error)}) from None
        if not domain_allowed(address, self._rules.allowed_domains):
            await self._record_once_an_hour("sign-in.refused", address, client, now)
            text = f"Only e-mail addresses at {_in_words(self._rules.allowed_domains)} can sign in here"
            raise InvalidInput(f"{text}.", fields={"email": text})
        return await self.ask_known(address, client, now)

    async def ask_known(self, address: str, client: Client, now: datetime) -> AskedChallenge:
        """The same for an address that may sign in, such as that of who is signed in. Raises TooManyRequests."""
        try:
            return await self._ask(address, client, now)
        except TooManyRequests:
            await self._record_once_an_hour("sign-in.limited", address, client, now)
            raise

    async def _ask(self, address: str, client: Client, now: datetime) -> AskedChallenge:
        cookie = new_secret()
        async with self._database.transaction() as db:
            browser = await self._known(db, address, client)
            await self._limits.check_sends(db, address, client, browser, now)
            user = await users.by_email(db, address)
            may = user is None or user.is_active
            code = await self._code(db, address, now)
            challenge_id = new_id()
            # A suspended user gets a challenge that no code opens: the same work, the same answer.
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
                await self._outgoing.add(db, self._letter(challenge, code, client), now, challenge.expires_at)
        self._outgoing.wake()
        return AskedChallenge(challenge_id, challenge.expires_at, cookie)

    def _letter(self, challenge: SignInChallenge, code: str, client: Client) -> EmailMessage:
        return sign_in_code(
            to=challenge.address,
            code=code,
            minutes=self._rules.code_minutes,
            public_url=self._settings.public_url,
            from_name=self._settings.mail.from_name,
            from_address=self._settings.mail.from_address,
            client_description=describe_user_agent(client.user_agent),
            asked_at=challenge.created_at,
            help_url=self._settings.help_url,
            help_contact=self._settings.help_contact,
        )

    async def _record_once_an_hour(self, action: str, address: str, client: Client, now: datetime) -> None:
        """Writes down that somebody was refused: once an hour and client, so that nobody floods the record."""
        async with self._database.transaction() as db:
            if not await audit.was_recorded(db, action, client.address, now - HOUR):
                await audit.add(
                    db, at=now, actor="unknown", client=client.address, action=action, subject=address, details={}
                )

    async def asked_before(self, cookie: str | None, now: datetime) -> AskedBefore | None:
        """For the code page: which address this browser asked for last, and whether its code can still work."""
        if not cookie:
            return None
        async with self._database.reading() as db:
            challenge = await challenges.by_cookie(db, secret_digest(cookie))
        return AskedBefore(challenge.address, challenge.state(self._rules.code_attempts, now)) if challenge else None

    async def verify(
        self, cookie: str | None, code_text: str, remember: bool, client: Client, now: datetime
    ) -> SignedIn:
        """Signs in, registering the user at the first time.

        Raises:
            WrongCode: wrong, expired, used, out of tries (its text says which), or another browser's code.
            TooManyRequests: too many tries failed there.
        """
        code = normalise_code(code_text)
        signed_in: SignedIn | None = None
        disk: OnDisk | None = None
        while signed_in is None:
            async with self._database.transaction() as db:
                challenge, why_not = await self._evaluate(db, cookie, code, client, now, recount=disk is None)
                if challenge is not None:
                    user = await users.by_email(db, challenge.address)
                    if user is None and disk is not None:
                        user = await self._register(db, challenge.address, disk, client, now)
                    if user is not None:
                        signed_in = await self._sign_in(db, challenge, user, remember, client, now)
            if challenge is None:
                raise WrongCode(why_not, fields={"code": why_not})
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
            code = normalise_code(code_text)
            challenge, why_not = await self._evaluate(db, cookie, code, client, now, recount=True)
            mine = challenge is not None and challenge.address == user.email
            if challenge is not None and mine and await challenges.use(db, challenge.id, now):
                await mail_failures.forget(db, challenge.address)
                return await self._logins.confirm(db, user, login, client, now)
        why_not = why_not or _WHY_NOT[ChallengeState.LIVE]
        raise WrongCode(why_not, fields={"code": why_not})

    async def _evaluate(
        self, db: AsyncConnection, cookie: str | None, code: str, client: Client, now: datetime, *, recount: bool
    ) -> tuple[SignInChallenge | None, str]:
        """The challenge that cookie and code open, or why there is none, as the browser with that cookie may know.

        A try is counted unless this is the second look at the same one.
        """
        if recount:
            await self._limits.check_failures(db, client, now)
        challenge = await challenges.by_cookie(db, secret_digest(cookie)) if cookie else None
        if challenge is None:
            if recount:
                await challenges.record_verification(db, client.key, "", True, now)
            return None, NO_CODE
        # A try at no live challenge fails for its client, and is no failed guess at anybody's code.
        if recount and not await challenges.spend_attempt(db, challenge.id, self._rules.code_attempts, now):
            await challenges.record_verification(db, client.key, "", True, now)
            dead = await challenges.by_cookie(db, challenge.cookie_digest) or challenge
            return None, _WHY_NOT[dead.state(self._rules.code_attempts, now)]
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
        if right:
            return challenge, ""
        if challenge.used_at is not None:
            return None, _WHY_NOT[ChallengeState.USED]
        last = challenge.attempts + 1 >= self._rules.code_attempts  # this try was the last one
        return None, _WHY_NOT[ChallengeState.OUT_OF_TRIES if last else ChallengeState.LIVE]

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
        if not user.is_active:
            raise WrongCode("That code no longer works.")  # suspended since the code was sent
        if not await challenges.use(db, challenge.id, now):
            raise WrongCode(_WHY_NOT[ChallengeState.USED])
        await mail_failures.forget(db, challenge.address)  # the mail has arrived
        return await self._logins.open(db, user, remember, client, now)

    async def _known(self, db: AsyncConnection, address: str, client: Client) -> str | None:
        """The digest of a browser where this address has signed in before; its codes are counted by themselves.

        So whoever asks for somebody else's address uses up what strangers may ask for, and not what its owner may.
        """
        digest = secret_digest(client.known_browser) if client.known_browser else None
        return digest if digest and await known_browsers.knows(db, digest, address) else None

    async def _code(self, db: AsyncConnection, address: str, now: datetime) -> str:
        """Six digits, or ten characters where guessing is going on; nobody is locked out by a stranger."""
        if await self._limits.code_is_long(db, address, now):
            return "".join(secrets.choice(_LONG_CODE_ALPHABET) for _ in range(LONG_CODE_LENGTH))
        return new_code()


def _in_words(domains: tuple[str, ...]) -> str:
    return domains[0] if len(domains) == 1 else f"{', '.join(domains[:-1])} or {domains[-1]}"


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
