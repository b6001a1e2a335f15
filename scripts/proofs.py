"""Which tests prove which promise of docs/security.md, docs/reliability.md and docs/howto/activity.md, by its number in
the test's name."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGES = (ROOT / "docs" / "security.md", ROOT / "docs" / "reliability.md", ROOT / "docs" / "howto" / "activity.md")
KINDS = "SGCHFA"  # of numbers: security, gate, containers, homes, faults, what keeps an instance alive
ROW = re.compile(rf"^\| ([{KINDS}]\d+) \| (.*) \| .*\|$", re.MULTILINE)
TEST = re.compile(rf"^(?:async )?def (test_((?:[{KINDS.lower()}]\d+_)+)\w+)\(", re.MULTILINE)
SHOWN = 3  # of each promise, the rest is counted


def proofs() -> dict[str, list[tuple[str, str]]]:
    """Promise → tests, as (file below tests/, name)."""
    found: dict[str, list[tuple[str, str]]] = {}
    # Those that were written to prove promises, on real parts, come first.
    files = sorted((ROOT / "tests").rglob("test_*.py"), key=lambda path: ("promises" not in path.parts, path))
    for path in files:
        for test in TEST.finditer(path.read_text(encoding="utf-8")):
            for number in test[2].rstrip("_").split("_"):
                where = str(path.relative_to(ROOT / "tests"))
                found.setdefault(number.upper(), []).append((where, test[1]))
    return found


def filled_in(page: Path) -> str:
    """One of the pages with its last column filled in."""
    tests = proofs()
    up = "../" * len(page.relative_to(ROOT).parent.parts)

    def filled(row: re.Match[str]) -> str:
        mine = tests.get(row[1], [])
        shown = [f"[`{name}`]({up}tests/{where})" for where, name in mine[:SHOWN]]
        if len(mine) > SHOWN:
            shown.append(f"and {len(mine) - SHOWN} more")
        return f"| {row[1]} | {row[2]} | {', '.join(shown)} |"

    return ROW.sub(filled, page.read_text(encoding="utf-8"))
