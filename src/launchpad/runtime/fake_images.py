"""The fake's images: it has every one that nobody says it lacks."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from ..errors import EngineRefused, ImageMissing
from .base import ImageInfo, Progress


class FakeImages:
    """Attributes:
    missing_images: references that this engine does not have; may be changed at any time.
    unknown_images: references that no registry has: pulling them fails.
    registry_answers: whether any registry answers.
    broken_builds: tags whose build fails.
    languages: which versions images have, by their references; of others none is known.
    """

    def __init__(self, missing_images: Iterable[str]) -> None:
        self.missing_images = set(missing_images)
        self.unknown_images: set[str] = set()
        self.registry_answers = True
        self.broken_builds: set[str] = set()
        self.languages: dict[str, Mapping[str, str]] = {}
        self._made: dict[str, ImageInfo] = {}

    def _check(self) -> None:
        raise NotImplementedError

    async def image_exists(self, reference: str) -> bool:
        self._check()
        return reference not in self.missing_images

    async def list_images(self, label: str | None = None) -> list[ImageInfo]:
        self._check()
        newest_first = reversed(self._made.values())
        return [image for image in newest_first if label is None or label in image.labels]

    async def pull_image(self, reference: str) -> AsyncIterator[Progress]:
        self._check()
        if not self.registry_answers:
            raise EngineRefused(f"The image {reference} cannot be pulled: no registry answers.")
        if reference in self.unknown_images:
            raise ImageMissing(f"No registry has the image {reference}.")
        yield Progress(f"{reference}: pulling", 0.5)
        self.missing_images.discard(reference)

    async def build_image(
        self, *, context_tar: Path, tag: str, build_args: Mapping[str, str], labels: Mapping[str, str]
    ) -> AsyncIterator[Progress]:
        self._check()
        yield Progress(f"{tag}: building", 0.5)
        if tag in self.broken_builds:
            raise EngineRefused(f"The image {tag} could not be built:\na step of a fake build failed")
        self._make(tag, labels)

    async def import_image(
        self, *, rootfs_tar: Path, tag: str, changes: Sequence[str], labels: Mapping[str, str]
    ) -> AsyncIterator[Progress]:
        self._check()
        yield Progress(f"{tag}: imported", 1.0)
        self._make(tag, labels)

    async def image_languages(self, reference: str) -> Mapping[str, str]:
        self._check()
        if reference in self.missing_images:
            raise ImageMissing(f"The image {reference} is not on this server.")
        return self.languages.get(reference, {})

    def _make(self, tag: str, labels: Mapping[str, str]) -> None:
        self.missing_images.discard(tag)
        self._made.pop(tag, None)
        self._made[tag] = ImageInfo(f"sha256:{tag}", (tag,), dict(labels), 0, datetime.now(UTC))
