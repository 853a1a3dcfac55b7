"""Check a verified token's claims, and make the caller of them (RFC 7519 section 4). Pure."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

from marshmallow import ValidationError, fields

from gateway.config.tables.declare import setting, table
from gateway.config.tables.schema import Items, Text
from gateway.config.toml.sources import Outside
from gateway.core import identities
from gateway.core.exchange import Identity
from gateway.core.failures import Failure
from gateway.core.identities import Granted
from gateway.core.refusals import Refused
from gateway.tokens.jose import Token

LONGEST_WORD = 256
"""Letters of a name, tier, role or permission, which become header fields, keys and labels."""
OF_ONE_TOKEN = frozenset(
    (
        "exp",
        "iat",
        "nbf",
        "jti",
        "auth_time",
        "nonce",
        "at_hash",
        "c_hash",
        "s_hash",
        "sid",
        "session_state",
        "uti",
        "rh",
        "aio",
    )
)
"""Claims that say nothing about the caller: of a token, or of the session it is from."""
TYPES = frozenset(("", "jwt", "at+jwt"))
"""`typ` values accepted where none is configured; others are for something else.

RFC 8725 section 3.11.
"""


class Texts(fields.Field[tuple[str, ...]]):
    """A string, or an array of strings; loads as the latter."""

    def _deserialize(
        self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any
    ) -> tuple[str, ...]:
        if isinstance(value, str):
            value = value.items() if isinstance(value, Outside) else [value]
        if not isinstance(value, list):
            raise ValidationError("must be a string or an array of strings")
        loaded: Any = Items(Text()).deserialize(value)
        return tuple(loaded)

    @staticmethod
    def json_schema() -> dict[str, Any]:
        """For editors."""
        return {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]}


def _check_prefix(text: str) -> None:
    if not re.fullmatch(r"[\x21-\x2b\x2d-\x7e]{0,64}", text):
        raise ValidationError("must be visible ASCII without spaces and commas, 64 letters at most")


@table
class ClaimsConfig:
    """Which claim says what, as `found` reads names."""

    client: str = setting(default="sub", doc="the client")
    tier: str = setting(default="tier", doc="its tier")
    roles: str = setting(
        default="roles", doc="its roles: an array, or words with spaces between them"
    )
    permissions: str = setting(default="scope", doc="its permissions, likewise")
    prefix: str | None = setting(
        Text(empty=True),
        default=None,
        check=_check_prefix,
        doc='stands before the names of clients and users, so that other issuers\' differ; `""`'
        " says that the same name at several issuers is the same caller",
    )


@dataclass(frozen=True, slots=True)
class RulesConfig:
    """What one issuer's tokens must say. Times in seconds."""

    audience: tuple[str, ...] = ()
    leeway: float = 30.0
    required: tuple[str, ...] = ()
    type: str = ""
    max_age: float | None = None
    claims: ClaimsConfig = field(default_factory=ClaimsConfig)


def check(token: Token, rules: RulesConfig, now: float) -> float:
    """The Unix time until which the token holds, leeway included. Raises Refused."""
    claims = token.claims
    kind = token.type.lower().removeprefix("application/")
    if kind != rules.type.lower().removeprefix("application/") if rules.type else kind not in TYPES:
        raise invalid(f"the token's typ is {shown(token.type)}, which is not for this")
    for name in rules.required:
        if found(claims, name) is None:
            raise invalid(f"the claim {name} is missing")
    _check_audience(claims.get("aud"), rules.audience)
    expires = _time(claims, "exp")
    if expires is None:
        raise invalid("the claim exp is missing")
    until = expires + rules.leeway
    if now >= until:
        raise Refused(
            "expired",
            f"the token expired {_date(expires)}",
            detail="The token has expired.",
            failure=Failure.EXPIRED,
        )
    for name in ("nbf", "iat"):
        since = _time(claims, name)
        if since is not None and now < since - rules.leeway:
            raise invalid(f"the token's {name} is in the future: {_date(since)}")
    if rules.max_age is not None:
        issued = _time(claims, "iat")
        if issued is None:
            raise invalid("the claim iat is missing, so the token's age is not known")
        until = min(until, issued + rules.max_age + rules.leeway)
        if now >= until:
            why = f"the token was issued {_date(issued)}, longer ago than max_age"
            raise Refused("expired", why, detail="The token is too old.", failure=Failure.EXPIRED)
    return until


def identity(
    claims: Mapping[str, Any],
    config: ClaimsConfig,
    granted: Granted,
    method: str,
    prefixes: Collection[str] = (),
) -> Identity:
    """Return the caller that the claims name. Raises Refused when they name none.

    granted: the permissions that come with a role. prefixes: those of all issuers; a name must not
    begin with another's.
    """
    client = _word(claims, config.client, "client")
    if not client:
        raise invalid(f"the claim {config.client}, which names the client, is missing")
    own = config.prefix or ""
    for prefix in prefixes:
        if prefix and (own + client).startswith(prefix) and not own.startswith(prefix):
            taken = f"{shown(prefix)}, which is another issuer's prefix"
            raise invalid(f"the claim {config.client} begins with {taken}")
    tier = _word(claims, config.tier, "tier")
    roles = _words(claims, config.roles)
    if any("," in role for role in roles):
        raise invalid(
            f"a role in the claim {config.roles} has a comma, so the upstream would read two"
        )
    subject = claims.get("sub")
    return identities.identity(
        client,
        method,
        granted,
        tier=tier,
        user=subject if isinstance(subject, str) else "",
        roles=roles,
        permissions=_words(claims, config.permissions),
        claims=claims,
        prefix=own,
        account=_account(claims),
    )


def client_of(claims: Mapping[str, Any], config: ClaimsConfig) -> str:
    """Return the client that signed claims name, "" if they name none."""
    try:
        client = _word(claims, config.client, "client")
    except Refused:
        return ""
    return client and (config.prefix or "") + client


def _account(claims: Mapping[str, Any]) -> str:
    """Return a digest of the claims about the caller: all but those that are new in every token."""
    about = {name: value for name, value in claims.items() if name not in OF_ONE_TOKEN}
    return hashlib.blake2b(json.dumps(about, sort_keys=True).encode(), digest_size=16).hexdigest()


def check_answer(answer: Mapping[str, Any], audience: tuple[str, ...], now: float) -> float:
    """Return the Unix time until which a server's answer holds (RFC 7662 section 2.2).

    Raises Refused.
    """
    if answer["active"] is not True:
        raise invalid("the server says that the token is not active")
    if audience:
        _check_audience(answer.get("aud"), audience)
    expires = _time(answer, "exp") if answer.get("exp") is not None else None
    if expires is not None and now >= expires:
        raise Refused(
            "expired",
            f"the token expired {_date(expires)}",
            detail="The token has expired.",
            failure=Failure.EXPIRED,
        )
    return math.inf if expires is None else expires


def invalid(why: str) -> Refused:
    return Refused("invalid", why, detail="The token is not valid.")


def shown(value: object) -> str:
    """Return a claim for operators: short, quoted, without line breaks."""
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def found(claims: Mapping[str, Any], name: str) -> Any:
    """Return the claim called `name`, None without it.

    Dots lead into objects ("realm_access.roles"), unless a claim is called just that or a backslash
    stands before the dot: `resource_access.my\\.client.roles` is in the object "my.client".
    """
    value = claims.get(name)
    if value is None and ("." in name or "\\" in name):
        value = claims
        for part in _path(name):
            value = value.get(part) if isinstance(value, Mapping) else None
    return value


@lru_cache(maxsize=1024)
def _path(name: str) -> tuple[str, ...]:
    """A claim's name as keys of objects: "a.b\\.c" is ("a", "b.c")."""
    return tuple(re.sub(r"\\(.)", r"\1", part) for part in re.split(r"(?<!\\)\.", name))


def _check_audience(aud: Any, expected: tuple[str, ...]) -> None:
    """Raise Refused for a token that names other audiences (RFC 7519 section 4.1.3)."""
    if aud is None:
        if expected:
            raise invalid("the claim aud is missing")
        return
    given = [aud] if isinstance(aud, str) else aud
    if not isinstance(given, list) or not all(isinstance(one, str) for one in given):
        raise invalid("the claim aud is neither a string nor an array of strings")
    if not set(given) & set(expected):
        here = " or ".join(expected) or "an audience configured here"
        raise invalid(f"the token is for {shown(aud)}, not for {here}")


def _time(claims: Mapping[str, Any], name: str) -> float | None:
    """A NumericDate (RFC 7519 section 2): a number, not text that looks like one."""
    value = claims.get(name)
    if value is None and name not in claims:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1e12:
        raise invalid(f"the claim {name} is not a time")
    return float(value)


def _word(claims: Mapping[str, Any], name: str, what: str) -> str:
    value = found(claims, name)
    if value is None:
        return ""
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    if not isinstance(value, str) or not _fits_header(value):
        raise invalid(f"the claim {name}, the {what}, is not text that fits a header")
    return value


def _words(claims: Mapping[str, Any], name: str) -> frozenset[str]:
    """Return an array of strings, or the words of one string, like scope (RFC 8693 section 4.2)."""
    value = found(claims, name)
    if value is None:
        return frozenset()
    words = value.split(" ") if isinstance(value, str) else value
    if not isinstance(words, list) or not all(
        isinstance(word, str) and _fits_header(word) for word in words
    ):
        raise invalid(f"the claim {name} is neither an array of words nor a string of them")
    return frozenset(word for word in words if word)


def _fits_header(text: str) -> bool:
    """Return True for text that fits a header: a line break would let a claim add headers."""
    return len(text) <= LONGEST_WORD and text.isprintable() and text == text.strip()


def _date(unix: float) -> str:
    return (
        f"{datetime.fromtimestamp(unix, UTC):%Y-%m-%d %H:%M:%S} UTC"
        if unix < 253402300800
        else "after the year 9999"
    )
