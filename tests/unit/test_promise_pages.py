"""docs/security.md, docs/reliability.md, docs/howto/activity.md and the tests say the same: no promise without a proof,
and the reverse."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "scripts" / "proofs.py"
_spec = importlib.util.spec_from_file_location("proofs", SCRIPT)
assert _spec is not None
assert _spec.loader is not None
proofs = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(proofs)

PROMISES = {
    "security.md": [
        *(f"S{n}" for n in range(1, 15)),
        *(f"G{n}" for n in range(1, 12)),
        *(f"C{n}" for n in range(1, 7)),
        *("H1", "H2", "H3", "H4", "H5", "H7", "H6"),
    ],
    "reliability.md": [f"F{n}" for n in range(1, 18)],
    "activity.md": [f"A{n}" for n in range(1, 9)],
}


@pytest.mark.parametrize("page", proofs.PAGES, ids=lambda page: page.name)
def test_every_promise_stands_in_its_page_and_has_a_proof(page: Path) -> None:
    listed = [row[0] for row in proofs.ROW.findall(page.read_text(encoding="utf-8"))]
    assert listed == PROMISES[page.name]
    found = proofs.proofs()
    assert [promise for promise in listed if not found.get(promise)] == []


def test_every_fault_is_shown_on_real_parts() -> None:
    """An engine, a mail server, a file system, a database as a portal of its own has them; F8's clock cannot be set."""
    found = proofs.proofs()
    on_real_parts = ("contract/", "e2e/", "system/", "web/test_nginx")
    faults = [fault for fault in PROMISES["reliability.md"] if fault != "F8"]
    assert [one for one in faults if not any(where.startswith(on_real_parts) for where, _ in found[one])] == []


def test_every_numbered_test_names_a_promise() -> None:
    known = {promise for promises in PROMISES.values() for promise in promises}
    assert {number for number in proofs.proofs() if number[0] in proofs.KINDS} - known == set()


def test_what_keeps_an_instance_alive_is_shown_with_real_applications_and_in_both_directions() -> None:
    """Each row by tests in a browser and on the engine; a row says "yes" where the test does not say "does not"."""
    page = proofs.ROOT / "docs" / "howto" / "activity.md"
    found = proofs.proofs()
    for row in proofs.ROW.finditer(page.read_text(encoding="utf-8")):
        keeps = row[2].rpartition(" | ")[2]
        tests = found[row[1]]
        assert {where for where, _ in tests} == {"e2e/test_browser_idle.py"}, row[1]
        assert [keeps == "yes"] * len(tests) == [not name.endswith("_does_not") for _, name in tests], row[1]


@pytest.mark.parametrize("page", proofs.PAGES, ids=lambda page: page.name)
def test_the_page_names_the_tests_there_are(page: Path) -> None:
    """`./scripts/reference` writes them anew."""
    assert page.read_text(encoding="utf-8") == proofs.filled_in(page)
