"""The settings of another proxy before nginx: what fits together, and where nginx listens then."""

from __future__ import annotations

from typing import Any

import pytest

from launchpad.errors import SettingsError
from launchpad.settings import Settings, tables

NAMES = {"public_url": "https://lab.example.org", "instances_url": "https://run.example.org"}
PORTS = {"public_url": "https://lab.example.org", "instances_url": "https://lab.example.org:8443"}
WILDCARD = {"public_url": "https://lab.example.org", "instances_url": "https://{instance}.lab.example.org"}
ONE = {"public_url": "https://lab.example.org", "instances_url": "https://lab.example.org"}
TRUSTED = ["10.1.2.3"]


def behind(urls: dict[str, str], **proxy: Any) -> Settings:
    return tables({**urls, "proxy": proxy})


def test_without_one_nobody_is_believed() -> None:
    settings = tables({})
    assert settings.proxy.trusted == ()
    assert settings.ports == (8080, 8081)


@pytest.mark.parametrize(
    ("urls", "proxy", "ports"),
    [
        (NAMES, {}, (443, 443)),
        (PORTS, {}, (443, 8443)),
        (WILDCARD, {}, (443, 443)),
        (NAMES, {"trusted": TRUSTED}, (443, 443)),
        (PORTS, {"trusted": TRUSTED, "listen": 9443, "instances_listen": 9444}, (9443, 9444)),
        (PORTS, {"trusted": TRUSTED, "instances_listen": 9444}, (443, 9444)),
        (NAMES, {"trusted": TRUSTED, "tls": "outer"}, (8080, 8080)),
        (WILDCARD, {"trusted": TRUSTED, "tls": "outer", "listen": 80}, (80, 80)),
        (ONE, {"trusted": TRUSTED, "tls": "outer"}, (8080, 8080)),
        (PORTS, {"trusted": TRUSTED, "tls": "outer", "instances_listen": 8081}, (8080, 8081)),
    ],
)
def test_where_nginx_listens(urls: dict[str, str], proxy: dict[str, Any], ports: tuple[int, int]) -> None:
    assert behind(urls, **proxy).ports == ports


def test_with_tls_ended_outside_it_is_https_all_the_same_and_needs_no_certificate() -> None:
    """So cookies are Secure and carry their prefixes."""
    settings = behind(NAMES, trusted=TRUSTED, tls="outer")
    assert settings.is_https
    assert settings.tls.certificate is None


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("10.1.2.3", "10.1.2.3"),
        (" 10.1.2.3/32 ", "10.1.2.3"),
        ("10.1.2.3/28", "10.1.2.0/28"),
        ("10.0.0.0/8", "10.0.0.0/8"),
        ("2001:DB8::0:7", "2001:db8::7"),
        ("2001:db8::7/64", "2001:db8::/64"),
    ],
)
def test_an_address_or_a_range_is_trusted(written: str, read: str) -> None:
    assert behind(NAMES, trusted=[written]).proxy.trusted == (read,)


@pytest.mark.parametrize(
    "written", ["proxy.example.org", "10.1.2", "10.1.2.3; x", "fe80::1%eth0", "fe80::1%; x", "", "10.1.2.3:443"]
)
def test_anything_else_is_not(written: str) -> None:
    with pytest.raises(SettingsError, match=r"^proxy\.trusted\[0\]: write an address or a range, like 10\.1\.2\.3"):
        behind(NAMES, trusted=[written])


@pytest.mark.parametrize("written", ["0.0.0.0/0", "10.0.0.0/7", "::/0", "2000::/3"])
def test_a_range_of_almost_everybody_is_not(written: str) -> None:
    with pytest.raises(SettingsError, match="this would trust almost everybody"):
        behind(NAMES, trusted=[written])


@pytest.mark.parametrize(
    ("urls", "proxy", "said"),
    [
        (NAMES, {"tls": "outer"}, 'proxy.tls is "outer", so proxy.trusted must name the outer proxy'),
        (NAMES, {"protocol": "proxy-protocol"}, 'proxy.protocol is "proxy-protocol", so proxy.trusted must name'),
        (NAMES, {"listen": 8443}, "proxy.listen is the port for an outer proxy, so proxy.trusted must name"),
        (NAMES, {"instances_listen": 8443}, "proxy.listen is the port for an outer proxy"),
        ({}, {"tls": "outer", "trusted": TRUSTED}, "public_url and instances_url must be https addresses"),
        (PORTS, {"tls": "outer", "trusted": TRUSTED}, "must be two ports as well"),
        (PORTS, {"trusted": TRUSTED, "listen": 9443}, "must be two ports as well"),
        (ONE, {"trusted": TRUSTED, "instances_listen": 9443}, "the same, so proxy.instances_listen has no effect"),
        (NAMES, {"trusted": TRUSTED, "listen": 0}, "proxy.listen: Input should be greater than or equal to 1"),
        (NAMES, {"trusted": TRUSTED, "tls": "there"}, 'proxy.tls: choose "here" or "outer"'),
        (NAMES, {"trusted": "10.1.2.3"}, r"proxy.trusted: write a list, in [ ]"),
    ],
)
def test_what_does_not_fit_together_is_refused_with_what_to_change(
    urls: dict[str, str], proxy: dict[str, Any], said: str
) -> None:
    with pytest.raises(SettingsError) as refused:
        behind(urls, **proxy)
    assert said in refused.value.detail
