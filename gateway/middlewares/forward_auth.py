"""`forward_auth`: ask a service whether a request may pass.

    [forward_auth]
    url = "http://authz.internal/check"
    timeout = "500ms"
    send = ["Authorization", "Cookie"]     # of the client's fields; no others
    keep = ["X-User"]                      # of the answer's fields, for the upstream
    cache = "10s"

The service gets a GET with X-Forwarded-Method, -Uri, -For, -Proto and -Host. A 2xx lets the request
pass, and what `keep` names replaces the client's fields of these names, which are dropped in any
case. Any other answer goes to the client. The question travels like a request to an upstream: over
kept connections, with deadlines, a circuit breaker and the metrics of upstreams.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Awaitable, Callable
from hashlib import blake2b
from secrets import token_bytes
from urllib.parse import urlsplit

from gateway.config.tables.declare import setting, table
from gateway.config.tables.endpoints import EndpointConfig
from gateway.config.tables.health import BreakerConfig
from gateway.config.tables.schema import Choice, Duration, FieldName, HttpUrl, Items, schema_of
from gateway.config.tables.traffic import TimeoutsConfig
from gateway.config.tables.upstream import UpstreamConfig
from gateway.core.exchange import Decision, Exchange, Identity, Reply
from gateway.core.failures import Failed, Failure
from gateway.core.headers import Pair, lower, tokens
from gateway.core.hooks import Context, Hooks
from gateway.core.provenance import account
from gateway.core.refusals import Shadows, in_shadow
from gateway.core.wait import own

BODY_MAX = 64 * 1024
"""Bytes of an answer's body that a client is given; of a longer one it gets none."""
REMEMBERED = 4096
"""Answers that are remembered, the last used ones."""
KEPT_MAX = 4096
"""Bytes of fields that are worth remembering."""
RETRY_AFTER = (b"Retry-After", b"1")

_ALWAYS = frozenset((b"traceparent", b"tracestate"))


@table
class ForwardAuthConfig:
    """Asks a service whether a request may pass."""

    url: str = setting(HttpUrl(), doc="where it is asked: GET, without the request's body")
    timeout: float = setting(
        Duration(), default=0.5, doc="for a question, from the connection to the answer"
    )
    send: tuple[str, ...] = setting(
        Items(FieldName()),
        default=("Authorization", "Cookie"),
        doc="the client's fields that it is told",
    )
    keep: tuple[str, ...] = setting(
        Items(FieldName()),
        default=(),
        doc="fields of its answer for the upstream, in place of the client's; the first is the "
        "client's name for limits, logs and the cache, unless `auth` knows it",
    )
    cache: float = setting(
        Duration(zero=True),
        default=0.0,
        doc="how long a yes holds for the same method, target, client address and fields of `send`",
    )
    shadow: bool = setting(
        default=False,
        doc="ask, but refuse nothing and change nothing: what would be refused is only counted, "
        "logged and remembered ([explain.md](explain.md#before-it-is-switched-on))",
    )
    on_failure: str = setting(
        Choice("closed", "open"),
        default="closed",
        doc="while it gives no answer or one from 500 on: nothing passes (503), or everything",
    )


CONFIG = schema_of(ForwardAuthConfig)

Ask = Callable[[Exchange], Awaitable[Reply]]


class ForwardAuth:
    """One instance in one pipeline, or on one route that overrides it."""

    def __init__(self, config: ForwardAuthConfig, context: Context, ask: Ask) -> None:
        self._name = context.name
        self._open = config.on_failure == "open"
        self._target = urlsplit(config.url).path or "/"
        self._send = frozenset(name.lower().encode() for name in config.send) | _ALWAYS
        self._keep = tuple((name.encode(), name.lower().encode()) for name in config.keep)
        self._dropped = frozenset(name for _, name in self._keep)
        self._ask = ask
        self._ttl = config.cache
        self._clock = context.clock.monotonic
        self._counts = context.telemetry.auth
        self._secret = token_bytes(32)
        self._known: OrderedDict[bytes, tuple[float, tuple[Pair, ...]]] = OrderedDict()

    def __repr__(self) -> str:
        return f"<ForwardAuth {self._name}, {len(self._known)} remembered>"

    def request(self, exchange: Exchange) -> Awaitable[Reply | None] | None:
        """The request hook: None where a remembered yes holds, else the wait for an answer."""
        drop(exchange, self._dropped)
        if exchange.decisions is not None:
            exchange.decisions.append(
                Decision(self._name, "skipped", "the service is not asked in a dry run")
            )
            return None
        sent = [pair for pair in exchange.raw_headers if lower(pair[0]) in self._send]
        key = self._key(exchange, sent) if self._ttl else b""
        if key and (known := self._known.get(key)) is not None:
            if self._clock() < known[0]:
                self._known.move_to_end(key)
                self._pass(exchange, known[1], sent)
                return None
            del self._known[key]
        return self._answer(exchange, sent, key)

    @own
    async def _answer(self, exchange: Exchange, sent: list[Pair], key: bytes) -> Reply | None:
        try:
            reply = await self._ask(self._question(exchange, sent))
            body = await _read(reply)
        except Failed as failed:
            if not self._open:
                self._counts.add((self._name, "failed"))
                raise Failed(
                    Failure.NO_ENDPOINT,
                    "Whether this request may pass cannot be checked at the moment.",
                    headers=(RETRY_AFTER,),
                    why=f"forward_auth: {failed}",
                    by=self._name,
                ) from None
            self._counts.add((self._name, "failed"))
            return None
        if 200 <= reply.status < 300:
            kept = tuple(
                (name, value) for name, key_ in self._keep if (value := reply.get(key_)) is not None
            )
            self._pass(exchange, kept, sent)
            if key and b"no-store" not in tokens(reply.get(b"cache-control") or b""):
                self._remember(key, kept)
            return None
        self._counts.add((self._name, "failed" if reply.status >= 500 else "denied"))
        if reply.status >= 500 and self._open:
            return None
        exchange.reason = self._name
        return Reply(reply.status, reply.headers, body)

    def _question(self, exchange: Exchange, sent: list[Pair]) -> Exchange:
        """The request to the service: the client's fields as far as it is told them."""
        question = exchange.beside("GET", self._target, sent)
        question.forward_headers = [
            (b"X-Forwarded-Method", exchange.method.encode()),
            (b"X-Forwarded-Uri", exchange.target.encode("utf-8", "surrogateescape")),
        ]
        return question

    def _pass(self, exchange: Exchange, kept: tuple[Pair, ...], sent: list[Pair]) -> None:
        self._counts.add((self._name, "ok"))
        if kept:
            names = {lower(name) for name, _ in kept}
            known = exchange.forward_headers or ()
            others = [pair for pair in known if lower(pair[0]) not in names]
            exchange.forward_headers = [*others, *kept]
        if exchange.identity is None:
            exchange.identity = self._identity(exchange, kept, sent)

    def _identity(self, exchange: Exchange, kept: tuple[Pair, ...], sent: list[Pair]) -> Identity:
        """Who the service says that is. One it does not name is its address, and another one for
        the cache with every other credentials."""
        if kept and kept[0][0] == self._keep[0][0]:
            client, told, key = kept[0][1].decode("utf-8", "replace"), kept, b""
        else:
            client, key = exchange.client_ip, self._secret
            told = tuple(pair for pair in sent if lower(pair[0]) not in _ALWAYS)
        digest = blake2b(repr(told).encode(), key=key, digest_size=16).hexdigest()
        return Identity(client, "forward_auth", account=digest)

    def _key(self, exchange: Exchange, sent: list[Pair]) -> bytes:
        """A digest of all that the service is told, so that no credentials are kept."""
        known = exchange.identity
        told = (exchange.method, exchange.target, account(exchange), exchange.tls_subject, sent)
        who = None if known is None else (known.client, known.account, known.headers)
        text = repr((told, who)).encode("utf-8", "surrogateescape")
        return blake2b(text, key=self._secret, digest_size=16).digest()

    def _remember(self, key: bytes, kept: tuple[Pair, ...]) -> None:
        if sum(len(name) + len(value) for name, value in kept) <= KEPT_MAX:
            self._known[key] = (self._clock() + self._ttl, kept)
            if len(self._known) > REMEMBERED:
                self._known.popitem(last=False)


def upstream(config: ForwardAuthConfig) -> UpstreamConfig:
    """The pool that `build` asks: Context.ask sends there."""
    parts, most = urlsplit(config.url), config.timeout
    return UpstreamConfig(
        endpoints=(EndpointConfig(f"{parts.scheme}://{parts.netloc}"),),
        timeouts=TimeoutsConfig(connect=most, read=most, write=most, total=most),
        circuit_breaker=BreakerConfig(recovery_timeout=5.0, half_open_requests=1),
        preserve_host=False,
    )


def build(config: ForwardAuthConfig, context: Context) -> Hooks:
    """The middleware."""
    asks = ForwardAuth(config, context, context.ask())
    if config.shadow:
        shadows = Shadows.of(context.keep, context.telemetry)
        return Hooks(request=in_shadow(context.name, asks.request, shadows))
    return Hooks(request=asks.request)


def left_out(config: ForwardAuthConfig, context: Context) -> Hooks | None:
    """Return the hooks for a route without it: clients cannot say there what the service says."""
    names = frozenset(name.lower().encode() for name in config.keep)
    return Hooks(request=lambda exchange: drop(exchange, names)) if names else None


def drop(exchange: Exchange, names: frozenset[bytes]) -> None:
    """Keep the client's fields of these names from the upstream."""
    if names:
        dropped = exchange.drop_headers
        # The same object where possible: the heads of requests are remembered by it.
        exchange.drop_headers = names if dropped is None else dropped | names


async def _read(reply: Reply) -> bytes:
    """The answer's body; b"" for one longer than BODY_MAX. Raises Failed when it breaks off."""
    body = reply.body
    if isinstance(body, bytes):
        return body if len(body) <= BODY_MAX else b""
    chunks: list[bytes] = []
    size = 0
    try:
        while chunk := await body.read():
            size += len(chunk)
            if size > BODY_MAX:
                return b""
            chunks.append(chunk)
    finally:
        body.abort()
    return b"".join(chunks)
