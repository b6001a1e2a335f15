"""Builds the real parts from the settings; tests pass others in."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import TYPE_CHECKING

from .helper_client import HelperClient
from .mail.base import Mailer
from .mail.mailbox import Mailbox
from .mail.outbox import KEPT, Outbox
from .mail.smtp import STEPS_IN_ALL, SmtpMailer
from .parts import files_of, helper_client_of, reach_of, thresholds_of
from .platform import Platform
from .runtime.base import Engine
from .services.activity import ActivityService
from .services.admission import AdmissionService
from .services.announcements import AnnouncementService
from .services.audit import AuditService
from .services.audit_verification import AuditVerifier
from .services.background import Background, periodic
from .services.bounces import BounceService
from .services.catalogue import catalogue_of
from .services.clock_guard import ClockGuard, seconds_since_boot
from .services.departures import Departures
from .services.end_recorder import EndRecorder
from .services.endings import Endings
from .services.extension_links import ExtensionLinks
from .services.extensions import ExtensionService
from .services.files import FilesService
from .services.freezing import FreezingService
from .services.gate import GateService
from .services.grace import GraceService
from .services.home_mails import HomeMails
from .services.home_use import HomeUseService
from .services.home_work import HomeWorkService
from .services.ide_signals import JupyterSignals
from .services.idle import IdleService, longest_gap
from .services.idle_keep import KeepService
from .services.idle_policy import IdlePolicyService
from .services.instance_logs import InstanceLogs
from .services.instances import InstanceService
from .services.intents import IntentWatcher
from .services.lab_capacity import LabCapacityService
from .services.lab_mails import LabMails
from .services.labs import LabService
from .services.last_seen import LastSeen
from .services.launching import Launcher
from .services.layers import LayerWatch
from .services.leaving import LeavingService
from .services.leaving_mails import LeavingMails
from .services.ledger import LedgerService
from .services.libraries import LibraryService
from .services.listings import ListingService
from .services.live import Live
from .services.live.loops import loops_of
from .services.live.streams import EventStreams
from .services.logins import LoginService
from .services.mail_failures import MailFailureService
from .services.mailing import MailQueue
from .services.memory import MemoryService
from .services.memory_rescue import MemoryRescue
from .services.observer import Observer
from .services.offers import OfferService
from .services.out_of_memory import OutOfMemory
from .services.ownership import ownership
from .services.passkeys import PasskeyService
from .services.policy_replay import PolicyReplayService
from .services.queue_mails import QueueMails
from .services.queue_plan import QueuePlanner
from .services.reports import ReportService
from .services.revoker import ConnectionRevoker
from .services.runner import InstanceRunner, utc_now
from .services.shares import ShareService
from .services.signals import Signal
from .services.signin import SignInService
from .services.snapshots import SnapshotService
from .services.starting import StartProcedure
from .services.stopping import StopProcedure
from .services.sweep import SweepService
from .services.tokens import TokenService
from .services.trash_sweep import TrashSweep
from .services.users import UserService
from .services.visits import Visits
from .services.warnings import WarningService
from .settings import Settings
from .storage.archives import Archives
from .storage.base import Homes
from .storage.choose import choose_archives, choose_driver, choose_snapshots
from .storage.files import Files
from .storage.helper import HelperArchives, HelperHomes, HelperSnapshots
from .storage.snapshots import Snapshots
from .store.audit_chain import ANCHORS, AUDIT_CHAIN, AnchorFile, ChainKeeper
from .store.database import Database
from .store.lease import OwnerLease
from .store.statedir import StateDir
from .web.cookies import CookieNames
from .web.event_texts import ApiTexts

if TYPE_CHECKING:
    from .ops.doctor import Doctor
    from .ops.drill import DrillService
    from .ops.importing import ImportService


def mailer_of(settings: Settings, state: StateDir) -> Mailer:
    """SMTP where a server is named, else the outbox."""
    return SmtpMailer(settings.mail) if settings.mail.host else Outbox(state.outbox)


def mailbox_of(settings: Settings) -> Mailbox | None:
    """Where reports of undelivered mail come to, if anybody is to look there."""
    if not settings.mail.bounces.host:
        return None
    from .mail.imap import ImapMailbox  # most servers have none

    return ImapMailbox(settings.mail)


def _passwords(settings: Settings) -> tuple[str, ...]:
    both = (settings.mail.password, settings.mail.bounces.password)
    return tuple(one.get_secret_value() for one in both if one is not None)


def build_platform(
    settings: Settings,
    *,
    now: Callable[[], datetime] = utc_now,
    elapsed: Callable[[], float] | None = None,
    runtime: Engine | None = None,
    helper: HelperClient | None = None,
    homes: Homes | None = None,
    files: Files | None = None,
    snapshots: Snapshots | None = None,
    archives: Archives | None = None,
    mailer: Mailer | None = None,
    mailbox: Mailbox | None = None,
) -> Platform:
    """Puts the platform together; nothing is opened but the state directory.

    Args:
        elapsed: seconds that `now` is compared with to notice that it was set; None: the kernel's count where `now` is
            the server's clock, and any other clock is believed.

    Raises:
        StoreUnavailable: the state directory cannot be used.
        SettingsError: a driver that cannot be had on this machine.
    """
    state = StateDir(settings.state_dir)
    keeper = ChainKeeper(state.key(AUDIT_CHAIN), AnchorFile(state.path / ANCHORS), now)
    database = Database(settings.resolved_database_url, chain=keeper)
    helper = helper or helper_client_of(settings)
    homes = homes or (HelperHomes(helper, settings.homes.root) if helper else choose_driver(settings.homes))
    files = files or files_of(settings, helper)
    snapshots = snapshots or (HelperSnapshots(helper) if helper else choose_snapshots(settings, homes))
    archives = archives or (HelperArchives(helper) if helper else choose_archives(settings, homes, now))
    mail = MailQueue(
        database,
        mailer or mailer_of(settings, state),
        state.key("outgoing-mail"),
        now,
        patience_seconds=settings.mail.timeout_seconds * STEPS_IN_ALL,
    )
    bounces = BounceService(database, mailbox or mailbox_of(settings))
    catalogue = catalogue_of(settings)
    reach = reach_of(settings, state.deployment_id, homes, engine=runtime, helper=helper)
    launcher = Launcher(settings, reach.runtime, reach.launches, state.key("instance-token"))
    lease = OwnerLease(state, settings.resolved_database_url)
    logs = InstanceLogs(
        database,
        reach.runtime,
        lambda instance_id: (launcher.token(instance_id), *state.secrets(), *_passwords(settings)),
    )
    live = Live.over(database, reach.runtime, homes, reach.images, catalogue)
    activity = ActivityService(
        database,
        reach.runtime,
        live.usage,
        live.instances,
        JupyterSignals(launcher),
        catalogue,
        thresholds_of(settings),
        lambda: lease.is_held,
        settings.activity.sample_seconds,
    )
    freed = Signal()
    recorder = EndRecorder(live.usage, settings.queue.half_life)
    deaths = OutOfMemory(database, reach.runtime, now)
    endings = Endings(database, reach.runtime, homes, logs, catalogue, recorder, deaths, now)
    start = StartProcedure(database, reach.runtime, homes, reach.images, launcher, catalogue, endings, freed, now)
    stop = StopProcedure(database, reach.runtime, catalogue, endings, freed)
    runner = InstanceRunner(
        database, reach.runtime, reach.images, launcher, lease, endings, recorder, start, stop, freed
    )
    offers = OfferService(database, settings, live.host, live.instances)
    lab_capacity = LabCapacityService(database, settings, offers)
    planner = QueuePlanner(settings.queue, lab_capacity)
    queue_mails = QueueMails(settings, mail, catalogue)
    admission = AdmissionService(database, offers, planner, queue_mails, recorder, runner, freed, now)
    instances = InstanceService(database, settings, offers, runner, admission, catalogue, activity)
    if elapsed is None:
        elapsed = seconds_since_boot if now is utc_now else lambda: now().timestamp()
    clock = ClockGuard(elapsed)
    freezing = FreezingService(database, reach.runtime, lease, settings.freezing, catalogue, now)
    grace = GraceService(database, reach.runtime, activity, settings.ends)
    sweep = SweepService(
        database,
        runner,
        admission,
        clock,
        grace,
        settings.audit_days,
        settings.ended_instance_days,
        freezing.longest,
        settings.idle.decision_days,
    )
    idle_policy = IdlePolicyService(database, settings)
    idle = IdleService(
        database, settings.idle, idle_policy, activity, runner, freezing, clock, settings.activity.sample_seconds
    )
    links = ExtensionLinks(state.key("extension-links"), settings.public_url)
    warnings = WarningService(database, settings, mail, links, catalogue, idle, clock, freezing.longest)
    names = CookieNames.of(settings)
    revoker = ConnectionRevoker(database, settings, reach.cutter)
    last_seen = LastSeen(database)
    logins = LoginService(database, settings, state.key("csrf"), live.signed_in, last_seen)
    events = EventStreams(live, database.changes, logins, settings, catalogue, now, ApiTexts(settings.instances))
    audit = AuditService(database)
    verifier = AuditVerifier(database, keeper)
    ledger = LedgerService(database)
    reports = ReportService(database, settings, mail)
    observer = Observer(reach.runtime, runner)
    intents = IntentWatcher(database, runner)
    rescue = MemoryRescue(database, reach.runtime, offers, admission)
    memory = MemoryService(database, settings, live.instances, live.usage, mail, catalogue, deaths, rescue)
    home_use = HomeUseService(database, settings.homes, homes, live.homes, live.instances, HomeMails(settings, mail))
    layers = LayerWatch(database, settings, reach.runtime, live.instances, mail, catalogue, runner)
    outbox = Outbox(state.outbox)
    home_files = FilesService(files, homes, offers, settings)
    libraries = LibraryService(database, reach.runtime, home_files, live.images, live.instances, catalogue)
    shares = ShareService(database, settings, files, now)
    home_snapshots = SnapshotService(database, settings, snapshots, homes, files)
    departures, leaving_mails = Departures(settings.leaving), LeavingMails(settings, mail)
    them = UserService(database, runner, home_snapshots, departures)
    home_work = HomeWorkService(database, settings.leaving, archives, home_files, leaving_mails)
    leaving = LeavingService(database, settings.leaving, departures, them, home_work, leaving_mails)
    background = Background(
        (
            ownership(lease, runner),
            intents.loop(),
            admission.loop(),
            freezing.loop(),
            memory.loop(now),
            observer.loop(),  # its first act is to bring rows and engine together
            revoker.loop(now),
            *mail.loops(),
            *bounces.loops(now),
            *sweep.loops(settings.web.sweep_seconds, now),
            *loops_of(database.changes, live, events),
            activity.loop(now),
            idle.loop(now),
            live.announcements.loop(now),
            warnings.loop(now),
            ledger.loop(now),
            *home_use.loops(now),
            layers.loop(now),
            TrashSweep(database, home_files).loop(now),
            home_snapshots.loop(now),
            libraries.loop(now),
            shares.loop(now),
            leaving.loop(now),
            home_work.loop(now),
            periodic("outbox", lambda: outbox.prune(now() - KEPT), every_seconds=3600, late_after_seconds=2 * 86400),
        ),
        now=now,
        is_owner=lambda: lease.is_held,
        records=state.run / "background",
    )

    # What some commands need, and no portal: loaded and built at its first use.

    def make_doctor() -> Doctor:
        from .ops.doctor import Doctor

        return Doctor(
            database,
            settings,
            reach.runtime,
            reach.cutter,
            homes,
            reach.images,
            mail,
            sweep,
            bounces,
            catalogue,
            state.deployment_id,
            idle_policy,
            lab_capacity,
            verifier,
            home_files,
            home_snapshots,
            home_work,
        )

    def make_drill() -> DrillService:
        from .ops.drill import DrillService

        return DrillService(settings, state, database, audit, verifier, reports)

    def make_importing() -> ImportService:
        from .ops.importing import ImportService

        return ImportService(database, settings, homes, offers)

    return Platform(
        activity=activity,
        settings=settings,
        state=state,
        lease=lease,
        now=now,
        catalogue=catalogue,
        database=database,
        runtime=reach.runtime,
        homes=homes,
        mail=mail,
        mail_failures=MailFailureService(database),
        bounces=bounces,
        events=events,
        images=reach.images,
        audit=audit,
        audit_verifier=verifier,
        ledger=ledger,
        announcements=AnnouncementService(database, live.announcements),
        warnings=warnings,
        files=home_files,
        extensions=ExtensionService(database, links, instances, offers, idle, activity),
        runner=runner,
        admission=admission,
        intents=intents,
        observer=observer,
        background=background,
        freezing=freezing,
        home_use=home_use,
        memory=memory,
        rescue=rescue,
        gate=GateService(
            database,
            settings,
            launcher,
            catalogue,
            names.instance,
            names.all,
            revoker.note_admitted,
            activity.note_person,
            last_seen,
            live.entrances,
            Visits(freezing),
        ),
        revoker=revoker,
        make_doctor=make_doctor,
        make_drill=make_drill,
        make_importing=make_importing,
        idle=idle,
        idle_policy=idle_policy,
        instances=instances,
        keeping=KeepService(database, settings.idle, idle, activity, freezing),
        lab_capacity=lab_capacity,
        labs=LabService(database, LabMails(settings, mail)),
        layers=layers,
        libraries=libraries,
        instance_logs=logs,
        last_seen=last_seen,
        live=live,
        offers=offers,
        listings=ListingService(database),
        logins=logins,
        passkeys=PasskeyService(database, settings, logins, mail),
        policy_replay=PolicyReplayService(
            database,
            longest_gap(settings.activity.sample_seconds),
            settings.idle.settle,
            frees_memory=settings.freezing.memory == "held",
        ),
        reports=reports,
        shares=shares,
        snapshots=home_snapshots,
        sign_in=SignInService(database, settings, mail, homes, logins, state.key("codes")),
        sweep=sweep,
        tokens=TokenService(database, live.signed_in, last_seen),
        users=them,
        home_work=home_work,
        leaving=leaving,
    )
