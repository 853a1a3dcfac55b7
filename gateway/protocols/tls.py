"""TLS for clients: one context a certificate, chosen by SNI (RFC 6066 section 3).

Built with the snapshot, so that a reload whose certificates cannot be used is refused; handshakes
that begin after a reload see the new ones, connections that are open are not touched. While nothing
about it changes the contexts stay the same objects, and with them the tickets by which clients
resume sessions.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from gateway.config.tables.addresses import CertificateConfig, TlsConfig
from gateway.core.hooks import ConfigProblem
from gateway.protocols.certificates import (
    VERSIONS,
    Certificate,
    KeyPath,
    certificate,
    digest,
    load_authorities,
    load_chain,
    read,
    subject,
)

ALPN = ["http/1.1"]
ALPN_HTTP2 = ["h2", *ALPN]
"""HTTP/2 first: the server's order decides (RFC 7301 section 3.2)."""
SUITES = "ECDHE+AESGCM:ECDHE+CHACHA20"
"""Of TLS 1.2, unless `ciphers` says otherwise; those of TLS 1.3 are always on."""

Keep = Callable[[tuple[str, ...], object, Callable[[], Any]], Any]


class ServerTls:
    """`context` is what handshakes begin with; `certificates` are all that clients may see."""

    def __init__(
        self,
        config: TlsConfig,
        directory: Path,
        certificates: tuple[Certificate, ...],
        alpn: list[str],
    ) -> None:
        self.certificates = certificates
        self.authenticates = bool(config.client_ca)
        self._by_name: dict[str, ssl.SSLContext] = {}
        for place, one in enumerate(every(config)):
            context = _context(config, one, directory, _at(place))
            context.set_alpn_protocols(alpn)
            if place == 0:
                self.context = context
            for name in one.names or certificates[place].names:
                self._by_name.setdefault(name.lower().rstrip("."), context)
        if len(certificates) > 1:
            self.context.sni_callback = self._choose

    def __repr__(self) -> str:
        return f"<ServerTls for {', '.join(one.name for one in self.certificates)}>"

    def subject(self, handshake: ssl.SSLObject) -> str:
        """Whom the client's certificate is made out to; "" when it has shown none."""
        shown = handshake.getpeercert(True)
        return subject(shown) if shown else ""

    def _choose(self, handshake: ssl.SSLObject, name: str | None, context: ssl.SSLContext) -> None:
        """Asked by OpenSSL for every handshake.

        RFC 6125 section 6.4.3: a wildcard stands for one label.
        """
        if name is not None:
            name = name.lower().rstrip(".")
            chosen = self._by_name.get(name) or self._by_name.get("*." + name.partition(".")[2])
            if chosen is not None and chosen is not context:
                handshake.context = chosen


def server_tls(config: TlsConfig, directory: Path, keep: Keep, *, http2: bool = False) -> ServerTls:
    """Return what [listen.tls] means. Raises ConfigProblem, `at` below that table.

    keep: as in Context; the same files with the same settings give the same object across reloads.
    """
    if config.client_auth is not None and not config.client_ca:
        raise ConfigProblem(
            "client_auth means nothing without client_ca",
            at=("client_auth",),
            hint="whose are to be taken?",
        )
    certificates = tuple(
        certificate(directory / one.certificate, directory / one.key, _at(place))
        for place, one in enumerate(every(config))
    )
    authorities = (
        digest(read(directory / config.client_ca, ("client_ca",))) if config.client_ca else ""
    )
    alpn = ALPN_HTTP2 if http2 else ALPN
    digests = tuple(one.digest for one in certificates)
    made: ServerTls = keep(
        ("listen", "tls"),
        (config, str(directory), digests, authorities, http2),
        lambda: ServerTls(config, directory, certificates, alpn),
    )
    return made


def every(config: TlsConfig) -> tuple[CertificateConfig, ...]:
    """All certificates, the default one first."""
    return (CertificateConfig(config.certificate, config.key), *config.certificates)


def warnings(config: TlsConfig, tls: ServerTls, now: float) -> Iterator[tuple[KeyPath, str, str]]:
    """Yield what to warn of about certificates that can be used but hardly should.

    Where, what, and what to do; `now` in seconds since 1970.

    `now` in seconds since 1970.
    """
    shown: set[str] = set()
    for place, (one, known) in enumerate(zip(every(config), tls.certificates, strict=True)):
        condition = known.condition(datetime.fromtimestamp(now, UTC))
        if condition:
            yield (
                (*_at(place), "certificate"),
                f"the certificate for {known.name} {condition}",
                "renew it, and reload",
            )
        names = {name.lower().rstrip(".") for name in one.names or known.names}
        if place > 0 and names and names <= shown:
            hint = "an earlier one is for " + ", ".join(sorted(names))
            yield (
                (*_at(place), "certificate"),
                f"the certificate for {known.name} is never shown",
                hint,
            )
        shown |= names
        for index, name in enumerate(one.names):
            if not _covers(known, name.lower()):
                hint = "it is made out to " + (", ".join(known.names) or "none")
                yield (
                    (*_at(place), "names", index),
                    f"the certificate is not made out to {name!r}",
                    hint,
                )


def renewed(old: ServerTls | None, new: ServerTls | None) -> Iterator[str]:
    """Return what a reload has changed about certificates, in words."""
    known = {one.digest for one in old.certificates} if old is not None else set()
    for one in new.certificates if new is not None else ():
        if old is not None and one.digest not in known:
            yield (
                f"certificate for {one.name} changed, it expires "
                f"{datetime.fromtimestamp(one.expires, UTC):%Y-%m-%d}"
            )


def _at(place: int) -> KeyPath:
    """Return where the certificate stands: the first is the table's own."""
    return () if place == 0 else ("certificates", place - 1)


def _covers(known: Certificate, name: str) -> bool:
    return name in known.names or "*." + name.partition(".")[2] in known.names


def _context(
    config: TlsConfig, one: CertificateConfig, directory: Path, at: KeyPath
) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = VERSIONS[config.min_version]
    # CVE-2011-1473: renegotiation costs the server more than the client; HTTP/1.1 has no use for
    # it.
    context.options |= ssl.OP_NO_RENEGOTIATION
    # Of TLS 1.2 only suites with forward secrecy and authenticated encryption (RFC 9325 section
    # 4.2).
    context.set_ciphers(SUITES)
    if config.ciphers:
        try:
            context.set_ciphers(config.ciphers)
        except ssl.SSLError:
            hint = (
                "OpenSSL's names, e.g. ECDHE+AESGCM:ECDHE+CHACHA20; those of TLS 1.3 are always on"
            )
            raise ConfigProblem(
                f"OpenSSL knows no cipher in {config.ciphers!r}", at=("ciphers",), hint=hint
            ) from None
    load_chain(context, directory / one.certificate, directory / one.key, at)
    if config.client_ca:
        load_authorities(context, directory / config.client_ca, ("client_ca",))
        context.verify_mode = (
            ssl.CERT_OPTIONAL if config.client_auth == "optional" else ssl.CERT_REQUIRED
        )
    return context
