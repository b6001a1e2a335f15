"""The one place where an order becomes a container: in the privileged helper where there is one, else in the portal.

Image, command, variables, capabilities, mounts are made of the settings of whoever composes; an order names none.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from ..domain.environments import Environment, Placeholders
from ..domain.safe_mode import in_safe_mode
from ..errors import EngineRefused
from ..runtime.base import Container, ContainerSpec, Engine, LaunchOrder
from ..settings import MountSettings, Settings
from ..storage.base import Homes
from .images import ImageService
from .kit import Kit
from .specification import specification


def placeholders(
    settings: Settings, environment: Environment, *, instance_id: str, token: str, username: str, uid: int
) -> Placeholders:
    """What an environment's templates are filled with; the size is added where a container is composed."""
    return Placeholders(
        root_path=settings.instances.root_path(instance_id),
        token=token,
        username=username,
        uid=uid,
        home=environment.home,
        dashboard_url=settings.dashboard_url,
        cran_mirror=settings.images.cran_mirror,
        time_zone=settings.images.zone,
    )


def shared_with(settings: Settings, lab: str | None) -> Sequence[MountSettings]:
    """The shared directories that members of a lab get; those of nobody in particular are everybody's."""
    return [each for each in settings.mounts if not each.labs or lab in each.labs]


class Composer:
    """See `runtime.base.Launches`.

    Args:
        catalogue: the environments that are offered, by name.
        images: which image an environment uses now.
        homes: where homes lie.
        ca_bundle: CA certificates for instances; None: there are none to add.
        kit: what instances get from the platform; None: nothing.
    """

    def __init__(
        self,
        settings: Settings,
        catalogue: Mapping[str, Environment],
        images: ImageService,
        engine: Engine,
        homes: Homes,
        ca_bundle: Path | None = None,
        kit: Kit | None = None,
    ) -> None:
        self._settings = settings
        self._catalogue = catalogue
        self._images = images
        self._engine = engine
        self._homes = homes
        self._ca_bundle = ca_bundle
        self._kit = kit

    def write_kit(self) -> None:
        """Brings what instances get up to date; done by itself before the first one. Raises StoreUnavailable."""
        if self._kit is not None:
            self._kit.write()

    async def launch(self, order: LaunchOrder) -> Container:
        spec = await self.compose(order)
        await self._engine.ensure_network()
        return await self._engine.start(spec)

    async def compose(self, order: LaunchOrder) -> ContainerSpec:
        """The container of an order.

        Raises:
            HomeUnavailable: the name cannot be a home's.
            ImageMissing: the environment has no image on this server.
            EngineRefused: it is not in the catalogue any more.
            StoreUnavailable: the kit cannot be written.
        """
        environment = self._catalogue.get(order.environment)
        if environment is None:
            raise EngineRefused("This environment was taken out of the catalogue.")
        image = await self._images.resolve(environment)
        made = specification(
            in_safe_mode(environment) if order.safe_mode else environment,
            placeholders(
                self._settings,
                environment,
                instance_id=order.instance_id,
                token=order.token,
                username=order.username,
                uid=order.uid,
            ),
            instance_id=order.instance_id,
            owner_id=order.owner_id,
            image=image.reference,
            memory_bytes=order.memory_bytes,
            cpus=order.cpus,
            home=self._homes.path_of(order.username),
            shared=shared_with(self._settings, order.lab),
            ca_bundle=self._ca_bundle,
            kit=self._kit,
        )
        return replace(made, safe_mode=order.safe_mode)
