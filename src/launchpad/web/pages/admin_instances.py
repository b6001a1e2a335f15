"""Administrators' page about everyone's instances."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated
from urllib.parse import urlencode

from fastapi import APIRouter, Form, Request, Response

from ...domain.instances import ENDED, LIVE, Instance, State
from ...services.listings import InstanceFilter, ListStart
from ...services.users import UserService
from ..deps import CurrentAdmin, Instances, Ledger, Listings, Present, Users
from ..views.presenter import Presenter
from .forms import ExtendForm
from .rendering import page, saying, see_other

router = APIRouter(prefix="/admin/instances", include_in_schema=False)

PAGE = 50


@dataclass(frozen=True)
class Filter:
    """`q` looks in the owner's address and the environment; `state` is "" (active), a state, "ended" or "all"."""

    q: str = ""
    state: str = ""

    @property
    def wanted(self) -> InstanceFilter:
        groups = {"": LIVE, "ended": ENDED, "all": LIVE | ENDED}
        one = frozenset(state for state in State if state == self.state)
        return InstanceFilter(self.q, groups.get(self.state, one))

    def path(self, **more: str) -> str:
        given = {name: value for name, value in {"q": self.q, "state": self.state, **more}.items() if value}
        return "/admin/instances" + (f"?{urlencode(given)}" if given else "")

    @property
    def query_text(self) -> str:
        return self.path().partition("?")[2]


@router.get("")
async def instances(
    request: Request,
    visitor: CurrentAdmin,
    listings: Listings,
    ledger: Ledger,
    present: Present,
    q: str = "",
    state: str = "",
    before: str | None = None,
) -> Response:
    """Everyone's instances: active ones newest first, ended ones by their end, the latest first."""
    wanted = Filter(q[:200], state[:20])
    start = ListStart.parse(before) if before is not None else None
    found, further = await listings.instances(wanted.wanted, limit=PAGE, start=start)
    owners = {listed.instance.owner_id for listed in found}
    await ledger.looked_at_list(visitor.actor, owners, "instance.listed", visitor.now)
    return page(
        request,
        "admin/instances.html",
        visitor,
        instances=await present.cards_of(found, visitor.now),
        next_page=wanted.path(before=str(further)) if further else None,
        query=wanted,
    )


@router.post("/{instance_id}/stop")
async def stop(
    instance_id: str,
    visitor: CurrentAdmin,
    them: Instances,
    users: Users,
    present: Present,
    q: str = "",
    state: str = "",
) -> Response:
    """Ends anybody's instance; the owner is told that an administrator did."""
    instance = await them.stop_any(instance_id, visitor.actor, visitor.now)
    about = await _name(present, users, instance)
    return see_other(Filter(q, state).path(**saying(visitor, "admin-stopping", about)))


async def _name(present: Presenter, users: UserService, instance: Instance) -> str:
    """ "JupyterLab of ada@example.org"."""
    owner = await users.get(instance.owner_id)
    return f"{present.title_of(instance)} of {owner.email}"


@router.post("/{instance_id}/extend")
async def extend(
    instance_id: str,
    visitor: CurrentAdmin,
    them: Instances,
    users: Users,
    present: Present,
    form: Annotated[ExtendForm, Form()],
    q: str = "",
    state: str = "",
) -> Response:
    instance = await them.extend_any(instance_id, form.days, visitor.actor, visitor.now)
    about = await _name(present, users, instance)
    return see_other(Filter(q, state).path(**saying(visitor, "extended", about, instance.expires_at)))
