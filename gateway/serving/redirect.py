"""The http listener that redirects to https: the usual way of a request, on a snapshot with one
answer.

So a redirect is admitted, limited, logged and counted like any other request, as route "redirect".
"""

from __future__ import annotations

from dataclasses import replace

from gateway.config.tables.addresses import RedirectConfig
from gateway.config.tables.pipeline import RouteConfig
from gateway.core.exchange import Exchange, Reply
from gateway.core.failures import Failed, Failure
from gateway.routing.router import Router
from gateway.runtime.reload import Runtime
from gateway.runtime.services import Services
from gateway.runtime.snapshot import Route, Snapshot

NAME = "redirect"


class Redirects:
    """Stands in for the runtime: its snapshot is the one in force with the redirect for its only
    route."""

    def __init__(self, runtime: Runtime, config: RedirectConfig, port: int) -> None:
        self._runtime = runtime
        self._status = config.status
        port = config.https_port or port
        self._port = "" if port == 443 else f":{port}"
        self._made: Snapshot | None = None
        self._of: Snapshot | None = None

    @property
    def services(self) -> Services:
        return self._runtime.services

    @property
    def snapshot(self) -> Snapshot:
        current = self._runtime.snapshot
        if self._made is None or self._of is not current:
            self._of = current
            self._made = self._compose(current)
        return self._made

    def _compose(self, current: Snapshot) -> Snapshot:
        config = RouteConfig(name=NAME, prefix="/")
        pipeline = replace(current.unrouted, finish=current.unrouted.finish_failed)
        route = Route(NAME, config, pipeline, self._answer, awaited=False)
        router = Router([(config, route)], current.loaded.gateway.routing)
        return Snapshot(current.number, current.loaded, router, (route,), current.unrouted)

    def _answer(self, exchange: Exchange) -> Reply:
        if not exchange.host:
            raise Failed(Failure.MALFORMED, "The Host field is missing.")
        place = f"https://{exchange.host}{self._port}{exchange.target}"
        return Reply(self._status, ((b"Location", place.encode("utf-8", "surrogateescape")),))
