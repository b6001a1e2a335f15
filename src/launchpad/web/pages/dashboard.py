"""The dashboard, and what its owner does with an instance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Annotated
from urllib.parse import quote

from fastapi import APIRouter, Form, Query, Request, Response

from ...domain.environments import Environment
from ...domain.instances import Instance, State
from ...domain.limits import Use
from ...errors import EngineUnavailable, ImageMissing, LaunchpadError
from ...services.instances import Wish
from ...services.platform import Platform
from ..api.instances import lacking, usage_of
from ..deps import CurrentUser, Here, Visitor
from . import views
from .forms import FormReader, count, number, size
from .rendering import page, see_other

router = APIRouter()

ENDED_SHOWN = 10
SIZE_FIELDS = ("memory", "cpus", "storage", "days")
Text = Annotated[str, Form()]


@router.get("/dashboard")
async def dashboard(request: Request, visitor: CurrentUser, platform: Here) -> Response:
    """One's own instances, what can be launched, and what one may use."""
    return await _dashboard(request, visitor, platform)


async def _dashboard(
    request: Request,
    visitor: Visitor,
    platform: Platform,
    *,
    asked: Mapping[str, str] | None = None,
    error: LaunchpadError | None = None,
) -> Response:
    """`asked` and `error` are a launch form that was refused and why."""
    live = await platform.instances.of_owner(visitor.user)
    recent = await platform.instances.of_owner(visitor.user, with_ended=True, limit=ENDED_SHOWN + len(live) + 10)
    ended = [instance for instance in recent if not instance.is_live][:ENDED_SHOWN]
    cards = []
    for environment in platform.catalogue.values():
        concerned = asked is not None and asked.get("environment") == environment.name
        cards.append(
            await _card(
                platform, visitor, environment, live, asked if concerned else None, error if concerned else None
            )
        )
    return page(
        request,
        "dashboard.html",
        visitor,
        status=error.status if error else 200,
        live=[await instance_view(platform, instance, visitor) for instance in live],
        ended=[await instance_view(platform, instance, visitor) for instance in ended],
        cards=cards,
        home_path=home_path(visitor),
        home_meter=await home_meter(platform, visitor),
        allowance=await allowance(platform, visitor, live),
    )


async def _card(
    platform: Platform,
    visitor: Visitor,
    environment: Environment,
    live: Sequence[Instance],
    asked: Mapping[str, str] | None,
    error: LaunchpadError | None,
) -> views.LaunchCard:
    offer = await platform.offers.for_environment(environment.name)
    unavailable, stand_in_for = None, None
    try:
        if (await platform.images.resolve(environment)).stand_in:
            stand_in_for = environment.image
    except (ImageMissing, EngineUnavailable) as missing:
        unavailable = missing.detail
    same = [one for one in live if one.environment == environment.name and one.state is not State.STOPPING]
    most = platform.settings.limits.instances_per_environment
    return views.LaunchCard(
        name=environment.name,
        title=environment.title,
        description=environment.description,
        choices=views.offer_choices(offer, visitor.user.quota, asked),
        unavailable=unavailable,
        stand_in_for=stand_in_for,
        live_id=same[0].id if len(same) >= most else None,
        errors=_launch_problems(error),
    )


def _launch_problems(error: LaunchpadError | None) -> views.Problems:
    """A refused launch at its fields; what concerns no field of the form stands above them all."""
    if error is None:
        return views.Problems()
    problems = views.Problems({name: text for name, text in error.fields.items() if name in SIZE_FIELDS})
    if len(problems) < len(error.fields) or not problems:
        problems[""] = error.detail
    return problems


async def instance_view(platform: Platform, instance: Instance, visitor: Visitor) -> views.InstanceView:
    """A user's own instance, with what it uses now."""
    environment = platform.catalogue.get(instance.environment)
    usage = await usage_of(platform, instance)
    return views.instance_view(
        instance,
        environment,
        visitor.now,
        offer=await platform.offers.for_environment(instance.environment) if environment else None,
        memory_used_bytes=usage.memory_bytes if usage else None,
        queue_position=await platform.instances.queue_position(instance),
        lacks=await lacking(platform, instance, usage, visitor.user.username),
    )


def home_path(visitor: Visitor) -> str:
    """Where instances see the Home, whatever the server's own path to it is."""
    return f"/home/{visitor.user.username}"


async def home_meter(platform: Platform, visitor: Visitor) -> views.Meter | None:
    """None where the storage cannot tell, as before the first launch."""
    try:
        use = await platform.homes.use(visitor.user.username)
    except LaunchpadError:
        return None
    return None if use.used_bytes is None else views.bytes_meter("Files", use.used_bytes, use.limit_bytes)


async def allowance(platform: Platform, visitor: Visitor, live: Sequence[Instance]) -> list[views.Meter]:
    use = Use()
    for instance in live:
        use = use.plus(instance.limits)
    limits = await platform.offers.limits()
    return views.allowance_meters(visitor.user.quota, use, limits.instances_per_user)


@router.post("/instances")
async def launch(
    request: Request,
    visitor: CurrentUser,
    platform: Here,
    environment: Text = "",
    memory: Text = "",
    cpus: Text = "",
    storage: Text = "",
    days: Text = "",
    safe_mode: Text = "",
) -> Response:
    """Launches an instance; what is left empty takes the default. A refused form comes back with the reason."""
    asked = {"environment": environment, "memory": memory, "cpus": cpus, "storage": storage, "days": days}
    try:
        wish = replace(_wish(asked), safe_mode=bool(safe_mode))
        await platform.instances.launch(visitor.user, wish, visitor.actor, visitor.now)
    except LaunchpadError as error:
        if environment not in platform.catalogue:
            raise
        return await _dashboard(request, visitor, platform, asked=asked, error=error)
    return see_other("/dashboard?said=launched")


def _wish(asked: Mapping[str, str]) -> Wish:
    """Raises InvalidInput with the fields that are no size or number."""
    form = FormReader(asked)
    wish = Wish(
        environment=form.text("environment"),
        memory_bytes=form.maybe("memory", size),
        cpus=form.maybe("cpus", number),
        storage_bytes=form.maybe("storage", size),
        days=form.maybe("days", count),
    )
    form.check()
    return wish


@router.get("/instances/{instance_id}/open")
async def open_page(
    instance_id: str,
    request: Request,
    visitor: CurrentUser,
    platform: Here,
    next: Annotated[str, Query(max_length=4000)] = "",
) -> Response:
    """Leads into a running instance; shows a starting one's stages, and why an ended one ended."""
    instance = await platform.instances.get(instance_id, visitor.user)
    onwards = f"/api/v1/instances/{instance.id}/open" + (f"?next={quote(next, safe='')}" if next else "")
    if instance.state is State.RUNNING:
        return see_other(onwards)
    view = await instance_view(platform, instance, visitor)
    return page(request, "open.html", visitor, it=view, continue_url=onwards)


@router.post("/instances/{instance_id}/stop")
async def stop(instance_id: str, visitor: CurrentUser, platform: Here) -> Response:
    """Ends it, giving the application its time to save."""
    await platform.instances.stop(instance_id, visitor.user, visitor.actor, visitor.now)
    return see_other("/dashboard?said=stopping")


@router.post("/instances/{instance_id}/extend")
async def extend(instance_id: str, visitor: CurrentUser, platform: Here, days: Text = "") -> Response:
    form = FormReader({"days": days})
    wanted = form.required("days", count, 0)
    form.check()
    await platform.instances.extend(instance_id, visitor.user, wanted, visitor.actor, visitor.now)
    return see_other("/dashboard?said=extended")


@router.post("/instances/{instance_id}/forget")
async def forget(instance_id: str, visitor: CurrentUser, platform: Here) -> Response:
    """Takes an ended instance off the list."""
    await platform.instances.forget(instance_id, visitor.user)
    return see_other("/dashboard?said=forgotten")
