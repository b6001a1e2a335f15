"""Which versions of R and Python an image has, read from its files. Nothing in the image is run, and nothing believed.

For that the engine makes a container that is never started, and shows single files of it.
"""

from __future__ import annotations

import io
import posixpath
import re
from collections.abc import Mapping
from contextlib import aclosing, suppress
from dataclasses import dataclass
from urllib.parse import quote

from ..domain.libraries import PYTHON, R
from ..errors import EngineAnswer, EngineUnavailable, ImageMissing
from .engine_client import EngineClient, refused

LABEL_LOOK = "org.launchpad.look"  # on such containers, with the deployment's id
NAME = "launchpad-look-"
FILE_BYTES = 256 * 1024
MOST_LINKS = 12
MOST_FOLDERS = 40  # of PATH
DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
ANSWER_SECONDS = 20.0
_PYTHON = re.compile(r"python(\d+\.\d+)")
_R_HOME = re.compile(r"^R_HOME_DIR=[\"']?(/[^\s\"']+)", re.MULTILINE)
_VERSION = re.compile(r"^Version:\s*(\d+\.\d+)", re.MULTILINE)


@dataclass(frozen=True)
class _Entry:
    link: str
    content: bytes


class ImageLanguages:
    """Args:
    deployment_id: stands in the containers' label.
    """

    def __init__(self, client: EngineClient, deployment_id: str) -> None:
        self._client = client
        self._deployment_id = deployment_id

    async def of(self, reference: str) -> Mapping[str, str]:
        """As `base.Images.image_languages` promises."""
        try:
            about = await self._client.json(f"images/{quote(reference, safe='/:@')}/json")
            container = await self._make(reference, str(about["Id"]))
        except EngineAnswer as error:
            if error.engine_status == 404:
                raise ImageMissing(f"The image {reference} is not on this server.") from error
            raise refused(error, "look at the image") from error
        try:
            variables = dict(one.partition("=")[::2] for one in (about.get("Config") or {}).get("Env") or ())
            folders = [one for one in variables.get("PATH", DEFAULT_PATH).split(":") if one.startswith("/")]
            found = {R: await self._r(container, folders), PYTHON: await self._python(container, folders)}
            return {name: version for name, version in found.items() if version}
        finally:
            with suppress(EngineAnswer):
                await self._client.call(f"containers/{container}", "DELETE", params={"force": "true", "v": "true"})

    async def _make(self, reference: str, image_id: str) -> str:
        """One of this name may have been left by a look that was cut off."""
        name = NAME + f"{self._deployment_id[:12]}-{image_id.removeprefix('sha256:')[:12]}"
        body = {
            "Image": reference,
            "Entrypoint": ["/launchpad-never-started"],
            "Cmd": [],
            "NetworkDisabled": True,
            "Labels": {LABEL_LOOK: self._deployment_id},
        }
        with suppress(EngineAnswer):
            await self._client.call(f"containers/{name}", "DELETE", params={"force": "true", "v": "true"})
        made = await self._client.json("containers/create", "POST", params={"name": name}, data=body)
        return str(made["Id"])

    async def _python(self, container: str, folders: list[str]) -> str:
        """By the name of the program that `python3` is a link to, as it is everywhere."""
        for folder in folders[:MOST_FOLDERS]:
            path, _ = await self._followed(container, f"{folder}/python3")
            if path is not None:
                told = _PYTHON.fullmatch(posixpath.basename(path))
                return told[1] if told else ""
        return ""

    async def _r(self, container: str, folders: list[str]) -> str:
        """`R` is a script that names its home, in which its base package says the version."""
        for folder in folders[:MOST_FOLDERS]:
            path, script = await self._followed(container, f"{folder}/R")
            if path is None:
                continue
            home = _R_HOME.search(script.decode("utf-8", "replace"))
            if home is None:
                return ""
            _, about = await self._followed(container, f"{home[1]}/library/base/DESCRIPTION")
            told = _VERSION.search(about.decode("utf-8", "replace"))
            return told[1] if told else ""
        return ""

    async def _followed(self, container: str, path: str) -> tuple[str | None, bytes]:
        """Where links lead to, and the beginning of that file; None: nowhere."""
        for _ in range(MOST_LINKS):
            entry = await self._entry(container, path)
            if entry is None:
                return None, b""
            if not entry.link:
                return path, entry.content
            path = posixpath.normpath(posixpath.join(posixpath.dirname(path), entry.link))
        return None, b""

    async def _entry(self, container: str, path: str) -> _Entry | None:
        """A link, or the beginning of a file; None for anything else. The engine resolves the folders above."""
        held = b""
        answer = self._client.stream(f"containers/{container}/archive?path={quote(path)}", first_seconds=ANSWER_SECONDS)
        try:
            async with aclosing(answer):
                async for piece in answer:
                    held += piece
                    if len(held) > FILE_BYTES:
                        break
        except EngineAnswer:
            return None
        except TimeoutError as error:
            raise EngineUnavailable("The container engine does not answer.") from error
        return _first(held)


def _first(archive: bytes) -> _Entry | None:
    """What a tar begins with, which may be cut short."""
    import tarfile  # only the owner of the work looks, once an hour

    with suppress(tarfile.TarError, EOFError), tarfile.open(fileobj=io.BytesIO(archive), mode="r|") as tar:
        member = tar.next()
        if member is not None and member.issym():
            return _Entry(member.linkname, b"")
        if member is not None and member.isfile():
            content = b""
            with suppress(tarfile.TarError, EOFError):
                file = tar.extractfile(member)
                content = file.read(FILE_BYTES // 2) if file is not None else b""
            return _Entry("", content)
    return None
