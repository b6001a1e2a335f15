"""Idle policies as tables of texts and numbers, for the store and the API, and what is wrong with one. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from .policy import LONGEST_MINUTES, SHORTEST_MINUTES, IdleAction, IdlePolicy, IdleRule, Scope


def rule_table(rule: IdleRule) -> dict[str, Any]:
    return {"action": rule.action.value, "idle_minutes": rule.idle_minutes}


def rule_of(table: Mapping[str, Any]) -> IdleRule:
    """Raises ValueError for what is no action."""
    return IdleRule(IdleAction(table["action"]), int(table["idle_minutes"]))


def scope_table(scope: Scope) -> dict[str, str | None]:
    return {"environment": scope.environment, "lab": scope.lab, "user": scope.user}


def scope_of(environment: str | None = None, lab: str | None = None, user: str | None = None) -> Scope:
    """As people write it: spaces around it and capitals of an address are of no account, and empty is any."""
    names = ((one or "").strip() or None for one in (environment, lab, user))
    environment, lab, user = names
    return Scope(environment, lab, user.lower() if user else None)


def policy_table(policy: IdlePolicy) -> dict[str, Any]:
    """The rules in the order of their scopes, the least specific first."""
    rules = sorted(policy.rules.items(), key=lambda one: (one[0].rank, one[0].in_words))
    return {
        "everyone": rule_table(policy.everyone),
        "rules": [{**scope_table(scope), **rule_table(rule)} for scope, rule in rules],
    }


def policy_of(table: Mapping[str, Any]) -> IdlePolicy:
    """Raises ValueError for what is no action."""
    rules = {scope_of(one.get("environment"), one.get("lab"), one.get("user")): rule_of(one) for one in table["rules"]}
    return IdlePolicy(rule_of(table["everyone"]), rules)


def scope_problems(scope: Scope, environments: Collection[str]) -> dict[str, str]:
    """What is wrong with whom a rule names, by field.

    Args:
        environments: the names of those that there are.
    """
    found = {}
    if scope.environment is not None and scope.environment not in environments:
        found["environment"] = f"there is no environment “{scope.environment[:40]}”"
    if scope.user is not None and scope.lab is not None:
        found["lab"] = "leave it empty: a rule for one person is about no lab"
    if scope.lab is not None and len(scope.lab) > 100:
        found["lab"] = "a lab has a name of at most 100 characters"
    if scope.user is not None and ("@" not in scope.user or len(scope.user) > 254):
        found["user"] = "give an e-mail address"
    return found


def rule_problems(rule: IdleRule) -> dict[str, str]:
    if not SHORTEST_MINUTES <= rule.idle_minutes <= LONGEST_MINUTES:
        return {"idle_minutes": f"between {SHORTEST_MINUTES} and {LONGEST_MINUTES} minutes"}
    return {}
