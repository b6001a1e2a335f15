"""Who is in which lab, inside the transactions that change it; while somebody is in any, one of them counts."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy.ext.asyncio import AsyncConnection

from ..domain.labs import Lab, clean_title, name_candidates
from ..domain.naming import new_id
from ..domain.users import User
from ..store import audit, labs, users
from .audit import Actor


async def lab_called(db: AsyncConnection, text: str, actor: Actor, now: datetime) -> Lab:
    """The lab with that key, or that name in any letters. Where there is none, it is made: somebody is put into it."""
    found = await labs.by_key(db, text) or await labs.by_name(db, text.lower())
    if found is not None:
        return found
    for name in name_candidates(text):
        if not await labs.is_taken(db, name):
            break
    made = Lab(new_id(), name, text, clean_title(text) or name, now)
    await labs.add(db, made)
    await record(db, made, "lab.made", actor, now, title=made.title)
    return made


async def join(db: AsyncConnection, lab: Lab, user: User, now: datetime, *, is_lead: bool = False) -> None:
    """Somebody who is not in the lab yet; their first lab is the one that counts, and what they asked is answered."""
    await labs.join(db, lab.id, user.id, is_lead, now)
    await labs.settle(db, lab.id, user.id)
    if user.lab is None:
        await users.set_lab(db, user.id, lab.key)


async def leave(db: AsyncConnection, lab: Lab, user: User) -> str | None:
    """The key of the lab that counts then: another one that they are in for longest, if this one did."""
    await labs.leave(db, lab.id, user.id)
    if user.lab != lab.key:
        return user.lab
    others = await labs.of_user(db, user.id)
    key = others[0].lab.key if others else None
    await users.set_lab(db, user.id, key)
    return key


async def move(db: AsyncConnection, user: User, text: str | None, actor: Actor, now: datetime) -> str | None:
    """Another lab counts for somebody, or none: they leave the one that did, unless they are in the new one already.

    Args:
        text: the new lab's key or name; None or empty: none.

    Returns:
        The new lab's key, which is not written into the user's row.
    """
    if (text or None) == user.lab:
        return user.lab
    new = await lab_called(db, text, actor, now) if text else None
    if new is not None and new.key == user.lab:
        return user.lab
    if new is not None and await labs.member(db, new.id, user.id) is not None:
        return new.key
    old = await labs.by_key(db, user.lab) if user.lab is not None else None
    if old is not None:
        await labs.leave(db, old.id, user.id)
    if new is not None:
        await labs.join(db, new.id, user.id, False, now)
        await labs.settle(db, new.id, user.id)
        return new.key
    others = await labs.of_user(db, user.id)
    return others[0].lab.key if others else None


async def record(
    db: AsyncConnection, lab: Lab, action: str, actor: Actor, now: datetime, user: User | None = None, **details: str
) -> None:
    """What was done with a lab; in the ledger of the user that it is about."""
    await audit.add(
        db,
        at=now,
        actor=actor.name,
        client=actor.client,
        action=action,
        subject=user.email if user else lab.name,
        details={**({"lab": lab.title} if user else {}), **details},
        owner_id=actor.on(user.id) if user else None,
    )
