"""The settings of how instances end."""

from __future__ import annotations

from pydantic import Field

from .values import Section


class EndSettings(Section):
    """Warnings before instances end, and time to finish for what still works then."""

    warn_hours_before: tuple[float, ...] = Field(
        (24, 1),
        description="How many hours before expiry or maintenance the owner gets an e-mail. Several ends that "
        "fall together are one e-mail. Empty: none is sent.",
    )
    grace_minutes: int = Field(
        0,
        ge=0,
        le=1440,
        description="How long an instance that is visibly working when it expires may continue, at a low share of the "
        "processors. 0: it ends at once.",
    )
    grace_cpu_weight: int = Field(
        10,
        ge=1,
        le=100,
        description="Its share of the processors while others are busy, in percent of what each of them gets.",
    )
