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


class UpstreamTls:
    """`context` is for every connection; `server_name` replaces the endpoint's host in SNI and
    verification, unless ""."""

    def __init__(self, config: UpstreamTlsConfig, directory: Path) -> None:
        self.server_name = config.server_name
        context = self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = VERSIONS[config.min_version]
        context.set_alpn_protocols(["http/1.1"])
        if not config.verify:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        elif config.ca:
            load_authorities(context, directory / config.ca, ("ca",))
        else:
            context.load_default_certs()
        if config.certificate:
            load_chain(context, directory / config.certificate, directory / config.key)

    def __repr__(self) -> str:
        verified = self.context.verify_mode != ssl.CERT_NONE
        return f"<UpstreamTls {'verified' if verified else 'unverified'}>"


def upstream_tls(name: str, config: UpstreamTlsConfig, directory: Path, keep: Keep) -> UpstreamTls:
    """The UpstreamTls for an upstream's `tls`. Raises ConfigProblem, `at` below that table.

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
        (config, str(directory), files),
        lambda: UpstreamTls(config, directory),
    )
    return made
