"""Shares as pages show them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any
from urllib.parse import quote, urlencode

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


@dataclass(frozen=True)
class Addresses:
    """Where something shared is shown and sent: to people who are signed in, or by a link for everybody."""

    page: str
    files: str
    archives: str

    @classmethod
    def of(cls, share_id: str) -> Addresses:
        api = f"/api/v1/shares/{share_id}"
        return cls(f"/shared/{share_id}", f"{api}/files", f"{api}/archives")

    @classmethod
    def by_link(cls, share_id: str, secret: str) -> Addresses:
        page = link_path(share_id, secret)
        return cls(page, f"{page}/files", f"{page}/archives")

    def shown(self, path: str = "", **query: str) -> str:
        """Args: path: percent-encoded, below what is shared."""
        return _with(self.page, path, **query)

    def file(self, path: str, preview: str = "") -> str:
        return _with(self.files, path, preview=preview)

    def archive(self, path: str) -> str:
        return _with(self.archives, path)


def link_path(share_id: str, secret: str) -> str:
    """Of a link that opens something for everybody who has it."""
    return f"/s/{share_id}/{quote(secret, safe='')}"


def _with(address: str, path: str, **query: str) -> str:
    parts = [f"path={path}" if path else "", urlencode({name: value for name, value in query.items() if value})]
    text = "&".join(part for part in parts if part)
    return f"{address}?{text}" if text else address


def name_of(share: Share) -> str:
    return views.told_name(shown(share.name))


def own_rows(found: Sequence[SharedByMe], public_url: str) -> list[ShareRow]:
    return [
        replace(
            _row(one.share, _people(one.share)),
            link=f"{public_url}/shared/{one.share.id}" if one.share.emails or one.share.lab else "",
            where=(views.folder_address if one.share.kind == "folder" else views.item_address)(encoded(one.share.path)),
            opened=tuple((each.email or "somebody with the link", each.last_at) for each in one.opened[:OPENED_SAID]),
            opened_more=max(0, len(one.opened) - OPENED_SAID),
        )
        for one in found
    ]


def given_rows(found: Sequence[SharedWithMe]) -> list[ShareRow]:
    return [_row(one.share, one.owner.email) for one in found]


def _row(share: Share, who: str) -> ShareRow:
    icon = "folder" if share.kind == "folder" else "file"
    return ShareRow(share.id, name_of(share), icon, Addresses.of(share.id).shown(), who, share.expires_at)


def _people(share: Share) -> str:
    said = list(share.emails[:PEOPLE_SAID])
    if len(share.emails) > PEOPLE_SAID:
        said.append(f"{len(share.emails) - PEOPLE_SAID} more")
    if share.lab is not None:
        said.append(f"lab {share.lab}")
    if share.secret_digest is not None:
        said.append("everybody who has the link for it")
    return ", ".join(said)


def crumbs(share: Share, path: str, addresses: Addresses) -> list[Crumb]:
    """The way from what is shared to `path`, itself included."""
    found = views.crumbs(path, to=lambda at, **_: addresses.shown(at))
    return [replace(found[0], name=name_of(share), href=addresses.shown()), *found[1:]]


def row(entry: dict[str, Any], folder: str, addresses: Addresses) -> Row:
    made = Row.of(entry, folder)
    address = addresses.shown(made.path)
    return replace(made, href=address, more=address)
