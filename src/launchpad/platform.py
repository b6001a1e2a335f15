"""The whole platform in one typed value: what `wiring` builds and `web` and `cli` work with."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime

from .domain.environments import Environment
from .ops.doctor import Doctor
from .ops.drill import DrillService
from .ops.importing import ImportService
from .runtime.base import Runtime
from .services.audit import AuditService
from .services.background import Background
from .services.bounces import BounceService
from .services.gate import GateService
from .services.images import ImageService
from .services.instance_logs import InstanceLogs
from .services.instances import InstanceService
from .services.last_seen import LastSeen
from .services.live import Live
from .services.live.streams import EventStreams
from .services.logins import LoginService
from .services.mail_failures import MailFailureService
from .services.mailing import MailQueue
from .services.observer import Observer
from .services.offers import OfferService
from .services.passkeys import PasskeyService
from .services.reports import ReportService
from .services.revoker import ConnectionRevoker
from .services.runner import InstanceRunner
from .services.signin import SignInService
from .services.sweep import SweepService
from .services.tokens import TokenService
from .services.users import UserService
from .settings import Settings
from .storage.base import Homes
from .store.database import Database
from .store.statedir import StateDir


@dataclass(frozen=True)
class Platform:
    """Everything a process of the platform holds. `now` is the clock: aware UTC."""

    settings: Settings
    state: StateDir
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
    background: Background
    runner: InstanceRunner
    observer: Observer
    gate: GateService
    revoker: ConnectionRevoker
    doctor: Doctor
    drill: DrillService
    instances: InstanceService
    instance_logs: InstanceLogs
    last_seen: LastSeen
    live: Live
    offers: OfferService
    logins: LoginService
    passkeys: PasskeyService
    reports: ReportService
    sign_in: SignInService
    sweep: SweepService
    tokens: TokenService
    users: UserService
    importing: ImportService

    async def start(self) -> None:
        """Opens what a portal needs, and begins with the background work.

        Raises:
            StoreUnavailable: the database cannot be opened.
        """
        await self.database.migrate()
        self.background.start()

    async def aclose(self) -> None:
        """Gives everything back, in the order that lets what is under way end well."""
        await self.background.aclose()
        await self.runner.aclose()
        await self.mail.aclose()
        await self.last_seen.settle()
        await self.events.aclose()
        await self.live.aclose()
        await self.runtime.aclose()
        await self.database.aclose()
