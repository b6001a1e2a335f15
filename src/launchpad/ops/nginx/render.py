"""Renders nginx's configuration from the settings. Pure: reads nothing of the machine and writes nothing.

Why the configuration is as it is stands in `templates/`; what is decided here is where it listens, which names it
answers to, and which request headers it sets or clears.
"""

from __future__ import annotations

import re
from base64 import b64encode
from dataclasses import dataclass
from hashlib import sha256
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

from ...domain.naming import ID_PATTERN
from ...domain.origins import INSTANCE_MARK, InstancesOrigin
from ...errors import SettingsError, Unavailable
from ...settings import Settings
from ...settings.front import ProxySettings
from .headers import CLEARED_TOWARDS_INSTANCES, CLEARED_TOWARDS_PORTAL, SET_BY_NGINX
from .keepalive import KEPT_PER_PORT, KEPT_SECONDS, keepalive_ports, numbers_pattern
from .persons import person_patterns, quiet_variables
from .refusals import HEADER_LINE_MAX, OWN_REFUSALS

Form = Literal["full", "site"]

ENDED_FOR_CALLS = (
    "This instance does not run any more, or you have signed out. What was saved is kept; copy what was not before you "
    "close this page."
)
_HOST_NAME = re.compile(r"[a-z0-9]([a-z0-9.-]*[a-z0-9])?")
_PATH = re.compile(r"/[^\"\\$\x00-\x1f\x7f]*")
_WORKER_USER = re.compile(r"[a-z_][a-z0-9_-]*( [a-z_][a-z0-9_-]*)?")
_DEFAULT_PORTS = {"http": 80, "https": 443}
_UNIX_SOCKET_PATH_MAX = 107  # bytes; sun_path of unix(7) less its end
_HASHED_NAME_MAX = 46  # what nginx's table of server names takes unasked, with 64-byte buckets
_FOREIGN_VARIABLE = re.compile(r"\$(?!lp_[a-z_]+)")
_TOKEN_MAX = 4000  # nginx reads a parameter into a buffer of 4096 bytes


@dataclass(frozen=True)
class _Origin:
    """`host` of instances that have host names of their own is what stands behind the first dot."""

    scheme: str
    host: str
    port: int
    is_wildcard: bool = False

    @property
    def name(self) -> str:
        """The host name in nginx's words, where a request has been found to be for this origin."""
        return f"$lp_id.{self.host}" if self.is_wildcard else self.host

    @property
    def server_name(self) -> str:
        """What `server_name` holds: the name, or a regular expression that captures the instance's id."""
        if not self.is_wildcard:
            return self.host
        return f'"~^(?<lp_id>{ID_PATTERN})\\.{re.escape(self.host)}\\z"'

    @property
    def authority(self) -> str:
        return self.name if self.port == _DEFAULT_PORTS[self.scheme] else f"{self.name}:{self.port}"

    @property
    def url(self) -> str:
        return f"{self.scheme}://{self.authority}"

    @property
    def pattern(self) -> str:
        """A regular expression for an absolute address at this origin, with either scheme, up to the path."""
        port = f":{self.port}"
        explicit = f"(?:{port})?" if self.authority == self.name else port
        return f"https?://{re.escape(self.host)}{explicit}"


@dataclass(frozen=True)
class _Listener:
    """A port, with the addresses it is opened on and the origin that requests with an unknown Host are sent to."""

    port: int
    addresses: tuple[str, ...]
    origin: _Origin

    @property
    def listens(self) -> list[str]:
        return [f"{address}:{self.port}" if address else str(self.port) for address in self.addresses]


@dataclass(frozen=True)
class _Outer:
    """The proxy before this one: its addresses, and the name nginx gives to where it says who the client is."""

    addresses: tuple[str, ...]
    real_ip_header: str
    is_only_way: bool

    @classmethod
    def of(cls, proxy: ProxySettings) -> _Outer | None:
        if not proxy.trusted:
            return None
        header = "X-Forwarded-For" if proxy.protocol == "headers" else "proxy_protocol"
        return cls(proxy.trusted, header, proxy.tls == "outer")


@dataclass(frozen=True)
class _Header:
    name: str
    variable: str

    @property
    def gate_name(self) -> str:
        """The name of nginx's variable for the gate's answer."""
        return "upstream_http_x_gate_header_" + self.name.lower().replace("-", "_")


def render(
    settings: Settings,
    *,
    socket: Path,
    runtime_dir: Path,
    form: Form,
    ipv6_loopback: bool = False,
    worker_user: str | None = "www-data",
    http2_directive: bool = False,
    http2_sizes: bool = False,
) -> str:
    """The text of the configuration.

    Args:
        socket: the portal's Unix socket.
        runtime_dir: an existing directory; the access log and, in the full form, the pid and temporary files go there.
        form: `full` is a whole nginx.conf for a process of its own, which logs errors to stderr; `site` is for
            /etc/nginx/sites-enabled, and its error log goes to `runtime_dir` too.
        ipv6_loopback: whether the machine has ::1; if so nginx listens on IPv6 as well.
        worker_user: `name` or `name group` the worker processes run as, in the full form when root starts it; None
            where somebody else does (nginx would warn).
        http2_directive: whether this nginx wants HTTP/2 as a directive (1.25.1 and newer) or with `listen`.
        http2_sizes: whether it has limits of its own for HTTP/2 (before 1.19.7).

    Raises:
        SettingsError: the URLs, the certificate or an environment's headers cannot be served.
    """
    portal = _origin("public_url", settings.public_url)
    instances = _origin("instances_url", settings.instances_url)
    if worker_user is not None and not _WORKER_USER.fullmatch(worker_user):
        raise ValueError(f"{worker_user!r} is not a user of this machine")
    if len(bytes(socket)) > _UNIX_SOCKET_PATH_MAX:
        raise SettingsError(f"web.socket: {socket} is longer than the {_UNIX_SOCKET_PATH_MAX} bytes a socket may have.")
    outer = _Outer.of(settings.proxy)
    tls = _tls(settings)
    listeners = _listeners(portal, instances, settings, ipv6_loopback)
    template = _templates().get_template("nginx.conf.j2")
    return template.render(
        form=form,
        portal=portal,
        instances=instances,
        same_origin=portal == instances,
        listeners=listeners,
        portal_listens=listeners[0].listens,
        instances_listens=listeners[-1].listens,
        listens_80=_plain_listens(portal, instances, settings, ipv6_loopback) if form == "site" and tls else [],
        outer=outer,
        client="$lp_client" if outer else "$remote_addr",
        tls=tls,
        is_https=settings.is_https,
        http2_directive=http2_directive,
        socket=_path(socket),
        runtime_dir=_path(runtime_dir),
        worker_user=worker_user,
        wide_names=form == "full" or max(len(portal.host), len(instances.host)) > _HASHED_NAME_MAX,
        id_pattern=ID_PATTERN,
        instance_headers=(headers := _instance_headers(settings)),
        cleared=_without(CLEARED_TOWARDS_INSTANCES, {header.name for header in headers}),
        cleared_towards_portal=CLEARED_TOWARDS_PORTAL,
        unavailable=Unavailable,
        own_refusals=OWN_REFUSALS,
        header_line_max=HEADER_LINE_MAX,
        http2_sizes=http2_sizes,
        gate_cache=settings.web.gate_cache,
        person_patterns=person_patterns(settings, is_wildcard=instances.is_wildcard),
        quiet_variables=quiet_variables(settings),
        keepalive_ports=(kept := keepalive_ports(settings.engine)),
        keepalive_pattern=numbers_pattern(kept),
        kept_per_port=KEPT_PER_PORT,
        kept_seconds=KEPT_SECONDS,
        ended_for_calls=ENDED_FOR_CALLS,
    )


def _tls(settings: Settings) -> dict[str, str] | None:
    if not settings.is_https or settings.proxy.tls == "outer":
        return None
    if settings.tls.certificate is None or settings.tls.key is None:
        raise SettingsError("public_url is https, so nginx needs tls.certificate and tls.key.")
    return {"certificate": _path(settings.tls.certificate), "key": _path(settings.tls.key)}


def _templates() -> Environment:
    # The configuration is no HTML; the pages in it are, and are escaped as such.
    templates = Environment(
        loader=PackageLoader(__package__ or __name__),
        autoescape=select_autoescape(enabled_extensions=("html.j2",)),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    templates.filters["quoted"] = _quoted
    templates.filters["page"] = _page
    templates.filters["regex"] = re.escape
    templates.filters["csp_hash"] = _csp_hash
    return templates


def _quoted(text: str) -> str:
    """`text` as one parameter of nginx, with what it names of our variables put in.

    Raises:
        ValueError: it holds another `$`, which nginx cannot escape, or is longer than nginx reads.
    """
    text = str(text).strip().replace("\\", "\\\\").replace('"', '\\"')
    if _FOREIGN_VARIABLE.search(text) or len(text.encode()) > _TOKEN_MAX:
        raise ValueError("too long for a parameter of nginx, or with a $ in it")
    return f'"{text}"'


def _page(text: str) -> str:
    """A page without its head, which all of them share, as one parameter."""
    return _quoted("$lp_page_head" + str(text).strip())


def _csp_hash(script: str) -> str:
    """What a Content-Security-Policy names a script by that stands in the page."""
    return f"'sha256-{b64encode(sha256(str(script).strip().encode()).digest()).decode()}'"


def _origin(key: str, url: str) -> _Origin:
    is_wildcard = InstancesOrigin(url).is_wildcard
    url = url.replace(f"{INSTANCE_MARK}.", "")
    parts = urlsplit(url)
    host = parts.hostname or ""
    address = _address(host)
    if isinstance(address, IPv6Address):
        host = f"[{address}]"
    elif not _HOST_NAME.fullmatch(host):
        raise SettingsError(f"{key}: nginx cannot serve {url}; write a host name of letters, digits, dots and hyphens.")
    return _Origin(parts.scheme, host, parts.port or _DEFAULT_PORTS[parts.scheme], is_wildcard)


def _address(host: str) -> IPv4Address | IPv6Address | None:
    try:
        return ip_address(host.strip("[]"))
    except ValueError:
        return None


def _listeners(portal: _Origin, instances: _Origin, settings: Settings, ipv6_loopback: bool) -> list[_Listener]:
    ports = settings.ports
    hosts = [portal.host, instances.host]
    if settings.proxy.tls == "outer" and all(_is_loopback(address) for address in settings.proxy.trusted):
        hosts = ["localhost", "localhost"]  # the outer proxy is on this machine
    if ports[0] == ports[1]:
        return [_Listener(ports[0], _addresses(hosts, ipv6_loopback), portal)]
    both = zip(ports, hosts, (portal, instances), strict=True)
    return [_Listener(port, _addresses([host], ipv6_loopback), origin) for port, host, origin in both]


def _is_loopback(address_or_range: str) -> bool:
    return ip_network(address_or_range).is_loopback


def _plain_listens(portal: _Origin, instances: _Origin, settings: Settings, ipv6_loopback: bool) -> list[str]:
    """Where https is answered for on port 80, by redirects; nowhere when that port is an origin's own."""
    if 80 in (portal.port, instances.port, *settings.ports):
        return []
    return _Listener(80, _addresses([portal.host, instances.host], ipv6_loopback), portal).listens


def _addresses(hosts: list[str], ipv6_loopback: bool) -> tuple[str, ...]:
    """Where a port is opened for `hosts`, as nginx writes it; "" are all addresses of IPv4.

    nginx prefers the more specific address over all of them, so a port is never opened on both.
    """
    addresses: list[str] = []
    for host in hosts:
        address = _address(host)
        if address is not None and address.is_loopback:
            addresses.append(f"[{address}]" if address.version == 6 else str(address))
        elif host == "localhost" or host.endswith(".localhost"):
            addresses += ["127.0.0.1", "[::1]"] if ipv6_loopback else ["127.0.0.1"]
        else:
            return ("", "[::]") if ipv6_loopback else ("",)
    return tuple(dict.fromkeys(addresses))


def _instance_headers(settings: Settings) -> list[_Header]:
    """The request headers that only the gate may set: every name any environment uses, and Authorization always."""
    names: dict[str, str] = {"authorization": "Authorization"}
    for environment in settings.environments:
        for name in environment.request_headers:
            if name.lower() in SET_BY_NGINX or name.lower().startswith("x-gate-"):
                raise SettingsError(f"environments.{environment.name}.request_headers: nginx itself sets {name}.")
            names.setdefault(name.lower(), name)
    # Numbers, since nginx's tables have no room for long names.
    return [_Header(names[key], f"lp_header_{number}") for number, key in enumerate(sorted(names))]


def _without(names: tuple[str, ...], taken: set[str]) -> list[str]:
    lower = {name.lower() for name in taken}
    return [name for name in names if name.lower() not in lower]


def _path(path: Path) -> str:
    text = str(path)
    if not _PATH.fullmatch(text):
        raise SettingsError(f"nginx needs a whole path without quotation marks, backslashes or $: {text}")
    return text
