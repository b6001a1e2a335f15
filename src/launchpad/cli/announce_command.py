"""`launchpad announce`: tells everybody, and plans maintenance."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from ..platform import Platform
from .context import ConfigOption, JsonOption, ask_portal, with_platform
from .output import out, show_table


def _moment(text: str) -> str | None:
    if not text:
        return None
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise typer.BadParameter(f"“{text}” is no moment; write it like 2026-11-28T15:00+08:00") from None
    return (at if at.tzinfo is not None else at.replace(tzinfo=UTC)).isoformat()


def announce(
    text: Annotated[str, typer.Argument(help="What all should know; without it, what is announced is shown.")] = "",
    stop_instances_at: Annotated[
        str, typer.Option(help="A maintenance: all instances are stopped at this moment; owners are warned before.")
    ] = "",
    shown_from: Annotated[str, typer.Option("--from", help="When it is first shown; now, if left out.")] = "",
    until: Annotated[
        str,
        typer.Option(help="When it is over; if left out, when it is withdrawn, or two hours into a maintenance."),
    ] = "",
    withdraw: Annotated[str, typer.Option(help="Withdraw the announcement of this id.")] = "",
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show an announcement on every page, plan a maintenance, or withdraw either.

    Moments are written like 2026-11-28T15:00+08:00; without an offset they are UTC.
    """
    if withdraw:
        ask_portal(config, "withdraw_announcement", announcement_id=withdraw)
        out.print("It was withdrawn.")
        return
    if text:
        made = ask_portal(
            config,
            "announce",
            text=text,
            shown_from=_moment(shown_from),
            shown_until=_moment(until),
            stop_instances_at=_moment(stop_instances_at),
        )
        out.print(f"announced: {made}", markup=False)
        return

    async def work(platform: Platform) -> list[dict[str, Any]]:
        return [
            {
                "id": one.id,
                "text": one.text,
                "from": one.shown_from,
                "until": one.shown_until,
                "stop_instances_at": one.stop_instances_at,
                "by": one.created_by,
            }
            for one in await platform.announcements.not_over(platform.now())
        ]

    rows = with_platform(config, work)
    columns = ("id", "text", "from", "until", "stop_instances_at", "by")
    show_table(rows, columns, as_json=as_json, empty="Nothing is announced.")
