"""The whole platform in one typed value: what `wiring` builds and `web` and `cli` work with."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import TYPE_CHECKING

from .domain.environments import Environment
from .runtime.base import Runtime
from .services.activity import ActivityService
from .services.admission import AdmissionService
from .services.announcements import AnnouncementService
from .services.audit import AuditService
from .services.audit_verification import AuditVerifier
from .services.background import Background
from .services.bounces import BounceService
from .services.extensions import ExtensionService
from .services.files import FilesService
from .services.freezing import FreezingService
from .services.gate import GateService
from .services.home_use import HomeUseService
from .services.home_work import HomeWorkService
from .services.idle import IdleService
from .services.idle_keep import KeepService
from .services.idle_policy import IdlePolicyService
from .services.images import ImageService
from .services.instance_logs import InstanceLogs
from .services.instances import InstanceService
from .services.intents import IntentWatcher
from .services.lab_capacity import LabCapacityService
from .services.labs import LabService
from .services.last_seen import LastSeen
from .services.layers import LayerWatch
from .services.leaving import LeavingService
from .services.ledger import LedgerService
from .services.libraries import LibraryService
from .services.listings import ListingService
from .services.live import Live
from .services.live.streams import EventStreams
from .services.logins import LoginService
from .services.mail_failures import MailFailureService
from .services.mailing import MailQueue
from .services.memory import MemoryService
from .services.memory_rescue import MemoryRescue
from .services.observer import Observer
from .services.offers import OfferService
from .services.passkeys import PasskeyService
from .services.policy_replay import PolicyReplayService
from .services.reports import ReportService
from .services.revoker import ConnectionRevoker
from .services.runner import InstanceRunner
from .services.shares import ShareService
from .services.signin import SignInService
from .services.snapshots import SnapshotService
from .services.sweep import SweepService
from .services.tokens import TokenService
from .services.users import UserService
from .services.warnings import WarningService
from .settings import Settings
from .storage.base import Homes
from .store.database import Database
from .store.lease import OwnerLease
from .store.statedir import StateDir

if TYPE_CHECKING:
    from .ops.doctor import Doctor
    from .ops.drill import DrillService
    from .ops.importing import ImportService


@dataclass(frozen=True)
class Platform:
    """Everything a process of the platform holds. `now` is the clock: aware UTC."""

    activity: ActivityService
    settings: Settings
    state: StateDir
    lease: OwnerLease
    now: Callable[[], datetime]
    catalogue: Mapping[str, Environment]
    database: Database
    runtime: Runtime
    homes: Homes
    mail: MailQueue
    mail_failures: MailFailureService
    bounces: BounceService
    events: EventStreams
    images: ImageService
    audit: AuditService
    audit_verifier: AuditVerifier
    ledger: LedgerService
    libraries: LibraryService
    announcements: AnnouncementService
    warnings: WarningService
    extensions: ExtensionService
    files: FilesService
    background: Background
    runner: InstanceRunner
    admission: AdmissionService
    intents: IntentWatcher
    observer: Observer
    freezing: FreezingService
    home_use: HomeUseService
    home_work: HomeWorkService
    leaving: LeavingService
    memory: MemoryService
    rescue: MemoryRescue
    gate: GateService
    revoker: ConnectionRevoker
    make_doctor: Callable[[], Doctor]
    make_drill: Callable[[], DrillService]
    make_importing: Callable[[], ImportService]
    idle: IdleService
    idle_policy: IdlePolicyService
    instances: InstanceService
    keeping: KeepService
    lab_capacity: LabCapacityService
    labs: LabService
    layers: LayerWatch
    instance_logs: InstanceLogs
    last_seen: LastSeen
    live: Live
    offers: OfferService
    listings: ListingService
    logins: LoginService
    passkeys: PasskeyService
    policy_replay: PolicyReplayService
    reports: ReportService
    sign_in: SignInService
    shares: ShareService
    snapshots: SnapshotService
    sweep: SweepService
    tokens: TokenService
    users: UserService

    @cached_property
    def doctor(self) -> Doctor:
        return self.make_doctor()

    @cached_property
    def drill(self) -> DrillService:
        return self.make_drill()

    @cached_property
    def importing(self) -> ImportService:
        return self.make_importing()

    async def start(self) -> None:
        """Opens what a portal needs, and begins with the background work.

        Raises:
            StoreUnavailable: the database cannot be opened.
        """
        await self.database.migrate()
        await self.lease.try_acquire()  # a portal that is alone owns the work from the beginning
        self.background.start()

    async def aclose(self) -> None:
        """Gives everything back, in the order that lets what is under way end well."""
        await self.background.aclose()
        await self.runner.aclose()
        await self.lease.aclose()  # another process may take over from now on
        await self.mail.aclose()
        await self.last_seen.settle()
        await self.activity.aclose()
        await self.files.aclose()
        await self.events.aclose()
        await self.live.aclose()
        await self.runtime.aclose()
        await self.database.aclose()
