"""Credentials in the Authorization field (RFC 9110 section 11.6.2), Bearer tokens above all (RFC 6750)."""

from __future__ import annotations

import re

from multidict import istr

from gateway.core.exchange import Exchange
from gateway.core.failures import Failure
from gateway.core.headers import Pair
from gateway.core.refusals import Refused

AUTHORIZATION = istr("Authorization")
NOTHING: list[str] = []
B64TOKEN = re.compile(r"[A-Za-z0-9._~+/-]+=*")
"""RFC 6750 section 2.1."""
FIELDS = frozenset((b"authorization",))


def token(given: list[str]) -> str | None:
    """The Bearer token in the Authorization fields of a request; None for another scheme. Raises Refused when there are two."""
    return of_scheme(given, "bearer")


def of_scheme(given: list[str], scheme: str) -> str | None:
    """What follows the scheme (lower case); None without any, or for another scheme.

    Two fields are refused whatever they hold: readers disagree about which counts.
    """
    if len(given) > 1:
        raise Refused(
            "malformed",
            f"{len(given)} Authorization headers",
            detail="There must be only one Authorization header.",
            failure=Failure.MALFORMED,
        )
    word, _, rest = given[0].partition(" ")
    # A scheme without credentials, as a page sends that has none yet, counts as none.
    return rest.lstrip(" ") or None if word.lower() == scheme else None


def drop(exchange: Exchange, names: frozenset[bytes] | None) -> None:
    """Keeps these fields from the upstream."""
    if names is not None:
        dropped = exchange.drop_headers
        exchange.drop_headers = names if dropped is None else dropped | names


def challenges(realm: str, scheme: str = "Bearer") -> tuple[bytes, bytes]:
    """WWW-Authenticate for requests without a token, and for those whose token was no good (RFC 6750 section 3)."""
    plain = f"{scheme} realm={quoted(realm)}"
    return plain.encode("latin-1"), f'{plain}, error="invalid_token"'.encode("latin-1")


def insufficient_scope(challenge: bytes, needed: frozenset[str]) -> tuple[Pair, ...]:
    """WWW-Authenticate for a token that is good but not enough (RFC 6750 section 3.1); none for other schemes."""
    if not challenge.startswith(b"Bearer "):
        return ()
    scope = " ".join(word for word in sorted(needed) if '"' not in word and "\\" not in word)
    said = f', error="insufficient_scope", scope="{scope}"' if scope else ', error="insufficient_scope"'
    return ((b"WWW-Authenticate", challenge + said.encode("latin-1", "replace")),)


def quoted(text: str) -> str:
    """A quoted-string (RFC 9110 section 5.6.4)."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
