"""Labs: administrators make them and name leads, leads change their title and members, members see them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy.ext.asyncio import AsyncConnection

from ..domain.audit_words import actor_in_words
from ..domain.labs import (
    REMINDED_AFTER,
    REQUESTS_MAX,
    JoinRequest,
    Lab,
    LabAccess,
    LabMember,
    LabRight,
    ListedLab,
    OwnLab,
    clean_title,
    problems_of,
    title_problems,
)
from ..domain.naming import new_id
from ..domain.users import User
from ..errors import Conflict, Forbidden, InvalidInput, NotFound, TooManyRequests
from ..store import labs, users
from ..store.database import Database
from . import lab_membership
from .audit import Actor
from .lab_mails import LabMails
from .lab_membership import record

_NONE = "There is no such lab, or you are not in it."


class LabService:
    def __init__(self, database: Database, mails: LabMails) -> None:
        self._database = database
        self._mails = mails

    # -- looking -------------------------------------------------------------------------------------------------------

    async def access(self, user: User, name: str, *, as_admin: bool = False) -> LabAccess:
        """What somebody may in a lab.

        Args:
            as_admin: whether they act as an administrator, which the caller has checked.

        Raises:
            NotFound: there is none of that name, or they are not in it.
        """
        async with self._database.reading() as db:
            lab = await labs.by_name(db, name)
            member = await labs.member(db, lab.id, user.id) if lab else None
        if lab is None or (member is None and not as_admin):
            raise NotFound(_NONE)
        right = LabRight.LEAD if member is not None and member.is_lead else LabRight.MEMBER
        return LabAccess(lab, LabRight.ADMIN if as_admin else right, is_member=member is not None)

    async def get(self, name: str) -> Lab:
        """For commands on the server. Raises NotFound."""
        async with self._database.reading() as db:
            return await _named(db, name)

    async def of_user(self, user: User) -> Sequence[OwnLab]:
        """Somebody's labs, the one they have been in longest first."""
        async with self._database.reading() as db:
            return await labs.of_user(db, user.id)

    async def page(self, *, search: str = "", limit: int = 50, after: str | None = None) -> Sequence[ListedLab]:
        """All labs by name, from behind the name `after`."""
        async with self._database.reading() as db:
            return await labs.page(db, search=search, limit=limit, after=after)

    async def members(self, lab: Lab) -> Sequence[LabMember]:
        """The leads first."""
        async with self._database.reading() as db:
            return await labs.members(db, lab.id)

    async def requests(self, lab: Lab) -> Sequence[JoinRequest]:
        """Who asks to join, the oldest first."""
        async with self._database.reading() as db:
            return await labs.requests(db, lab.id)

    # -- labs ----------------------------------------------------------------------------------------------------------

    async def make(self, name: str, title: str, actor: Actor, now: datetime) -> Lab:
        """A new lab, without members. For administrators.

        Args:
            title: empty: as the name.

        Raises:
            InvalidInput: with the fields.
            Conflict: another lab has that name, or is called so in settings and policies.
        """
        name, title = name.strip(), clean_title(title) or name.strip()
        if found := problems_of(name, title):
            raise InvalidInput("This lab cannot be created.", fields=found)
        made = Lab(new_id(), name, name, title, now)
        async with self._database.transaction() as db:
            if await labs.is_taken(db, name):
                raise Conflict("There is a lab of that name already.", fields={"name": "is taken"})
            await labs.add(db, made)
            await record(db, made, "lab.made", actor, now, title=title)
        return made

    async def rename(self, access: LabAccess, title: str, actor: Actor, now: datetime) -> Lab:
        """Another title; the name stays.

        Raises:
            Forbidden: the actor does not lead it.
            InvalidInput: with the field.
        """
        _needs(access, LabRight.LEAD)
        title = clean_title(title)
        if found := title_problems(title):
            raise InvalidInput("The title cannot be used.", fields=found)
        async with self._database.transaction() as db:
            await _still(db, access, actor)
            before = await _named(db, access.lab.name)
            if before.title != title:
                await labs.set_title(db, before.id, title)
                await record(db, before, "lab.renamed", actor, now, title=f"{before.title} → {title}")
            return await _named(db, access.lab.name)

    # -- members -------------------------------------------------------------------------------------------------------

    async def put(
        self, access: LabAccess, email: str, actor: Actor, now: datetime, *, is_lead: bool | None = None
    ) -> LabMember:
        """Adds somebody, or says whether a member leads; a request of theirs is accepted by that.

        Args:
            is_lead: None: as it is; a new member does not.

        Raises:
            Forbidden: the actor does not lead it, or is no administrator and changes who leads.
            NotFound: nobody with that address has signed in.
        """
        _needs(access, LabRight.LEAD)
        lab = access.lab
        async with self._database.transaction() as db:
            await _still(db, access, actor)
            user = await _user(db, email)
            before = await labs.member(db, lab.id, user.id)
            leads = before is not None and before.is_lead
            if is_lead is not None and is_lead != leads:
                _needs(access, LabRight.ADMIN)
            if before is None:
                await lab_membership.join(db, lab, user, now, is_lead=bool(is_lead))
                await record(db, lab, "lab.joined", actor, now, user, **({"lead": "yes"} if is_lead else {}))
                if actor.user_id != user.id:
                    await self._mails.joined(db, lab, user, actor_in_words(actor.name), now)
            elif is_lead is not None and is_lead != leads:
                await labs.set_lead(db, lab.id, user.id, is_lead)
                await record(db, lab, "lab.lead_named" if is_lead else "lab.lead_ended", actor, now, user)
            after = next(one for one in await labs.members(db, lab.id) if one.user.id == user.id)
        self._mails.wake()
        return after

    async def remove(self, access: LabAccess, email: str, actor: Actor, now: datetime) -> None:
        """Somebody is in it no longer; everybody may leave.

        Raises:
            Forbidden: the actor does not lead it; or it is a lead, whom only administrators remove.
            NotFound: nobody with that address is in it.
        """
        lab = access.lab
        async with self._database.transaction() as db:
            user = await users.by_email(db, email.strip().lower())
            if user is None or user.id != actor.user_id:
                _needs(access, LabRight.LEAD)
                await _still(db, access, actor)
            member = await labs.member(db, lab.id, user.id) if user else None
            if user is None or member is None:
                raise NotFound("Nobody with that address is in this lab.")
            if member.is_lead and access.right < LabRight.ADMIN:
                raise Forbidden("Only administrators may remove a lead.")
            counts = await lab_membership.leave(db, lab, user)
            changed = {"counts_now": counts or "none"} if counts != user.lab else {}
            await record(db, lab, "lab.left", actor, now, user, **changed)
            if actor.user_id != user.id:
                await self._mails.removed(db, lab, user, actor_in_words(actor.name), now)
        self._mails.wake()

    # -- requests ------------------------------------------------------------------------------------------------------

    async def ask(self, user: User, name: str, actor: Actor, now: datetime) -> None:
        """Somebody asks to join. Where there is no such lab, the same happens to be seen: nothing.

        Raises:
            Conflict: they are in it.
            TooManyRequests: they have too many requests that nobody has answered.
        """
        async with self._database.transaction() as db:
            lab = await labs.by_name(db, name.strip().lower())
            if lab is None:
                return
            if await labs.member(db, lab.id, user.id) is not None:
                raise Conflict("You are in this lab already.")
            before = await labs.request_of(db, lab.id, user.id)
            if before is not None:
                if now - before.mailed_at < REMINDED_AFTER:
                    return
                await labs.mailed(db, lab.id, user.id, now)
            else:
                if await labs.count_requests_of(db, user.id) >= REQUESTS_MAX:
                    raise TooManyRequests(
                        f"{REQUESTS_MAX} requests of yours have not been answered yet. Ask the leads of these labs."
                    )
                await labs.ask(db, lab.id, user.id, now)
                await record(db, lab, "lab.asked", actor, now, user)
            leads = [one.user for one in await labs.members(db, lab.id) if one.is_lead and one.user.is_active]
            await self._mails.asked(db, lab, user, leads or await users.active_admins(db), now)
        self._mails.wake()

    async def decline(self, access: LabAccess, email: str, actor: Actor, now: datetime) -> None:
        """A request is not granted; who asked is told, and may ask again.

        Raises:
            Forbidden: the actor does not lead the lab.
            NotFound: there is no such request.
        """
        _needs(access, LabRight.LEAD)
        lab = access.lab
        async with self._database.transaction() as db:
            await _still(db, access, actor)
            user = await users.by_email(db, email.strip().lower())
            if user is None or not await labs.settle(db, lab.id, user.id):
                raise NotFound("Nobody with that address asks to join this lab.")
            await record(db, lab, "lab.declined", actor, now, user)
            await self._mails.declined(db, lab, user, now)
        self._mails.wake()


async def _named(db: AsyncConnection, name: str) -> Lab:
    lab = await labs.by_name(db, name)
    if lab is None:
        raise NotFound(f"There is no lab “{name[:40]}”.")
    return lab


async def _user(db: AsyncConnection, email: str) -> User:
    user = await users.by_email(db, email.strip().lower())
    if user is None:
        raise NotFound(f"Nobody with the address {email.strip()[:254]} has signed in yet.")
    return user


async def _still(db: AsyncConnection, access: LabAccess, actor: Actor) -> None:
    """That a lead has not been removed since `access` was asked. Raises Forbidden."""
    if access.right is LabRight.LEAD and actor.user_id is not None:
        member = await labs.member(db, access.lab.id, actor.user_id)
        if member is None or not member.is_lead:
            raise Forbidden("Only its leads may do this.")


def _needs(access: LabAccess, right: LabRight) -> None:
    if access.right < right:
        who = "its leads" if right is LabRight.LEAD else "administrators"
        raise Forbidden(f"Only {who} may do this.")
