"""A gateway with nothing but caching, an origin that answers as told, and a clock that is moved by
hand."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from multidict import CIMultiDict

from gateway.core.exchange import Decision, Exchange, Identity, Reply
from gateway.core.failures import Failed, Failure
from gateway.middlewares import caching
from gateway.middlewares.caching.rules.directives import http_date
from gateway.middlewares.caching.storage.memory import Memory
from tests.exchange import Headers, Stream, World, exchange, pairs, whole_body

START = 1_800_000_000
"""The wall clock when a world begins."""


def date(offset: int = 0) -> str:
    """The HTTP-date `offset` seconds after a world's beginning."""
    return http_date(START + offset).decode()


ALICE = Identity("alice", "api_key", headers=((b"X-Client-ID", b"alice"),))
BOB = Identity("bob", "api_key", headers=((b"X-Client-ID", b"bob"),))
MINUTE = {"Cache-Control": "max-age=60"}
TAGGED = {"Cache-Control": "max-age=60", "ETag": '"1"'}
DOWN = Failed(Failure.CONNECT_FAILED)


def answer(
    headers: Headers = (), body: bytes | Stream = b"body", status: int = 200, **more: Any
) -> Reply:
    return Reply(status, pairs(headers), body, **more)


def not_modified(*headers: tuple[str, str]) -> Reply:
    return answer(headers, b"", 304)


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
        return await whole_body(self.reply)


Origin = Reply | Failed | Callable[[CIMultiDict[str]], Reply]


@dataclass
class Cached:
    """A pipeline with nothing but caching. `on` is another one in the same process, whose store and
    clock it shares."""

    settings: Mapping[str, Any] = field(default_factory=dict)
    on: Cached | None = None
    name: str = "caching"
    pipeline: str = "test"
    local: Any = None

    def __post_init__(self) -> None:
        self.world = World(now=1000.0, epoch=START - 1000) if self.on is None else self.on.world
        self.telemetry = self.world.telemetry
        self.hooks = self.world.build(
            caching, self.settings, name=self.name, pipeline=self.pipeline, local=self.local
        )
        self.memory: Memory = self.world.draft.keep(
            ("caching", "memory", self.pipeline, ""), None, self.fail
        )

    @staticmethod
    def fail() -> Memory:
        raise AssertionError("there is one already")

    @property
    def elapsed(self) -> float:
        """Seconds since the beginning."""
        return self.world.now - 1000.0

    def wait(self, seconds: float) -> None:
        self.world.now += seconds

    def exchange(
        self,
        method: str = "GET",
        target: str = "/thing",
        headers: Headers = (),
        *,
        route: str = "things",
        host: str = "api.example.com",
        **facts: Any,
    ) -> Exchange:
        listed = [("Host", host), *(headers.items() if isinstance(headers, Mapping) else headers)]
        return exchange(method, target, listed, route=route, host=host.partition(":")[0], **facts)

    def ask(
        self,
        origin: Origin | None = None,
        method: str = "GET",
        target: str = "/thing",
        headers: Headers = (),
        **more: Any,
    ) -> Seen:
        """Sends a request through; without an `origin` it must not be asked."""
        return self.begin(self.exchange(method, target, headers, **more))(origin)

    def begin(self, asked: Exchange) -> Callable[[Origin | None], Seen]:
        """The request's half; what comes back takes the origin's answer and does the rest."""
        hooks = self.hooks
        assert hooks.request and hooks.response and hooks.error and hooks.release
        sent: CIMultiDict[str] | None = None
        reply: Reply | None = None
        failed: Failed | None = None
        try:
            reply = hooks.request(asked)  # type: ignore[assignment]
        except Failed as error:
            failed = error

        def complete(origin: Origin | None = None) -> Seen:
            nonlocal reply, failed, sent
            if reply is None and failed is None:
                assert origin is not None, "the origin was asked"
                sent = sent_to_origin(asked)
                asked.attempts = 1
                if isinstance(origin, Failed):
                    failed = origin
                else:
                    reply = origin if isinstance(origin, Reply) else origin(sent)
            if failed is None:
                assert reply is not None
                hooks.response(asked, reply)  # type: ignore[misc]
                asked.reply = reply
            else:
                asked.failed = failed
                reply = hooks.error(asked, failed)  # type: ignore[misc,assignment]
            hooks.release(asked)  # type: ignore[misc]
            return Seen(asked, reply, failed, sent)

        return complete

    def explain(
        self, method: str = "GET", target: str = "/thing", headers: Headers = (), **more: Any
    ) -> tuple[Decision, Reply | None]:
        asked = self.exchange(method, target, headers, explained=True, **more)
        assert self.hooks.request and self.hooks.release
        reply = self.hooks.request(asked)
        self.hooks.release(asked)
        assert asked.cache == ""
        assert len(asked.decisions) == 1
        return asked.decisions[0], reply  # type: ignore[return-value]

    def counted(self, result: str, route: str = "things") -> float:
        return self.telemetry.cache_requests.get((route, result))


def sent_to_origin(asked: Exchange) -> CIMultiDict[str]:
    """The client's fields as the gateway passes them on."""
    dropped = set(asked.drop_headers or ()) | {
        name.lower() for name, _ in asked.forward_headers or ()
    }
    passed = [pair for pair in asked.raw_headers if pair[0].lower() not in dropped]
    added = [*(asked.forward_headers or ()), *(asked.identity.headers if asked.identity else ())]
    return CIMultiDict(
        [(name.decode("latin-1"), value.decode("latin-1")) for name, value in [*passed, *added]]
    )
