"""Administrators' pages about users."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import urlencode

from fastapi import APIRouter, Form, Request, Response

from ...domain.limits import Quota
from ...domain.sizes import format_bytes
from ...domain.users import Role, User, UserStatus
from ...services.users import UserChange
from ..deps import (
    CurrentAdmin,
    HomeWorks,
    Leavings,
    Ledger,
    Listings,
    Logins,
    MailFailures,
    Offers,
    Present,
    Tokens,
    Users,
    Visitor,
)
from ..views.admin import UserRow, mail_failure_in_words
from ..views.leaving import HomeOfUser
from ..views.values import Problems
from .forms import MaybeCount, MaybeNumber, MaybeSize, PageForm, may_be, needed, needs
from .rendering import after_form, page, saying, see_other

router = APIRouter(prefix="/admin/users", include_in_schema=False)

PAGE = 50
LAB_MAX = 100


@router.get("")
async def users(
    request: Request,
    visitor: CurrentAdmin,
    listings: Listings,
    ledger: Ledger,
    q: str = "",
    after: str = "",
) -> Response:
    """Everybody who has signed in, by e-mail address."""
    found = await listings.users(search=q.strip(), limit=PAGE + 1, after=after or None)
    shown = {one.user.id for one in found[:PAGE]}
    await ledger.looked_at_list(visitor.actor, shown, "user.listed", visitor.now)
    more = urlencode({"q": q, "after": found[PAGE - 1].user.email}) if len(found) > PAGE else None
    return page(
        request,
        "admin/users.html",
        visitor,
        users=[UserRow(one.user, one.live_instances, one.mail_failure) for one in found[:PAGE]],
        next_page=f"/admin/users?{more}" if more else None,
        query={"q": q},
    )


@router.get("/{user_id}")
async def user(
    user_id: str,
    request: Request,
    visitor: CurrentAdmin,
    them: Users,
    logins: Logins,
    tokens: Tokens,
    offers: Offers,
    mail_failures: MailFailures,
    ledger: Ledger,
    leavings: Leavings,
    works: HomeWorks,
    present: Present,
) -> Response:
    """What is set for one of them, and their live instances."""
    one = await them.get(user_id)
    await ledger.looked_at_user(visitor.actor, one, "user.read", visitor.now)
    here = f"/admin/users/{user_id}"
    at_home = (f"{here}/remove", f"{here}/home-work")
    refused = after_form(request, visitor, here, f"{here}/suspend", *at_home)
    problems = refused.problems() if refused else {}
    is_at_home = refused is not None and refused.action in at_home
    failure = (await mail_failures.of_addresses([one.email])).get(one.email)
    return page(
        request,
        "admin/user.html",
        visitor,
        user=one,
        mail_failure=failure,
        mail_note=mail_failure_in_words(failure) if failure else "",
        form={**_form_of(one), **(refused.values if refused and not is_at_home else {})},
        errors=Problems({} if is_at_home else problems),
        home_errors=list(problems.values()) if is_at_home else [],
        home_form=refused.values if refused and is_at_home else {},
        home=HomeOfUser.of(await leavings.of(one), await works.archives_of(one), await works.of_user(one)),
        logins=len(await logins.of_user(one, visitor.now)),
        tokens=len(await tokens.of_user(one)),
        default_instances=(await offers.limits()).instances_per_user,
        instances=[present.plain_card(instance, visitor.now) for instance in await present.live_of(one)],
    )


def _form_of(one: User) -> dict[str, str]:
    quota = one.quota
    return {
        "role": one.role.value,
        "lab": one.lab or "",
        "memory": "" if quota.memory_bytes is None else format_bytes(quota.memory_bytes),
        "cpus": "" if quota.cpus is None else f"{quota.cpus:g}",
        "storage": "" if quota.storage_bytes is None else format_bytes(quota.storage_bytes),
        "instances": "" if quota.instances is None else str(quota.instances),
    }


def _lab(text: str) -> str:
    if len(text) > LAB_MAX:
        raise ValueError(f"at most {LAB_MAX} characters")
    return text


class UserForm(PageForm):
    """The whole form. Suspending is an action of its own."""

    role: Annotated[Role, needs(Role)] = needed()
    lab: Annotated[str | None, may_be(_lab)] = None
    memory: MaybeSize = None
    cpus: MaybeNumber = None
    storage: MaybeSize = None
    instances: MaybeCount = None

    def change(self) -> UserChange:
        quota = Quota(self.memory, self.cpus, self.storage, self.instances)
        return UserChange(role=self.role, lab=self.lab, quota=quota)


@router.post("/{user_id}")
async def change_user(user_id: str, visitor: CurrentAdmin, them: Users, form: Annotated[UserForm, Form()]) -> Response:
    """Saves the whole form."""
    changed = await them.change(user_id, form.change(), visitor.actor, visitor.now)
    return _told(visitor, changed, "saved")


def _told(visitor: Visitor, one: User, code: str) -> Response:
    return see_other(f"/admin/users/{one.id}?{urlencode(saying(visitor, code, one.email))}")


@router.post("/{user_id}/suspend")
async def suspend(user_id: str, visitor: CurrentAdmin, them: Users) -> Response:
    """Ends the user's logins and instances at once; the page lists them before it asks for this."""
    one = await them.change(user_id, UserChange(status=UserStatus.SUSPENDED), visitor.actor, visitor.now)
    return _told(visitor, one, "suspended")


@router.post("/{user_id}/reactivate")
async def reactivate(user_id: str, visitor: CurrentAdmin, them: Users) -> Response:
    """Lets a suspended user sign in and launch again."""
    one = await them.change(user_id, UserChange(status=UserStatus.ACTIVE), visitor.actor, visitor.now)
    return _told(visitor, one, "reactivated")
