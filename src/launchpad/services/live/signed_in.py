"""Who is signed in: a browser by its login cookie, a program by its personal token."""

from __future__ import annotations

from ...domain.signin import ApiToken, Login
from ...domain.users import User
from ...store import logins, tokens, users
from ...store.changes import Change, ChangeFeed
from ...store.database import Database
from .remembered import Answer, Remembered

MOST_BROWSERS, MOST_PROGRAMS = 10_000, 2_000


class SignedInPeople:
    """Answers with what is recorded, whatever the time: whether a login or user still counts is the caller's to decide,
    at the moment of the answer.
    """

    def __init__(self, database: Database, feed: ChangeFeed) -> None:
        self._database = database
        self._browsers: Remembered[str, tuple[User, Login]] = Remembered(feed, MOST_BROWSERS)
        self._logins: Remembered[str, tuple[User, Login]] = Remembered(feed, MOST_BROWSERS)
        self._programs: Remembered[str, tuple[User, ApiToken]] = Remembered(feed, MOST_PROGRAMS)

    async def by_cookie(self, secret_digest: str) -> tuple[User, Login] | None:
        """Raises StoreUnavailable when it is not known and the database does not answer."""

        async def read() -> Answer[tuple[User, Login]] | None:
            async with self._database.reading() as db:
                login = await logins.by_secret(db, secret_digest)
                user = await users.by_id(db, login.user_id) if login else None
            return _login_answer(user, login)

        return await self._browsers.get(secret_digest, read)

    async def by_login(self, login_id: str) -> tuple[User, Login] | None:
        """Of a login whose cookie was shown before. Raises StoreUnavailable as above."""

        async def read() -> Answer[tuple[User, Login]] | None:
            async with self._database.reading() as db:
                login = await logins.by_id(db, login_id)
                user = await users.by_id(db, login.user_id) if login else None
            return _login_answer(user, login)

        return await self._logins.get(login_id, read)

    async def by_token(self, secret_digest: str) -> tuple[User, ApiToken] | None:
        """Raises StoreUnavailable as above."""

        async def read() -> Answer[tuple[User, ApiToken]] | None:
            async with self._database.reading() as db:
                token = await tokens.by_secret(db, secret_digest)
                user = await users.by_id(db, token.user_id) if token else None
            if token is None or user is None:
                return None
            return Answer((user, token), (Change("tokens", token.id), Change("users", user.id)))

        return await self._programs.get(secret_digest, read)


def _login_answer(user: User | None, login: Login | None) -> Answer[tuple[User, Login]] | None:
    if user is None or login is None:
        return None
    return Answer((user, login), (Change("logins", login.id), Change("users", user.id)))
