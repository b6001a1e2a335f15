"""What the helper starts: exactly what its own settings make of a launch. Everything else is refused, with the reason.

The portal sends a whole specification. The helper takes from it who launches what, and how large; builds the
specification anew; and compares. What is started is what it built itself.
"""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from ..domain.environments import Environment, Placeholders
from ..domain.instances import Address
from ..domain.naming import ID_PATTERN
from ..domain.safe_mode import in_safe_mode
from ..errors import HelperRefused, HomeUnavailable
from ..runtime.base import BindMount, ContainerSpec, HostFacts
from ..services.images import ImageService
from ..services.kit import Kit, targets
from ..services.specification import CA_BUNDLE, shared_mount, specification
from ..settings import Settings
from ..storage import directories

MEMORY_FLOOR_BYTES = 16 * 1024**2
CPUS_FLOOR = 0.01  # the engine's own; what it rounds to none has no limit at all
TOKEN = re.compile(r"[0-9a-f]{64}")
_TOKEN_MARK = "\0token\0"  # noqa: S105 - stands where an instance's own token will


class Guard:
    """Holds arguments against the settings.

    Args:
        settings: as the helper reads them itself.
        catalogue: the environments that are offered, by name.
        images: which image an environment uses now.
        ca_bundle: CA certificates for instances, in a place that only root writes; None: there are none to add.
        kit: what instances get from the platform, in such a place too; None: nothing.
    """

    def __init__(
        self,
        settings: Settings,
        catalogue: Mapping[str, Environment],
        images: ImageService,
        ca_bundle: Path | None,
        kit: Kit | None = None,
    ) -> None:
        self._settings = settings
        self._catalogue = catalogue
        self._images = images
        self._root = settings.homes.root
        self._ca_bundle = ca_bundle
        self._kit = kit

    async def checked(self, sent: ContainerSpec, host: HostFacts) -> ContainerSpec:
        """The specification to start.

        Raises:
            HelperRefused: it is not what the settings make of any launch; the text names what differs.
            HomeUnavailable: the home is missing, or no directory of an owner that we gave it.
            ImageMissing: the environment has no image on this server.
        """
        if not re.fullmatch(ID_PATTERN, sent.instance_id):
            raise _no("instance_id", "is not an id of this platform")
        if not re.fullmatch(ID_PATTERN, sent.owner_id):
            raise _no("owner_id", "is not an id of this platform")
        environment = self._catalogue.get(sent.environment)
        if environment is None:
            raise _no("environment", "is not in the catalogue")
        await self._check_image(sent, environment)
        self._check_size(sent, host)
        home, uid = await self._home_of(sent, environment)
        ours = specification(
            in_safe_mode(environment) if sent.safe_mode else environment,
            Placeholders(
                root_path=self._settings.instances.root_path(sent.instance_id),
                token=_TOKEN_MARK,
                username=home.name,
                uid=uid,
                home=environment.home,
                dashboard_url=self._settings.dashboard_url,
                cran_mirror=self._settings.images.cran_mirror,
                time_zone=self._settings.images.zone,
            ),
            instance_id=sent.instance_id,
            owner_id=sent.owner_id,
            image=sent.image,
            memory_bytes=sent.memory_bytes,
            cpus=sent.cpus,
            home=home,
            ca_bundle=self._ca_bundle,
            kit=self._kit,
        )
        return self._compared(ours, sent, {CA_BUNDLE, *targets(environment)})

    async def _check_image(self, sent: ContainerSpec, environment: Environment) -> None:
        if sent.image == environment.image:
            return
        resolved = await self._images.resolve(environment)
        if sent.image != resolved.reference:
            raise _no("image", f"is not the image of {environment.name}")

    def _check_size(self, sent: ContainerSpec, host: HostFacts) -> None:
        if not MEMORY_FLOOR_BYTES <= sent.memory_bytes <= host.memory_bytes:
            raise _no("memory_bytes", "is outside the limits of this server")
        if not CPUS_FLOOR <= sent.cpus <= host.cpus:
            raise _no("cpus", "is outside the limits of this server")

    async def _home_of(self, sent: ContainerSpec, environment: Environment) -> tuple[Path, int]:
        """The home that is to be mounted, and whose it is: what the disk says, not what was sent."""
        sources = [mount.source for mount in sent.mounts if mount.target == environment.home]
        if len(sources) != 1:
            raise _no("mounts", "do not contain exactly one home folder")
        name = sources[0].name
        if str(sources[0]) != str(self._root / name) or not directories.USERNAME.fullmatch(name):
            raise _no("mounts", "contain another directory as the home folder")
        uid = await asyncio.to_thread(self._owner_of, self._root / name)
        if uid < self._settings.homes.uid_base:
            raise _no("mounts", "contain a home folder that does not belong to a user of this platform")
        return self._root / name, uid

    def _owner_of(self, path: Path) -> int:
        root = directories.open_root(self._root)
        try:
            home = directories.open_home(root, path, None)
            if home is None:
                raise HomeUnavailable("Your home folder does not exist. Launch again to create it.")
            try:
                return os.fstat(home).st_uid
            finally:
                os.close(home)
        finally:
            os.close(root)

    def _compared(self, ours: ContainerSpec, sent: ContainerSpec, provided: Collection[str]) -> ContainerSpec:
        mounts = self._mounts(ours, sent, provided)
        token = _token_of(ours, sent)
        filled = replace(
            ours,
            user=_fill(ours.user, token),
            command=tuple(_fill(word, token) for word in ours.command),
            env_vars={name: _fill(text, token) for name, text in ours.env_vars.items()},
            mounts=tuple(mounts),
            safe_mode=sent.safe_mode,
        )
        for field in ("network_port", "pids_limit", "user", "hostname", "stop_grace_seconds", "gpus", "first_in_path"):
            if getattr(sent, field) != getattr(filled, field):
                raise _no(field, "does not match the settings")
        for field in ("groups", "command", "capabilities"):
            if tuple(getattr(sent, field)) != tuple(getattr(filled, field)):
                raise _no(field, "do not match the settings")
        # The certificates are the helper's own business, so the portal may know of none.
        if not _is_within(sent.env_vars, filled.env_vars):
            raise _no("env_vars", "do not match the settings")
        return filled

    def _mounts(self, ours: ContainerSpec, sent: ContainerSpec, provided: Collection[str]) -> list[BindMount]:
        """The home, what was asked for of the shared directories, and the helper's own certificates and kit.

        Whatever the portal sends for the targets in `provided` is not looked at: there the helper mounts its own.
        """
        shared = [shared_mount(each) for each in self._settings.mounts]
        asked = [mount for mount in sent.mounts if mount.target not in provided]
        own = [mount for mount in ours.mounts if mount.target not in provided]
        for mount in asked:
            if mount not in own and mount not in shared:
                raise _no("mounts", "contain a directory that the settings do not share")
        if len(set(asked)) != len(asked) or any(mount not in asked for mount in own):
            raise _no("mounts", "contain the home folder in another way than expected")
        given = [mount for mount in ours.mounts if mount.target in provided]
        return [*own, *(mount for mount in asked if mount not in own), *given]

    def addresses(self, sent: Sequence[Address]) -> Sequence[Address]:
        """Addresses whose connections may be cut: instances', and no others.

        Raises:
            HelperRefused: one of them cannot be an instance's.
        """
        first, _, last = self._settings.engine.port_range.partition("-")
        for address in sent:
            if address.host != "127.0.0.1" or not int(first) <= address.port <= int(last or first):
                raise _no("addresses", "contain one that is not an instance's")
        return sent

    def username(self, name: str) -> str:
        """Raises HelperRefused for what cannot be a home's name."""
        if not directories.USERNAME.fullmatch(name):
            raise _no("username", "cannot be the name of a home folder")
        return name

    def uid(self, uid: int) -> int:
        """Raises HelperRefused for a uid that this platform gives to nobody."""
        if not self._settings.homes.uid_base <= uid < 2**31:
            raise _no("uid", "is outside the range of this platform's users")
        return uid


def _no(field: str, why: str) -> HelperRefused:
    return HelperRefused(f"The server's helper refused this launch or change: “{field}” {why}.")


def _is_within(sent: Mapping[str, str], ours: Mapping[str, str]) -> bool:
    """All that was sent is ours; of ours, only what names the certificates may be missing."""
    missing = set(ours) - set(sent)
    return all(ours.get(name) == text for name, text in sent.items()) and all(
        ours[name] == CA_BUNDLE for name in missing
    )


def _fill(text: str, token: str) -> str:
    return text.replace(_TOKEN_MARK, token)


def _token_of(ours: ContainerSpec, sent: ContainerSpec) -> str:
    """The instance's token, which the portal derives from a key of its own, found where the template has it."""
    pairs = [*zip(ours.command, sent.command, strict=False)]
    pairs += [(text, sent.env_vars.get(name, "")) for name, text in ours.env_vars.items()]
    for template, text in pairs:
        before, mark, _ = template.partition(_TOKEN_MARK)
        if mark and text.startswith(before) and (found := TOKEN.match(text, len(before))):
            return found[0]
    return ""
