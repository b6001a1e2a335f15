"""Dismisses what the dashboard says of libraries that another version left behind."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Form, Response

from ..deps import CurrentUser, Libraries
from .rendering import see_other

router = APIRouter(include_in_schema=False)


@router.post("/libraries/dismiss")
async def dismiss(
    visitor: CurrentUser, libraries: Libraries, key: Annotated[str, Form(max_length=200)] = ""
) -> Response:
    """It is not shown again; another change is."""
    await libraries.dismiss(visitor.user, key)
    return see_other("/dashboard")
