"""The dashboard, and what its owner does with an instance."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated
from urllib.parse import urlencode, urlsplit

from fastapi import APIRouter, Form, Query, Request, Response

from ...domain.instances import Instance, State
from ...domain.return_paths import RETURN_PATH_MAX, as_parameter
from ...domain.sizes import describe_bytes
from ...errors import InvalidInput
from ...services.freezing import BY_OWNER
from ...services.gate import inside
from ...services.instances import LaunchRequest
from ..deps import Catalogue, Configured, CurrentUser, Freezing, Instances, Keeping, Libraries, Present, Rescue, Visitor
from ..views import values
from ..views.libraries import library_notices
from ..views.presenter import Presenter
from .after_form import AfterForm, stands_on
from .forms import ExtendForm, KeepForm, MaybeCount, MaybeNumber, MaybeSize, MemoryForm, PageForm, size
from .rendering import after_form, kept_page, page, saying, see_other

router = APIRouter(include_in_schema=False)

SIZE_FIELDS = ("memory", "cpus", "storage", "days")
Text = Annotated[str, Form()]


@router.get("/dashboard")
async def dashboard(
    request: Request, visitor: CurrentUser, present: Present, libraries: Libraries, catalogue: Catalogue
) -> Response:
    """One's own instances, what can be launched, and what one may use."""
    user = visitor.user
    live = await present.live_of(user)
    ended = await present.ended_of(user)
    refused = after_form(request, visitor, "/instances", *(_again_path(one.id) for one in ended))
    cards = await present.launch_cards(user, live, _refused_launch(refused))
    shown = tuple([await present.card(instance, user, visitor.now) for instance in live])
    return kept_page(
        request,
        "dashboard.html",
        visitor,
        title=values.dashboard_title(shown),
        again={one.id: in_full(refused) for one in ended if refused and refused.action == _again_path(one.id)},
        live=shown,
        first_running=next((one.id for one in shown if one.state == State.RUNNING), ""),
        live_ids={card.name: card.live_id for card in cards if card.live_id},
        ended=tuple([await present.card(instance, user, visitor.now) for instance in ended]),
        cards=cards,
        home_path=home_path(visitor),
        home=await present.home_card(user),
        libraries=library_notices(await libraries.changes(user, await present.environments_used(user)), catalogue),
        allowance=await present.allowance(user, live),
    )


def _refused_launch(refused: AfterForm | None) -> values.RefusedLaunch | None:
    if refused is None or refused.action != "/instances":
        return None
    asked = refused.values
    return values.RefusedLaunch(asked.get("environment", ""), asked, refused.fields, in_full(refused))


def in_full(error: AfterForm) -> str:
    """A refusal in one text, for where no field can say its part."""
    texts = [f"{text[:1].upper()}{text[1:]}." for name, text in error.fields.items() if name in SIZE_FIELDS]
    return " ".join([error.detail, *(text for text in texts if text.lower() not in error.detail.lower())])


def home_path(visitor: Visitor) -> str:
    """Where instances see the Home, whatever the server's own path to it is."""
    return f"/home/{visitor.user.username}"


class LaunchForm(PageForm):
    """What is left empty takes the default."""

    environment: str = ""
    memory: MaybeSize = None
    cpus: MaybeNumber = None
    storage: MaybeSize = None
    days: MaybeCount = None
    safe_mode: str = ""

    def request(self) -> LaunchRequest:
        name = self.environment.strip()
        return LaunchRequest(name, self.memory, self.cpus, self.storage, self.days, safe_mode=bool(self.safe_mode))


@router.post("/instances")
async def launch(
    visitor: CurrentUser, instances: Instances, present: Present, form: Annotated[LaunchForm, Form()]
) -> Response:
    """Launches an instance. A refused form comes back with the reason."""
    instance = await instances.launch(visitor.user, form.request(), visitor.actor, visitor.now)
    return see_other(f"/dashboard?{_launched(present, visitor, instance)}")


def _launched(present: Presenter, visitor: Visitor, instance: Instance) -> str:
    code = "queued" if instance.state is State.QUEUED else "launched"
    if instance.created_at != visitor.now:
        code = "running"  # clicked twice: it is the one there was
    return urlencode(saying(visitor, code, present.title_of(instance)))


@router.get("/instances/{instance_id}/open")
async def open_page(
    instance_id: str,
    request: Request,
    visitor: CurrentUser,
    instances: Instances,
    present: Present,
    next: Annotated[str, Query(max_length=RETURN_PATH_MAX)] = "",
) -> Response:
    """Leads into a running instance; shows a starting one's stages, and why an ended one ended."""
    instance = await instances.get(instance_id, visitor.user)
    if instance.state is State.RUNNING:
        return see_other(onwards(f"/api/v1/instances/{instance.id}/open", next))
    refused = after_form(request, visitor, _again_path(instance.id))
    # Its address may be in a bookmark, while another one of the same kind runs by now.
    others = [] if instance.is_live else present.same_of(instance.environment, await present.live_of(visitor.user))
    return page(
        request,
        "open.html",
        visitor,
        it=await present.card(instance, visitor.user, visitor.now),
        continue_url=onwards(f"/api/v1/instances/{instance.id}/open", next),
        next=next,
        other_url=onwards(f"/instances/{others[0].id}/open", next) if others else "",
        refused=in_full(refused) if refused else "",
    )


def _again_path(instance_id: str) -> str:
    return f"/instances/{instance_id}/launch-again"


@router.post("/instances/{instance_id}/launch-again")
async def launch_again(
    instance_id: str,
    request: Request,
    visitor: CurrentUser,
    settings: Configured,
    instances: Instances,
    present: Present,
    here: Text = "",
    safe_mode: Text = "",
    memory: Annotated[str, Form(max_length=20)] = "",
    next: Annotated[str, Form(max_length=RETURN_PATH_MAX)] = "",
) -> Response:
    """Launches an ended instance's environment with the same choices, or leads to the one that runs already.

    With `memory`, with that much instead; one that was given more while it ran has its own size again. With
    `safe_mode`, without the packages and settings of the home folder. `here` = "dashboard" comes back there; else the
    way leads into the new instance, to the address `next` inside it.
    """
    ended = await instances.get(instance_id, visitor.user)
    within = onwards(f"/instances/{ended.id}/open", next)
    stands_on(request, "/dashboard" if here == "dashboard" else within)
    same = present.same_of(ended.environment, await present.live_of(visitor.user))
    if len(same) >= settings.limits.instances_per_environment:
        instance = same[0]
    else:
        launch_request = replace(await same_again(present, ended), safe_mode=bool(safe_mode) or ended.safe_mode)
        if memory.strip():
            launch_request = replace(launch_request, memory_bytes=size_asked(memory))
        instance = await instances.launch(visitor.user, launch_request, visitor.actor, visitor.now)
    if here == "dashboard":
        return see_other(f"/dashboard?{_launched(present, visitor, instance)}")
    return see_other(onwards(f"/instances/{instance.id}/open", next))


def size_asked(text: str) -> int:
    """Raises InvalidInput unless it is a size."""
    try:
        return size(text.strip())
    except ValueError as error:
        raise InvalidInput("That size is not offered.", fields={"memory": str(error)}) from error


def onwards(path: str, following: str) -> str:
    """`path` with where inside the instance the way leads."""
    return path + (f"?next={as_parameter(inside(following))}" if following else "")


async def same_again(present: Presenter, ended: Instance) -> LaunchRequest:
    """The storage only where it was a choice: where nothing enforces it, none is offered."""
    limits = ended.launch_limits
    return LaunchRequest(
        environment=ended.environment,
        memory_bytes=limits.memory_bytes,
        cpus=limits.cpus,
        storage_bytes=limits.storage_bytes if await present.size_is_enforced() else None,
        days=limits.days,
    )


@router.get("/instances/{instance_id}/cookies")
async def cookies_page(
    instance_id: str,
    request: Request,
    visitor: CurrentUser,
    settings: Configured,
    instances: Instances,
    present: Present,
    next: Annotated[str, Query(max_length=RETURN_PATH_MAX)] = "/",
) -> Response:
    """Why a browser that is let into the instance does not get in, and a button that clears its cookies for it."""
    instance = await instances.get(instance_id, visitor.user)
    query = f"?instance={instance.id}&next={as_parameter(inside(next))}"
    answer = page(
        request,
        "cookies.html",
        visitor,
        status=409,
        it=await present.card(instance, visitor.user, visitor.now),
        clear_url=settings.instances.clear_cookies_url(instance.id) + query,
        address=urlsplit(settings.instances.of(instance.id)).netloc,
    )
    # The form goes to the instances' origin, which looks at whose page sent it.
    answer.headers["Referrer-Policy"] = "strict-origin"
    return answer


@router.post("/instances/{instance_id}/stop")
async def stop(instance_id: str, visitor: CurrentUser, instances: Instances, present: Present) -> Response:
    """Ends it, giving the application its time to save."""
    before = await instances.get(instance_id, visitor.user)
    await instances.stop(instance_id, visitor.user, visitor.actor, visitor.now)
    code = "stopping" if before.state is State.RUNNING else "cancelled"
    return see_other(f"/dashboard?{urlencode(saying(visitor, code, present.title_of(before)))}")


@router.post("/instances/{instance_id}/extend")
async def extend(
    instance_id: str, visitor: CurrentUser, instances: Instances, present: Present, form: Annotated[ExtendForm, Form()]
) -> Response:
    """Adds days, up to the longest duration offered."""
    instance = await instances.extend(instance_id, visitor.user, form.days, visitor.actor, visitor.now)
    extended = saying(visitor, "extended", present.title_of(instance), instance.expires_at)
    return see_other(f"/dashboard?{urlencode(extended)}")


@router.post("/instances/{instance_id}/memory")
async def give_memory(
    instance_id: str, visitor: CurrentUser, rescue: Rescue, present: Present, form: Annotated[MemoryForm, Form()]
) -> Response:
    """Gives a running instance more memory, until it ends."""
    instance = await rescue.give(instance_id, form.memory, visitor.actor, visitor.now, owner=visitor.user)
    about = f"{present.title_of(instance)}: {describe_bytes(instance.limits.memory_bytes)}"
    return see_other(f"/dashboard?{urlencode(saying(visitor, 'more-memory', about))}")


@router.post("/instances/{instance_id}/freeze")
async def freeze(
    instance_id: str, visitor: CurrentUser, instances: Instances, freezing: Freezing, present: Present
) -> Response:
    """Lets it stand still with all that it holds in memory."""
    instance = await instances.get(instance_id, visitor.user)
    await freezing.freeze(instance.id, visitor.now, BY_OWNER, actor=visitor.actor)
    return see_other(f"/dashboard?{urlencode(saying(visitor, 'freezing', present.title_of(instance)))}")


@router.post("/instances/{instance_id}/thaw")
async def thaw(
    instance_id: str, visitor: CurrentUser, instances: Instances, freezing: Freezing, present: Present
) -> Response:
    """Continues a frozen one where it was."""
    instance = await instances.get(instance_id, visitor.user)
    await freezing.thaw(instance.id, visitor.now, actor=visitor.actor, reason=BY_OWNER)
    return see_other(f"/dashboard?{urlencode(saying(visitor, 'thawed', present.title_of(instance)))}")


@router.post("/instances/{instance_id}/keep")
async def keep(
    instance_id: str,
    visitor: CurrentUser,
    instances: Instances,
    keeping: Keeping,
    present: Present,
    form: Annotated[KeepForm, Form()],
) -> Response:
    """Keeps it running although it may be idle; 0 hours: no longer."""
    instance = await instances.get(instance_id, visitor.user)
    kept = await keeping.keep(instance, form.hours, visitor.actor, visitor.now)
    said = saying(visitor, "kept" if kept.kept_until else "not-kept", present.title_of(kept), kept.kept_until)
    return see_other(f"/dashboard?{urlencode(said)}")


@router.post("/instances/{instance_id}/forget")
async def forget(instance_id: str, visitor: CurrentUser, instances: Instances, present: Present) -> Response:
    """Removes an ended instance from the list."""
    ended = await instances.get(instance_id, visitor.user)
    await instances.forget(instance_id, visitor.user, visitor.now)
    return see_other(f"/dashboard?{urlencode(saying(visitor, 'removed', present.title_of(ended)))}")
