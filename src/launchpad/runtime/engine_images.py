"""The engine's images: what it has, fetching, building, importing."""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO
from urllib.parse import quote, urlencode

import structlog

from ..errors import EngineAnswer, EngineRefused, ImageMissing
from .base import ImageInfo, Progress
from .engine_client import EngineClient, refused
from .engine_spec import reference_parts

log = structlog.get_logger(__name__)

CHUNK_BYTES = 1 << 20
LAST_LINES = 8
REGISTRY_SECONDS = 45.0  # the engine itself waits much longer for a registry whose packets are dropped
_UNKNOWN = ("not found", "does not exist", "manifest unknown", "access denied", "access to the resource is denied")


class EngineImages:
    """The half of the runtime that deals with images."""

    def __init__(self, client: EngineClient) -> None:
        self._client = client

    async def image_exists(self, reference: str) -> bool:
        try:
            await self._client.json(f"images/{quote(reference, safe='/:@')}/json")
        except EngineAnswer as error:
            if error.engine_status == 404:
                return False
            raise refused(error, "look for the image") from error
        return True

    async def list_images(self, label: str | None = None) -> list[ImageInfo]:
        params = {"filters": json.dumps({"label": [label]})} if label else None
        try:
            listed = await self._client.json("images/json", params=params)
        except EngineAnswer as error:
            raise refused(error, "list the images") from error
        images = [
            ImageInfo(
                id=one["Id"],
                references=tuple(tag for tag in one.get("RepoTags") or () if tag != "<none>:<none>"),
                labels=one.get("Labels") or {},
                size_bytes=int(one["Size"]),
                created_at=datetime.fromtimestamp(one["Created"], UTC),
            )
            for one in listed
        ]
        return sorted(images, key=lambda image: image.created_at, reverse=True)

    async def pull_image(self, reference: str) -> AsyncIterator[Progress]:
        # Without a tag of its own the engine would fetch every tag there is.
        repository, tag = reference_parts(reference)
        lines = self._client.lines("images/create", "POST", params={"fromImage": repository, "tag": tag})
        layers: dict[str, tuple[int, int]] = {}
        try:
            async with asyncio.timeout(REGISTRY_SECONDS) as until_registry_answers:
                async for line in lines:
                    until_registry_answers.reschedule(None)
                    if "error" in line:
                        raise _not_pulled(reference, str(line["error"]))
                    detail = line.get("progressDetail") or {}
                    if detail.get("total"):
                        layers[str(line.get("id"))] = (int(detail.get("current", 0)), int(detail["total"]))
                    done, total = (sum(part) for part in zip(*layers.values(), strict=True)) if layers else (0, 0)
                    yield Progress(f"{reference}: {line.get('status', '')}", min(1.0, done / total) if total else None)
        except EngineAnswer as error:
            raise _not_pulled(reference, error.message, error.engine_status) from error
        except TimeoutError as error:
            raise _not_pulled(reference, f"no answer within {REGISTRY_SECONDS} s") from error

    async def build_image(
        self, *, context_tar: Path, tag: str, build_args: Mapping[str, str], labels: Mapping[str, str]
    ) -> AsyncIterator[Progress]:
        params = {
            "t": tag,
            "rm": "true",
            "forcerm": "true",
            "buildargs": json.dumps(dict(build_args)),
            "labels": json.dumps(dict(labels)),
        }
        last: deque[str] = deque(maxlen=LAST_LINES)
        with context_tar.open("rb") as file:
            try:
                async for line in self._client.lines(
                    "build", "POST", params=params, data=_chunks(file), content_type="application/x-tar"
                ):
                    if "error" in line:
                        raise _not_built(tag, [*last, str(line["error"])])
                    for text in str(line.get("stream", "")).splitlines():
                        if text.strip():
                            last.append(text.rstrip())
                            yield Progress(text.rstrip())
            except EngineAnswer as error:
                raise _not_built(tag, [*last, error.message]) from error

    async def import_image(
        self, *, rootfs_tar: Path, tag: str, changes: Sequence[str], labels: Mapping[str, str]
    ) -> AsyncIterator[Progress]:
        repository, version = reference_parts(tag)
        every = [*changes, *(f"LABEL {name}={json.dumps(value)}" for name, value in labels.items())]
        # One parameter comes several times, which the client's own parameters cannot say.
        query = urlencode(
            [("fromSrc", "-"), ("repo", repository), ("tag", version), *(("changes", one) for one in every)]
        )
        with rootfs_tar.open("rb") as file:
            try:
                async for line in self._client.lines(
                    f"images/create?{query}", "POST", data=_chunks(file), content_type="application/x-tar"
                ):
                    if "error" in line:
                        raise _not_built(tag, [str(line["error"])])
                    yield Progress(f"{tag}: imported")
            except EngineAnswer as error:
                raise _not_built(tag, [error.message]) from error


async def _chunks(file: BinaryIO) -> AsyncIterator[bytes]:
    while chunk := await asyncio.to_thread(file.read, CHUNK_BYTES):
        yield chunk


def _not_pulled(reference: str, message: str, status: int = 0) -> EngineRefused | ImageMissing:
    log.warning("engine.not_pulled", image=reference, status=status, message=message)
    if status == 404 or any(words in message.lower() for words in _UNKNOWN):
        return ImageMissing(f"No registry has the image {reference}.")
    return EngineRefused(f"The image {reference} cannot be pulled: no registry answers.")


def _not_built(tag: str, lines: Sequence[str]) -> EngineRefused:
    """What a build prints is the administrator's own; it may be shown."""
    return EngineRefused(f"The image {tag} could not be built:\n" + "\n".join(lines))
