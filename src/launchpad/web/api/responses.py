"""Where the API's routes stand, and what all of them may answer beside their own."""

from __future__ import annotations

from typing import Any

from ..problems import MEDIA_TYPE
from ..schemas import Problem

ROOT = "/api/v1"
SCHEMA = {"$ref": "#/components/schemas/Problem"}
# By reference: where a status names the model, FastAPI builds a validator of it, for each status of each route.
PROBLEMS: dict[int | str, dict[str, Any]] = {
    status: {"content": {MEDIA_TYPE: {"schema": SCHEMA}}} for status in (401, 403, 404, 409, 422, 429, 503)
}
# Of calls that work with files: what a precondition, a limit or a full home refuses comes to these.
HOME_PROBLEMS = PROBLEMS | {status: {"content": {MEDIA_TYPE: {"schema": SCHEMA}}} for status in (412, 413, 507)}


def add_problem(document: dict[str, Any]) -> None:
    """What the references lead to."""
    schemas = document["components"]["schemas"]
    schemas["Problem"] = Problem.model_json_schema(ref_template="#/components/schemas/{model}")
