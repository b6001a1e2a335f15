"""The administrators' overview and the record of who did what."""

from __future__ import annotations

import asyncio
from urllib.parse import urlencode

from fastapi import APIRouter, Request, Response

from ...domain.audit_words import details_in_words, instance_in_words
from ...domain.instances import LIVE, State
from ...errors import EngineUnavailable, ImageMissing
from ...platform import Platform
from ...store.audit import AuditRecord
from ..deps import CurrentAdmin, Here
from .admin_views import AuditEntry, Count, Notice
from .home_size import size_is_enforced
from .rendering import PublicSettings, page
from .views import Meter, bytes_meter, number_meter

router = APIRouter(prefix="/admin")

PATIENCE_SECONDS = 3.0
UNLIMITED_INSTANCES = 10_000  # what capacity says when only memory and cores count
PAGE = 50


@router.get("")
async def overview(request: Request, visitor: CurrentAdmin, platform: Here) -> Response:
    """What is reserved of the server, how many use it, and what needs attention."""
    engine_answers = await _engine_answers(platform)
    states = await platform.instances.count_by_state()
    unreached = await platform.mail_failures.count()
    people = await platform.users.count()
    live = sum(number for state, number in states.items() if state in LIVE)
    return page(
        request,
        "admin/overview.html",
        visitor,
        warnings=await _warnings(platform, engine_answers),
        capacity=await _capacity(platform),
        counts=[
            Count(live, "active instance" if live == 1 else "active instances", "/admin/instances"),
            Count(states.get(State.QUEUED, 0), "queued", "/admin/instances?state=queued"),
            Count(people, "user" if people == 1 else "users", "/admin/users"),
            Count(unreached, f"delivery problem{'' if unreached == 1 else 's'}", "/admin/mail"),
        ],
    )


async def _engine_answers(platform: Platform) -> bool:
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            await platform.runtime.host()
    except (EngineUnavailable, TimeoutError):
        return False
    return True


async def _capacity(platform: Platform) -> list[Meter]:
    """Empty when the engine has never said what the host has."""
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            use = await platform.offers.use()
    except (EngineUnavailable, TimeoutError):
        return []
    reserved, capacity = use.reserved, use.capacity
    most = capacity.instances if capacity.instances < UNLIMITED_INSTANCES else None
    return [
        bytes_meter("Memory", reserved.memory_bytes, capacity.memory_bytes),
        number_meter("Cores", reserved.cpus, capacity.cpus),
        number_meter("Instances", reserved.instances, most),
    ]


async def _warnings(platform: Platform, engine_answers: bool) -> list[Notice]:
    """What needs attention, the most urgent first."""
    found = []
    if not engine_answers:
        text = "Nothing can be launched or stopped now; running instances keep running. Check the docker service."
        found.append(Notice("bad", "The container engine is not responding", text))
    if platform.mail.failing:
        text = "The last mail was not accepted, so people may be waiting for their codes. See [mail] in the settings."
        found.append(Notice("bad", "The mail server rejects mail or is not responding", text))
    if problem := await platform.bounces.problem():
        text = f"{problem} Bounces are not seen until this works. See [mail.bounces] in the settings."
        found.append(Notice("warn", "Bounce reports cannot be read", text))
    stand_ins = []
    for environment in platform.catalogue.values() if engine_answers else ():
        try:
            if (await platform.images.resolve(environment)).stand_in:
                stand_ins.append(f"{environment.title} ({environment.image})")
        except ImageMissing as missing:
            found.append(Notice("warn", f"{environment.title} cannot be launched", missing.detail))
        except EngineUnavailable:
            break
    if PublicSettings.of(platform.settings).semi_trusted:
        text = (
            "This is the semi-trusted mode: code in an instance could act here as its user. "
            "Set instances_url to another port or host name."
        )
        found.append(Notice("warn", "Portal and instances share one origin", text))
    if stand_ins:
        text = f"This server could not download {', '.join(stand_ins)}. The command “launchpad images pull” retries."
        found.append(Notice("info", "Stand-ins are in use", text))
    if not await size_is_enforced(platform):
        text = "The file system of home folders has no quotas the platform can set; no size is offered at launch."
        found.append(Notice("info", "Home folder size is not enforced", text))
    return found


@router.get("/audit")
async def audit(
    request: Request, visitor: CurrentAdmin, platform: Here, q: str = "", before: int | None = None
) -> Response:
    """Who did what, newest first."""
    found, further = await platform.audit.look(limit=PAGE, before_id=before, search=q.strip())
    entries = [await _entry(platform, record) for record in found]
    next_page = f"/admin/audit?{urlencode({'q': q, 'before': further})}" if further is not None else None
    return page(request, "admin/audit.html", visitor, entries=entries, next_page=next_page, query={"q": q})


async def _entry(platform: Platform, record: AuditRecord) -> AuditEntry:
    """An instance's record says which and whose; where an older one does not, the instance is asked."""
    details = dict(record.details)
    if record.action.startswith("instance.") and not instance_in_words(details):
        details |= await platform.instances.names(record.subject)
    if environment := platform.catalogue.get(str(details.get("environment"))):
        details["environment"] = environment.title
    return AuditEntry(
        record.at,
        record.actor,
        record.client,
        record.action,
        record.subject,
        details_in_words(details),
        instance_in_words(details),
    )
