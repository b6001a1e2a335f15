"""How often a code may be asked for and a sign-in may fail, and what is said to whoever meets a limit.

The texts are true for everybody who reads them: whoever asked for codes may not be the reader, so nobody is told to use
a code that they may not have, and none says whether any mail was sent.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from ipaddress import ip_network

from sqlalchemy.ext.asyncio import AsyncConnection

from ..errors import TooManyRequests
from ..settings import SignInSettings
from ..store import challenges
from .logins import Client

HOUR = timedelta(hours=1)
DAY = timedelta(days=1)


@dataclass(frozen=True)
class _Limit:
    """At most `allowed` in `span`."""

    allowed: int
    span: timedelta


class SignInLimits:
    def __init__(self, rules: SignInSettings) -> None:
        self._rules = rules
        self._trusted = tuple(ip_network(one) for one in rules.trusted_networks)

    def factor(self, client: Client) -> int:
        """How many times the limits by client hold: the institute's own networks have a class behind each address."""
        address = client.ip
        trusted = address is not None and any(address in network for network in self._trusted)
        return self._rules.trusted_factor if trusted else 1

    async def check_sends(
        self, db: AsyncConnection, address: str, client: Client, browser: str | None, now: datetime
    ) -> None:
        """Whether one more code may be asked for.

        Args:
            browser: the digest of a browser that the address is known to use, whose codes are counted apart.

        Raises:
            TooManyRequests: with which limit it is and when it ends.
        """
        rules = self._rules
        for limit in (_Limit(rules.sends_per_hour_per_address, HOUR), _Limit(rules.sends_per_day_per_address, DAY)):
            full = await challenges.nth_newest_send(
                db, limit.allowed, since=now - limit.span, address=address, browser=browser
            )
            if full is not None:
                span = "in the last hour" if limit.span == HOUR else "in the last 24 hours"
                where = "this e-mail address" if browser is None else "this e-mail address in this browser"
                raise _refusal(f"{_times(limit.allowed)} requested for {where} {span}", full + limit.span, now)
        limit = _Limit(rules.sends_per_hour_per_client * self.factor(client), HOUR)
        full = await challenges.nth_newest_send(db, limit.allowed, since=now - HOUR, client=client.key)
        if full is not None:
            raise _refusal(
                f"{_times(limit.allowed)} requested from your network in the last hour, by everybody there together",
                full + HOUR,
                now,
            )

    async def check_failures(self, db: AsyncConnection, client: Client, now: datetime) -> None:
        """Whether one more sign-in may be tried from there.

        Raises:
            TooManyRequests: so many failed within the hour; when it ends.
        """
        allowed = self._rules.failures_per_hour_per_client * self.factor(client)
        full = await challenges.nth_newest_failure(db, allowed, since=now - HOUR, client=client.key)
        if full is not None:
            what = "1 try to sign in has" if allowed == 1 else f"{allowed} tries to sign in have"
            raise _refusal(
                f"{what} failed from your network in the last hour, by everybody there together", full + HOUR, now
            )

    async def code_is_long(self, db: AsyncConnection, address: str, now: datetime) -> bool:
        """Whether guessing is going on, so that six digits are too few; nobody is locked out by a stranger."""
        if await challenges.failures_in_a_row(db, address) >= FAILURES_BEFORE_LONG_CODES:
            return True
        allowed = self._rules.failures_per_hour_total
        return await challenges.nth_newest_failure(db, allowed, since=now - HOUR, guesses_only=True) is not None


FAILURES_BEFORE_LONG_CODES = 20


def _times(count: int) -> str:
    return "1 code was" if count == 1 else f"{count} codes were"


def _refusal(what: str, ends_at: datetime, now: datetime) -> TooManyRequests:
    seconds = max(1, round((ends_at - now).total_seconds()))
    return TooManyRequests(
        f"{what}, which is the limit. You can try again in {wait_in_words(seconds)}.", retry_after_seconds=seconds
    )


def wait_in_words(seconds: int) -> str:
    """ "1 minute", "12 minutes", "3 hours": rounded up, so that whoever waits so long does not wait in vain."""
    minutes = -(-seconds // 60)
    if minutes < 90:
        return "1 minute" if minutes == 1 else f"{minutes} minutes"
    return f"{-(-minutes // 60)} hours"
