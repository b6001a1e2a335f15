"""Where people find help, and whom they ask: settings that stand at the foot of every page."""

from __future__ import annotations

from pathlib import Path

import pytest

from launchpad.errors import SettingsError
from launchpad.settings import tables
from web.pages_client import Page, open_portal


def links(page: Page) -> dict[str, str]:
    """The addresses of the page's links by their texts."""
    return {one.text.strip(): str(one.attributes.get("href")) for one in page.elements if one.tag == "a"}


async def test_help_and_contact_stand_on_every_page(tmp_path: Path) -> None:
    settings = {"help_url": "https://institute.edu/help?a=1&b=2", "help_contact": "help@institute.edu"}
    async with open_portal(tmp_path, settings) as portal:
        person = await portal.signed_in("ada@example.org")
        for path in ("/dashboard", "/account", "/nowhere"):
            found = links(await person.get(path))
            assert found["Help"] == "https://institute.edu/help?a=1&b=2"
            assert found["help@institute.edu"] == "mailto:help@institute.edu"
        assert "Help" in links(await portal.person("bob@example.org").get("/sign-in"))


async def test_a_contact_in_words_is_no_link_and_stays_words(tmp_path: Path) -> None:
    async with open_portal(tmp_path, {"help_contact": "<b>Room 2.03</b>, ext. 4711"}) as portal:
        page = await portal.person("ada@example.org").get("/sign-in")
        assert "<b>Room 2.03</b>, ext. 4711" in page.text_of("help")
        assert "<b>Room" not in page.response.text
        assert not any(address.startswith("mailto:") for address in links(page).values())


async def test_without_the_settings_nothing_is_promised(tmp_path: Path) -> None:
    async with open_portal(tmp_path) as portal:
        assert not (await portal.person("ada@example.org").get("/sign-in")).has("help")


@pytest.mark.parametrize(
    "settings",
    [
        {"help_url": "javascript:alert(1)"},
        {"help_url": "institute.edu/help"},
        {"help_url": "https://a b"},
        {"help_contact": "two\nlines"},
        {"help_contact": "x" * 121},
    ],
)
def test_what_could_not_be_shown_is_refused(settings: dict[str, str]) -> None:
    with pytest.raises(SettingsError, match="help_"):
        tables(settings)
