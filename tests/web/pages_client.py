"""The whole portal in this process, without engine, mail server or nginx, and a browser that knows no scripts."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.message import EmailMessage
from functools import cached_property
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import httpx

from launchpad.domain.instances import Instance, State
from launchpad.errors import MailUnavailable
from launchpad.mail.messages import code_of
from launchpad.platform import Platform
from launchpad.runtime.fake import FakeRuntime
from launchpad.services.runner import utc_now
from launchpad.settings import tables
from launchpad.storage.base import DiskSpace, HomeUse
from launchpad.storage.plain import PlainHomes
from launchpad.storage.snapshots import Snapshots
from launchpad.web.app import create_app
from launchpad.web.cookies import CookieNames
from launchpad.wiring import build_platform
from support.databases import databases
from support.platforms import sign_in

PUBLIC_URL = "http://localhost:18080"
INSTANCES_URL = "http://localhost:18081"
ADMIN = "admin@example.org"
PATIENCE_SECONDS = 10


class Letters:
    """A mailer that keeps what it is given; `refusing` stands for a mail server that does not answer."""

    def __init__(self) -> None:
        self.sent: list[EmailMessage] = []
        self.refusing = False

    async def send(self, message: EmailMessage) -> None:
        if self.refusing:
            raise MailUnavailable("The mail server does not answer.", permanent=True)
        self.sent.append(message)

    async def check(self) -> None:
        if self.refusing:
            raise MailUnavailable("The mail server does not answer.")

    def newest_code(self, address: str) -> str:
        code = next(code_of(letter) for letter in reversed(self.sent) if letter["To"] == address)
        assert code is not None
        return code


class DirectoryHomes:
    """Homes as plain directories, their users' where root runs the tests."""

    enforces_limits = False

    def __init__(self, root: Path) -> None:
        self.root = root
        self.used_bytes: int | None = None
        self.limit_bytes: int | None = None
        self.disk_used_bytes = 100 * 1024**3
        self.uses: dict[str, HomeUse] = {}  # of those that a test tells apart

    def path_of(self, username: str) -> Path:
        return self.root / username

    async def exists(self, username: str) -> bool:
        return await asyncio.to_thread(self.path_of(username).exists)

    async def owners(self) -> set[int]:
        return set()

    async def prepare(self, username: str, uid: int, limit_bytes: int | None) -> Path:
        home = self.path_of(username)
        await asyncio.to_thread(home.mkdir, mode=0o700, parents=True, exist_ok=True)
        if os.geteuid() == 0:
            os.chown(home, uid, uid)
        return home

    async def stage(self, username: str, uid: int, beside: str) -> None:
        await PlainHomes(self.root).stage(username, uid, beside)

    async def use(self, username: str) -> HomeUse:
        return self.uses.get(username, HomeUse(self.used_bytes, self.limit_bytes, 900 * 1024**3))

    async def measure(self, username: str) -> HomeUse:
        return await self.use(username)

    async def disk(self) -> DiskSpace:
        size = 1000 * 1024**3
        return DiskSpace(size, self.disk_used_bytes, size - self.disk_used_bytes)

    async def check(self) -> None:
        return None


@dataclass
class Element:
    """One element of a page: its attributes and the text in it."""

    tag: str
    attributes: dict[str, str | None]
    words: list[str]  # of the whole page
    begin: int
    end: int | None = None

    @cached_property
    def text(self) -> str:
        return "".join(self.words[self.begin : self.end])


@dataclass
class Form:
    """A form as a browser would send it: hidden, filled-in and chosen fields."""

    action: str
    method: str
    fields: dict[str, str] = field(default_factory=dict)


_WITHIN_WORDS = {"strong", "em", "a", "code", "wbr"}


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.elements: list[Element] = []
        self.forms: list[Form] = []
        self._words: list[str] = []
        self._form: Form | None = None
        self._open: list[Element] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        element = Element(tag, dict(attrs), self._words, len(self._words))
        self.elements.append(element)
        self._open.append(element)
        self.handle_data(" " if tag not in _WITHIN_WORDS else "")
        given = element.attributes
        if tag == "form":
            self._form = Form(given.get("action") or "", (given.get("method") or "get").lower())
            self.forms.append(self._form)
        elif tag == "input" and self._form and given.get("name") and "disabled" not in given:
            chosen = given.get("type") not in ("radio", "checkbox") or "checked" in given
            if chosen:
                self._form.fields[str(given["name"])] = given.get("value") or ""

    def handle_endtag(self, tag: str) -> None:
        if tag == "form":
            self._form = None
        while self._open:
            element = self._open.pop()
            element.end = len(self._words)
            if element.tag == tag:
                break

    def handle_data(self, data: str) -> None:
        self._words.append(data)


@dataclass
class Page:
    """A page as it was answered; it is read when a test looks at it."""

    response: httpx.Response

    @cached_property
    def _read(self) -> _Reader:
        reader = _Reader()
        reader.feed(self.response.text)
        return reader

    @property
    def elements(self) -> list[Element]:
        return self._read.elements

    @property
    def forms(self) -> list[Form]:
        return self._read.forms

    @property
    def status(self) -> int:
        return self.response.status_code

    @property
    def path(self) -> str:
        return str(self.response.url.raw_path, "ascii")

    @property
    def words(self) -> str:
        """The text of the main part, blanks made one."""
        return " ".join(next(element.text for element in self.elements if element.tag == "main").split())

    def by_id(self, id: str) -> Element:
        return next(element for element in self.elements if element.attributes.get("id") == id)

    def has(self, id: str) -> bool:
        return any(element.attributes.get("id") == id for element in self.elements)

    def text_of(self, id: str) -> str:
        return " ".join(self.by_id(id).text.split())

    def form(self, action: str, **fields: str) -> Form:
        """The form that is sent to `action`; among several, the one with those fields."""
        wanted = fields.items()
        return next(one for one in self.forms if one.action == action and wanted <= one.fields.items())


class Person:
    """Somebody at a browser without scripts: follows redirects, keeps cookies, sends forms as they stand."""

    def __init__(self, portal: Portal, address: str) -> None:
        self.portal = portal
        self.address = address
        self.http = httpx.AsyncClient(
            transport=httpx.ASGITransport(app=portal.app, client=("192.0.2.7", 4711)),
            base_url=portal.url,
            headers={"Accept": "text/html", "User-Agent": "Mozilla/5.0 (X11; Linux x86_64) Firefox/140.0"},
            follow_redirects=True,
        )

    async def get(self, path: str) -> Page:
        return Page(await self.http.get(path))

    async def send(self, form: Form, **changes: str) -> Page:
        """Sends a form of a page, with some fields filled in otherwise."""
        assert form.method == "post"
        headers = {"Origin": self.portal.url}
        return Page(await self.http.post(form.action, data={**form.fields, **changes}, headers=headers))

    async def sign_in(self) -> Page:
        """The dashboard, with the cookie of a login that nobody had to type a code for."""
        _, secret = await sign_in(self.portal.platform, self.address, client="192.0.2.7")
        self.http.cookies.set(CookieNames.of(self.portal.platform.settings).login, secret)
        page = await self.get("/dashboard")
        assert page.path == "/dashboard", page.words
        return page

    async def sign_in_with_code(self) -> Page:
        """As a person does it."""
        code_page = await self.send((await self.get("/sign-in")).form("/sign-in"), email=self.address)
        await self.portal.platform.mail.drain()
        code = self.portal.letters.newest_code(self.address)
        page = await self.send(code_page.form("/sign-in/code"), code=code)
        assert page.path == "/dashboard", page.words
        return page

    async def launch(self, environment: str, **size: str) -> Page:
        page = await self.get("/dashboard")
        return await self.send(page.form("/instances", environment=environment), **size)

    async def running(self, environment: str = "jupyterlab") -> Instance:
        """Launches one and waits until it runs."""
        page = await self.launch(environment)
        assert page.status == 200, page.words
        await self.portal.platform.runner.wait()
        instance = (await self.instances())[0]
        assert instance.state is State.RUNNING, instance.reason
        return instance

    async def stopped(self, environment: str = "jupyterlab", **size: str) -> Instance:
        """Launches one with these choices, and stops it."""
        await self.launch(environment, **size)
        await self.portal.platform.runner.wait()
        instance = (await self.instances())[0]
        await self.send((await self.get("/dashboard")).form(f"/instances/{instance.id}/stop"))
        await self.portal.platform.runner.wait()
        return instance

    async def instances(self, *, with_ended: bool = False) -> list[Instance]:
        user = await self.portal.platform.users.by_email(self.address)
        return await self.portal.platform.instances.of_owner(user, with_ended=with_ended)


@dataclass
class SetClock:
    """A clock that tests set."""

    now: datetime = field(default_factory=lambda: datetime.now(UTC))

    def __call__(self) -> datetime:
        return self.now


@dataclass
class Portal:
    platform: Platform
    app: Any
    runtime: FakeRuntime
    letters: Letters
    homes: DirectoryHomes
    url: str = PUBLIC_URL
    people: list[Person] = field(default_factory=list)

    def person(self, address: str) -> Person:
        """Somebody new at a browser of their own, not signed in."""
        self.people.append(Person(self, address))
        return self.people[-1]

    async def measure_homes(self) -> None:
        """As the process that owns the work does, now and of everybody."""
        everybody = await self.platform.users.page(limit=1000)
        seen = {one.id: await self.homes.use(one.username) for one in everybody}
        await self.platform.home_use.keep(seen, self.platform.now())

    async def signed_in(self, address: str) -> Person:
        somebody = self.person(address)
        await somebody.sign_in()
        return somebody


@asynccontextmanager
async def open_portal(
    folder: Path,
    settings: Mapping[str, Any] | None = None,
    *,
    now: Callable[[], datetime] | None = None,
    letters: Letters | None = None,
    snapshots: Snapshots | None = None,
) -> AsyncIterator[Portal]:
    """The portal over a new database in `folder`; `settings` are put over those of the tests, `now` is its clock."""
    runtime, letters, homes = FakeRuntime("test"), letters or Letters(), DirectoryHomes(folder / "homes")
    given: dict[str, Any] = {
        "public_url": PUBLIC_URL,
        "instances_url": INSTANCES_URL,
        "state_dir": folder / "state",
        "admin_emails": [ADMIN],
        "homes": {"root": folder / "homes"},
        "limits": {"memory": ["1g", "2g", "4g"], "cpus": [1, 2], "default_memory": "2g", "default_cpus": 1},
    }
    platform = build_platform(
        tables({**given, **(settings or {})}),
        now=now or utc_now,
        runtime=runtime,
        homes=homes,
        snapshots=snapshots,
        mailer=letters,
    )
    app = create_app(platform)
    portal = Portal(platform, app, runtime, letters, homes)
    homes.root.mkdir(exist_ok=True)
    databases.url(platform.settings.state_dir)  # a migrated one, where the settings name no other
    async with app.router.lifespan_context(app):
        try:
            yield portal
        finally:
            runtime.release_starts()
            for person in portal.people:
                await person.http.aclose()
