"""Certificates of our own making."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import AuthorityInformationAccessOID, NameOID


@dataclass(frozen=True)
class Authority:
    """A certificate authority, which can issue certificates that name an OCSP responder."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @classmethod
    def new(cls, name: str = "Test authority") -> Authority:
        key = ec.generate_private_key(ec.SECP256R1())
        made = _builder(_called(name), _called(name), key).add_extension(
            x509.BasicConstraints(ca=True, path_length=None), critical=True
        )
        return cls(made.sign(key, hashes.SHA256()), key)

    def issue(self, *names: str, ocsp: Sequence[str] = ()) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
        """A certificate for `names`, with the addresses of responders in this order, and its key."""
        key = ec.generate_private_key(ec.SECP256R1())
        made = _builder(_called(names[0]), self.certificate.subject, key)
        made = made.add_extension(x509.SubjectAlternativeName([x509.DNSName(name) for name in names]), critical=False)
        if ocsp:
            found = [
                x509.AccessDescription(AuthorityInformationAccessOID.OCSP, x509.UniformResourceIdentifier(url))
                for url in ocsp
            ]
            made = made.add_extension(x509.AuthorityInformationAccess(found), critical=False)
        return made.sign(self.key, hashes.SHA256()), key


def written(folder: Path, chain: Sequence[x509.Certificate], key: ec.EllipticCurvePrivateKey) -> tuple[Path, Path]:
    """The files of a chain and a key."""
    chain_file, key_file = folder / "chain.pem", folder / "key.pem"
    chain_file.write_bytes(b"".join(one.public_bytes(Encoding.PEM) for one in chain))
    key_file.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return chain_file, key_file


def certificate(
    folder: Path,
    *names: str,
    authority: bool = False,
    begins_at: datetime | None = None,
    ends_at: datetime | None = None,
    must_staple: bool = False,
) -> tuple[Path, Path]:
    """A certificate of its own making for `names`: the files of its chain and its key.

    Args:
        authority: signed by an authority made for it, whose own certificate is `authority.pem`, not by itself.
        begins_at, ends_at: by default an hour ago, and in an hour.
        must_staple: asks browsers to refuse it without an OCSP answer.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    signer = ec.generate_private_key(ec.SECP256R1()) if authority else key
    issuer = _called("an authority of tests" if authority else names[0])
    made = (
        _builder(_called(names[0]), issuer, key, begins_at, ends_at)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name) for name in names]), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False)
    )
    if must_staple:
        made = made.add_extension(x509.TLSFeature([x509.TLSFeatureType.status_request]), critical=False)
    signed = made.sign(signer, hashes.SHA256())
    if authority:
        root = (
            _builder(issuer, issuer, signer, begins_at, ends_at)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(signer.public_key()), critical=False)
            .add_extension(_SIGNS_CERTIFICATES, critical=True)
            .sign(signer, hashes.SHA256())
        )
        (folder / "authority.pem").write_bytes(root.public_bytes(Encoding.PEM))
    return written(folder, [signed], key)


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePrivateKey,
    begins_at: datetime | None = None,
    ends_at: datetime | None = None,
) -> x509.CertificateBuilder:
    """Of a certificate that holds from an hour ago for two hours, unless told otherwise."""
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder(issuer_name=issuer, subject_name=subject, public_key=key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begins_at or now - timedelta(hours=1))
        .not_valid_after(ends_at or now + timedelta(hours=1))
    )


def _called(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


_SIGNS_CERTIFICATES = x509.KeyUsage(
    digital_signature=True,
    content_commitment=False,
    key_encipherment=False,
    data_encipherment=False,
    key_agreement=False,
    key_cert_sign=True,
    crl_sign=True,
    encipher_only=False,
    decipher_only=False,
)
