"""Shares as pages show them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any
from urllib.parse import urlencode

from ...domain.file_paths import encoded, shown
from ...domain.shares import Share
from ...services.shares import SharedByMe, SharedWithMe
from . import files as views
from .files import Crumb, Row

OPENED_SAID = 5
PEOPLE_SAID = 3


@dataclass(frozen=True)
class ShareRow:
    """Attributes:
    who: with whom it is shared, or who shares it.
    where: of one's own, the address of the file or folder on the Files page.
    """

    id: str
    name: str
    icon: str
    href: str
    who: str
    expires_at: datetime
    link: str = ""
    where: str = ""
    opened: tuple[tuple[str, datetime], ...] = ()
    opened_more: int = 0


def shared_address(share_id: str, path: str = "", **query: str) -> str:
    """Args: path: percent-encoded, below what is shared."""
    parts = [f"path={path}" if path else "", urlencode({name: value for name, value in query.items() if value})]
    text = "&".join(part for part in parts if part)
    return f"/shared/{share_id}" + (f"?{text}" if text else "")


def file_address(share_id: str, path: str, preview: str = "") -> str:
    parts = [f"path={path}" if path else "", f"preview={preview}" if preview else ""]
    text = "&".join(part for part in parts if part)
    return f"/api/v1/shares/{share_id}/files" + (f"?{text}" if text else "")


def archive_address(share_id: str, path: str) -> str:
    return f"/api/v1/shares/{share_id}/archives" + (f"?path={path}" if path else "")


def name_of(share: Share) -> str:
    return views.told_name(shown(share.name))


def own_rows(found: Sequence[SharedByMe], public_url: str) -> list[ShareRow]:
    return [
        replace(
            _row(one.share, _people(one.share)),
            link=f"{public_url}/shared/{one.share.id}",
            where=(views.folder_address if one.share.kind == "folder" else views.item_address)(encoded(one.share.path)),
            opened=tuple((each.email, each.last_at) for each in one.opened[:OPENED_SAID]),
            opened_more=max(0, len(one.opened) - OPENED_SAID),
        )
        for one in found
    ]


def given_rows(found: Sequence[SharedWithMe]) -> list[ShareRow]:
    return [_row(one.share, one.owner.email) for one in found]


def _row(share: Share, who: str) -> ShareRow:
    icon = "folder" if share.kind == "folder" else "file"
    return ShareRow(share.id, name_of(share), icon, shared_address(share.id), who, share.expires_at)


def _people(share: Share) -> str:
    said = list(share.emails[:PEOPLE_SAID])
    if len(share.emails) > PEOPLE_SAID:
        said.append(f"{len(share.emails) - PEOPLE_SAID} more")
    if share.lab is not None:
        said.append(f"lab {share.lab}")
    return ", ".join(said)


def crumbs(share: Share, path: str) -> list[Crumb]:
    """The way from what is shared to `path`, itself included."""
    found = views.crumbs(path, to=lambda at, **_: shared_address(share.id, at))
    return [replace(found[0], name=name_of(share), href=shared_address(share.id)), *found[1:]]


def row(share: Share, entry: dict[str, Any], folder: str) -> Row:
    made = Row.of(entry, folder)
    address = shared_address(share.id, made.path)
    return replace(made, href=address, more=address)
