"""Administrators' page about everyone's instances."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated
from urllib.parse import urlencode

from fastapi import APIRouter, Form, Request, Response

from ...domain.instances import ENDED, Instance
from ...domain.paging import Place
from ...domain.users import User
from ...services.instances import InstanceService
from ...services.users import UserService
from ..deps import CurrentAdmin, Instances, Present, Users
from ..paging import place_of
from ..views.presenter import Presenter
from .forms import ExtendForm
from .rendering import page, saying, see_other

router = APIRouter(prefix="/admin/instances", include_in_schema=False)

PAGE = 50
LOOK = 200  # rows looked through at a time for what a filter wants
LOOKS = 20


@dataclass(frozen=True)
class Filter:
    """`q` looks in the owner's address and the environment; `state` is "" (active), a state, "ended" or "all"."""

    q: str = ""
    state: str = ""

    def wants(self, instance: Instance, owner: User | None) -> bool:
        if self.state not in ("", "ended", "all") and instance.state != self.state:
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
    them: Instances,
    users: Users,
    present: Present,
    q: str = "",
    state: str = "",
    before: str | None = None,
) -> Response:
    """Everyone's instances: active ones newest first, ended ones by their end, the latest first."""
    wanted = Filter(q[:200], state[:20])
    found, further = await _find(them, users, wanted, _Start.parse(before, wanted))
    return page(
        request,
        "admin/instances.html",
        visitor,
        instances=await present.cards_of(found, visitor.now),
        next_page=wanted.path(before=str(further)) if further else None,
        query=wanted,
    )


@dataclass(frozen=True)
class _Start:
    """Where a page begins: among those that are active, newest first, or the ended ones, the latest end first."""

    ended: bool = False
    before: Place | None = None

    @classmethod
    def parse(cls, cursor: str | None, wanted: Filter) -> _Start:
        """Raises InvalidInput for what `str` did not write."""
        if cursor is None:
            return cls(ended=wanted.state in {"ended", *ENDED})
        kind, _, place = cursor.partition("~")
        return cls(kind == "ended", place_of(place))

    def __str__(self) -> str:
        return f"{'ended' if self.ended else 'active'}~{self.before}"


async def _find(
    instances: InstanceService, users: UserService, wanted: Filter, start: _Start
) -> tuple[list[tuple[Instance, User | None]], _Start | None]:
    """A page of what the filter wants, and where the next one begins (None: there is no more)."""
    found: list[tuple[Instance, User | None]] = []
    for _ in range(LOOKS):
        if start.ended:
            some = await instances.ended(limit=LOOK, before=start.before)
        else:
            some = await instances.of_everyone(limit=LOOK, before=start.before)
        owners = await users.by_ids({instance.owner_id for instance in some})
        for instance in some:
            start = _Start(start.ended, instance.ended_place if start.ended else instance.place)
            owner = owners.get(instance.owner_id)
            if wanted.wants(instance, owner):
                found.append((instance, owner))
                if len(found) == PAGE:
                    return found, start
        if len(some) < LOOK:
            if start.ended or wanted.state != "all":
                return found, None
            start = _Start(ended=True)
    return found, start


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
