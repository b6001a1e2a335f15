"""What the API of files takes and gives. Paths are below the home; `path` of an answer is percent-encoded, to be put
behind `path=` as it is."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Literal, Self

from pydantic import AwareDatetime, BaseModel, Field

from ..domain.file_caches import Cache
from ..domain.file_paths import decoded, encoded, is_text, joined, shown
from ..services.files import modified_at
from .schemas import LARGEST_BYTES, Body

PATH_MAX = 64 * 1024
Kind = Literal["file", "folder", "link", "other"]


class EntryView(BaseModel):
    name: str = Field(description="To be shown: bytes that are no UTF-8 are replacement characters.")
    path: str = Field(description="How to address it: percent-encoded, as it is behind `path=`.")
    kind: Kind
    size_bytes: int
    modified_at: datetime
    mode: str = Field(description="Permissions in octal, such as 0644.")
    link_to: str | None = Field(None, description="Of a link, where it says it leads to.")
    encoded_name: str | None = Field(None, description="The percent-encoded name, where it is no UTF-8.")

    @classmethod
    def of(cls, entry: dict[str, Any], folder: str) -> EntryView:
        """Args: folder: that it lies in, as inside."""
        return cls(**_entry(entry, folder))


def _entry(entry: dict[str, Any], folder: str) -> dict[str, Any]:
    name = entry["name"]
    return {
        "name": shown(name),
        "path": encoded(joined(folder, name)),
        "kind": entry["kind"],
        "size_bytes": entry["size"],
        "modified_at": modified_at(entry),
        "mode": f"{entry['mode']:04o}",
        "link_to": shown(entry["link_to"]) if "link_to" in entry else None,
        "encoded_name": None if is_text(name) else encoded(name),
    }


class FolderView(BaseModel):
    path: str
    entries: list[EntryView]
    cursor: str | None = Field(description="Of the next page; null: this is the last.")
    total: int = Field(description="Number of entries on all pages.")

    @classmethod
    def of(cls, path: str, found: dict[str, Any]) -> FolderView:
        entries = [EntryView.of(entry, path) for entry in found["entries"]]
        return cls(path=encoded(path.strip("/")), entries=entries, cursor=found["cursor"], total=found["total"])


class FoundView(BaseModel):
    path: str
    entries: list[EntryView]
    cursor: str | None = Field(description="Where to continue; null: everything was checked.")
    cut: bool = Field(description="The time was over before the page was full; ask again with the cursor.")

    @classmethod
    def of(cls, path: str, found: dict[str, Any]) -> FoundView:
        entries = [EntryView.of(entry, joined(path, entry["folder"])) for entry in found["entries"]]
        return cls(path=encoded(path.strip("/")), entries=entries, cursor=found["cursor"], cut=found["cut"])


class _Paths(Body):
    encoded: bool = Field(False, description="Whether the paths are percent-encoded, as `path` of an entry is.")

    def inside(self, path: str) -> str:
        return decoded(path) if self.encoded else path


class FolderBody(_Paths):
    path: str = Field(max_length=PATH_MAX)


class MoveBody(_Paths):
    source: str = Field(alias="from", max_length=PATH_MAX)
    target: str = Field(alias="to", max_length=PATH_MAX)
    replace: bool = Field(False, description="Replace a file, or of an empty folder.")


class CopyBody(_Paths):
    source: str = Field(alias="from", max_length=PATH_MAX)
    target: str = Field(alias="to", max_length=PATH_MAX)


class CopiedView(BaseModel):
    entry: EntryView
    files: int
    bytes: int
    several_names: int = Field(description="Files that had several names, of which each is a copy of its own now.")
    left: list[str] = Field(description="Some of what could not be copied, such as pipes, with the reason.")
    left_count: int


class UploadBody(_Paths):
    path: str = Field(max_length=PATH_MAX)
    size_bytes: int = Field(ge=0, le=LARGEST_BYTES)
    modified_at: AwareDatetime | None = None
    replace: bool = Field(False, description="Replace a file of this name, once the upload is complete.")


class UploadView(BaseModel):
    id: str
    offset: int = Field(description="Bytes received so far; send the next ones.")
    size_bytes: int
    done: bool = Field(description="The upload is complete, and the file has its name.")
    path: str | None = None
    touched_at: datetime | None = None

    @classmethod
    def of(cls, upload: dict[str, Any]) -> Self:
        touched = upload.get("touched_ns")
        return cls(
            id=upload["id"],
            offset=upload["offset"],
            size_bytes=upload["size"],
            done=upload["done"],
            path=encoded(upload["path"]) if "path" in upload else None,
            touched_at=modified_at({"mtime_ns": touched}) if touched is not None else None,
        )


class UploadsView(BaseModel):
    uploads: list[UploadView]


class DeletedView(BaseModel):
    id: str | None = Field(description="What it is called in the Trash; null: it is deleted permanently.")


class TextView(BaseModel):
    size_bytes: int
    text: str
    encoding: str = Field(description="`utf-8`, `utf-16-le`, `utf-16-be`; `latin-1`: a guess; `binary`: no text.")
    cut: bool


class TableView(BaseModel):
    size_bytes: int
    rows: list[list[str]]
    columns: int = Field(description="Of the widest row, which may be more than are here.")
    delimiter: str
    encoding: str
    cut: bool


class OutputView(BaseModel):
    kind: Literal["text", "error", "image"]
    media_type: str = Field(description="Of a text, what it was: markup, too, is only text here.")
    text: str | None = None
    data: str | None = Field(None, description="An image in base64.")
    cut: bool = False


class CellView(BaseModel):
    kind: Literal["code", "markdown", "raw"]
    source: str
    execution_count: int | None = None
    outputs: list[OutputView]
    cut: bool


class NotebookView(BaseModel):
    size_bytes: int
    language: str
    cells: list[CellView]
    cut: bool


class SpaceNode(BaseModel):
    name: str
    path: str
    kind: Kind
    bytes: int = Field(description="What its blocks take up.")
    files: int
    inside: list[SpaceNode] = Field([], description="The largest of what lies in it.")

    @classmethod
    def of(cls, node: dict[str, Any], folder: str) -> SpaceNode:
        path = joined(folder, node["name"])
        return cls(
            name=shown(node["name"]),
            path=encoded(path),
            kind=node["kind"],
            bytes=node["bytes"],
            files=node["files"],
            inside=[cls.of(one, path) for one in node.get("inside", ())],
        )


class CacheView(BaseModel):
    name: str
    title: str
    paths: list[str]
    bytes: int
    cost: str = Field(description="What emptying it costs.")

    @classmethod
    def of(cls, cache: Cache, size: int) -> CacheView:
        return cls(name=cache.name, title=cache.title, paths=list(cache.paths), bytes=size, cost=cache.cost)


class SpaceView(BaseModel):
    folder: SpaceNode
    complete: bool = Field(description="Whether everything was counted in the time there is.")
    caches: list[CacheView]


class TrashedView(BaseModel):
    id: str
    name: str
    path: str | None = Field(description="Where it was; null: nobody knows.")
    kind: Kind
    size_bytes: int
    deleted_at: datetime | None

    @classmethod
    def of(cls, entry: dict[str, Any]) -> TrashedView:
        path = entry["path"]
        return cls(
            id=encoded(entry["id"]),
            name=shown(path.rpartition("/")[2] if path else entry["id"]),
            path=encoded(path) if path else None,
            kind=entry["kind"],
            size_bytes=entry["size"],
            deleted_at=entry["deleted_at"],
        )


class TrashView(BaseModel):
    entries: list[TrashedView]
    total: int
    days: int = Field(description="After so many days it is deleted permanently.")


class IdsBody(Body):
    ids: list[str] = Field(max_length=10_000)

    @property
    def inside(self) -> Sequence[str]:
        return [decoded(one) for one in self.ids]


class SomeIdsBody(Body):
    ids: list[str] | None = Field(None, max_length=10_000, description="Only these; else everything.")


class RestoreBody(_Paths):
    snapshot: str = Field(max_length=40, description="Its `name`.")
    path: str = Field(max_length=PATH_MAX, description="Of a file or folder; empty: all of the home.")
    to: Literal["beside", "in place"] = Field(
        "beside",
        description="`beside`: a copy beside what is there now, with the date in its name. `in place`: where it was, "
        "and what is there now goes to the Trash.",
    )


class RestoredCopyView(BaseModel):
    entry: EntryView
    trashed: str | None = Field(description="The id in the Trash of what it replaced; null: it replaced nothing.")
    files: int
    left: list[str] = Field(description="Some of what could not be restored, such as pipes, with the reason.")
    left_count: int

    @classmethod
    def of(cls, told: dict[str, Any], entry: EntryView) -> RestoredCopyView:
        trashed = encoded(told["trashed"]) if told["trashed"] is not None else None
        return cls(
            entry=entry,
            trashed=trashed,
            files=told["files"],
            left=[shown(one) for one in told["left"]],
            left_count=told["left_count"],
        )


class RestoredView(BaseModel):
    id: str
    path: str
    kind: Kind


class NotRestoredView(BaseModel):
    id: str
    detail: str


class RestoringView(BaseModel):
    restored: list[RestoredView]
    failed: list[NotRestoredView]

    @classmethod
    def of(cls, answer: dict[str, Any]) -> RestoringView:
        return cls(
            restored=[
                RestoredView(id=encoded(one["id"]), path=encoded(one["path"]), kind=one["kind"])
                for one in answer["restored"]
            ],
            failed=[NotRestoredView(id=encoded(one["id"]), detail=one["detail"]) for one in answer["failed"]],
        )
