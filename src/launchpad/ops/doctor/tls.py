"""Where the host names lead, and which certificate nginx shows there."""

from __future__ import annotations

import asyncio
import socket
import ssl
import warnings
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from ipaddress import ip_address
from urllib.parse import urlsplit

from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256

from ...domain.naming import new_id
from ...settings import Settings
from .findings import INSTALL_GUIDE, Finding, Level, unseen

LOOPBACK = "127.0.0.1"
CONNECT_SECONDS = 5.0
RENEW = timedelta(days=21)  # certbot renews 30 days before the end of 90
RENEW_SHARE = 3  # of a shorter life: a third
CERTIFICATES = f"{INSTALL_GUIDE}, “Certificates”"


@dataclass(frozen=True)
class Place:
    """A host name that browsers are sent to, and its port."""

    host: str
    port: int

    @property
    def is_local(self) -> bool:
        return self.host == "localhost" or self.host.endswith(".localhost") or self.is_address

    @property
    def is_address(self) -> bool:
        with suppress(ValueError):
            ip_address(self.host)
            return True
        return False


@dataclass(frozen=True)
class Served:
    """A certificate as it was shown.

    Attributes:
        trusted: whether this server trusts who signed it; None: it is over anyway.
        must_staple: it asks browsers to refuse it without an OCSP answer, which nginx does not hand out.
    """

    names: tuple[str, ...]
    begins_at: datetime
    ends_at: datetime
    signs_itself: bool
    trusted: bool | None
    fingerprint: bytes
    must_staple: bool


def places(settings: Settings) -> list[Place]:
    """The portal's, and the instances' if it is another one; for a name each, one that is made up for the question."""
    found: list[Place] = []
    for url in (settings.public_url, settings.instances.of(new_id())):
        parts = urlsplit(url)
        place = Place(parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80))
        if place.host not in [each.host for each in found]:
            found.append(place)
    return found


async def resolved(host: str) -> list[str]:
    """The addresses that this server finds for a name; none where it finds none."""
    try:
        answers = await asyncio.get_running_loop().getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except OSError:  # gaierror: no such name, or no name server answers
        return []
    return list(dict.fromkeys(str(answer[4][0]) for answer in answers))


async def names(subject: str, settings: Settings) -> list[Finding]:
    """Whether the host names lead anywhere."""
    asked = [place.host for place in places(settings) if not place.is_local]
    if not asked:
        return [unseen(subject, "the addresses are local to this machine")]
    found: list[Finding] = []
    well = []
    for host in asked:
        addresses = await resolved(host)
        finding = judged_name(subject, host, addresses)
        if finding is None:
            well.append(f"{host} to {', '.join(addresses)}")
        else:
            found.append(finding)
    if well:
        found.append(Finding(Level.OK, subject, f"They resolve: {'; '.join(well)}."))
    return found


def judged_name(subject: str, host: str, addresses: Sequence[str]) -> Finding | None:
    """What is wrong with where a name leads."""
    if not addresses:
        text = f"{host} does not resolve on this server."
        remedy = "Add it to your DNS; with a host name for each instance, a wildcard (*.name)."
        return Finding(Level.WARN, subject, text, remedy)
    if all(ip_address(address.partition("%")[0]).is_loopback for address in addresses):
        text = (
            f"{host} resolves to {', '.join(addresses)} here, so how it resolves elsewhere cannot be checked from "
            "this server."
        )
        return Finding(
            Level.WARN, subject, text, f"Remove it from /etc/hosts, or check from another machine: “host {host}”."
        )
    return None


async def certificate(subject: str, settings: Settings, now: datetime) -> list[Finding]:
    """Asks this server's own nginx, as a browser would, and looks at what it shows."""
    if not settings.is_https:
        return [unseen(subject, "the addresses are plain http")]
    if settings.proxy.trusted:
        return [unseen(subject, "another proxy is in front of this server, with a certificate of its own")]
    found: list[Finding] = []
    seen: dict[bytes, Served] = {}
    for place in places(settings):
        try:
            served = await shown(place)
        except (OSError, TimeoutError) as error:  # refused, no TLS (ssl.SSLError), or no answer
            text = f"There is no TLS for {place.host} on {LOOPBACK}:{place.port} ({_kind(error)})."
            found.append(Finding(Level.BAD, subject, text, "Check “systemctl status nginx” and “nginx -t”."))
            continue
        except ValueError:  # of the library, for what no certificate may hold
            text = f"The certificate for {place.host} cannot be read."
            found.append(Finding(Level.BAD, subject, text, f"Get another one: {CERTIFICATES}."))
            continue
        if not covers(served.names, place.host):
            text = f"The certificate for {place.host} is for other names: {', '.join(served.names) or 'none'}."
            remedy = f"Get one for that name (for a host name for each instance, a wildcard): {CERTIFICATES}."
            found.append(Finding(Level.BAD, subject, text, remedy))
        seen.setdefault(served.fingerprint, served)
    for served in seen.values():
        found += judged(subject, served, now)
    old = await takes_old_tls(places(settings)[0]) if seen else None
    if old:
        text = "nginx also accepts TLS 1.0 or 1.1, whose ciphers are broken."
        remedy = "Remove “ssl_protocols” from /etc/nginx/nginx.conf and other sites, or set it to TLSv1.2 TLSv1.3."
        found.append(Finding(Level.BAD, subject, text, remedy))
    if any(finding.level is not Level.OK for finding in found) or not seen:
        return found
    until = min(served.ends_at for served in seen.values())
    protocols = "" if old is None else " Older versions than TLS 1.2 are refused."
    return [Finding(Level.OK, subject, f"Trusted, for the right names, until {until:%-d %B %Y}.{protocols}")]


def judged(subject: str, served: Served, now: datetime) -> list[Finding]:
    """What is wrong with a certificate itself."""
    found = []
    left, life = served.ends_at - now, served.ends_at - served.begins_at
    until = f"{served.ends_at:%-d %B %Y, %H:%M} UTC"
    renew = f"Renew it, then run launchpad-apply: {CERTIFICATES}. For Let's Encrypt: “certbot renew”."
    if left <= timedelta(0):
        found.append(Finding(Level.BAD, subject, f"It expired on {until}: browsers refuse to connect.", renew))
    elif served.begins_at > now:
        text = f"It is not valid before {served.begins_at:%-d %B %Y, %H:%M} UTC."
        found.append(
            Finding(
                Level.BAD,
                subject,
                text,
                "Check the clock of this server; otherwise wait, or get another certificate.",
            )
        )
    elif left < min(RENEW, life / RENEW_SHARE):
        found.append(Finding(Level.WARN, subject, f"It expires in {left.days} days, on {until}.", renew))
    if served.signs_itself:
        text = "It is self-signed: browsers warn about it, and people get used to ignoring warnings."
        found.append(
            Finding(Level.WARN, subject, text, f"Fine for a trial; otherwise get a trusted one: {CERTIFICATES}.")
        )
    elif served.trusted is False:
        text = "This server does not trust its issuer: the authority is your own, or the chain is incomplete."
        remedy = "Append the authority's intermediate certificates to the file of tls.certificate."
        found.append(Finding(Level.WARN, subject, text, remedy))
    if served.must_staple:
        text = "It demands OCSP stapling (“must staple”), which nginx does not do: some browsers refuse to connect."
        remedy = f"Get one without (certbot: remove “must_staple” from /etc/letsencrypt/renewal): {CERTIFICATES}."
        found.append(Finding(Level.BAD, subject, text, remedy))
    return found


def covers(names: Sequence[str], host: str) -> bool:
    """Whether a certificate for `names` is one for `host`; a star stands for the first part of a name, and one only."""
    _, _, rest = host.partition(".")
    return any(name.lower() in (host, f"*.{rest}" if rest else host) for name in names)


async def shown(place: Place, address: str = LOOPBACK) -> Served:
    """The certificate that a server shows to whom asks for a host name.

    Raises:
        OSError, TimeoutError: nobody is there, or does not speak TLS.
    """
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE  # it is to be looked at, whatever it is
    found = x509.load_der_x509_certificate(await _handshake(place, address, context))
    return Served(
        names=_names(found),
        begins_at=found.not_valid_before_utc,
        ends_at=found.not_valid_after_utc,
        signs_itself=found.issuer == found.subject,
        trusted=await _is_trusted(place, address),
        fingerprint=found.fingerprint(SHA256()),
        must_staple=_must_staple(found),
    )


async def takes_old_tls(place: Place, address: str = LOOPBACK) -> bool | None:
    """Whether a server still speaks TLS 1.0 or 1.1; None where OpenSSL here cannot even ask."""
    if not ssl.HAS_TLSv1_1:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_ciphers("ALL:@SECLEVEL=0")  # at a higher level OpenSSL itself would not try
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # what nobody should use is what we ask about
        context.minimum_version, context.maximum_version = ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1
    try:
        await _handshake(place, address, context)
    except (OSError, TimeoutError):
        return False
    return True


async def _is_trusted(place: Place, address: str) -> bool | None:
    context = ssl.create_default_context()
    context.check_hostname = False  # the names are looked at by themselves
    try:
        await _handshake(place, address, context)
    except ssl.SSLCertVerificationError as error:
        return None if error.verify_code in (9, 10) else False  # X509_V_ERR_CERT_NOT_YET_VALID, …_HAS_EXPIRED
    return True


async def _handshake(place: Place, address: str, context: ssl.SSLContext) -> bytes:
    """The certificate, DER."""
    async with asyncio.timeout(CONNECT_SECONDS):
        _, writer = await asyncio.open_connection(address, place.port, ssl=context, server_hostname=place.host)
        try:
            shown_der: bytes = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
        finally:
            writer.transport.abort()
    return shown_der


def _names(certificate: x509.Certificate) -> tuple[str, ...]:
    try:
        extension = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return ()  # browsers do not look at the common name
    addresses = [str(address) for address in extension.get_values_for_type(x509.IPAddress)]
    return (*extension.get_values_for_type(x509.DNSName), *addresses)


def _must_staple(certificate: x509.Certificate) -> bool:
    try:
        features = certificate.extensions.get_extension_for_class(x509.TLSFeature).value
    except x509.ExtensionNotFound:
        return False
    return x509.TLSFeatureType.status_request in features


def _kind(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return "no answer"
    return "no TLS there" if isinstance(error, ssl.SSLError) else "no connection"
