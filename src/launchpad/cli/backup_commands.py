"""`launchpad backup` and `launchpad restore`."""

from __future__ import annotations

import asyncio
import os
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from ..errors import Conflict, LaunchpadError
from ..services import backups
from ..services.audit import CLI
from ..services.backups import BackupUnusable
from ..services.platform import Platform
from ..settings import Settings
from ..settings_file import config_path
from ..store.statedir import HelperState, StateDir, living_carriers
from ..wiring import build_platform
from .context import ConfigOption, give_up_root, settings_or_exit
from .output import configure_logging, err, fail, out

RESTORED_SETTINGS = "launchpad.toml.restored"


def backup(
    config: ConfigOption = None,
    to: Annotated[Path | None, typer.Option("--to", help="Folder; else the one of the settings.")] = None,
) -> None:
    """Write a backup of database, keys and settings; the homes are for your own tool (docs/howto/backup.md)."""
    configure_logging()
    settings = settings_or_exit(config)
    give_up_root(settings)
    folder = to or settings.backup.folder
    try:
        if settings.database_url:
            raise Conflict("The database is not the one in state_dir: back it up with its own tools (pg_dump).")
        deployment_id = StateDir(settings.state_dir).deployment_id
        made = backups.create(
            state_dir=settings.state_dir,
            settings_file=config_path(config, os.environ),
            folder=folder,
            recipients=settings.backup.recipients,
            deployment_id=deployment_id,
            now=datetime.now(UTC),
        )
        removed = backups.remove_old(folder, deployment_id, settings.backup.keep)
    except LaunchpadError as error:
        fail(error)
    out.print(str(made), soft_wrap=True, markup=False)
    if not settings.backup.recipients:
        err.print("Not encrypted, so without keys and settings; name a key in backup.recipients.", markup=False)
    if removed:
        err.print(f"Removed {removed} older ones.", markup=False)


def restore(
    file: Annotated[Path, typer.Argument(help="The backup.")],
    config: ConfigOption = None,
    identity: Annotated[
        Path | None, typer.Option("--identity", help="File with the private key of age, for an encrypted backup.")
    ] = None,
    check: Annotated[bool, typer.Option("--check", help="Only say whether the backup could be brought back.")] = False,
) -> None:
    """Bring a backup back, with the portal stopped. Nobody is signed in afterwards; what was there is kept beside."""
    configure_logging()
    settings = settings_or_exit(config)
    now = datetime.now(UTC)
    try:
        found = backups.read(file, _identities(identity))
        said = backups.rehearse(found, now) if check else _restore(settings, found, now)
    except LaunchpadError as error:
        fail(error)
    for line in said:
        out.print(line, soft_wrap=True, markup=False)


def _restore(settings: Settings, found: backups.Backup, now: datetime) -> list[str]:
    if living_carriers(settings.state_dir):
        raise Conflict(
            "The portal or a sweep is running; stop it first: systemctl stop launchpad launchpad-sweep.timer"
        )
    if settings.helper.socket is not None and os.geteuid() == 0:
        HelperState(settings.helper.state_dir).take_over(found.manifest.deployment_id)
    give_up_root(settings)
    said = backups.restore(found, StateDir(settings.state_dir).path, now)
    if backups.SETTINGS in found.files:
        beside = settings.state_dir / RESTORED_SETTINGS
        beside.touch(mode=0o600)
        beside.write_bytes(found.files[backups.SETTINGS])
        said.append(f"The settings of then are in {beside}; those of this server were not changed.")
    return [*said, *asyncio.run(_reconcile(settings, found.manifest))]


async def _reconcile(settings: Settings, manifest: backups.Manifest) -> list[str]:
    platform = build_platform(settings)
    try:
        await platform.database.migrate()
        await platform.audit.record(platform.now(), CLI, "backup.restored", manifest.created_at)
        return await _containers(platform)
    finally:
        await platform.aclose()


async def _containers(platform: Platform) -> list[str]:
    """Brings instances and containers together; what the backup does not know is ended, since nobody could reach it."""
    said = []
    try:
        for outcome in await platform.carrier.reconcile_all():
            said.append(f"Instance {outcome.instance_id}: {outcome.action} ({outcome.reason}).")
        said += [
            f"Instance {one}: ended, since the backup does not know it." for one in await platform.carrier.end_unknown()
        ]
        await platform.carrier.wait()
    except LaunchpadError as error:
        said.append(f"Containers were not looked at: {error.detail} The next sweep does it.")
    return said


def _identities(path: Path | None) -> list[str]:
    if path is None:
        return []
    try:
        text = path.read_text(encoding="ascii", errors="ignore")
    except OSError as error:
        raise BackupUnusable(f"{path} cannot be read: {error.strerror}.") from error
    return re.findall(r"^AGE-SECRET-KEY-1[0-9A-Z]+$", text, re.MULTILINE)
