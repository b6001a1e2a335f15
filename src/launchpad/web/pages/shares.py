"""What one shares and what others share with one; a shared folder or file itself; and the form that shares."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import APIRouter, Form, Path, Request, Response
from pydantic import Field

from ...domain.file_paths import decoded, encoded
from ...errors import Conflict, InvalidInput, NotFound, TooLarge
from ...services.share_reading import new_secret
from ...services.shares import Reader, ShareService
from ...settings import Settings
from ..deps import Configured, CurrentUser, FromClient, Now, Present, Public, Shares, Visitor
from ..file_query import At, FileCursor
from ..policy import page_policy
from ..streams import secretly
from ..views import files as views
from ..views import shares as share_views
from .after_form import AfterForm, leave, stands_on
from .file_acts import FolderForm
from .files import PAGE, frame_of_files
from .forms import MaybeCount
from .rendering import after_form, page, saying, see_other

router = APIRouter(include_in_schema=False)

Secret = Annotated[str, Path(max_length=100)]


class ShareForm(FolderForm):
    """`path` is the folder that holds it, and `entry` what is shared; `people` as typed."""

    entry: Annotated[str, Field(max_length=12_000)] = ""
    people: Annotated[str, Field(max_length=20_000)] = ""
    lab: str = ""
    link: str = ""
    days: MaybeCount = None


@router.post("/files/share")
async def share(
    request: Request, visitor: CurrentUser, shares: Shares, settings: Configured, form: Annotated[ShareForm, Form()]
) -> Response:
    """Shares a file or folder."""
    stands_on(request, views.item_address(form.entry) if form.entry else views.folder_address(form.path))
    target = decoded(form.entry).strip("/")
    secret = new_secret() if form.link else None
    made = await shares.share(
        visitor.user,
        target,
        form.people.replace(",", " ").replace(";", " ").split(),
        lab=visitor.user.lab if form.lab else None,
        days=form.days,
        actor=visitor.actor,
        now=visitor.now,
        secret=secret,
    )
    if secret is None:
        return see_other(f"/shared?{_said(visitor, 'shared', share_views.name_of(made))}")
    told = AfterForm("/files/share", {"link": settings.public_url + share_views.link_path(made.id, secret)})
    return leave(request, visitor, "/shared", told)


@router.post("/shared/{share_id}/stop")
async def stop(share_id: str, visitor: CurrentUser, shares: Shares) -> Response:
    """Stops sharing it."""
    await shares.stop(visitor.user, share_id, visitor.actor, visitor.now)
    return see_other(f"/shared?{_said(visitor, 'not-shared')}")


@router.get("/shared")
async def listed(
    request: Request, visitor: CurrentUser, shares: Shares, present: Present, settings: Configured
) -> Response:
    """Both lists."""
    return page(
        request,
        "files/shared.html",
        visitor,
        mine=share_views.own_rows(await shares.by_me(visitor.user, visitor.now), settings.public_url),
        given=share_views.given_rows(await shares.with_me(visitor.user, visitor.now)),
        enabled=settings.sharing.enabled,
        secret_link=(after.values.get("link", "") if (after := after_form(request, visitor, "/files/share")) else ""),
        **await frame_of_files(request, visitor, present),
    )


@router.get("/shared/{share_id}")
async def shown(
    share_id: str,
    request: Request,
    visitor: CurrentUser,
    shares: Shares,
    present: Present,
    settings: Configured,
    path: At,
    cursor: FileCursor | None = None,
    hidden: bool = False,
) -> Response:
    """A shared folder, or one in it, or a file: what may be shown of it, as of one's own."""
    reading = Reading(shares, visitor.user, visitor.now, share_id, share_views.Addresses.of(share_id))
    frame = await frame_of_files(request, visitor, present)
    return await reading.page(request, visitor, settings, path, cursor, hidden=hidden, **frame)


@router.get("/s/{share_id}/{secret}", dependencies=[Public])
async def shown_by_link(
    share_id: str,
    secret: Secret,
    request: Request,
    client: FromClient,
    now: Now,
    shares: Shares,
    settings: Configured,
    path: At,
    cursor: FileCursor | None = None,
    hidden: bool = False,
) -> Response:
    """The same for everybody who has the link, where the administrators allow such links."""
    holder = shares.by_link(secret, client.address, now)
    reading = Reading(shares, holder, now, share_id, share_views.Addresses.by_link(share_id, secret))
    answer = await reading.page(request, None, settings, path, cursor, hidden=hidden, meter=None)
    return secretly(answer)


@dataclass(frozen=True)
class Reading:
    """Somebody reads something shared."""

    shares: ShareService
    reader: Reader
    now: datetime
    share_id: str
    addresses: share_views.Addresses

    async def page(
        self,
        request: Request,
        visitor: Visitor | None,
        settings: Settings,
        path: str,
        cursor: str | None,
        *,
        hidden: bool,
        **frame: Any,
    ) -> Response:
        """What is shown of it."""
        found = await self.shares.get(self.reader, self.share_id, self.now)
        entry = await self.shares.entry(self.reader, self.share_id, path, self.now)
        await self.shares.note_opened(self.reader, found.share, self.now)
        at, addresses = encoded(path.strip("/")), self.addresses
        context = {
            "share": found.share,
            "owner": found.owner,
            "crumbs": share_views.crumbs(found.share, path, addresses),
            "is_mine": visitor is not None and found.owner.id == visitor.user.id,
            **frame,
        }
        if entry["kind"] == "folder":
            asked: Any = {"cursor": cursor, "limit": PAGE, "sort": "name", "order": "asc", "hidden": hidden}
            listing = await self.shares.entries(self.reader, self.share_id, path, self.now, **asked)
            kept, more = {"hidden": "true" if hidden else ""}, listing["cursor"]
            return page(
                request,
                "files/shared_folder.html",
                visitor,
                rows=[share_views.row(one, path, addresses) for one in listing["entries"]],
                total=listing["total"],
                archive=addresses.archive(at),
                more=addresses.shown(at, **kept, cursor=more) if more else "",
                hidden=hidden,
                hidden_address=addresses.shown(at, hidden="" if hidden else "true"),
                **context,
            )
        above = path.strip("/").rpartition("/")[0]
        row = share_views.row(entry if path.strip("/") else {**entry, "name": found.share.name}, above, addresses)
        preview = await self._preview(path, row)
        response = page(
            request,
            "files/shared_item.html",
            visitor,
            row=row,
            download=addresses.file(at),
            preview=preview,
            blocks=views.blocks,
            **context,
        )
        if preview.kind == "pdf":
            response.headers["Content-Security-Policy"] = page_policy(settings.instances.pattern, frames=True)
        return response

    async def _preview(self, path: str, row: views.Row) -> views.Preview:
        if row.kind == "other":
            return views.Preview("none")
        kind = views.preview_kind(row.name)
        if kind in ("image", "pdf"):
            return views.Preview(kind, self.addresses.file(encoded(path.strip("/")), kind))
        try:
            told = await self.shares.preview(self.reader, self.share_id, path, kind, self.now)
            return views.told_preview(kind, told)
        except (Conflict, InvalidInput, NotFound, TooLarge) as refusal:
            return views.Preview("none", problem=refusal.detail)


def _said(visitor: Visitor, code: str, about: str = "") -> str:
    return urlencode(saying(visitor, code, about))
