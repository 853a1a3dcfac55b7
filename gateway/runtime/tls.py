"""TLS contexts of a snapshot, for clients and towards upstreams.

What they need is imported only where a configuration asks for it.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gateway.config.check.compile import LoadedConfig
from gateway.config.tables.endpoints import UpstreamTlsConfig
from gateway.config.toml.problems import Problem
from gateway.core.hooks import ConfigProblem

if TYPE_CHECKING:
    from gateway.config.toml.positions import KeyPath
    from gateway.protocols.tls import ServerTls
    from gateway.upstream.connections.tls import UpstreamTls

Report = Callable[[Problem], None]
"""Takes an error or a warning."""


def listening(
    loaded: LoadedConfig, keep: Callable[..., Any], now: float, report: Report
) -> ServerTls | None:
    """TLS for clients; None without `[listen.tls]`, or when it is wrong. `now`: Unix seconds."""
    config = loaded.gateway.listen.tls
    if config is None:
        return None
    from gateway.protocols.tls import server_tls, warnings

    def place(*at: str | int) -> tuple[Path, int, int]:
        return loaded.locate("", ("listen", "tls", *at))

    try:
        http2 = loaded.gateway.listen.http2
        tls = server_tls(config, place()[0].parent, keep, http2=http2)
    except ConfigProblem as problem:
        report(Problem(*place(*problem.at), f"listen.tls: {problem.message}", problem.hint))
        return None
    for at, message, hint in warnings(config, tls, now):
        report(Problem(*place(*at), f"listen.tls: {message}", hint, "warning"))
    return tls


def check_admin(loaded: LoadedConfig, report: Report) -> None:
    """Report what keeps the admin listener from TLS; the process makes it apart from snapshots."""
    admin = loaded.gateway.admin
    if admin is None or admin.tls is None:
        return
    from gateway.protocols.tls import server_tls

    file, *_ = loaded.locate("", ("admin", "tls"))
    try:
        server_tls(admin.tls, file.parent, lambda key, settings, make: make())
    except ConfigProblem as problem:
        place = loaded.locate("", ("admin", "tls", *problem.at))
        report(Problem(*place, f"admin.tls: {problem.message}", problem.hint))


def towards(
    loaded: LoadedConfig, name: str, keep: Callable[..., Any], report: Report
) -> UpstreamTls | None:
    """TLS towards an upstream that has, or may come to have, endpoints on https."""
    config = loaded.upstreams[name]
    path: KeyPath = ("upstream", name, "tls")
    place = loaded.locate("", path)
    said = config.tls
    secure = any(endpoint.url.lower().startswith("https:") for endpoint in config.endpoints)
    if not secure and config.discover is None:
        if said is not None:
            message = f"upstream.{name}.tls has no effect: none of its URLs says https"
            report(Problem(*place, message, severity="warning"))
        return None
    from gateway.upstream.connections.tls import upstream_tls

    if said is not None and not said.verify:
        message = f"upstream.{name}.tls: endpoints need not prove who they are"
        hint = "name their authority in ca instead"
        report(Problem(*loaded.locate("", (*path, "verify")), message, hint, "warning"))
    try:
        protocol = "h2" if config.protocol == "h2c" else config.protocol
        return upstream_tls(name, said or UpstreamTlsConfig(), place[0].parent, keep, protocol)
    except ConfigProblem as problem:
        where = loaded.locate("", (*path, *problem.at))
        report(Problem(*where, f"upstream.{name}.tls: {problem.message}", problem.hint))
        return None
