"""Write down why a request was refused, failed or slow, once it is over.

Nothing is noted on a request's way but which hook decided. What came before that hook let the
request pass, and says now what it found.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from math import inf
from typing import TYPE_CHECKING, Any

from gateway.config.check.compile import LoadedConfig
from gateway.core.content.grpc import is_failed_call
from gateway.core.content.masking import MASK, Masks
from gateway.core.exchange import DECIDED, SHADOW, Decision, Exchange
from gateway.core.failures import Failed, Failure
from gateway.core.hooks import kind_of
from gateway.core.refusals import WOULD, WouldRefuse, shadow_client
from gateway.lifetime.process import worker_count
from gateway.runtime.pipeline import Pipeline, Remember
from gateway.runtime.why.memory import LONGEST, MOST_BYTES, Entry, Memories
from gateway.runtime.why.places import Places

if TYPE_CHECKING:
    from gateway.lifetime.registry import Draft
    from gateway.runtime.services import Services

ADMISSION: dict[Any, tuple[str, ...]] = {
    Failure.MALFORMED: (),
    Failure.BODY_TOO_LARGE: ("server", "max_body"),
    Failure.URI_TOO_LONG: ("server", "max_uri"),
    Failure.HEADERS_TOO_LARGE: ("server", "max_header_size"),
    Failure.REQUEST_TIMEOUT: ("server", "body_timeout"),
    Failure.EXPECTATION_FAILED: (),
    Failure.VERSION_NOT_SUPPORTED: (),
}
"""Failures of the request itself, and the keys of gateway.toml that decide on them."""
ROUTING = frozenset(
    (
        Failure.NO_ROUTE,
        Failure.METHOD_NOT_ALLOWED,
        Failure.NOT_ACCEPTABLE,
        Failure.VERSION_REQUIRED,
    )
)
UPSTREAM: dict[Any, tuple[str, ...]] = {
    Failure.CONNECT_TIMEOUT: ("timeouts", "connect"),
    Failure.READ_TIMEOUT: ("timeouts", "read"),
    Failure.WRITE_TIMEOUT: ("timeouts", "write"),
    Failure.TIMEOUT: ("timeouts", "total"),
    Failure.CIRCUIT_OPEN: ("circuit_breaker",),
    Failure.NO_ENDPOINT: ("endpoints",),
    Failure.OVERLOADED: ("endpoints",),
    Failure.CONNECT_FAILED: ("endpoints",),
    Failure.DNS_FAILED: ("endpoints",),
    Failure.TLS_FAILED: ("tls",),
}
"""The keys of an upstream's table that decide on its failures."""
OF_ROUTE = frozenset(("version", "limit"))
"""Hooks that come from keys of the route."""


class Recorder:
    """Remembers requests of one configuration: called as Pipeline.remember."""

    def __init__(
        self,
        loaded: LoadedConfig,
        memories: Memories,
        secrets: Iterable[str],
        wall: Callable[[], float],
    ) -> None:
        """secrets: names that are masked whatever the logs say. wall: Unix time in seconds."""
        self.places = Places(loaded)
        self._memories = memories
        self._wall = wall
        self._slow = loaded.gateway.server.slow
        self._upstreams = loaded.upstreams
        self._max_body = loaded.gateway.server.max_body
        self._masks = {one.name: masks_of(one, frozenset(secrets)) for one in loaded.pipelines}
        others = next(iter(self._masks.values()), Masks())
        self._masks.setdefault("", others)

    def __call__(self, pipeline: Pipeline, exchange: Exchange, took: float) -> None:
        """Remember a request that is over after `took` seconds."""
        failed, route, reply = exchange.failed, exchange.route, exchange.reply
        status = exchange.status()
        noted = exchange.notes.get(SHADOW)
        lasts = status == 101 or (reply is not None and type(reply.body) is not bytes)
        well = failed is None and status < 400 and not is_failed_call(exchange)
        if well and not noted and lasts and exchange.upstream_seconds < self._slow:
            return  # A WebSocket, or a stream: how long it took says nothing about the gateway.
        memory = self._memories.shadows if noted and well else self._memories.failures
        client = exchange.identity.client if exchange.identity is not None else ""
        client = client or shadow_client(exchange)
        memory.add(
            Entry(
                self._wall(),
                exchange.request_id,
                exchange.method[:LONGEST],
                exchange.path[:LONGEST],
                exchange.query[:LONGEST],
                exchange.client_ip,
                (client or (failed.client if failed is not None else ""))[:LONGEST],
                "" if route is None else route.name,
                pipeline.name,
                status,
                exchange.reason if failed is None else failed.failure.reason,
                "" if failed is None else failed.failure.code,
                "" if failed is None else (failed.detail or failed.failure.title)[:LONGEST],
                took,
                exchange.upstream,
                exchange.endpoint,
                exchange.upstream_seconds,
                tuple(one._replace(why=one.why[:LONGEST]) for one in exchange.tries or ()),
                exchange.attempts,
                _outcome(exchange),
                tuple(self.decisions(pipeline, exchange)),
                self._masks.get(pipeline.name, self._masks[""]),
            )
        )

    def decisions(self, pipeline: Pipeline, exchange: Exchange) -> list[Decision]:
        """Return what was decided about a finished request, in order."""
        route, failed = exchange.route, exchange.failed
        if route is None:
            return [] if failed is None else [self.failure(exchange, failed)]
        name, places = route.name, self.places
        found = [Decision("routing", "matched", f"route {name}", places.of_route(name))]
        decided = exchange.notes.get(DECIDED)
        noted: dict[str, list[WouldRefuse]] = {}
        for one in exchange.notes.get(SHADOW, ()):
            noted.setdefault(one.hook, []).append(one)
        for (hook, *_), (named, passed) in zip(pipeline.request, pipeline.described, strict=True):
            if hook is decided:
                found.append(self._decision(pipeline, exchange, named))
                return found
            for one in noted.get(named, ()):
                at = self.at(pipeline, name, named, one.at)
                found.append(Decision(named, WOULD, one.why[:LONGEST], at))
            if named and named not in noted:
                why = "" if passed is None else passed(exchange)[:LONGEST]
                found.append(Decision(named, "passed", why, self.at(pipeline, name, named)))
        if exchange.upstream and (failed is None or failed.by):
            at = places.of_upstream(exchange.upstream)
            found.append(Decision("upstream", "answered", _outcome(exchange), at))
        elif failed is None:
            answer = route.config.builtin or "the route itself"
            at = places.of_route(name)
            found.append(Decision(answer, "answered", f"{exchange.status()}", at))
        if failed is not None:
            found.append(self.failure(exchange, failed, pipeline))
        return found

    def _decision(self, pipeline: Pipeline, exchange: Exchange, name: str) -> Decision:
        """Return that of the request hook that answered or failed."""
        failed, route = exchange.failed, exchange.route.name
        if failed is None:
            what = exchange.cache or exchange.reason
            why = f"{exchange.status()}{what and f', {what}'}"
            return Decision(name, "answered", why, self.at(pipeline, route, name))
        at = self.at(pipeline, route, name, failed.at) if name else ""
        return Decision(name or "gateway", _verdict(failed), why_of(failed), at)

    def failure(
        self, exchange: Exchange, failed: Failed, pipeline: Pipeline | None = None
    ) -> Decision:
        """Return the decision of what no request hook has refused."""
        kind, at = failed.failure, failed.at
        if failed.by and pipeline is not None:
            hook, place = failed.by, self.at(pipeline, exchange.route.name, failed.by, at)
        elif kind in ROUTING:
            at = at or (() if exchange.route is None else (exchange.route.name,))
            hook, place = "routing", self.places.of_route(*at) if at else ""  # type: ignore[arg-type]
        elif kind in ADMISSION:
            hook, place = "admission", self._of_admission(exchange, failed, pipeline)
        elif kind is Failure.CLIENT_GONE:
            hook, place = "client", ""
        elif exchange.upstream and kind is not Failure.INTERNAL:
            hook, place = "upstream", self.of_upstream(exchange, failed)
        elif exchange.route is not None:
            hook = exchange.route.config.builtin or "gateway"
            place = self.places.of_route(exchange.route.name)
        else:
            hook, place = "gateway", ""
        return Decision(hook, _verdict(failed), why_of(failed), place)

    def _of_admission(self, exchange: Exchange, failed: Failed, pipeline: Pipeline | None) -> str:
        body = exchange.body
        if (
            failed.failure is Failure.BODY_TOO_LARGE
            and pipeline is not None
            and body is not None
            and (body.limit or 0) < self._max_body
        ):  # The limit is another hook's, and the body came when it was sent on.
            for name, _ in pipeline.described:
                if kind_of(name) == "validation":
                    return self.at(pipeline, exchange.route.name, name, ("max_body",))
        at = failed.at or ADMISSION[failed.failure]
        return self.places.of("", at) if at else ""

    def of_upstream(self, exchange: Exchange, failed: Failed) -> str:
        """Return the place of what decided on an upstream's failure."""
        route = exchange.route
        if failed.failure is Failure.TIMEOUT and route.config.timeout is not None:
            config = self._upstreams.get(exchange.upstream)
            total = None if config is None else config.timeouts.total
            if total is None or route.config.timeout <= total:
                return self.places.of_route(route.name, "timeout")
        keys = failed.at or UPSTREAM.get(failed.failure, ())
        return self.places.of_upstream(exchange.upstream, *keys)

    def at(
        self, pipeline: Pipeline, route: str, name: str, keys: tuple[str | int, ...] = ()
    ) -> str:
        """Return the place of a hook's table, or of the key in it that decided."""
        if name in OF_ROUTE:
            return self.places.of_route(route, *(keys or (name,)))
        return self.places.of(pipeline.name, (name, *keys), route)


def remembering(
    loaded: LoadedConfig, draft: Draft, services: Services, secrets: Iterable[str]
) -> tuple[Remember | None, float]:
    """Return what pipelines hand finished requests to, and the seconds from which on one is slow.

    The memory is that of the process; its bounds change when the configuration comes to be.
    """
    server, memories = loaded.gateway.server, services.why
    share = max(1, worker_count(server))
    bounds = (server.why // share, MOST_BYTES // share, server.retention)
    draft.at_commit(lambda: memories.bound(*bounds))
    if not server.why:
        return None, inf
    return Recorder(loaded, memories, secrets, services.clock.wall), server.slow


def masks_of(pipeline: Any, secrets: frozenset[str]) -> Masks:
    """Return what all logs of a pipeline (PipelineConfig) mask, those of its routes included."""
    tables = [pipeline.settings, *(route.settings for route in pipeline.routes)]
    logs = [
        config
        for table in tables
        for name, config in table.items()
        if kind_of(name) == "logging" and config
    ]
    names = {name.lower() for one in logs for name in one.mask} if logs else set(MASK)
    return Masks(
        names | secrets,
        dict.fromkeys(pattern for one in logs for pattern in one.mask_patterns),
        query=any(one.query for one in logs),
        networks=any(one.client_ip == "masked" for one in logs),
    )


def why_of(failed: Failed) -> str:
    """Return why something failed, in words for operators."""
    return (failed.why or failed.detail or failed.failure.title)[:LONGEST]


def _verdict(failed: Failed) -> str:
    if failed.failure is Failure.CLIENT_GONE:
        return "left"
    return "failed" if failed.failure.status >= 500 else "refused"


def _outcome(exchange: Exchange) -> str:
    """Return what came of the last attempt."""
    failed, reply = exchange.failed, exchange.reply
    if failed is not None and not failed.by:
        return why_of(failed)
    if failed is not None or reply is None:
        return "answered"
    call = f", {exchange.reason}" if is_failed_call(exchange) else ""
    return f"status {reply.status}{call}"
