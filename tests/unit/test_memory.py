"""What a process that stays does to hold little memory."""

from __future__ import annotations

import json
import subprocess
import sys

PROGRAM = """
import gc, json
from pathlib import Path
import aiohttp, sqlalchemy, pydantic  # as many libraries as the portal has
from launchpad.cli.memory import keep_together, settle

def resident_kilobytes():
    lines = Path("/proc/self/status").read_text().splitlines()
    fields = [line.split() for line in lines if line.startswith("Rss")]
    return {name.rstrip(":"): int(number) for name, number, _ in fields}

keep_together()
before = resident_kilobytes()
settle()
after = resident_kilobytes()
engine = sqlalchemy.create_engine("sqlite://")
with engine.connect() as db:
    works = db.execute(sqlalchemy.text("SELECT 40 + 2")).scalar()
print(json.dumps({"before": before, "after": after, "works": works, "frozen": gc.get_freeze_count()}))
"""


def test_a_start_gives_back_what_only_it_needed_and_everything_works_on() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    told = json.loads(done.stdout)
    assert told["works"] == 42
    assert told["frozen"] > 10_000
    assert told["after"]["RssFile"] < told["before"]["RssFile"] - 1000
