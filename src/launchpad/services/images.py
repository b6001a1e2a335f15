"""Which image an environment uses; fetching images, and building them where none can be fetched."""

from __future__ import annotations

import asyncio
import os
import re
import tempfile
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import monotonic

import structlog

from ..domain.environments import Environment
from ..domain.sizes import describe_bytes
from ..errors import EngineRefused, ImageMissing, SettingsError
from ..runtime.base import ImageInfo, Images, Progress
from ..settings import ImageSettings
from .recipes import (
    LABEL_HASH,
    LABEL_RECIPE,
    LABEL_STAND_IN,
    Recipe,
    built_tag,
    context_tar,
    needed,
    read_recipes,
    shipped_folder,
)

log = structlog.get_logger(__name__)

REMEMBER_SECONDS = 5.0
LAST_LINES = 12
AGAIN_AFTER_SECONDS = 15.0
TRIES = 3  # of a build whose network was away; the engine keeps what earlier steps have made
# What package managers and resolvers say then.
_NETWORK = re.compile(
    "could not resolve|temporary failure|failed to fetch|unable to locate package"
    "|connection (?:timed out|reset|refused)|network is unreachable|no route to host|read timed out"
    "|max retries exceeded",
    re.IGNORECASE,
)
LINE_SECONDS = 1.0  # a build prints thousands of lines; a person wants one a second


@dataclass(frozen=True)
class ResolvedImage:
    """What an environment would start now. A stand-in is not the application it stands for, and says so."""

    reference: str
    stand_in: bool


@dataclass(frozen=True)
class ImageRow:
    """One line of `launchpad images list`."""

    environment: str
    wanted: str
    uses: str | None
    stand_in: bool
    size: str | None


class ImageService:
    """
    Args:
        certificates: reads the CA certificates of this site, which are part of every image that is built; it is given
            those that the settings name.
    """

    def __init__(
        self, runtime: Images, settings: ImageSettings, certificates: Callable[[Sequence[Path]], list[str]]
    ) -> None:
        self._runtime = runtime
        self._folder = settings.recipes or shipped_folder()
        self._certificates = certificates
        self._extra = settings.extra_ca_certificates
        self._known: dict[str, tuple[float, ResolvedImage]] = {}

    async def resolve(self, environment: Environment) -> ResolvedImage:
        """The configured image where the engine has it, else the one built from the environment's recipe.

        That is the image of the recipe as it is now; where it is not built yet, as after an upgrade, the newest one of
        an older version of the recipe. Images made FROM a built one inherit its labels and are none of ours: an image
        counts only under the very tag that its labels give it.

        What was found is believed for some seconds; the engine has the last word when a container is made.

        Raises:
            ImageMissing: the engine has neither.
            EngineUnavailable: the engine does not answer.
        """
        known = self._known.get(environment.name)
        if known is not None and monotonic() - known[0] < REMEMBER_SECONDS:
            return known[1]
        found = await self._find(environment)
        self._known[environment.name] = (monotonic(), found)
        return found

    async def _find(self, environment: Environment) -> ResolvedImage:
        if await self._runtime.image_exists(environment.image):
            return ResolvedImage(environment.image, stand_in=False)
        if environment.build is not None:
            built = {
                tag: image
                for image in await self._runtime.list_images(LABEL_RECIPE)
                if image.labels[LABEL_RECIPE] == environment.build and (tag := _own_tag(image)) is not None
            }
            if built:
                current = await self._current_tag(environment.build)
                tag = current if current in built else next(iter(built))  # the newest
                return ResolvedImage(tag, built[tag].labels.get(LABEL_STAND_IN) == "true")
        raise ImageMissing(
            f"The image of {environment.title} is not on this server yet. Your administrator can fetch it with "
            "“launchpad images pull” or build one with “launchpad images build”."
        )

    async def _current_tag(self, name: str) -> str | None:
        """The tag of what the recipe would build now; None where there is no such recipe, or it cannot be read."""
        try:
            recipe = (await self._recipes()).get(name)
        except SettingsError as error:
            log.warning("images.recipes_unreadable", detail=error.detail)
            return None
        return recipe.tag if recipe is not None else None

    async def _recipes(self) -> dict[str, Recipe]:
        """Raises SettingsError where the recipes or the extra CA certificates cannot be read."""
        certificates = await asyncio.to_thread(self._certificates, self._extra)
        return await asyncio.to_thread(read_recipes, self._folder, certificates)

    async def pull(self, references: Sequence[str]) -> AsyncIterator[Progress]:
        """Fetches images, one after the other.

        Raises:
            ImageMissing: a registry answers, but does not know the image.
            EngineRefused: no registry answers.
        """
        for reference in references:
            shown = -LINE_SECONDS
            async for progress in self._runtime.pull_image(reference):
                if monotonic() - shown >= LINE_SECONDS:
                    shown = monotonic()
                    share = f" {progress.fraction:.0%}" if progress.fraction is not None else ""
                    yield Progress(f"{progress.text}{share}", progress.fraction)
            yield Progress(f"{reference}: available", 1.0)
        self._known.clear()

    async def build(self, names: Sequence[str] | None = None) -> AsyncIterator[Progress]:
        """Builds the named recipes (all, if None) and what they need; one that is built already is reused.

        Raises:
            InvalidInput: there is no such recipe.
            EngineRefused: a step failed; the text has its last lines.
            SettingsError: the recipes or the extra CA certificates cannot be read.
        """
        certificates = await asyncio.to_thread(self._certificates, self._extra)
        recipes = await asyncio.to_thread(read_recipes, self._folder, certificates)
        for recipe in needed(recipes, names):
            if await self._runtime.image_exists(recipe.tag):
                yield Progress(f"{recipe.name}: {recipe.tag} already exists", 1.0)
                continue
            began = monotonic()
            yield Progress(f"{recipe.name}: building {recipe.title}")
            async for text in self._patiently(recipe, recipes.get(recipe.base or ""), certificates):
                yield Progress(f"{recipe.name}: {text}")
            yield Progress(f"{recipe.name}: built {recipe.tag} in {monotonic() - began:.0f} s", 1.0)
        self._known.clear()

    async def _patiently(self, recipe: Recipe, base: Recipe | None, certificates: Sequence[str]) -> AsyncIterator[str]:
        """Builds it; once more where it was the network that failed, which may be away for a moment."""
        steps = self._rootfs if recipe.kind == "rootfs" else self._dockerfile
        for left in reversed(range(TRIES)):
            try:
                with tempfile.TemporaryDirectory(prefix="launchpad-build-") as folder:
                    async for text in steps(recipe, base, Path(folder), certificates):
                        yield text
            except EngineRefused as error:
                if not left or not _NETWORK.search(error.detail):
                    raise
                log.warning("images.network_away", recipe=recipe.name, detail=error.detail)
                yield f"the network was not available; trying again in {AGAIN_AFTER_SECONDS:.0f} s"
            else:
                return
            await asyncio.sleep(AGAIN_AFTER_SECONDS)

    async def _rootfs(
        self, recipe: Recipe, _: Recipe | None, folder: Path, certificates: Sequence[str]
    ) -> AsyncIterator[str]:
        extra = folder / "ca"
        extra.mkdir()
        for number, text in enumerate(certificates):
            (extra / f"site-{number:03}.crt").write_text(text, encoding="ascii")
        tar = folder / "rootfs.tar"
        process = await asyncio.create_subprocess_exec(
            str(recipe.folder / "build-rootfs"),
            str(tar),
            env={**os.environ, "EXTRA_CA_DIR": str(extra)},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        output = process.stdout or asyncio.StreamReader()  # it is there: a pipe was asked for
        last: deque[str] = deque(maxlen=LAST_LINES)
        try:
            async for line in _every_now_and_then(_decoded(output, last)):
                yield line
            code = await process.wait()
        finally:
            if process.returncode is None:
                process.terminate()
                await process.wait()
        if code != 0:
            raise EngineRefused(f"The image {recipe.name} could not be built:\n" + "\n".join(last))
        async for progress in self._runtime.import_image(
            rootfs_tar=tar, tag=recipe.tag, changes=recipe.changes, labels=recipe.labels
        ):
            log.debug("image.imported", text=progress.text)

    async def _dockerfile(
        self, recipe: Recipe, base: Recipe | None, folder: Path, _: Sequence[str]
    ) -> AsyncIterator[str]:
        context = folder / "context.tar"
        await asyncio.to_thread(context_tar, recipe, context)
        arguments = {"BASE": base.tag} if base is not None else {}
        steps = self._runtime.build_image(
            context_tar=context, tag=recipe.tag, build_args=arguments, labels=recipe.labels
        )
        async for line in _every_now_and_then(progress.text async for progress in steps):
            yield line

    async def list(self, environments: Sequence[Environment]) -> list[ImageRow]:
        """What each environment wants and what it would use now."""
        here: dict[str, ImageInfo] = {}
        for image in await self._runtime.list_images():
            here.update(dict.fromkeys(image.references, image))
        rows = []
        for environment in environments:
            try:
                found = await self._find(environment)
            except ImageMissing:
                rows.append(ImageRow(environment.name, environment.image, None, stand_in=False, size=None))
                continue
            image_info = here.get(found.reference)
            size = describe_bytes(image_info.size_bytes) if image_info else None
            rows.append(ImageRow(environment.name, environment.image, found.reference, found.stand_in, size))
        return rows


def _own_tag(image: ImageInfo) -> str | None:
    """The tag that an image built from a recipe has; None for one that has it not."""
    tag = built_tag(image.labels[LABEL_RECIPE], image.labels.get(LABEL_HASH, ""))
    return tag if tag in image.references else None


async def _decoded(stream: asyncio.StreamReader, last: deque[str]) -> AsyncIterator[str]:
    async for line in stream:
        text = line.decode(errors="replace").rstrip()
        if text:
            last.append(text)
            yield text


async def _every_now_and_then(lines: AsyncIterator[str]) -> AsyncIterator[str]:
    shown = -LINE_SECONDS
    async for line in lines:
        if monotonic() - shown >= LINE_SECONDS:
            shown = monotonic()
            yield line[:120]
