"""The table `[files]` of the settings: the files page and its API."""

from __future__ import annotations

from pydantic import Field

from ..domain.sizes import parse_bytes
from .values import Section, Size


class FilesSettings(Section):
    """Files of home folders, reached without an instance: the Files page and `/api/v1/home`."""

    upload_max: Size = Field(
        parse_bytes("100g"),
        description="Largest file that can be uploaded. The home folder's limit holds beside it.",
    )
    trash_days: int = Field(30, ge=1, le=3650, description="After so many days, what is in the Trash is deleted.")
    workers: int = Field(
        32,
        ge=1,
        le=1000,
        description="Processes that work with files at the same time, one for each transfer, of 12 MB each; further "
        "requests are refused.",
    )
    workers_per_user: int = Field(4, ge=1, le=100, description="How many of them one user may have.")
    patience_seconds: int = Field(
        20, ge=0, le=300, description="So long a request waits while its user has as many of them as may be."
    )
