"""What people do with selected files, by the form around a listing. It is answered with a redirect; what leaves a
choice (Undo, a name that is taken, a Trash without space) waits as a note on the page after it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Annotated

from fastapi import APIRouter, Form, Request, Response
from pydantic import Field

from ...domain.file_paths import decoded, encoded, joined, shown
from ...errors import Conflict, InvalidInput, LaunchpadError, NoRoom, NotFound
from ...services.files import FilesService
from ..deps import CurrentUser, HomeFiles, Visitor
from ..files_schemas import PATH_MAX
from ..views import files as views
from .after_form import AfterForm, leave, page_of, stands_on
from .forms import PageForm
from .rendering import saying, see_other

router = APIRouter(prefix="/files", include_in_schema=False)

ADDRESS_MAX = 30_000  # of a link; nginx takes 32 kB
TRIES = 200
Text = Annotated[str, Field(max_length=PATH_MAX)]


class FolderForm(PageForm):
    """`path` is the folder that the page shows, percent-encoded like all paths of forms."""

    path: Text = ""

    @property
    def folder(self) -> str:
        return decoded(self.path).strip("/")

    def stands(self, request: Request) -> None:
        stands_on(request, views.folder_address(self.path))


class ActForm(FolderForm):
    do: str = ""
    entry: list[Text] = Field(default_factory=list, max_length=1000)
    to: Text = ""  # as typed
    name: Annotated[str, Field(max_length=255)] = ""
    taken: str = ""  # what to do where a name is taken: "replace", "both", or ask

    @property
    def paths(self) -> list[str]:
        return [decoded(one).strip("/") for one in self.entry]


@dataclass
class Done:
    """What came of several: those that it worked for, whose names were taken, and that were refused with a reason."""

    done: list[str] = field(default_factory=list)
    ids: list[str] = field(default_factory=list)
    taken: list[str] = field(default_factory=list)
    refused: list[tuple[str, LaunchpadError]] = field(default_factory=list)

    @property
    def is_all(self) -> bool:
        return not self.taken and not self.refused

    def said(self, verb: str) -> str:
        """Of those that it did not work for, and of the others when there are such."""
        parts = [f"{views.some_names(self.done)} {verb}."] if self.done else []
        parts += [f"“{views.name_of(path)}”: {error.detail}" for path, error in self.refused[: views.NAMES_SAID]]
        if len(self.refused) > views.NAMES_SAID:
            parts.append(f"The same or similar for {len(self.refused) - views.NAMES_SAID} more.")
        return " ".join(parts)


@router.post("/act")
async def act(request: Request, visitor: CurrentUser, files: HomeFiles, form: Annotated[ActForm, Form()]) -> Response:
    """Downloads, renames, moves, copies or deletes what is selected."""
    form.stands(request)
    if not all(form.paths) or not form.paths:
        raise InvalidInput("Select one or more files or folders first.")
    acting = _ACTS.get(form.do or _typed(form))
    if acting is None:
        raise InvalidInput("Choose what to do with the selected files.")
    return await acting(request, visitor, files, form)


def _typed(form: ActForm) -> str:
    """What Enter means in a field: another name was typed, or a folder. Both were: nobody knows."""
    renames = bool(form.name.strip()) and [form.name.strip()] != [views.name_of(path) for path in form.paths]
    return {(True, False): "rename", (False, True): "move"}.get((renames, bool(form.to.strip())), "")


async def _download(request: Request, visitor: Visitor, files: FilesService, form: ActForm) -> Response:
    paths = [encoded(path) for path in form.paths]
    if len(paths) == 1 and (await files.entry(visitor.user, form.paths[0]))["kind"] != "folder":
        return see_other(views.file_address(paths[0]))
    address = views.archive_address(paths)
    if len(address) > ADDRESS_MAX:
        raise InvalidInput("These are too many for one download. Select fewer, or download the folder that holds them.")
    return see_other(address)


async def _rename(request: Request, visitor: Visitor, files: FilesService, form: ActForm) -> Response:
    if len(form.paths) != 1:
        raise InvalidInput("Select exactly one file or folder to rename it.")
    (source,), name = form.paths, good_name(form.name)
    folder = source.rpartition("/")[0]
    target = joined(folder, name)
    if source == target:
        return see_other(_back(request, form))
    now_at = await _moved(files, visitor, source, target, form.taken)
    if now_at is None:
        text = f"There is already something with the name “{views.name_of(target)}” in this folder."
        return _ask(request, visitor, form, text, [source], both=True)
    return see_other(with_said(_back(request, form, source), saying(visitor, "renamed", views.name_of(now_at))))


async def _move(request: Request, visitor: Visitor, files: FilesService, form: ActForm) -> Response:
    folder = await _target(files, visitor, form.to)

    async def one(source: str) -> bool:
        target = joined(folder, source.rpartition("/")[2])
        if target == source:
            raise Conflict("It is in this folder already.")
        return await _moved(files, visitor, source, target, form.taken) is not None

    return _moved_or_copied(request, visitor, form, await each(form.paths, one), "moved", folder)


async def _copy(request: Request, visitor: Visitor, files: FilesService, form: ActForm) -> Response:
    """Beside itself a copy has another name by itself."""
    folder = await _target(files, visitor, form.to)

    async def one(source: str) -> bool:
        target = joined(folder, source.rpartition("/")[2])
        if await exists(files, visitor, target):
            if form.taken != "both" and target != source:
                return False
            target = await free(files, visitor, target)
        await files.copy(visitor.user, source, target)
        return True

    return _moved_or_copied(request, visitor, form, await each(form.paths, one), "copied", folder)


async def _put_into_trash(request: Request, visitor: Visitor, files: FilesService, form: ActForm) -> Response:
    ids: list[str] = []

    async def one(path: str) -> bool:
        ids.append(encoded(await files.put_into_trash(visitor.user, path, visitor.now)))
        return True

    result = await each(form.paths, one)
    page = _back(request, form, *result.done)
    kept = {"kind": "trashed", "path": form.path, "ids": " ".join(ids)}
    if result.is_all:
        note = AfterForm("/files/act", kept, detail=f"{views.some_names(result.done)} moved to the Trash.")
        return leave(request, visitor, page, note)
    status = max(error.status for _, error in result.refused)
    only_forever = all(isinstance(error, (NoRoom, Conflict)) for _, error in result.refused)
    if only_forever:  # no space for the Trash, or on another disk
        kept |= {"kind": "untrashed", "entries": " ".join(encoded(path) for path, _ in result.refused)}
    return leave(request, visitor, page, AfterForm("/files/act", kept, status, "", result.said("moved to the Trash")))


async def _erase(request: Request, visitor: Visitor, files: FilesService, form: ActForm) -> Response:

    async def one(path: str) -> bool:
        await files.delete(visitor.user, path)
        return True

    result = await each(form.paths, one)
    page = _back(request, form, *result.done)
    if result.is_all:
        return see_other(with_said(page, saying(visitor, "erased", views.some_names(result.done))))
    return told_refused(request, visitor, page, result, "deleted permanently")


_Act = Callable[[Request, Visitor, FilesService, ActForm], Awaitable[Response]]
_ACTS: dict[str, _Act] = {
    "download": _download,
    "rename": _rename,
    "move": _move,
    "copy": _copy,
    "trash": _put_into_trash,
    "erase": _erase,
}


async def each(paths: Sequence[str], one: Callable[[str], Awaitable[bool]]) -> Done:
    """One after the other; what is refused keeps no other from its turn.

    Args:
        one: false: its name is taken, and nothing was said about that.
    """
    result = Done()
    for path in paths:
        try:
            (result.done if await one(path) else result.taken).append(path)
        except LaunchpadError as error:
            result.refused.append((path, error))
    return result


async def _moved(files: FilesService, visitor: Visitor, source: str, target: str, taken: str) -> str | None:
    """Where it is now; None where something else has the name and nothing was chosen about that."""
    if taken == "both":
        target = await free(files, visitor, target)
    elif taken != "replace" and await exists(files, visitor, target):
        return None
    await files.move(visitor.user, source, target, replace=taken == "replace")
    return target


async def exists(files: FilesService, visitor: Visitor, path: str) -> bool:
    try:
        await files.entry(visitor.user, path)
    except NotFound:
        return False
    return True


async def free(files: FilesService, visitor: Visitor, path: str) -> str:
    """The path, or with a number the first that nothing has: "data (2).csv"."""
    if not await exists(files, visitor, path):
        return path
    folder, _, name = path.rpartition("/")
    stem, suffix = PurePosixPath(name).stem, PurePosixPath(name).suffix
    for number in range(2, TRIES):
        other = joined(folder, f"{stem} ({number}){suffix}")
        if not await exists(files, visitor, other):
            return other
    raise Conflict("There are too many files with this name.")


async def _target(files: FilesService, visitor: Visitor, typed: str) -> str:
    """The folder that was typed: below the home folder, as a terminal writes it or without all that.

    Raises:
        InvalidInput: there is no such folder.
    """
    for text in dict.fromkeys((typed, typed.strip())):
        folder = _without_home(text, visitor).strip("/")
        if not folder:
            return ""
        try:
            entry = await files.entry(visitor.user, folder)
        except (NotFound, InvalidInput):
            continue
        if entry["kind"] in ("folder", "link"):
            return folder
    said = f"There is no folder “{views.told_name(shown(typed.strip()))}” in your home folder."
    raise InvalidInput(said, fields={"to": said})


def _without_home(text: str, visitor: Visitor) -> str:
    for start in (f"/home/{visitor.user.username}", "~"):
        if text == start or text.startswith(f"{start}/"):
            return text.removeprefix(start)
    return text


def good_name(typed: str) -> str:
    """Raises InvalidInput for what no file can be called."""
    name = typed.strip()
    if not name:
        raise InvalidInput("Type a name.", fields={"name": "type a name"})
    if "/" in name or "\0" in name or name in (".", ".."):
        text = "a name cannot have a slash (/) and cannot be . or .."
        raise InvalidInput(f"“{views.told_name(name)}” cannot be used: {text}.", fields={"name": text})
    return name


def _back(request: Request, form: FolderForm, *gone: str) -> str:
    """The page that the form stands on; where that is the one of something that has another place now, its folder."""
    page = page_of(request)
    if gone and page.startswith("/files/item"):
        return views.folder_address(form.path)
    return page


def with_said(page: str, query: dict[str, str]) -> str:
    said = query["said"]  # of letters that need no encoding
    return f"{page}{'&' if '?' in page else '?'}said={said}"


def _ask(
    request: Request, visitor: Visitor, form: ActForm, text: str, entries: Sequence[str], *, both: bool
) -> Response:
    """Leaves the choice what to do about a name that is taken."""
    values = {
        "kind": "taken",
        "do": form.do,
        "path": form.path,
        "to": form.to,
        "name": form.name,
        "entries": " ".join(encoded(path) for path in entries),
        "replace": "" if form.do == "copy" else "yes",
        "both": "yes" if both else "",
    }
    return leave(request, visitor, _back(request, form), AfterForm("/files/act", values, 409, "", text))


def _moved_or_copied(
    request: Request, visitor: Visitor, form: ActForm, result: Done, verb: str, folder: str
) -> Response:
    place = f"“{views.name_of(folder)}”" if folder else "the home folder"
    if result.taken:
        text = f"There is already something with the name of {views.some_names(result.taken)} in {place}."
        return _ask(request, visitor, form, f"{text} {result.said(verb)}".strip(), result.taken, both=True)
    page = _back(request, form, *(result.done if verb == "moved" else ()))
    if result.is_all:
        return see_other(with_said(page, saying(visitor, verb, f"{views.some_names(result.done)} → {place}:")))
    return told_refused(request, visitor, page, result, verb)


def told_refused(request: Request, visitor: Visitor, page: str, result: Done, verb: str) -> Response:
    status = max(error.status for _, error in result.refused)
    return leave(request, visitor, page, AfterForm("/files/act", {}, status, "", result.said(verb)))
