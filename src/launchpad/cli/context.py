"""What every command needs: the settings, a platform, and an event loop."""

from __future__ import annotations

import asyncio
import json
import logging
import multiprocessing
import os
import pwd
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

from ..domain.environments import Environment
from ..errors import LaunchpadError, SettingsError, StoreUnavailable
from ..services.images import ImageService
from ..services.platform import Platform
from ..settings import Settings, load_settings
from ..wiring import build_platform, catalogue_of, runtime_of
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


def give_up_root(settings: Settings) -> None:
    """Where a helper does what needs root, goes on as the user whose state this is.

    Root beside a directory that the portal writes could be led elsewhere by a link, and would leave files behind that
    the portal cannot write.
    """
    if settings.helper.socket is None or os.geteuid() != 0:
        return
    try:
        user = pwd.getpwnam(settings.helper.user)
    except KeyError:
        fail(SettingsError(f"helper.user: this server has no user “{settings.helper.user}”."))
    os.initgroups(user.pw_name, user.pw_gid)
    os.setgid(user.pw_gid)
    os.setuid(user.pw_uid)
    os.environ["HOME"] = user.pw_dir


def as_portal(settings: Settings, work: Callable[[], None]) -> None:
    """Runs `work` as the user whose state this is, in a child of its own, so that this process stays root.

    Ends the command with the child's exit code when that is not 0. Without a helper, or without root, it simply runs.
    """
    if settings.helper.socket is None or os.geteuid() != 0:
        work()
        return

    def run() -> None:
        give_up_root(settings)
        work()

    child = multiprocessing.get_context("fork").Process(target=run)
    child.start()
    child.join()
    if child.exitcode != 0:
        raise typer.Exit(child.exitcode or 1)


def with_images(config: Path | None, work: Callable[[ImageService, list[Environment]], Awaitable[T]]) -> T:
    """Runs `work` on the engine's images and the catalogue; the platform's state is left alone."""
    configure_logging(logging.WARNING)
    settings = settings_or_exit(config)

    async def run() -> T:
        runtime = runtime_of(settings, deployment_id="")
        try:
            return await work(ImageService(runtime, settings.images), list(catalogue_of(settings).values()))
        finally:
            await runtime.aclose()

    try:
        return asyncio.run(run())
    except LaunchpadError as error:
        fail(error)


def in_child(settings: Settings, work: Callable[[Platform], Awaitable[Any]]) -> Any:
    """What `work` answers, which has to be such as JSON has; done by a process of its own that gives up root.

    For commands that need root for something else: the portal's state is not touched by it (see `give_up_root`). To be
    called before there are threads.

    Raises:
        LaunchpadError: of the work, or the process ended without an answer; its traceback is in the terminal then.
    """
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        give_up_root(settings)
        with os.fdopen(writing, "w", encoding="utf-8") as line:
            json.dump(_answer(settings, work), line)
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading, encoding="utf-8") as line:
        said = line.read()
    os.waitpid(child, 0)
    try:
        answer = json.loads(said)
    except ValueError:
        raise LaunchpadError("What concerns the portal's state was not done; see above.") from None
    if "error" in answer:
        error = LaunchpadError(answer["error"], fields=answer["fields"])
        error.title = answer["title"]
        raise error
    return answer["value"]


def _answer(settings: Settings, work: Callable[[Platform], Awaitable[Any]]) -> dict[str, Any]:
    try:
        return {"value": asyncio.run(_on_platform(settings, work))}
    except LaunchpadError as error:
        return {"error": error.detail, "title": error.title, "fields": error.fields}


async def _on_platform(
    settings: Settings, work: Callable[[Platform], Awaitable[T]], *, whatever_the_database: bool = False
) -> T:
    platform = build_platform(settings)
    try:
        try:
            await platform.database.migrate()
        except StoreUnavailable:
            if not whatever_the_database:
                raise
        return await work(platform)
    finally:
        await platform.aclose()


def with_platform(
    config: Path | None, work: Callable[[Platform], Awaitable[T]], *, whatever_the_database: bool = False
) -> T:
    """Runs `work` on a platform of the settings, migrated and closed again; our errors end the command politely.

    Args:
        whatever_the_database: also where the database cannot be used.
    """
    configure_logging(logging.WARNING)
    settings = settings_or_exit(config)
    give_up_root(settings)
    try:
        return asyncio.run(_on_platform(settings, work, whatever_the_database=whatever_the_database))
    except LaunchpadError as error:
        fail(error)
