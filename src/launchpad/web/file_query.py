"""How a request says which file or folder it is about."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Query, Request

from ..domain.file_paths import in_query
from ..errors import InvalidInput
from .files_schemas import PATH_MAX

FileLimit = Annotated[int, Query(ge=1, le=1000)]
FileCursor = Annotated[str, Query(description="The `cursor` of the previous page.", max_length=8000)]
PATH = Query(
    alias="path",
    description="Below the home, with percent-encoded bytes: `path` of an entry as it is. Empty: the home itself.",
    max_length=PATH_MAX,
)


def paths_in(request: Request) -> list[str]:
    """The paths that a request names in its address.

    Raises:
        InvalidInput: the address has more parts than any of ours.
    """
    try:
        return in_query(request.scope["query_string"], "path")
    except ValueError:
        raise InvalidInput("This address has too many parts.") from None


async def path_of(request: Request, path: Annotated[str, PATH] = "") -> str:
    """As its bytes are: the framework's own reading of a query knows UTF-8 only."""
    found = paths_in(request)
    return found[-1] if found else path


SNAPSHOT = r"^(\d{8}T\d{6}Z(-before)?)?$"
FromSnapshot = Annotated[
    str,
    Query(
        alias="snapshot",
        description="`name` of a snapshot: as it was then. Empty: as it is now.",
        pattern=SNAPSHOT,
    ),
]
At = Annotated[str, Depends(path_of)]
