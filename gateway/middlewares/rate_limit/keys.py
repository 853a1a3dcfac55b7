"""Whose requests count together: what the words of `key` read from a request.

A part that a request does not have is replaced by the client's address, so that leaving a header out escapes no limit. What a
stranger may choose freely is cut to a bounded length: a long value counts as its hash.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from hashlib import blake2b
from typing import Any

import orjson
from marshmallow import ValidationError, fields

from gateway.core.exchange import Exchange
from gateway.core.networks import address_key

Key = Callable[[Exchange], Hashable]

WORDS = ("client", "ip", "user", "global", "route")
PREFIXES = ("header", "claim", "param", "body")
LONGEST = 64
"""Characters of a key that are kept as they are."""
BODY = "rate_limit body"
"""The note with the object that a request's body holds, for `body:NAME`."""


class KeyField(fields.Field[Any]):
    """One word, or an array of them: the combination."""

    def _deserialize(self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any) -> str | tuple[str, ...]:
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
    raise ValidationError(f"must be one of {', '.join(WORDS)}, or {', '.join(f'{one}:NAME' for one in PREFIXES)}")


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
    """A key as text, for stores that have no other kind."""
    if isinstance(key, str):
        return key
    assert isinstance(key, tuple)
    return "(" + "\x1f".join(text(one) for one in key) + ")"


def route_name(exchange: Exchange) -> str:
    """The matched route's name, "" outside of any."""
    return "" if exchange.route is None else exchange.route.name


def stranger(exchange: Exchange) -> Hashable:
    """Whoever cannot be told apart otherwise. A tuple: a client may be called "127.0.0.1"."""
    return (address_key(exchange.client_ip),)


def bounded(value: str) -> str:
    """A value that others choose, as short as a key should be."""
    if len(value) <= LONGEST:
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
    return stranger(exchange) if identity is None else identity.user or identity.client


def _header(name: str) -> Key:
    def read(exchange: Exchange) -> Hashable:
        value = exchange.headers.get(name)
        return stranger(exchange) if not value else bounded(value)

    return read


def _claim(name: str) -> Key:
    def read(exchange: Exchange) -> Hashable:
        value = None if exchange.identity is None else exchange.identity.claims.get(name)
        return stranger(exchange) if value is None else bounded(str(value))

    return read


def _param(name: str) -> Key:
    def read(exchange: Exchange) -> Hashable:
        value = exchange.params.get(name)
        return stranger(exchange) if value is None else bounded(value)

    return read


def _body(name: str) -> Key:
    def read(exchange: Exchange) -> Hashable:
        value = exchange.notes.get(BODY, {}).get(name)
        # Two spellings of an address or a user's name must not be two callers.
        return stranger(exchange) if not isinstance(value, str | int) else bounded(str(value).strip().casefold())

    return read


async def read_body(exchange: Exchange, at_most: int) -> None:
    """Leaves the JSON object in the body in a note. Raises Failed(BODY_TOO_LARGE)."""
    found: Any = None
    if exchange.body is not None:
        try:
            found = orjson.loads(await exchange.body.whole(at_most))
        except orjson.JSONDecodeError:
            pass
    exchange.notes[BODY] = found if isinstance(found, dict) else {}


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
