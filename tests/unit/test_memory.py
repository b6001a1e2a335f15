"""What a process that stays does to hold little memory."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from fastapi.routing import APIRoute

from launchpad.web import api
from launchpad.web.pages.rendering import environment, load_templates

PROGRAM = """
import gc, json
import fastapi, sqlalchemy, pydantic  # as many libraries as the portal has
from launchpad.cli.memory import keep_together, settle

keep_together()
settle()
engine = sqlalchemy.create_engine("sqlite://")
with engine.connect() as db:
    works = db.execute(sqlalchemy.text("SELECT 40 + 2")).scalar()
print(json.dumps({"works": works, "frozen": gc.get_freeze_count()}))
"""


@pytest.mark.slow
def test_what_a_start_has_loaded_is_left_out_of_collections_and_works_on() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    told = json.loads(done.stdout)
    assert told["works"] == 42
    assert told["frozen"] > 10_000


def test_no_route_builds_validators_of_what_it_may_refuse() -> None:
    """One of each status of each route would take a megabyte of the portal."""
    routes = [route for router in api.ROUTERS for route in router.routes if isinstance(route, APIRoute)]
    assert len(routes) > 40
    assert {401, 404} <= set(routes[0].responses)
    assert [route.path for route in routes if any(int(status) >= 400 for status in route.response_fields)] == []


@pytest.mark.slow
def test_the_pages_templates_are_compiled_before_the_start_is_over() -> None:
    load_templates()
    known = environment()
    assert known.cache is not None
    assert len(known.cache) == len(known.list_templates())
