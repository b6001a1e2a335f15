"""`launchpad images …`: what environments are made of."""

from __future__ import annotations

from typing import Annotated

import typer

from ..domain.environments import Environment
from ..services.images import ImageService
from .context import ConfigOption, JsonOption, with_images
from .output import out, show_table

app = typer.Typer(help="Images of the environments.", no_args_is_help=True, add_completion=False)


@app.command("build")
def build(
    names: Annotated[list[str] | None, typer.Argument(help="Recipes (default: all).")] = None,
    config: ConfigOption = None,
) -> None:
    """Build images from their recipes, for servers that cannot pull. One whose recipe is unchanged is reused."""

    async def work(images: ImageService, _catalogue: list[Environment]) -> None:
        async for progress in images.build(names or None):
            out.print(progress.text, markup=False)

    with_images(config, work)


@app.command("pull")
def pull(config: ConfigOption = None) -> None:
    """Pull the images named in the settings."""

    async def work(images: ImageService, catalogue: list[Environment]) -> None:
        async for progress in images.pull([environment.image for environment in catalogue]):
            out.print(progress.text, markup=False)

    with_images(config, work)


@app.command("list")
def list_images(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Show which image each environment uses, and which are built."""

    async def work(images: ImageService, catalogue: list[Environment]) -> list[dict[str, object]]:
        return [vars(row) for row in await images.list(catalogue)]

    rows = with_images(config, work)
    show_table(rows, tuple(rows[0]) if rows else (), as_json=as_json, empty="No images.")
