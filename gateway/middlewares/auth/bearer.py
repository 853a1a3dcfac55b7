"""Find credentials in a request: Authorization (RFC 9110 section 11.6.2), a parameter, a cookie."""

from __future__ import annotations

import re
from collections.abc import Collection
from urllib.parse import unquote

from multidict import istr

from gateway.core.exchange import Exchange
from gateway.core.failures import Failure
from gateway.core.headers import Pair
from gateway.core.refusals import Refused

AUTHORIZATION, COOKIE = istr("Authorization"), istr("Cookie")
NOTHING: list[str] = []
B64TOKEN = re.compile(r"[A-Za-z0-9._~+/-]+=*")
"""RFC 6750 section 2.1."""
FIELDS = frozenset((b"authorization",))
WANTED = "a Bearer token in the Authorization header"


def token(given: list[str]) -> str | None:
    """Return the Bearer token of the Authorization field, None for another scheme.

    Raises Refused for two fields.
    """
    return of_scheme(given, "bearer")


def of_scheme(given: list[str], scheme: str) -> str | None:
    """Return what follows the scheme (lower case), None for nothing or another scheme.

    Two fields are refused, because readers disagree about which counts.
    """
    if len(given) > 1:
        raise ambiguous(
            f"{len(given)} Authorization headers", "There must be only one Authorization header."
        )
    word, _, rest = given[0].partition(" ")
    # A scheme without credentials, as a page sends that has none yet, counts as none.
    return rest.lstrip(" ") or None if word.lower() == scheme else None


def holds_key(exchange: Exchange) -> bool:
    """Return True if Authorization holds an API key."""
    return any(
        value[:7].lower() == "apikey " for value in exchange.headers.getall(AUTHORIZATION, NOTHING)
    )


class Elsewhere:
    """A query parameter and a cookie ("" for none) that tokens may come in beside Authorization.

    Shared by the methods that take tokens. Authorization comes first, then the parameter, then the
    cookie, which browsers send unasked. A parameter that differs from the field is refused
    (RFC 6750 section 2). The upstream sees neither, unless `forward`.
    """

    __slots__ = ("_cookie", "_forward", "_query", "wanted")

    def __init__(self, query: str, cookie: str, forward: bool) -> None:
        self._query = query
        self._cookie = cookie
        self._forward = forward
        self.wanted = (f", the {query} parameter" if query else "") + (
            f", the {cookie} cookie" if cookie else ""
        )

    def token(self, exchange: Exchange, from_header: str | None) -> str | None:
        """The token of a request, if there is one. Raises Refused."""
        notes = exchange.notes
        if self in notes:  # another method has looked already, and has taken it out
            return notes[self] or None
        token = from_header
        if self._query and exchange.query:
            given = parameter(exchange, self._query, self._forward)
            if given and token and given != token:
                raise ambiguous(
                    f"different tokens in Authorization and {self._query}",
                    f"The Authorization header and the {self._query} parameter differ.",
                )
            token = token or given
        if self._cookie:
            given = cookie(exchange, self._cookie, self._forward)
            token = token or given
        notes[self] = token
        return token or None


def parameter(exchange: Exchange, name: str, forward: bool) -> str:
    """Take a query parameter out of the request and return its value, "" without one.

    Raises Refused for two.
    """
    if name not in exchange.query and "%" not in exchange.query:
        return ""
    found = parameters(exchange, (name,), forward)
    if len(found) > 1:
        raise ambiguous(
            f"{len(found)} {name} parameters", f"There must be only one {name} parameter."
        )
    # Not unquote_plus: keys made elsewhere may hold a "+", and none holds a space.
    return unquote(found[0].partition("=")[2]) if found else ""


def parameters(exchange: Exchange, names: Collection[str], forward: bool) -> list[str]:
    """Return the raw query parameters of these names; remove them unless `forward`."""
    every = exchange.query.split("&")
    found = [one for one in every if unquote(one.partition("=")[0]) in names]
    if found and not forward:
        exchange.query = "&".join(one for one in every if one not in found)
        exchange.target = exchange.path + ("?" + exchange.query if exchange.query else "")
    return found


def cookie(exchange: Exchange, name: str, forward: bool) -> str:
    """Take a cookie out of the request; return its value, "" without one.

    Raises Refused for two.
    """
    given = exchange.headers.getall(COOKIE, NOTHING)
    if not any(name in line for line in given):
        return ""
    pairs = [pair.strip(" \t") for line in given for pair in line.split(";")]
    found = [pair for pair in pairs if pair.partition("=")[0].rstrip(" \t") == name]
    if found and not forward:
        rest = "; ".join(pair for pair in pairs if pair and pair not in found)
        drop(exchange, frozenset((b"cookie",)))
        if rest:
            sent = (b"Cookie", rest.encode("utf-8", "surrogateescape"))
            exchange.forward_headers = [*(exchange.forward_headers or ()), sent]
    if len(found) > 1:
        raise ambiguous(f"{len(found)} {name} cookies", f"There must be only one {name} cookie.")
    return found[0].partition("=")[2].strip(' \t"') if found else ""


def ambiguous(why: str, detail: str) -> Refused:
    """Credentials that say two things."""
    return Refused("malformed", why, detail=detail, failure=Failure.MALFORMED)


def drop(exchange: Exchange, names: frozenset[bytes] | None) -> None:
    """Keeps these fields from the upstream."""
    if names is not None:
        dropped = exchange.drop_headers
        exchange.drop_headers = names if dropped is None else dropped | names


def challenges(realm: str, scheme: str = "Bearer") -> tuple[bytes, bytes]:
    """Return the challenges for no token and for a bad one (RFC 6750 section 3)."""
    plain = f"{scheme} realm={quoted(realm)}"
    return plain.encode("latin-1"), f'{plain}, error="invalid_token"'.encode("latin-1")


def insufficient_scope(challenge: bytes, needed: frozenset[str]) -> tuple[Pair, ...]:
    """Return the challenge for a good token that is not enough (RFC 6750 section 3.1).

    None for other schemes.
    """
    if not challenge.startswith(b"Bearer "):
        return ()
    scope = " ".join(word for word in sorted(needed) if '"' not in word and "\\" not in word)
    said = (
        f', error="insufficient_scope", scope="{scope}"'
        if scope
        else ', error="insufficient_scope"'
    )
    return ((b"WWW-Authenticate", challenge + said.encode("latin-1", "replace")),)


def quoted(text: str) -> str:
    """A quoted-string (RFC 9110 section 5.6.4)."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
