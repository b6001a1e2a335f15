"""Libraries of packages in one's home that another version of R or Python has left behind."""

from __future__ import annotations

from fastapi import APIRouter
from pydantic import BaseModel, Field

from ...domain.libraries import LibraryChange
from ..deps import CurrentUser, Libraries, Present
from ..schemas import Body
from .responses import PROBLEMS, ROOT

router = APIRouter(prefix=f"{ROOT}/home", tags=["home"], responses=PROBLEMS)


class LibraryChangeView(BaseModel):
    """An environment whose image has another version than some packages were installed for."""

    key: str = Field(description="Names it, to dismiss it.")
    environment: str
    language: str = Field(description="`R` or `Python`.")
    installed_for: str = Field(description="The version whose packages are not used any more, such as 4.2.")
    version: str = Field(description="The version that the environment has now.")
    packages: int

    @classmethod
    def of(cls, change: LibraryChange) -> LibraryChangeView:
        return cls(
            key=change.key,
            environment=change.environment,
            language=change.language,
            installed_for=change.before,
            version=change.now,
            packages=change.packages,
        )


class DismissedBody(Body):
    key: str = Field(max_length=200)


@router.get("/libraries")
async def left_behind(visitor: CurrentUser, libraries: Libraries, present: Present) -> list[LibraryChangeView]:
    """What was installed for a version of R or Python that environments of one's own have no more, and was not
    dismissed."""
    used = await present.environments_used(visitor.user)
    return [LibraryChangeView.of(one) for one in await libraries.changes(visitor.user, used)]


@router.post("/libraries/dismissals", status_code=204)
async def dismiss(body: DismissedBody, visitor: CurrentUser, libraries: Libraries) -> None:
    """It is not told again; another change is."""
    await libraries.dismiss(visitor.user, body.key)
