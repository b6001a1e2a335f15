"""Who may reach an instance: one-time tickets, instance cookies, and the decision on every request nginx asks about."""

from __future__ import annotations

import html
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import NamedTuple
from urllib.parse import quote, unquote

from sqlalchemy.ext.asyncio import AsyncConnection

from ..domain.environments import CALL_STATUSES, CALLS_WHEN_ENDED, Environment
from ..domain.instances import Address, Instance, State
from ..domain.return_paths import LINK_MAX, as_parameter, from_parameter
from ..domain.signin import Login, new_secret, secret_digest
from ..domain.users import UserStatus
from ..errors import Conflict, NotFound
from ..settings import Settings
from ..store import gate, logins
from ..store.database import Database
from .audit import Actor
from .last_seen import SEEN_AGAIN_AFTER, LastSeen
from .launching import Launcher
from .live.entrances import Entrances
from .redirect_loops import RedirectLoops
from .visits import Visits

TICKET_SECONDS = 30
COOKIES_TRIED_MAX = 20  # of one name; a page of an instance can set any number of them

# What calls get that an open page makes by itself while its instance is frozen: pages ask less often then, and
# say nothing of it. At 424 and 503 JupyterLab says that it has lost its server.
NOT_NOW = 429

_CALL_STATUSES = frozenset(map(str, CALL_STATUSES))
# All that is printable and not to be encoded once more: an address as it was sent stays as it is.
_AS_SENT = "".join(chr(code) for code in range(0x21, 0x7F))


@dataclass(frozen=True)
class GateRequest:
    """What nginx tells about a request to the instances origin.

    `instance_id` is what nginx captured; `uri` is the raw one, which serves to build the address to come back to, and
    to tell whether a person does something. `quiet` is the value of the header by which its page says that none does.
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
    referer: str = ""
    quiet: str = ""

    @property
    def is_page_load(self) -> bool:
        if self.method != "GET" or self.is_upgrade:
            return False
        return self.fetch_mode == "navigate" if self.fetch_mode else "text/html" in self.accept

    @property
    def is_of_an_open_page(self) -> bool:
        """A call of a page that is open in a browser. (Over plain http browsers only say where they come from.)"""
        return not self.is_page_load and not self.is_upgrade and bool(self.fetch_mode or self.referer)


@dataclass(frozen=True)
class Decision:
    """204 lets it through; 401 (with a `location` for page loads), 403 and 404 do not.

    Attributes:
        call_status: what a page that is still open is told instead, since it would not understand `status`.
        is_for_now: the next request may be answered otherwise, so that nobody keeps the answer.
        is_too_long: the address is too long to be come back to after signing in.
        title, reason: of an instance that has ended, for its owner, as HTML.
    """

    status: int
    call_status: int | None = None
    is_for_now: bool = False
    is_too_long: bool = False
    title: str = ""
    reason: str = ""
    location: str | None = None
    upstream: str | None = None
    prefix: str | None = None
    cookie: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)


class Entrance(NamedTuple):
    """What a ticket became.

    Attributes:
        cookie: its value: a secret, and the status that calls of the instance's open pages get once it is over.
        goes_round: the browser was just let in here, several times, and never came with the cookie.
    """

    instance_id: str
    cookie: str
    goes_round: bool


class GateService:
    def __init__(
        self,
        database: Database,
        settings: Settings,
        launcher: Launcher,
        catalogue: Mapping[str, Environment],
        cookie_name: str,
        own_cookie_names: frozenset[str],
        note_admitted: Callable[[str, str, Address], None],
        note_person: Callable[[str, datetime], None],
        last_seen: LastSeen,
        entrances: Entrances,
        visits: Visits,
    ) -> None:
        self._database = database
        self._settings = settings
        self._launcher = launcher
        self._catalogue = catalogue
        self.cookie_name = cookie_name
        self._own_cookie_names = own_cookie_names
        self._note_admitted = note_admitted
        self._note_person = note_person
        self._last_seen = last_seen
        self._entrances = entrances
        self._visits = visits
        self._loops = RedirectLoops()

    async def ticket(self, instance: Instance, login: Login, next_path: str | None, now: datetime) -> str:
        """The address on the instances origin that lets this browser in, once, within TICKET_SECONDS.

        Args:
            next_path: a path inside the instance (`/lab/tree/a.ipynb?x=1`); None for the environment's start page.

        Raises:
            Conflict: the instance does not run.
            NotFound: the path leads out of the instance.
        """
        if instance.state is not State.RUNNING:
            raise Conflict(_why_not_open(instance))
        secret = new_secret()
        ticket = gate.Ticket(instance.id, login.id, now + timedelta(seconds=TICKET_SECONDS))
        async with self._database.transaction() as db:
            await gate.add_ticket(db, secret_digest(secret), ticket)
        environment = self._catalogue.get(instance.environment)
        start_path = environment.start_path if environment else "/"
        query = f"ticket={secret}&next={as_parameter(inside(next_path or start_path))}"
        return f"{self._settings.instances.enter_url(instance.id)}?{query}"

    async def enter(self, secret: str, now: datetime, at_host_of: str = "", path: str = "/") -> Entrance:
        """Takes a ticket, for the cookie that opens the instance from now on.

        Args:
            at_host_of: the instance whose own host name it was brought to; empty where there are no such names.
            path: where inside the instance the browser goes next.

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
            environment = await gate.environment_of(db, ticket.instance_id)
        goes_round = self._loops.enters(ticket.login_id, ticket.instance_id, path, now)
        return Entrance(ticket.instance_id, f"{cookie}.{self._call_status(environment)}", goes_round)

    async def _may_enter(self, db: AsyncConnection, ticket: gate.Ticket, now: datetime) -> bool:
        return now < ticket.expires_at and await logins.by_id(db, ticket.login_id) is not None

    async def decide(self, request: GateRequest, now: datetime) -> Decision:
        """Whether a request may reach the instance that nginx captured, and how it is passed on.

        Raises:
            EngineUnavailable, EngineRefused: the instance is frozen, and cannot go on now.
        """
        cookies, passed_on = self._split_cookies(request.cookie_header)
        row = await self._open_way(cookies, request.instance_id, now)
        if row is None:
            return self._nobody(request, cookies)
        if row.login_user_id != row.owner_id:
            return Decision(404)
        if not self._origin_is_ours(request):
            return Decision(403)
        environment = self._catalogue.get(row.environment)
        if row.instance_state != State.RUNNING or row.host is None or row.port is None or environment is None:
            return self._ended(request, row)
        if row.freeze_asked_at is not None and not await self._thaws(request, environment, row, now):
            return Decision(403, call_status=NOT_NOW, is_for_now=True)
        self._loops.works(row.login_id, request.instance_id)
        address = Address(row.host, row.port)
        self._note_admitted(request.instance_id, row.login_id, address)
        if self._is_persons_act(request, environment):
            self._note_person(request.instance_id, now)
        if now - row.login_last_seen_at > SEEN_AGAIN_AFTER:
            self._last_seen.login(row.login_id, None, now)
        values = self._launcher.placeholders(environment, request.instance_id, row.username, row.uid)
        return Decision(
            204,
            upstream=str(address),
            prefix=environment.prefix,
            cookie=passed_on,
            headers={name: values.fill(text) for name, text in environment.request_headers.items()},
        )

    def _is_persons_act(self, request: GateRequest, environment: Environment) -> bool:
        return environment.person.is_persons_act(
            request.method,
            self._path_inside(request),
            is_page_load=request.is_page_load,
            is_upgrade=request.is_upgrade,
            quiet=request.quiet,
        )

    async def _thaws(self, request: GateRequest, environment: Environment, row: gate.GateRow, now: datetime) -> bool:
        """Whether a request goes on to an instance that was frozen; nginx holds it until the instance goes on."""
        acts = self._is_persons_act(request, environment)
        owner = Actor(row.owner_email, user_id=row.owner_id)
        return await self._visits.may_pass(request.instance_id, owner, is_persons_act=acts, now=now)

    async def _open_way(self, cookies: Sequence[str], instance_id: str, now: datetime) -> gate.GateRow | None:
        """What the first cookie stands for that opens the instance; its owner's before anybody else's.

        A browser sends every cookie of the name whose path fits, the one with the longest path first, and pages of the
        instance can set some: none of them may hide the one that counts.
        """
        somebodys = None
        for value in cookies[:COOKIES_TRIED_MAX]:
            row = await self._entrances.of(secret_digest(_secret_of(value)), instance_id)
            if row is None:
                continue
            seen_at = self._last_seen.of_login(row.login_id, row.login_last_seen_at)
            if seen_at != row.login_last_seen_at:
                row = replace(row, login_last_seen_at=seen_at)
            if not grant_is_open(row, self._settings, now):
                continue
            if row.login_user_id == row.owner_id:
                return row
            somebodys = somebodys or row
        return somebodys

    def _nobody(self, request: GateRequest, cookies: Sequence[str]) -> Decision:
        """Without a valid cookie a page load is sent to the portal, and everything else refused.

        A guessed id gets the same answer as a real one: whether an instance exists is its owner's business. So what an
        open page is told depends on nothing but the cookie it comes with, which says what its application understands.
        """
        if not request.is_page_load:
            return Decision(401, call_status=_call_status_in(cookies) if request.is_of_an_open_page else None)
        path = self._path_inside(request)
        if len(path) > LINK_MAX:
            return Decision(401, is_too_long=True)
        page = "open" if len(cookies) <= COOKIES_TRIED_MAX else "cookies"
        return Decision(401, location=self._at_portal(request.instance_id, page, path))

    def _path_inside(self, request: GateRequest) -> str:
        """What was asked for inside the instance, as it was sent; empty where the raw address is not below it."""
        root = self._settings.instances.root_path(request.instance_id)
        if not request.uri.startswith(f"{root}/"):
            return ""
        return quote(request.uri.removeprefix(root).encode("latin-1"), safe=_AS_SENT)

    def _at_portal(self, instance_id: str, page: str, path: str) -> str:
        back = f"?next={as_parameter(path)}" if path else ""
        return f"{self._settings.public_url}/instances/{instance_id}/{page}{back}"

    def _ended(self, request: GateRequest, row: gate.GateRow) -> Decision:
        """Its owner learns why; a page of it that is still open, what makes its application stop and say so."""
        if not request.is_page_load:
            return Decision(404, call_status=self._call_status(row.environment) if request.is_of_an_open_page else None)
        environment = self._catalogue.get(row.environment)
        path = self._path_inside(request)
        return Decision(
            404,
            location=self._at_portal(request.instance_id, "open", path if len(path) <= LINK_MAX else ""),
            title=_as_html(environment.title if environment else row.environment),
            reason=_as_html(_sentence(row.reason or "")),
        )

    def _call_status(self, environment: str | None) -> int:
        known = self._catalogue.get(environment or "")
        return known.calls_when_ended if known else CALLS_WHEN_ENDED

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

    def _split_cookies(self, header: str) -> tuple[list[str], str]:
        """The values of the instance cookie, each once, and the header without any cookie of the platform.

        Others are passed on as they came.
        """
        values: dict[str, None] = {}
        others: list[str] = []
        for pair in header.split(";"):
            name, _, value = pair.strip().partition("=")
            if name in self._own_cookie_names:
                if name == self.cookie_name and value:
                    values[value] = None
            elif pair.strip():
                others.append(pair.strip())
        return list(values), "; ".join(others)


def _why_not_open(instance: Instance) -> str:
    """Why an instance that does not run cannot be opened, and what to do."""
    if instance.state in (State.QUEUED, State.STARTING):
        return f"The instance is {instance.state}; wait until it is running."
    reason = f": {instance.reason}" if instance.reason else ""
    if instance.state is State.STOPPING:
        return f"The instance is being stopped{reason}. Launch a new one."
    ended = f" on {instance.ended_at:%-d %B %Y, %H:%M} UTC" if instance.ended_at else ""
    return f"The instance ended{ended}{reason}. Launch a new one."


def grant_is_open(row: gate.GateRow | gate.ActiveGrant, settings: Settings, now: datetime) -> bool:
    """Whether the login that was let in still is one, and its user may be here."""
    if row.login_expires_at is None or row.login_last_seen_at is None:
        return False
    rested = row.login_remembered or now - row.login_last_seen_at < timedelta(hours=settings.sign_in.login_idle_hours)
    return now < row.login_expires_at and bool(rested) and row.user_status == UserStatus.ACTIVE


def _secret_of(cookie: str) -> str:
    return cookie.partition(".")[0]


def _call_status_in(cookies: Sequence[str]) -> int | None:
    """What the cookie itself says that its instance's pages understand; nobody else knows once the login is over."""
    for value in cookies[:COOKIES_TRIED_MAX]:
        said = value.rpartition(".")[2]
        if said in _CALL_STATUSES:
            return int(said)
    return None


def _as_html(text: str) -> str:
    """`text` as a header that nginx puts into its page: nothing but ASCII, and no markup."""
    plain = "".join(sign if sign.isprintable() else " " for sign in text[:400])
    return html.escape(plain).encode("ascii", "xmlcharrefreplace").decode()


def _sentence(reason: str) -> str:
    return reason[:1].upper() + reason[1:]


def inside(path: str) -> str:
    """A path that stays inside the instance: it begins with one slash, names no other host and does not climb.

    Args:
        path: as it came in a parameter `next`; a long one comes packed.

    Raises:
        NotFound: it does not.
    """
    try:
        path = from_parameter(path)
    except ValueError as error:
        raise NotFound("That is no path inside the instance.") from error
    unprintable = any(ord(sign) < 0x20 or ord(sign) == 0x7F for sign in path)
    # Browsers take a backslash for a slash, and %2e for a dot.
    steps = unquote(re.split(r"[?#]", path, maxsplit=1)[0]).replace("\\", "/").split("/")
    if not path.startswith("/") or path.startswith(("//", "/\\")) or unprintable or ".." in steps:
        raise NotFound("That is no path inside the instance.")
    return path
