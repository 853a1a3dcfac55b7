"""What a reload changed, in lines for the log and the admin API.

Lines name what differs and show no values, which may be secret.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import fields, replace
from typing import Any

from gateway.config.check.compile import LoadedConfig
from gateway.config.tables.addresses import AdminConfig, TlsConfig
from gateway.config.tables.server import GatewayConfig, ListenConfig
from gateway.config.tables.upstream import UpstreamConfig
from gateway.lifetime.process import worker_count

RESTART_ONLY = ("listen", "admin")
"""Sockets stay as they were opened."""
_TLS = TlsConfig(certificate="", key="")


def differences(
    old: LoadedConfig, new: LoadedConfig, started: GatewayConfig | None = None
) -> Iterator[str]:
    """Yield a line for each change, the most general first.

    started: what the process began with, which its sockets still follow; `old`'s if left out.
    """
    started = started or old.gateway
    before, waiting = restarts(started, old.gateway), restarts(started, new.gateway)
    for field in fields(new.gateway):
        if getattr(old.gateway, field.name) != getattr(new.gateway, field.name):
            if field.name == "listen" and _only_tls(old.gateway.listen, new.gateway.listen):
                yield "[listen.tls] changed"
                continue
            later = ""
            if field.name in waiting:
                later = " (takes effect at the next start)"
            elif field.name in before:
                later = " back (nothing waits for a restart)"
            yield f"[{field.name}] changed{later}"
    yield from _named("upstream", old.upstreams, new.upstreams, _upstream)
    then, now = ({one.name: one for one in loaded.pipelines} for loaded in (old, new))
    yield from _named("pipeline", then, now, _pipeline)
    yield from _named("route", _routes(old), _routes(new), _keys)


def restarts(started: GatewayConfig, now: GatewayConfig) -> tuple[str, ...]:
    """Return the tables whose differences from what the process began with need a restart, and
    "server.workers" if that changes between one and several."""
    found = [
        name
        for name in RESTART_ONLY
        if _sockets(getattr(started, name)) != _sockets(getattr(now, name))
    ]
    if (worker_count(started.server) == 1) != (worker_count(now.server) == 1):
        found.append("server.workers")
    return tuple(found)


def _sockets(config: ListenConfig | AdminConfig | None) -> object:
    """Return what sockets were opened by: all but the contents of `tls`, which handshakes use."""
    if config is None or config.tls is None:
        return config
    return replace(config, tls=_TLS)


def _only_tls(old: ListenConfig, new: ListenConfig) -> bool:
    return old.tls is not None and new.tls is not None and _sockets(old) == _sockets(new)


def _named(
    kind: str, old: Mapping[str, Any], new: Mapping[str, Any], describe: Any
) -> Iterator[str]:
    for name in new.keys() - old.keys():
        yield f"{kind} {name} added"
    for name in old.keys() - new.keys():
        yield f"{kind} {name} removed"
    for name in sorted(new.keys() & old.keys()):
        if old[name] != new[name]:
            changed = ", ".join(describe(old[name], new[name]))
            if changed:
                yield f"{kind} {name} changed: {changed}"


def _keys(old: Any, new: Any) -> Iterator[str]:
    for field in fields(new):
        if getattr(old, field.name) != getattr(new, field.name):
            yield field.name


def _upstream(old: UpstreamConfig, new: UpstreamConfig) -> Iterator[str]:
    before = {endpoint.url: endpoint for endpoint in old.endpoints}
    after = {endpoint.url: endpoint for endpoint in new.endpoints}
    yield from (f"endpoint {url} added" for url in after.keys() - before.keys())
    yield from (f"endpoint {url} removed" for url in before.keys() - after.keys())
    yield from (
        f"endpoint {url}" for url in after.keys() & before.keys() if after[url] != before[url]
    )
    yield from (key for key in _keys(old, new) if key not in ("endpoints", "url"))


def _pipeline(old: Any, new: Any) -> Iterator[str]:
    for key in _keys(old, new):
        if key == "settings":
            names = old.settings.keys() | new.settings.keys()
            yield from (
                f"[{name}]"
                for name in sorted(names)
                if old.settings.get(name) != new.settings.get(name)
            )
        elif key != "routes":
            yield key


def _routes(loaded: LoadedConfig) -> dict[str, Any]:
    return {
        f"{pipeline.name}/{route.name}": route
        for pipeline in loaded.pipelines
        for route in pipeline.routes
    }
