"""Recipes of images: what lies in `images/<name>/`, and the hash that names what is built from it."""

from __future__ import annotations

import hashlib
import io
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..errors import InvalidInput, SettingsError

LABEL_RECIPE = "org.launchpad.recipe"
LABEL_HASH = "org.launchpad.recipe-hash"
LABEL_STAND_IN = "org.launchpad.stand-in"
LABEL_TITLE = "org.launchpad.title"
HASH_LENGTH = 12


@dataclass(frozen=True)
class Recipe:
    """One recipe. `kind` is "rootfs" (a program makes the file system) or "dockerfile"; `base` names another recipe."""

    name: str
    title: str
    kind: str
    folder: Path
    base: str | None
    stand_in: bool
    changes: tuple[str, ...]
    hash: str

    @property
    def tag(self) -> str:
        return built_tag(self.name, self.hash)

    @property
    def labels(self) -> dict[str, str]:
        return {
            LABEL_RECIPE: self.name,
            LABEL_HASH: self.hash,
            LABEL_STAND_IN: "true" if self.stand_in else "false",
            LABEL_TITLE: self.title,
        }


def built_tag(name: str, recipe_hash: str) -> str:
    """The one tag under which an image built from a recipe is known."""
    return f"launchpad/{name}:{recipe_hash}"


def shipped_folder() -> Path:
    """The recipes that came with the program: inside an installed one, or beside the source tree."""
    package = Path(__file__).resolve().parent.parent
    installed = package / "_images"
    return installed if installed.is_dir() else package.parent.parent / "images"


def read_recipes(folder: Path, certificates: Sequence[str]) -> dict[str, Recipe]:
    """All recipes below `folder`, bases before what is built on them.

    Raises:
        SettingsError: the folder holds no recipes, or a recipe cannot be read; the text names the file.
    """
    tables: dict[str, dict[str, object]] = {}
    for path in sorted(folder.glob("*/recipe.toml")):
        try:
            tables[path.parent.name] = tomllib.loads(path.read_text(encoding="utf-8"))
        except (OSError, tomllib.TOMLDecodeError) as error:
            raise SettingsError(f"{path}: this recipe cannot be read: {error}") from None
    if not tables:
        raise SettingsError(f"images.recipes: there are no recipes in {folder}")
    recipes: dict[str, Recipe] = {}
    while len(recipes) < len(tables):
        ready = [
            name for name, table in tables.items() if name not in recipes and table.get("base") in (None, *recipes)
        ]
        if not ready:
            rest = ", ".join(name for name in tables if name not in recipes)
            raise SettingsError(f"{folder}: the bases of these recipes cannot be found: {rest}")
        for name in ready:
            recipes[name] = _recipe(folder / name, tables[name], recipes, certificates)
    return recipes


def needed(recipes: Mapping[str, Recipe], names: Sequence[str] | None) -> list[Recipe]:
    """The named recipes (all, if None) and what they are built on, bases first.

    Raises:
        InvalidInput: there is no recipe of that name.
    """
    wanted: set[str] = set()
    for name in names if names is not None else list(recipes):
        if name not in recipes:
            raise InvalidInput(f"There is no recipe “{name}”; available are: {', '.join(recipes)}.")
        base: str | None = name
        while base is not None:
            wanted.add(base)
            base = recipes[base].base
    return [recipe for recipe in recipes.values() if recipe.name in wanted]


def context_tar(recipe: Recipe, target: Path) -> None:
    """Writes the recipe's folder as a build context, the same bytes for the same content."""
    import tarfile  # only for an image that is built

    with tarfile.open(target, "w") as tar:
        for path in _files(recipe.folder):
            member = tarfile.TarInfo(str(path.relative_to(recipe.folder)))
            content = path.read_bytes()
            member.size, member.mode = len(content), _mode(path)
            tar.addfile(member, io.BytesIO(content))


def _recipe(
    folder: Path, table: Mapping[str, object], recipes: Mapping[str, Recipe], certificates: Sequence[str]
) -> Recipe:
    base = table.get("base")
    digest = hashlib.sha256()
    if base is not None:
        digest.update(recipes[str(base)].hash.encode())
    for text in certificates:
        digest.update(text.encode())
    for path in _files(folder):
        digest.update(f"{path.relative_to(folder)}\0{_mode(path):o}\0".encode())
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    changes = table.get("changes", [])
    return Recipe(
        name=folder.name,
        title=str(table.get("title", folder.name)),
        kind=str(table.get("kind", "dockerfile")),
        folder=folder,
        base=str(base) if base is not None else None,
        stand_in=table.get("stand_in") is True,
        changes=tuple(str(change) for change in changes) if isinstance(changes, list) else (),
        hash=digest.hexdigest()[:HASH_LENGTH],
    )


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts)


def _mode(path: Path) -> int:
    """Only whether it is executable counts: what a checkout's umask makes of the rest does not."""
    return 0o755 if path.stat().st_mode & 0o100 else 0o644
