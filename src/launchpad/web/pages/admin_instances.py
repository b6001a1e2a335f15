"""Administrators' page about everyone's instances."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated
from urllib.parse import urlencode

from fastapi import APIRouter, Form, Request, Response

from ...domain.instances import Instance
from ...domain.limits import Offer
from ...domain.paging import Place
from ...domain.users import User
from ...services.platform import Platform
from ..api.paging import place_of
from ..deps import CurrentAdmin, Here
from . import views
from .forms import FormReader, count
from .rendering import page, see_other

router = APIRouter(prefix="/admin/instances")

PAGE = 50
LOOK = 200  # rows looked through at a time for what a filter wants
LOOKS = 20


@dataclass(frozen=True)
class Filter:
    """`q` looks in the owner's address and the environment; `state` is "", a state, or "all" with the ended ones."""

    q: str = ""
    state: str = ""

    def wants(self, instance: Instance, owner: User | None) -> bool:
        if self.state not in ("", "all") and instance.state != self.state:
            return False
        text = f"{owner.email if owner else ''} {instance.environment}".lower()
        return self.q.strip().lower() in text

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
    """Everyone's instances, newest first."""
    wanted = Filter(q[:200], state[:20])
    found, further = await _find(platform, wanted, place_of(before))
    offers: dict[str, Offer] = {}
    rows = []
    for instance, owner in found:
        environment = platform.catalogue.get(instance.environment)
        if environment and instance.environment not in offers:
            offers[instance.environment] = await platform.offers.for_environment(instance.environment)
        rows.append(
            views.instance_view(
                instance,
                environment,
                visitor.now,
                offer=offers.get(instance.environment),
                queue_position=await platform.instances.queue_position(instance),
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


async def _find(
    platform: Platform, wanted: Filter, before: Place | None
) -> tuple[list[tuple[Instance, User | None]], Place | None]:
    """A page of what the filter wants, and where the next one begins (None: there is no more)."""
    found: list[tuple[Instance, User | None]] = []
    for _ in range(LOOKS):
        some = await platform.instances.of_everyone(with_ended=wanted.state == "all", limit=LOOK, before=before)
        owners = await platform.users.by_ids({instance.owner_id for instance in some})
        for instance in some:
            before = instance.place
            owner = owners.get(instance.owner_id)
            if wanted.wants(instance, owner):
                found.append((instance, owner))
                if len(found) == PAGE:
                    return found, before
        if len(some) < LOOK:
            return found, None
    return found, before


@router.post("/{instance_id}/stop")
async def stop(instance_id: str, visitor: CurrentAdmin, platform: Here, q: str = "", state: str = "") -> Response:
    """Ends anybody's instance; the owner is told that an administrator did."""
    await platform.instances.stop_any(instance_id, visitor.actor, visitor.now)
    return see_other(Filter(q, state).path(said="admin-stopping"))


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
    await platform.instances.extend_any(instance_id, wanted, visitor.actor, visitor.now)
    return see_other(Filter(q, state).path(said="extended"))
