"""Certificates for tests: an authority that makes them, and files to name in TOML."""

from __future__ import annotations

import ssl
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

DAY = timedelta(days=1)


class Authority:
    """A CA whose certificate and all it makes stand in `directory`: NAME.pem and NAME.key."""

    def __init__(self, directory: Path, name: str = "ca") -> None:
        self.directory = directory
        self.name = name
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, f"Test {name}")])
        now = datetime.now(UTC)
        built = self._builder(self._subject, self._key, now - DAY, now + 365 * DAY)
        built = built.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        built = built.add_extension(
            x509.KeyUsage(
                digital_signature=True, key_cert_sign=True, crl_sign=True, content_commitment=False, key_encipherment=False,
                data_encipherment=False, key_agreement=False, encipher_only=False, decipher_only=False,
            ),
            critical=True,
        )  # fmt: skip
        self.certificate = built.sign(self._key, hashes.SHA256())
        self._write(name, self.certificate, self._key)

    @property
    def file(self) -> Path:
        return self.directory / f"{self.name}.pem"

    def issue(
        self,
        name: str,
        *names: str,
        subject: x509.Name | None = None,
        days: float = 90,
        begins: float = -1,
        password: bytes | None = None,
    ) -> Path:
        """Makes NAME.pem and NAME.key for these names (addresses too); the certificate's path."""
        key = ec.generate_private_key(ec.SECP256R1())
        now = datetime.now(UTC)
        if subject is None:
            subject = x509.Name(
                [x509.NameAttribute(x509.NameOID.COMMON_NAME, names[0])] if names else []
            )
        built = self._builder(subject, key, now + begins * DAY, now + days * DAY)
        if names:
            built = built.add_extension(
                x509.SubjectAlternativeName([_general(one) for one in names]), critical=False
            )
        self._write(name, built.sign(self._key, hashes.SHA256()), key, password)
        return self.directory / f"{name}.pem"

    def trusting(self, certificate: Path | None = None, **settings: object) -> ssl.SSLContext:
        """A client's context that trusts this CA, and shows `certificate` when it is asked."""
        context = ssl.create_default_context(cafile=self.file)
        if certificate is not None:
            context.load_cert_chain(certificate, certificate.with_suffix(".key"))
        for setting, value in settings.items():
            setattr(context, setting, value)
        return context

    def _builder(
        self, subject: x509.Name, key: ec.EllipticCurvePrivateKey, begins: datetime, ends: datetime
    ) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(begins)
            .not_valid_after(ends)
            .add_extension(
                x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False
            )
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()),
                critical=False,
            )
        )

    def _write(
        self,
        name: str,
        certificate: x509.Certificate,
        key: ec.EllipticCurvePrivateKey,
        password: bytes | None = None,
    ) -> None:
        (self.directory / f"{name}.pem").write_bytes(
            certificate.public_bytes(serialization.Encoding.PEM)
        )
        hidden: serialization.KeySerializationEncryption = serialization.NoEncryption()
        if password is not None:
            hidden = serialization.BestAvailableEncryption(password)
        (self.directory / f"{name}.key").write_bytes(
            key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, hidden)
        )


def _general(name: str) -> x509.GeneralName:
    if "://" in name:
        return x509.UniformResourceIdentifier(name)
    try:
        return x509.IPAddress(ip_address(name))
    except ValueError:
        return x509.DNSName(name)
