"""The details of audit records in words, and what they say of changes. Pure."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

from .limits import Quota
from .sizes import describe_bytes, describe_cpus

NAMES = ("environment", "owner")  # what an instance is called; said of the subject, not among the details
_LABELS = {
    "counts_now": "lab that counts now",
    "uid": "user number",
    "cpus": "cores",
    "safe_mode": "safe mode",
    "from": "from files",
}
_INSTANT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d(:\d\d(\.\d+)?)?(\+00:00|Z)")

# As records said it before they were written in words.
_OLD_QUOTA = re.compile(r"Quota\(memory_bytes=(\w+), cpus=([\w.]+), storage_bytes=(\w+), instances=(\w+)\)")


def quota_in_words(quota: Quota) -> str:
    """ "8 GB of memory, 2 instances"; "no limits of its own" where nothing is capped."""
    said = []
    if quota.memory_bytes is not None:
        said.append(f"{describe_bytes(quota.memory_bytes)} of memory")
    if quota.cpus is not None:
        said.append(describe_cpus(quota.cpus))
    if quota.storage_bytes is not None:
        said.append(f"{describe_bytes(quota.storage_bytes)} home folder")
    if quota.instances is not None:
        said.append(f"{quota.instances} instance{'' if quota.instances == 1 else 's'}")
    return ", ".join(said) or "no limits of its own"


def changes_in_words(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, str]:
    """What differs, by its name: "1g, 2g → 1g, 2g, 4g"; inner tables by both names."""
    old, new = dict(_flat(before)), dict(_flat(after))
    return {
        name: f"{_value(old.get(name))} → {_value(new.get(name))}"
        for name in dict.fromkeys([*old, *new])
        if old.get(name) != new.get(name)
    }


def details_in_words(details: Mapping[str, Any]) -> str:
    """ "memory: 8 GB, until: 28 November 2026 at 15:07 UTC"; what is None or names the subject is left out."""
    plain = _of_before(details)
    return ", ".join(
        f"{_LABELS.get(name, name.replace('_', ' '))}: {_value(value)}"
        for name, value in _flat(plain)
        if value is not None and name not in NAMES
    )


def instance_in_words(details: Mapping[str, Any]) -> str:
    """ "jupyterlab of alice@example.org" of a record that is about an instance; empty for others."""
    environment, owner = (details.get(name) for name in NAMES)
    return f"{environment} of {owner}" if environment and owner else ""


def _flat(table: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in table.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name} ")
        else:
            yield prefix + str(name), value


def _value(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, list | tuple):
        return ", ".join(map(_value, value)) or "none"
    text = str(value)
    if _INSTANT.fullmatch(text):
        return f"{datetime.fromisoformat(text.replace('Z', '+00:00')):%-d %B %Y at %H:%M} UTC"
    return _OLD_QUOTA.sub(_old_quota, text)


def _old_quota(found: re.Match[str]) -> str:
    memory, cpus, storage, number = (None if part == "None" else part for part in found.groups())
    return quota_in_words(
        Quota(
            memory_bytes=int(memory) if memory else None,
            cpus=float(cpus) if cpus else None,
            storage_bytes=int(storage) if storage else None,
            instances=int(number) if number else None,
        )
    )


def _of_before(details: Mapping[str, Any]) -> Mapping[str, Any]:
    """Two tables that were recorded as Python wrote them, as what differs."""
    before, after = details.get("before"), details.get("after")
    if not (isinstance(before, str) and isinstance(after, str) and before.startswith("{") and after.startswith("{")):
        return details
    try:
        return changes_in_words(ast.literal_eval(before), ast.literal_eval(after))
    except (ValueError, SyntaxError):
        return details


# -- for the owner of what was looked at or changed --------------------------------------------------------------------

# What others do, by the action of the record. `{it}` is the instance.
_THEIRS = {
    "instance.log_read": "Read the log of {it}",
    "instance.listed": "Saw your instances in a list",
    "instance.launched": "Launched {it}",
    "instance.stopped": "Stopped {it}",
    "instance.extended": "Extended {it}",
    "instance.kept": "Changed until when {it} is kept running",
    "instance.frozen": "Froze {it}",
    "instance.thawed": "Continued {it}",
    "instance.memory_raised": "Gave {it} more memory",
    "idle_decisions.read": "Read what the idle policy decided of your instances",
    "idle_policy.replayed": "Replayed an idle rule on the activity of your instances",
    "idle_policy.changed": "Changed the idle rule for your instances",
    "user.listed": "Saw your account in a list",
    "home.listed": "Saw how much your home folder holds",
    "user.read": "Looked at your account",
    "user.changed": "Changed your account",
    "user.imported": "Created your account",
    "home.imported": "Copied files into your home folder",
    "lab.read": "Looked at the members of a lab that you are in",
    "lab.joined": "Added you to a lab",
    "lab.left": "Removed you from a lab",
    "lab.lead_named": "Made you a lead of a lab",
    "lab.lead_ended": "Made you a member of a lab again, no longer its lead",
    "lab.declined": "Declined your request to join a lab",
    "home.work_requested": "Asked for work on your home folder",
    "home.archived": "Archived your home folder",
    "home.archive_verified": "Verified an archive of your home folder",
    "home.restored": "Restored your home folder from its archive",
    "home.removed": "Removed your home folder, whose archive is kept",
    "home.copied": "Gave somebody a copy of your files",
    "user.removed": "Removed your account",
    "passkey.removed": "Removed passkeys of your account",
    "sign-out.everywhere": "Signed you out everywhere",
}
# The same of everybody at once.
_EVERYONES = {
    "instance.listed": "Looked at a list of instances",
    "idle_decisions.read": "Read what the idle policy decided",
    "idle_policy.replayed": "Replayed an idle rule",
    "user.listed": "Looked at a list of users",
    "home.listed": "Looked at what home folders hold",
    "lab.read": "Looked at the members of a lab",
    "audit.read": "Looked at the audit",
    "announcement.made": "Announced that instances will be stopped",
}
_ACTORS = {"cli": "An administrator, by a command on the server", "system": "The platform, by its rules"}
# What the sentence says already, or does not matter to whom it is about.
_SAID = {*NAMES, "by"}


def act_in_words(action: str, details: Mapping[str, Any], title: str = "", *, is_everyones: bool = False) -> str:
    """ "Read the log of JupyterLab": what somebody did, to whose things it were; without who and when.

    Args:
        title: what the instance's environment is called.
        is_everyones: it concerned everybody at once.
    """
    words = (_EVERYONES if is_everyones else _THEIRS).get(action)
    if words is None:
        return action.replace(".", " ").replace("_", " ").replace("-", " ").capitalize()
    return words.format(it=title or str(details.get("environment") or "an instance"))


def actor_in_words(actor: str) -> str:
    """An address as it is; "cli" said so that its reader knows what it means."""
    return _ACTORS.get(actor, actor)


def particulars_in_words(details: Mapping[str, Any]) -> str:
    """The details of what was done, without what `act_in_words` has said."""
    return details_in_words({name: value for name, value in details.items() if name not in _SAID})


def has_words(action: str, *, is_everyones: bool = False) -> bool:
    """Whether an action is told in a sentence of its own."""
    return action in (_EVERYONES if is_everyones else _THEIRS)
