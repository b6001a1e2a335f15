"""People who leave, and archives of home folders, for administrators."""

from __future__ import annotations

from fastapi import APIRouter

from ...domain.leaving import WorkKind
from ..deps import CurrentAdmin, HomeWorks, Leavings, Ledger, Users
from ..leaving_schemas import CopyBody, HomeWorkView, LeavingView, RemovalBody
from .responses import PROBLEMS, ROOT

router = APIRouter(prefix=f"{ROOT}/admin/users/{{user_id}}", tags=["admin"], responses=PROBLEMS)


@router.get("/leaving")
async def leaving(
    user_id: str, visitor: CurrentAdmin, them: Users, leavings: Leavings, works: HomeWorks, ledger: Ledger
) -> LeavingView:
    """What is due for a user's home folder, its archives, and what is being done with it."""
    user = await them.get(user_id)
    await ledger.looked_at_user(visitor.actor, user, "user.read", visitor.now)
    return LeavingView.of(await leavings.of(user), await works.archives_of(user), await works.of_user(user))


@router.put("/leaving")
async def remove_user(
    user_id: str, body: RemovalBody, visitor: CurrentAdmin, them: Users, leavings: Leavings, works: HomeWorks
) -> LeavingView:
    """Removes a user: suspended at once; the home folder is archived after warnings by e-mail. Nothing is deleted.

    To take it back, set the user's status to `active`.
    """
    user = await them.get(user_id)
    one = await leavings.remove(user, body.archive_at, body.reason, visitor.actor, visitor.now)
    return LeavingView.of(one, await works.archives_of(user), await works.of_user(user))


@router.post("/archives", status_code=202)
async def archive_home(user_id: str, visitor: CurrentAdmin, them: Users, works: HomeWorks) -> HomeWorkView:
    """Archives the home folder now and reads the archive back. The home folder stays as it is."""
    user = await them.get(user_id)
    return HomeWorkView.of(await works.ask(WorkKind.ARCHIVE, user, visitor.actor, visitor.now))


@router.post("/archives/{archive_id}/verify", status_code=202)
async def verify_archive(
    user_id: str, archive_id: str, visitor: CurrentAdmin, them: Users, works: HomeWorks
) -> HomeWorkView:
    """Reads all of an archive and compares it with its manifest."""
    user = await them.get(user_id)
    return HomeWorkView.of(await works.ask(WorkKind.VERIFY, user, visitor.actor, visitor.now, archive_id=archive_id))


@router.post("/archives/{archive_id}/restore", status_code=202)
async def restore_home(
    user_id: str, archive_id: str, visitor: CurrentAdmin, them: Users, works: HomeWorks
) -> HomeWorkView:
    """Makes the home folder again, as it was archived: whole, or not at all. There must be none."""
    user = await them.get(user_id)
    return HomeWorkView.of(await works.ask(WorkKind.RESTORE, user, visitor.actor, visitor.now, archive_id=archive_id))


@router.post("/archives/{archive_id}/remove-home", status_code=202)
async def remove_home(
    user_id: str, archive_id: str, visitor: CurrentAdmin, them: Users, works: HomeWorks
) -> HomeWorkView:
    """Removes the home folder of a suspended user which is in this archive, unchanged since; the archive is kept."""
    user = await them.get(user_id)
    return HomeWorkView.of(await works.ask(WorkKind.REMOVE, user, visitor.actor, visitor.now, archive_id=archive_id))


@router.post("/home/copies", status_code=202)
async def copy_home(user_id: str, body: CopyBody, visitor: CurrentAdmin, them: Users, works: HomeWorks) -> HomeWorkView:
    """Puts a copy of a user's files into a new folder of somebody else's home folder, as theirs. The reason stands in
    the owner's access ledger.
    """
    user, to = await them.get(user_id), await them.by_email(body.to)
    work = await works.ask(
        WorkKind.COPY,
        user,
        visitor.actor,
        visitor.now,
        archive_id=body.archive,
        to=to,
        reason=body.reason,
    )
    return HomeWorkView.of(work)
