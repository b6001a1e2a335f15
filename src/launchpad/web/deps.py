"""What routes depend on: the services they use, who is there, and what they may. Every route names one of the accesses.

All of them are `async`: FastAPI would start a thread for each that is not.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Annotated, Any
from urllib.parse import urlsplit

from fastapi import Depends, Request

from ..domain.environments import Environment
from ..domain.signin import Login
from ..domain.users import User
from ..errors import ConfirmAgain, Forbidden, NotSignedIn, StalePage
from ..platform import Platform
from ..services.activity import ActivityService
from ..services.announcements import AnnouncementService
from ..services.audit import Actor, AuditService
from ..services.bounces import BounceService
from ..services.extensions import ExtensionService
from ..services.files import FilesService
from ..services.freezing import FreezingService
from ..services.gate import GateService
from ..services.home_use import HomeUseService
from ..services.home_work import HomeWorkService
from ..services.idle import IdleService
from ..services.idle_keep import KeepService
from ..services.idle_policy import IdlePolicyService
from ..services.instance_logs import InstanceLogs
from ..services.instances import InstanceService
from ..services.lab_capacity import LabCapacityService
from ..services.labs import LabService
from ..services.leaving import LeavingService
from ..services.ledger import LedgerService
from ..services.libraries import LibraryService
from ..services.listings import ListingService
from ..services.live.streams import EventStreams
from ..services.logins import Client, LoginService
from ..services.mail_failures import MailFailureService
from ..services.mailing import MailQueue
from ..services.memory_rescue import MemoryRescue
from ..services.offers import OfferService
from ..services.passkeys import PasskeyService
from ..services.policy_replay import PolicyReplayService
from ..services.shares import ShareService
from ..services.signin import SignInService
from ..services.snapshots import SnapshotService
from ..services.tokens import TokenService
from ..services.users import UserService
from ..settings import Settings
from .cookies import CookieNames
from .views.presenter import Presenter

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
CSRF_HEADER = "X-CSRF-Token"
CSRF_FIELD = "csrf_token"


def platform_of(request: Request) -> Platform:
    platform: Platform = request.app.state.platform
    return platform


# -- services: a route takes those that it uses ------------------------------------------------------------------------


def _part(name: str) -> Any:
    """A dependency on one part of the platform, by its name there."""

    async def part(request: Request) -> Any:
        return getattr(platform_of(request), name)

    return Depends(part)


Announcements = Annotated[AnnouncementService, _part("announcements")]
Audit = Annotated[AuditService, _part("audit")]
Bounces = Annotated[BounceService, _part("bounces")]
Catalogue = Annotated[Mapping[str, Environment], _part("catalogue")]
Configured = Annotated[Settings, _part("settings")]
Events = Annotated[EventStreams, _part("events")]
Extensions = Annotated[ExtensionService, _part("extensions")]
HomeFiles = Annotated[FilesService, _part("files")]
Freezing = Annotated[FreezingService, _part("freezing")]
Gate = Annotated[GateService, _part("gate")]
HomeUses = Annotated[HomeUseService, _part("home_use")]
Activities = Annotated[ActivityService, _part("activity")]
Idle = Annotated[IdleService, _part("idle")]
HomeWorks = Annotated[HomeWorkService, _part("home_work")]
IdlePolicies = Annotated[IdlePolicyService, _part("idle_policy")]
Instances = Annotated[InstanceService, _part("instances")]
Keeping = Annotated[KeepService, _part("keeping")]
LabCapacities = Annotated[LabCapacityService, _part("lab_capacity")]
Labs = Annotated[LabService, _part("labs")]
Leavings = Annotated[LeavingService, _part("leaving")]
Ledger = Annotated[LedgerService, _part("ledger")]
Libraries = Annotated[LibraryService, _part("libraries")]
Listings = Annotated[ListingService, _part("listings")]
Logins = Annotated[LoginService, _part("logins")]
Logs = Annotated[InstanceLogs, _part("instance_logs")]
Mail = Annotated[MailQueue, _part("mail")]
MailFailures = Annotated[MailFailureService, _part("mail_failures")]
Offers = Annotated[OfferService, _part("offers")]
Rescue = Annotated[MemoryRescue, _part("rescue")]
Passkeys = Annotated[PasskeyService, _part("passkeys")]
PolicyReplays = Annotated[PolicyReplayService, _part("policy_replay")]
Shares = Annotated[ShareService, _part("shares")]
SignIn = Annotated[SignInService, _part("sign_in")]
SnapshotsOfHomes = Annotated[SnapshotService, _part("snapshots")]
Tokens = Annotated[TokenService, _part("tokens")]
Users = Annotated[UserService, _part("users")]


def presenter_of(request: Request) -> Presenter:
    presenter: Presenter = request.app.state.presenter
    return presenter


async def get_presenter(request: Request) -> Presenter:
    return presenter_of(request)


async def get_now(request: Request) -> datetime:
    return platform_of(request).now()


Present = Annotated[Presenter, Depends(get_presenter)]
Now = Annotated[datetime, Depends(get_now)]


# -- who is there ------------------------------------------------------------------------------------------------------


def client_of(request: Request) -> Client:
    """Where the request came from. nginx alone reaches the Unix socket, and sets the address from the connection."""
    peer = request.client
    address = peer.host if peer is not None else request.headers.get("X-Forwarded-For", "unknown")
    known_browser = request.cookies.get(CookieNames.of(platform_of(request).settings).known_browser, "")
    return Client(address[:64], request.headers.get("User-Agent", "")[:400], known_browser[:100])


async def get_client(request: Request) -> Client:
    return client_of(request)


FromClient = Annotated[Client, Depends(get_client)]


@dataclass(frozen=True)
class Visitor:
    """Somebody who is signed in: by a browser's login, or (then `login` is None) by a personal token.

    `csrf_token` is what every change has to carry along; empty with a token, which needs none.
    """

    user: User
    login: Login | None
    client: Client
    now: datetime
    csrf_token: str = ""

    @cached_property
    def actor(self) -> Actor:
        return Actor.of(self.user, self.client.address)


async def visitor_of(request: Request) -> Visitor | None:
    """Who is there, without demanding that somebody is."""
    platform = platform_of(request)
    now = platform.now()
    authorization = request.headers.get("Authorization", "")
    if authorization:
        scheme, _, secret = authorization.partition(" ")
        user = await platform.tokens.authenticate(secret.strip(), now) if scheme.lower() == "bearer" else None
        return Visitor(user, None, client_of(request), now) if user else None
    found = await platform.logins.authenticate(request.cookies.get(CookieNames.of(platform.settings).login), now)
    if found is None:
        return None
    user, login = found
    return Visitor(user, login, client_of(request), now, platform.logins.csrf_token(login))


async def find_visitor(request: Request) -> Visitor | None:
    return await visitor_of(request)


MaybeVisitor = Annotated[Visitor | None, Depends(find_visitor)]


async def allow_public() -> None:
    """Access `public`: anybody. A marker that the test of all routes looks for."""


async def require_user(request: Request, visitor: MaybeVisitor) -> Visitor:
    """Access `user`: somebody signed in; with a cookie, every change also carries the CSRF token.

    Raises:
        NotSignedIn: nobody is.
        Forbidden: the CSRF token is missing or wrong.
    """
    if visitor is None:
        raise NotSignedIn("Sign in first.")
    if visitor.login is not None and request.method not in SAFE_METHODS:
        token = request.headers.get(CSRF_HEADER)
        content_type = request.headers.get("Content-Type", "")
        if token is None and content_type.startswith(("application/x-www-form-urlencoded", "multipart/form-data")):
            field = (await request.form()).get(CSRF_FIELD)
            token = field if isinstance(field, str) else None
        if not platform_of(request).logins.csrf_matches(visitor.login, token):
            if token and not request.url.path.startswith("/api/"):
                raise StalePage(
                    "This page was from an earlier sign-in, so nothing was changed. It is up to date now; please try "
                    "again."
                )
            raise Forbidden(f"Nothing was changed: send {CSRF_HEADER} along, with the csrf_token of GET /api/v1/me.")
    return visitor


async def require_admin(visitor: Annotated[Visitor, Depends(require_user)], logins: Logins) -> Visitor:
    """Access `admin`: an administrator, who was not away from administering for too long.

    A personal token is as fresh as it is: it was made for scripts, where nobody could confirm anything.

    Raises:
        Forbidden: everybody else.
        ConfirmAgain: they have to show anew who they are, at `/confirm`.
    """
    if not visitor.user.is_admin:
        raise Forbidden("Only administrators may do this.")
    if visitor.login is not None:
        if not logins.is_fresh(visitor.login, visitor.now):
            raise ConfirmAgain("Your admin session timed out. Confirm your identity at /confirm. Nothing was changed.")
        await logins.keep_fresh(visitor.login, visitor.now)
    return visitor


CurrentUser = Annotated[Visitor, Depends(require_user)]
CurrentAdmin = Annotated[Visitor, Depends(require_admin)]
Public = Depends(allow_public)


async def require_own_origin(request: Request) -> None:
    """For the calls that come before there is a login: a browser must send them from the portal's own pages.

    Raises:
        Forbidden: another site's page sent it.
    """
    if not is_from_own_pages(request):
        raise Forbidden("This must be sent from the platform's own pages.")


def is_from_own_pages(request: Request) -> bool:
    """Whether a browser sent it from the portal's pages, or a program that tells nothing."""
    origin = request.headers.get("Origin")
    if origin is not None:
        return _normal(origin) == platform_of(request).settings.public_url
    return request.headers.get("Sec-Fetch-Site", "none") in ("none", "same-origin")


FromOwnPages = Depends(require_own_origin)


def _normal(origin: str) -> str:
    parts = urlsplit(origin)
    default = {"http": ":80", "https": ":443"}.get(parts.scheme, "")
    return f"{parts.scheme}://{parts.netloc.removesuffix(default)}".lower()
