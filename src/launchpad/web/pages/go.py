"""Addresses that live for ever: `/go/jupyterlab/tree/a.ipynb` leads to one's own JupyterLab, whichever that is now."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import quote

from fastapi import APIRouter, Form, Query, Request, Response

from ...domain.environments import Environment
from ...domain.instances import Instance, State
from ...domain.return_paths import LINK_MAX, RETURN_PATH_MAX, as_parameter
from ...errors import NotFound
from ...services.instances import LaunchRequest
from ..deps import Catalogue, CurrentUser, Instances, Present, Visitor
from ..views.presenter import Presenter
from ..views.values import limits_in_words
from .after_form import stands_on
from .dashboard import in_full, onwards, same_again
from .rendering import after_form, page, see_other

router = APIRouter(prefix="/go", include_in_schema=False)

Within = Annotated[str, Query(max_length=RETURN_PATH_MAX)]


@router.get("/{environment}/{path:path}")
async def go_within(
    environment: str, path: str, request: Request, visitor: CurrentUser, catalogue: Catalogue, present: Present
) -> Response:
    """To a path inside one's current instance of an environment; where there is none, to the offer to launch it."""
    found = _found(catalogue.get(environment), environment)
    within = found.path_of_bookmark(_path_as_sent(request, environment, path))
    if current := await _current(present, visitor, found):
        return see_other(onwards(f"/instances/{current.id}/open", within))
    return see_other(f"/go/{found.name}" + (f"?next={as_parameter(within)}" if within.strip("/") else ""))


@router.get("/{environment}")
async def go(
    environment: str, request: Request, visitor: CurrentUser, catalogue: Catalogue, present: Present, next: Within = ""
) -> Response:
    """To one's current instance of an environment, or the offer to launch it."""
    found = _found(catalogue.get(environment), environment)
    if current := await _current(present, visitor, found):
        return see_other(onwards(f"/instances/{current.id}/open", next))
    refused = after_form(request, visitor, f"/go/{found.name}")
    last = await _last(present, visitor, found)
    limits = last.limits if last else await present.default_limits(found.name)
    return page(
        request,
        "go.html",
        visitor,
        environment=found,
        next=next,
        limits_text=limits_in_words(limits),
        days=limits.days,
        was_launched=last is not None,
        refused=in_full(refused) if refused else "",
    )


@router.post("/{environment}")
async def launch(
    environment: str,
    request: Request,
    visitor: CurrentUser,
    catalogue: Catalogue,
    instances: Instances,
    present: Present,
    next: Annotated[str, Form(max_length=RETURN_PATH_MAX)] = "",
) -> Response:
    """Launches it with the choices of the last time, or the defaults, and leads to the address `next` inside it."""
    found = _found(catalogue.get(environment), environment)
    stands_on(request, onwards(f"/go/{found.name}", next))
    current = await _current(present, visitor, found)
    if current is None:
        last = await _last(present, visitor, found)
        asked = await same_again(present, last) if last else LaunchRequest(found.name)
        current = await instances.launch(visitor.user, asked, visitor.actor, visitor.now)
    return see_other(onwards(f"/instances/{current.id}/open", next))


def _found(environment: Environment | None, name: str) -> Environment:
    if environment is None:
        raise NotFound(f"There is no environment “{name[:60]}”. Your dashboard shows what can be launched.")
    return environment


async def _current(present: Presenter, visitor: Visitor, environment: Environment) -> Instance | None:
    """The newest of those that run, or else of those that are to."""
    live = present.same_of(environment.name, await present.live_of(visitor.user))
    return next((one for one in live if one.state is State.RUNNING), live[0] if live else None)


async def _last(present: Presenter, visitor: Visitor, environment: Environment) -> Instance | None:
    """The latest of the ended ones on the visitor's list, whose choices are taken again."""
    ended = await present.ended_of(visitor.user)
    return next((one for one in ended if one.environment == environment.name), None)


def _path_as_sent(request: Request, environment: str, path: str) -> str:
    """The path inside the instance with its query, as the browser has encoded it; empty when it is too long."""
    sent = request.scope.get("raw_path", b"").decode("latin-1").partition("?")[0]
    _, found, rest = sent.partition(f"/go/{quote(environment)}/")
    within = f"/{rest if found else quote(path)}"
    if request.url.query:
        within += f"?{request.url.query}"
    return within if len(within) <= LINK_MAX else ""
