"""docs/security.md and the tests say the same: no promise without a proof, no proof without a promise."""

from __future__ import annotations

import importlib.util
from pathlib import Path

SCRIPT = Path(__file__).parents[2] / "scripts" / "proofs.py"
_spec = importlib.util.spec_from_file_location("proofs", SCRIPT)
assert _spec is not None
assert _spec.loader is not None
proofs = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(proofs)

PROMISES = [*(f"S{n}" for n in range(1, 15)), *(f"G{n}" for n in range(1, 12)), *(f"C{n}" for n in range(1, 7))]


def test_every_promise_stands_in_the_page_and_has_a_proof() -> None:
    listed = [row[0] for row in proofs.ROW.findall(proofs.PAGE.read_text(encoding="utf-8"))]
    assert listed == PROMISES
    found = proofs.proofs()
    assert [promise for promise in PROMISES if not found.get(promise)] == []


def test_every_numbered_test_names_a_promise() -> None:
    """F numbers are the faults', which stand elsewhere."""
    unknown = {number for number in proofs.proofs() if not number.startswith("F")} - set(PROMISES)
    assert unknown == set()


def test_the_page_names_the_tests_there_are() -> None:
    """`./scripts/reference` writes them anew."""
    assert proofs.PAGE.read_text(encoding="utf-8") == proofs.security_page()
