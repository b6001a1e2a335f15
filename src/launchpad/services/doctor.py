"""Looks at everything the platform depends on, and says what to do about what is wrong.

It mends no more than a sweep does.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from ..domain.environments import Environment
from ..domain.signin import normalise_address
from ..errors import ImageMissing, InvalidInput, LaunchpadError
from ..mail.messages import probe_mail
from ..runtime.base import Runtime
from ..settings import Settings
from ..storage.base import Homes
from ..store.database import Database
from .images import ImageService
from .mailing import MailQueue

PATIENCE_SECONDS = 15.0


class Level(StrEnum):
    """`BAD`: something does not work, or a promise of docs/security.md does not hold. `WARN`: it could be better."""

    OK = "ok"
    WARN = "warn"
    BAD = "bad"


@dataclass(frozen=True)
class Finding:
    """`text` says what was found, `remedy` what to do about it (empty when nothing is to be done)."""

    level: Level
    subject: str
    text: str
    remedy: str = ""


class Doctor:
    def __init__(
        self,
        database: Database,
        settings: Settings,
        runtime: Runtime,
        homes: Homes,
        images: ImageService,
        mail: MailQueue,
        catalogue: Mapping[str, Environment],
    ) -> None:
        self._database = database
        self._settings = settings
        self._runtime = runtime
        self._homes = homes
        self._images = images
        self._mail = mail
        self._catalogue = catalogue

    async def examine(self) -> list[Finding]:
        """Every finding, in a fixed order. What does not answer in time is a finding, too."""
        found: list[Finding] = []
        for subject, look in (
            ("origins", self._origins),
            ("sign-in", self._sign_in),
            ("database", self._store),
            ("engine", self._engine),
            ("network", self._network),
            ("connections", self._connections),
            ("images", self._all_images),
            ("homes", self._all_homes),
            ("mail", self._mail_server),
        ):
            try:
                async with asyncio.timeout(PATIENCE_SECONDS):
                    found += await look(subject)
            except LaunchpadError as error:
                found.append(Finding(Level.BAD, subject, error.detail))
            except TimeoutError:
                text = f"No answer within {PATIENCE_SECONDS:.0f} seconds."
                found.append(Finding(Level.BAD, subject, text, "Look at the logs of what is asked here."))
        return found

    async def send_mail(self, to: str, now: datetime) -> str:
        """Hands a test mail over; returns what to look for where it should arrive.

        Raises:
            InvalidInput: `to` is no address that could sign in anywhere.
            MailUnavailable: the mail server did not take it; the text says at which step.
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
        )
        await self._mail.send_now(message)
        if not rules.host:
            return f"No mail server is set: the mail is a file in {self._settings.state_dir / 'outbox'}."
        domain = rules.from_address.rpartition("@")[2]
        return (
            f"{rules.host} took the mail to {to}. If it does not arrive, or as spam: SPF and DKIM of {domain} have to "
            f"name {rules.host}; where it bounces, the report goes to {rules.from_address}."
        )

    async def _origins(self, subject: str) -> list[Finding]:
        settings = self._settings
        if settings.public_url == settings.instances_url:
            return [
                Finding(
                    Level.BAD,
                    subject,
                    "Semi-trusted mode: portal and instances share one origin, so what runs in an instance can act at "
                    "the portal in the name of its user.",
                    "Set instances_url to another host name, or to a host name for each instance.",
                )
            ]
        if not settings.is_https and not _is_local(settings.public_url):
            return [
                Finding(
                    Level.BAD,
                    subject,
                    "Everything, codes and cookies among it, crosses the network in the clear.",
                    "Set public_url and instances_url to https, with tls.certificate and tls.key.",
                )
            ]
        portal, instances = settings.public_url.split("/")[2], settings.instances_url.split("/")[2]
        if portal.partition(":")[0] == instances.partition(":")[0] and not settings.is_https:
            return [
                Finding(
                    Level.WARN,
                    subject,
                    "Two ports of one host over plain http: a script in an instance can plant cookies for the portal "
                    "in its own user's browser.",
                    "Fine for a trial; else use two host names and https.",
                )
            ]
        kind = "a host name for each instance" if settings.instances.is_wildcard else "two origins"
        return [Finding(Level.OK, subject, f"Portal and instances are apart: {kind}.")]

    async def _sign_in(self, subject: str) -> list[Finding]:
        rules = self._settings.sign_in
        if not rules.allowed_domains:
            text = "Anybody with an e-mail address can sign in and launch."
            return [Finding(Level.WARN, subject, text, "Name your institute's domains in sign_in.allowed_domains.")]
        return [Finding(Level.OK, subject, f"For addresses at {', '.join(rules.allowed_domains)}.")]

    async def _store(self, subject: str) -> list[Finding]:
        await self._database.ping()
        return [Finding(Level.OK, subject, "It answers.")]

    async def _engine(self, subject: str) -> list[Finding]:
        host = await self._runtime.host()
        return [Finding(Level.OK, subject, f"Version {host.engine_version}, {host.cpus} cores.")]

    async def _network(self, subject: str) -> list[Finding]:
        await self._runtime.mend_network()
        if self._settings.egress.rules == "off":
            return [
                Finding(
                    Level.WARN,
                    subject,
                    "Instances reach this server and whatever it reaches: egress.rules is “off”.",
                    "Take that setting away, unless another firewall keeps them in.",
                )
            ]
        return [Finding(Level.OK, subject, "Instances reach neither this server nor private networks.")]

    async def _connections(self, subject: str) -> list[Finding]:
        if await self._runtime.can_cut():
            return [Finding(Level.OK, subject, "Open connections end when a way into an instance ends.")]
        return [
            Finding(
                Level.BAD,
                subject,
                "Open connections outlive sign-out and suspension: they cannot be cut here.",
                "It needs root, the program ss (package iproute2) and a kernel with INET_DIAG_DESTROY.",
            )
        ]

    async def _all_images(self, subject: str) -> list[Finding]:
        found = []
        for environment in self._catalogue.values():
            remedy = "“launchpad images pull” gets it, “launchpad images build” makes one."
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
        if not self._homes.enforces_limits:
            return [
                Finding(
                    Level.WARN,
                    subject,
                    f"Homes can be made in {self._settings.homes.root}, and grow without limit.",
                    "On btrfs, “btrfs quota enable” lets the platform limit them.",
                )
            ]
        return [Finding(Level.OK, subject, f"Homes can be made in {self._settings.homes.root}, and are limited.")]

    async def _mail_server(self, subject: str) -> list[Finding]:
        if not self._settings.mail.host:
            text = "No mail server is set: codes go to the outbox, and whoever reads it can sign in as anybody."
            return [Finding(Level.WARN, subject, text, "Set [mail].")]
        await self._mail.check()
        return [Finding(Level.OK, subject, f"{self._settings.mail.host} takes connections and the log-in.")]


def _is_local(url: str) -> bool:
    host = url.split("/")[2].rpartition(":")[0] or url.split("/")[2]
    return host in ("localhost", "127.0.0.1", "[::1]") or host.endswith(".localhost")
