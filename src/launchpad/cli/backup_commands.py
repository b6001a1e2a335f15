"""`launchpad backup`, `launchpad restore`, `launchpad drill`, and the mail that says that one of the units failed."""

from __future__ import annotations

import asyncio
import os
import re
import socket
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from ..errors import BackupUnusable, Conflict, LaunchpadError, StoreUnavailable
from ..ops import backups
from ..ops.backups import Backup
from ..ops.drill import IDENTITY, DrillReport, own_identity, rehearse
from ..parts import engine_of
from ..platform import Platform
from ..services.registration import leave_uids_out
from ..settings import Settings
from ..settings.file import config_path
from ..store.lease import is_in_use
from ..store.statedir import HelperState, StateDir
from ..wiring import build_platform
from . import units
from .context import ConfigOption, as_portal, give_up_root, settings_or_exit, with_platform
from .logs import configure_logging
from .output import err, fail, out

ELSEWHERE = "The database is not in state_dir: back it up and restore it with its own tools (pg_dump, pg_restore)."
RESTORED_SETTINGS = "launchpad.toml.restored"


def backup(
    config: ConfigOption = None,
    to: Annotated[Path | None, typer.Option("--to", help="Folder (default: backup.folder in the settings).")] = None,
) -> None:
    """Write a backup of database, keys and settings, not of home folders (docs/howto/backup.md)."""
    configure_logging()
    settings = settings_or_exit(config)
    give_up_root(settings)
    folder = to or settings.backup.folder
    try:
        if settings.database_url:
            raise Conflict(ELSEWHERE)
        state = StateDir(settings.state_dir)
        now = datetime.now(UTC)
        made = backups.create(
            state_dir=settings.state_dir,
            settings_file=config_path(config, os.environ),
            folder=folder,
            recipients=settings.backup.recipients,
            own_identity=own_identity(state),
            deployment_id=state.deployment_id,
            now=now,
        )
        removed = backups.remove_old(folder, state.deployment_id, settings.backup.keep, now)
    except LaunchpadError as error:
        fail(error)
    out.print(str(made), soft_wrap=True, markup=False)
    if not settings.backup.recipients:
        err.print("Not encrypted, therefore without keys and settings; add a key to backup.recipients.", markup=False)
    if removed:
        err.print(f"Removed {removed} older backups.", markup=False)


def restore(
    file: Annotated[Path, typer.Argument(help="The backup.")],
    config: ConfigOption = None,
    identity: Annotated[
        Path | None, typer.Option("--identity", help="File with the private key of age, for an encrypted backup.")
    ] = None,
    check: Annotated[bool, typer.Option("--check", help="Only check whether the backup can be restored.")] = False,
) -> None:
    """Restore a backup. Nobody is signed in afterwards; the previous data is kept."""
    configure_logging()
    settings = settings_or_exit(config)
    now = datetime.now(UTC)
    try:
        found = backups.read(file, _own(settings) if identity is None else _identities(identity))
        backups.check_version(found)
        if check:
            _say(asyncio.run(rehearse(found, now)))
            return
        if settings.database_url:  # the portal would go on with the other one
            raise Conflict(ELSEWHERE)
        with units.out_of_the_way():
            as_portal(settings, lambda: _insist_on_quiet(settings))
            asyncio.run(_hand_over(settings, found.manifest.deployment_id))
            as_portal(settings, lambda: _bring_back(settings, found, now))
    except LaunchpadError as error:
        fail(error)


def drill(config: ConfigOption = None) -> None:
    """Test a restore of the newest backup, and notify the administrators by mail; the exit code is 1 if it failed."""

    async def work(platform: Platform) -> DrillReport:
        return await platform.drill.drill(platform.now())

    report = with_platform(config, work)
    _say(report.lines)
    if not report.passed:
        raise typer.Exit(1)


def report_failure(
    unit: Annotated[str, typer.Argument(help="The unit that failed.")], config: ConfigOption = None
) -> None:
    """Notify the administrators that a unit failed; for systemd."""

    async def work(platform: Platform) -> list[str]:
        host = socket.gethostname()
        lines = (
            f"{unit} failed on {host}.",
            f"Its log: sudo journalctl -u {unit} -n 50",
            "Check the whole server: sudo launchpad doctor",
        )
        return await platform.reports.send(f"{unit} failed", lines, platform.now())

    _say([f"Notified {', '.join(with_platform(config, work))}."])


def _insist_on_quiet(settings: Settings) -> None:
    if is_in_use(settings.state_dir):
        fail(Conflict("The portal, a sweep or another command is using this state directory; stop it first."))


async def _hand_over(settings: Settings, deployment_id: str) -> None:
    """Makes this server the backup's deployment, where it is another one so far.

    Raises:
        Conflict: it has instances, which nobody could reach afterwards.
    """
    helper = HelperState(settings.helper.state_dir) if settings.helper.socket is not None and _is_root() else None
    if settings.engine.runtime == "engine":
        try:
            engine = engine_of(settings)
        except StoreUnavailable:
            pass  # nothing has run here yet
        else:
            try:
                if engine.deployment_id != deployment_id:
                    if there := await engine.list_containers():
                        ids = ", ".join(each.instance_id for each in there)
                        raise Conflict(f"This server has instances that the backup is not of; stop them first: {ids}.")
                    await engine.remove_network()
            finally:
                await engine.aclose()
    if helper is not None:
        helper.take_over(deployment_id)
        units.restart_helper()


def _bring_back(settings: Settings, found: Backup, now: datetime) -> None:
    try:
        # Not opened as a StateDir: what is damaged in it is why somebody restores.
        _say(backups.restore(found, settings.state_dir, now))
        if backups.SETTINGS in found.files:
            beside = settings.state_dir / RESTORED_SETTINGS
            try:
                beside.touch(mode=0o600)
                found.files[backups.SETTINGS].write_to(beside)
            except OSError as error:
                raise StoreUnavailable(f"{beside} cannot be written: {error.strerror}.") from error
            _say([f"The settings from the backup are in {beside}; the settings of this server were not changed."])
        _say(asyncio.run(_reconcile(settings, found)))
    except LaunchpadError as error:
        fail(error)


async def _reconcile(settings: Settings, found: Backup) -> list[str]:
    platform = build_platform(settings)
    try:
        await platform.database.migrate()
        await platform.lease.acquire()  # nobody has it: see _insist_on_quiet
        async with platform.database.transaction() as db:
            await leave_uids_out(db, settings, platform.now())
        await platform.audit_verifier.restored(
            found.manifest.created_at, has_keys=found.has_secrets, now=platform.now()
        )
        return await _containers(platform)
    finally:
        await platform.aclose()


async def _containers(platform: Platform) -> list[str]:
    """Brings instances and containers together; what the backup does not know is ended, since nobody could reach it."""
    said = []
    try:
        for outcome in await platform.runner.reconcile_all():
            said.append(f"Instance {outcome.instance_id}: {outcome.action} ({outcome.reason}).")
        said += [
            f"Instance {one}: ended, because it is not in the backup." for one in await platform.runner.end_unknown()
        ]
        await platform.runner.wait()
    except LaunchpadError as error:
        said.append(f"Containers were not checked: {error.detail} The next sweep will do it.")
    return said


def _identities(path: Path) -> list[str]:
    try:
        text = path.read_text(encoding="ascii", errors="ignore")
    except OSError as error:
        raise BackupUnusable(f"{path} cannot be read: {error.strerror}.") from error
    found = re.findall(r"^\s*(AGE-SECRET-KEY-1[0-9A-Z]+)\s*$", text, re.MULTILINE)
    if not found:
        raise BackupUnusable(
            f"{path} contains no unencrypted private key of age: a line that begins with AGE-SECRET-KEY-1. If it is "
            "protected by a passphrase, decrypt it first (age --decrypt)."
        )
    return found


def _own(settings: Settings) -> list[str]:
    """This server's own key, for a backup that was made here. Root reads no file of the portal's through a link."""
    try:
        descriptor = os.open(settings.state_dir / IDENTITY, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return []
    with os.fdopen(descriptor, "rb") as file:
        return [file.read(200).decode("ascii", "replace").strip()]


def _is_root() -> bool:
    return os.geteuid() == 0


def _say(lines: list[str] | tuple[str, ...]) -> None:
    for line in lines:
        out.print(line, soft_wrap=True, markup=False)
