"""What a middleware is: a function `build(config, context) -> Hooks`, called at compose time.

A hook is a plain function unless it does I/O; `async def` hooks are recognised at compose time and
awaited. A pipeline with none of them never yields. A request hook that does I/O only now and then
stays plain and returns an awaitable when it must.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from gateway.core.clock import REAL, Clock
from gateway.core.exchange import Exchange, Reply
from gateway.core.failures import Failed
from gateway.core.telemetry import Telemetry

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
    name:     the middleware's, as lists have it; set when it has been built.
    """

    request: RequestHook | None = None
    response: ResponseHook | None = None
    error: ErrorHook | None = None
    finish: FinishHook | None = None
    release: FinishHook | None = None
    recheck: Recheck | None = None
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


def _keep_nothing(
    key: tuple[str, ...], fingerprint: object, make: Callable[[], T], settings: object = None
) -> T:
    return make()


def _at_once(step: Callable[[], None]) -> None:
    step()


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
    ask: Callable[[], Callable[[Exchange], Awaitable[Reply]]] = _ask_none


Build = Callable[[Any, Context], Hooks]
