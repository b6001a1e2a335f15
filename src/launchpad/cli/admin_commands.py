"""`launchpad user|instance|limits`: the administrator's console in a terminal."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from ..domain.ends import notices_of, reason_for_others
from ..domain.sizes import describe_bytes
from ..domain.users import Role, User, UserStatus
from ..platform import Platform
from ..services.audit import CLI
from ..web.admin_schemas import LabCapacityBody, LabCapacityView, LimitsBody, LimitsView
from .context import ConfigOption, JsonOption, ask_portal, with_platform
from .output import out, show_json, show_table

users = typer.Typer(help="Users: list, role, suspend, activate.", no_args_is_help=True, add_completion=False)
instances = typer.Typer(
    help="Everyone's instances: list, stop, keep, freeze, memory, log.", no_args_is_help=True, add_completion=False
)
limits = typer.Typer(
    help="What is offered at launch, and what labs may use.",
    no_args_is_help=True,
    add_completion=False,
)

Email = Annotated[str, typer.Argument(help="The user's e-mail address.")]
InstanceId = Annotated[str, typer.Argument(help="The instance's id.")]
MANY = 10_000


def _user_row(user: User) -> Mapping[str, Any]:
    return {
        "email": user.email,
        "username": user.username,
        "uid": user.uid,
        "role": user.role.value,
        "status": user.status.value,
        "lab": user.lab,
        "last_seen": user.last_seen_at,
        "id": user.id,
    }


@users.command("list")
def list_users(
    search: Annotated[str, typer.Option(help="Part of an address, a username or a lab.")] = "",
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show the users."""

    async def work(platform: Platform) -> list[User]:
        found = await platform.users.page(search=search, limit=MANY)
        await platform.ledger.looked_at_list(CLI, {user.id for user in found}, "user.listed", platform.now())
        return found

    rows = [_user_row(user) for user in with_platform(config, work)]
    columns = ("email", "username", "uid", "role", "status", "lab", "last_seen")
    show_table(rows, columns, as_json=as_json, empty="Nobody has signed in yet.")


def _change(config: Path | None, email: str, **change: str) -> None:
    user = ask_portal(config, "change_user", email=email, **change)
    out.print(f"{user['email']}: role {user['role']}, {user['status']}", markup=False)


@users.command("role")
def set_role(email: Email, role: Role, config: ConfigOption = None) -> None:
    """Make a user an administrator, or a normal user again."""
    _change(config, email, role=role.value)


@users.command("suspend")
def suspend(email: Email, config: ConfigOption = None) -> None:
    """Sign a user out, stop their instances and refuse further sign-ins; their files are kept."""
    _change(config, email, status=UserStatus.SUSPENDED.value)


@users.command("activate")
def activate(email: Email, config: ConfigOption = None) -> None:
    """Allow a suspended user to sign in again."""
    _change(config, email, status=UserStatus.ACTIVE.value)


@users.command("sign-out")
def sign_out_user(email: Email, config: ConfigOption = None) -> None:
    """Sign a user out everywhere; they can sign in again."""
    ended = ask_portal(config, "sign_out_user", email=email)
    out.print(f"{email}: {ended} login{'' if ended == 1 else 's'} ended", markup=False)


@users.command("passkeys")
def user_passkeys(
    email: Email,
    remove: Annotated[
        bool, typer.Option("--remove", help="Remove all of them, for example after a device was lost.")
    ] = False,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show a user's passkeys, or remove them."""
    if remove:
        removed = ask_portal(config, "remove_passkeys", email=email)
        out.print(f"{email}: {removed} passkey{'' if removed == 1 else 's'} removed", markup=False)
        return

    async def work(platform: Platform) -> list[Mapping[str, Any]]:
        user = await platform.users.by_email(email)
        await platform.ledger.looked_at_user(CLI, user, "user.read", platform.now())
        found = await platform.passkeys.of_user(user)
        return [{"name": one.name, "added": one.created_at, "last_used": one.last_used_at} for one in found]

    rows = with_platform(config, work)
    show_table(rows, ("name", "added", "last_used"), as_json=as_json, empty="No passkeys.")


@instances.command("list")
def list_instances(
    with_ended: Annotated[bool, typer.Option("--all", help="Include ended instances.")] = False,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show everyone's instances."""

    async def work(platform: Platform) -> list[Mapping[str, Any]]:
        found = await platform.instances.of_everyone(with_ended=with_ended, limit=MANY)
        owners = await platform.users.by_ids({instance.owner_id for instance in found})
        await platform.ledger.looked_at_list(CLI, owners, "instance.listed", platform.now())
        return [
            {
                "id": instance.id,
                "owner": owners[instance.owner_id].email,
                "environment": instance.environment,
                "state": instance.shown_state.value,
                "memory": describe_bytes(instance.limits.memory_bytes),
                "cpus": instance.limits.cpus,
                "expires": instance.expires_at,
                "reason": "; ".join(notices_of(instance)) or reason_for_others(instance.reason, instance.ended_by),
            }
            for instance in found
        ]

    rows = with_platform(config, work)
    columns = ("id", "owner", "environment", "state", "memory", "cpus", "expires", "reason")
    show_table(rows, columns, as_json=as_json, empty="No instances.")


@instances.command("log")
def instance_log(instance_id: InstanceId, config: ConfigOption = None) -> None:
    """Print the last lines of an instance: of a live one as of now, of an ended one as kept at its end."""

    async def work(platform: Platform) -> str:
        instance = await platform.instances.get_any(instance_id)
        await platform.ledger.looked_at_instance(CLI, instance, "instance.log_read", platform.now())
        return await platform.instance_logs.of(instance)

    out.print(with_platform(config, work), markup=False, highlight=False, end="")


@instances.command("stop")
def stop_instance(instance_id: InstanceId, config: ConfigOption = None) -> None:
    """Stop an instance; it gets time to save."""
    out.print(ask_portal(config, "stop_instance", instance_id=instance_id), markup=False)


@instances.command("extend")
def extend_instance(
    instance_id: InstanceId, days: Annotated[int, typer.Argument(help="Days to add.")], config: ConfigOption = None
) -> None:
    """Extend an instance."""
    out.print(ask_portal(config, "extend_instance", instance_id=instance_id, days=days), markup=False)


@instances.command("keep")
def keep_instance(
    instance_id: InstanceId,
    hours: Annotated[float, typer.Argument(help="For so long from now on; 0: no longer.")],
    config: ConfigOption = None,
) -> None:
    """Keep an instance of being stopped or frozen for being idle."""
    out.print(ask_portal(config, "keep_instance", instance_id=instance_id, hours=hours), markup=False)


@instances.command("memory")
def give_memory(
    instance_id: InstanceId,
    memory: Annotated[str, typer.Argument(help="The new size, like 32g; one of those offered.")],
    config: ConfigOption = None,
) -> None:
    """Give a running instance more memory, without a restart, until it ends."""
    out.print(ask_portal(config, "give_memory", instance_id=instance_id, memory=memory), markup=False)


@instances.command("freeze")
def freeze_instance(instance_id: InstanceId, config: ConfigOption = None) -> None:
    """Freeze an instance: it stands still with its memory until its owner visits it."""
    out.print(ask_portal(config, "freeze_instance", instance_id=instance_id), markup=False)


@instances.command("thaw")
def thaw_instance(instance_id: InstanceId, config: ConfigOption = None) -> None:
    """Continue a frozen instance."""
    out.print(ask_portal(config, "thaw_instance", instance_id=instance_id), markup=False)


@limits.command("show")
def show_limits(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Show the choices and defaults."""

    async def work(platform: Platform) -> LimitsView:
        return LimitsView.of_limits(await platform.offers.limits())

    view = with_platform(config, work)
    if as_json:
        show_json(view.model_dump(mode="json"))
        return
    defaults = view.defaults.model_dump()
    rows = [
        {"choice": name, "offered": ", ".join(str(item) for item in getattr(view, name)), "default": defaults[name]}
        for name in ("memory", "cpus", "storage", "days")
    ]
    show_table(rows, ("choice", "offered", "default"), as_json=False, empty="")
    out.print(f"instances a user: {view.instances_per_user}")


@limits.command("set")
def set_limits(
    document: Annotated[str, typer.Argument(help="JSON as `limits show --json` prints it.")],
    config: ConfigOption = None,
) -> None:
    """Replace the choices and defaults."""
    try:
        body = LimitsBody.model_validate_json(document)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    ask_portal(config, "set_limits", document=body.model_dump(mode="json"))
    out.print("The choices were replaced.")


@limits.command("labs")
def show_labs(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Show what labs are guaranteed and may have at most."""

    async def work(platform: Platform) -> list[dict[str, Any]]:
        return [view.model_dump() for view in LabCapacityView.of_all(await platform.lab_capacity.labs())]

    columns = ("lab", "guaranteed_memory", "guaranteed_cpus", "max_memory", "max_cpus")
    rows = with_platform(config, work)
    show_table(rows, columns, as_json=as_json, empty="No lab has a capacity of its own.")


@limits.command("lab")
def set_lab(
    lab: Annotated[str, typer.Argument(help="The lab's name, as users have it.")],
    guaranteed_memory: Annotated[str | None, typer.Option(help="Memory kept free for it, such as 64g.")] = None,
    guaranteed_cpus: Annotated[float | None, typer.Option(help="Cores kept free for it.")] = None,
    max_memory: Annotated[str | None, typer.Option(help="Memory it may reserve at most.")] = None,
    max_cpus: Annotated[float | None, typer.Option(help="Cores it may reserve at most.")] = None,
    config: ConfigOption = None,
) -> None:
    """Set a lab's capacity; what is not given is not set, and without any option the lab has none of its own."""
    try:
        body = LabCapacityBody(
            lab=lab,
            guaranteed_memory=guaranteed_memory,
            guaranteed_cpus=guaranteed_cpus,
            max_memory=max_memory,
            max_cpus=max_cpus,
        )
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    ask_portal(config, "set_lab_capacity", document=body.model_dump(mode="json"))
    out.print(f"{lab}: changed", markup=False)
