"""A gateway with nothing but caching, an origin that answers as told, and a clock that is moved by hand."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

from multidict import CIMultiDict, CIMultiDictProxy

from gateway.core.clock import Clock
from gateway.core.exchange import Decision, Exchange, Identity, Reply
from gateway.core.failures import Failed
from gateway.core.hooks import Context
from gateway.core.telemetry import Telemetry
from gateway.middlewares import caching
from gateway.middlewares.caching.directives import http_date
from gateway.middlewares.caching.entries import Entries

START = 1_800_000_000
"""The wall clock when a world begins."""

Headers = Mapping[str, str] | Sequence[tuple[str, str]]


def pairs(headers: Headers) -> list[tuple[bytes, bytes]]:
    items = headers.items() if isinstance(headers, Mapping) else headers
    return [(name.encode("latin-1"), value.encode("latin-1")) for name, value in items]


def date(offset: int = 0) -> str:
    """The HTTP-date `offset` seconds after a world's beginning."""
    return http_date(START + offset).decode()


class Stream:
    """A body that arrives in chunks; an exception among them is raised when its turn comes."""

    def __init__(self, *chunks: bytes | BaseException) -> None:
        self.chunks = list(chunks)
        self.aborted = 0

    async def read(self) -> bytes:
        if not self.chunks:
            return b""
        chunk = self.chunks.pop(0)
        if isinstance(chunk, BaseException):
            raise chunk
        return chunk

    def abort(self) -> None:
        self.aborted += 1


def answer(headers: Headers = (), body: bytes | Stream = b"body", status: int = 200, **more: Any) -> Reply:
    return Reply(status, pairs(headers), body, **more)


@dataclass
class Seen:
    """One request as the client and the origin saw it."""

    exchange: Exchange
    reply: Reply | None
    failed: Failed | None
    sent: CIMultiDict[str] | None
    """What the origin was sent; None when it was not asked."""

    @property
    def status(self) -> int:
        return self.failed.failure.status if self.reply is None else self.reply.status  # type: ignore[union-attr]

    @property
    def cache(self) -> str:
        return self.exchange.cache

    @property
    def headers(self) -> CIMultiDict[str]:
        assert self.reply is not None
        found: CIMultiDict[str] = CIMultiDict()
        for name, value in self.reply.headers:
            found.add(name.decode("latin-1"), value.decode("latin-1"))
        for block in self.reply.blocks:
            for line in block.decode("latin-1").splitlines():
                name, _, value = line.partition(": ")
                found.add(name, value)
        return found

    @property
    def line(self) -> str:
        """The gateway's own member of Cache-Status."""
        return self.headers.getall("Cache-Status")[-1]

    @property
    def body(self) -> bytes:
        assert self.reply is not None
        assert isinstance(self.reply.body, bytes)
        return self.reply.body

    async def read(self) -> bytes:
        assert self.reply is not None
        if isinstance(self.reply.body, bytes):
            return self.reply.body
        chunks = []
        while chunk := await self.reply.body.read():
            chunks.append(chunk)
        return b"".join(chunks)


Origin = Reply | Failed | Callable[[CIMultiDict[str]], Reply]


@dataclass
class World:
    """`settings` are those of [caching]; `on` is another world, whose store and clock are shared."""

    settings: Mapping[str, Any] = field(default_factory=dict)
    on: World | None = None
    name: str = "caching"

    def __post_init__(self) -> None:
        on = self.on
        self.entries: Entries = Entries() if on is None else on.entries
        self.time: list[float] = [0.0] if on is None else on.time
        self.skew = 0.0
        self.telemetry = Telemetry() if on is None else on.telemetry
        self.kept: list[Any] = []
        clock = Clock(monotonic=lambda: 1000.0 + self.time[0], wall=lambda: START + self.skew + self.time[0])

        def keep(key: tuple[str, ...], fingerprint: object, make: Callable[[], Any]) -> Any:
            self.kept.append((key, fingerprint, make))
            return self.entries

        config = caching.CONFIG().load(dict(self.settings))
        context = Context(name=self.name, clock=clock, telemetry=self.telemetry, keep=keep)
        self.hooks = caching.build(config, context)

    def wait(self, seconds: float) -> None:
        self.time[0] += seconds

    def exchange(
        self,
        method: str = "GET",
        target: str = "/thing",
        headers: Headers = (),
        *,
        identity: Identity | None = None,
        route: str = "things",
        host: str = "api.example.com",
        scheme: str = "http",
        body: Any = None,
    ) -> Exchange:
        raw = [(b"Host", host.encode()), *pairs(headers)]
        multi = CIMultiDict([(name.decode("latin-1"), value.decode("latin-1")) for name, value in raw])
        made = Exchange(method, target, CIMultiDictProxy(multi), raw, host=host.partition(":")[0], scheme=scheme, body=body)
        made.route = SimpleNamespace(name=route)
        made.identity = identity
        return made

    def ask(
        self, origin: Origin | None = None, method: str = "GET", target: str = "/thing", headers: Headers = (), **more: Any
    ) -> Seen:
        """Sends a request through; without an `origin` it must not be asked."""
        exchange = self.exchange(method, target, headers, **more)
        return self.begin(exchange)(origin)

    def begin(self, exchange: Exchange) -> Callable[[Origin | None], Seen]:
        """The request's half; what comes back takes the origin's answer and does the rest."""
        hooks = self.hooks
        assert hooks.request and hooks.response and hooks.error and hooks.finish
        sent: CIMultiDict[str] | None = None
        reply: Reply | None = None
        failed: Failed | None = None
        try:
            reply = hooks.request(exchange)  # type: ignore[assignment]
        except Failed as error:
            failed = error

        def complete(origin: Origin | None = None) -> Seen:
            nonlocal reply, failed, sent
            if reply is None and failed is None:
                assert origin is not None, "the origin was asked"
                sent = sent_to_origin(exchange)
                exchange.attempts = 1
                if isinstance(origin, Failed):
                    failed = origin
                else:
                    reply = origin if isinstance(origin, Reply) else origin(sent)
            if failed is None:
                assert reply is not None
                hooks.response(exchange, reply)  # type: ignore[misc]
                exchange.reply = reply
            else:
                exchange.failed = failed
                reply = hooks.error(exchange, failed)  # type: ignore[misc,assignment]
            hooks.finish(exchange)  # type: ignore[misc]
            return Seen(exchange, reply, failed, sent)

        return complete

    def explain(
        self, method: str = "GET", target: str = "/thing", headers: Headers = (), **more: Any
    ) -> tuple[Decision, Reply | None]:
        exchange = self.exchange(method, target, headers, **more)
        exchange.decisions = []
        assert self.hooks.request and self.hooks.finish
        reply = self.hooks.request(exchange)
        self.hooks.finish(exchange)
        assert exchange.notes == {}
        assert exchange.forward_headers is None
        assert len(exchange.decisions) == 1
        return exchange.decisions[0], reply  # type: ignore[return-value]

    def counted(self, result: str, route: str = "things") -> float:
        return self.telemetry.cache_requests.get((route, result))


def sent_to_origin(exchange: Exchange) -> CIMultiDict[str]:
    """The client's fields as the gateway passes them on."""
    dropped = set(exchange.drop_headers or ()) | {name.lower() for name, _ in exchange.forward_headers or ()}
    passed = [pair for pair in exchange.raw_headers if pair[0].lower() not in dropped]
    added = [*(exchange.forward_headers or ()), *(exchange.identity.headers if exchange.identity else ())]
    return CIMultiDict([(name.decode("latin-1"), value.decode("latin-1")) for name, value in [*passed, *added]])
