"""`launchpad home`: people's home folders, what they take up, and archives of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import typer

from ..domain.home_lists import LabHomes, Sort, UserHome
from ..domain.home_use import MeasuredUse, signed_bytes, trend_in_words
from ..domain.sizes import describe_bytes
from ..platform import Platform
from ..services.audit import CLI
from ..web.home_schemas import AdminHomeView, DiskView, LabHomesView
from . import home_work_commands
from .context import ConfigOption, JsonOption, with_platform
from .output import out, show_json, show_table

app = typer.Typer(
    help="Home folders: what they take up, and archives of them.", no_args_is_help=True, add_completion=False
)

MANY = 10_000

for command in home_work_commands.COMMANDS:
    app.command(command.__name__)(command)


@app.callback()
def home() -> None:
    """Home folders: what they take up, and archives of them."""


@app.command("usage")
def usage(
    sort: Annotated[Sort, typer.Option(help="What comes first: the largest by this; addresses from A on.")] = Sort.USED,
    search: Annotated[str, typer.Option(help="Part of an address, a username or a lab.")] = "",
    by_lab: Annotated[bool, typer.Option("--by-lab", help="By lab instead of by person.")] = False,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show what home folders take up, as the portal has measured it last, and how they have grown."""

    async def work(platform: Platform) -> tuple[MeasuredUse | None, Sequence[UserHome], Sequence[LabHomes]]:
        homes = platform.home_use
        disk = await homes.disk()
        if by_lab:
            return disk, (), await homes.by_lab()
        found = await homes.page(sort, search=search, limit=MANY, after=None)
        await platform.ledger.looked_at_list(CLI, {one.user.id for one in found}, "home.listed", platform.now())
        return disk, found, ()

    disk, people, labs = with_platform(config, work)
    if as_json:
        shown = {"labs": [LabHomesView.of(one).model_dump(mode="json") for one in labs]}
        if not by_lab:
            shown = {"homes": [AdminHomeView.of(one).model_dump(mode="json") for one in people]}
        show_json({"disk": DiskView.of(disk).model_dump(mode="json"), **shown})
        return
    if by_lab:
        rows = [_lab_row(one) for one in labs]
        show_table(rows, tuple(rows[0]) if rows else (), as_json=False, empty="Nobody has signed in yet.")
    else:
        rows = [_row(one) for one in people]
        show_table(rows, tuple(rows[0]) if rows else (), as_json=False, empty="Nobody has signed in yet.")
    if disk is not None:
        trend = trend_in_words(disk)
        free = f"{describe_bytes(disk.free_bytes or 0)} of {describe_bytes(disk.limit_bytes or 0)} free"
        out.print(f"Disk: {free}{', ' if trend else ''}{trend}.", markup=False)


def _row(one: UserHome) -> Mapping[str, Any]:
    use = one.use
    known = use is not None and use.used_bytes is not None
    return {
        "email": one.user.email,
        "lab": one.user.lab,
        "used": _size(use.used_bytes) if use is not None and known else None,
        "limit": _size(use.limit_bytes) if use is not None else None,
        "of_limit": f"{use.share:.0%}" if use is not None and use.share is not None else None,
        "7_days": _grown(use.growth.week_bytes) if use is not None else None,
        "30_days": _grown(use.growth.month_bytes) if use is not None else None,
        "measured": use.measured_at if use is not None and known else None,
    }


def _lab_row(one: LabHomes) -> Mapping[str, Any]:
    return {
        "lab": one.lab or "(none)",
        "people": one.people,
        "used": describe_bytes(one.used_bytes),
        "limits": _size(one.limit_bytes or None),
        "7_days": signed_bytes(one.grown_week_bytes),
        "30_days": signed_bytes(one.grown_month_bytes),
    }


def _size(number: int | None) -> str | None:
    return None if number is None else describe_bytes(number)


def _grown(number: int | None) -> str | None:
    return None if number is None else signed_bytes(number)
