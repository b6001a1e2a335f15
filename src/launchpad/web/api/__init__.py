"""The JSON API of `/api/v1`. The OpenAPI document is made from these routes."""

from __future__ import annotations

from fastapi import APIRouter

from ..schemas import Problem
from . import admin, environments, events, instances, sign_in, tokens

PROBLEMS: dict[int | str, dict[str, object]] = {
    status: {"model": Problem} for status in (401, 403, 404, 409, 422, 429, 503)
}


def router() -> APIRouter:
    api = APIRouter(prefix="/api/v1", responses=PROBLEMS)
    for part in (sign_in, environments, instances, events, tokens, admin):
        api.include_router(part.router)
    return api
