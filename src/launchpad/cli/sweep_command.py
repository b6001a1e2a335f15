"""`launchpad sweep`: one pass over all instances, as the systemd timer does every minute."""

from __future__ import annotations

from ..platform import Platform
from ..services.runner import Outcome
from .context import ConfigOption, JsonOption, with_platform
from .output import show_table


def sweep(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """End expired instances, and reconcile records with the engine. Shows what it did and why; safe at any time."""

    async def work(platform: Platform) -> list[Outcome]:
        outcomes = await platform.sweep.sweep(platform.now())
        await platform.runner.wait()
        return outcomes

    outcomes = with_platform(config, work)
    rows = [{"instance": o.instance_id, "action": o.action, "reason": o.reason} for o in outcomes]
    show_table(rows, ("instance", "action", "reason"), as_json=as_json, empty="Nothing to do.")
