"""The gateway's own metrics: plain numbers, made Prometheus families when scraped.

Every family of the contract is made here once for the process, so that counts survive reloads and
names cannot drift. Values of
labels must be bounded by the code that counts: names of routes, upstreams, endpoints and reasons,
never anything a stranger chose.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Sequence
from typing import Any
from weakref import ref

Labels = tuple[str, ...]

DURATION_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)
SIZE_BUCKETS = tuple(float(4**power) for power in range(3, 14))


class Family:
    """One metric: `values` by label values, in the order of `labels`."""

    __slots__ = ("help", "kind", "labels", "name", "values")

    def __init__(self, kind: str, name: str, help: str, labels: Sequence[str] = ()) -> None:
        self.kind = kind
        self.name = name
        self.help = help
        self.labels = tuple(labels)
        self.values: defaultdict[Labels, float] = defaultdict(int)

    def add(self, labels: Labels = (), amount: float = 1) -> None:
        """Counts up (or, for a gauge, by a negative amount, down)."""
        self.values[labels] += amount

    def set(self, labels: Labels, value: float) -> None:
        """A gauge's value now."""
        self.values[labels] = value

    def get(self, labels: Labels = ()) -> float:
        return self.values.get(labels, 0)

    def drop(self, labels: Labels) -> None:
        """Forgets a series, e.g. of an endpoint that no longer exists."""
        self.values.pop(labels, None)


class Level(Family):
    """A gauge or counter without labels, as one number: every request changes `level`."""

    __slots__ = ("level",)

    def __init__(self, name: str, help: str, kind: str = "gauge") -> None:
        super().__init__(kind, name, help)

    @property
    def values(self) -> defaultdict[Labels, float]:
        return defaultdict(int, {(): self.level})

    @values.setter
    def values(self, values: defaultdict[Labels, float]) -> None:
        self.level = values[()]

    def add(self, labels: Labels = (), amount: float = 1) -> None:
        self.level += amount

    def set(self, labels: Labels, value: float) -> None:
        self.level = value


class Measured(Family):
    """A metric that is read from what it is about when it is wanted, as long as that exists."""

    __slots__ = ("_sources",)

    def __init__(self, kind: str, name: str, help: str, labels: Sequence[str]) -> None:
        self._sources: dict[Labels, tuple[ref[Any], Callable[[Any], float]]] = {}
        super().__init__(kind, name, help, labels)

    def watch(self, labels: Labels, of: Any, read: Callable[[Any], float]) -> None:
        """Have `read(of)` be the value of a series."""
        self._sources[labels] = ref(of), read

    @property
    def values(self) -> defaultdict[Labels, float]:
        found = {labels: (source(), read) for labels, (source, read) in self._sources.items()}
        there = {labels: read(of) for labels, (of, read) in found.items() if of is not None}
        for labels in found.keys() - there.keys():
            del self._sources[labels]
        return defaultdict(int, there)

    @values.setter
    def values(self, values: defaultdict[Labels, float]) -> None:
        """Nothing: what a family begins with."""


class HistogramCell:
    """One series of a histogram: counts by bucket, the last for +Inf, and the sum."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0


class HistogramFamily:
    """A metric with buckets.

    `cell(labels)` is looked up once and kept by code that observes often.
    """

    __slots__ = ("bounds", "cells", "help", "labels", "name")
    kind = "histogram"

    def __init__(
        self, name: str, help: str, labels: Sequence[str], bounds: tuple[float, ...]
    ) -> None:
        self.name = name
        self.help = help
        self.labels = tuple(labels)
        self.bounds = bounds
        self.cells: dict[Labels, HistogramCell] = {}

    def cell(self, labels: Labels = ()) -> HistogramCell:
        known = self.cells.get(labels)
        if known is None:
            known = self.cells[labels] = HistogramCell(self.bounds)
        return known


background_failures = Family(
    "counter",
    "gateway_background_failures_total",
    "Rounds of background work that ended in an error",
    ("task",),
)
"""The process's own, since background work belongs to objects that outlive every snapshot."""

log_lines_dropped = Family(
    "counter",
    "gateway_log_lines_dropped_total",
    "Lines of logs that were never written: there was no room for more, or writing failed",
    ("log", "reason"),
)
"""Of every log of the process. Each series is counted by one thread alone."""


_CACHE = ("pipeline", "route")
"""A cache's labels. Without a route: that of all routes without keys of their own."""

trace_spans_dropped = Family(
    "counter",
    "gateway_trace_spans_dropped_total",
    "Spans that never reached the collector: there was no room for more, or it did not take them",
    ("collector", "reason"),
)
"""As for logs each series is counted by one thread alone."""


class Telemetry:
    """All families of `/metrics`, by the contract's names without the `gateway_` prefix."""

    def __init__(self) -> None:
        self.families: list[Family | HistogramFamily] = []
        self._add_requests()
        self._add_clients()
        self._add_upstreams()
        self._add_limits()
        self._add_process()
        self.families += [background_failures, log_lines_dropped, trace_spans_dropped]

    def show(self, family: Family | HistogramFamily) -> None:
        """Show a metric of a middleware's own, in place of one of that name."""
        others = [one for one in self.families if one.name != family.name]
        self.families[:] = [*others, family]

    def hide(self, family: Family | HistogramFamily) -> None:
        """Show it no more."""
        self.families[:] = [one for one in self.families if one is not family]

    def _add_requests(self) -> None:
        count, histogram = self._counter, self._histogram
        self.requests = count("requests_total", "Requests answered", "route", "method", "code")
        self.request_duration = histogram(
            "request_duration_seconds",
            "From the request's head to the last byte",
            DURATION_BUCKETS,
            "route",
            "method",
        )
        self.request_size = histogram("request_size_bytes", "Request bodies", SIZE_BUCKETS, "route")
        self.response_size = histogram(
            "response_size_bytes", "Response bodies, as sent", SIZE_BUCKETS, "route"
        )
        self.in_flight = Level("gateway_requests_in_flight", "Requests being handled now")
        self.families.append(self.in_flight)
        self.auth = count("auth_total", "Authentication decisions", "method", "result")
        self.cache_requests = count(
            "cache_requests_total", "What the cache said", "route", "result"
        )
        self.cache_bytes = self._measured(
            "gauge", "cache_bytes", "What is stored, as it counts for max_size", *_CACHE
        )
        self.cache_responses = self._measured("gauge", "cache_responses", "Answers stored", *_CACHE)
        self.cache_evictions = self._measured(
            "counter", "cache_evictions_total", "Answers that went for others", *_CACHE
        )
        self.failures = count(
            "failures_total", "Requests that ended in a failure, calls of gRPC too", "reason"
        )
        self.validation_reports = count(
            "validation_reports_total",
            "Requests that a document does not allow, where that is only reported",
            "route",
            "code",
        )

    def _add_clients(self) -> None:
        count = self._counter
        self.client_requests = count(
            "client_requests_total", "Requests by client: the busiest 100 and _other", "client"
        )
        self.client_errors = count(
            "client_errors_total",
            "Requests answered with 400 and above, by client: 100 and _other",
            "client",
        )
        self.shadow_refusals = count(
            "shadow_refusals_total",
            "Requests that a middleware in shadow would have refused",
            "route",
            "middleware",
            "reason",
        )
        self.client_shadow_refusals = count(
            "client_shadow_refusals_total",
            "The same by client: 100 and _other",
            "client",
        )
        self.active_clients = self._gauge(
            "active_clients", "Clients with a request in the last five minutes"
        )

    def _add_upstreams(self) -> None:
        count, gauge, histogram = self._counter, self._gauge, self._histogram
        self.upstream_requests = count(
            "upstream_requests_total",
            "Attempts at endpoints; code 0 when none came back",
            "upstream",
            "endpoint",
            "code",
        )
        self.upstream_duration = histogram(
            "upstream_duration_seconds",
            "From the first byte sent to the answer's head",
            DURATION_BUCKETS,
            "upstream",
        )
        self.upstream_endpoint_duration = histogram(
            "upstream_endpoint_duration_seconds",
            "The same, by endpoint",
            DURATION_BUCKETS,
            "upstream",
            "endpoint",
        )
        self.endpoint_healthy = gauge(
            "upstream_endpoint_healthy", "1 when it may be picked", "upstream", "endpoint"
        )
        self.upstream_try_all = gauge(
            "upstream_try_all", "1 while endpoints are picked, healthy or not", "upstream"
        )
        self.circuit_state = gauge("circuit_state", "0 closed, 1 open, 2 half-open", "upstream")
        self.retries = count("retries_total", "Second and later attempts", "upstream", "reason")
        self.plugin_requests = count(
            "plugin_http_requests_total",
            "What operators' middlewares asked services; code is a status or a failure's name",
            "middleware",
            "code",
        )
        self.plugin_duration = histogram(
            "plugin_http_duration_seconds",
            "How long that took",
            DURATION_BUCKETS,
            "middleware",
        )
        self.mirror_dropped = count(
            "mirror_dropped_total",
            "Requests not mirrored for their body or number",
            "route",
            "reason",
        )

    def drop_endpoints(self, upstream: str, names: Collection[str]) -> None:
        """Forget what was counted of endpoints that no longer exist."""
        for known in (self.upstream_requests.values, self.upstream_endpoint_duration.cells):
            for labels in [one for one in known if one[0] == upstream and one[1] in names]:
                del known[labels]

    def _add_limits(self) -> None:
        count, gauge = self._counter, self._gauge
        self.rate_limited = count(
            "rate_limited_total", "Requests refused by a limit", "route", "policy"
        )
        self.rate_near = count(
            "rate_limit_near_total",
            "Requests admitted with at most a fifth of the limit left",
            "route",
            "policy",
        )
        self.rate_shadowed = count(
            "rate_limit_shadow_total",
            "Requests a shadow limit would have refused",
            "route",
            "policy",
        )
        self.rate_fallback = count(
            "rate_limit_fallback_total",
            "Requests decided without the store, by what on_store_failure says",
            "policy",
            "mode",
        )
        self.store_up = gauge("store_up", "1 while the shared store answers", "store")
        self.store_gateways = gauge("store_gateways", "Gateways that share the store")
        self.store_failures = count(
            "store_failures_total", "Late, lost and refused commands", "reason"
        )

    def _add_process(self) -> None:
        count, gauge = self._counter, self._gauge
        self.reload_success = gauge(
            "config_last_reload_success", "1 when the last reload was taken, else 0"
        )
        self.reload_timestamp = gauge(
            "config_last_reload_timestamp_seconds", "When a configuration was last taken"
        )
        self.certificate_expiry = gauge(
            "tls_certificate_expiry_timestamp_seconds",
            "When a certificate for clients expires",
            "name",
        )
        self.tls_failures = count(
            "tls_handshake_failures_total", "Clients with which no TLS connection came about"
        )
        self.connections = gauge("connections", "Clients' connections that are open", "listener")
        self.connections_refused = count(
            "connections_refused_total",
            "Clients' connections refused, or ended for being slow",
            "reason",
        )
        self.http2_requests = Level(
            "gateway_http2_requests_total", "Requests of clients in HTTP/2", "counter"
        )
        self.families.append(self.http2_requests)
        self.http2_ended = count(
            "http2_ended_total",
            "Clients' connections in HTTP/2 that were ended for what the client did",
            "reason",
        )
        self.worker_restarts = count(
            "worker_restarts_total", "Workers that were started again after they had ended"
        )
        self.config_info = gauge("config_info", "The configuration in force", "hash")

    def _counter(self, name: str, help: str, *labels: str) -> Family:
        family = Family("counter", f"gateway_{name}", help, labels)
        self.families.append(family)
        return family

    def _gauge(self, name: str, help: str, *labels: str) -> Family:
        family = Family("gauge", f"gateway_{name}", help, labels)
        self.families.append(family)
        return family

    def _measured(self, kind: str, name: str, help: str, *labels: str) -> Measured:
        family = Measured(kind, f"gateway_{name}", help, labels)
        self.families.append(family)
        return family

    def _histogram(
        self, name: str, help: str, bounds: tuple[float, ...], *labels: str
    ) -> HistogramFamily:
        family = HistogramFamily(f"gateway_{name}", help, labels, bounds)
        self.families.append(family)
        return family
