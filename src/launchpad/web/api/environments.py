"""The catalogue."""

from __future__ import annotations

from fastapi import APIRouter

from ...errors import EngineUnavailable, ImageMissing
from ..deps import CurrentUser, Here
from ..schemas import EnvironmentView

router = APIRouter(tags=["environments"])


@router.get("/environments")
async def environments(visitor: CurrentUser, platform: Here) -> list[EnvironmentView]:
    """What can be launched, with the choices offered; an unavailable one says why."""
    views = []
    for environment in platform.catalogue.values():
        offer = await platform.offers.for_environment(environment.name)
        reason, stand_in = None, False
        try:
            stand_in = (await platform.images.resolve(environment)).stand_in
        except (ImageMissing, EngineUnavailable) as error:
            reason = error.detail
        views.append(EnvironmentView.of(environment, offer, reason=reason, stand_in=stand_in))
    return views
