"""What a middleware is: a function `build(config, context) -> Hooks`, called at compose time.

A hook is a plain function unless it does I/O; `async def` hooks are recognised at compose time and
awaited. A pipeline with none of them never yields. A request hook that does I/O only now and then
stays plain and returns an awaitable when it must.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Protocol, TypeVar

import orjson

from gateway.core.clock import REAL, Clock
from gateway.core.exchange import Exchange, Reply
from gateway.core.failures import Failed, OwnFailure, own_failure
from gateway.core.telemetry import DURATION_BUCKETS, Family, HistogramFamily, Labels, Telemetry

T = TypeVar("T")

RequestHook = Callable[[Exchange], "Reply | Awaitable[Reply | None] | None"]
ResponseHook = Callable[[Exchange, Reply], "Awaitable[None] | None"]
ErrorHook = Callable[[Exchange, Failed], "Reply | Awaitable[Reply | None] | None"]
FinishHook = Callable[[Exchange], None]


@dataclass(frozen=True, slots=True)
class Recheck:
    """Judges the request of an open WebSocket again.

    every: seconds between two times. judge: raises Failed; 401 and 403 end the WebSocket.
    """

    every: float
    judge: Callable[[Exchange], Awaitable[None] | None]


@dataclass(frozen=True, slots=True)
class Hooks:
    """A middleware's behaviour; None means it has nothing to do there.

    request:  may answer by returning a Reply (the upstream is then not asked), refuse by raising
              Failed, or return None.
    response: changes the reply in place. Runs for every reply that did not come from a failure,
              those of request hooks included.
    error:    sees a Failed; `exchange.reply` holds the reply so far; returns another to replace it,
              or changes it in place.
    finish:   after the last byte, or when the client left; must not fail. Runs once if the name is
              in any of the lists that applied: request or response for answers, error for failures.
              For a tunnel (101) it is the configuration in force at its end that finishes it, so a
              hook may be handed an exchange that began before it was built.
    release:  after the last byte, however it ended, if the name is in the request list: gives
              back what `request` took.
    recheck:  for WebSockets, if the name is in the request list: whether one may go on. It is the
              configuration in force that judges.
    start:    `async`: opens what requests will need. Awaited once, after everything is built and
              before it is in force; when it raises, or takes longer than 10 seconds, the reload is
              refused, or the process does not start. `gateway check` does not call it.
    close:    when the last request of this configuration has ended, or it was refused; may be
              `async`. Not called after a `start` that failed.
    passed:   says in words for operators what `request` found of a request that it let pass; called
              for `gateway why` alone, when the request has ended.
    name:     the middleware's, as lists have it; set when it has been built.
    """

    request: RequestHook | None = None
    response: ResponseHook | None = None
    error: ErrorHook | None = None
    finish: FinishHook | None = None
    release: FinishHook | None = None
    recheck: Recheck | None = None
    start: Callable[[], Awaitable[None]] | None = None
    close: Callable[[], Awaitable[None] | None] | None = None
    passed: Callable[[Exchange], str] | None = None
    name: str = ""


def kind_of(name: str) -> str:
    """The catalogue's part of a name in a list.

    "rate_limit.ip" is a "rate_limit"; "package.module:build" is itself.
    """
    return name if ":" in name else name.partition(".")[0]


GUARDS = frozenset(("auth", "forward_auth"))
"""Middlewares that authenticate callers."""


class ConfigProblem(ValueError):
    """A fault in a configuration value, found by the code that understands it.

    at:   the path below the table that was handed over, e.g. ("jwt", 0, "issuer").
    hint: what to do about it, "" when the message says it all.
    """

    def __init__(self, message: str, *, at: tuple[str | int, ...] = (), hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.at = at
        self.hint = hint


KEPT: Final = "kept"
"""Key of the note in which a hook leaves what is asked when the client leaves: if it is `wanted()`,
the exchange goes on without it, because others wait for its answer."""


def is_ours(hook: Any) -> bool:
    """Return True for a hook of the gateway's own."""
    # A compiled method has no module; its object's class has.
    module = getattr(hook, "__module__", None) or type(getattr(hook, "__self__", hook)).__module__
    return str(module).partition(".")[0] == "gateway"


def is_kept(exchange: Exchange | None) -> bool:
    """Return True for a request that goes on although its client has left."""
    kept = None if exchange is None else exchange.notes.get(KEPT)
    return kept is not None and kept.wanted()


def _keep_nothing(
    key: tuple[str, ...], fingerprint: object, make: Callable[[], T], settings: object = None
) -> T:
    return make()


def _at_once(step: Callable[[], None]) -> None:
    step()


class OwnMetric:
    """A metric of an operator's own middleware: what `Context.metric` returns.

    Its name begins with `gateway_plugin_`. Of the series that its labels make at most SERIES_MAX
    are kept; what comes after them counts as `_other`.
    """

    SERIES_MAX = 1000

    def __init__(self, family: Family | HistogramFamily) -> None:
        self.family = family

    def __repr__(self) -> str:
        return f"<OwnMetric {self.family.name}>"

    def add(self, *labels: str, amount: float = 1) -> None:
        """Count up; a gauge, by a negative amount, down."""
        assert isinstance(self.family, Family)
        self.family.add(self._labels(labels, self.family.values), amount)

    def set(self, value: float, *labels: str) -> None:
        """Set a gauge."""
        assert isinstance(self.family, Family)
        self.family.set(self._labels(labels, self.family.values), value)

    def observe(self, value: float, *labels: str) -> None:
        """Count a value in a histogram."""
        assert isinstance(self.family, HistogramFamily)
        cell = self.family.cell(self._labels(labels, self.family.cells))
        cell.counts[bisect_left(cell.bounds, value)] += 1
        cell.total += value

    def _labels(self, labels: Labels, known: Collection[Labels]) -> Labels:
        if len(labels) != len(self.family.labels):
            raise ValueError(f"{self.family.name} has the labels {self.family.labels}")
        if labels in known or len(known) < self.SERIES_MAX:
            return labels
        return ("_other",) * len(labels)


_OWN_NAME = re.compile(r"[a-z][a-z0-9_]{0,60}")


def own_metric(
    kind: str, name: str, help: str, labels: Sequence[str], buckets: tuple[float, ...]
) -> OwnMetric:
    """Return a counter, gauge or histogram of a middleware's own. Raises ValueError."""
    for word in (name, *labels):
        if not _OWN_NAME.fullmatch(word) or word == "le":
            raise ValueError(f"{word!r} is no name for a metric or a label")
    name = f"gateway_plugin_{name}"
    if kind == "histogram":
        return OwnMetric(HistogramFamily(name, help, labels, tuple(sorted(buckets))))
    if kind not in ("counter", "gauge"):
        raise ValueError(f"a metric is a counter, a gauge or a histogram, not {kind!r}")
    if kind == "counter" and not name.endswith("_total"):
        name += "_total"
    return OwnMetric(Family(kind, name, help, labels))


@dataclass(frozen=True, slots=True)
class Answer:
    """What a service has answered, all of it. Names of headers are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        """Return the value that the body is. Raises ValueError."""
        return orjson.loads(self.body)


class HttpClient(Protocol):
    """Asks services over kept connections, with a deadline and a circuit breaker for each.

    `code` of gateway_plugin_http_requests_total counts every answer and failure. No redirect is
    followed, no cookie kept, no proxy of the environment used.
    """

    async def request(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
        json: Any = None,
        timeout: float = 1.0,
        at_most: int = 1 << 20,
        exchange: Exchange | None = None,
    ) -> Answer:
        """Return the answer, whatever its status.

        json: a body, in place of `body`. timeout: seconds for all of it. at_most: bytes of an
        answer's body. exchange: the request on whose behalf it is: its X-Request-ID and traceparent
        go along. Raises Failed: there was no answer (502, 504), or there have been too many
        failures lately (503); answers from 500 on are such failures.
        """

    async def get(self, url: str, **more: Any) -> Answer:
        """`request` with GET."""

    async def post(self, url: str, **more: Any) -> Answer:
        """`request` with POST."""


class _NoHttp:
    """Where there is no gateway around the middleware."""

    async def request(self, method: str, url: str, **more: Any) -> Answer:
        raise ConfigProblem("there is no gateway to ask a service")

    async def get(self, url: str, **more: Any) -> Answer:
        return await self.request("GET", url, **more)

    async def post(self, url: str, **more: Any) -> Answer:
        return await self.request("POST", url, **more)


NO_HTTP: HttpClient = _NoHttp()


def _no_metric(
    name: str,
    help: str,
    *,
    kind: str = "counter",
    labels: Sequence[str] = (),
    buckets: tuple[float, ...] = DURATION_BUCKETS,
) -> OwnMetric:
    return own_metric(kind, name, help, labels, buckets)


def _ask_none() -> Callable[[Exchange], Awaitable[Reply]]:
    raise ConfigProblem("there is no pool to ask")


@dataclass(frozen=True, slots=True)
class Context:
    """What a middleware may use while it is built.

    name:      as written in the list: "rate_limit", "rate_limit.ip", "package.module:build".
    pipeline:  the pipeline's name; `route` the route's when its table overrides this middleware's
               keys, else "".
    directory: of the TOML file the table stands in; relative paths start there.
    keep:      `keep(key, fingerprint, make)`: the same key and fingerprint give the same object
               across reloads, so what must survive one (buckets, cache entries) lives there.
               Objects with a `close()` are closed when a reload drops them. With a fourth argument,
               the object's `adopt` is called with that once the reload has come to be.
    at_commit: `at_commit(step)`: calls `step` once the reload has come to be, and never if it is
               refused. `build` itself must not change anything that is in force.
    errors: the gateway's `[errors]` (config.tables.errors.ErrorsConfig), for what renders failures.
    store: what `[store] url` names (gateway.store.stores.SharedStore), None while everything stays
           in this process.
    ledger: what counts limits for several gateways or workers (gateway.limits.ledger.Ledger), None
            where one process counts alone.
    local: of one of several workers, what their supervisor keeps (gateway.store.local.LocalStore);
           None in a process that keeps it itself.
    secrets: names (lower case) of header fields, query parameters and cookies that credentials come
             in, anywhere.
    issuer: the gateway as an issuer of tokens (gateway.issuer.own.OwnIssuer), None without
            `[tokens]`.
    home: the directory of gateway.toml.
    http: asks services of the middleware's own.
    metric: `metric(name, help, kind="counter", labels=(...))` returns an OwnMetric with `add`,
            `set` (a gauge's) and `observe` (a histogram's), shown as `gateway_plugin_NAME` while a
            configuration that uses it is alive.
    failure: `failure(code, status, title)` returns a kind of failure for `Failed`, with a code of
             the middleware's own.
    ask: `ask()` returns what sends an Exchange to the pool that the module's `upstream(config)`
         describes, and gives a Reply or raises Failed. It needs no Task.
    """

    name: str
    pipeline: str = ""
    route: str = ""
    directory: Path = field(default_factory=Path)
    clock: Clock = REAL
    telemetry: Telemetry = field(default_factory=Telemetry)
    keep: Callable[..., Any] = _keep_nothing
    at_commit: Callable[[Callable[[], None]], None] = _at_once
    errors: Any = None
    store: Any = None
    ledger: Any = None
    local: Any = None
    issuer: Any = None
    secrets: frozenset[str] = frozenset()
    home: Path = field(default_factory=Path)
    http: HttpClient = NO_HTTP
    metric: Callable[..., OwnMetric] = _no_metric
    failure: Callable[[str, int, str], OwnFailure] = own_failure
    ask: Callable[[], Callable[[Exchange], Awaitable[Reply]]] = _ask_none


Build = Callable[[Any, Context], Hooks]
