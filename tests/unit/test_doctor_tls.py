"""What the doctor says of host names and certificates: real ones, shown by a real server on the loopback interface."""

from __future__ import annotations

import asyncio
import ssl
import warnings
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from launchpad.ops.doctor import Finding, Level
from launchpad.ops.doctor.tls import (
    Place,
    certificate,
    covers,
    judged_name,
    names,
    places,
    resolved,
    takes_old_tls,
)
from launchpad.settings import Settings, tables
from support.certificates import certificate as make_certificate

NOW = datetime.now(UTC)
PORTAL, INSTANCES = "lab.example.org", "run.example.org"
Show = Callable[..., Any]


@pytest.fixture
async def show(tmp_path: Path) -> AsyncIterator[Show]:
    """Serves a certificate for names, or one for each server name; the port."""
    servers: list[asyncio.Server] = []

    async def start(*names: str, old_tls: bool = False, **values: Any) -> int:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        if old_tls:
            context.set_ciphers("ALL:@SECLEVEL=0")
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)
                context.minimum_version = ssl.TLSVersion.TLSv1
        else:
            context.minimum_version = ssl.TLSVersion.TLSv1_2
        folder = tmp_path / f"{len(servers)}"
        folder.mkdir()
        context.load_cert_chain(*make_certificate(folder, *names, **values))
        server = await asyncio.start_server(lambda _reader, writer: writer.close(), "127.0.0.1", 0, ssl=context)
        servers.append(server)
        return int(server.sockets[0].getsockname()[1])

    yield start
    for server in servers:
        server.close()
        await server.wait_closed()


def settings(port: int, instances: str = INSTANCES) -> Settings:
    return tables({"public_url": f"https://{PORTAL}:{port}", "instances_url": f"https://{instances}:{port}"})


async def looked_at(port: int, instances: str = INSTANCES) -> list[Finding]:
    found = await certificate("certificate", settings(port, instances), NOW)
    assert all(finding.remedy for finding in found if finding.level is not Level.OK)
    return found


def said(found: list[Finding]) -> str:
    return " ".join(finding.text for finding in found)


@pytest.mark.slow
async def test_a_certificate_that_demands_stapling_is_told(show: Show) -> None:
    """nginx staples no answers, and browsers that heed such a certificate refuse it then."""
    port = await show(PORTAL, INSTANCES, must_staple=True, ends_at=NOW + timedelta(days=365))
    (found,) = [finding for finding in await looked_at(port) if finding.level is Level.BAD]
    assert "demands OCSP stapling" in found.text
    assert "without" in found.remedy
    assert "stapling" not in said(await looked_at(await show(PORTAL, INSTANCES)))


async def test_a_certificate_that_signs_itself_is_told_once(show: Show) -> None:
    port = await show(PORTAL, INSTANCES, ends_at=NOW + timedelta(days=365))
    (found,) = await looked_at(port)
    assert found.level is Level.WARN
    assert "self-signed" in found.text


async def test_an_authority_that_nobody_knows_is_told(show: Show) -> None:
    port = await show(PORTAL, INSTANCES, authority=True, ends_at=NOW + timedelta(days=365))
    (found,) = await looked_at(port)
    assert found.level is Level.WARN
    assert "does not trust its issuer" in found.text


async def test_one_from_an_authority_that_this_server_trusts_is_well(
    show: Show, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = await show(PORTAL, INSTANCES, authority=True, ends_at=NOW + timedelta(days=365))
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "0" / "authority.pem"))  # OpenSSL's own name for the store
    (found,) = await looked_at(port)
    assert found.level is Level.OK
    assert "Trusted, for the right names, until" in found.text
    assert "Older versions than TLS 1.2" in found.text


@pytest.mark.parametrize(
    ("begins", "ends", "level", "words"),
    [
        (timedelta(days=-90), timedelta(days=22), None, ""),
        (timedelta(days=-90), timedelta(days=20), Level.WARN, "It expires in 19 days"),
        (timedelta(days=-90), timedelta(hours=-1), Level.BAD, "It expired on"),
        (timedelta(days=1), timedelta(days=90), Level.BAD, "not valid before"),
        (timedelta(days=-3), timedelta(days=3), None, ""),  # one for six days, half of them left
        (timedelta(days=-5), timedelta(days=1), Level.WARN, "It expires in 0 days"),
    ],
)
async def test_how_long_it_is_valid(
    show: Show, begins: timedelta, ends: timedelta, level: Level | None, words: str
) -> None:
    port = await show(PORTAL, INSTANCES, begins_at=NOW + begins, ends_at=NOW + ends)
    found = [one for one in await looked_at(port) if "self-signed" not in one.text]
    assert [one.level for one in found] == ([level] if level else [])
    assert words in said(found)


async def test_names_that_it_is_not_for_are_bad(show: Show) -> None:
    port = await show(PORTAL, ends_at=NOW + timedelta(days=365))
    found = await looked_at(port)
    assert [one.text for one in found if one.level is Level.BAD] == [
        f"The certificate for {INSTANCES} is for other names: {PORTAL}."
    ]


@pytest.mark.parametrize(("shown", "is_bad"), [(f"*.{PORTAL}", False), ("*.example.org", True)])
async def test_a_host_name_for_each_instance_needs_a_wildcard(show: Show, shown: str, is_bad: bool) -> None:
    port = await show(PORTAL, shown, ends_at=NOW + timedelta(days=365))
    found = await looked_at(port, "{instance}." + PORTAL)
    assert any(one.level is Level.BAD for one in found) is is_bad


@pytest.mark.slow
async def test_old_versions_of_tls_are_bad(show: Show) -> None:
    """Against a server that still speaks them, and one that does not."""
    assert ssl.HAS_TLSv1_1
    old, new = await show(PORTAL, INSTANCES, old_tls=True), await show(PORTAL, INSTANCES)
    assert await takes_old_tls(Place(PORTAL, old)) is True
    assert await takes_old_tls(Place(PORTAL, new)) is False
    assert "TLS 1.0 or 1.1" in said(await looked_at(old))
    assert "TLS 1.0 or 1.1" not in said(await looked_at(new))


async def test_nobody_there_and_no_tls_there_are_bad() -> None:
    server = await asyncio.start_server(lambda _reader, writer: writer.close(), "127.0.0.1", 0)
    port = int(server.sockets[0].getsockname()[1])
    spoken = await looked_at(port)
    server.close()
    await server.wait_closed()
    gone = await looked_at(port)
    for found, words in ((spoken, "There is no TLS"), (gone, "no connection")):
        assert [one.level for one in found] == [Level.BAD, Level.BAD], "for each of the names"
        assert words in said(found)


async def test_plain_http_has_no_certificate_to_look_at() -> None:
    (found,) = await certificate("certificate", tables({}), NOW)
    assert (found.level, found.text) == (Level.OK, "Not checked: the addresses are plain http.")


@pytest.mark.parametrize(
    ("held", "host", "covered"),
    [
        (("lab.example.org",), "lab.example.org", True),
        (("Lab.Example.Org",), "lab.example.org", True),
        (("*.example.org",), "lab.example.org", True),
        (("*.example.org",), "a.lab.example.org", False),
        (("*.example.org",), "example.org", False),
        (("example.org",), "lab.example.org", False),
        (("*.org",), "localhost", False),
        ((), "lab.example.org", False),
    ],
)
def test_a_star_stands_for_one_part_of_a_name(held: tuple[str, ...], host: str, covered: bool) -> None:
    assert covers(held, host) is covered


# -- names -------------------------------------------------------------------------------------------------------------


def test_the_places_that_are_asked_about() -> None:
    """One where both are on one host; a made-up instance where each has a name of its own."""
    assert places(settings(443)) == [Place(PORTAL, 443), Place(INSTANCES, 443)]
    assert places(tables({})) == [Place("localhost", 8080)]
    portal, instance = places(settings(443, "{instance}." + PORTAL))
    assert portal.host == PORTAL
    assert instance.host.endswith(f".{PORTAL}")
    assert len(instance.host.split(".")[0]) == 16


def test_where_a_name_leads() -> None:
    assert judged_name("names", PORTAL, ["192.0.2.7", "2001:db8::7"]) is None
    assert judged_name("names", PORTAL, ["127.0.0.1", "192.0.2.7"]) is None
    nowhere, here = judged_name("names", PORTAL, []), judged_name("names", PORTAL, ["127.0.1.1", "fe80::1%lo"][:1])
    assert nowhere is not None
    assert (nowhere.level, "does not resolve" in nowhere.text) == (Level.WARN, True)
    assert here is not None
    assert (here.level, "/etc/hosts" in here.remedy) == (Level.WARN, True)


async def test_names_are_asked_of_this_servers_resolver() -> None:
    assert "127.0.0.1" in await resolved("localhost")
    assert await resolved("nothing.invalid") == []  # RFC 6761: never a name
    found = await names("names", settings(443, "run.invalid"))
    assert any("run.invalid does not resolve" in one.text for one in found)


@pytest.mark.parametrize("url", ["http://localhost:8080", "http://portal.localhost", "http://127.0.0.1:8080"])
async def test_names_of_this_machine_only_are_not_asked_about(url: str) -> None:
    (found,) = await names("names", tables({"public_url": url, "instances_url": "http://localhost:8081"}))
    assert "Not checked" in found.text


async def test_behind_another_proxy_the_certificate_is_that_ones() -> None:
    outer = {"trusted": ["192.0.2.7"], "tls": "outer"}
    made = tables({"public_url": f"https://{PORTAL}", "instances_url": f"https://{INSTANCES}", "proxy": outer})
    (finding,) = await certificate("certificate", made, NOW)
    assert finding.level is Level.OK
    assert "another proxy" in finding.text
