"""`launchpad audit`: who did what, and whether the record of it is as it was written."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import typer

from ..domain.audit import Link
from ..domain.audit_words import details_in_words, instance_in_words
from ..errors import InvalidInput
from ..platform import Platform
from ..services.audit import CLI
from ..services.audit_verification import Verdict
from .context import ConfigOption, JsonOption, with_platform
from .output import err, fail, out, show_json, show_table

app = typer.Typer(help="Who did what, newest first, and whether it was changed.", add_completion=False)


def _subject(row: Mapping[str, Any]) -> str:
    """An instance by what it is and whose, besides its id."""
    named = instance_in_words(row["details"])
    return f"{named} ({row['subject']})" if named else str(row["subject"])


@app.callback(invoke_without_command=True)
def audit(
    context: typer.Context,
    search: Annotated[str, typer.Option(help="Part of an actor, an action, a subject or the details.")] = "",
    limit: Annotated[int, typer.Option(help="How many, newest first.")] = 100,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show who did what, newest first."""
    if context.invoked_subcommand is not None:
        return

    async def work(platform: Platform) -> list[Mapping[str, Any]]:
        found = await platform.audit.page(limit=limit, search=search)
        await platform.ledger.looked_at_audit(CLI, found, platform.now())
        return [vars(record) for record in found]

    rows = with_platform(config, work)
    if not as_json:
        rows = [{**row, "subject": _subject(row), "details": details_in_words(row["details"])} for row in rows]
    columns = ("at", "actor", "client", "action", "subject", "details")
    show_table(rows, columns, as_json=as_json, empty="No entries.")


@app.command("verify")
def verify(
    anchor: Annotated[
        list[str] | None,
        typer.Option("--anchor", help="The end of the audit as it was printed or mailed earlier; repeatable."),
    ] = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Check that no entry was removed, changed or moved; the exit code is 1 if one was."""
    try:
        anchors = [Link.parse(text) for text in anchor or ()]
    except ValueError as error:
        fail(InvalidInput(f"--anchor: {error}."))

    async def work(platform: Platform) -> Verdict:
        return await platform.audit_verifier.verify(anchors, _progress if err.is_terminal else _silent)

    verdict = with_platform(config, work)
    if as_json:
        show_json(_as_json(verdict))
    else:
        for line in _in_words(verdict, len(anchors)):
            out.print(line, markup=False, highlight=False, soft_wrap=True)
    if not verdict.holds:
        raise typer.Exit(1)


@app.command("accept")
def accept(
    reason: Annotated[str, typer.Option("--reason", help="Why, such as which copy was restored; it is recorded.")],
    config: ConfigOption = None,
) -> None:
    """After a database was restored with its own tools: record that the newest entries are missing since then."""

    async def work(platform: Platform) -> int:
        return await platform.audit_verifier.accept(reason, platform.now())

    missing = with_platform(config, work)
    out.print(f"Recorded that {missing} {'entry is' if missing == 1 else 'entries are'} missing.", markup=False)


def _progress(done: int, total: int) -> None:
    err.print(f"{done} of {total} entries", end="\r" if done < total else "\n", markup=False, highlight=False)


def _silent(_done: int, _total: int) -> None:
    return None


def _as_json(verdict: Verdict) -> dict[str, Any]:
    first = verdict.first_break
    return {
        "holds": verdict.holds,
        "entries": verdict.entries,
        "breaks": verdict.breaks,
        "first_break": {"entry": first.entry_id, "text": first.text} if first is not None else None,
        "pruned_before": verdict.pruned_before,
        "anchor": str(verdict.newest) if verdict.newest is not None else None,
    }


def _in_words(verdict: Verdict, anchors: int) -> list[str]:
    if verdict.first_break is not None:
        more = f" {verdict.breaks - 1} more places are broken." if verdict.breaks > 1 else ""
        said = [f"The audit was changed. {verdict.first_break.text}{more}"]
    else:
        said = [f"All {verdict.entries} entries are as they were written."]
    if verdict.pruned_before is not None:
        said.append(f"Older ones, from before {verdict.pruned_before:%-d %B %Y}, were removed by age (audit_days).")
    if verdict.holds and anchors > verdict.forgotten_anchors:
        said.append("What was noted earlier is among them.")
    if verdict.forgotten_anchors:
        said.append("An anchor is older than the oldest entry that is kept, so it cannot be compared any more.")
    if verdict.newest is not None:
        said.append(f"Anchor, to be kept elsewhere: {verdict.newest}")
    return said
