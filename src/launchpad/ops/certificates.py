"""CA certificates that this site needs beyond a distribution's: a TLS-inspecting proxy's, an internal CA's."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ..errors import SettingsError

LOCAL_CAS = Path("/usr/local/share/ca-certificates")  # what update-ca-certificates(8) adds to the host's bundle
HOST_BUNDLE = Path("/etc/ssl/certs/ca-certificates.crt")
_BEGIN = "-----BEGIN CERTIFICATE-----"
_END = "-----END CERTIFICATE-----"


def site_certificates(extra: Sequence[Path], local: Path = LOCAL_CAS) -> list[str]:
    """The PEM texts, each one certificate: those named in the settings, then those added to this server.

    Raises:
        SettingsError: a named file cannot be read or holds no certificate.
    """
    found: dict[str, None] = {}
    for path in extra:
        try:
            texts = _split(path.read_text(encoding="ascii", errors="ignore"))
        except OSError as error:
            raise SettingsError(f"images.extra_ca_certificates: {path} cannot be read: {error.strerror}") from None
        if not texts:
            raise SettingsError(f"images.extra_ca_certificates: {path} holds no certificate in PEM form")
        found.update(dict.fromkeys(texts))
    for path in sorted(local.glob("**/*.crt")) if local.is_dir() else ():
        found.update(dict.fromkeys(_split(path.read_text(encoding="ascii", errors="ignore"))))
    return list(found)


def write_bundle(path: Path, certificates: Sequence[str], base: Path = HOST_BUNDLE) -> Path | None:
    """A bundle of the host's CAs and these, for instances; None when there are no others than a distribution's."""
    if not certificates:
        return None
    system = base.read_text(encoding="ascii", errors="ignore") if base.exists() else ""
    missing = [text for text in certificates if text not in system]
    text = system + "".join(missing)
    if not path.exists() or path.read_text(encoding="ascii", errors="ignore") != text:
        beside = path.with_suffix(".new")
        beside.write_text(text, encoding="ascii")
        beside.chmod(0o644)
        beside.rename(path)
    return path


def _split(text: str) -> list[str]:
    certificates = []
    while (begin := text.find(_BEGIN)) >= 0:
        end = text.find(_END, begin)
        if end < 0:
            break
        certificates.append(text[begin : end + len(_END)] + "\n")
        text = text[end + len(_END) :]
    return certificates
