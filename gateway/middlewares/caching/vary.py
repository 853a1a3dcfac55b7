"""Which requests a stored response stands for: the values of the fields its Vary names, as the origin was sent them.

What the origin sees is not what the client sent: identity comes from the gateway alone, other middlewares replace fields, and
some are new in every request. A key made of what the client wrote there would let one client plant answers for another.
"""

from __future__ import annotations

from functools import lru_cache

from gateway.core.exchange import Exchange

IDENTITY = frozenset(("x-client-id", "x-client-tier", "x-client-roles"))
"""Fields only the gateway sets; the client's are dropped on the way to the origin, so they say nothing."""

CERTIFIED = frozenset(("x-tls-subject", "client-cert", "client-cert-chain"))
"""Likewise; the first has what the client's certificate says."""

MADE_HERE = frozenset(
    (
        "forwarded",
        "traceparent",
        "tracestate",
        "via",
        "x-forwarded-for",
        "x-forwarded-host",
        "x-forwarded-port",
        "x-forwarded-proto",
        "x-real-ip",
        "x-request-id",
    )
)
"""Fields written anew for each request. A response that varies by one varies like "*": no later request is known to match."""

_LISTS = frozenset(("accept-charset", "accept-encoding", "accept-language"))
"""Lists whose case and white space carry no meaning (RFC 9110 section 12.5)."""


def can_match(names: tuple[str, ...] | None) -> bool:
    """Whether any later request can be known to match a response that varies by `names` (RFC 9111 section 4.1)."""
    return names is not None and MADE_HERE.isdisjoint(names)


def secondary_key(exchange: Exchange, names: tuple[str, ...]) -> tuple[str, ...]:
    """The request's values of `names`, normalised, in the order of `names`; "" for a field that is not there."""
    identity, added = exchange.identity, exchange.forward_headers
    replaced: dict[str, list[str]] = {}
    for pairs in (added or (), identity.headers if identity is not None else ()):
        for field, value in pairs:
            replaced.setdefault(field.decode("latin-1").lower(), []).append(value.decode("latin-1"))
    values = []
    for name in names:
        own = replaced.get(name)
        if own is None:
            own = [] if name in IDENTITY or name in CERTIFIED else exchange.headers.getall(name, [])
            if name == "x-tls-subject" and exchange.tls_subject:
                own = [exchange.tls_subject]
        joined = ", ".join(own)
        values.append(_normalised(name, joined) if name in _LISTS else joined)
    return tuple(values)


@lru_cache(maxsize=1024)
def _remembered(name: str, value: str) -> str:
    members = [member.strip(" \t").replace(" ", "").replace("\t", "") for member in value.lower().split(",")]
    members = [member for member in members if member]
    # Preference among codings is said by weights alone; among languages servers go by the order too (RFC 9110 section 12.5.4).
    return ",".join(sorted(members) if name == "accept-encoding" else members)


def _normalised(name: str, value: str) -> str:
    return _remembered(name, value) if len(value) <= 128 else _remembered.__wrapped__(name, value)
