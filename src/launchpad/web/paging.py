"""How lists come in pages: `limit` and `cursor` of a request, `X-Next-Cursor` of the answer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated, TypeVar

from fastapi import Query, Response

from ..domain.home_lists import After, Sort
from ..domain.paging import Place
from ..errors import InvalidInput

T = TypeVar("T")

NEXT = "X-Next-Cursor"
Limit = Annotated[int, Query(ge=1, le=200)]
Cursor = Annotated[str, Query(description=f"The `{NEXT}` of the previous page.", max_length=100)]
NumberCursor = Annotated[
    int | None, Query(ge=0, le=2**63 - 1, description=f"The `{NEXT}` of the previous page.")
]  # what a database can compare with
LongCursor = Annotated[str, Query(description=f"The `{NEXT}` of the previous page.", max_length=300)]


def place_of(cursor: str | None) -> Place | None:
    """Raises InvalidInput for what is no cursor of ours."""
    try:
        return Place.parse(cursor) if cursor is not None else None
    except ValueError:
        text = f"give the {NEXT} of the previous page"
        raise InvalidInput(f"That cursor cannot be used: {text}.", fields={"cursor": text}) from None


def tell_next(response: Response, found: Sequence[T], limit: int, cursor_of: Callable[[T], object]) -> None:
    """Says in the answer's headers where the next page begins, when this one is full."""
    if len(found) == limit:
        response.headers[NEXT] = str(cursor_of(found[-1]))


def home_place_of(sort: Sort, cursor: str | None) -> After | None:
    """The same of a list of homes. Raises InvalidInput for what is no cursor of ours for that order."""
    try:
        return After.parse(sort, cursor) if cursor is not None else None
    except ValueError:
        raise InvalidInput("That page of the list cannot be found. Begin with its first page.") from None
