"""The reference pages in docs/reference say what the code does."""

from __future__ import annotations

import difflib
import subprocess
import sys
from pathlib import Path

from pydantic import BaseModel

import launchpad
from launchpad.settings import EnvironmentSettings, MountSettings, OfferSettings, Settings

ROOT = Path(__file__).parents[2]
REFERENCE = ROOT / "docs" / "reference"


def test_the_pages_are_those_that_the_code_gives() -> None:
    """`./scripts/reference` writes them anew."""
    done = subprocess.run(
        [sys.executable, str(ROOT / "scripts" / "reference.py"), "--check"],
        env={"PYTHONPATH": str(Path(launchpad.__file__).parents[1])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_setting_is_documented_with_its_variable() -> None:
    """Looked for by another way than the one that wrote the page."""
    page = (REFERENCE / "settings.md").read_text(encoding="utf-8")
    for section, field in Settings.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            assert f"## [{section}]" in page
            for name, inner in kind.model_fields.items():
                variable = f"LAUNCHPAD_{section.upper()}__{name.upper()}"
                if isinstance(inner.annotation, type) and issubclass(inner.annotation, BaseModel):
                    assert f"### [{section}.{name}]" in page
                    for key in inner.annotation.model_fields:
                        assert f"| `{key}` | `{variable}__{key.upper()}` |" in page
                else:
                    assert f"| `{name}` | `{variable}` |" in page
        else:
            assert f"LAUNCHPAD_{section.upper()}`" in page
    for model in (MountSettings, EnvironmentSettings, OfferSettings):
        for name, field in model.model_fields.items():
            assert field.description
            assert f"| `{name}` |" in page or f"[environments.{name}]" in page


def test_the_catalogue_that_ships_is_shown_as_it_is() -> None:
    page = (REFERENCE / "settings.md").read_text(encoding="utf-8")
    shipped = Path(launchpad.__file__).with_name("environments.toml").read_text(encoding="utf-8")
    assert shipped.strip() in page, "\n".join(difflib.ndiff(shipped.splitlines(), page.splitlines()))


def test_the_stable_calls_are_documented() -> None:
    page = (REFERENCE / "api.md").read_text(encoding="utf-8")
    for call in (
        "POST /api/v1/sign-in",
        "POST /api/v1/sign-in/verify",
        "POST /api/v1/sign-out",
        "GET /api/v1/me",
        "GET /api/v1/environments",
        "GET /api/v1/instances",
        "POST /api/v1/instances",
        "GET /api/v1/instances/{instance_id}",
        "GET /api/v1/instances/{instance_id}/events",
        "GET /api/v1/instances/{instance_id}/open",
        "POST /api/v1/instances/{instance_id}/stop",
        "POST /api/v1/instances/{instance_id}/extend",
        "DELETE /api/v1/instances/{instance_id}",
        "GET /api/v1/tokens",
        "POST /api/v1/tokens",
        "DELETE /api/v1/tokens/{token_id}",
        "GET /api/v1/admin/users",
        "PATCH /api/v1/admin/users/{user_id}",
        "GET /api/v1/admin/instances",
        "POST /api/v1/admin/instances/{instance_id}/stop",
        "POST /api/v1/admin/instances/{instance_id}/extend",
        "GET /api/v1/admin/limits",
        "PUT /api/v1/admin/limits",
        "GET /api/v1/admin/capacity",
        "GET /api/v1/admin/audit",
        "GET /api/v1/admin/mail-failures",
    ):
        assert f"### {call}\n" in page
