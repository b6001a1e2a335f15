"""The dashboard, and what its owner does with an instance."""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from dataclasses import replace
from typing import Annotated
from urllib.parse import urlencode, urlsplit

from fastapi import APIRouter, Form, Query, Request, Response

from ...domain.environments import Environment
from ...domain.instances import Instance, State
from ...domain.limits import Use
from ...domain.return_paths import RETURN_PATH_MAX, as_parameter
from ...errors import EngineUnavailable, ImageMissing, LaunchpadError
from ...platform import Platform
from ...services.gate import inside
from ...services.instances import LaunchRequest
from ..api.instances import lacking, usage_of
from ..deps import CurrentUser, Here, Visitor
from . import views
from .after_form import AfterForm, stands_on
from .forms import FormReader, count, number, size
from .home_size import size_is_enforced
from .rendering import after_form, page, saying, see_other

router = APIRouter()

ENDED_SHOWN = 10
SIZE_FIELDS = ("memory", "cpus", "storage", "days")
Text = Annotated[str, Form()]


@router.get("/dashboard")
async def dashboard(request: Request, visitor: CurrentUser, platform: Here) -> Response:
    """One's own instances, what can be launched, and what one may use."""
    live = await platform.instances.of_owner(visitor.user)
    ended = await platform.instances.ended(visitor.user, limit=ENDED_SHOWN)
    refused = after_form(request, visitor, "/instances", *(_again_path(one.id) for one in ended))
    asked = refused.values if refused and refused.action == "/instances" else {}
    cards = []
    for environment in platform.catalogue.values():
        concerned = asked.get("environment") == environment.name
        cards.append(await _card(platform, visitor, environment, live, refused if concerned else None))
    shown = [await instance_view(platform, instance, visitor) for instance in live]
    return page(
        request,
        "dashboard.html",
        visitor,
        title=views.dashboard_title(shown),
        again={one.id: in_full(refused) for one in ended if refused and refused.action == _again_path(one.id)},
        live=shown,
        first_running=next((one.id for one in shown if one.state == State.RUNNING), ""),
        live_ids={card.name: card.live_id for card in cards if card.live_id},
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
    refused: AfterForm | None,
) -> views.LaunchCard:
    """`refused` is this card's form, which comes back with what was chosen and why it was refused."""
    offer = await platform.offers.for_environment(environment.name)
    unavailable, stand_in_for = None, None
    try:
        if (await platform.images.resolve(environment)).stand_in:
            stand_in_for = environment.image
    except (ImageMissing, EngineUnavailable) as missing:
        unavailable = missing.detail
    same = [one for one in live if one.environment == environment.name and one.state is not State.STOPPING]
    most = platform.settings.limits.instances_per_environment
    asked = refused.values if refused else None
    choices = views.offer_choices(offer, visitor.user.quota, asked, with_storage=await size_is_enforced(platform))
    return views.LaunchCard(
        name=environment.name,
        title=environment.title,
        description=environment.description,
        choices=choices,
        unavailable=unavailable,
        stand_in_for=stand_in_for,
        live_id=same[0].id if len(same) >= most else None,
        live_label=views.live_label(same[0].state) if same else "",
        errors=_launch_problems(refused, {one.field for one in choices}),
    )


def _launch_problems(refused: AfterForm | None, shown: Container[str]) -> views.Problems:
    """A refused launch at those of its fields that are shown; what concerns none of them stands above them all."""
    if refused is None:
        return views.Problems()
    problems = views.Problems({name: text for name, text in refused.fields.items() if name in shown})
    if len(problems) < len(refused.fields) or not problems:
        problems[""] = in_full(refused)
    return problems


def in_full(error: AfterForm) -> str:
    """A refusal in one text, for where no field can say its part."""
    texts = [f"{text[:1].upper()}{text[1:]}." for name, text in error.fields.items() if name in SIZE_FIELDS]
    return " ".join([error.detail, *(text for text in texts if text.lower() not in error.detail.lower())])


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
        lacks=await lacking(platform, instance, visitor.user.username),
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
    launch_request = replace(_launch_request(asked), safe_mode=bool(safe_mode))
    instance = await platform.instances.launch(visitor.user, launch_request, visitor.actor, visitor.now)
    return see_other(f"/dashboard?{_launched(platform, visitor, instance)}")


def _launched(platform: Platform, visitor: Visitor, instance: Instance) -> str:
    code = "queued" if instance.state is State.QUEUED else "launched"
    if instance.created_at != visitor.now:
        code = "running"  # clicked twice: it is the one there was
    return urlencode(saying(platform, visitor, code, title_of(platform, instance)))


def title_of(platform: Platform, instance: Instance) -> str:
    """What people call it: the environment's title, or its name when the catalogue has it no more."""
    environment = platform.catalogue.get(instance.environment)
    return environment.title if environment else instance.environment


def _launch_request(asked: Mapping[str, str]) -> LaunchRequest:
    """Raises InvalidInput with the fields that are no size or number."""
    form = FormReader(asked)
    launch_request = LaunchRequest(
        environment=form.text("environment"),
        memory_bytes=form.maybe("memory", size),
        cpus=form.maybe("cpus", number),
        storage_bytes=form.maybe("storage", size),
        days=form.maybe("days", count),
    )
    form.check()
    return launch_request


@router.get("/instances/{instance_id}/open")
async def open_page(
    instance_id: str,
    request: Request,
    visitor: CurrentUser,
    platform: Here,
    next: Annotated[str, Query(max_length=RETURN_PATH_MAX)] = "",
) -> Response:
    """Leads into a running instance; shows a starting one's stages, and why an ended one ended."""
    instance = await platform.instances.get(instance_id, visitor.user)
    if instance.state is State.RUNNING:
        return see_other(_onwards(f"/api/v1/instances/{instance.id}/open", next))
    refused = after_form(request, visitor, _again_path(instance.id))
    return page(
        request,
        "open.html",
        visitor,
        it=await instance_view(platform, instance, visitor),
        continue_url=_onwards(f"/api/v1/instances/{instance.id}/open", next),
        next=next,
        refused=in_full(refused) if refused else "",
    )


def _again_path(instance_id: str) -> str:
    return f"/instances/{instance_id}/launch-again"


@router.post("/instances/{instance_id}/launch-again")
async def launch_again(
    instance_id: str,
    request: Request,
    visitor: CurrentUser,
    platform: Here,
    here: Text = "",
    safe_mode: Text = "",
    next: Annotated[str, Form(max_length=RETURN_PATH_MAX)] = "",
) -> Response:
    """Launches an ended instance's environment with the same choices, or leads to the one that runs already.

    With `safe_mode`, without the packages and settings of the home folder. `here` = "dashboard" comes back there; else
    the way leads into the new instance, to the address `next` inside it.
    """
    ended = await platform.instances.get(instance_id, visitor.user)
    within = _onwards(f"/instances/{ended.id}/open", next)
    stands_on(request, "/dashboard" if here == "dashboard" else within)
    live = await platform.instances.of_owner(visitor.user)
    same = [one for one in live if one.environment == ended.environment and one.state is not State.STOPPING]
    if len(same) >= platform.settings.limits.instances_per_environment:
        instance = same[0]
    else:
        launch_request = replace(await _same_again(platform, ended), safe_mode=bool(safe_mode) or ended.safe_mode)
        instance = await platform.instances.launch(visitor.user, launch_request, visitor.actor, visitor.now)
    if here == "dashboard":
        return see_other(f"/dashboard?{_launched(platform, visitor, instance)}")
    return see_other(_onwards(f"/instances/{instance.id}/open", next))


def _onwards(path: str, following: str) -> str:
    """`path` with where inside the instance the way leads."""
    return path + (f"?next={as_parameter(inside(following))}" if following else "")


async def _same_again(platform: Platform, ended: Instance) -> LaunchRequest:
    """The storage only where it was a choice: where nothing enforces it, none is offered."""
    limits = ended.limits
    return LaunchRequest(
        environment=ended.environment,
        memory_bytes=limits.memory_bytes,
        cpus=limits.cpus,
        storage_bytes=limits.storage_bytes if await size_is_enforced(platform) else None,
        days=limits.days,
    )


@router.get("/instances/{instance_id}/cookies")
async def cookies_page(
    instance_id: str,
    request: Request,
    visitor: CurrentUser,
    platform: Here,
    next: Annotated[str, Query(max_length=RETURN_PATH_MAX)] = "/",
) -> Response:
    """Why a browser that is let into the instance does not get in, and a button that clears its cookies for it."""
    instance = await platform.instances.get(instance_id, visitor.user)
    query = f"?instance={instance.id}&next={as_parameter(inside(next))}"
    answer = page(
        request,
        "cookies.html",
        visitor,
        status=409,
        it=await instance_view(platform, instance, visitor),
        clear_url=platform.settings.instances.clear_cookies_url(instance.id) + query,
        address=urlsplit(platform.settings.instances.of(instance.id)).netloc,
    )
    # The form goes to the instances' origin, which looks at whose page sent it.
    answer.headers["Referrer-Policy"] = "strict-origin"
    return answer


@router.post("/instances/{instance_id}/stop")
async def stop(instance_id: str, visitor: CurrentUser, platform: Here) -> Response:
    """Ends it, giving the application its time to save."""
    before = await platform.instances.get(instance_id, visitor.user)
    await platform.instances.stop(instance_id, visitor.user, visitor.actor, visitor.now)
    code = "stopping" if before.state is State.RUNNING else "cancelled"
    return see_other(f"/dashboard?{urlencode(saying(platform, visitor, code, title_of(platform, before)))}")


@router.post("/instances/{instance_id}/extend")
async def extend(instance_id: str, visitor: CurrentUser, platform: Here, days: Text = "") -> Response:
    form = FormReader({"days": days})
    wanted = form.required("days", count, 0)
    form.check()
    instance = await platform.instances.extend(instance_id, visitor.user, wanted, visitor.actor, visitor.now)
    extended = saying(platform, visitor, "extended", title_of(platform, instance), instance.expires_at)
    return see_other(f"/dashboard?{urlencode(extended)}")


@router.post("/instances/{instance_id}/forget")
async def forget(instance_id: str, visitor: CurrentUser, platform: Here) -> Response:
    """Removes an ended instance from the list."""
    ended = await platform.instances.get(instance_id, visitor.user)
    await platform.instances.forget(instance_id, visitor.user, visitor.now)
    return see_other(f"/dashboard?{urlencode(saying(platform, visitor, 'removed', title_of(platform, ended)))}")
