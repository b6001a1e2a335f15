"""A class that signs in at once, behind one address: to each a browser's cookies, a mailbox, a wait for the code."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from time import perf_counter

import httpx

from .live import BROWSER, LivePlatform
from .smtp import code_in

PATIENCE_SECONDS = 300.0


@dataclass
class Outcome:
    """What became of a class. Seconds are of the people who signed in."""

    signed_in: int = 0
    mistyped: int = 0
    refused: list[str] = field(default_factory=list)
    until_answer_seconds: list[float] = field(default_factory=list)
    until_code_seconds: list[float] = field(default_factory=list)
    whole_seconds: list[float] = field(default_factory=list)


async def sign_in_all(
    live: LivePlatform, *, people: int, mistyping: int = 0, within_seconds: float = 0.0, domain: str = "example.org"
) -> Outcome:
    """Everybody asks for a code by the page's form, waits for the mail and types the code.

    Args:
        mistyping: how many of them type a wrong code first.
        within_seconds: the clicks come evenly spread over so long; 0: all at once.
    """
    outcome = Outcome()
    pause = within_seconds / max(1, people)

    async def person(number: int) -> None:
        await asyncio.sleep(number * pause)
        async with live.client() as http:
            http.headers.update(BROWSER | {"Origin": live.public_url})
            await _sign_in(live, http, f"student{number}@{domain}", outcome, mistypes=number < mistyping)

    await asyncio.gather(*(person(number) for number in range(people)))
    return outcome


async def _sign_in(
    live: LivePlatform, http: httpx.AsyncClient, email: str, outcome: Outcome, *, mistypes: bool
) -> None:
    seen = len(live.mail.mails_to(email))
    await http.get("/sign-in")
    clicked = perf_counter()
    asked = await http.post("/sign-in", data={"email": email}, follow_redirects=True)
    answered = perf_counter()
    if asked.status_code != 200 or asked.url.path != "/sign-in/code":
        outcome.refused.append(f"{email}: {asked.status_code} {asked.url.path}")
        return
    code = await _code(live, email, seen)
    received = perf_counter()
    if mistypes:
        wrong = ("1" if code[0] == "0" else "0") + code[1:]
        told = await http.post("/sign-in/code", data={"code": wrong}, follow_redirects=True)
        outcome.mistyped += told.status_code == 401
    done = await http.post("/sign-in/code", data={"code": code}, follow_redirects=True)
    if done.status_code != 200 or done.url.path != "/dashboard":
        outcome.refused.append(f"{email}: {done.status_code} {done.url.path}")
        return
    outcome.signed_in += 1
    outcome.until_answer_seconds.append(answered - clicked)
    outcome.until_code_seconds.append(received - clicked)
    outcome.whole_seconds.append(perf_counter() - clicked)


async def _code(live: LivePlatform, email: str, seen: int) -> str:
    async with asyncio.timeout(PATIENCE_SECONDS):
        while len(mails := live.mail.mails_to(email)) <= seen:
            await asyncio.sleep(0.05)
    return code_in(mails[-1])
