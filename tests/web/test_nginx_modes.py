"""Every way to lay it out, through nginx's own check: addresses, forms, outer proxies, the gate's cache."""

from __future__ import annotations

import itertools
import re
from pathlib import Path
from typing import Any

import pytest

from launchpad.ops.nginx import Form, has_ipv6_loopback, render, wants_http2_directive, worker_user
from launchpad.settings import tables
from support.certificates import Authority, written
from web.nginx_text import check, listens

URLS = {
    "two ports": ("http://localhost:8080", "http://localhost:8081"),
    "two ports over https": ("https://lab.example.org", "https://lab.example.org:8443"),
    "two names": ("http://lab.example.org", "http://run.lab.example.org"),
    "two names over https": ("https://lab.example.org", "https://run.lab.example.org"),
    "one origin": ("http://lab.example.org", "http://lab.example.org"),
    "one origin over https": ("https://lab.example.org", "https://lab.example.org"),
    "a name for each over https": ("https://lab.example.org", "https://{instance}.lab.example.org"),
}
TRUSTED = ["10.1.2.3", "10.1.2.16/28", "2001:db8::7", "2001:db8:1::/64"]
OUTER: dict[str, dict[str, Any]] = {
    "no outer proxy": {},
    "headers": {"trusted": TRUSTED},
    "headers, other ports": {"trusted": TRUSTED, "listen": 9443, "instances_listen": 9444},
    "PROXY protocol": {"trusted": TRUSTED, "protocol": "proxy-protocol"},
    "TLS ends outside": {"trusted": TRUSTED, "tls": "outer"},
    "TLS ends outside, two ports": {"trusted": TRUSTED, "tls": "outer", "listen": 8080, "instances_listen": 8081},
    "TLS ends outside, PROXY protocol": {"trusted": TRUSTED, "tls": "outer", "protocol": "proxy-protocol"},
    "TLS ends on this machine, port 80": {"trusted": ["127.0.0.1", "::1"], "tls": "outer", "listen": 80},
}


def fits(urls: str, outer: str) -> bool:
    """What the settings refuse (tests/unit/test_settings.front.py) is no mode."""
    one_origin, two_ports = urls.startswith("one origin"), urls.startswith("two ports")
    if outer.startswith("TLS ends") and "https" not in urls:
        return False
    if "two ports" in outer or "other ports" in outer:
        return not one_origin
    return not (two_ports and outer.startswith("TLS ends"))


MODES = [
    (urls, outer, gate_cache)
    for urls, outer, gate_cache in itertools.product(URLS, OUTER, (True, False))
    if fits(urls, outer) and (gate_cache or outer == "no outer proxy")
]


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The files of a certificate, which names an OCSP responder as some authorities' still do, and of its key."""
    authority = Authority.new()
    leaf, key = authority.issue("lab.example.org", ocsp=["http://127.0.0.1:9/ocsp"])
    return written(tmp_path_factory.mktemp("tls"), [leaf, authority.certificate], key)


@pytest.mark.parametrize("form", ["full", "site"])
@pytest.mark.parametrize(("urls", "outer", "gate_cache"), MODES)
def test_nginx_accepts_every_mode_without_a_warning(
    folder: Path,
    chain: tuple[Path, Path],
    form: Form,
    urls: str,
    outer: str,
    gate_cache: bool,
) -> None:
    public_url, instances_url = URLS[urls]
    values: dict[str, Any] = {"web": {"gate_cache": gate_cache}, "proxy": OUTER[outer]}
    tls_is_here = "https" in urls and not outer.startswith("TLS ends")
    if tls_is_here:
        values["tls"] = dict(zip(("certificate", "key"), chain, strict=True))
    settings = tables({"public_url": public_url, "instances_url": instances_url, **values})
    text = render(
        settings,
        socket=folder / "portal.sock",
        runtime_dir=folder,
        form=form,
        ipv6_loopback=has_ipv6_loopback(),
        worker_user=worker_user(folder),
        http2_directive=wants_http2_directive(),
    )
    assert "ssl_stapling" not in text
    assert ("ssl_certificate " in text) == tls_is_here
    assert ("add_header Strict-Transport-Security" in text) == ("https" in urls)
    code, said = check(text, folder, form)
    assert code == 0, said
    assert re.findall(r"\[\w+\]", said) == [], said


def ports(outer: str, urls: str = "two names over https", form: Form = "site") -> set[str]:
    public_url, instances_url = URLS[urls]
    values = {"tls": {"certificate": "/c", "key": "/k"}, "proxy": OUTER[outer]}
    settings = tables({"public_url": public_url, "instances_url": instances_url, **values})
    return listens(render(settings, socket=Path("/s"), runtime_dir=Path("/r"), form=form))


@pytest.mark.parametrize(
    ("outer", "expected"),
    [
        ("no outer proxy", {"443 ssl http2", "80"}),
        ("headers", {"443 ssl http2", "80"}),
        ("headers, other ports", {"9443 ssl http2", "9444 ssl http2", "80"}),
        ("PROXY protocol", {"443 ssl http2 proxy_protocol", "80"}),
        ("TLS ends outside", {"8080"}),
        ("TLS ends outside, two ports", {"8080", "8081"}),
        ("TLS ends outside, PROXY protocol", {"8080 proxy_protocol"}),
        ("TLS ends on this machine, port 80", {"127.0.0.1:80"}),
    ],
)
def test_it_listens_where_the_outer_proxy_comes(outer: str, expected: set[str]) -> None:
    """Redirects from port 80 are answered where TLS ends, without a preface: they need no client."""
    assert ports(outer) == expected


def test_a_newer_nginx_is_told_of_http2_in_its_own_words(folder: Path) -> None:
    """From 1.25.1 on it warns of “listen … http2”, and before that it knows no “http2 on”."""
    tls = {"certificate": "/c", "key": "/k"}
    settings = tables({"public_url": "https://lab.example.org", "instances_url": "https://run.example.org", "tls": tls})
    newer = render(settings, socket=folder / "s", runtime_dir=folder, form="site", http2_directive=True)
    older = render(settings, socket=folder / "s", runtime_dir=folder, form="site")
    assert listens(newer) == {"443 ssl", "80"}
    assert newer.count("http2 on;") == newer.count("ssl_certificate ") == 3
    assert listens(older) == {"443 ssl http2", "80"}
    assert "http2 on;" not in older


@pytest.mark.parametrize(
    ("version", "wanted"),
    [
        ("1.18.0 (Ubuntu)", False),
        ("1.22.1", False),
        ("1.25.0", False),
        ("1.25.1", True),
        ("1.26.3", True),
        ("?", False),
    ],
)
def test_the_version_of_this_machines_nginx_decides(
    folder: Path, monkeypatch: pytest.MonkeyPatch, version: str, wanted: bool
) -> None:
    program = folder / "nginx"
    program.write_text(f"#!/bin/sh\necho 'nginx version: nginx/{version}' >&2\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(folder))
    assert wants_http2_directive() == wanted
