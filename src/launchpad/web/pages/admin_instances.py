"""Administrators' page about everyone's instances."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated
from urllib.parse import urlencode

from fastapi import APIRouter, Form, Request, Response

from ...domain.instances import ENDED, LIVE, Instance, State
from ...domain.limits import Offer
from ...platform import Platform
from ...services.listings import InstanceFilter, ListStart
from ..deps import CurrentAdmin, Here
from . import views
from .dashboard import title_of
from .forms import FormReader, count
from .rendering import page, saying, see_other

router = APIRouter(prefix="/admin/instances")

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
    platform: Here,
    q: str = "",
    state: str = "",
    before: str | None = None,
) -> Response:
    """Everyone's instances: active ones newest first, ended ones by their end, the latest first."""
    wanted = Filter(q[:200], state[:20])
    start = ListStart.parse(before) if before is not None else None
    found, further = await platform.listings.instances(wanted.wanted, limit=PAGE, start=start)
    offers: dict[str, Offer] = {}
    rows = []
    for listed in found:
        instance, owner = listed.instance, listed.owner
        environment = platform.catalogue.get(instance.environment)
        if environment and instance.environment not in offers:
            offers[instance.environment] = await platform.offers.for_environment(instance.environment)
        rows.append(
            views.instance_view(
                instance,
                environment,
                visitor.now,
                offer=offers.get(instance.environment),
                queue_position=listed.queue_position,
                owner_email=owner.email if owner else "",
            )
        )
    return page(
        request,
        "admin/instances.html",
        visitor,
        instances=rows,
        next_page=wanted.path(before=str(further)) if further else None,
        query=wanted,
    )


@router.post("/{instance_id}/stop")
async def stop(instance_id: str, visitor: CurrentAdmin, platform: Here, q: str = "", state: str = "") -> Response:
    """Ends anybody's instance; the owner is told that an administrator did."""
    instance = await platform.instances.stop_any(instance_id, visitor.actor, visitor.now)
    about = await _name(platform, instance)
    return see_other(Filter(q, state).path(**saying(platform, visitor, "admin-stopping", about)))


async def _name(platform: Platform, instance: Instance) -> str:
    """ "JupyterLab of ada@example.org"."""
    owner = await platform.users.get(instance.owner_id)
    return f"{title_of(platform, instance)} of {owner.email}"


@router.post("/{instance_id}/extend")
async def extend(
    instance_id: str,
    visitor: CurrentAdmin,
    platform: Here,
    days: Annotated[str, Form()] = "",
    q: str = "",
    state: str = "",
) -> Response:
    form = FormReader({"days": days})
    wanted = form.required("days", count, 0)
    form.check()
    instance = await platform.instances.extend_any(instance_id, wanted, visitor.actor, visitor.now)
    about = await _name(platform, instance)
    return see_other(Filter(q, state).path(**saying(platform, visitor, "extended", about, instance.expires_at)))
