"""Where the API's routes stand, and what all of them may answer beside their own."""

from __future__ import annotations

from ..schemas import Problem

ROOT = "/api/v1"
PROBLEMS: dict[int | str, dict[str, object]] = {
    status: {"model": Problem} for status in (401, 403, 404, 409, 422, 429, 503)
}
