"""Logins: browsers that are signed in, how long they stay so, and what ends them."""

from __future__ import annotations

import hashlib
import hmac
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address
from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection

from ..domain.naming import new_id
from ..domain.signin import Login, new_secret, secret_digest
from ..domain.users import User
from ..errors import NotFound, StoreUnavailable
from ..settings import Settings
from ..store import audit, known_browsers, logins, users
from ..store.database import Database
from .audit import Actor
from .last_seen import SEEN_AGAIN_AFTER, LastSeen
from .live.signed_in import SignedInPeople


@dataclass(frozen=True)
class Client:
    """Where a request came from: the network address nginx saw and the browser's own words about itself.

    `known_browser` is the value of the cookie that says who has signed in there before.
    """

    address: str
    user_agent: str = ""
    known_browser: str = ""

    @property
    def key(self) -> str:
        """What limits are counted by: the address; of IPv6 the /64, which is what one household or host has."""
        address = self.ip
        if address is None:
            return self.address
        return str(IPv6Network((address, 64), strict=False)) if isinstance(address, IPv6Address) else str(address)

    @property
    def ip(self) -> IPv4Address | IPv6Address | None:
        """The address where it is one, an IPv4 address in its own form."""
        try:
            address = ip_address(self.address)
        except ValueError:
            return None
        return (address.ipv4_mapped or address) if isinstance(address, IPv6Address) else address


@dataclass(frozen=True)
class SignedIn:
    """`secret` goes into the login cookie, `known_browser` into a long-lived one; neither is kept anywhere."""

    user: User
    login: Login
    secret: str
    known_browser: str


class LoginService:
    def __init__(
        self, database: Database, settings: Settings, csrf_key: bytes, signed_in: SignedInPeople, last_seen: LastSeen
    ) -> None:
        self._database = database
        self._settings = settings
        self._rules = settings.sign_in
        self._csrf_key = csrf_key
        self._signed_in = signed_in
        self._last_seen = last_seen

    async def open(
        self, db: AsyncConnection, user: User, remember: bool, client: Client, now: datetime, *, by: str = "code"
    ) -> SignedIn:
        """A new login of somebody who has shown who they are, in the caller's transaction."""
        lasts = timedelta(days=self._rules.remember_days) if remember else timedelta(hours=self._rules.login_hours)
        secret = new_secret()
        login = Login(
            id=new_id(),
            user_id=user.id,
            created_at=now,
            last_seen_at=now,
            expires_at=now + lasts,
            remembered=remember,
            client=client.address,
            user_agent=client.user_agent[:200],
            fresh_at=now,
        )
        known_browser = client.known_browser
        if not known_browser or not await known_browsers.exists(db, secret_digest(known_browser)):
            known_browser = new_secret()  # never one that somebody else may have put there
        await known_browsers.seen(db, secret_digest(known_browser), user.email, now)
        await logins.add(db, login, secret_digest(secret))
        await users.seen(db, user.id, now)
        await audit.add(
            db,
            at=now,
            actor=user.email,
            client=client.address,
            action="sign-in.succeeded",
            subject=user.email,
            details={"by": by},
        )
        return SignedIn(replace(user, last_seen_at=now), login, secret, known_browser)

    async def authenticate(self, secret: str | None, now: datetime) -> tuple[User, Login] | None:
        """Whose browser it is, or None. Counts as use of the login."""
        if not secret:
            return None
        found = await self._signed_in.by_cookie(secret_digest(secret))
        if found is None:
            return None
        user, login = found[0], self._as_noted(found[1])
        if not self._may_be_here(user, login, now):
            return None
        if now - login.last_seen_at > SEEN_AGAIN_AFTER:
            self._last_seen.login(login.id, user.id, now)
        return user, login

    async def still_there(self, user: User, login: Login | None, now: datetime) -> tuple[User, Login | None] | None:
        """Somebody who was signed in a moment ago as they are now; None when they are no longer signed in.

        Without a login (with a token): None when they may no longer be here.
        """
        if login is None:
            async with self._database.reading() as db:
                user_now = await users.by_id(db, user.id)
            return (user_now, None) if user_now is not None and user_now.is_active else None
        found = await self._signed_in.by_login(login.id)
        if found is None:
            return None
        there = found[0], self._as_noted(found[1])
        return there if self._may_be_here(*there, now) else None

    def _as_noted(self, login: Login) -> Login:
        """With its use of the last moment, which is written later."""
        seen_at = self._last_seen.of_login(login.id, login.last_seen_at)
        return login if seen_at == login.last_seen_at else replace(login, last_seen_at=seen_at)

    def _may_be_here(self, user: User, login: Login, now: datetime) -> bool:
        return user.is_active and is_live(login, self._settings, now)

    async def sign_out(self, user: User, login: Login, client: Client, now: datetime) -> None:
        async with self._database.transaction() as db:
            await logins.end(db, login.id, user.id)
            await self._record(db, user, client, now, "sign-out", {})

    async def of_user(self, user: User, now: datetime) -> list[Login]:
        """The browsers where the user is signed in, the latest used first."""
        async with self._database.reading() as db:
            return [login for login in await logins.of_user(db, user.id) if is_live(login, self._settings, now)]

    async def end(self, user: User, login_id: str, client: Client, now: datetime) -> None:
        """Signs another of the user's browsers out. Raises NotFound when it is not one of them."""
        async with self._database.transaction() as db:
            if not await logins.end(db, login_id, user.id):
                raise NotFound("That browser is not signed in any more.")
            await self._record(db, user, client, now, "sign-out", {"login": login_id})

    async def end_all(
        self, user: User, client: Client, now: datetime, *, keep: Login | None = None, by: Actor | None = None
    ) -> int:
        """Signs the user out everywhere, but not in the browser of `keep`; returns how many logins ended.

        `by`: who does it, where it is not the user.
        """
        async with self._database.transaction() as db:
            ended = await logins.end_all(db, user.id, keep=keep.id if keep else None)
            await self._record(db, user, client, now, "sign-out.everywhere", {"logins": ended}, by)
        return ended

    async def _record(
        self,
        db: AsyncConnection,
        user: User,
        client: Client,
        now: datetime,
        action: str,
        details: dict[str, Any],
        by: Actor | None = None,
    ) -> None:
        actor = by or Actor.of(user, client.address)
        await audit.add(
            db,
            at=now,
            actor=actor.name,
            client=actor.client,
            action=action,
            subject=user.email,
            details=details,
            owner_id=actor.on(user.id),
        )

    def is_fresh(self, login: Login, now: datetime) -> bool:
        """Whether its user showed who they are, or was at the console, shortly enough ago to administer."""
        return now - login.fresh_at < timedelta(minutes=self._rules.admin_fresh_minutes)

    async def keep_fresh(self, login: Login, now: datetime) -> None:
        """Work at the console goes on, so the time for being away from it begins anew."""
        if now - login.fresh_at > SEEN_AGAIN_AFTER:
            with suppress(StoreUnavailable):
                async with self._database.transaction() as db:
                    await logins.freshen(db, login.id, now)

    async def confirm(self, db: AsyncConnection, user: User, login: Login, client: Client, now: datetime) -> str:
        """The user has shown anew who they are, in the caller's transaction; the login's new secret."""
        secret = new_secret()
        await logins.freshen(db, login.id, now, secret_digest(secret))
        await self._record(db, user, client, now, "sign-in.confirmed", {})
        return secret

    def csrf_token(self, login: Login) -> str:
        """What a page must send along with every change; bound to the login."""
        return hmac.new(self._csrf_key, login.id.encode(), hashlib.sha256).hexdigest()

    def csrf_matches(self, login: Login, token: str | None) -> bool:
        return token is not None and hmac.compare_digest(self.csrf_token(login).encode(), token.encode())


def is_live(login: Login, settings: Settings, now: datetime) -> bool:
    """Neither expired nor, where it is not to be remembered, unused for too long."""
    idle = timedelta(hours=settings.sign_in.login_idle_hours)
    return now < login.expires_at and (login.remembered or now - login.last_seen_at < idle)
