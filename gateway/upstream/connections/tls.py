"""TLS towards an upstream: one context for all its connections, health checks included.

Built when a configuration is composed, never per connection. It stays the same object while the
settings and the files they name are the same; that tells whether connections may still be kept
(Transport.secure).
"""

from __future__ import annotations

import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any

from gateway.config.tables.endpoints import UpstreamTlsConfig
from gateway.core.hooks import ConfigProblem
from gateway.protocols.certificates import (
    VERSIONS,
    certificate,
    digest,
    load_authorities,
    load_chain,
    read,
)

Keep = Callable[[tuple[str, ...], object, Callable[[], Any]], Any]


OFFERED = {"http1": ["http/1.1"], "h2": ["h2"], "auto": ["h2", "http/1.1"]}
"""By an upstream's `protocol`: what ALPN offers its endpoints."""


class UpstreamTls:
    """`contexts` are for every connection, by what it is to speak; `server_name` replaces the
    endpoint's host in SNI and verification, unless ""."""

    def __init__(self, config: UpstreamTlsConfig, directory: Path, protocol: str = "http1") -> None:
        """protocol: the upstream's. WebSockets want HTTP/1.1 whatever it is."""
        self.server_name = config.server_name
        self.contexts = {
            name: _context(config, directory, OFFERED[name]) for name in {protocol, "http1"}
        }

    def __repr__(self) -> str:
        verified = self.contexts["http1"].verify_mode != ssl.CERT_NONE
        return f"<UpstreamTls {'verified' if verified else 'unverified'}>"


def _context(config: UpstreamTlsConfig, directory: Path, offered: list[str]) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = VERSIONS[config.min_version]
    context.set_alpn_protocols(offered)
    if not config.verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    elif config.ca:
        load_authorities(context, directory / config.ca, ("ca",))
    else:
        context.load_default_certs()
    if config.certificate:
        load_chain(context, directory / config.certificate, directory / config.key)
    return context


def upstream_tls(
    name: str, config: UpstreamTlsConfig, directory: Path, keep: Keep, protocol: str = "http1"
) -> UpstreamTls:
    """The UpstreamTls for an upstream's `tls` and `protocol`. Raises ConfigProblem, `at` below the
    former.

    keep: as in Context; the same files with the same settings give the same object across reloads.
    """
    for key, other in (("certificate", "key"), ("key", "certificate")):
        if getattr(config, key) and not getattr(config, other):
            raise ConfigProblem(f"{key} goes with {other}", at=(key,), hint=f"{other} is missing")
    files = digest(read(directory / config.ca, ("ca",))) if config.ca else ""
    if config.certificate:
        files += certificate(directory / config.certificate, directory / config.key).digest
    made: UpstreamTls = keep(
        ("upstream", name, "tls"),
        (config, str(directory), files, protocol),
        lambda: UpstreamTls(config, directory, protocol),
    )
    return made
