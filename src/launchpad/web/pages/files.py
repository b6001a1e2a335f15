"""A user's own files: the listing and what was found in it, one file or folder, what takes the space, the Trash."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request, Response

from ...domain.file_paths import decoded, encoded, joined
from ...domain.times import zone_of
from ...errors import Conflict, Forbidden, HomeUnavailable, NotFound, TooLarge
from ...services.files import FilesService
from ...services.snapshots import SnapshotService
from ..deps import Configured, CurrentUser, HomeFiles, Present, SnapshotsOfHomes, Visitor
from ..file_query import At, FileCursor, FromSnapshot
from ..files_schemas import PATH_MAX, CacheView, SpaceNode, TrashedView
from ..policy import page_policy
from ..views import files as views
from ..views.presenter import Presenter
from ..views.snapshots import Past
from ..views.snapshots import past_of as views_of_past
from ..views.treemap import HEIGHT, WIDTH, tiles
from .after_form import AfterForm
from .rendering import after_form, page

router = APIRouter(prefix="/files", include_in_schema=False)

PAGE = 200
FORMS = ("/files/share", "/files/act", "/files/folders", "/files/upload", "/files/trash", "/files/restore")


@router.get("")
async def folder(
    request: Request,
    visitor: CurrentUser,
    files: HomeFiles,
    snapshots: SnapshotsOfHomes,
    present: Present,
    path: At,
    within: Annotated[str, Query(alias="in", max_length=PATH_MAX)] = "",
    name: Annotated[str, Query(max_length=255)] = "",
    cursor: FileCursor | None = None,
    sort: Literal["name", "size", "modified"] = "name",
    order: Literal["asc", "desc"] = "asc",
    hidden: bool = False,
    snapshot: FromSnapshot = "",
) -> Response:
    """What lies in a folder, or what has such a name below it; as it is, or was. A form says the folder
    percent-encoded, as `in`."""
    path = decoded(within) if within else path
    at, wanted = encoded(path.strip("/")), name.strip()
    past, gone = await past_of(visitor, snapshots, snapshot), ""
    found: dict[str, Any] = {"entries": [], "cursor": None, "total": 0}
    kept = {
        "sort": sort if sort != "name" else "",
        "order": order if order != "asc" else "",
        "hidden": "true" if hidden else "",
    }
    try:
        if wanted:
            kept = {"name": wanted}
            found = await files.search(visitor.user, path, wanted, cursor=cursor, limit=PAGE, snapshot=snapshot)
        else:
            found = await files.entries(
                visitor.user,
                path,
                cursor=cursor,
                limit=PAGE,
                sort=sort,
                order=order,
                hidden=hidden,
                snapshot=snapshot,
            )
    except NotFound:
        if past.chosen is None:
            raise
        gone = "This folder did not exist then."
    kept["snapshot"] = snapshot
    rows = [
        views.Row.of(one, joined(path, one.get("folder", "")), says_folder=bool(wanted), snapshot=snapshot)
        for one in found["entries"]
    ]
    return page(
        request,
        "files/folder.html",
        visitor,
        rows=rows,
        path=at,
        crumbs=views.crumbs(path, snapshot=snapshot),
        past=past,
        gone=gone,
        now_address=views.folder_address(at),
        heads=[] if wanted else views.sorted_by(at, sort, order, hidden=hidden, snapshot=snapshot),
        name=wanted,
        cut=bool(found.get("cut")),
        total=found.get("total"),
        first_page="" if cursor is None else views.folder_address(at, **kept),
        more=views.folder_address(at, **kept, cursor=found["cursor"]) if found["cursor"] else "",
        hidden=hidden and not wanted,
        hidden_address=views.folder_address(at, hidden="" if hidden else "true", snapshot=snapshot),
        folders=[row for row in rows if row.kind == "folder"] if not wanted else [],
        **await frame_of_files(request, visitor, present),
    )


@dataclass(frozen=True)
class Note:
    """What came of a form, where it leaves a choice: see `file_forms`."""

    text: str
    status: int
    values: dict[str, str]
    field: str = ""

    @property
    def kind(self) -> str:
        return self.values.get("kind", "")

    def listed(self, name: str) -> list[str]:
        return self.values.get(name, "").split()


def _note(after: AfterForm | None) -> Note | None:
    if after is None or not after.detail:
        return None
    return Note(after.detail, after.status, dict(after.values), next(iter(after.fields.values()), ""))


async def frame_of_files(request: Request, visitor: Visitor, present: Presenter, *more_forms: str) -> dict[str, Any]:
    """What every page of files has."""
    home = await present.home_card(visitor.user)
    return {
        "note": _note(after_form(request, visitor, *FORMS, *more_forms)),
        "meter": replace(home.meter, label="Used") if home else None,
        "warning": home.warning if home else "",
        "tone": home.tone if home else "",
    }


async def past_of(visitor: Visitor, snapshots: SnapshotService, chosen: str) -> Past:
    """What can be looked at; while that cannot be told, nothing, and the page is there all the same.

    Raises:
        NotFound: what was chosen is not there any more.
    """
    obstacle, found = "", []
    try:
        told = await snapshots.obstacle()
        obstacle = told.why if told is not None else ""
        found = list(await snapshots.of(visitor.user))
    except HomeUnavailable as error:
        obstacle = error.detail
    past = views_of_past(found, visitor.now, zone_of(visitor.user.time_zone), chosen=chosen, obstacle=obstacle)
    if chosen and past.chosen is None:
        raise NotFound("This snapshot does not exist any more.")
    return past


@router.get("/item")
async def item(
    request: Request,
    visitor: CurrentUser,
    files: HomeFiles,
    snapshots: SnapshotsOfHomes,
    present: Present,
    settings: Configured,
    path: At,
    snapshot: FromSnapshot = "",
) -> Response:
    """One file or folder: what may be shown of it, and what can be done with it; as it is, or was."""
    past = await past_of(visitor, snapshots, snapshot) if snapshot else Past(())
    entry = await files.entry(visitor.user, path, snapshot)
    above, _, _ = path.strip("/").rpartition("/")
    if not path.strip("/"):
        raise NotFound("This is the home folder itself.")
    row = views.Row.of(entry, above, snapshot=snapshot)
    preview = await _preview(files, visitor, path, row, snapshot)
    response = page(
        request,
        "files/item.html",
        visitor,
        row=row,
        mode=f"{entry['mode']:04o}",
        lab=visitor.user.lab,
        sharing=settings.sharing,
        path=encoded(above),
        crumbs=views.crumbs(path, snapshot=snapshot),
        past=past,
        folder_then=views.folder_address(row.path, snapshot=snapshot),
        now_address=views.folder_address(encoded(above)),
        download=views.file_address(row.path, snapshot=snapshot),
        preview=preview,
        blocks=views.blocks,
        **await frame_of_files(request, visitor, present),
    )
    if preview.kind == "pdf":
        response.headers["Content-Security-Policy"] = page_policy(settings.instances.pattern, frames=True)
    return response


async def _preview(files: FilesService, visitor: Visitor, path: str, row: views.Row, snapshot: str) -> views.Preview:
    if row.kind in ("folder", "other"):
        return views.Preview("none")
    kind = views.preview_kind(row.name)
    if kind in ("image", "pdf"):
        return views.Preview(kind, views.file_address(row.path, kind, snapshot))
    try:
        return views.told_preview(kind, await files.preview(visitor.user, path, kind, snapshot))
    except (Conflict, Forbidden, NotFound, TooLarge) as refusal:
        return views.Preview("none", problem=refusal.detail)


@router.get("/space")
async def space(request: Request, visitor: CurrentUser, files: HomeFiles, present: Present, path: At) -> Response:
    """The largest folders and files, as areas and as a table, and the caches that can be emptied."""
    found = await files.space(visitor.user, path, 2)
    above, _, name = path.strip("/").rpartition("/")
    node = SpaceNode.of(found | {"name": name}, above)
    caches = [] if path.strip("/") else await files.caches(visitor.user)
    return page(
        request,
        "files/space.html",
        visitor,
        path=encoded(path.strip("/")),
        crumbs=views.crumbs(path, to=views.space_address),
        node=node,
        tiles=tiles(node),
        told=views.told_name,
        size=(WIDTH, HEIGHT),
        space_address=views.space_address,
        folder_address=views.folder_address,
        item_address=views.item_address,
        complete=found["complete"],
        caches=[CacheView.of(cache, size) for cache, size in caches],
        **await frame_of_files(
            request, visitor, present, *(f"/files/caches/{cache.name}/empty" for cache, _ in caches)
        ),
    )


@router.get("/trash")
async def trash(
    request: Request, visitor: CurrentUser, files: HomeFiles, present: Present, settings: Configured
) -> Response:
    """What was deleted and can be restored."""
    found = await files.trash(visitor.user, visitor.now)
    entries = [TrashedView.of(entry) for entry in found["entries"]]
    folders = [one["path"].rpartition("/")[0] if one["path"] else None for one in found["entries"]]
    crumbs = [None if folder is None else views.crumb(folder) for folder in folders]
    return page(
        request,
        "files/trash.html",
        visitor,
        entries=list(zip(entries, crumbs, strict=True)),
        total=found["total"],
        days=settings.files.trash_days,
        told=views.told_name,
        **await frame_of_files(request, visitor, present),
    )
