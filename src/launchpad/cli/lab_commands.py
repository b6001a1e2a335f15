"""`launchpad lab`: research groups and courses, their leads and members."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import typer

from ..domain.labs import ListedLab
from ..platform import Platform
from ..services.audit import CLI
from .context import ConfigOption, JsonOption, ask_portal, with_platform
from .output import out, show_json, show_table

app = typer.Typer(help="Labs: create, members, leads.", no_args_is_help=True, add_completion=False)

Name = Annotated[str, typer.Argument(help="The lab's name, such as genomics.")]
Email = Annotated[str, typer.Argument(help="The user's e-mail address.")]
MANY = 10_000


@app.callback()
def lab() -> None:
    """Labs: create, members, leads."""


@app.command("list")
def list_labs(
    search: Annotated[str, typer.Option(help="Part of a name or a title.")] = "",
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show the labs. KEY is what settings and policies call them."""

    async def work(platform: Platform) -> Sequence[ListedLab]:
        found = await platform.labs.page(search=search, limit=MANY)
        leads = {address for one in found for address in one.leads}
        await platform.ledger.looked_at_people(CLI, leads, "lab.read", platform.now())
        return found

    rows = [
        {
            "name": one.lab.name,
            "title": one.lab.title,
            "key": one.lab.key,
            "leads": list(one.leads) if as_json else ", ".join(one.leads),
            "members": one.members,
            "requests": one.requests,
        }
        for one in with_platform(config, work)
    ]
    columns = ("name", "title", "key", "leads", "members", "requests")
    show_table(rows, columns, as_json=as_json, empty="There are no labs yet.")


@app.command("show")
def show(name: Name, config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Show who is in a lab, and who asks to be."""

    async def work(platform: Platform) -> Mapping[str, Any]:
        found = await platform.labs.get(name)
        members, requests = await platform.labs.members(found), await platform.labs.requests(found)
        people = {one.user.id for one in members} | {one.user.id for one in requests}
        await platform.ledger.looked_at_list(CLI, people, "lab.read", platform.now())
        return {
            "name": found.name,
            "title": found.title,
            "key": found.key,
            "members": [
                {"email": one.user.email, "lead": one.is_lead, "since": one.joined_at, "counts": one.counts}
                for one in members
            ],
            "requests": [{"email": one.user.email, "asked": one.asked_at} for one in requests],
        }

    found = with_platform(config, work)
    if as_json:
        show_json(found)
        return
    out.print(f"{found['name']}: {found['title']}", markup=False)
    show_table(found["members"], ("email", "lead", "since", "counts"), as_json=False, empty="Nobody is in it.")
    if found["requests"]:
        out.print("Requests to join:")
        show_table(found["requests"], ("email", "asked"), as_json=False, empty="")


@app.command("create")
def create(
    name: Name,
    title: Annotated[str, typer.Option(help="What pages call it; its leads can change it.")] = "",
    config: ConfigOption = None,
) -> None:
    """Create a lab, without members."""
    out.print(ask_portal(config, "make_lab", name=name, title=title), markup=False)


@app.command("add")
def add(name: Name, email: Email, config: ConfigOption = None) -> None:
    """Add somebody who has signed in; this accepts a request of theirs."""
    out.print(ask_portal(config, "put_lab_member", name=name, email=email, is_lead=None), markup=False)


@app.command("remove")
def remove(name: Name, email: Email, config: ConfigOption = None) -> None:
    """Remove somebody from a lab."""
    out.print(ask_portal(config, "remove_lab_member", name=name, email=email), markup=False)


@app.command("lead")
def lead(
    name: Name,
    email: Email,
    end: Annotated[bool, typer.Option("--end", help="They stay a member and lead no longer.")] = False,
    config: ConfigOption = None,
) -> None:
    """Make somebody a lead; who is not in the lab is added."""
    out.print(ask_portal(config, "put_lab_member", name=name, email=email, is_lead=not end), markup=False)
