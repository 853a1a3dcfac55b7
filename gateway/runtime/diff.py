"""What a reload changed, in lines for the log and the admin API: names of what differs, never values, which may be secret."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import fields, replace
from typing import Any

from gateway.config.check.compile import LoadedConfig
from gateway.config.tables.server import ListenConfig
from gateway.config.tables.upstream import UpstreamConfig

RESTART_ONLY = ("listen", "admin")
"""Sockets stay as they were opened."""


def differences(old: LoadedConfig, new: LoadedConfig) -> Iterator[str]:
    """One line a change, most general first; none when nothing changed."""
    for field in fields(new.gateway):
        if getattr(old.gateway, field.name) != getattr(new.gateway, field.name):
            if field.name == "listen" and _only_tls(old.gateway.listen, new.gateway.listen):
                yield "[listen.tls] changed"
                continue
            later = " (takes effect at the next start)" if field.name in RESTART_ONLY else ""
            yield f"[{field.name}] changed{later}"
    yield from _named("upstream", old.upstreams, new.upstreams, _upstream)
    before = {pipeline.name: pipeline for pipeline in old.pipelines}
    after = {pipeline.name: pipeline for pipeline in new.pipelines}
    yield from _named("pipeline", before, after, _pipeline)
    yield from _named("route", _routes(old), _routes(new), _keys)


def _only_tls(old: ListenConfig, new: ListenConfig) -> bool:
    """Whether the sockets are the same and only what handshakes on them use is not."""
    return old.tls is not None and new.tls is not None and replace(old, tls=new.tls) == new


def _named(kind: str, old: Mapping[str, Any], new: Mapping[str, Any], describe: Any) -> Iterator[str]:
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
    yield from (f"endpoint {url}" for url in after.keys() & before.keys() if after[url] != before[url])
    yield from (key for key in _keys(old, new) if key not in ("endpoints", "url"))


def _pipeline(old: Any, new: Any) -> Iterator[str]:
    for key in _keys(old, new):
        if key == "settings":
            names = old.settings.keys() | new.settings.keys()
            yield from (f"[{name}]" for name in sorted(names) if old.settings.get(name) != new.settings.get(name))
        elif key != "routes":
            yield key


def _routes(loaded: LoadedConfig) -> dict[str, Any]:
    return {f"{pipeline.name}/{route.name}": route for pipeline in loaded.pipelines for route in pipeline.routes}
