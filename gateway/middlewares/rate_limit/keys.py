"""Whose requests count together: what the words of `key` read from a request.

A part that a request does not have is replaced by the client's address, so that leaving a header
out escapes no limit; a claim that an identity does not have, by its user. Replacements are tuples
and values are text, so no value can pass for an address. Values that strangers choose are cut to a
bounded length: a long one counts as its hash.
"""

from __future__ import annotations

import json
import logging
import re
import unicodedata
from collections.abc import Callable, Collection, Hashable, Mapping
from hashlib import blake2b
from typing import Any

import orjson
from marshmallow import ValidationError, fields

from gateway.core.exchange import Exchange
from gateway.core.failures import Failed, Failure
from gateway.core.networks import address_key
from gateway.tokens.claims import found

log = logging.getLogger("gateway.rate_limit")

Key = Callable[[Exchange], Hashable]

WORDS = ("client", "ip", "user", "global", "route")
PREFIXES = ("header", "claim", "param", "body")
MAX_LENGTH = 64
"""Characters of a key that are kept as they are."""
BODY = "rate_limit body"
"""The note with the object that a request's body holds, for `body:NAME`."""

_BEFORE_JSON = b" \t\r\n\xef\xbb\xbf\xff\xfe\x00"
"""What other readers of JSON skip: white space, byte order marks, the zeros of UTF-16 and
UTF-32."""
_RESERVED = re.compile(r"[%(){}\x1f]")
"""What structures a key as text."""


class KeyField(fields.Field[Any]):
    """One word, or an array of them: the combination."""

    def _deserialize(
        self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any
    ) -> str | tuple[str, ...]:
        if isinstance(value, str):
            return _word(value)
        if not isinstance(value, list) or not value:
            raise ValidationError("must be a word or an array of them")
        return tuple(_word(one) for one in value)

    @staticmethod
    def json_schema() -> dict[str, Any]:
        """For editors."""
        word = {"type": "string", "pattern": rf"^({'|'.join(WORDS)}|({'|'.join(PREFIXES)}):.+)$"}
        return {"anyOf": [word, {"type": "array", "items": word, "minItems": 1}]}


def _word(value: Any) -> str:
    if isinstance(value, str):
        prefix, colon, name = value.partition(":")
        if value in WORDS or (colon and name and prefix in PREFIXES):
            return value
    raise ValidationError(
        f"must be one of {', '.join(WORDS)}, or {', '.join(f'{one}:NAME' for one in PREFIXES)}"
    )


def parts(key: str | tuple[str, ...]) -> tuple[str, ...]:
    """The words of a `key`."""
    return (key,) if isinstance(key, str) else key


def reader(key: str | tuple[str, ...], scope: str) -> Key:
    """What computes the key of a request's bucket."""
    words = parts(key)
    read = _one(words[0]) if len(words) == 1 else _all([_one(word) for word in words])
    if scope == "route":
        return lambda exchange: (route_name(exchange), read(exchange))
    return read


def text(key: Hashable) -> str:
    """A key as text, for ledgers that have no other kind. Different keys are different texts."""
    if isinstance(key, str):
        return quoted(key)
    assert isinstance(key, tuple)
    return "(" + "\x1f".join(text(one) for one in key) + ")"


def quoted(word: str, reserved: re.Pattern[str] = _RESERVED) -> str:
    """A word with the characters that have a meaning in a ledger's keys percent-encoded."""
    return reserved.sub(lambda match: f"%{ord(match[0]):02X}", word)


def route_name(exchange: Exchange) -> str:
    """The matched route's name, "" outside of any."""
    return "" if exchange.route is None else exchange.route.name


def stranger(exchange: Exchange) -> Hashable:
    """The address of a caller that cannot be told apart otherwise."""
    return (address_key(exchange.client_ip),)


def bounded(value: str) -> str:
    """A value that others choose: itself, or its hash when it is long."""
    if len(value) <= MAX_LENGTH:
        return value
    return "#" + blake2b(value.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


def _all(readers: list[Key]) -> Key:
    return lambda exchange: tuple([read(exchange) for read in readers])


def _one(word: str) -> Key:
    prefix, _, name = word.partition(":")
    return _NAMED[prefix](name) if name else _PLAIN[word]


def _client(exchange: Exchange) -> Hashable:
    identity = exchange.identity
    return stranger(exchange) if identity is None else identity.client


def _user(exchange: Exchange) -> Hashable:
    identity = exchange.identity
    if identity is None:
        return stranger(exchange)
    return identity.user or ("client", identity.client)


def _header(name: str) -> Key:
    def read(exchange: Exchange) -> Hashable:
        given = exchange.headers.getall(name, ())
        # Of two lines the upstream may go by either, and the other could be new each time.
        return bounded(given[0]) if len(given) == 1 and given[0] else stranger(exchange)

    return read


def _claim(name: str) -> Key:
    missed = False

    def read(exchange: Exchange) -> Hashable:
        nonlocal missed
        if exchange.identity is None:
            return stranger(exchange)
        value = found(exchange.identity.claims, name)
        if isinstance(value, str | int) and value != "":
            return bounded(str(value))
        if value:
            return "json", bounded(_canonical(value))
        if not missed:
            missed = True
            log.warning("a caller has no claim %r: those without it are limited by user", name)
        return "user", _user(exchange)

    return read


def _canonical(value: Any) -> str:
    """JSON that is the same for equal values; the order of an array says nothing (groups,
    roles)."""
    if isinstance(value, list):
        return "[" + ",".join(sorted({_canonical(one) for one in value})) + "]"
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


def _param(name: str) -> Key:
    def read(exchange: Exchange) -> Hashable:
        value = exchange.params.get(name)
        if value is None:
            return stranger(exchange)
        return bounded(value.casefold() if exchange.route.ignores_case else value)

    return read


def _body(name: str) -> Key:
    def read(exchange: Exchange) -> Hashable:
        value = exchange.notes.get(BODY, {}).get(name.casefold())
        if not isinstance(value, str | int):
            return stranger(exchange)
        # Two spellings of an address or of a user's name must not be two callers.
        return bounded(unicodedata.normalize("NFKC", str(value)).strip().casefold())

    return read


async def read_body(exchange: Exchange, at_most: int, names: Collection[str]) -> None:
    """Leave the JSON object in the body in a note, its names without regard to case.

    Raises Failed: BODY_TOO_LARGE beyond `at_most` bytes; MALFORMED when one of `names` is there
    twice (RFC 8259 section 4; many readers take "Id" for "id"), or when what should be JSON cannot
    be read: the upstream might read another value than is counted here.
    """
    read: Any = None
    if exchange.body is not None:
        body = await exchange.body.whole(at_most)
        try:
            read = orjson.loads(body)
        except orjson.JSONDecodeError:
            said = ",".join(exchange.headers.getall("Content-Type", ())).lower()
            if body and (body.lstrip(_BEFORE_JSON).startswith(b"{") or "json" in said):
                raise Failed(Failure.MALFORMED, "The body is no JSON.", by="rate_limit") from None
        if isinstance(read, dict) and (twice := _named_twice(body, names)):
            raise Failed(
                Failure.MALFORMED,
                f"The JSON object in the body has {twice!r} twice.",
                by="rate_limit",
            )
    found = read if isinstance(read, dict) else {}
    exchange.notes[BODY] = {name.casefold(): value for name, value in found.items()}


def _named_twice(body: bytes, names: Collection[str]) -> str:
    """The first of `names` that the object in `body` has more than once, "" without one."""
    folded = body.decode().casefold()
    if "\\" not in folded and all(folded.count(f'"{name.casefold()}"') < 2 for name in names):
        return ""
    pairs: list[tuple[str, Any]] = []

    def noted(some: list[tuple[str, Any]]) -> None:
        nonlocal pairs
        pairs = some  # The outermost object comes last.

    try:
        json.loads(body, object_pairs_hook=noted, parse_int=len)
    except RecursionError:
        return next(iter(names))
    keys = [key.casefold() for key, _ in pairs]
    return next((name for name in names if keys.count(name.casefold()) > 1), "")


_PLAIN: Mapping[str, Key] = {
    "client": _client,
    "user": _user,
    "ip": lambda exchange: address_key(exchange.client_ip),
    "global": lambda exchange: "",
    "route": route_name,
}
_NAMED: Mapping[str, Callable[[str], Key]] = {
    "header": _header,
    "claim": _claim,
    "param": _param,
    "body": _body,
}
