"""What a target would do with a request, for `gateway explain`: whom it would ask, and with what.

Nothing is sent and nothing is taken: a Forward writes its request to a stream that only listens.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from gateway.core.exchange import Exchange
from gateway.protocols.websocket import UPGRADE
from gateway.upstream.attempt import Attempt
from gateway.upstream.connections.http1.headers import request_head
from gateway.upstream.connections.http1.sending import BODY_METHODS, NO_BODY
from gateway.upstream.fallback import WithFallback, WithQueue
from gateway.upstream.forward import Forward
from gateway.upstream.mirror import Mirrored
from gateway.upstream.pool.endpoint import Endpoint
from gateway.upstream.shares import ByService, ByShares

Chain = list[Forward]
"""Asked in order, the next one if nothing could be sent."""


def chains(target: Any, exchange: Exchange) -> list[Chain]:
    """Return the chains of which one would be asked. Raises Failed where the target does."""
    if isinstance(target, WithQueue):
        return [[target.forward]]
    if isinstance(target, WithFallback):
        following = chains(target.then, exchange)
        return [[*a, *b] for a in chains(target.first, exchange) for b in following]
    if isinstance(target, Mirrored):
        return chains(target.first, exchange)
    if isinstance(target, ByShares):
        each = [chains(one, exchange) for one in target.candidates(exchange)]
        return [chain for found in each for chain in found]
    if isinstance(target, ByService):
        return chains(target.target(exchange), exchange)
    return [[target]]


def eligible(forward: Forward) -> list[Endpoint]:
    """Return the endpoints that a pick would choose among, those due for a trial if there are no
    others."""
    pool = forward.pool
    pool.refresh()
    return list(pool.eligible) or [one for one in pool.endpoints if not one.draining]


def version_of(forward: Forward, exchange: Exchange, endpoint: Endpoint) -> str:
    """Return the version of HTTP in which the endpoint would be asked."""
    protocol = forward.pool.config.protocol
    if UPGRADE in exchange.notes or (protocol == "auto" and endpoint.scheme != "https"):
        protocol = "http1"
    return {"http1": "HTTP/1.1", "auto": "HTTP/2 or HTTP/1.1"}.get(protocol, "HTTP/2")


def head_of(forward: Forward, exchange: Exchange, endpoint: Endpoint) -> bytes:
    """Return the head that the endpoint would be sent, in HTTP/1.1."""
    heads: list[bytes] = []

    def listen(exchange: Exchange, target: str, host: str, *more: object) -> bool:
        body = exchange.body
        framing = NO_BODY if exchange.method in BODY_METHODS else b""
        if body is not None:
            framing = b"Content-Length: %d\r\n" % (body.length or 0)
        heads.append(request_head(exchange, target, host, framing))
        return False

    stream: Any = SimpleNamespace(send=listen)
    forward.send(exchange, Attempt(forward.pool, endpoint, exchange), stream)
    return heads[0]
