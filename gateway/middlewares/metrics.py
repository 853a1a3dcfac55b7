"""Count every finished request: answers, durations, sizes, failures, clients.

Label values are bounded here: routes come from the configuration, methods from a list, only the
busiest clients have a series. What happens on the way (limits, cache, upstreams) is counted where
it happens; requests in flight are counted by serving.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from collections.abc import Callable
from time import perf_counter
from typing import Final

from gateway.config.tables.declare import table
from gateway.config.tables.schema import schema_of
from gateway.core.exchange import Exchange
from gateway.core.hooks import Context, Hooks
from gateway.core.identities import Clients
from gateway.core.telemetry import (
    DURATION_BUCKETS,
    SIZE_BUCKETS,
    Family,
    HistogramCell,
    Labels,
    Telemetry,
)
from gateway.lifetime.supervised import Supervised

METHODS = frozenset(
    ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT")
)
NO_ROUTE = "_none"
SIZES: Final = tuple(int(bound) for bound in SIZE_BUCKETS)
"""The same bounds as whole numbers.

Comparing a number of bytes with a float takes three times as long.
"""
ACTIVE_SECONDS = 300
TURN = 10
"""Seconds between two counts of active clients."""
ACTIVE_MAX: Final = 10_000

Cells = tuple[Labels, HistogramCell, HistogramCell, HistogramCell]


@table
class MetricsConfig:
    """Metrics have no settings."""


CONFIG = schema_of(MetricsConfig)


def build(config: MetricsConfig, context: Context) -> Hooks:
    """Build the hooks; one Metrics serves the whole process.

    So a request that several pipelines might count is counted once.
    """
    metrics: Metrics = context.keep(("metrics",), None, lambda: Metrics(context.telemetry))
    return Hooks(finish=metrics.finish)


class Metrics:
    """Counts finished exchanges. `now` is the exchanges' clock, in seconds."""

    __slots__ = ("_active", "_cells", "_clients", "_failing", "_now", "_requests", "_telemetry")

    def __init__(self, telemetry: Telemetry, now: Callable[[], float] = perf_counter) -> None:
        self._telemetry = telemetry
        self._requests = telemetry.requests.values
        self._clients = Clients(telemetry.client_requests)
        self._failing = Clients(telemetry.client_errors)
        self._active = Active(telemetry.active_clients)
        self._cells: dict[tuple[str, str, int], Cells] = {}
        self._now = now

    def finish(self, exchange: Exchange) -> None:
        """The finish hook."""
        route, reply = exchange.route, exchange.reply
        # `Exchange.status`, without the call for most.
        status = reply.status if reply is not None and exchange.written else exchange.status()
        key = (NO_ROUTE if route is None else route.name, exchange.method, status)
        labels, duration, request_size, response_size = self._cells.get(key) or self._resolve(key)
        self._requests[labels] += 1
        seconds = self._now() - exchange.started
        duration.counts[bisect_left(DURATION_BUCKETS, seconds)] += 1
        duration.total += seconds
        size = exchange.bytes_in
        if size:
            request_size.counts[bisect_left(SIZES, size)] += 1
            request_size.total += size
        else:
            request_size.counts[0] += 1
        size = exchange.bytes_out
        response_size.counts[bisect_left(SIZES, size)] += 1
        response_size.total += size
        failed = exchange.failed
        reason = exchange.reason if failed is None else failed.failure.reason
        if reason:
            self._telemetry.failures.add((reason,))
        if exchange.identity is not None:
            client = exchange.identity.client
            self._clients.count(client)
            self._active.note(client)
            if status >= 400:
                self._failing.count(client)

    def close(self) -> None:
        """Count no longer who is active."""
        self._active.close()

    def _resolve(self, key: tuple[str, str, int]) -> Cells:
        """Return the series of a route, method and status.

        Remembered unless a stranger made the method up.
        """
        route, method, status = key
        if method not in METHODS:
            key = (route, "other", status)
            return self._cells.get(key) or self._resolve_known(key)
        return self._resolve_known(key)

    def _resolve_known(self, key: tuple[str, str, int]) -> Cells:
        route, method, status = key
        telemetry = self._telemetry
        cells = self._cells[key] = (
            (route, method, str(status)),
            # How long a WebSocket stood is no latency; that goes into a cell of no metric.
            HistogramCell(DURATION_BUCKETS)
            if status == 101
            else telemetry.request_duration.cell((route, method)),
            telemetry.request_size.cell((route,)),
            telemetry.response_size.cell((route,)),
        )
        return cells


class Active:
    """How many clients had a request in the last ACTIVE_SECONDS, told by a gauge.

    seen: the clients since the last turn; at most ACTIVE_MAX of them are told apart.
    """

    __slots__ = ("_before", "_gauge", "_rounds", "seen")

    def __init__(self, gauge: Family) -> None:
        self.seen: set[str] = set()
        self._before: deque[set[str]] = deque(maxlen=ACTIVE_SECONDS // TURN)
        self._gauge = gauge
        self._rounds = Supervised("active_clients", self.turn, every=TURN)
        self._rounds.start()

    def note(self, client: str) -> None:
        """A request of `client` has ended."""
        if len(self.seen) < ACTIVE_MAX:
            self.seen.add(client)

    def turn(self) -> None:
        """Count anew; what is older than ACTIVE_SECONDS no longer counts."""
        self._before.append(self.seen)
        self.seen = set()
        self._gauge.set((), len(set().union(*self._before)))

    def close(self) -> None:
        self._rounds.close()
