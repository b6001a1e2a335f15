"""Backups and what becomes of them; and the mailbox that tells of mail which did not arrive."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta

from ...services.audit_verification import AuditVerifier
from ...services.bounces import BounceService
from ...settings import Settings
from ...store import kv
from ...store.database import Database
from .. import backups
from ..drill import LAST_DRILL, OLDEST
from .findings import Finding, Level, unseen

DRILL_EVERY = timedelta(days=40)  # the timer: once a month
BACKUP_GUIDE = "docs/howto/backup.md"
AUDIT_GUIDE = "docs/howto/administer.md"


async def safety(
    subject: str, settings: Settings, database: Database, deployment_id: str, now: datetime
) -> list[Finding]:
    """Whether there is a backup, how old it is, and what the last rehearsal of it said."""
    if settings.database_url:
        return [unseen(subject, "the database is not in state_dir; its own tools back it up")]
    folder = settings.backup.folder
    newest = await asyncio.to_thread(backups.newest, folder, deployment_id, now)
    timer = f"systemctl enable --now launchpad-backup.timer, or “launchpad backup” ({BACKUP_GUIDE})."
    if newest is None:
        return [Finding(Level.WARN, subject, f"There is no backup in {folder}.", timer)]
    path, made_at = newest
    found = []
    if made_at > now:
        text = f"The only backup, {path}, was made on {made_at:%-d %B %Y}, which is in the future."
        found.append(Finding(Level.BAD, subject, text, f"Correct the clock; {timer}"))
    if now - made_at > OLDEST:
        text = f"The newest backup is from {made_at:%-d %B %Y}."
        found.append(Finding(Level.BAD, subject, text, f"Find out why no newer one was made; {timer}"))
    if path.name.endswith(backups.PLAIN):
        text = "Backups are not encrypted, so keys and settings are not in them."
        found.append(Finding(Level.WARN, subject, text, f"Add a key of yours to backup.recipients ({BACKUP_GUIDE})."))
    found += await _drills(subject, database, made_at, now)
    return found or [Finding(Level.OK, subject, f"The newest backup is {path}, and the last restore test passed.")]


async def audit_chain(subject: str, verifier: AuditVerifier) -> list[Finding]:
    """Whether the newest part of the audit is as it was written."""
    found = await verifier.verify_newest()
    if found.first_break is not None:
        remedy = f"“launchpad audit verify” looks at all of it; {AUDIT_GUIDE} says what to do."
        return [Finding(Level.BAD, subject, f"The audit was changed: {found.first_break.text}", remedy)]
    return [Finding(Level.OK, subject, f"Its newest part ({found.entries} entries) is as it was written.")]


async def _drills(subject: str, database: Database, made_at: datetime, now: datetime) -> list[Finding]:
    async with database.reading() as db:
        last = await kv.get(db, LAST_DRILL)
    again = "“launchpad drill” tests a restore now; launchpad-drill.timer does it every month."
    if last is None:
        return [Finding(Level.WARN, subject, "No restore has been tested yet.", again)]
    if not last["passed"]:
        return [Finding(Level.BAD, subject, f"The last restore test failed: {last['lines'][0]}", again)]
    at = datetime.fromisoformat(last["at"])
    if now - at > DRILL_EVERY:
        return [Finding(Level.WARN, subject, f"The last restore test was on {at:%-d %B %Y}.", again)]
    return []


async def mailbox(subject: str, settings: Settings, bounces: BounceService) -> list[Finding]:
    """Whether reports of mail that did not arrive can be read."""
    if not settings.mail.bounces.host:
        return [unseen(subject, "mail.bounces names no mailbox, so bounced mail is not shown")]
    problem = await bounces.problem()
    if problem is not None:
        return [Finding(Level.BAD, subject, problem, "Check [mail.bounces]; see docs/howto/mail.md.")]
    return [Finding(Level.OK, subject, f"Bounces are read from {settings.mail.bounces.host}.")]
