"""The latest sample of an instance as JSON, for processes that do not sample themselves."""

from __future__ import annotations

from functools import cache

from pydantic import TypeAdapter, ValidationError

from ..domain.activity import ActivitySample


@cache
def _adapter() -> TypeAdapter[ActivitySample]:
    return TypeAdapter(ActivitySample)


def sample_as_text(sample: ActivitySample) -> str:
    return _adapter().dump_json(sample).decode()


def sample_of_text(text: str | None) -> ActivitySample | None:
    """None where there is none, or another version of the program has written it."""
    if text is None:
        return None
    try:
        return _adapter().validate_json(text)
    except ValidationError:
        return None
