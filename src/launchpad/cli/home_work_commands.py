"""`launchpad home archive|archives|verify|restore|copy|remove`: work on somebody's home folder, with its progress."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from typing import Annotated

import typer
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from ..domain.leaving import HomeArchive, HomeWork, WorkKind, WorkState, left_in_words
from ..domain.sizes import describe_bytes
from ..errors import NotFound
from ..platform import Platform
from ..services.audit import CLI
from ..web.leaving_schemas import ArchiveView, HomeWorkView
from .context import ConfigOption, JsonOption, with_platform
from .output import err, out, show_json, show_table

LOOK_SECONDS = 0.5

Email = Annotated[str, typer.Argument(help="Whose home folder: the user's e-mail address.")]
ArchiveOption = Annotated[
    str | None, typer.Option("--archive", help="Which archive, by its name; without, the newest.")
]


def archive(email: Email, config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Archive a home folder and read the archive back. The home folder stays as it is."""
    _work(WorkKind.ARCHIVE, email, config, as_json=as_json)


def archives(email: Email, config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """List the archives of a home folder, the newest first."""

    async def work(platform: Platform) -> Sequence[HomeArchive]:
        user = await platform.users.by_email(email)
        await platform.ledger.looked_at_user(CLI, user, "user.read", platform.now())
        return await platform.home_work.archives_of(user)

    found = with_platform(config, work)
    if as_json:
        show_json([ArchiveView.of(one).model_dump(mode="json") for one in found])
        return
    rows = [
        {
            "name": one.name,
            "files": one.entries,
            "size": describe_bytes(one.bytes),
            "packed": describe_bytes(one.stored_bytes),
            "verified": one.verified_at,
            "not_archived": left_in_words(one.left_out, one.changed) or None,
        }
        for one in found
    ]
    show_table(rows, tuple(rows[0]) if rows else (), as_json=False, empty="There are no archives of this home folder.")


def verify(
    email: Email, archive: ArchiveOption = None, config: ConfigOption = None, as_json: JsonOption = False
) -> None:
    """Read an archive to its end and compare it with its manifest."""
    _work(WorkKind.VERIFY, email, config, archive=archive, as_json=as_json)


def restore(
    email: Email, archive: ArchiveOption = None, config: ConfigOption = None, as_json: JsonOption = False
) -> None:
    """Make a home folder again from its archive: whole, or not at all. There must be none."""
    _work(WorkKind.RESTORE, email, config, archive=archive, as_json=as_json)


def copy(
    email: Email,
    to: Annotated[str, typer.Option("--to", help="Who gets the copy: an active user's e-mail address.")],
    reason: Annotated[str, typer.Option("--reason", help="Why; the owner can read it in the access ledger.")],
    archived: Annotated[bool, typer.Option("--archived", help="From the newest archive, not the home folder.")] = False,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Put a copy of somebody's files into a new folder of another user's home folder, as theirs."""
    _work(WorkKind.COPY, email, config, archive="" if archived else None, to=to, reason=reason, as_json=as_json)


def remove(
    email: Email, archive: ArchiveOption = None, config: ConfigOption = None, as_json: JsonOption = False
) -> None:
    """Remove the home folder of a suspended user that is in a verified archive, unchanged. The archive is kept."""
    _work(WorkKind.REMOVE, email, config, archive=archive, as_json=as_json)


COMMANDS = (archive, archives, verify, restore, copy, remove)


def _work(
    kind: WorkKind,
    email: str,
    config: ConfigOption,
    *,
    archive: str | None = None,
    to: str | None = None,
    reason: str = "",
    as_json: bool,
) -> None:
    """Asks for it, and follows it to its end; the command's exit code says whether it worked.

    Who owns the work does it: the portal, or where none lives, this process.
    """

    async def work(platform: Platform) -> HomeWork:
        user = await platform.users.by_email(email)
        archive_id = None
        if archive is not None or kind in (WorkKind.VERIFY, WorkKind.RESTORE, WorkKind.REMOVE):
            archive_id = _chosen(await platform.home_work.archives_of(user), archive).id
        recipient = await platform.users.by_email(to) if to is not None else None
        asked = await platform.home_work.ask(
            kind, user, CLI, platform.now(), archive_id=archive_id, to=recipient, reason=reason
        )
        return await _followed(platform, asked)

    ended = with_platform(config, work)
    if as_json:
        show_json(HomeWorkView.of(ended).model_dump(mode="json"))
    elif ended.state is WorkState.DONE:
        out.print(f"Done: {ended.detail}", markup=False)
    else:
        err.print(ended.detail, markup=False)
    if ended.state is not WorkState.DONE:
        sys.exit(1)


def _chosen(found: Sequence[HomeArchive], name: str | None) -> HomeArchive:
    for one in found:
        if not name or one.name == name:
            return one
    raise NotFound("There is no such archive of this user's home folder; “launchpad home archives” lists them.")


async def _followed(platform: Platform, asked: HomeWork) -> HomeWork:
    own: asyncio.Task[None] | None = None
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=err, transient=True, disable=not err.is_terminal) as progress:
        task = progress.add_task("Waiting", total=None)
        try:
            while not (now := await platform.home_work.get(asked.id)).is_over:
                told = f"{now.stage.capitalize() or 'Waiting'}: {now.files:,} files, {describe_bytes(now.bytes)}"
                progress.update(task, description=told)
                if own is None and await platform.lease.try_acquire():
                    own = asyncio.create_task(_do_all(platform))
                await asyncio.sleep(LOOK_SECONDS)
        finally:
            if own is not None:
                await _ended(own)
    return now


async def _do_all(platform: Platform) -> None:
    """As the portal would: what others left behind first, and then what has waited for longest."""
    await platform.home_work.begin_anew(platform.now())
    while await platform.home_work.run_next(platform.now) is not None:
        pass


async def _ended(task: asyncio.Task[None]) -> None:
    if not task.done():
        task.cancel()
    await asyncio.gather(task, return_exceptions=True)
