"""Certificates and keys as files name them, refused with the key of the TOML at fault.

Shared by TLS for clients (runtime/tls.py) and towards upstreams (upstream/connections/tls.py),
which turn them into contexts.
"""

from __future__ import annotations

import hashlib
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509

from gateway.core.hooks import ConfigProblem

SOON = timedelta(days=14)
"""Certificates that expire within this time are warned about."""

VERSIONS = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}

KeyPath = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class Certificate:
    """What a certificate file says of its first certificate.

    `expires` in seconds since 1970; `digest` of file and key file.

    name: what to call it: the first name it is made out to, else its subject's common name, else
          the file's name.
    names: its DNS names and addresses in lower case, wildcards as they are.
    """

    name: str
    names: tuple[str, ...]
    begins: datetime
    expires: float
    digest: str

    def condition(self, now: datetime) -> str:
        """Return what there is to warn about at `now`; "" when all is well."""
        expires = datetime.fromtimestamp(self.expires, UTC)
        if now >= expires:
            return f"expired on {expires:%Y-%m-%d %H:%M} UTC"
        if now < self.begins:
            return f"is not valid before {self.begins:%Y-%m-%d %H:%M} UTC"
        left = expires - now
        if left < SOON:
            return (
                f"expires on {expires:%Y-%m-%d %H:%M} UTC, in {left.days} "
                f"day{'' if left.days == 1 else 's'}"
            )
        return ""


def read(path: Path, at: KeyPath) -> bytes:
    """The file's bytes. Raises ConfigProblem."""
    try:
        return path.read_bytes()
    except (OSError, ValueError) as error:
        raise ConfigProblem(
            f"cannot read {str(path)!r}: {getattr(error, 'strerror', None) or error}", at=at
        ) from None


def digest(*contents: bytes) -> str:
    return hashlib.sha256(
        b"".join(hashlib.sha256(content).digest() for content in contents)
    ).hexdigest()


def certificate(path: Path, key: Path, at: KeyPath = ()) -> Certificate:
    """Reads both files and describes the certificate.

    Raises ConfigProblem at `at` + ("certificate",) or ("key",).
    """
    raw = read(path, (*at, "certificate"))
    key_raw = read(key, (*at, "key"))
    try:
        first = x509.load_pem_x509_certificates(raw)[0]
    except (ValueError, IndexError):
        raise ConfigProblem(
            f"{str(path)!r} holds no certificate",
            at=(*at, "certificate"),
            hint="PEM: the server's own first, then the chain",
        ) from None
    names = _names(first)
    common = first.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)
    name = next(iter(names), str(common[0].value) if common else path.name)
    begins, expires = first.not_valid_before_utc, first.not_valid_after_utc
    return Certificate(name, names, begins, expires.timestamp(), digest(raw, key_raw))


def load_chain(context: ssl.SSLContext, path: Path, key: Path, at: KeyPath = ()) -> None:
    """Puts certificate and key into the context. Raises ConfigProblem."""

    def encrypted() -> str:
        raise ConfigProblem(
            f"{str(key)!r} is encrypted", at=(*at, "key"), hint="openssl pkey -in KEY -out PLAIN"
        )

    try:
        context.load_cert_chain(path, key, password=encrypted)
    except ssl.SSLError as error:
        if error.reason and "MISMATCH" in error.reason:
            raise ConfigProblem(
                f"{str(key)!r} is not the key of {str(path)!r}", at=(*at, "key")
            ) from None
        why = (error.reason or str(error)).lower().replace("_", " ")
        raise ConfigProblem(
            f"cannot use {str(path)!r} with {str(key)!r}: {why}", at=(*at, "key")
        ) from None
    except OSError as error:
        raise ConfigProblem(
            f"cannot read {str(path)!r}: {error.strerror}", at=(*at, "certificate")
        ) from None


def load_authorities(context: ssl.SSLContext, path: Path, at: KeyPath) -> None:
    """Trusts the certificates in a file. Raises ConfigProblem."""
    read(path, at)
    try:
        context.load_verify_locations(cafile=path)
    except ssl.SSLError:
        raise ConfigProblem(
            f"{str(path)!r} holds no certificates", at=at, hint="PEM, one after the other"
        ) from None


def subject(der: bytes) -> str:
    """Return a certificate's subject (RFC 4514), or its first alternative name, "DNS=...".

    Fit for a header field: control characters, which a certificate may hold, are escaped as RFC
    4514 section 2.4 does it.
    """
    known = x509.load_der_x509_certificate(der)
    text = known.subject.rfc4514_string()
    if not text:
        text = next((f"{kind}={value}" for kind, value in _alternatives(known)), "")
    return "".join(
        sign if sign.isprintable() else "".join(f"\\{byte:02X}" for byte in sign.encode())
        for sign in text
    )


_KINDS: dict[type[x509.GeneralName], tuple[str, Callable[[x509.GeneralName], str]]] = {
    x509.DNSName: ("DNS", lambda name: str(name.value)),
    x509.IPAddress: ("IP", lambda name: str(name.value)),
    x509.UniformResourceIdentifier: ("URI", lambda name: str(name.value)),
    x509.RFC822Name: ("email", lambda name: str(name.value)),
}


def _alternatives(known: x509.Certificate) -> list[tuple[str, str]]:
    try:
        names = known.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, ValueError):
        return []
    found = ((name, _KINDS.get(type(name))) for name in names)
    return [(kind[0], kind[1](name)) for name, kind in found if kind is not None]


def _names(known: x509.Certificate) -> tuple[str, ...]:
    return tuple(value.lower() for kind, value in _alternatives(known) if kind in ("DNS", "IP"))
