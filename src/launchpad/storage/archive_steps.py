"""What processes of `archiver` do together for one thing: who is handed what."""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import Callable
from datetime import datetime
from typing import Any

import structlog

from ..errors import ArchiveDamaged, Conflict, HomeUnavailable
from . import directories
from .archive_folder import MANIFEST, READ, TAR, Draft
from .archive_processes import Crew, Report, library_folder
from .archives import BLOCKING, ArchiveFacts, Progress

log = structlog.get_logger(__name__)

Tell = Callable[[Progress], None]


async def pack(home: int, username: str, uid: int, made_at: datetime, draft: Draft, tell: Tell) -> ArchiveFacts:
    with _EmptyFolder() as empty:
        async with Crew(stage("archiving", tell)) as crew:
            tar, into_tar = crew.pipe()
            manifest, into_manifest = crew.pipe()
            for source, name in ((tar, TAR), (manifest, MANIFEST)):
                await _compress(crew, empty.opened, source, draft.file(name), unpack=False)
            said = {"username": username, "uid": uid, "made_at": made_at.isoformat()}
            await crew.begin(
                "pack",
                leads=True,
                handed=("top", "tar", "manifest"),
                top=home,
                tar=into_tar,
                manifest=into_manifest,
                uid=uid,
                said=said,
                live=False,
            )
            told = await crew.finish()
    return ArchiveFacts(
        name=draft.name,
        username=username,
        uid=uid,
        made_at=made_at,
        entries=told["entries"],
        bytes=told["bytes"],
        stored_bytes=0,
        sha256=told["sha256"],
        changed=told["changed"],
        left=told["left"],
        examples=told["examples"],
    )


async def check(archive: int, sha256: str, tell: Tell) -> dict[str, Any]:
    """Reads an archive to its end. Returns what its manifest says, with its `first` line."""
    with _EmptyFolder() as empty:
        async with Crew(stage("verifying", tell)) as crew:
            tar, manifest = await _unpacked(crew, archive, empty.opened)
            await crew.begin(
                "check",
                leads=True,
                handed=("top", "tar", "manifest"),
                top=empty.opened,
                tar=tar,
                manifest=manifest,
                sha256=sha256,
            )
            return await crew.finish()


async def fill(top: int, archive: int, facts: ArchiveFacts, uid: int, tell: Tell) -> None:
    with _EmptyFolder() as empty:
        async with Crew(stage("restoring", tell)) as crew:
            tar, manifest = await _unpacked(crew, archive, empty.opened)
            await crew.begin(
                "unpack",
                leads=True,
                handed=("top", "tar", "manifest"),
                top=top,
                tar=tar,
                manifest=manifest,
                sha256=facts.sha256,
                archived_uid=facts.uid,
                uid=uid,
            )
            await crew.finish()
    try:
        await compare(top, archive, facts, uid, tell, since=False)
    except Conflict as error:
        log.error("archive.not_restored_as_it_was", username=facts.username, archive=facts.name, why=error.detail)
        raise HomeUnavailable(
            "What was restored is not as it was archived, so it was removed again: this file system cannot hold "
            "what the archive has. The server's log says more."
        ) from error


async def compare(
    top: int,
    archive: int,
    facts: ArchiveFacts,
    uid: int,
    tell: Tell,
    *,
    since: bool,
) -> None:
    """Raises Conflict where there is something else in an opened home than in the archive.

    Args:
        since: also where it was only written to since.
    """
    with _EmptyFolder() as empty:
        async with Crew(stage("comparing", tell)) as crew:
            manifest, into_manifest = crew.pipe()
            file = os.open(MANIFEST, READ, dir_fd=archive)
            await _compress(crew, empty.opened, file, into_manifest, unpack=True)
            await crew.begin(
                "compare",
                leads=True,
                handed=("top", "manifest"),
                top=top,
                manifest=manifest,
                sha256=facts.sha256,
                archived_uid=facts.uid,
                uid=uid,
                since=since,
            )
            left = (await crew.finish())["left"]
    if any(left.get(why) for why in BLOCKING):
        raise Conflict("There is more in it than was archived.")


async def copy_archive(archive: int, sha256: str, target: int, to_uid: int, folder: str, tell: Tell) -> dict[str, Any]:
    """Into the opened home of `to_uid`, as a new folder. Returns what the manifest says."""
    with _EmptyFolder() as empty:
        async with Crew(stage("copying", tell)) as crew:
            tar, manifest = await _unpacked(crew, archive, empty.opened)
            await _take(crew, tar, manifest, sha256, target, to_uid, folder)
            return await crew.finish()


async def copy_home(home: int, uid: int, target: int, to_uid: int, folder: str, tell: Tell) -> dict[str, Any]:
    """As `copy_archive`, of an opened home as it is now."""
    async with Crew(stage("copying", tell)) as crew:
        tar, into_tar = crew.pipe()
        manifest, into_manifest = crew.pipe()
        await crew.begin(
            "pack",
            handed=("top", "tar", "manifest"),
            top=home,
            tar=into_tar,
            manifest=into_manifest,
            uid=uid,
            said={},
            live=True,
        )
        await _take(crew, tar, manifest, "", target, to_uid, folder)
        return await crew.finish()


async def _take(crew: Crew, tar: int, manifest: int, sha256: str, target: int, to_uid: int, folder: str) -> None:
    await crew.begin(
        "take",
        leads=True,
        handed=("top", "tar", "manifest"),
        top=target,
        tar=tar,
        manifest=manifest,
        uid=to_uid,
        name=folder,
        sha256=sha256,
    )


async def erase(root: int, name: str, report: Report) -> None:
    """A folder beside the homes, and all that is in it. What cannot be removed stays for the next `tidy`."""
    try:
        top = os.open(name, directories.DIRECTORY | os.O_NOFOLLOW, dir_fd=root)
    except FileNotFoundError:
        return
    try:
        async with Crew(report) as crew:
            await crew.begin("erase", leads=True, handed=("top",), top=top)
            await crew.finish()
    finally:
        os.close(top)
    await asyncio.to_thread(directories.remove_empty, root, name)


async def _unpacked(crew: Crew, archive: int, empty: int) -> tuple[int, int]:
    """The ends of pipes that a tar and its manifest come out of."""
    ends = []
    for name in (TAR, MANIFEST):
        try:
            file = os.open(name, READ, dir_fd=archive)
        except FileNotFoundError:
            raise ArchiveDamaged("A file of the archive is missing.") from None
        out, into = crew.pipe()
        await _compress(crew, empty, file, into, unpack=True)
        ends.append(out)
    return ends[0], ends[1]


async def _compress(crew: Crew, empty: int, source: int, target: int, *, unpack: bool) -> None:
    """Args: source, target: descriptors, of which the one that is a file's is closed here."""
    file = source if unpack else target
    try:
        await crew.begin(
            "compress",
            handed=("top", "source", "target"),
            top=empty,
            source=source,
            target=target,
            unpack=unpack,
            library=library_folder(),
        )
    finally:
        os.close(file)


class _EmptyFolder:
    """One of root's that goes when it is closed: what shuts itself in there has no file at all."""

    def __enter__(self) -> _EmptyFolder:
        folder = tempfile.mkdtemp(prefix="launchpad-archives-")
        try:
            self.opened = os.open(folder, directories.DIRECTORY | os.O_NOFOLLOW)
        finally:
            os.rmdir(folder)
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self.opened)


def stage(name: str, tell: Tell) -> Report:
    tell(Progress(name))
    return lambda files, size: tell(Progress(name, files, size))
