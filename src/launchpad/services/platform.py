"""The whole platform in one typed value: what `wiring` builds and `web` and `cli` work with."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime

from ..domain.environments import Environment
from ..runtime.base import Runtime
from ..settings import Settings
from ..storage.base import Homes
from ..store.database import Database
from ..store.statedir import StateDir
from .audit import AuditService
from .bounces import BounceService
from .carrier import Carrier
from .doctor import Doctor
from .doorkeeper import Doorkeeper
from .drill import DrillService
from .gate import GateService
from .images import ImageService
from .importing import ImportService
from .instance_logs import InstanceLogs
from .instances import InstanceService
from .logins import LoginService
from .mail_failures import MailFailureService
from .mailing import MailQueue
from .observer import Observer
from .offers import OfferService
from .passkeys import PasskeyService
from .reports import ReportService
from .signin import SignInService
from .sweep import SweepService
from .tokens import TokenService
from .users import UserService


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
    images: ImageService
    audit: AuditService
    carrier: Carrier
    observer: Observer
    gate: GateService
    doorkeeper: Doorkeeper
    doctor: Doctor
    drill: DrillService
    instances: InstanceService
    instance_logs: InstanceLogs
    offers: OfferService
    logins: LoginService
    passkeys: PasskeyService
    reports: ReportService
    sign_in: SignInService
    sweep: SweepService
    tokens: TokenService
    users: UserService
    importing: ImportService

    async def aclose(self) -> None:
        """Gives everything back, in the order that lets what is under way end well."""
        await self.observer.aclose()
        await self.carrier.aclose()
        await self.mail.aclose()
        await self.logins.settle()
        await self.runtime.aclose()
        await self.database.aclose()
