"""Turn finished exchanges into lines, one JSON object each.

The finish hook only copies what a line needs into a tuple; encoding and writing happen later and
elsewhere (lifetime/logs/logqueue.py).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from random import random
from time import gmtime, perf_counter, strftime
from typing import Any, Final

import orjson
from multidict import istr

from gateway.core.content.grpc import is_failed_call
from gateway.core.content.masking import MASKED, masked_query, masker, network_of
from gateway.core.exchange import SHADOW, AttemptRecord, Exchange
from gateway.core.failures import Failed
from gateway.core.headers import Pair, lower, trace_id
from gateway.core.refusals import shadow_client
from gateway.lifetime.logs.logqueue import LogQueue, Record
from gateway.middlewares.logging.config import LoggingConfig

FROM_HEADER = {"user-agent": "user_agent", "traceparent": "trace_id", "x-request-id": "request_id"}
"""Fields whose value a header may have brought: masking the header masks them."""
TEXTS = ("path", "client", "user_agent", "request_id", "why")
"""Fields that patterns are looked for in."""

_TRACEPARENT, _USER_AGENT = istr("Traceparent"), istr("User-Agent")
_PROTOCOLS: Final = {(1, 0): "HTTP/1.0", (1, 1): "HTTP/1.1", (2, 0): "HTTP/2"}

ASK_EVERY: Final = 0.1
"""Seconds for which the time of day and the exchanges' clock keep their distance."""


class AccessLog:
    """Turns finished exchanges into lines for `sinks`.

    `wall` and `now` are clocks in seconds, the second the exchange's own.
    """

    __slots__ = (
        "_added",
        "_append",
        "_asked",
        "_config",
        "_encode",
        "_headers",
        "_hidden",
        "_levels",
        "_line",
        "_mask",
        "_masker",
        "_more",
        "_nets",
        "_now",
        "_offset",
        "_random",
        "_second",
        "_stamp",
        "_wall",
        "_why",
    )

    def __init__(
        self,
        config: LoggingConfig,
        sinks: Sequence[LogQueue],
        wall: Callable[[], float],
        now: Callable[[], float] = perf_counter,
        random: Callable[[], float] = random,
    ) -> None:
        self._append = _append_to(sinks)
        self._encode = self.line
        self._wall = wall
        self._now = now
        self._random = random
        self._config = config
        self._nets = config.client_ip == "masked"
        self._mask = frozenset(name.lower() for name in config.mask)
        self._headers = {name.lower().encode(): name.lower() for name in config.headers}
        self._hidden = tuple(field for name, field in FROM_HEADER.items() if name in self._mask)
        self._more = config.query or bool(config.headers)
        self._why = config.why
        self._masker = masker(config.mask_patterns)
        self._levels = {failure.reason: level for failure, level in config.levels.items()}
        self._line: dict[str, Any] = {}
        self._added = False
        self._asked = float("-inf")
        self._offset = 0.0
        self._second = -1
        self._stamp = ""

    def finish_sampled(self, exchange: Exchange) -> None:
        """The finish hook where only a share of the successful requests is logged."""
        if (
            exchange.failed is not None
            or exchange.status() >= 400
            or is_failed_call(exchange)
            or self._random() < self._config.sample
        ):
            self.finish(exchange)

    def finish(self, exchange: Exchange) -> None:
        """The finish hook: copies what the line needs.

        An exchange itself would hold on to its bodies, a Failed to its frames.
        """
        route = exchange.route
        identity = exchange.identity
        failed = exchange.failed
        reply = exchange.reply
        client = None if identity is None else identity.client
        more = None
        if failed is not None:
            client = client or failed.client or None
            more = (exchange.query, exchange.raw_headers, _why(failed), exchange.tries)
        elif self._more or exchange.tries or exchange.reason:
            noted = exchange.notes.get(SHADOW, ())
            client = client or shadow_client(exchange) or None
            why = "; ".join([one.why for one in noted])
            more = (exchange.query, exchange.raw_headers, why, exchange.tries)
        self._append(
            (
                self._encode,
                self._now(),
                exchange.started,
                exchange.request_id,
                exchange.client_ip,
                client,
                exchange.version,
                exchange.method,
                exchange.path,
                None if route is None else route.name,
                reply.status if reply is not None and exchange.written else exchange.status(),
                exchange.upstream,
                exchange.endpoint,
                exchange.upstream_seconds,
                exchange.attempts,
                exchange.bytes_in,
                exchange.bytes_out,
                exchange.headers,
                exchange.traceparent,
                exchange.cache,
                exchange.reason if failed is None else failed.failure.reason,
                more,
            )
        )

    def line(self, record: Record) -> bytes:
        """A record as its line.

        The timestamp is the end of the request, so that lines stand in its order. Every line is
        built in the same dict: making one of this size costs as much as encoding it.
        """
        (
            _, ended, started, request_id, client_ip, client, version, method, path, route, status,
            upstream, endpoint, upstream_seconds, attempts, bytes_in, bytes_out, headers, ours,
            cache, reason, more,
        ) = record  # fmt: skip
        traceparent = headers.get(_TRACEPARENT)
        line = self._line
        line["timestamp"] = self._timestamp(ended)
        line["request_id"] = request_id
        line["trace_id"] = (
            ours[3:35] if ours else None if traceparent is None else trace_id(traceparent)
        )
        line["client_ip"] = network_of(client_ip) if self._nets else client_ip or None
        line["client"] = client
        line["method"] = method
        line["path"] = path
        line["route"] = route
        line["status"] = status
        line["duration_ms"] = int((ended - started) * 1e6) / 1e3
        line["upstream"] = upstream or None
        line["endpoint"] = endpoint or None
        line["upstream_ms"] = int(upstream_seconds * 1e6) / 1e3 if endpoint else None
        line["attempts"] = attempts
        line["bytes_in"] = bytes_in
        line["bytes_out"] = bytes_out
        line["user_agent"] = headers.get(_USER_AGENT)
        line["cache"] = cache or None
        line["reason"] = reason or None
        line["protocol"] = _PROTOCOLS.get(version)
        if self._added:  # To the line before.
            line.pop("why", None)
            line.pop("tries", None)
        self._added = more is not None
        if more is not None:
            self._add(line, *more)
        for field in self._hidden:
            line[field] = MASKED
        if self._levels:
            line["level"] = self._levels.get(reason, "info")
        if self._masker is not None:
            for field in TEXTS:
                if value := line.get(field):
                    line[field] = self._masker(value)
        return encoded(line)

    def _timestamp(self, ended: float) -> str:
        """The time of day at which a request ended."""
        if not 0 <= ended - self._asked < ASK_EVERY:
            self._asked = ended
            self._offset = self._wall() - self._now()
        at = ended + self._offset
        second = int(at)
        if second != self._second:
            self._second = second
            self._stamp = strftime("%Y-%m-%dT%H:%M:%S.", gmtime(second))
        return self._stamp + MILLISECONDS[int((at - second) * 1000)]

    def _add(
        self,
        line: dict[str, Any],
        query: str,
        raw_headers: Sequence[Pair],
        why: str,
        tries: list[AttemptRecord] | None,
    ) -> None:
        """Add to the line what only some settings ask for."""
        if self._config.query and query:
            line["path"] += "?" + masked_query(query, self._mask)
        if self._why and why:
            line["why"] = why
        if self._why and tries:
            line["tries"] = [
                {"endpoint": name, "ms": int(took * 1e6) / 1e3, "why": text}
                for name, took, text in tries
            ]
        if self._headers:
            logged: dict[str, str] = {}
            line["headers"] = logged
            for raw, value in raw_headers:
                name = self._headers.get(lower(raw))
                if name is not None:
                    shown = self._shown(name, value.decode("utf-8", "replace"))
                    logged[name] = f"{logged[name]}, {shown}" if name in logged else shown

    def _shown(self, name: str, value: str) -> str:
        """Return a header's value as it may be logged.

        One that is a URL, such as a Referer, may carry a query that is masked like the request's
        own.
        """
        if name in self._mask:
            return MASKED
        before, mark, query = value.partition("?")
        if mark:
            value = before + mark + masked_query(query, self._mask)
        return value if self._masker is None else self._masker(value)


def _why(failed: Failed) -> str:
    return failed.why or failed.detail or failed.failure.title


def _append_to(sinks: Sequence[LogQueue]) -> Callable[[Record], None]:
    appends = [sink.append for sink in sinks]
    if len(appends) == 1:
        return appends[0]

    def append(record: Record) -> None:
        for one in appends:
            one(record)

    return append


MILLISECONDS: Final = tuple(f"{number:03d}Z" for number in range(1000))


def encoded(line: dict[str, Any]) -> bytes:
    """JSON and a line feed.

    Lone surrogates, which header bytes that are no UTF-8 become, are replaced by U+FFFD.
    """
    try:
        return orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE)
    except TypeError:
        return orjson.dumps(_without_surrogates(line), option=orjson.OPT_APPEND_NEWLINE)


def _without_surrogates(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_surrogates(item) for key, item in value.items()}
    return re.sub(r"[\ud800-\udfff]", "\ufffd", value) if isinstance(value, str) else value
