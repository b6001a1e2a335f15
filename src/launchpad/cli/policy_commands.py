"""`launchpad policy`: what becomes of idle instances, and what was decided of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import typer

from ..domain.policy import IdleAction
from ..domain.policy_codec import policy_table
from ..platform import Platform
from ..services.audit import CLI
from .context import ConfigOption, JsonOption, ask_portal, with_platform
from .output import out, show_json, show_table
from .replay_command import replay

app = typer.Typer(help="Idle instances: rules, decisions, replay.", no_args_is_help=True, add_completion=False)
app.command("replay")(replay)

Environment = Annotated[str, typer.Option(help="Of one environment, by its name.")]
Lab = Annotated[str, typer.Option(help="Of one lab.")]
User = Annotated[str, typer.Option(help="Of one person, by e-mail address.")]


@app.command("show")
def show(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Show the rules. Of several that fit an instance, the most specific applies: user, lab, environment, everyone."""

    async def work(platform: Platform) -> dict[str, Any]:
        return policy_table(await platform.idle_policy.policy())

    found = with_platform(config, work)
    if as_json:
        show_json(found)
        return
    rows = [found["everyone"], *found["rules"]]
    show_table(rows, ("environment", "lab", "user", "action", "idle_minutes"), as_json=False, empty="")


@app.command("set")
def set_rule(
    action: Annotated[IdleAction, typer.Argument(help="What is done to an idle instance.")],
    idle_minutes: Annotated[int, typer.Option("--minutes", help="After so long without a person and work.")] = 240,
    environment: Environment = "",
    lab: Lab = "",
    user: User = "",
    config: ConfigOption = None,
) -> None:
    """Set the rule for everyone, or for an environment, a lab or a person. It counts idle time from now on."""
    said = ask_portal(
        config,
        "set_idle_rule",
        environment=environment,
        lab=lab,
        user=user,
        action=action.value,
        idle_minutes=idle_minutes,
    )
    out.print(said, markup=False)


@app.command("remove")
def remove_rule(environment: Environment = "", lab: Lab = "", user: User = "", config: ConfigOption = None) -> None:
    """Remove a rule, so that a less specific one applies."""
    said = ask_portal(config, "set_idle_rule", environment=environment, lab=lab, user=user, action=None, idle_minutes=0)
    out.print(said, markup=False)


@app.command("decisions")
def show_decisions(
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="How many of the newest.")] = 50,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show what was stopped, frozen or kept, and why."""

    async def work(platform: Platform) -> list[Mapping[str, Any]]:
        found = await platform.keeping.decisions(limit=limit)
        owners = await platform.users.by_ids({one.owner_id for one in found})
        await platform.ledger.looked_at_list(CLI, owners, "idle_decisions.read", platform.now())
        return [
            {
                "at": one.at,
                "instance": one.instance_id,
                "owner": owners[one.owner_id].email if one.owner_id in owners else one.owner_id,
                "environment": one.environment,
                "verdict": one.verdict.value,
                "why": one.why.value,
                "rule": one.rule,
                "evidence": one.evidence,
                "idle_since": one.idle_since,
            }
            for one in found
        ]

    rows = with_platform(config, work)
    columns = ("at", "instance", "owner", "environment", "verdict", "evidence")
    show_table(rows, columns, as_json=as_json, empty="Nothing was decided yet.")
