"""What administrators do on a user's page about leaving: remove the user, and have the home folder archived,
restored, copied or removed."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import urlencode

from fastapi import APIRouter, Form, Response

from ...domain.leaving import WorkKind
from ..deps import CurrentAdmin, HomeWorks, Leavings, Users, Visitor
from ..views.leaving import work_in_words
from .forms import PageForm, may_be, needed, needs
from .rendering import saying, see_other

router = APIRouter(prefix="/admin/users/{user_id}", include_in_schema=False)

Text = Annotated[str | None, may_be(str)]


class RemovalForm(PageForm):
    reason: Text = None


class WorkForm(PageForm):
    """`archive`: its id; `to` and `reason` of a copy."""

    kind: Annotated[WorkKind, needs(WorkKind)] = needed()
    archive: Text = None
    to: Text = None
    reason: Text = None


@router.post("/remove")
async def remove(
    user_id: str, visitor: CurrentAdmin, them: Users, leavings: Leavings, form: Annotated[RemovalForm, Form()]
) -> Response:
    """Suspends the user and has the home folder archived after warnings."""
    one = await them.get(user_id)
    await leavings.remove(one, None, form.reason or "", visitor.actor, visitor.now)
    return _told(visitor, user_id, "removed-user", one.email)


@router.post("/home-work")
async def home_work(
    user_id: str, visitor: CurrentAdmin, them: Users, works: HomeWorks, form: Annotated[WorkForm, Form()]
) -> Response:
    """Begins work on the home folder, which goes on in the background."""
    one = await them.get(user_id)
    to = await them.by_email(form.to) if form.to else None
    await works.ask(
        form.kind,
        one,
        visitor.actor,
        visitor.now,
        archive_id=form.archive,
        to=to,
        reason=form.reason or "",
    )
    return _told(visitor, user_id, "home-work", work_in_words(form.kind))


def _told(visitor: Visitor, user_id: str, code: str, about: str) -> Response:
    return see_other(f"/admin/users/{user_id}?{urlencode(saying(visitor, code, about))}")
