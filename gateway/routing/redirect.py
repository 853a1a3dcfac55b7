"""The target of a route with `redirect`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from gateway.config.check.targets import destination
from gateway.config.tables.pipeline import RouteConfig
from gateway.config.tables.server import RoutingConfig
from gateway.core.exchange import Exchange, Reply
from gateway.routing.rewrite import rewritten


def redirect(route: RouteConfig, routing: RoutingConfig) -> Callable[[Exchange], Reply]:
    """Return what answers with the Location that `route.redirect` says."""
    config = route.redirect
    assert config is not None
    to = destination(config.to, None, has_hosts=True)
    rewrite = rewritten(replace(route, rewrite=to.rewrite), routing, with_query=to.with_query)
    assert rewrite is not None
    status, origin, names_host = config.status, to.origin, "{host}" in to.origin

    def answer(exchange: Exchange) -> Reply:
        start = origin.replace("{host}", exchange.host) if names_host else origin
        location = start + rewrite(exchange)
        return Reply(status, ((b"Location", location.encode("utf-8", "surrogateescape")),))

    return answer
