"""The head of the request that goes to an endpoint: what of the client's fields is passed on, and what the gateway adds.

Whether a field passes depends on its name alone, so each name's fate is worked out once and remembered; a request costs one
dictionary look-up per field. Dropped are hop-by-hop fields (RFC 9110 section 7.6.1) and those the Connection field names,
framing, what only the gateway may say about a client (X-Forwarded-*, Forwarded, X-Client-*, X-Request-ID), and `Proxy`
(CVE-2016-5385). A name that turns into one of those when "_" is read as "-", as CGI and WSGI do, is dropped as well.
"""

from __future__ import annotations

from collections.abc import Sequence

from multidict import istr

from gateway.core.exchange import Exchange
from gateway.core.headers import FRAMING, HOP_BY_HOP, Memo, Pair, lower, takes_trailers, tokens, trace_id

IDENTITY = frozenset((b"x-client-id", b"x-client-tier", b"x-client-roles"))
"""What the gateway alone says about who is calling."""

FORWARDED = frozenset(
    (b"forwarded", b"x-forwarded-for", b"x-forwarded-host", b"x-forwarded-port", b"x-forwarded-proto", b"x-real-ip")
)
"""What the gateway alone says about where the request came from."""

CERTIFIED = frozenset((b"x-tls-subject", b"client-cert", b"client-cert-chain"))
"""What only whoever ended TLS can say about a client's certificate (RFC 9440 section 2.4 has the latter two removed)."""

CREDENTIALS = frozenset((b"authorization", b"cookie", b"proxy-authorization", b"x-api-key"))
"""What a TRACE must not carry, since its answer shows it (RFC 9110 section 9.3.8)."""

_TRACE = frozenset((b"traceparent", b"tracestate"))

_DROPPED = HOP_BY_HOP | FRAMING | IDENTITY | FORWARDED | CERTIFIED | {b"host", b"expect", b"proxy", b"x-request-id"}

_MEMO = "forwarded fields"
_CONNECTION, _TRACEPARENT_FIELD, _TRACESTATE, _HOST = istr("Connection"), istr("traceparent"), istr("tracestate"), istr("Host")


def passes(name: bytes) -> bool:
    """Whether a client's field of this name goes on to the endpoint, Connection's own list and hooks aside."""
    return name.lower().replace(b"_", b"-") not in _DROPPED


_PASSES: dict[frozenset[bytes] | None, Memo[bool]] = {None: Memo(passes)}
"""By what hooks drop besides, which is one of few sets: whether a name passes."""


def _passing(dropped: frozenset[bytes] | None) -> Memo[bool]:
    known = _PASSES.get(dropped)
    if known is None:
        if len(_PASSES) >= 64:
            _PASSES.clear()
        gone = dropped or frozenset()
        known = _PASSES[dropped] = Memo(lambda name: passes(name) and name.lower() not in gone)
    return known


def request_head(exchange: Exchange, target: str, host: str, framing: bytes) -> bytes:
    """The request line and all fields, ended by the empty line.

    target:  origin-form, as it is to be sent. host: the Host field's value.
    framing: complete lines that frame the body (Content-Length or Transfer-Encoding), b"" without one.
    """
    added = exchange.forward_headers
    if added or exchange.method == "TRACE":
        fields = _added(exchange, added or ())
    else:
        # What is sent of the client's fields depends on them, on what hooks drop, and on the identity: often the same again.
        known = exchange.memo.get(_MEMO)
        if known is not None and known[0] is exchange.drop_headers and known[1] is exchange.identity:
            fields = known[2]
        else:
            fields = _fields(exchange, exchange.drop_headers)
            exchange.memo[_MEMO] = (exchange.drop_headers, exchange.identity, fields)
    line = f"{exchange.method} {target} HTTP/1.1\r\nHost: {host}\r\nX-Request-ID: {exchange.request_id}\r\n"
    return line.encode("utf-8", "surrogateescape") + framing + fields


def _fields(exchange: Exchange, dropped: frozenset[bytes] | None, added: Sequence[Pair] = ()) -> bytes:
    """The client's fields that pass, the identity, and where the request came from; with the empty line at the end."""
    headers = exchange.headers
    connection = headers.get(_CONNECTION)
    named: frozenset[bytes] = frozenset()
    if connection is not None and connection not in ("keep-alive", "close", "Keep-Alive"):
        named = frozenset(tokens(",".join(headers.getall(_CONNECTION)).encode("latin-1", "replace")))
    if _TRACEPARENT_FIELD in headers:
        if not _continues(headers.getall(_TRACEPARENT_FIELD)):
            named |= _TRACE
    elif _TRACESTATE in headers:
        named |= _TRACE
    parts: list[bytes] = []
    if connection is not None and takes_trailers(headers):
        parts.append(b"TE: trailers\r\nConnection: TE\r\n")
    passing = _passing(dropped)
    for name, value in exchange.raw_headers:
        if passing[name] and (not named or lower(name) not in named):
            parts += (name, b": ", value, b"\r\n")
    for name, value in added:
        parts += (name, b": ", value, b"\r\n")
    if exchange.identity is not None:
        for name, value in exchange.identity.headers:
            parts += (name, b": ", value, b"\r\n")
    parts.append(_provenance(exchange))
    return b"".join(parts)


def _added(exchange: Exchange, added: Sequence[Pair]) -> bytes:
    """With fields that hooks add, instead of any of the client's with the same names."""
    dropped = (exchange.drop_headers or frozenset()) | {lower(name) for name, _ in added}
    return _fields(exchange, dropped | CREDENTIALS if exchange.method == "TRACE" else dropped, added)


def _continues(values: Sequence[str]) -> bool:
    """Return True for one traceparent, and a valid one (W3C Trace Context sections 3.2 and 4.3)."""
    return len(values) == 1 and trace_id(values[0]) is not None


def _provenance(exchange: Exchange) -> bytes:
    """Where the request came from, rebuilt; a trusted proxy's own account is kept in front of ours. Ends the head."""
    host = exchange.headers.get(_HOST, "")
    if exchange.trusted:
        return _account(exchange, host)
    key = (exchange.peer, host, exchange.scheme, exchange.tls_subject)
    known = _ACCOUNTS.get(key)
    if known is None:
        if len(_ACCOUNTS) >= _ACCOUNTS_MAX:
            _ACCOUNTS.clear()
        known = _ACCOUNTS[key] = _account(exchange, host)
    return known


_ACCOUNTS: dict[tuple[str, ...], bytes] = {}
"""Of clients without a proxy, by all that it depends on: they come again."""
_ACCOUNTS_MAX = 1024


def _account(exchange: Exchange, host: str) -> bytes:
    headers = exchange.headers
    address, proto = exchange.peer, exchange.scheme
    # RFC 7239 sections 4 and 6: an IPv6 address stands in brackets and quotes, a host with a port in quotes.
    node = f'"[{address}]"' if ":" in address else address
    forwarded = f"for={node};proto={proto}" + (f';host="{host}"' if host else "")
    if exchange.trusted:
        forwarded = "".join(f"{line}, " for line in headers.getall("Forwarded", ()) if line) + forwarded
        address = ", ".join((*headers.getall("X-Forwarded-For", ()), address))
        proto = headers.get("X-Forwarded-Proto", proto)
        host = headers.get("X-Forwarded-Host", host)
    subject = f"X-TLS-Subject: {exchange.tls_subject}\r\n" if exchange.tls_subject else ""
    # Via: RFC 9110 section 7.6.3; the client's own lines, if any, stand before it.
    return (
        f"Via: 1.1 gateway\r\nForwarded: {forwarded}\r\nX-Forwarded-For: {address}\r\n"
        f"X-Forwarded-Proto: {proto}\r\nX-Forwarded-Host: {host}\r\n{subject}\r\n"
    ).encode("utf-8", "surrogateescape")
