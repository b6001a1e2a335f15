"""What a process that stays does to hold little memory."""

from __future__ import annotations

import json
import subprocess
import sys

PROGRAM = """
import gc, json
import aiohttp, sqlalchemy, pydantic  # as many libraries as the portal has
from launchpad.cli.memory import keep_together, settle

keep_together()
settle()
engine = sqlalchemy.create_engine("sqlite://")
with engine.connect() as db:
    works = db.execute(sqlalchemy.text("SELECT 40 + 2")).scalar()
print(json.dumps({"works": works, "frozen": gc.get_freeze_count()}))
"""


def test_what_a_start_has_loaded_is_left_out_of_collections_and_works_on() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    told = json.loads(done.stdout)
    assert told["works"] == 42
    assert told["frozen"] > 10_000
