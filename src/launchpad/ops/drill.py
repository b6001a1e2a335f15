"""The restore drill: a backup is brought back into a folder that is thrown away, and the administrators hear of it."""

from __future__ import annotations

import asyncio
import tempfile
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from pathlib import Path

from ..errors import BackupUnusable, Conflict, LaunchpadError, StoreUnavailable
from ..services.audit import CLI, AuditService
from ..services.audit_verification import AuditVerifier
from ..services.reports import ReportService
from ..settings import Settings, load_settings
from ..store import kv, users
from ..store.audit_chain import AUDIT_CHAIN, ChainKeeper
from ..store.database import Database
from ..store.statedir import StateDir
from . import backups
from .backups import Backup
from .held_files import roomy_folder

OLDEST = timedelta(days=2)  # the timer makes one a day
LAST_DRILL = "backup.drill"
IDENTITY = "backup.key"


@dataclass(frozen=True)
class DrillReport:
    """What became of a drill; `lines` say it in words, problems first."""

    passed: bool
    lines: tuple[str, ...]


def own_identity(state: StateDir) -> str:
    """This server's private key of age, made at the first use.

    Raises:
        StoreUnavailable: it cannot be made or read.
    """
    return state.text_key(IDENTITY, backups.new_identity())


async def rehearse(backup: Backup, now: datetime) -> list[str]:
    """Does with a backup what `launchpad restore` and the start of the portal would; what is made is thrown away.

    Raises:
        BackupUnusable, StoreUnavailable, SettingsError: what they would say.
    """
    try:
        return await _rehearse(backup, now)
    except OSError as error:
        raise StoreUnavailable(f"There is not enough disk space to test a restore: {error.strerror}.") from error


async def _rehearse(backup: Backup, now: datetime) -> list[str]:
    with tempfile.TemporaryDirectory(prefix="launchpad-rehearsal-", dir=roomy_folder()) as name:
        folder = Path(name)
        await asyncio.to_thread(backups.restore, backup, folder, now)
        deployment_id = StateDir(folder).deployment_id
        keeper = ChainKeeper(StateDir(folder).key(AUDIT_CHAIN), None, lambda: now)
        database = Database(f"sqlite+aiosqlite:///{folder / backups.DATABASE}", chain=keeper)
        try:
            await database.migrate()
            async with database.reading() as db:
                there = await users.count(db)
            audited = await AuditVerifier(database, keeper).verify() if backup.has_secrets else None
        finally:
            await database.aclose()
        if there != backup.manifest.users or deployment_id != backup.manifest.deployment_id:
            raise BackupUnusable("The restored data does not match what the backup says about itself.")
        if backups.SETTINGS in backup.files:
            settings = folder / backups.SETTINGS
            backup.files[backups.SETTINGS].write_to(settings)
            load_settings(settings, variables={})
    manifest = backup.manifest
    said = [
        f"It can be restored: {manifest.users} users and {manifest.instances} instances, as of {manifest.created_at}, "
        f"{'with' if backup.has_secrets else 'without'} keys and settings."
    ]
    if audited is not None and audited.first_break is not None:
        said.append(f"The audit in it was changed: {audited.first_break.text}")
    return said


class DrillService:
    def __init__(
        self,
        settings: Settings,
        state: StateDir,
        database: Database,
        audit: AuditService,
        verifier: AuditVerifier,
        reports: ReportService,
    ) -> None:
        self._settings = settings
        self._state = state
        self._database = database
        self._audit = audit
        self._verifier = verifier
        self._reports = reports

    async def drill(self, now: datetime) -> DrillReport:
        """Rehearses the newest backup, writes down what became of it, and tells the administrators.

        Raises:
            Conflict: the database is not in the state directory, so the platform makes no backups of it.
            MailUnavailable: no administrator could be told; it is written down all the same.
        """
        if self._settings.database_url:
            raise Conflict("The database is not in state_dir: test whether its own tools (pg_restore) can restore it.")
        report = await self._examine(now)
        async with self._database.transaction() as db:
            await kv.put(db, LAST_DRILL, {"at": now.isoformat(), **asdict(report)}, now)
        await self._audit.record(now, CLI, "backup.drill", "passed" if report.passed else "failed")
        subject = "the monthly restore drill passed" if report.passed else "the restore drill FAILED"
        await self._reports.send(subject, (*report.lines, await self._anchor()), now)
        return report

    async def _anchor(self) -> str:
        """For the mail: where the audit ends, to be compared when this server says something else."""
        found = await self._verifier.verify_newest()
        if found.first_break is not None:
            return f"The audit of this server was changed: {found.first_break.text}"
        return f"The audit of this server ends with {found.newest} (launchpad audit verify --anchor {found.newest})."

    async def _examine(self, now: datetime) -> DrillReport:
        folder = self._settings.backup.folder
        try:
            found = await asyncio.to_thread(backups.newest, folder, self._state.deployment_id, now)
            if found is None:
                text = f"There is no backup of this server in {folder}. Is launchpad-backup.timer running?"
                return DrillReport(passed=False, lines=(text,))
            path, made_at = found
            backup = await asyncio.to_thread(backups.read, path, [own_identity(self._state)])
            said = [f"The newest backup is {path}.", *await rehearse(backup, now)]
        except LaunchpadError as error:
            return DrillReport(passed=False, lines=(error.detail,))
        late = now - made_at > OLDEST
        if late:
            said.insert(0, f"It is {(now - made_at).days} days old: newer ones are missing.")
        early = made_at > now
        if early:
            said.insert(0, f"It is dated {made_at:%-d %B %Y}, which is in the future: the clock was, or is, wrong.")
        said.append(
            "Home folders are not in it. From time to time, also test whether your own tool can restore one of them."
        )
        if not backup.has_secrets:
            said.append("It is not encrypted, so keys and settings are not in it: add a key to backup.recipients.")
        return DrillReport(passed=not (late or early), lines=tuple(said))
