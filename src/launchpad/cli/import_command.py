"""`launchpad import-original`: people and their files from the platform's predecessor."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

from ..control.verbs import person_told
from ..domain.original import Person, people_of
from ..domain.sizes import describe_bytes
from ..errors import Forbidden, LaunchpadError
from ..ops.importing import Account, Standing, parse_assignments, without_gaps
from ..ops.importing_files import Brought, FileImport
from ..platform import Platform
from ..settings import Settings
from ..storage.choose import choose_driver, choose_snapshots
from ..storage.moving import Carried
from ..store import original
from .context import ConfigOption, JsonOption, as_portal, ask_owner, on_platform, settings_or_exit
from .logs import configure_logging
from .output import err, fail, out, show_json, show_table

AT_ONCE = 50  # accounts a question: the portal answers nobody else's command meanwhile
COLUMNS = ("email", "account", "username", "folder", "files", "size", "kept", "result")


def import_original(
    database: Annotated[Path, typer.Argument(help="The original's database, db.sqlite3.")],
    user_data: Annotated[
        Path | None, typer.Option("--user-data", help="Its folder user_data; without it, only users are imported.")
    ] = None,
    domain: Annotated[
        str | None, typer.Option("--domain", help="Domain for user names that are not e-mail addresses.")
    ] = None,
    skip: Annotated[
        list[str] | None, typer.Option("--skip", metavar="NAME", help="User to skip, by the old name.")
    ] = None,
    folder: Annotated[
        list[str] | None,
        typer.Option("--folder", metavar="FOLDER=ADDRESS", help="New owner of a folder that several users shared."),
    ] = None,
    keep_administrators: Annotated[
        bool, typer.Option("--keep-administrators", help="Its administrators become administrators here, too.")
    ] = False,
    despite_running: Annotated[
        bool,
        typer.Option("--despite-running", help="Also import files of users whose old instances seem to be running."),
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would be done.")] = False,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Import users and their files from the original platform (docs/howto/migrate.md). Can be run again."""
    configure_logging()
    settings = settings_or_exit(config)
    try:
        if os.geteuid() != 0:
            raise Forbidden("Files of many owners can be imported by root only: run this as root.")
        rows = original.read(database)
        domain = domain.lstrip("@") if domain else None
        skipped = skip or ()
        plain = without_gaps(people_of(rows, domain=domain, skipped=skipped))
        assigned = parse_assignments(folder or (), [person.address for person in plain])
        people = without_gaps(people_of(rows, domain=domain, skipped=skipped, assigned=assigned))
        files = None if user_data is None else _file_import(settings, user_data, dry_run, despite_running)
        accounts = _accounts(settings, people, dry_run=dry_run, keep_admins=keep_administrators)
        brought: list[Brought] = []
        try:
            if files is not None:
                asyncio.run(_bring(files, people, accounts, brought))
        finally:  # after Ctrl-C, too: the next run finds nothing left to bring of these, and nothing to write down
            if not dry_run:
                _record(settings, brought)
    except LaunchpadError as error:
        fail(error)
    _show(people, accounts, brought, as_json=as_json)
    if not as_json:
        _explain(people, accounts, files, dry_run=dry_run, keep_admins=keep_administrators, settings=settings)
    if any(not one.done for one in brought) or any(one.standing is Standing.REFUSED for one in accounts):
        sys.exit(1)


def _file_import(settings: Settings, user_data: Path, dry_run: bool, despite_running: bool) -> FileImport:
    homes, driver = settings.homes, choose_driver(settings.homes)
    return FileImport(
        driver,
        choose_snapshots(settings, driver),
        homes.root,
        homes.uid_base,
        user_data,
        only_count=dry_run,
        despite_running=despite_running,
    )


def _accounts(settings: Settings, people: Sequence[Person], *, dry_run: bool, keep_admins: bool) -> list[Account]:
    """Of everybody, made by whoever owns the work; a rehearsal only reads, and does that here."""

    async def rehearse(platform: Platform) -> list[dict[str, Any]]:
        return [asdict(account) for account in await platform.importing.rehearse(people)]

    def register() -> list[dict[str, Any]]:
        found = []
        for first in range(0, len(people), AT_ONCE):
            told = [person_told(person) for person in people[first : first + AT_ONCE]]
            found += ask_owner(settings, "import_users", people=told, keep_admins=keep_admins)
        return found

    answers = as_portal(settings, (lambda: asyncio.run(on_platform(settings, rehearse))) if dry_run else register)
    return [Account(**{**answer, "standing": Standing(answer["standing"])}) for answer in answers]


async def _bring(files: FileImport, people: Sequence[Person], accounts: Sequence[Account], done: list[Brought]) -> None:
    """One after the other: a disk that writes one is not quicker with many, and each error is said with its person.

    Args:
        done: is added to with each.
    """
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=err, transient=True, disable=not err.is_terminal) as progress:
        for number, (person, account) in enumerate(zip(people, accounts, strict=True), 1):
            task = progress.add_task(f"{number} of {len(people)}  {person.address}", total=None)

            def told(so_far: Carried, total_bytes: int, task: Any = task) -> None:
                progress.update(task, completed=so_far.bytes, total=total_bytes)

            one = await files.bring(person, account, told)
            progress.remove_task(task)
            if not err.is_terminal and one.folders:
                err.print(f"{person.address}: {_result(account, one)}", markup=False, soft_wrap=True)
            done.append(one)


def _record(settings: Settings, brought: Sequence[Brought]) -> None:
    counts = {one.address: {"files": one.files, "bytes": one.bytes, "kept": one.kept} for one in brought if one.files}
    if not counts:
        return

    as_portal(settings, lambda: ask_owner(settings, "record_imported", brought=counts))


def _show(people: Sequence[Person], accounts: Sequence[Account], brought: Sequence[Brought], *, as_json: bool) -> None:
    by_address = {one.address: one for one in brought}
    rows: list[Mapping[str, Any]] = []
    for person, account in zip(people, accounts, strict=True):
        one = by_address.get(person.address)
        if as_json:
            rows.append(_json_row(person, account, one))
        else:
            rows.append(_table_row(account, one))
    if as_json:
        show_json(rows)
    else:
        show_table(rows, COLUMNS, as_json=False, empty="The original has no users.")


def _json_row(person: Person, account: Account, one: Brought | None) -> Mapping[str, Any]:
    return {
        "email": person.address,
        "names": person.names,
        "lab": person.lab,
        "was_admin": person.was_admin,
        "running": person.running,
        "account": account.standing.value,
        "username": account.username,
        "uid": account.uid,
        "files": None if one is None else asdict(one),
    }


def _table_row(account: Account, one: Brought | None) -> Mapping[str, Any]:
    one = one or Brought(account.address)
    return {
        "email": account.address,
        "account": account.standing.value,
        "username": account.username,
        "folder": escape(", ".join(map(_printable, one.folders))) or None,
        "files": one.files,
        "size": describe_bytes(one.bytes),
        "kept": one.kept,
        "result": escape(_result(account, one)),
    }


def _result(account: Account, one: Brought) -> str:
    refused = account.standing is Standing.REFUSED and one.done
    words = ["that domain may not sign in (sign_in.allowed_domains)"] if refused else []
    words += [_printable(note) for note in one.notes]
    return " ".join(words) or "ok"


def _printable(text: str) -> str:
    return "".join(sign if sign.isprintable() else "?" for sign in text)


def _explain(
    people: Sequence[Person],
    accounts: Sequence[Account],
    files: FileImport | None,
    *,
    dry_run: bool,
    keep_admins: bool,
    settings: Settings,
) -> None:
    """What an administrator has to know besides the table."""
    was = [person.address for person in people if person.was_admin and person.address not in settings.admin_emails]
    if was and not keep_admins:
        out.print(
            f"Administrators there, imported as normal users: {', '.join(was)}. Add them to admin_emails first, use "
            "--keep-administrators, or “launchpad user role ADDRESS admin” afterwards.",
            markup=False,
            soft_wrap=True,
        )
    running = [name for person in people for name in person.running]
    if running:
        text = "Instances are not imported. Running, according to the original:"
        out.print(f"{text} {', '.join(map(_printable, running))}.", markup=False, soft_wrap=True)
    if files is not None and (others := files.unclaimed(people)):
        out.print(f"Folders without a user: {', '.join(map(_printable, others))}.", markup=False, soft_wrap=True)
    new = sum(account.standing is Standing.NEW for account in accounts)
    out.print(f"{'Would be created' if dry_run else 'Created'}: {new} of {len(accounts)} accounts.", markup=False)
