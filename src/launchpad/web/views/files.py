"""A user's files as the pages show them: rows, ways up, and what is said of them in words."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import urlencode

from ...domain.file_paths import decoded, encoded, is_text, shown
from ...domain.sizes import describe_bytes
from ..files_schemas import CellView, EntryView, NotebookView, TableView, TextView

HOME = "Home folder"
NAMES_SAID = 3
MOST_CRUMBS = 40
MOST_HEADINGS = 200  # of a cell
_BY_SUFFIX = {
    "image": ("png", "jpg", "jpeg", "gif", "webp"),
    "csv": ("csv", "tsv", "tab"),
    "notebook": ("ipynb",),
    "pdf": ("pdf",),
}
PREVIEWS = {suffix: kind for kind, suffixes in _BY_SUFFIX.items() for suffix in suffixes}
_ICONS = {"csv": "table", "notebook": "notebook", "image": "image", "pdf": "page"}
_PACKED = ("zip", "gz", "tgz", "xz", "bz2", "zst", "7z", "tar", "rar")
# Marks that change the direction of what follows or that nobody sees.
_UNSEEN = re.compile("[\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\ufff9-\ufffb]")


def told_name(name: str) -> str:
    """A name in which every sign can be seen: controls and marks of direction have one of their own."""

    def seen(sign: str) -> str:
        if sign == "\n":
            return "↵"
        code = ord(sign)
        if _UNSEEN.match(sign) or unicodedata.category(sign) in ("Cc", "Cs"):
            return f"[U+{code:04X}]"
        return sign

    return "".join(map(seen, name))


def name_of(path: str) -> str:
    """Of a path as inside, its last part to be shown."""
    return told_name(shown(path.rstrip("/").rpartition("/")[2])) or HOME


def some_names(paths: Sequence[str]) -> str:
    """ "“a”, “b” and 3 more"."""
    said = [f"“{name_of(path)}”" for path in paths[:NAMES_SAID]]
    more = len(paths) - NAMES_SAID
    if more > 0:
        return f"{', '.join(said)} and {more} more"
    return said[0] if len(said) == 1 else f"{', '.join(said[:-1])} and {said[-1]}"


def items(number: int) -> str:
    return f"{number} item" + ("" if number == 1 else "s")


def preview_kind(name: str) -> str:
    """What to try, by the name alone; what it is, the file's own bytes tell."""
    return PREVIEWS.get(name.rpartition(".")[2].lower(), "text") if "." in name else "text"


def folder_address(path: str, **query: str) -> str:
    """Args: path: percent-encoded."""
    return _address("/files", path, **query)


def item_address(path: str, **query: str) -> str:
    return _address("/files/item", path, **query)


def space_address(path: str) -> str:
    return _address("/files/space", path)


def _address(page: str, path: str, **query: str) -> str:
    parts = [f"path={path}" if path else "", urlencode({name: value for name, value in query.items() if value})]
    text = "&".join(part for part in parts if part)
    return f"{page}?{text}" if text else page


def file_address(path: str, preview: str = "", snapshot: str = "") -> str:
    return _address("/api/v1/home/files", path, preview=preview, snapshot=snapshot)


def archive_address(paths: Sequence[str], snapshot: str = "") -> str:
    query = "&".join(f"path={path}" for path in paths)
    return f"/api/v1/home/archives?{query}" + (f"&snapshot={snapshot}" if snapshot else "")


@dataclass(frozen=True)
class Crumb:
    name: str
    href: str
    path: str

    @property
    def said(self) -> str:
        return typed(self.path)


def typed(path: str) -> str:
    """A percent-encoded path as a person could type it; empty where nobody could."""
    text = decoded(path)
    return text if is_text(text) and told_name(text) == text else ""


def crumbs(path: str, *, to: Any = folder_address, **query: str) -> list[Crumb]:
    """The way from the home folder to `path`, itself included; of a very long one the end."""
    found = [Crumb(HOME, to("", **query), "")]
    names = [name for name in path.split("/") if name]
    ends = [encoded(name) for name in names]
    for number in range(max(0, len(names) - MOST_CRUMBS), len(names)):
        at = "/".join(ends[: number + 1])
        found.append(Crumb(told_name(shown(names[number])), to(at, **query), at))
    return found


def crumb(path: str, **query: str) -> Crumb:
    """The last of them alone."""
    if not path.strip("/"):
        return Crumb(HOME, folder_address("", **query), "")
    at = encoded(path.strip("/"))
    return Crumb(told_name(shown(path.strip("/").rpartition("/")[2])), folder_address(at, **query), at)


@dataclass(frozen=True)
class Row:
    """Attributes:
    path: percent-encoded, as forms and addresses have it.
    folder: of what was found by a search, where it lies.
    """

    name: str
    path: str
    kind: str
    icon: str
    size: str
    modified_at: datetime
    href: str
    more: str
    link_to: str = ""
    folder: Crumb | None = None

    @property
    def said(self) -> str:
        return typed(self.path)

    @classmethod
    def of(cls, entry: dict[str, Any], folder: str, *, says_folder: bool = False, snapshot: str = "") -> Row:
        """Args: folder: as inside."""
        view = EntryView.of(entry, folder)
        is_folder = view.kind == "folder"
        return cls(
            name=told_name(view.name),
            path=view.path,
            kind=view.kind,
            icon=_icon(view),
            size="" if is_folder or view.kind == "other" else describe_bytes(view.size_bytes),
            modified_at=view.modified_at,
            href=(folder_address if is_folder else item_address)(view.path, snapshot=snapshot),
            more=item_address(view.path, snapshot=snapshot),
            link_to=told_name(view.link_to or ""),
            folder=crumb(folder, snapshot=snapshot) if says_folder else None,
        )


def _icon(view: EntryView) -> str:
    if view.kind != "file":
        return {"folder": "folder", "link": "link"}.get(view.kind, "file")
    if view.name.rpartition(".")[2].lower() in _PACKED:
        return "packed"
    return _ICONS.get(preview_kind(view.name), "file")


@dataclass(frozen=True)
class SortedBy:
    """A column's head: where it leads, and how the list is sorted by it now (as aria-sort says it)."""

    label: str
    href: str
    now: str


def sorted_by(path: str, sort: str, order: str, *, hidden: bool, snapshot: str = "") -> list[SortedBy]:
    """Args: path: percent-encoded."""
    heads = []
    for name, label in (("name", "Name"), ("size", "Size"), ("modified", "Modified")):
        is_now = name == sort
        first = "asc" if name == "name" else "desc"  # the largest and the newest are what people look for
        following = ("desc" if order == "asc" else "asc") if is_now else first
        href = folder_address(path, sort=name, order=following, hidden="true" if hidden else "", snapshot=snapshot)
        heads.append(SortedBy(label, href, ("ascending" if order == "asc" else "descending") if is_now else ""))
    return heads


@dataclass(frozen=True)
class Block:
    """Of a Markdown text, which is not rendered: a heading, or lines."""

    heading: bool
    text: str


def blocks(cell: CellView) -> list[Block]:
    found: list[Block] = []
    words: list[str] = []  # of the block that is being read

    def ended() -> None:
        if words:
            found.append(Block(False, "\n".join(words)))
            words.clear()

    for line in cell.source.splitlines():
        heading = re.match(r"#{1,6}\s+(.*)", line) if len(found) < 2 * MOST_HEADINGS else None
        if heading:
            ended()
            found.append(Block(True, heading[1]))
        elif words or line.strip():
            words.append(line)
    ended()
    return found


@dataclass(frozen=True)
class Preview:
    """What may be shown of a file: one of the views, an address of bytes that are no document, or why nothing is."""

    kind: str
    src: str = ""
    problem: str = ""
    text: TextView | None = None
    table: TableView | None = None
    notebook: NotebookView | None = None


def told_preview(kind: str, told: dict[str, Any]) -> Preview:
    """Of what the worker said: text, rows or cells."""
    given = {"size_bytes": told["size"], **told}
    if kind == "csv":
        return Preview(kind, table=TableView.model_validate(given))
    if kind == "notebook":
        return Preview(kind, notebook=NotebookView.model_validate(given))
    text = TextView.model_validate(given)
    if text.encoding == "binary":
        return Preview("none", problem="This file is not text, so there is no preview. Download it to open it.")
    return Preview("text", text=text)
