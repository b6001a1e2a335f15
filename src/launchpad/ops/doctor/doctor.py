"""The doctor's round: what is looked at, in which order, and how long it may take."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from ...domain.environments import Environment
from ...domain.signin import normalise_address
from ...errors import (
    EngineUnavailable,
    HelperRefused,
    HelperUnavailable,
    ImageMissing,
    InvalidInput,
    LaunchpadError,
    MailUnavailable,
)
from ...mail.messages import probe_mail
from ...runtime.base import ConnectionCutter, HostFacts, Runtime
from ...services.audit_verification import AuditVerifier
from ...services.bounces import BounceService
from ...services.files import FilesService
from ...services.home_work import HomeWorkService
from ...services.idle_policy import IdlePolicyService
from ...services.images import ImageService
from ...services.lab_capacity import LabCapacityService
from ...services.mailing import MailQueue
from ...services.snapshots import SnapshotService
from ...services.sweep import SweepService
from ...settings import Settings
from ...storage.base import Homes
from ...store.database import Database
from ..nginx.site import SITE
from . import engine, file_access, idle, labs, layers, listening, loops, machine, mail, safety, storage, tls, units
from .findings import INSTALL_GUIDE, Finding, Level

PATIENCE_SECONDS = 15.0
ASIDE_SECONDS = 3.0  # for what only adds to a finding
HELPER_AWAY = "Check “systemctl status launchpad-helper.socket launchpad-helper” and the setting helper.socket."
ENGINE_AWAY = "Check “systemctl status docker” and the setting engine.host; a full disk also stops it."


@dataclass(frozen=True)
class Places:
    """Where things are on this server."""

    proc: Path = Path("/proc")
    systemd: Path = units.RUNS
    site: Path = SITE


class Doctor:
    def __init__(
        self,
        database: Database,
        settings: Settings,
        runtime: Runtime,
        cutter: ConnectionCutter,
        homes: Homes,
        images: ImageService,
        mail_queue: MailQueue,
        sweep: SweepService,
        bounces: BounceService,
        catalogue: Mapping[str, Environment],
        deployment_id: str,
        idle_policy: IdlePolicyService,
        lab_capacity: LabCapacityService,
        verifier: AuditVerifier,
        files: FilesService,
        snapshots: SnapshotService,
        home_work: HomeWorkService,
        places: Places | None = None,
    ) -> None:
        self._database = database
        self._settings = settings
        self._runtime = runtime
        self._cutter = cutter
        self._homes = homes
        self._images = images
        self._mail = mail_queue
        self._sweep = sweep
        self._bounces = bounces
        self._deployment_id = deployment_id
        self._catalogue = catalogue
        self._idle_policy = idle_policy
        self._labs = lab_capacity
        self._verifier = verifier
        self._files = files
        self._snapshots = snapshots
        self._home_work = home_work
        self._places = places or Places()

    async def examine(self, now: datetime, settings_file: Path | None = None) -> list[Finding]:
        """Every finding, in a fixed order. What does not answer in time is a finding, too.

        Args:
            now: the server's clock, which is itself looked at.
            settings_file: the file that the settings were read from, if there is one.
        """
        settings, places = self._settings, self._places
        rounds: tuple[tuple[str, Callable[[str], Awaitable[list[Finding]]]], ...] = (
            ("origins", self._origins),
            ("sign-in", self._sign_in),
            ("rights", self._rights),
            ("files", lambda subject: asyncio.to_thread(machine.files, subject, settings, settings_file)),
            ("database", self._store),
            ("audit", lambda subject: safety.audit_chain(subject, self._verifier)),
            ("clock", lambda subject: self._clock(subject, now)),
            ("engine", self._engine),
            ("cgroups", self._control_groups),
            ("freezing", self._freezing),
            ("idle", lambda subject: self._idle(subject, now)),
            ("memory", self._memory),
            ("labs", self._lab_capacity),
            ("layers", self._layers),
            ("limits", lambda subject: engine.limits(subject, self._database, self._runtime, self._catalogue)),
            ("network", lambda subject: engine.network(subject, self._runtime, settings)),
            ("connections", self._connections),
            ("ports", self._ports),
            ("names", lambda subject: tls.names(subject, settings)),
            ("certificate", lambda subject: tls.certificate(subject, settings, now)),
            ("nginx", lambda subject: asyncio.to_thread(machine.nginx, subject, settings, places.site)),
            ("images", self._all_images),
            ("homes", self._all_homes),
            ("file-access", lambda subject: file_access.file_access(subject, settings, self._files)),
            ("snapshots", lambda subject: storage.snapshots(subject, settings, self._snapshots)),
            ("archives", lambda subject: storage.archives(subject, self._home_work)),
            ("uids", lambda subject: machine.uids(subject, self._database, settings.homes.uid_base)),
            ("disk", self._disks),
            ("storage", lambda subject: storage.storage(subject, self._database)),
            ("sweep", lambda subject: self._sweeps(subject, now)),
            ("background", lambda subject: loops.background(subject, settings.state_dir, now)),
            ("services", lambda subject: units.services(subject, places.systemd)),
            ("backups", lambda subject: safety.safety(subject, settings, self._database, self._deployment_id, now)),
            ("mail", lambda subject: mail.server(subject, settings.mail, self._mail)),
            ("mailbox", lambda subject: safety.mailbox(subject, settings, self._bounces)),
            ("versions", self._versions),
        )
        found: list[Finding] = []
        for subject, look in rounds:
            try:
                async with asyncio.timeout(PATIENCE_SECONDS):
                    found += await look(subject)
            except HelperRefused as error:
                remedy = "If the helper is of an older version than this command: systemctl restart launchpad-helper"
                found.append(Finding(Level.BAD, subject, error.detail, remedy))
            except EngineUnavailable as error:
                remedy = HELPER_AWAY if isinstance(error, HelperUnavailable) else ENGINE_AWAY
                found.append(Finding(Level.BAD, subject, error.detail, remedy))
            except LaunchpadError as error:
                found.append(Finding(Level.BAD, subject, error.detail))
            except TimeoutError:
                text = f"No answer within {PATIENCE_SECONDS:.0f} seconds."
                found.append(
                    Finding(Level.BAD, subject, text, "Check the logs of the service that did not answer.", True)
                )
            except OSError as error:  # no right to, a program that does not start, a disk that is failing
                text = f"It cannot be checked: {error.strerror or 'the system refuses'} ({error.filename or 'here'})."
                found.append(Finding(Level.BAD, subject, text, "Run this as root, and check “dmesg” for errors."))
        return found

    async def send_mail(self, to: str, now: datetime) -> str:
        """Hands a test mail over; returns what to look for where it should arrive.

        Raises:
            InvalidInput: `to` is no address that could sign in anywhere.
            MailUnavailable: the mail server did not accept it; the text says at which step, and what to do.
        """
        rules = self._settings.mail
        try:
            address = normalise_address(to)
        except ValueError as error:
            raise InvalidInput(f"“{to[:80]}”: {error}.") from error
        message = probe_mail(
            to=address,
            public_url=self._settings.public_url,
            from_name=rules.from_name,
            from_address=rules.from_address,
            sent_at=now,
            help_url=self._settings.help_url,
            help_contact=self._settings.help_contact,
        )
        try:
            await self._mail.send_now(message)
        except MailUnavailable as error:
            if not error.step:
                raise
            said = f"{mail.failed(rules, error)} {mail.remedy(rules, error)}"
            raise MailUnavailable(said, permanent=error.permanent, step=error.step, reply=error.reply) from error
        if not rules.host:
            return f"No mail server is set: the mail is a file in {self._settings.state_dir / 'outbox'}."
        return mail.delivery(rules, address)

    async def _origins(self, subject: str) -> list[Finding]:
        settings = self._settings
        if settings.public_url == settings.instances_url:
            return [
                Finding(
                    Level.BAD,
                    subject,
                    "Semi-trusted mode: portal and instances share one origin, so code in an instance can act on "
                    "the portal as its user.",
                    "Set instances_url to another host name, or to a host name for each instance.",
                )
            ]
        if not settings.is_https and not _is_local(settings.public_url):
            return [
                Finding(
                    Level.BAD,
                    subject,
                    "All traffic, including codes and cookies, crosses the network unencrypted.",
                    "Set public_url and instances_url to https, with tls.certificate and tls.key.",
                )
            ]
        portal, instances = settings.public_url.split("/")[2], settings.instances_url.split("/")[2]
        if portal.partition(":")[0] == instances.partition(":")[0] and not settings.is_https:
            return [
                Finding(
                    Level.WARN,
                    subject,
                    "Two ports of one host over plain http: a script in an instance can set cookies for the portal "
                    "in its own user's browser.",
                    "Fine for a trial; otherwise use two host names and https.",
                )
            ]
        kind = "a host name for each instance" if settings.instances.is_wildcard else "two origins"
        return [Finding(Level.OK, subject, f"Portal and instances are separated: {kind}.")]

    async def _sign_in(self, subject: str) -> list[Finding]:
        rules = self._settings.sign_in
        if not rules.allowed_domains:
            text = "Anybody with an e-mail address can sign in and launch."
            return [Finding(Level.WARN, subject, text, "List your institute's domains in sign_in.allowed_domains.")]
        return [Finding(Level.OK, subject, f"For addresses at {', '.join(rules.allowed_domains)}.")]

    async def _rights(self, subject: str) -> list[Finding]:
        return engine.rights(subject, self._settings)

    async def _store(self, subject: str) -> list[Finding]:
        problems = await self._database.problems()
        if problems:
            text = f"The database is damaged: {'; '.join(problems)}."
            remedy = "Stop the portal and restore a backup (“launchpad restore”); keep the damaged file."
            return [Finding(Level.BAD, subject, text, remedy)]
        await self._database.migrate()  # says so where a newer version wrote it
        return [Finding(Level.OK, subject, "It responds and is intact.")]

    async def _engine(self, subject: str) -> list[Finding]:
        return engine.engine(subject, await self._runtime.host())

    async def _control_groups(self, subject: str) -> list[Finding]:
        return engine.control_groups(subject, await self._runtime.host(), self._places.proc)

    async def _freezing(self, subject: str) -> list[Finding]:
        return engine.freezing(subject, await self._runtime.freezer(), is_wanted=self._settings.freezing.enabled)

    async def _idle(self, subject: str, now: datetime) -> list[Finding]:
        return await idle.idle(subject, self._database, self._settings, self._runtime, self._idle_policy, now)

    async def _lab_capacity(self, subject: str) -> list[Finding]:
        return await labs.labs(subject, self._settings, self._labs, await self._runtime.host())

    async def _memory(self, subject: str) -> list[Finding]:
        return engine.memory(subject, await self._runtime.memory_watch())

    async def _layers(self, subject: str) -> list[Finding]:
        host, mounts = await self._runtime.host(), self._places.proc / "self" / "mounts"
        return await asyncio.to_thread(layers.layers, subject, self._settings.engine, host, mounts)

    async def _ports(self, subject: str) -> list[Finding]:
        found = await asyncio.to_thread(listening.listeners, self._places.proc)
        return listening.ports(subject, self._settings, found)

    async def _disks(self, subject: str) -> list[Finding]:
        host = await self._host_or_none()
        engine_root = host.root_dir if host else ""
        return await asyncio.to_thread(machine.disks, subject, self._settings, engine_root)

    async def _clock(self, subject: str, now: datetime) -> list[Finding]:
        return await machine.clock(subject, self._database, await self._sweep.clock_held(), now)

    async def _sweeps(self, subject: str, now: datetime) -> list[Finding]:
        return await units.sweeps(subject, self._settings, self._database, await self._sweep.last(), now)

    async def _versions(self, subject: str) -> list[Finding]:
        host, limited = await self._host_or_none(), True
        with suppress(LaunchpadError):
            limited = self._homes.enforces_limits
        engine_version = host.engine_version if host else ""
        return await machine.versions(subject, self._settings, engine_version, limited)

    async def _host_or_none(self) -> HostFacts | None:
        """An engine that is away, or hangs, is a finding of its own, and hides no other."""
        try:
            async with asyncio.timeout(ASIDE_SECONDS):
                return await self._runtime.host()
        except (LaunchpadError, TimeoutError):
            return None

    async def _connections(self, subject: str) -> list[Finding]:
        if await self._cutter.can_cut():
            return [Finding(Level.OK, subject, "Open connections are closed when access to an instance ends.")]
        return [
            Finding(
                Level.BAD,
                subject,
                "Open connections remain after sign-out and suspension: they cannot be closed on this server.",
                "It needs root, the program ss (package iproute2) and a kernel with INET_DIAG_DESTROY.",
            )
        ]

    async def _all_images(self, subject: str) -> list[Finding]:
        found = []
        for environment in self._catalogue.values():
            remedy = "“launchpad images pull” downloads it, “launchpad images build” builds one."
            try:
                image = await self._images.resolve(environment)
            except ImageMissing as missing:
                found.append(Finding(Level.BAD, subject, missing.detail, remedy))
                continue
            if image.stand_in:
                text = f"{environment.title}: a stand-in is offered for {environment.image}."
                found.append(Finding(Level.WARN, subject, text, remedy))
        return found or [Finding(Level.OK, subject, "Every environment has its image.")]

    async def _all_homes(self, subject: str) -> list[Finding]:
        await self._homes.check()
        root = self._settings.homes.root
        if not self._homes.enforces_limits:
            text = f"Home folders can be created in {root}, without size limits."
            remedy = (
                f"ext4, XFS and btrfs limit them once their quotas are enabled: {INSTALL_GUIDE}, “Limits of homes”."
            )
            return [Finding(Level.WARN, subject, text, remedy)]
        return [Finding(Level.OK, subject, f"Home folders can be created in {root}, with size limits.")]


def _is_local(url: str) -> bool:
    host = url.split("/")[2].rpartition(":")[0] or url.split("/")[2]
    return host in ("localhost", "127.0.0.1", "[::1]") or host.endswith(".localhost")
