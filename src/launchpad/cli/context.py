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
from time import monotonic
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from ..control import client
from ..domain.environments import Environment
from ..errors import LaunchpadError, StoreUnavailable, Unavailable
from ..ops.certificates import site_certificates
from ..parts import runtime_of
from ..services.catalogue import catalogue_of
from ..services.images import ImageService
from ..settings import Settings, load_settings
from . import rights
from .logs import configure_logging
from .output import fail
from .rights import become, portal_user

if TYPE_CHECKING:
    from ..platform import Platform

T = TypeVar("T")

OWNER_SECONDS = 60.0  # how long a command waits for another one that owns the work
ASK_AGAIN_SECONDS = 0.2

ConfigOption = Annotated[
    Path | None,
    typer.Option("--config", help="Settings file (default: LAUNCHPAD_CONFIG, or /etc/launchpad/launchpad.toml)."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]


def settings_or_exit(config: Path | None) -> Settings:
    try:
        return load_settings(config)
    except LaunchpadError as error:
        fail(error)


def give_up_root(settings: Settings) -> None:
    """As `rights.give_up_root`, for commands."""
    try:
        rights.give_up_root(settings)
    except LaunchpadError as error:
        fail(error)


def as_portal(settings: Settings, work: Callable[[], Any]) -> Any:
    """What `work` answers, which has to be such as JSON has; done by a child that gives up root, while this stays root.

    For commands that need root for something else: the portal's state is not touched by it (see `give_up_root`).
    Without a helper, or without root, it simply runs. To be called before there are threads.

    Ends the command with the child's exit code when that is not 0; the child has said why, or left its traceback.

    Raises:
        LaunchpadError: of the work, or the child was killed.
    """
    try:
        user = portal_user(settings)
    except LaunchpadError as unknown:
        fail(unknown)
    if user is None:
        return work()
    reading, writing = os.pipe()

    def run(user: pwd.struct_passwd) -> None:
        os.close(reading)
        become(user)
        with os.fdopen(writing, "w", encoding="utf-8") as line:
            json.dump(_answer(work), line)

    child = multiprocessing.get_context("fork").Process(target=run, args=(user,))
    child.start()
    os.close(writing)
    with os.fdopen(reading, encoding="utf-8") as line:
        said = line.read()
    child.join()
    if child.exitcode is None or child.exitcode < 0:
        raise LaunchpadError("The work on the portal's state was not completed: its process was killed.")
    if child.exitcode > 0:
        raise typer.Exit(child.exitcode)
    answer = json.loads(said)  # never pickled: root would run what it says
    if "error" in answer:
        error = LaunchpadError(answer["error"], fields=answer["fields"])
        error.title = answer["title"]
        raise error
    return answer["value"]


def _answer(work: Callable[[], Any]) -> dict[str, Any]:
    try:
        return {"value": work()}
    except LaunchpadError as error:
        return {"error": error.detail, "title": error.title, "fields": error.fields}


def with_images(config: Path | None, work: Callable[[ImageService, list[Environment]], Awaitable[T]]) -> T:
    """Runs `work` on the engine's images and the catalogue; the platform's state is left alone."""
    configure_logging(logging.WARNING)
    settings = settings_or_exit(config)

    async def run() -> T:
        runtime = runtime_of(settings, deployment_id="")
        try:
            return await work(
                ImageService(runtime, settings.images, site_certificates), list(catalogue_of(settings).values())
            )
        finally:
            await runtime.aclose()

    try:
        return asyncio.run(run())
    except LaunchpadError as error:
        fail(error)


async def on_platform(
    settings: Settings, work: Callable[[Platform], Awaitable[T]], *, whatever_the_database: bool = False
) -> T:
    """What `work` answers on a platform of the settings, which is migrated before and closed afterwards.

    Args:
        whatever_the_database: also where the database cannot be used.
    """
    from ..wiring import build_platform  # what the commands without a platform do not load

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


def ask_portal(config: Path | None, verb: str, **arguments: Any) -> Any:
    """What the portal answers (see `control.verbs`); where none lives, this process owns the work and does it itself.

    Our errors, the portal's or our own, end the command politely.
    """
    configure_logging(logging.WARNING)
    settings = settings_or_exit(config)
    try:
        return ask_owner(settings, verb, **arguments)
    except LaunchpadError as error:
        fail(error)


def ask_owner(settings: Settings, verb: str, **arguments: Any) -> Any:
    """As `ask_portal`; root is given up for good where no portal lives, and our errors are the caller's."""
    answer = client.ask(settings.state_dir, verb, arguments)
    if answer is None:
        give_up_root(settings)
        answer = asyncio.run(on_platform(settings, lambda platform: _as_owner(platform, verb, arguments)))
    return client.value_of(answer)


async def _as_owner(platform: Platform, verb: str, arguments: dict[str, Any]) -> dict[str, Any]:
    """Does it here as soon as the lease can be had, unless a portal has come to life meanwhile and answers."""
    from ..control import verbs  # loads the whole platform

    deadline = monotonic() + OWNER_SECONDS
    while not await platform.lease.try_acquire():
        answer = await asyncio.to_thread(client.ask, platform.settings.state_dir, verb, arguments)
        if answer is not None:
            return answer
        if monotonic() > deadline:
            raise Unavailable(
                "Another process owns the work and does not end: a command, or a portal on another server. Try again "
                "later, or run this where the portal runs."
            )
        await asyncio.sleep(ASK_AGAIN_SECONDS)
    value = await verbs.answer(platform, verb, arguments)
    await platform.runner.wait()
    return {"value": value}


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
        return asyncio.run(on_platform(settings, work, whatever_the_database=whatever_the_database))
    except LaunchpadError as error:
        fail(error)
