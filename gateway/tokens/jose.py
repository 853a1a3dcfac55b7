"""Parse JSON Web Signatures in compact form (RFC 7515), strictly; nothing is trusted yet.

A token that two readers could read differently is refused: no padding, no white space, no stray
bits in base64url, no repeated name in an object, no NaN, no half of a character. Keys are checked
in verifying.py, time and configuration in claims.py.
"""

from __future__ import annotations

import binascii
import json
import math
import re
from dataclasses import dataclass, field
from typing import Any

from gateway.core.refusals import Refused

LONGEST = 16 * 1024
"""Letters of a token that is looked at."""
DEEPEST = 64
"""Levels of arrays and objects within one another."""

_SHAPE = re.compile(r"([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]*)")
_OPENING = re.compile(r"[\[{]")
# The last letter of a partial group carries unused bits. Unless they are 0, the same bytes have
# several spellings.
_STRAY = {2: frozenset("AQgw"), 3: frozenset("AEIMQUYcgkosw048")}


@dataclass(frozen=True, slots=True)
class Token:
    """One token as read. `signed`: what `signature` is over. `alg`, `kid`: what the token says."""

    alg: str
    kid: str | None
    type: str
    claims: dict[str, Any]
    signed: bytes = field(repr=False)
    signature: bytes = field(repr=False)


def looks_like(text: str) -> bool:
    """Return True for a token of this kind rather than an opaque one."""
    return text.count(".") >= 2


def read(text: str) -> Token:
    """Return the unverified token. Raises Refused for text that is no strict JWS."""
    if len(text) > LONGEST:
        raise malformed(f"the token is longer than {LONGEST} letters")
    parts = _SHAPE.fullmatch(text)
    if parts is None:
        # Also for RFC 7516's five parts: encryption.
        raise malformed("the token is not three parts of base64url")
    header = _object(parts[1], "header")
    if "crit" in header:
        # RFC 7515 section 4.1.11: no extension is supported, so what it lists must not be ignored.
        raise malformed(
            "the token's header has crit, which names extensions that must be understood"
        )
    alg, kid, kind = header.get("alg"), header.get("kid"), header.get("typ", "")
    if not isinstance(alg, str):
        raise malformed("the token's header has no alg")
    if not isinstance(kid, str | None) or not isinstance(kind, str):
        raise malformed("the token's kid or typ is not a string")
    return Token(
        alg,
        kid,
        kind,
        _object(parts[2], "payload"),
        text[: parts.end(2)].encode(),
        _decoded(parts[3], "signature"),
    )


def malformed(why: str) -> Refused:
    """A token that is refused for its form. `why` must hold nothing that came with it."""
    return Refused("malformed", why, detail="The token is not valid.")


def _decoded(text: str, what: str) -> bytes:
    left = len(text) % 4
    if left == 1 or (left and text[-1] not in _STRAY[left]):
        raise malformed(f"the token's {what} is not in canonical base64url")
    return binascii.a2b_base64(text.translate(_STANDARD) + "=" * (-left % 4))


_STANDARD = str.maketrans("-_", "+/")


def _object(text: str, what: str) -> dict[str, Any]:
    data = _decoded(text, what)
    try:
        decoded = data.decode("utf-8")
        if len(_OPENING.findall(decoded)) > DEEPEST and _depth(decoded) > DEEPEST:
            raise malformed(f"the token's {what} is nested more than {DEEPEST} levels deep")
        value = json.loads(
            decoded,
            object_pairs_hook=unique_names,
            parse_constant=_no_constant,
            parse_float=_finite,
        )
        if "\\u" in decoded:
            # RFC 7493 section 2.1: a lone surrogate is no character, and has no bytes.
            json.dumps(value, ensure_ascii=False).encode()
    except ValueError:
        raise malformed(
            f"the token's {what} is not JSON that can be read in one way only"
        ) from None
    if not isinstance(value, dict):
        raise malformed(f"the token's {what} is not an object")
    return value


def _depth(text: str) -> int:
    """Return an upper bound of the nesting: brackets within strings count too."""
    depth = deepest = 0
    for letter in text:
        if letter in "[{":
            depth += 1
            deepest = max(deepest, depth)
        elif letter in "]}":
            depth -= 1
    return deepest


def unique_names(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Make a JSON object. Raises ValueError for a repeated name: readers disagree about it."""
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name occurs twice")
    return found


def _no_constant(word: str) -> float:
    raise ValueError(f"{word} is not JSON")


def _finite(text: str) -> float:
    """RFC 8259 section 6 leaves numbers beyond a double's range open; 1e999 would be infinity."""
    value = float(text)
    if not math.isfinite(value):
        raise ValueError("a number out of range")
    return value
