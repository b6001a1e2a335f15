"""Administrators' page about idle instances: the rules, and what was decided by them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated
from urllib.parse import urlencode

from fastapi import APIRouter, Form, Request, Response

from ...domain.environments import Environment
from ...domain.policy import EVERYONE, IdleAction, IdlePolicy, IdleRule, Scope
from ...domain.policy_codec import scope_of
from ...errors import InvalidInput
from ..deps import Catalogue, Configured, CurrentAdmin, IdlePolicies, Keeping, Ledger, Users
from ..paging import NumberCursor
from ..views.idle import decision_rows, scope_in_words
from ..views.values import Problems
from .after_form import AfterForm
from .forms import Count, PageForm, needed
from .rendering import after_form, page, saying, see_other

router = APIRouter(prefix="/admin/policies", include_in_schema=False)

PAGE = 50
REMOVE = "remove"
NAMES = ("environment", "lab", "user")
FIELDS = (*NAMES, "action", "idle_minutes")


@dataclass(frozen=True)
class RuleRow:
    """A rule's form; `scope` is None in the one for another rule."""

    title: str
    scope: Scope | None
    values: Mapping[str, str]
    errors: Problems

    @property
    def is_new(self) -> bool:
        return self.scope is None

    @property
    def is_everyone(self) -> bool:
        return self.scope == EVERYONE


@router.get("")
async def policies_page(
    request: Request,
    visitor: CurrentAdmin,
    policies: IdlePolicies,
    keeping: Keeping,
    users: Users,
    ledger: Ledger,
    catalogue: Catalogue,
    settings: Configured,
    before: NumberCursor = None,
) -> Response:
    """The rules, the most specific last, and what was decided lately."""
    decisions = await keeping.decisions(limit=PAGE, before_id=before)
    owners = await users.by_ids({one.owner_id for one in decisions})
    await ledger.looked_at_list(visitor.actor, owners, "idle_decisions.read", visitor.now)
    further = decisions[-1].id if len(decisions) == PAGE else None
    return page(
        request,
        "admin/policies.html",
        visitor,
        rules=_rows(await policies.policy(), catalogue, after_form(request, visitor, "/admin/policies")),
        environments=[(name, one.title) for name, one in catalogue.items()],
        decisions=decision_rows(decisions, catalogue, owners),
        next_page=f"/admin/policies?{urlencode({'before': further})}" if further is not None else None,
        keep_hours=settings.idle.keep_hours,
    )


def _rows(policy: IdlePolicy, catalogue: Mapping[str, Environment], refused: AfterForm | None) -> list[RuleRow]:
    """A form for each rule and one for another; a refused one comes back as it was, with what is wrong."""
    rules = {EVERYONE: policy.everyone, **dict(sorted(policy.rules.items(), key=lambda one: _order(one[0])))}
    rows: dict[Scope | None, RuleRow] = {
        scope: RuleRow(_title(scope, catalogue), scope, _values(scope, rule), Problems())
        for scope, rule in rules.items()
    }
    rows[None] = RuleRow("Another rule", None, _values(EVERYONE, IdleRule(IdleAction.STOP)), Problems())
    if refused is not None:
        typed = {name: refused.values.get(name, "") for name in FIELDS}
        scope = scope_of(*(typed[name] for name in NAMES))
        key = scope if scope in rows and not refused.values.get("new") else None
        problems = refused.problems()
        wrong = "; ".join(problems[name] for name in NAMES if name in problems)
        if key is not None and wrong:  # whom it names stands in no field of its form
            problems[""] = f"{refused.detail.rstrip('.')}: {wrong}."
        values = rows[key].values if key is None and typed["action"] == REMOVE else typed
        rows[key] = RuleRow(rows[key].title, key, values, Problems(problems))
    return list(rows.values())


def _title(scope: Scope, catalogue: Mapping[str, Environment]) -> str:
    """ "Everyone", "Lab Genomics", "RStudio of ada@example.org"."""
    if scope == EVERYONE:
        return "Everyone"
    if scope.environment is None:
        return scope.user or f"Lab {scope.lab}"
    whose = scope.user or (f"lab {scope.lab}" if scope.lab is not None else "everyone")
    environment = catalogue.get(scope.environment)
    return f"{environment.title if environment is not None else scope.environment} of {whose}"


def _order(scope: Scope) -> tuple[object, ...]:
    return scope.rank, scope.in_words


def _values(scope: Scope, rule: IdleRule) -> dict[str, str]:
    names = {name: getattr(scope, name) or "" for name in NAMES}
    return {**names, "action": rule.action.value, "idle_minutes": str(rule.idle_minutes)}


class RuleForm(PageForm):
    """`new`: the form for another rule, which names whom it is about."""

    environment: str = ""
    lab: str = ""
    user: str = ""
    action: str = "none"
    idle_minutes: Count = needed()
    new: str = ""

    def rule(self) -> IdleRule | None:
        """None: it is to be removed."""
        if self.action == REMOVE:
            return None
        if self.action not in set(IdleAction):
            raise InvalidInput("This rule cannot be set.", fields={"action": "choose what is done"})
        return IdleRule(IdleAction(self.action), self.idle_minutes)


@router.post("")
async def change_rule(
    visitor: CurrentAdmin, policies: IdlePolicies, catalogue: Catalogue, form: Annotated[RuleForm, Form()]
) -> Response:
    """Sets or removes one rule. Idle time counts for it from now on, so nothing ends at once."""
    scope = scope_of(form.environment, form.lab, form.user)
    if form.new and scope == EVERYONE:
        raise InvalidInput("This rule cannot be set.", fields={"": "Name an environment, a lab or a person."})
    await policies.set_rule(scope, form.rule(), visitor.actor, visitor.now)
    about = f"Rule for {scope_in_words(scope, catalogue)}"
    return see_other(f"/admin/policies?{urlencode(saying(visitor, 'saved', about))}")
