"""The administrators' overview and the record of who did what."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import urlencode

from fastapi import APIRouter, Request, Response

from ...domain.audit import AuditRecord
from ...domain.audit_words import details_in_words, instance_in_words
from ...domain.environments import Environment
from ...domain.instances import State
from ...services.instances import InstanceService
from ..deps import Audit, Bounces, Catalogue, CurrentAdmin, Instances, Ledger, Mail, MailFailures, Present, Users
from ..paging import NumberCursor
from ..views.admin import AuditEntry, Count, Notice
from ..views.presenter import Presenter
from .frame import frame_of
from .rendering import page

router = APIRouter(prefix="/admin", include_in_schema=False)

PAGE = 50


@router.get("")
async def overview(
    request: Request,
    visitor: CurrentAdmin,
    users: Users,
    mail_failures: MailFailures,
    mail: Mail,
    bounces: Bounces,
    present: Present,
) -> Response:
    """What is reserved of the server, how many use it, and what needs attention."""
    states = await present.count_live()
    unreached = await mail_failures.count()
    people = await users.count()
    live = sum(states.values())
    semi_trusted = frame_of(request).public.semi_trusted
    return page(
        request,
        "admin/overview.html",
        visitor,
        warnings=await _warnings(present, mail.failing, await bounces.problem(), semi_trusted),
        capacity=await present.capacity_meters(),
        counts=[
            Count(live, "active instance" if live == 1 else "active instances", "/admin/instances"),
            Count(states[State.QUEUED], "queued", "/admin/instances?state=queued"),
            Count(people, "user" if people == 1 else "users", "/admin/users"),
            Count(unreached, f"delivery problem{'' if unreached == 1 else 's'}", "/admin/mail"),
        ],
    )


async def _warnings(
    present: Presenter, mail_fails: bool, bounce_problem: str | None, semi_trusted: bool
) -> list[Notice]:
    """What needs attention, the most urgent first."""
    found = []
    engine_answers = await present.engine_answers()
    if not engine_answers:
        text = "Nothing can be launched or stopped now; running instances keep running. Check the docker service."
        found.append(Notice("bad", "The container engine is not responding", text))
    if mail_fails:
        text = "The last mail was not accepted, so people may be waiting for their codes. See [mail] in the settings."
        found.append(Notice("bad", "The mail server rejects mail or is not responding", text))
    if bounce_problem:
        text = f"{bounce_problem} Bounces are not seen until this works. See [mail.bounces] in the settings."
        found.append(Notice("warn", "Bounce reports cannot be read", text))
    stand_ins = []
    for environment, outlook in await present.outlooks() if engine_answers else ():
        if outlook.problem is not None:
            found.append(Notice("warn", f"{environment.title} cannot be launched", outlook.problem))
        elif outlook.image is not None and outlook.image.stand_in:
            stand_ins.append(f"{environment.title} ({environment.image})")
    if semi_trusted:
        text = (
            "This is the semi-trusted mode: code in an instance could act here as its user. "
            "Set instances_url to another port or host name."
        )
        found.append(Notice("warn", "Portal and instances share one origin", text))
    if stand_ins:
        text = f"This server could not download {', '.join(stand_ins)}. The command “launchpad images pull” retries."
        found.append(Notice("info", "Stand-ins are in use", text))
    if not await present.size_is_enforced():
        text = "The file system of home folders has no quotas the platform can set; no size is offered at launch."
        found.append(Notice("info", "Home folder size is not enforced", text))
    return found


@router.get("/audit")
async def audit(
    request: Request,
    visitor: CurrentAdmin,
    records: Audit,
    ledger: Ledger,
    instances: Instances,
    catalogue: Catalogue,
    q: str = "",
    before: NumberCursor = None,
) -> Response:
    """Who did what, newest first."""
    found, further = await records.look(limit=PAGE, before_id=before, search=q.strip())
    await ledger.looked_at_audit(visitor.actor, found, visitor.now)
    entries = [await _entry(instances, catalogue, record) for record in found]
    next_page = f"/admin/audit?{urlencode({'q': q, 'before': further})}" if further is not None else None
    return page(request, "admin/audit.html", visitor, entries=entries, next_page=next_page, query={"q": q})


async def _entry(instances: InstanceService, catalogue: Mapping[str, Environment], record: AuditRecord) -> AuditEntry:
    """An instance's record says which and whose; where an older one does not, the instance is asked."""
    details = dict(record.details)
    if record.action.startswith("instance.") and not instance_in_words(details):
        details |= await instances.names(record.subject)
    if environment := catalogue.get(str(details.get("environment"))):
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
