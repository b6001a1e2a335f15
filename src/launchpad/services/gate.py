"""Who may reach an instance: one-time tickets, instance cookies, and the decision on every request nginx asks about."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from urllib.parse import quote, unquote, urlencode

from sqlalchemy.ext.asyncio import AsyncConnection

from ..domain.environments import Environment
from ..domain.instances import Address, Instance, State
from ..domain.signin import Login, new_secret, secret_digest
from ..domain.users import UserStatus
from ..errors import Conflict, NotFound
from ..settings import Settings
from ..store import gate, logins
from ..store.database import Database
from .launching import Launcher
from .logins import SEEN_AGAIN_AFTER, LoginService

TICKET_SECONDS = 30


@dataclass(frozen=True)
class GateRequest:
    """What nginx tells about a request to the instances origin.

    `instance_id` is what nginx captured; `uri` is the raw one, which only serves to build the address to come back to.
    """

    instance_id: str
    uri: str
    method: str
    cookie_header: str
    origin: str
    is_upgrade: bool
    fetch_mode: str
    fetch_site: str
    accept: str

    @property
    def is_page_load(self) -> bool:
        if self.method != "GET" or self.is_upgrade:
            return False
        return self.fetch_mode == "navigate" if self.fetch_mode else "text/html" in self.accept


@dataclass(frozen=True)
class Decision:
    """204 lets it through; 401 (with a `location` for page loads), 403 and 404 do not."""

    status: int
    location: str | None = None
    upstream: str | None = None
    prefix: str | None = None
    cookie: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)


class GateService:
    def __init__(
        self,
        database: Database,
        settings: Settings,
        launcher: Launcher,
        catalogue: Mapping[str, Environment],
        cookie_name: str,
        own_cookie_names: frozenset[str],
        let_in: Callable[[str, str, Address], None],
        logins: LoginService,
    ) -> None:
        self._database = database
        self._settings = settings
        self._launcher = launcher
        self._catalogue = catalogue
        self.cookie_name = cookie_name
        self._own_cookie_names = own_cookie_names
        self._let_in = let_in
        self._logins = logins
        self._looking: dict[tuple[str, str], asyncio.Task[gate.GateRow | None]] = {}

    async def ticket(self, instance: Instance, login: Login, next_path: str | None, now: datetime) -> str:
        """The address on the instances origin that lets this browser in, once, within TICKET_SECONDS.

        Args:
            next_path: a path inside the instance (`/lab/tree/a.ipynb?x=1`); None for the environment's start page.

        Raises:
            Conflict: the instance does not run.
        """
        if instance.state is not State.RUNNING:
            raise Conflict(_why_not_open(instance))
        secret = new_secret()
        ticket = gate.Ticket(instance.id, login.id, now + timedelta(seconds=TICKET_SECONDS))
        async with self._database.transaction() as db:
            await gate.add_ticket(db, secret_digest(secret), ticket)
        environment = self._catalogue.get(instance.environment)
        start_path = environment.start_path if environment else "/"
        query = urlencode({"ticket": secret, "next": inside(next_path or start_path)})
        return f"{self._settings.instances.enter_url(instance.id)}?{query}"

    async def enter(self, secret: str, now: datetime, at_host_of: str = "") -> tuple[str, str]:
        """Takes a ticket; the instance's id and the value of the cookie that opens it from now on.

        Args:
            at_host_of: the instance whose own host name it was brought to; empty where there are no such names.

        Raises:
            NotFound: the ticket was used, is too old, or never was.
        """
        cookie = new_secret()
        async with self._database.transaction() as db:
            ticket = await gate.take_ticket(db, secret_digest(secret))
            elsewhere = ticket is not None and at_host_of not in ("", ticket.instance_id)
            if ticket is None or elsewhere or not await self._may_enter(db, ticket, now):
                raise NotFound("This link was used already or is too old. Open the instance from your dashboard.")
            await gate.add_grant(db, secret_digest(cookie), ticket.instance_id, ticket.login_id, now)
        return ticket.instance_id, cookie

    async def _may_enter(self, db: AsyncConnection, ticket: gate.Ticket, now: datetime) -> bool:
        return now < ticket.expires_at and await logins.by_id(db, ticket.login_id) is not None

    async def decide(self, request: GateRequest, now: datetime) -> Decision:
        """Whether a request may reach the instance that nginx captured, and how it is passed on."""
        cookies, passed_on = self._split_cookies(request.cookie_header)
        secret = cookies.get(self.cookie_name)
        row = None
        if secret:
            row = await self._look_up(secret_digest(secret), request.instance_id)
        if row is None or not way_is_open(row, self._settings, now):
            return await self._nobody(request)
        if row.login_user_id != row.owner_id:
            return Decision(404)
        if not self._origin_is_ours(request):
            return Decision(403)
        environment = self._catalogue.get(row.environment)
        if row.instance_state != State.RUNNING or row.host is None or row.port is None or environment is None:
            return Decision(404)
        self._let_in(request.instance_id, row.login_id, Address(row.host, row.port))
        if now - row.login_last_seen_at > SEEN_AGAIN_AFTER:
            self._logins.note_seen(row.login_id, None, now)
        values = self._launcher.placeholders(environment, request.instance_id, row.username, row.uid)
        return Decision(
            204,
            upstream=f"{row.host}:{row.port}",
            prefix=environment.prefix,
            cookie=passed_on,
            headers={name: values.fill(text) for name, text in environment.request_headers.items()},
        )

    async def _look_up(self, digest: str, instance_id: str) -> gate.GateRow | None:
        """What the store says of a cookie. A page that asks for thirty files at once has it looked up once."""
        key = (digest, instance_id)
        under_way = self._looking.get(key)
        if under_way is None:
            under_way = self._looking[key] = asyncio.create_task(self._read(digest, instance_id))
            under_way.add_done_callback(lambda _: self._looking.pop(key, None))
        return await asyncio.shield(under_way)  # who hangs up takes the answer from nobody else

    async def _read(self, digest: str, instance_id: str) -> gate.GateRow | None:
        async with self._database.reading() as db:
            return await gate.decide(db, digest, instance_id)

    async def _nobody(self, request: GateRequest) -> Decision:
        """Without a valid cookie a page load is sent to the portal, and everything else refused.

        A guessed id gets the same answer as a real one: whether an instance exists is its owner's business.
        """
        if not request.is_page_load:
            return Decision(401)
        root = self._settings.instances.root_path(request.instance_id)
        back = f"?next={quote(request.uri.removeprefix(root), safe='')}" if request.uri.startswith(f"{root}/") else ""
        return Decision(401, location=f"{self._settings.public_url}/instances/{request.instance_id}/open{back}")

    def _origin_is_ours(self, request: GateRequest) -> bool:
        """WebSockets and changes are only taken from the instances' own pages.

        nginx injects log-ins, which switches off the applications' own checks, so the check has to be here.
        """
        changes = request.method not in ("GET", "HEAD", "OPTIONS")
        if not (request.is_upgrade or changes):
            return True
        if request.origin:
            return request.origin.lower() == self._settings.instances.of(request.instance_id)
        return request.fetch_site in ("", "same-origin", "none")

    def _split_cookies(self, header: str) -> tuple[dict[str, str], str]:
        """The platform's cookies, and the header without them, to be passed on. Others are passed on as they came."""
        own: dict[str, str] = {}
        others: list[str] = []
        for pair in header.split(";"):
            name, _, value = pair.strip().partition("=")
            if name in self._own_cookie_names:
                own.setdefault(name, value)
            elif pair.strip():
                others.append(pair.strip())
        return own, "; ".join(others)


def _why_not_open(instance: Instance) -> str:
    """Why an instance that does not run cannot be opened, and what to do."""
    if instance.state in (State.QUEUED, State.STARTING):
        return f"The instance is {instance.state}; wait until it is running."
    reason = f": {instance.reason}" if instance.reason else ""
    if instance.state is State.STOPPING:
        return f"The instance is being stopped{reason}. Launch a new one."
    ended = f" on {instance.ended_at:%-d %B %Y, %H:%M} UTC" if instance.ended_at else ""
    return f"The instance ended{ended}{reason}. Launch a new one."


def way_is_open(row: gate.GateRow | gate.WayIn, settings: Settings, now: datetime) -> bool:
    """Whether the login that was let in still is one, and its user may be here."""
    if row.login_expires_at is None or row.login_last_seen_at is None:
        return False
    rested = row.login_remembered or now - row.login_last_seen_at < timedelta(hours=settings.sign_in.login_idle_hours)
    return now < row.login_expires_at and bool(rested) and row.user_status == UserStatus.ACTIVE


def inside(path: str) -> str:
    """A path that stays inside the instance: it begins with one slash, names no other host and does not climb.

    Raises:
        NotFound: it does not.
    """
    unprintable = any(ord(sign) < 0x20 or ord(sign) == 0x7F for sign in path)
    # Browsers take a backslash for a slash, and %2e for a dot.
    steps = unquote(re.split(r"[?#]", path, maxsplit=1)[0]).replace("\\", "/").split("/")
    if not path.startswith("/") or path.startswith(("//", "/\\")) or unprintable or ".." in steps:
        raise NotFound("That is no path inside the instance.")
    return path
