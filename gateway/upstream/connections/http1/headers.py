"""Request heads for endpoints: the client's fields that pass, and the gateway's.

Whether a field passes depends on its name and on whether the peer is a trusted proxy, so each name
is judged once and remembered; a request costs one look-up per field. Dropped are hop-by-hop fields
(RFC 9110 section 7.6.1) and those that Connection names, framing, what only the gateway may say
(who is calling, where the request came from, X-Request-ID), what overrides the request line, and
`Proxy` (CVE-2016-5385). A name is judged as CGI and WSGI see it, where "_" is "-".
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from multidict import istr

from gateway.core.exchange import Exchange
from gateway.core.headers import (
    FRAMING,
    HOP_BY_HOP,
    NOT_TRAILERS,
    OVERRIDES,
    Memo,
    Pair,
    check_field,
    is_from_proxies,
    is_own,
    lower,
    spelt,
    takes_trailers,
    tokens,
    trace_id,
)
from gateway.core.provenance import account

CREDENTIALS = frozenset((b"authorization", b"cookie", b"proxy-authorization", b"x-api-key"))
"""What a TRACE must not carry, since its answer shows it (RFC 9110 section 9.3.8)."""

_TRACE = frozenset((b"traceparent", b"tracestate"))
_OURS = frozenset((b"traceparent",))

_DROPPED = HOP_BY_HOP | FRAMING | OVERRIDES | {b"host", b"expect", b"proxy", b"x-request-id"}

_CHUNKED = b"Transfer-Encoding: chunked\r\n"

_MEMO: Final = "forwarded fields"
TIED: Final = "authenticates its connection"
"""The key in `Exchange.memo` of a request after which its connection serves no other client."""
_AUTHORIZATION = istr("Authorization")
_CONNECTION, _TRACEPARENT_FIELD, _TRACESTATE, _HOST = (
    istr("Connection"),
    istr("traceparent"),
    istr("tracestate"),
    istr("Host"),
)


def passes(name: bytes, trusted: bool = False) -> bool:
    """Return True if a field of this name goes on to the endpoint.

    trusted: it comes from one of `trusted_proxies`. What Connection names and hooks drop is not
    asked here.
    """
    name = spelt(name)
    return name not in _DROPPED and not is_own(name) and (trusted or not is_from_proxies(name))


_PASSES: dict[tuple[frozenset[bytes] | None, bool], Memo[bytes]] = {}
"""By what hooks drop besides, which is one of few sets, and whether the peer is trusted: how the
line of a name begins, b"" for one that does not pass."""


def _passing(dropped: frozenset[bytes] | None, trusted: bool) -> Memo[bytes]:
    known = _PASSES.get((dropped, trusted))
    if known is None:
        if len(_PASSES) >= 64:
            _PASSES.clear()
        gone = frozenset(map(spelt, dropped or ()))
        known = _PASSES[(dropped, trusted)] = Memo(
            lambda name: name + b": " if passes(name, trusted) and spelt(name) not in gone else b""
        )
    return known


def request_head(exchange: Exchange, target: str, host: str, framing: bytes) -> bytes:
    """The request line and all fields, ended by the empty line.

    target:  origin-form, as it is to be sent. host: the Host field's value.
    framing: complete lines that frame the body (Content-Length or Transfer-Encoding), b"" without
             one.
    """
    # What is sent of the client's fields depends on them, on what hooks drop and add, and on the
    # identity: often the same again.
    known = exchange.memo.get(_MEMO)
    if (
        known is not None
        and known[0] is exchange.drop_headers
        and known[1] is exchange.identity
        and known[2] == exchange.forward_headers
        and exchange.method != "TRACE"
    ):
        fields: bytes = known[3]
    else:
        fields = forwarded_fields(exchange)
    number = exchange.request_id
    line = f"{exchange.method} {target} HTTP/1.1\r\nHost: {host}\r\nX-Request-ID: {number}\r\n"
    if exchange.traceparent and traced(exchange):
        line += f"traceparent: {exchange.traceparent}\r\n"
    return line.encode("utf-8", "surrogateescape") + framing + fields


def forwarded_fields(exchange: Exchange) -> bytes:
    """Return the lines of a request's fields, whatever the protocol: those of the client's that
    pass, and the gateway's. Ended by the empty line."""
    added, dropped = exchange.forward_headers, exchange.drop_headers
    if exchange.method == "TRACE":
        return _added(exchange, added or ())
    known = exchange.memo.get(_MEMO)
    if (
        known is not None
        and known[0] is dropped
        and known[1] is exchange.identity
        and known[2] == added
    ):
        fields: bytes = known[3]
        return fields
    fields = _added(exchange, added) if added else _fields(exchange, dropped)
    exchange.memo[_MEMO] = (dropped, exchange.identity, added, fields)
    return fields


_CONNECTION_AUTH = re.compile(rb"(?:^|,)[ \t]*(?:ntlm|negotiate)(?=[ \t,]|$)", re.IGNORECASE)


def names_connection_auth(value: bytes) -> bool:
    """Return True if credentials or a challenge use a scheme that authenticates the connection, not
    the request.

    With NTLM (MS-NTHT) and Negotiate (RFC 4559) later requests on the connection count as the same
    user's.
    """
    return _CONNECTION_AUTH.search(value) is not None


def chunked_framing(exchange: Exchange) -> tuple[bytes, Sequence[bytes]]:
    """The lines that frame a body by chunks, and the names of the trailers that they announce:
    those that the client has announced (RFC 9110 section 6.6.2), without what means harm behind a
    body."""
    said = exchange.headers.getall("Trailer", ())
    names = tokens(", ".join(said).encode("latin-1", "replace")) if said else ()
    announced = [name for name in names if name not in NOT_TRAILERS and passes(name)]
    return _CHUNKED + b"Trailer: %b\r\n" % b", ".join(
        announced
    ) if announced else _CHUNKED, announced


def _fields(
    exchange: Exchange, dropped: frozenset[bytes] | None, added: Sequence[Pair] = ()
) -> bytes:
    """The client's fields that pass, the identity, and where the request came from; with the empty
    line at the end.

    Raises UnsafeField for what a hook adds and no line may hold.
    """
    headers = exchange.headers
    connection = headers.get(_CONNECTION)
    named: frozenset[bytes] = frozenset()
    if connection is not None and connection not in ("keep-alive", "close", "Keep-Alive"):
        named = frozenset(
            tokens(",".join(headers.getall(_CONNECTION)).encode("latin-1", "replace"))
        )
    credentials = headers.get(_AUTHORIZATION)
    if credentials is not None and names_connection_auth(
        credentials.encode("utf-8", "surrogateescape")
    ):
        exchange.memo[TIED] = True
    if _TRACEPARENT_FIELD in headers:
        if not _continues(headers.getall(_TRACEPARENT_FIELD)):
            named |= _TRACE
        elif exchange.traceparent:
            named |= _OURS
    elif _TRACESTATE in headers:
        named |= _TRACE
    passing, fields = _passing(dropped, exchange.trusted), exchange.raw_headers
    if named:
        fields = [pair for pair in fields if lower(pair[0]) not in named]
    lines = [begin + value for name, value in fields if (begin := passing[name])]
    if connection is not None and takes_trailers(headers):
        lines += (b"TE: trailers", b"Connection: TE")
    for name, value in (*added, *(() if exchange.identity is None else exchange.identity.headers)):
        check_field(name, value)
        if lower(name) == b"authorization" and names_connection_auth(value):
            exchange.memo[TIED] = True
        lines.append(b"%b: %b" % (name, value))
    lines.append(_provenance(exchange))
    return b"\r\n".join(lines)


def _added(exchange: Exchange, added: Sequence[Pair]) -> bytes:
    """With fields that hooks add, instead of any of the client's with the same names."""
    dropped = (exchange.drop_headers or frozenset()) | {lower(name) for name, _ in added}
    return _fields(
        exchange, dropped | CREDENTIALS if exchange.method == "TRACE" else dropped, added
    )


def traced(exchange: Exchange) -> bool:
    """Return True if the gateway's traceparent goes along: there is one, and no hook has set
    another in its place."""
    added = exchange.forward_headers
    return bool(exchange.traceparent) and not (
        added and any(lower(name) == b"traceparent" for name, _ in added)
    )


def _continues(values: Sequence[str]) -> bool:
    """Return True for one traceparent, and a valid one (W3C Trace Context sections 3.2 and 4.3)."""
    return len(values) == 1 and trace_id(values[0]) is not None


def _provenance(exchange: Exchange) -> bytes:
    """Where the request came from; a trusted proxy's account is continued. Ends the head."""
    if exchange.trusted:
        return _account(exchange)
    key = (
        exchange.peer,
        exchange.headers.get(_HOST, ""),
        exchange.scheme,
        exchange.tls_subject,
        exchange.version,
    )
    known = _ACCOUNTS.get(key)
    if known is None:
        if len(_ACCOUNTS) >= _ACCOUNTS_MAX:
            _ACCOUNTS.clear()
        known = _ACCOUNTS[key] = _account(exchange)
    return known


_ACCOUNTS: dict[tuple[object, ...], bytes] = {}
"""Of clients without a proxy, by all that it depends on: they come again."""
_ACCOUNTS_MAX = 1024


def _account(exchange: Exchange) -> bytes:
    told = account(exchange)
    host = f"X-Forwarded-Host: {told.host}\r\n" if told.host else ""
    subject = f"X-TLS-Subject: {exchange.tls_subject}\r\n" if exchange.tls_subject else ""
    # RFC 9110 section 7.6.3: the version that was received; the client's own Via lines, if any,
    # stand in front.
    major, minor = exchange.version
    return (
        f"Via: {major}.{minor} gateway\r\nForwarded: {told.forwarded}\r\n"
        f"X-Forwarded-For: {', '.join(told.hops)}\r\n"
        f"X-Forwarded-Proto: {told.proto}\r\n{host}{subject}\r\n"
    ).encode("utf-8", "surrogateescape")
