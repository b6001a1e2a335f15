"""What every page keeps, in a real browser: accessible at both widths in both schemes, nothing wider than the window,
plain words, fingers' sizes on phones."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Any

import pytest
from axe_playwright_python.base import AXE_FILE_PATH
from playwright.async_api import Browser, Page

from launchpad.services.runner import utc_now
from launchpad.settings import SnapshotSettings
from support.snapshots import CopiedSnapshots
from support.words import complaints, in_html

from .every_page import Place, fill
from .pages_client import Portal
from .served_portal import browser_of, serve_portal

SETTINGS = {
    "help_url": "https://institute.edu/help",
    "sharing": {"strangers": True},
    "help_contact": "research-computing@institute.edu",
    "sign_in": {"allowed_domains": ["example.org", "computational-mathematics.research.example.org"]},
}
SIZES = {"desktop": {"width": 1280, "height": 900}, "phone": {"width": 390, "height": 844}}
TAGS = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
EVERYTHING = {"type": "tag", "values": TAGS}
COLOURS = {"type": "rule", "values": ["color-contrast", "link-in-text-block"]}


OPEN = "(id) => { const it = document.getElementById(id); it.showModal ? it.showModal() : it.showPopover() }"
CLOSE = "(id) => { const it = document.getElementById(id); it.close ? it.close() : it.hidePopover() }"


@pytest.fixture(scope="module")
async def everything(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[tuple[Portal, list[Place]]]:
    folder = tmp_path_factory.mktemp("every-page")
    snapshots = CopiedSnapshots(folder / "homes", SnapshotSettings(), utc_now)
    async with serve_portal(folder, SETTINGS, snapshots=snapshots) as portal:
        yield portal, await fill(portal)


async def opened(browser: Browser, portal: Portal, place: Place, **how: Any) -> Page:
    context = await (
        browser_of(browser, place.who, **how)
        if place.who
        else browser.new_context(base_url=portal.url, **how)
    )  # fmt: skip
    page = await context.new_page()
    await page.goto(place.path)
    await page.evaluate("document.fonts.ready")
    return page


@pytest.mark.timeout(900)  # axe looks at a hundred views, and the machine may be busy
@pytest.mark.parametrize("size", SIZES)
async def test_axe_finds_nothing(everything: tuple[Portal, list[Place]], browser: Browser, size: str) -> None:
    """WCAG 2.2 AA as far as a program can tell, with every dialog and menu open as well; of the dark, the colours."""
    portal, places = everything
    axe = AXE_FILE_PATH.read_text(encoding="utf-8")
    found: list[str] = []
    seen: set[str] = set()  # kinds of dialogs
    for place in places:
        how = {"viewport": SIZES[size], "color_scheme": "light", "reduced_motion": "reduce"}
        page = await opened(browser, portal, place, **how)
        await page.evaluate(axe)
        found += [f"{place.name}: {line}" for line in await violations_in_both(page)]
        for id in await page.evaluate("[...document.querySelectorAll('dialog, [popover]')].map((it) => it.id)"):
            kind = id.split("-")[0]
            if kind in seen:
                continue
            seen.add(kind)
            await page.evaluate(OPEN, id)
            found += [f"{place.name}, {kind}: {line}" for line in await violations_in_both(page, f"#{id}")]
            await page.evaluate(CLOSE, id)
        await page.context.close()
    assert {"account", "stop", "extend", "end", "revoke", "suspend"} <= seen
    assert found == []


async def violations_in_both(page: Page, part: str = "") -> list[str]:
    """By light, and what the dark scheme, which changes colours alone, makes of it."""
    found = await violations(page, part)
    await page.emulate_media(color_scheme="dark")
    found += [f"dark: {line}" for line in await violations(page, part, COLOURS)]
    await page.emulate_media(color_scheme="light")
    return found


async def violations(page: Page, part: str = "", rules: Mapping[str, Any] = EVERYTHING) -> list[str]:
    answer = await page.evaluate(
        "([part, rules]) => axe.run(part || document, { runOnly: rules })", [part, dict(rules)]
    )
    return [
        f"{one['id']} at {node['target']}: {node['failureSummary']}"
        for one in answer["violations"]
        for node in one["nodes"]
    ]


async def test_axe_would_find_something(everything: tuple[Portal, list[Place]], browser: Browser) -> None:
    """A page with a text that nobody can read, a picture without words and a field without a name."""
    portal, places = everything
    page = await opened(browser, portal, places[0])
    await page.evaluate(AXE_FILE_PATH.read_text(encoding="utf-8"))
    await page.evaluate(
        """() => {
          const main = document.querySelector("main");
          main.insertAdjacentHTML("beforeend", '<input><img src="/favicon.ico"><p id="pale">pale</p>');
          document.getElementById("pale").style.color = "#f0f0e8";
        }"""
    )
    found = " ".join(await violations(page))
    for rule in ("color-contrast", "image-alt", "label"):
        assert rule in found
    await page.emulate_media(color_scheme="dark")
    await page.evaluate('document.getElementById("pale").style.color = "#202020"')
    assert "#pale" in " ".join(await violations(page, rules=COLOURS))
    await page.context.close()


WIDER = """() => {
  const wide = document.documentElement.scrollWidth - document.documentElement.clientWidth;
  const out = [...document.querySelectorAll("main *")].filter((it) => {
    const box = it.getBoundingClientRect();
    return box.width && box.right > innerWidth + 1 && !it.closest(".tabs, .visually-hidden, .tip-text, thead");
  });
  return wide > 0 || out.length ? out.map((it) => it.outerHTML.slice(0, 120)) : [];
}"""

# Where a line ends amid an address: the sign before its end is none behind which an address may break.
BROKEN = r"""() => {
  const found = [];
  const walker = document.createTreeWalker(document.querySelector("main"), NodeFilter.SHOW_TEXT);
  const line = (node, at) => {
    const range = document.createRange();
    range.setStart(node, at); range.setEnd(node, at + 1);
    return range.getBoundingClientRect();
  };
  for (let node; (node = walker.nextNode()); ) {
    for (let i = 1; i < node.data.length; i++) {
      if (!/[\w.@-]/.test(node.data[i]) || !/\w/.test(node.data[i - 1])) continue;
      const before = line(node, i - 1), after = line(node, i);
      if (before.width && after.width && after.top > before.top + 4) found.push(node.data.trim());
    }
  }
  return found;
}"""


# Rows of buttons that touch the text above them.
TOUCHING = """() => [...document.querySelectorAll("main .actions")].filter((it) => {
  const above = it.previousElementSibling, box = it.getBoundingClientRect();
  if (!above || !box.height) return false;
  const walker = document.createTreeWalker(above, NodeFilter.SHOW_TEXT);
  for (let node; (node = walker.nextNode()); ) {
    const range = document.createRange();
    range.selectNodeContents(node);
    const it = node.parentElement;
    if (!node.data.trim() || it.closest(".visually-hidden, .tip-text")) continue;
    if (!it.checkVisibility({ visibilityProperty: true, opacityProperty: true })) continue;
    for (const line of range.getClientRects()) {
      const beside = line.right <= box.left || line.left >= box.right;
      if (!beside && line.top < box.top && line.bottom > box.top - 6) return true;
    }
  }
  return false;
}).map((it) => it.outerHTML.slice(0, 120))"""


async def test_nothing_is_wider_than_a_phone_touches_text_or_breaks_an_address_amid_a_word(
    everything: tuple[Portal, list[Place]], browser: Browser
) -> None:
    portal, places = everything
    for place in places:
        page = await opened(browser, portal, place, viewport=SIZES["phone"])
        assert await page.evaluate(WIDER) == [], place.name
        assert await page.evaluate(BROKEN) == [], place.name
        assert await page.evaluate(TOUCHING) == [], place.name
        await page.context.close()
    page = await opened(browser, portal, places[0], viewport=SIZES["phone"])
    await page.evaluate(
        """() => {
          const text = document.createElement("p");
          text.textContent = "ada.lovelace@example.org ".repeat(9);
          Object.assign(text.style, { wordBreak: "break-all", width: "130vw" });
          document.querySelector("main").append(text);
          const buttons = document.createElement("div");
          buttons.className = "actions";
          buttons.innerHTML = "<button>Save</button>";
          const both = document.createElement("div");
          text.replaceWith(both);
          both.append(text, buttons);
          text.style.margin = buttons.style.margin = 0;
        }"""
    )
    assert await page.evaluate(TOUCHING), "the look for buttons that touch text sees nothing"
    assert await page.evaluate(WIDER), "the look for what is too wide sees nothing"
    assert await page.evaluate(BROKEN), "the look for broken addresses sees nothing"
    await page.context.close()


PRESSED = "button, .button, summary, select, input:not([type=hidden]), .option, .nav a, .tabs a"
SMALL = """(pressed) => [...document.querySelectorAll(pressed)]
  .filter((it) => it.checkVisibility() && !it.matches("[type=radio], [type=checkbox]"))
  .map((it) => [it.outerHTML.slice(0, 100), it.getBoundingClientRect()])
  .filter(([, box]) => box.width > 0 && (box.height < 43.5 || box.width < 43.5))
  .map(([html, box]) => `${html} ${box.width} by ${box.height}`)"""


async def test_what_a_finger_presses_is_44_pixels_high(
    everything: tuple[Portal, list[Place]], browser: Browser
) -> None:
    portal, places = everything
    for place in places:
        page = await opened(browser, portal, place, viewport=SIZES["phone"], has_touch=True, is_mobile=True)
        assert await page.evaluate(SMALL, PRESSED) == [], place.name
        await page.context.close()
    page = await opened(browser, portal, places[0], viewport=SIZES["phone"])
    await page.evaluate("document.querySelector('main .button').style.minHeight = '40px'")
    assert len(await page.evaluate(SMALL, PRESSED)) == 1, "the look for small targets sees nothing"
    await page.context.close()


async def test_every_page_uses_plain_words(everything: tuple[Portal, list[Place]]) -> None:
    portal, places = everything
    for place in places:
        person = place.who or portal.person("nobody@example.org")
        assert complaints(in_html((await person.get(place.path)).response.text)) == [], place.name


async def test_a_view_has_one_filled_button_at_most_and_none_touches_text(
    everything: tuple[Portal, list[Place]], browser: Browser
) -> None:
    """Outside of dialogs, which are views of their own."""
    portal, places = everything
    for place in places:
        page = await opened(browser, portal, place, viewport=SIZES["desktop"])
        assert await page.locator(".primary:visible, .danger:visible").count() <= 1, place.name
        assert await page.evaluate(TOUCHING) == [], place.name
        await page.context.close()
