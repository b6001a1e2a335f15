"""Whether a certificate's revocation can be answered for by nginx itself (OCSP stapling), and with what.

nginx staples when the certificate names an OCSP responder and the file holds its issuer; without either it only warns.
Authorities that have ended OCSP, such as Let's Encrypt in 2025, name none.
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import urlsplit

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.x509.oid import AuthorityInformationAccessOID

RESOLV_CONF = Path("/etc/resolv.conf")
HOST_BUNDLE = Path("/etc/ssl/certs/ca-certificates.crt")
_MOST_NAME_SERVERS = 3  # of resolv.conf(5)


@dataclass(frozen=True)
class Stapling:
    """What nginx has to know beyond the certificate.

    `resolvers` are name servers as nginx writes them, for the responder's host name. With none, nginx keeps to the
    addresses it found when it started. `trusted` is a file of CAs, for answers that the issuer had signed by another.
    """

    resolvers: tuple[str, ...] = ()
    trusted: Path | None = None


def stapling_for(
    certificate: Path | None, *, resolv_conf: Path = RESOLV_CONF, bundle: Path = HOST_BUNDLE
) -> Stapling | None:
    """None when nginx could not staple, among it when the file is not there (yet) or may not be read."""
    if certificate is None:
        return None
    try:
        chain = x509.load_pem_x509_certificates(certificate.read_bytes())
    except (OSError, ValueError):
        return None
    leaf, *others = chain
    if not _has_responder(leaf) or not any(_has_issued(other, leaf) for other in others):
        return None
    return Stapling(_name_servers(resolv_conf), bundle if bundle.is_file() else None)


def _has_responder(leaf: x509.Certificate) -> bool:
    """Whether the first responder that the certificate names is one that nginx asks: no other, and not over https."""
    try:
        access = leaf.extensions.get_extension_for_class(x509.AuthorityInformationAccess).value
    except (x509.ExtensionNotFound, x509.DuplicateExtension, ValueError):
        return False
    urls = [
        description.access_location.value
        for description in access
        if description.access_method == AuthorityInformationAccessOID.OCSP
        and isinstance(description.access_location, x509.UniformResourceIdentifier)
    ]
    if not urls or not urls[0].lower().startswith("http://"):
        return False
    try:
        return bool(urlsplit(urls[0]).hostname)
    except ValueError:
        return False


def _has_issued(issuer: x509.Certificate, leaf: x509.Certificate) -> bool:
    try:
        leaf.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def _name_servers(resolv_conf: Path) -> tuple[str, ...]:
    """Those of resolv.conf(5). One with a zone (fe80::1%eth0) is left out: nginx does not know zones."""
    try:
        lines = resolv_conf.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ()
    found: list[str] = []
    for line in lines:
        words = line.split()
        if len(words) < 2 or words[0] != "nameserver" or "%" in words[1]:
            continue
        try:
            address = ip_address(words[1])
        except ValueError:
            continue
        found.append(f"[{address}]" if address.version == 6 else str(address))
    return tuple(dict.fromkeys(found))[:_MOST_NAME_SERVERS]
