"""What commands ask the portal for: each thing once, whether the portal does it or the command itself.

Arguments and values are such as JSON has.
"""

from __future__ import annotations

import base64
import inspect
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from ..domain.ends import reason_for_others
from ..domain.labs import LabAccess, LabRight
from ..domain.original import Person
from ..domain.policy import IdleAction, IdleRule
from ..domain.policy_codec import scope_of
from ..domain.sizes import describe_bytes, parse_bytes
from ..domain.users import Role, UserStatus
from ..errors import Conflict, NotFound
from ..platform import Platform
from ..services.audit import CLI
from ..services.freezing import BY_ADMIN
from ..services.logins import Client
from ..services.users import UserChange
from ..web.admin_schemas import LabCapacityBody, LimitsBody


async def sweep(platform: Platform) -> list[dict[str, str]]:
    """One pass over all instances: what was done and why, as soon as it is done."""
    outcomes = await platform.sweep.sweep(platform.now())
    await _settle(platform, (outcome.instance_id for outcome in outcomes))
    return [asdict(outcome) for outcome in outcomes]


async def stop_instance(platform: Platform, instance_id: str) -> str:
    await platform.instances.stop_any(instance_id, CLI, platform.now())
    await _settle(platform, [instance_id])
    instance = await platform.instances.get_any(instance_id)
    return f"{instance.state}: {reason_for_others(instance.reason, instance.ended_by)}"


async def extend_instance(platform: Platform, instance_id: str, days: int) -> str:
    instance = await platform.instances.extend_any(instance_id, days, CLI, platform.now())
    return f"runs until {instance.expires_at:%Y-%m-%d %H:%M} UTC"


async def keep_instance(platform: Platform, instance_id: str, hours: float) -> str:
    instance = await platform.instances.get_any(instance_id)
    kept = await platform.keeping.keep(instance, hours, CLI, platform.now())
    if kept.kept_until is None:
        return f"{kept.id} is stopped or frozen as usual when it is idle"
    return f"{kept.id} is kept running until {kept.kept_until:%Y-%m-%d %H:%M} UTC"


async def set_idle_rule(
    platform: Platform, environment: str, lab: str, user: str, action: str | None, idle_minutes: int
) -> str:
    """One rule; without an action it is removed."""
    scope = scope_of(environment, lab, user)
    rule = None if action is None else IdleRule(IdleAction(action), idle_minutes)
    await platform.idle_policy.set_rule(scope, rule, CLI, platform.now())
    return f"{scope.in_words}: {'removed' if rule is None else rule.in_words}"


async def give_memory(platform: Platform, instance_id: str, memory: str) -> str:
    instance = await platform.rescue.give(instance_id, parse_bytes(memory), CLI, platform.now())
    return f"{instance.id} has {describe_bytes(instance.limits.memory_bytes)} of memory now"


async def freeze_instance(platform: Platform, instance_id: str) -> str:
    instance = await platform.instances.get_any(instance_id)
    asked = await platform.freezing.freeze(instance.id, platform.now(), BY_ADMIN, actor=CLI)
    return f"{instance.id} {'will be frozen in a moment' if asked else 'is frozen already'}"


async def thaw_instance(platform: Platform, instance_id: str) -> str:
    instance = await platform.instances.get_any(instance_id)
    thawed = await platform.freezing.thaw(instance.id, platform.now(), actor=CLI, reason=BY_ADMIN)
    return f"{instance.id} {'continues' if thawed else 'is not frozen'}"


async def change_user(
    platform: Platform, email: str, role: str | None = None, status: str | None = None
) -> dict[str, str]:
    user = await platform.users.by_email(email)
    theirs = [instance.id for instance in await platform.instances.of_owner(user)]
    change = UserChange()
    if role is not None:
        change = UserChange(role=Role(role))
    if status is not None:
        change = UserChange(role=change.role, status=UserStatus(status))
    changed = await platform.users.change(user.id, change, CLI, platform.now())
    if not changed.is_active:
        await _settle(platform, theirs)
    return {"email": changed.email, "role": changed.role.value, "status": changed.status.value}


async def sign_out_user(platform: Platform, email: str) -> int:
    """How many logins were ended."""
    user = await platform.users.by_email(email)
    return await platform.logins.end_all(user, Client("local"), platform.now(), by=CLI)


async def remove_passkeys(platform: Platform, email: str) -> int:
    """How many there were."""
    user = await platform.users.by_email(email)
    found = await platform.passkeys.of_user(user)
    await platform.passkeys.remove_all(user, CLI, platform.now())
    return len(found)


async def set_limits(platform: Platform, document: dict[str, Any]) -> None:
    wanted = LimitsBody.model_validate(document).limits(await platform.offers.limits())
    await platform.offers.set_limits(wanted, CLI, platform.now())


async def announce(
    platform: Platform, text: str, shown_from: str | None, shown_until: str | None, stop_instances_at: str | None
) -> str:
    """The id of what was announced. Moments are RFC 3339."""
    given = (shown_from, shown_until, stop_instances_at)
    begins, until, stop_at = (datetime.fromisoformat(one).astimezone(UTC) if one else None for one in given)
    made = await platform.announcements.announce(
        text, CLI, platform.now(), shown_from=begins, shown_until=until, stop_instances_at=stop_at
    )
    return made.id


async def withdraw_announcement(platform: Platform, announcement_id: str) -> None:
    await platform.announcements.withdraw(announcement_id, CLI, platform.now())


async def set_lab_capacity(platform: Platform, document: dict[str, Any]) -> None:
    body = LabCapacityBody.model_validate(document)
    await platform.lab_capacity.set_lab(body.lab, body.capacity(), CLI, platform.now())


async def make_lab(platform: Platform, name: str, title: str) -> str:
    made = await platform.labs.make(name, title, CLI, platform.now())
    return f"{made.name}: created"


async def put_lab_member(platform: Platform, name: str, email: str, is_lead: bool | None) -> str:
    access = await _lab(platform, name)
    if is_lead is False:  # of a command, which says that they stay a member
        there = {one.user.email for one in await platform.labs.members(access.lab)}
        if email.strip().lower() not in there:
            raise NotFound("Nobody with that address is in this lab.")
    member = await platform.labs.put(access, email, CLI, platform.now(), is_lead=is_lead)
    return f"{member.user.email}: {'leads' if member.is_lead else 'is in'} {name}"


async def remove_lab_member(platform: Platform, name: str, email: str) -> str:
    await platform.labs.remove(await _lab(platform, name), email, CLI, platform.now())
    return f"{email}: no longer in {name}"


async def _lab(platform: Platform, name: str) -> LabAccess:
    return LabAccess(await platform.labs.get(name), LabRight.ADMIN, is_member=False)


async def forget_mail_failure(platform: Platform, address: str) -> None:
    await platform.mail_failures.forget(address, CLI, platform.now())


async def take_bounce(platform: Platform, message: str) -> int:
    """How many mails a report, in Base64, says did not arrive."""
    return await platform.bounces.take(base64.b64decode(message), platform.now())


async def read_bounces(platform: Platform) -> int:
    """How many mails the reports in the mailbox say did not arrive, read at once."""
    return await platform.bounces.collect(platform.now(), at_once=True)


async def import_users(platform: Platform, people: list[dict[str, Any]], keep_admins: bool) -> list[dict[str, Any]]:
    """Accounts for users of the original platform, as `ImportService.register` makes them; of `person_told`."""
    found = [_person_of(one) for one in people]
    accounts = await platform.importing.register(found, platform.now(), keep_admins=keep_admins)
    return [asdict(one) for one in accounts]


async def record_imported(platform: Platform, brought: dict[str, dict[str, int]]) -> None:
    """Writes down whose files were brought: by address, how many files and bytes."""
    await platform.importing.record(brought, platform.now())


def person_told(person: Person) -> dict[str, Any]:
    """As `import_users` takes it."""
    return {**asdict(person), "created_at": person.created_at and person.created_at.isoformat()}


def _person_of(told: dict[str, Any]) -> Person:
    created_at = told["created_at"]
    listed = {name: tuple(told[name]) for name in ("names", "running", "folders", "shared")}
    return Person(**{**told, **listed, "created_at": created_at and datetime.fromisoformat(created_at)})


VERBS: Mapping[str, Callable[..., Awaitable[Any]]] = {
    each.__name__: each
    for each in (
        sweep,
        stop_instance,
        extend_instance,
        keep_instance,
        set_idle_rule,
        give_memory,
        freeze_instance,
        thaw_instance,
        change_user,
        sign_out_user,
        remove_passkeys,
        set_limits,
        announce,
        withdraw_announcement,
        set_lab_capacity,
        make_lab,
        put_lab_member,
        remove_lab_member,
        forget_mail_failure,
        take_bounce,
        read_bounces,
        import_users,
        record_imported,
    )
}


async def answer(platform: Platform, verb: str, arguments: Mapping[str, Any]) -> Any:
    """What the verb answers.

    Raises:
        Conflict: there is no such verb, or it takes other arguments: whoever asks is of another version.
        LaunchpadError: of the work.
    """
    work = VERBS.get(verb)
    if work is None or not _takes(work, platform, arguments):
        raise Conflict("The running portal is of another version than this command. Restart the portal.")
    return await work(platform, **arguments)


def _takes(work: Callable[..., object], platform: Platform, arguments: Mapping[str, Any]) -> bool:
    try:
        inspect.signature(work).bind(platform, **arguments)
    except TypeError:
        return False
    return True


async def _settle(platform: Platform, instance_ids: Iterable[str]) -> None:
    """Waits until what is under way for these instances is done."""
    if named := tuple(instance_ids):
        await platform.runner.wait(*named)
