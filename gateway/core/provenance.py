"""Where a request came from, as the servers behind the gateway are told. Pure.

What a stranger says about it is never believed. A trusted proxy's X-Forwarded-* are, and its
Forwarded as far as it says the same or is all there is: every field that goes on is made from that
one account, so that no two of them differ. The cache's key is made from it too.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

from gateway.core.exchange import Exchange

_KEY = "account"
_ELEMENT = re.compile(r'(?:[^,"]|"(?:[^"\\]|\\.)*")+')
_CLOSED = re.compile(r'(?:[^"]|"(?:[^"\\]|\\.)*")*')
"""What stands before a quote that has no end; none behind it has one, so they are not looked at."""
_PAIR = re.compile(r'(?:^|;)[ \t]*+([^=;, \t"]++)=("(?:[^"\\]|\\.)*"|[^;,"]*)')
_PROTO = re.compile(r"[A-Za-z][A-Za-z0-9+.-]{0,30}")
_HOST = re.compile(r"[^\s,;\"\\<>/@]{1,255}")
_LONGEST = 255
"""Characters of a host whose account is remembered."""
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")


class Account(NamedTuple):
    """hops: addresses, the client's first. proto and host: what the client used. forwarded: the
    field of RFC 7239. origin: scheme and host in lower case, as a URL begins.
    """

    hops: tuple[str, ...]
    proto: str
    host: str
    forwarded: str
    origin: str


class _Hop(NamedTuple):
    """An element of Forwarded; "" for what it does not say."""

    node: str = ""
    proto: str = ""
    host: str = ""


def account(exchange: Exchange) -> Account:
    """The account of this request. Worked out once for all requests that repeat its fields."""
    known: Account | None = exchange.memo.get(_KEY)
    if known is None:
        if exchange.trusted:
            known = _trusted(exchange)
        else:
            host = exchange.headers.get("Host", "")
            own = _own if len(host) <= _LONGEST else _own.__wrapped__
            known = own(exchange.peer, exchange.scheme, host)
        exchange.memo[_KEY] = known
    return known


def members(lines: Sequence[str]) -> list[str]:
    """The members of a list field, without the empty ones (RFC 9110 section 5.6.1.2)."""
    return [member for part in ",".join(lines).split(",") if (member := part.strip(" \t"))]


def bare(entry: str) -> str:
    """An address without its port: "1.2.3.4:55", "[2001:db8::1]:55"."""
    if entry.startswith("["):
        return entry[1:].partition("]")[0]
    return entry.partition(":")[0] if entry.count(":") == 1 else entry


@lru_cache(1024)
def _own(peer: str, scheme: str, host: str) -> Account:
    return Account(
        (peer,),
        scheme,
        host,
        _element(_Hop(peer, scheme, host)),
        _origin(scheme, host),
    )


def _origin(proto: str, host: str) -> str:
    return f"{proto.lower()}://{host.lower()}"


def _trusted(exchange: Exchange) -> Account:
    headers, peer, scheme = exchange.headers, exchange.peer, exchange.scheme
    own_host = headers.get("Host", "")
    told = members(headers.getall("X-Forwarded-For", ()))
    proto = _first(headers.getall("X-Forwarded-Proto", ()), _PROTO)
    host = _first(headers.getall("X-Forwarded-Host", ()), _HOST)
    given = _hops(headers.getall("Forwarded", ()))
    first = given[0] if given else _Hop()
    # Two accounts that differ: a proxy that writes only one of them passes on what strangers say in
    # the other.
    agree = (
        (not told or [bare(one) for one in told] == [bare(hop.node) for hop in given])
        and (not proto or first.proto in ("", proto))
        and (not host or first.host in ("", host))
    )
    if not agree or not given:
        given = [_Hop(one) for one in told]
        if given:
            given[0] = _Hop(given[0].node, proto, host)
    elif not told:
        told = [bare(hop.node) for hop in given if hop.node]
    first = given[0] if given else _Hop()
    forwarded = ", ".join(map(_element, (*given, _Hop(peer, scheme, own_host))))
    proto, host = proto or first.proto or scheme, host or first.host or own_host
    return Account((*told, peer), proto, host, forwarded, _origin(proto, host))


def _first(lines: Sequence[str], form: re.Pattern[str]) -> str:
    found = members(lines)
    return found[0] if found and form.fullmatch(found[0]) else ""


def _hops(lines: Sequence[str]) -> list[_Hop]:
    """The elements of Forwarded; what has no sound form is left out (RFC 7239 section 4)."""
    hops = []
    text = ",".join(lines)
    found = _CLOSED.match(text)
    end = len(text) if found is None else found.end()
    for element in (*_ELEMENT.findall(text[:end]), *re.split('[,"]', text[end:])):
        said = {name.lower(): _unquoted(value) for name, value in _PAIR.findall(element)}
        node, proto, host = said.get("for", ""), said.get("proto", ""), said.get("host", "")
        if said:
            hops.append(
                _Hop(
                    node,
                    proto if _PROTO.fullmatch(proto) else "",
                    host if _HOST.fullmatch(host) else "",
                )
            )
    return hops


def _unquoted(value: str) -> str:
    return re.sub(r"\\(.)", r"\1", value[1:-1]) if value.startswith('"') else value.strip(" \t")


def _element(hop: _Hop) -> str:
    node = hop.node
    if node.count(":") > 1 and not node.startswith("["):
        node = f"[{node}]"
    parts = [f"for={_value(node)}"] if node else ["for=unknown"]
    if hop.proto:
        parts.append(f"proto={hop.proto}")
    if hop.host:
        parts.append(f'host="{hop.host}"')
    return ";".join(parts)


def _value(node: str) -> str:
    """Return a node as a token or quoted (RFC 7239 sections 4 and 6)."""
    if _TOKEN.fullmatch(node):
        return node
    return '"' + node.replace("\\", "\\\\").replace('"', '\\"') + '"'
