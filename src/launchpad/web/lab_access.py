"""What somebody may in the lab that an address names: as its member, its lead, or an administrator."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Request

from ..domain.labs import LabAccess
from ..errors import NotFound
from .deps import SAFE_METHODS, CurrentUser, Labs, Ledger, Logins, Visitor, require_admin


async def lab_access(
    name: str, request: Request, visitor: CurrentUser, labs: Labs, logins: Logins, ledger: Ledger
) -> LabAccess:
    """Administrators act as such where they change something, and look as such at labs that they do not lead.

    Such a look stands in the ledgers of the members before anything is shown.

    Raises:
        NotFound: there is no such lab, or it is none of the visitor's business.
        ConfirmAgain: an administrator has to show anew who they are.
    """
    access = await _own(name, visitor, labs)
    leads = access is not None and access.may_change
    if not visitor.user.is_admin or (leads and request.method in SAFE_METHODS):
        if access is None:
            raise NotFound("There is no such lab, or you are not in it.")
        return access
    await require_admin(visitor, logins)
    access = await labs.access(visitor.user, name, as_admin=True)
    if request.method in SAFE_METHODS:
        people = {one.user.id for one in await labs.members(access.lab)}
        people |= {one.user.id for one in await labs.requests(access.lab)}
        await ledger.looked_at_list(visitor.actor, people, "lab.read", visitor.now)
    return access


async def _own(name: str, visitor: Visitor, labs: Labs) -> LabAccess | None:
    try:
        return await labs.access(visitor.user, name)
    except NotFound:
        return None


Access = Annotated[LabAccess, Depends(lab_access)]
