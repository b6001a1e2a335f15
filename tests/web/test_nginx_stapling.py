"""OCSP: who staples, with which name servers, and that a real responder's answer reaches the client."""

from __future__ import annotations

import asyncio
import base64
import re
import subprocess
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import unquote

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp

from launchpad.ops.nginx import Stapling, stapling_for
from support.certificates import Authority, certificate, written
from web.nginx_stub import LAB, RUN, Exchange, Stage, Stub, free_port, stage, until

RESPONDER = "http://ocsp.example.org"


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority.new()


def files(folder: Path, authority: Authority, responders: Sequence[str], *more: x509.Certificate) -> Path:
    leaf, key = authority.issue(LAB, RUN, ocsp=responders)
    return written(folder, [leaf, *more], key)[0]


def test_a_certificate_with_responder_and_issuer_is_stapled(tmp_path: Path, authority: Authority) -> None:
    resolv_conf, bundle = tmp_path / "resolv.conf", tmp_path / "bundle.crt"
    resolv_conf.write_text(
        "# by somebody\nsearch example.org\nnameserver 127.0.0.53\nnameserver 2001:db8::53 \n"
        "nameserver fe80::1%eth0\nnameserver broken\nnameserver\noptions edns0\nnameserver 127.0.0.53\n"
    )
    chain = files(tmp_path, authority, [RESPONDER], authority.certificate)
    found = stapling_for(chain, resolv_conf=resolv_conf, bundle=bundle)
    assert found == Stapling(("127.0.0.53", "[2001:db8::53]"), None)
    bundle.touch()
    found = stapling_for(chain, resolv_conf=tmp_path / "none", bundle=bundle)
    assert found == Stapling((), bundle), "without name servers, with the addresses of nginx's start"


def test_the_issuer_may_stand_anywhere_in_the_file(tmp_path: Path, authority: Authority) -> None:
    other = Authority.new("Another")
    assert stapling_for(files(tmp_path, authority, [RESPONDER], other.certificate, authority.certificate))


@pytest.mark.parametrize(
    "responders",
    [[], ["https://ocsp.example.org"], ["ldap://ocsp.example.org"], ["http://"], ["https://a.example", RESPONDER]],
)
def test_a_certificate_without_a_responder_that_nginx_asks_is_not(
    tmp_path: Path, authority: Authority, responders: list[str]
) -> None:
    """Of several it takes the first."""
    assert stapling_for(files(tmp_path, authority, responders, authority.certificate)) is None


def test_a_certificate_without_its_issuer_is_not(tmp_path: Path, authority: Authority) -> None:
    assert stapling_for(files(tmp_path, authority, [RESPONDER])) is None
    namesake = Authority.new()
    assert stapling_for(files(tmp_path, authority, [RESPONDER], namesake.certificate)) is None
    assert stapling_for(files(tmp_path, authority, [RESPONDER], Authority.new("Another").certificate)) is None


def test_a_certificate_of_ones_own_making_is_not(tmp_path: Path) -> None:
    assert stapling_for(certificate(tmp_path, LAB)[0]) is None


def test_what_cannot_be_read_is_not_and_stops_nothing(tmp_path: Path) -> None:
    assert stapling_for(None) is None
    assert stapling_for(tmp_path / "none.pem") is None
    assert stapling_for(tmp_path) is None
    for text in (b"", b"broken", b"-----BEGIN CERTIFICATE-----\nMII\n-----END CERTIFICATE-----\n", bytes(range(256))):
        (tmp_path / "broken.pem").write_bytes(text)
        assert stapling_for(tmp_path / "broken.pem") is None


class Responder(Stub):
    """Says “good” of one certificate, asked by GET (RFC 6960, A.1). `signer` signs it: the issuer, or another."""

    def __init__(self, authority: Authority, signer: Authority) -> None:
        super().__init__()
        self._authority, self._signer = authority, signer
        self.certificate: x509.Certificate | None = None

    async def otherwise(self, exchange: Exchange) -> None:
        assert self.certificate is not None
        encoded = unquote(exchange.request.target.removeprefix("/ocsp").removeprefix("/"))
        asked = ocsp.load_der_ocsp_request(base64.b64decode(encoded))
        assert asked.serial_number == self.certificate.serial_number
        now = datetime.now(UTC)
        issuer = self._authority.certificate
        answer = (
            ocsp.OCSPResponseBuilder()
            .add_response(
                cert=self.certificate,
                issuer=issuer,
                algorithm=asked.hash_algorithm,
                cert_status=ocsp.OCSPCertStatus.GOOD,
                this_update=now - timedelta(minutes=1),
                next_update=now + timedelta(hours=1),
                revocation_time=None,
                revocation_reason=None,
            )
            .responder_id(ocsp.OCSPResponderEncoding.HASH, self._signer.certificate)
            .certificates([self._signer.certificate])
            .sign(self._signer.key, hashes.SHA256())
        )
        await exchange.respond(200, [("Content-Type", "application/ocsp-response")], answer.public_bytes(Encoding.DER))
        raise ConnectionResetError  # nginx asks with HTTP/1.0, and takes the end of the connection for the answer's


@asynccontextmanager
async def stapling_stage(authority: Authority, signer: Authority, trusted: Authority) -> AsyncIterator[Stage]:
    """Both origins with a certificate of the authority's, its responder, and a system that trusts one CA."""
    responder, port = Responder(authority, signer), free_port()
    await responder.listen()
    try:
        with tempfile.TemporaryDirectory() as name:
            leaf, key = authority.issue(LAB, RUN, ocsp=[f"http://{responder.address}/ocsp"])
            responder.certificate = leaf
            chain, key_file = written(Path(name), [leaf, authority.certificate], key)
            bundle = Path(name) / "bundle.crt"
            bundle.write_bytes(trusted.certificate.public_bytes(Encoding.PEM))

            def trusting(text: str) -> str:
                changed, found = re.subn(
                    r'ssl_trusted_certificate "[^"]+"', f'ssl_trusted_certificate "{bundle}"', text
                )
                assert found
                return changed

            urls = {"public_url": f"https://{LAB}:{port}", "instances_url": f"https://{RUN}:{port}"}
            async with stage(trusting, **urls, tls={"certificate": chain, "key": key_file}) as here:
                yield here
    finally:
        await responder.close()


async def status_sent(port: int, name: str) -> str:
    """What a client that asks for it is told with the certificate."""
    client = await asyncio.create_subprocess_exec(
        *("openssl", "s_client", "-connect", f"127.0.0.1:{port}", "-servername", name, "-status"),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    said, _ = await asyncio.wait_for(client.communicate(), 10)
    return said.decode(errors="replace")


async def test_the_responders_answer_comes_with_the_certificate_on_both_origins(authority: Authority) -> None:
    """nginx asks when it is first asked itself, so the first client is told nothing yet."""
    async with stapling_stage(authority, authority, Authority.new("Another")) as here:
        for host in (LAB, RUN):
            async with asyncio.timeout(20):
                while "Cert Status: good" not in (said := await status_sent(here.portal_port, host)):
                    assert "OCSP response: no response sent" in said
        assert not re.search(r"\[(error|warn)\]", here.nginx.errors.read_text())


async def test_an_answer_that_the_issuer_had_signed_by_another_counts_where_the_system_trusts_it(
    authority: Authority,
) -> None:
    async with stapling_stage(authority, authority.delegate(), authority) as here:
        async with asyncio.timeout(20):
            while "Cert Status: good" not in await status_sent(here.portal_port, LAB):
                pass


async def test_an_answer_of_somebody_else_is_not_handed_out(authority: Authority) -> None:
    async with stapling_stage(authority, Authority.new("Another"), authority) as here:
        assert "no response sent" in await status_sent(here.portal_port, LAB)
        await until(lambda: "OCSP_basic_verify() failed" in here.nginx.errors.read_text())
        assert "no response sent" in await status_sent(here.portal_port, LAB)
