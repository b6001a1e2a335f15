"""Idle rules, for administrators, and what was decided by them."""

from __future__ import annotations

from fastapi import APIRouter, Response

from ..deps import CurrentAdmin, CurrentUser, IdlePolicies, Keeping, Ledger, Present, Users
from ..paging import Limit, NumberCursor, tell_next
from ..policy_schemas import AdminDecisionView, DecisionView, KeepBody, PoliciesBody, PoliciesView
from ..schemas import InstanceView
from .instances import OwnInstance
from .responses import PROBLEMS, ROOT

router = APIRouter(prefix=ROOT, responses=PROBLEMS)


@router.post("/instances/{instance_id}/keep", tags=["instances"])
async def keep(
    instance: OwnInstance, body: KeepBody, visitor: CurrentUser, keeping: Keeping, present: Present
) -> InstanceView:
    """Keeps a running one of being stopped or frozen for being idle, for so many hours from now on.

    At the longest until it expires, and for as long as the settings allow (`idle.keep_hours`).
    """
    return await present.instance(await keeping.keep(instance, body.hours, visitor.actor, visitor.now))


@router.get("/instances/{instance_id}/idle-decisions", tags=["instances"])
async def own_decisions(
    instance: OwnInstance, keeping: Keeping, response: Response, limit: Limit = 100, cursor: NumberCursor = None
) -> list[DecisionView]:
    """What the idle policy has decided of an own instance, and why; the newest first, also of an ended one."""
    found = await keeping.decisions_of(instance, limit=limit, before_id=cursor)
    tell_next(response, found, limit, lambda one: one.id)
    return [DecisionView.of(one) for one in found]


@router.get("/admin/policies", tags=["admin"])
async def get_policies(visitor: CurrentAdmin, policies: IdlePolicies) -> PoliciesView:
    """When idle instances are stopped or frozen: the rule for everyone, and others by environment, lab and user."""
    return PoliciesView.of(await policies.policy())


@router.put("/admin/policies", tags=["admin"])
async def set_policies(body: PoliciesBody, visitor: CurrentAdmin, policies: IdlePolicies) -> PoliciesView:
    """Replaces all rules. Idle time counts for a changed rule from now on, so nothing ends at once."""
    return PoliciesView.of(await policies.set_policy(body.policy(), visitor.actor, visitor.now))


@router.get("/admin/idle-decisions", tags=["admin"])
async def decisions(
    visitor: CurrentAdmin,
    keeping: Keeping,
    users: Users,
    ledger: Ledger,
    response: Response,
    limit: Limit = 100,
    cursor: NumberCursor = None,
) -> list[AdminDecisionView]:
    """What the idle policy has decided of everyone's instances, and why; the newest first."""
    found = await keeping.decisions(limit=limit, before_id=cursor)
    tell_next(response, found, limit, lambda one: one.id)
    owners = await users.by_ids({one.owner_id for one in found})
    await ledger.looked_at_list(visitor.actor, owners, "idle_decisions.read", visitor.now)
    return [AdminDecisionView.of_owner(one, owners.get(one.owner_id)) for one in found]
