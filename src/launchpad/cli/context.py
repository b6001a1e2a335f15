"""What every command needs: the settings, a platform, and an event loop."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Annotated, TypeVar

import typer

from ..errors import LaunchpadError
from ..services.platform import Platform
from ..settings import Settings, load_settings
from ..wiring import build_platform
from .output import configure_logging, fail

T = TypeVar("T")

ConfigOption = Annotated[
    Path | None,
    typer.Option("--config", help="Settings file; else LAUNCHPAD_CONFIG, else /etc/launchpad/launchpad.toml."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]


def settings_or_exit(config: Path | None) -> Settings:
    try:
        return load_settings(config)
    except LaunchpadError as error:
        fail(error)


def with_platform(config: Path | None, work: Callable[[Platform], Awaitable[T]]) -> T:
    """Runs `work` on a platform of the settings, migrated and closed again; our errors end the command politely."""
    configure_logging(logging.WARNING)
    settings = settings_or_exit(config)

    async def run() -> T:
        platform = build_platform(settings)
        try:
            await platform.database.migrate()
            return await work(platform)
        finally:
            await platform.aclose()

    try:
        return asyncio.run(run())
    except LaunchpadError as error:
        fail(error)
