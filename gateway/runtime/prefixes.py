"""The index of routes; prefixes that routes take off, and slashes at the end of paths.

With `strip_prefix` the upstream does not see the prefix that its links need. It is told in
X-Forwarded-Prefix, and Location and Content-Location that name its own paths get the prefix back.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from operator import attrgetter
from urllib.parse import urlsplit

from gateway.config.check.paths import encoded
from gateway.config.tables.pipeline import RouteConfig
from gateway.config.tables.server import RoutingConfig
from gateway.config.tables.targets import SERVICE
from gateway.core.exchange import Exchange, Reply
from gateway.core.hooks import Hooks
from gateway.routing.regions import Regions
from gateway.routing.router import Router
from gateway.runtime.snapshot import Route

_FIELDS = (b"location", b"content-location")
_NAMES = {b"location": b"Location", b"content-location": b"Content-Location"}


def restored_prefix(
    route: RouteConfig, rewrite: Callable[[Exchange], str]
) -> tuple[Hooks, Callable[[Exchange], str]]:
    """The hooks of a route with `strip_prefix`, and its rewrite, which tells the upstream too."""
    stripped = route.strip_prefix.rstrip("/")

    def prefix_of(exchange: Exchange) -> str:
        if SERVICE not in stripped:
            return stripped
        return stripped.replace(SERVICE, encoded(exchange.params["service"]))

    def telling(exchange: Exchange) -> str:
        target = rewrite(exchange)
        if target is not exchange.target:
            told = (b"X-Forwarded-Prefix", prefix_of(exchange).encode("latin-1", "replace"))
            pairs = exchange.forward_headers
            # Else of the attempt before.
            if pairs is None or not any(name == told[0] for name, _ in pairs):
                outer = (
                    exchange.headers.get("X-Forwarded-Prefix", "").rstrip("/")
                    if exchange.trusted
                    else ""
                )
                own = (told[0], outer.encode("latin-1", "replace") + told[1]) if outer else told
                exchange.forward_headers = [*(pairs or ()), own]
        return target

    def response(exchange: Exchange, reply: Reply) -> None:
        index = reply.index
        if exchange.attempts and (b"location" in index or b"content-location" in index):
            for name in _FIELDS:
                value = index.get(name)
                if value is not None:
                    reply.set(_NAMES[name], _restored(value, prefix_of(exchange), exchange))

    return Hooks(response=response), telling


def _restored(value: bytes, prefix: str, exchange: Exchange) -> bytes:
    """Return a reference to a path of the upstream's own with the prefix.

    Others stay, and those that have it already.
    """
    text = value.decode("latin-1")
    try:
        parts = urlsplit(text)
    except ValueError:
        return value
    host = exchange.headers.get("Host", "").lower()
    if not parts.path.startswith("/") or (parts.netloc and parts.netloc.lower() != host):
        return value
    if parts.path == prefix or parts.path.startswith(prefix + "/"):
        return value
    return parts._replace(path=prefix + parts.path).geturl().encode("latin-1", "replace")


def other_slash(route: RouteConfig) -> RouteConfig | None:
    """The route at the path with, or without, a slash at its end; None where there is no other."""
    path = route.path or route.prefix
    if path == "/" or (route.prefix and not path.endswith("/")):
        return None
    other = path[:-1] if path.endswith("/") else path + "/"
    return replace(route, path=other, prefix="", trailing_slash="strict")


def to_other_slash(exchange: Exchange) -> Reply:
    """Sends a client to the path with, or without, the slash."""
    path, query = exchange.path, exchange.target[len(exchange.path) :]
    other = path[:-1] if path.endswith("/") else path + "/"
    if other.startswith("//"):
        other = "/" + other.lstrip("/")  # Two slashes would name another host.
    return Reply(308, ((b"Location", (other + query).encode("utf-8", "surrogateescape")),))


def with_redirects(
    routes: Sequence[Route], routing: RoutingConfig
) -> list[tuple[RouteConfig, Route]]:
    """Return routes as the router gets them, with those that only redirect to the other slash."""
    every = [(config, route) for route in routes for config in route.config.matches()]
    spelt = {(config.path, config.hosts) for config, _ in every}
    entries = []
    for config, route in every:
        entries.append((config, route))
        slash = config.trailing_slash or routing.trailing_slash
        other = other_slash(config) if slash == "redirect" else None
        if other is not None and (other.path, other.hosts) not in spelt:
            entries.append((other, replace(route, target=to_other_slash, awaited=False)))
    return entries


def indexed(routes: Sequence[Route], routing: RoutingConfig) -> tuple[Router[Route], Regions[str]]:
    """Return what finds the route of a request, and the pipeline of one that has none."""
    router = Router(with_redirects(routes, routing), routing, attrgetter("guarded"))
    return router, Regions([(route.config, route.pipeline.name) for route in routes])
