"""The table `[sharing]` of the settings: files and folders by link with people of the platform."""

from __future__ import annotations

from pydantic import Field

from .values import Section


class SharingSettings(Section):
    """Files and folders that their owners let other people of the platform read."""

    enabled: bool = Field(
        True, description="Whether files can be shared. Off, what is shared already cannot be opened."
    )
    days: int = Field(30, ge=1, le=3650, description="How long something is shared, unless its owner says otherwise.")
    longest_days: int = Field(365, ge=1, le=3650, description="How long it can be shared at most.")
    strangers: bool = Field(
        False,
        description="Whether owners can also make links that open something for everybody who has the link, without "
        "signing in. Off, such links that were made before open nothing.",
    )
    strangers_longest_days: int = Field(14, ge=1, le=3650, description="How long such a link can last at most.")
    strangers_per_minute: int = Field(
        120, ge=1, le=100_000, description="Requests by such links that one client can make in a minute."
    )
    per_user: int = Field(200, ge=1, le=10_000, description="How many shares one user can have at the same time.")
