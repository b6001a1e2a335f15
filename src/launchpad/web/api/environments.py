"""The catalogue."""

from __future__ import annotations

from fastapi import APIRouter

from ..deps import CurrentUser, Present
from ..schemas import EnvironmentView
from .responses import PROBLEMS, ROOT

router = APIRouter(prefix=ROOT, tags=["environments"], responses=PROBLEMS)


@router.get("/environments")
async def environments(visitor: CurrentUser, present: Present) -> list[EnvironmentView]:
    """What can be launched, with the choices offered; an unavailable one says why."""
    return await present.environments()
