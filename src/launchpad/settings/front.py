"""The settings of what stands in front of the portal: nginx, its certificate, and another proxy before it."""

from __future__ import annotations

from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from pydantic import Field

from ..domain.origins import INSTANCE_MARK
from .values import ProxyAddress, Secret, Section

_DEFAULT_PORTS = {"http": 80, "https": 443}
_PLAIN_PORT = 8080  # for an outer proxy that ends TLS


class WebSettings(Section):
    """How nginx reaches the portal."""

    socket: Path | None = Field(None, description="Unix socket of the portal; empty: `<state_dir>/run/portal.sock`.")
    gate_cache: bool = Field(
        True, description="nginx caches the gate's permission for a request for at most 0.4 seconds."
    )
    sweep_seconds: int = Field(
        0, ge=0, description="Interval of the portal's own sweeps; 0: only the systemd timer runs them."
    )
    streams_per_login: int = Field(
        32,
        ge=1,
        description="How many instances the pages of one browser, or the programs of one user, may follow live at the "
        "same time; beyond, `/events` answers 429.",
    )
    metrics_token: Secret | None = Field(
        None, description="Token for /metrics from other machines (`Authorization: Bearer …`)."
    )


class TlsSettings(Section):
    """The certificate, when public_url is https and this nginx terminates TLS."""

    certificate: Path | None = Field(None, description="PEM file with the certificate chain.")
    key: Path | None = Field(None, description="PEM file with its private key.")


class ProxySettings(Section):
    """Another proxy in front of this nginx, such as the institute's. Without `trusted` there is none."""

    trusted: tuple[ProxyAddress, ...] = Field(
        (),
        description="Addresses the outer proxy connects from, and no others: what they report as a client's address "
        'is trusted. ["10.1.2.3", "2001:db8::7"]',
    )
    protocol: Literal["headers", "proxy-protocol"] = Field(
        "headers",
        description="How it passes on the client's address: by X-Forwarded-For (HTTP proxies), or by the PROXY "
        "protocol, version 1 or 2 (TCP load balancers); then connections that do not begin with it are "
        "rejected.",
    )
    tls: Literal["here", "outer"] = Field(
        "here",
        description=(
            "Who terminates TLS. `outer`: the outer proxy does and connects by plain http; other connections are "
            "rejected."
        ),
    )
    listen: int | None = Field(
        None,
        ge=1,
        le=65535,
        description="Port that the outer proxy connects to. Empty: the ports of public_url and instances_url, or 8080 "
        "with `tls` = `outer`.",
    )
    instances_listen: int | None = Field(
        None,
        ge=1,
        le=65535,
        description="Another port for instances; needed where public_url and instances_url are two ports of one host.",
    )


def check_proxy(proxy: ProxySettings, public_url: str, instances_url: str) -> None:
    """Raises ValueError when the tables do not fit together, with what to change."""
    if not proxy.trusted:
        if proxy.tls == "outer":
            raise ValueError(
                'proxy.tls is "outer", so proxy.trusted must name the outer proxy; otherwise anybody could '
                "connect without encryption"
            )
        if proxy.protocol == "proxy-protocol":
            raise ValueError('proxy.protocol is "proxy-protocol", so proxy.trusted must name the proxy that speaks it')
        if proxy.listen or proxy.instances_listen:
            raise ValueError("proxy.listen is the port for an outer proxy, so proxy.trusted must name that one")
        return
    if proxy.tls == "outer" and not public_url.startswith("https:"):
        raise ValueError(
            'proxy.tls is "outer", so browsers use https: public_url and instances_url must be https addresses'
        )
    portal, instances = listening_ports(proxy, public_url, instances_url)
    same_host = urlsplit(public_url).hostname == urlsplit(instances_url).hostname
    if same_host and public_url != instances_url and portal == instances:
        raise ValueError(
            "public_url and instances_url are two ports of one host, so proxy.listen and proxy.instances_listen must "
            "be two ports as well"
        )
    if public_url == instances_url and portal != instances:
        raise ValueError("public_url and instances_url are the same, so proxy.instances_listen has no effect")


def listening_ports(proxy: ProxySettings, public_url: str, instances_url: str) -> tuple[int, int]:
    """The ports for the portal and for instances."""
    plain = _PLAIN_PORT if proxy.tls == "outer" else None
    portal = proxy.listen or plain or _port(public_url)
    return portal, proxy.instances_listen or proxy.listen or plain or _port(instances_url)


def _port(url: str) -> int:
    parts = urlsplit(url.replace(f"{INSTANCE_MARK}.", ""))
    return parts.port or _DEFAULT_PORTS[parts.scheme]
