"""What settings are made of: tables, and kinds of values (sizes, origins, names …), each with a plain text for what
does not fit."""

from __future__ import annotations

import re
from ipaddress import IPv4Network, ip_network
from pathlib import Path
from typing import Annotated, TypeVar
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer, SecretStr

from ..domain.environments import Gpus
from ..domain.origins import INSTANCE_MARK
from ..domain.signin import normalise_address
from ..domain.sizes import format_bytes, parse_bytes

T = TypeVar("T", int, float)


class Section(BaseModel):
    """A table of the settings."""

    model_config = ConfigDict(frozen=True, extra="forbid")


_WIDEST_PROXIES = {4: 8, 6: 32}  # bits of a prefix; what is wider than this is no set of proxies

_PLACEHOLDERS = {"change-me", "changeme", "change_me", "secret", "password", "placeholder", "example", "xxx", "todo"}


def _size(value: object) -> object:
    return parse_bytes(value) if isinstance(value, str) else value


def _real_secret(value: SecretStr) -> SecretStr:
    if value.get_secret_value().strip().lower().strip("<>") in _PLACEHOLDERS:
        raise ValueError("this is still the placeholder of an example; put the real secret here")
    return value


def _origin(value: str) -> str:
    if any(sign in value for sign in "{}*"):
        raise ValueError("one host name is needed; only instances_url may have {instance} in it")
    parts = urlsplit(value)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("write it like https://lab.example.org or http://localhost:8080")
    if parts.path.strip("/") or parts.query or parts.fragment or parts.username:
        raise ValueError("only scheme, host name and port belong here, no path")
    if parts.port == 0:
        raise ValueError("port 0 cannot be reached")
    return f"{parts.scheme}://{parts.netloc}".lower()


def _instances_origin(value: str) -> str:
    """One origin, or a pattern with `{instance}` as the first part of its host name."""
    if not any(sign in value for sign in "{}*"):
        return _origin(value)
    scheme, _, rest = value.partition("://")
    if not rest.startswith(f"{INSTANCE_MARK}.") or value.count(INSTANCE_MARK) > 1:
        raise ValueError(f"write a host name for each instance, like https://{INSTANCE_MARK}.lab.example.org")
    plain = _origin(f"{scheme}://{rest.removeprefix(INSTANCE_MARK + '.')}")
    host = urlsplit(plain).hostname or ""
    if re.fullmatch(r"[\d.]+|\[.*\]", host) or ":" in host:
        raise ValueError("an IP address has no subdomains; use a domain name")
    return plain.replace("://", f"://{INSTANCE_MARK}.", 1)


def _domain(value: str) -> str:
    domain = value.strip().lower().removeprefix("@")
    if "." not in domain or not domain.isascii() or any(sign in domain for sign in "@*/ "):
        raise ValueError("write the part after the @, exactly and in ASCII, like institute.edu")
    return domain


def _like(pattern: str, words: str) -> AfterValidator:
    """A validator for texts that match all of `pattern`; `words` say what is wanted."""

    def check(value: str) -> str:
        if re.fullmatch(pattern, value, re.ASCII) is None:
            raise ValueError(words)
        return value

    return AfterValidator(check)


def _choices(value: tuple[T, ...]) -> tuple[T, ...]:
    if not value:
        raise ValueError("offer at least one choice")
    return tuple(sorted(set(value)))


def _ipv4_range(value: str) -> str:
    try:
        return str(IPv4Network(value.strip(), strict=False))
    except ValueError:
        raise ValueError("write an IPv4 address or range, like 10.1.2.3 or 10.1.2.0/24") from None


def _ip_range(value: str) -> str:
    try:
        return str(ip_network(value.strip(), strict=False))
    except ValueError:
        raise ValueError("write an address or a range, like 192.0.2.0/24 or 2001:db8:7::/48") from None


def _proxy_address(value: str) -> str:
    """As nginx reads it: one address, or a range in its shortest form."""
    try:
        network = None if "%" in value else ip_network(value.strip(), strict=False)  # nginx knows no zones
    except ValueError:
        network = None
    if network is None:
        raise ValueError("write an address or a range, like 10.1.2.3, 10.1.2.0/28 or 2001:db8::7")
    if network.prefixlen < _WIDEST_PROXIES[network.version]:
        raise ValueError("this would trust almost everybody; list only the addresses of the proxy")
    return str(network.network_address if network.prefixlen == network.max_prefixlen else network)


def _egress_target(value: str) -> str:
    target, colon, port = value.strip().partition(":")
    if colon and not (port.isascii() and port.isdigit() and 1 <= int(port) <= 65535):
        raise ValueError("write a port after the colon, like 10.1.2.3:3128")
    return _ipv4_range(target) + (f":{port}" if colon else "")


def _gpus(value: object) -> object:
    if value == "all" or (isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= 64):
        return value
    ids = tuple(value) if isinstance(value, list | tuple) else ()
    if not ids or not all(isinstance(one, str) and re.fullmatch(r"[A-Za-z0-9:._-]{1,80}", one) for one in ids):
        raise ValueError('write "all", how many, or a list of ids as nvidia-smi -L shows them, like ["0", "GPU-3f2a…"]')
    return ids


def _ports(value: str) -> str:
    match = re.fullmatch(r"(\d{1,5})-(\d{1,5})", value, re.ASCII)
    if match is None or not 1024 <= int(match[1]) <= int(match[2]) <= 65535:
        raise ValueError("give two ports between 1024 and 65535, the smaller first, like 20000-29999")
    return value


def _whole_path(value: Path) -> Path:
    if not value.is_absolute():
        raise ValueError("write an absolute path, beginning with /")
    return value


Size = Annotated[int, BeforeValidator(_size), PlainSerializer(format_bytes), Field(gt=0)]
Sizes = Annotated[tuple[Size, ...], AfterValidator(_choices)]
Cores = Annotated[float, Field(gt=0, allow_inf_nan=False)]
CoreNumbers = Annotated[tuple[Cores, ...], AfterValidator(_choices)]
Days = Annotated[int, Field(ge=1, le=366)]
DayNumbers = Annotated[tuple[Days, ...], AfterValidator(_choices)]
Secret = Annotated[SecretStr, AfterValidator(_real_secret)]
Origin = Annotated[str, AfterValidator(_origin)]
InstancesUrl = Annotated[str, AfterValidator(_instances_origin)]
Domain = Annotated[str, AfterValidator(_domain)]
Address = Annotated[str, AfterValidator(normalise_address)]
Ipv4Range = Annotated[str, AfterValidator(_ipv4_range)]
IpRange = Annotated[str, AfterValidator(_ip_range)]
ProxyAddress = Annotated[str, AfterValidator(_proxy_address)]
EgressTarget = Annotated[str, AfterValidator(_egress_target)]
WholePath = Annotated[Path, AfterValidator(_whole_path)]
PortRange = Annotated[str, AfterValidator(_ports)]
GpuChoice = Annotated[Gpus, BeforeValidator(_gpus)]

Name = Annotated[
    str, _like("[a-z][a-z0-9-]{0,30}", "write 1 to 31 lower-case letters, digits and hyphens, a letter first")
]
AbsolutePath = Annotated[str, _like(r"/[^\x00-\x1f]*", "write an absolute path, beginning with /")]
CacheFolder = Annotated[
    str,
    _like(
        r"|(\{home\})?(/(?!\.\.?(/|$))[^/\x00-\x1f]+)+",
        "write an absolute path without “..”, beginning with / or {home}/, or nothing",
    ),
]
HealthPath = Annotated[str, _like(r"(/|\{root_path\})[^\x00-\x20]*", "write a path that begins with / or {root_path}")]
HelpUrl = Annotated[str, _like(r"|https?://[^\s\"'<>]+", "write the complete URL, like https://institute.edu/help")]
HelpContact = Annotated[str, _like(r"[^\x00-\x1f\x7f]{0,120}", "write one line of at most 120 characters")]
Ids = Annotated[str, _like(r"(\d+|\{uid\})?(:(\d+|\{uid\}))?", "write uid:gid as numbers, or {uid} for the owner's")]
FolderName = Annotated[str, _like(r"[ !#-\[\]-~]+", "write the folder's name as the server lists it, in plain letters")]
HeaderName = Annotated[str, _like("[A-Za-z][A-Za-z0-9-]*", "a header's name is made of letters, digits and hyphens")]
Capability = Annotated[str, _like("[A-Z_]+", "write it like CHOWN, without CAP_")]


def _regular_expression(text: str) -> str:
    try:
        re.compile(text)
    except re.error as error:
        raise ValueError(f"this is no regular expression: {error}") from error
    return text


Pattern = Annotated[str, Field(min_length=1, max_length=500), AfterValidator(_regular_expression)]
