"""Personal API tokens: `lp_` and 256 random bits, shown once, kept as a digest."""

from __future__ import annotations

from datetime import datetime

from ..domain.naming import new_id
from ..domain.signin import ApiToken, new_secret, secret_digest
from ..domain.users import User
from ..errors import Conflict, InvalidInput, NotFound
from ..store import audit, tokens
from ..store.database import Database
from .audit import Actor
from .last_seen import SEEN_AGAIN_AFTER, LastSeen
from .live.signed_in import SignedInPeople

PREFIX = "lp_"
TOKENS_PER_USER = 20
NAME_MAX = 60


class TokenService:
    def __init__(self, database: Database, signed_in: SignedInPeople, last_seen: LastSeen) -> None:
        self._database = database
        self._signed_in = signed_in
        self._last_seen = last_seen

    async def create(self, user: User, name: str, actor: Actor, now: datetime) -> tuple[ApiToken, str]:
        """A new token and its secret, which nobody can read again.

        Raises:
            InvalidInput: the name is empty or too long.
            Conflict: the user has too many tokens.
        """
        name = name.strip()
        if not 0 < len(name) <= NAME_MAX:
            raise InvalidInput(
                f"Give the token a name of 1 to {NAME_MAX} characters.", fields={"name": f"1 to {NAME_MAX} characters"}
            )
        secret = PREFIX + new_secret()
        token = ApiToken(new_id(), user.id, name, now, None)
        async with self._database.transaction() as db:
            if len(await tokens.of_user(db, user.id)) >= TOKENS_PER_USER:
                raise Conflict(f"You have {TOKENS_PER_USER} tokens; revoke one you do not use any more.")
            await tokens.add(db, token, secret_digest(secret))
            await audit.add(
                db,
                at=now,
                actor=actor.name,
                client=actor.client,
                action="token.created",
                subject=user.email,
                details={"name": name},
            )
        return token, secret

    async def of_user(self, user: User) -> list[ApiToken]:
        async with self._database.reading() as db:
            return await tokens.of_user(db, user.id)

    async def revoke(self, user: User, token_id: str, actor: Actor, now: datetime) -> None:
        """Raises NotFound when it is not one of the user's tokens."""
        async with self._database.transaction() as db:
            name = next((one.name for one in await tokens.of_user(db, user.id) if one.id == token_id), "")
            if not await tokens.remove(db, token_id, user.id):
                raise NotFound("You have no such token.")
            await audit.add(
                db,
                at=now,
                actor=actor.name,
                client=actor.client,
                action="token.revoked",
                subject=user.email,
                details={"name": name, "token": token_id},
            )

    async def authenticate(self, secret: str, now: datetime) -> User | None:
        """Whose token it is; None when it is nobody's or its user is suspended."""
        if not secret.startswith(PREFIX):
            return None
        found = await self._signed_in.by_token(secret_digest(secret))
        if found is None or not found[0].is_active:
            return None
        user, token = found
        if token.last_used_at is None or now - token.last_used_at > SEEN_AGAIN_AFTER:
            self._last_seen.token(token.id, user.id, now)
        return user
