"""`launchpad sweep`: one pass over all instances, as the systemd timer does every minute."""

from __future__ import annotations

from .context import ConfigOption, JsonOption, ask_portal
from .output import show_table


def sweep(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """End expired instances, and reconcile records with the engine. Shows what it did and why; safe at any time."""
    outcomes = ask_portal(config, "sweep")
    rows = [{"instance": one["instance_id"], "action": one["action"], "reason": one["reason"]} for one in outcomes]
    show_table(rows, ("instance", "action", "reason"), as_json=as_json, empty="Nothing to do.")
