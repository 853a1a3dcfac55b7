"""Hides numbers of payment cards: in JSON that clients send, and in answers as they arrive.

    request = ["redact"]
    response = ["redact"]

    [redact]
    members = ["card_number", "cvc"]      # of JSON bodies, wherever they stand
    max_body = "64KiB"

A number is 13 to 19 digits that pass the Luhn check (ISO/IEC 7812-1); all but the last four become
`*`, so that lengths stay. Answers may be of any length: of each chunk only digits at its end are
held back.
"""

from __future__ import annotations

import re
from typing import Any

import orjson

from gateway.config.tables.declare import setting, table
from gateway.config.tables.schema import Size
from gateway.core.exchange import Exchange, Reply
from gateway.core.failures import Failed, Failure
from gateway.core.hooks import Context, Hooks

LONGEST = 19
_NUMBER = re.compile(rb"(?<![0-9])[0-9]{13,19}(?![0-9])")
_DIGITS_AT_END = re.compile(rb"[0-9]*\Z")
_UNTOUCHED = frozenset((b"range", b"accept-encoding"))
"""Kept from the upstream: neither a part of a body nor a coded one can be looked into."""


@table
class RedactConfig:
    """Hides numbers of payment cards."""

    members: tuple[str, ...] = setting(
        default=("card_number", "cvc"), doc="members of JSON bodies that become `***`"
    )
    max_body: int = setting(Size(), default=64 * 1024, doc="of a request with JSON; 413 beyond it")


CONFIG = RedactConfig


def luhn(digits: bytes) -> bool:
    """Return True if a number has a sound check digit."""
    total = 0
    for place, digit in enumerate(reversed(digits)):
        value = digit - 48
        if place % 2:
            value = value * 2 - 9 * (value > 4)
        total += value
    return total % 10 == 0


def hidden(data: bytes) -> bytes:
    """Return text with its numbers of cards hidden."""

    def hide(found: re.Match[bytes]) -> bytes:
        digits = found[0]
        return b"*" * (len(digits) - 4) + digits[-4:] if luhn(digits) else digits

    return _NUMBER.sub(hide, data)


class Redactor:
    """Hides numbers in text that comes in chunks, wherever those end."""

    def __init__(self) -> None:
        self._held = b""
        self._long = False
        """Whether the digits that are held back go on from more than a card's number."""

    def change(self, chunk: bytes) -> bytes:
        """Return what may go out."""
        text = self._held + chunk
        end = _DIGITS_AT_END.search(text)
        assert end is not None
        start = end.start()
        if self._long:
            # No number: digits that go on from those that went out already.
            if start == 0:
                return text
            stop = len(text) - len(text.lstrip(b"0123456789"))
            self._long = False
            self._held = text[start:]
            return text[:stop] + hidden(text[stop:start])
        if len(text) - start > LONGEST:
            self._long, self._held = True, b""
            return hidden(text)
        self._held = text[start:]
        return hidden(text[:start])

    def end(self) -> bytes:
        """Return what is left."""
        held, self._held = self._held, b""
        return hidden(held)


def without(value: Any, members: frozenset[str]) -> Any:
    """Return JSON with these members hidden, and numbers of cards in its texts."""
    if isinstance(value, dict):
        return {
            name: "***" if name in members else without(one, members) for name, one in value.items()
        }
    if isinstance(value, list):
        return [without(one, members) for one in value]
    return hidden(value.encode()).decode() if isinstance(value, str) else value


def build(config: RedactConfig, context: Context) -> Hooks:
    members = frozenset(config.members)

    async def request(exchange: Exchange) -> None:
        exchange.drop_headers = (exchange.drop_headers or frozenset()) | _UNTOUCHED
        media = exchange.headers.get("Content-Type", "").partition(";")[0].strip().lower()
        if exchange.body is None or media != "application/json":
            return
        try:
            value = orjson.loads(await exchange.body.whole(config.max_body))
        except ValueError:
            raise Failed(Failure.MALFORMED, "The body is no JSON.", by=context.name) from None
        exchange.replace_body(orjson.dumps(without(value, members)))

    def response(exchange: Exchange, reply: Reply) -> None:
        if (reply.get(b"content-type") or b"").startswith((b"text/", b"application/json")):
            redactor = Redactor()
            reply.transform(redactor.change, redactor.end)

    return Hooks(request=request, response=response)
