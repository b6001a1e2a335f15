"""The dashboard and the API say that packages were left behind by another version, until it is dismissed."""

from __future__ import annotations

from pathlib import Path

import pytest

from launchpad.store import home_libraries, kv
from web.pages_client import open_portal


@pytest.mark.slow
async def test_packages_that_were_left_behind_are_told_until_dismissed(tmp_path: Path) -> None:
    """To their owner alone, with what to do; nothing of it is anybody else's."""
    async with open_portal(tmp_path) as portal:
        anna, bert = [await portal.signed_in(f"{name}@example.org") for name in ("anna", "bert")]
        platform = portal.platform
        users = [await platform.users.by_email(f"{name}@example.org") for name in ("anna", "bert")]
        async with platform.database.transaction() as db:
            await kv.put(db, "image_languages", {"rstudio": {"R": ["4.2", "4.6"]}}, platform.now())
            await home_libraries.put(db, users[0].id, {"R": {"4.2": 12}}, platform.now())
        assert "Installed packages" not in (await anna.get("/dashboard")).words, "no RStudio was ever launched"
        await anna.launch("rstudio")
        page = await anna.get("/dashboard")
        assert "RStudio has R 4.6 now. 12 packages that you installed for R 4.2 are still in your home" in page.words
        assert "Installed packages" not in (await bert.get("/dashboard")).words
        (told,) = (await anna.http.get("/api/v1/home/libraries")).json()
        assert told == {
            "key": "rstudio R 4.2 4.6",
            "environment": "rstudio",
            "language": "R",
            "installed_for": "4.2",
            "version": "4.6",
            "packages": 12,
        }
        await anna.send(page.form("/libraries/dismiss"))
        assert "Installed packages" not in (await anna.get("/dashboard")).words
        assert (await anna.http.get("/api/v1/home/libraries")).json() == []
