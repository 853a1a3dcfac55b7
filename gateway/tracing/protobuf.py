"""The pieces of OTLP that spans are made of, in protobuf's wire format.

Only what the gateway sends: opentelemetry-proto 1.x, common.proto and trace.proto. Numbers in the
constants are field numbers there. Every value is cut at VALUE_MAX bytes, since strangers choose
some.
"""

from __future__ import annotations

VALUE_MAX = 1024
"""Bytes of a string."""
_MEMO_MAX = 2048
_SHORT = 60
"""Bytes up to which a key or a value leaves every length in one byte."""


def varint(number: int) -> bytes:
    """Return a number from 0 to 2**64 - 1 in base 128."""
    if number < 0x80:
        return bytes((number,))
    parts = bytearray()
    while number > 0x7F:
        parts.append(number & 0x7F | 0x80)
        number >>= 7
    parts.append(number)
    return bytes(parts)


def nested(field: int, data: bytes) -> bytes:
    """Return a field of strings, bytes or messages."""
    size = len(data)
    if field < 16 and 0x80 <= size < 0x4000:  # What spans are.
        return b"%c%c%c%b" % (field << 3 | 2, size & 0x7F | 0x80, size >> 7, data)
    return b"%b%b%b" % (varint(field << 3 | 2), varint(len(data)), data)


def utf8(text: str) -> bytes:
    """Return text as protobuf has it, at most VALUE_MAX bytes of whole characters."""
    data = text.encode("utf-8", "replace")  # Lone surrogates, from bytes that were no UTF-8.
    return data if len(data) <= VALUE_MAX else data[:VALUE_MAX].decode("utf-8", "ignore").encode()


def key(name: str) -> bytes:
    """Return the key of attributes called `name`: KeyValue.key = 1. At most _SHORT bytes."""
    return nested(1, name.encode())


def string(key: bytes, value: str, field: int = 9) -> bytes:
    """Return an attribute: Span.attributes = 9, KeyValue.value = 2, AnyValue.string_value = 1."""
    data = value.encode("utf-8", "replace")
    size = len(data)
    if size <= _SHORT and field == 9:
        return b"\x4a%c%b\x12%c\x0a%c%b" % (len(key) + size + 4, key, size + 2, size, data)
    return nested(field, key + nested(2, nested(1, utf8(value))))


def number(key: bytes, value: int) -> bytes:
    """Return an attribute: AnyValue.int_value = 3. For numbers that are not negative."""
    return nested(9, key + nested(2, b"\x18" + varint(value)))


_known: dict[tuple[bytes, str | int], bytes] = {}


def known(key: bytes, value: str | int) -> bytes:
    """Return an attribute whose value comes again and again: it is remembered."""
    found = _known.get((key, value))
    if found is None:
        found = string(key, value) if isinstance(value, str) else number(key, value)
        if len(_known) >= _MEMO_MAX:
            _known.clear()
        if len(found) <= 256:
            _known[key, value] = found
    return found


def fields(message: bytes) -> list[tuple[int, int | bytes]]:
    """Return a message's fields as (number, value). Raises ValueError for what is none."""
    found: list[tuple[int, int | bytes]] = []
    at = 0
    while at < len(message):
        tag, at = read_varint(message, at)
        kind = tag & 7
        if kind == 0:
            value, at = read_varint(message, at)
            found.append((tag >> 3, value))
            continue
        size = {1: 8, 5: 4}.get(kind, -1)
        if kind == 2:
            size, at = read_varint(message, at)
        if size < 0 or at + size > len(message):
            raise ValueError("is no protobuf message")
        found.append((tag >> 3, message[at : at + size]))
        at += size
    return found


def read_varint(data: bytes | bytearray, at: int) -> tuple[int, int]:
    """Return the number at `at` and where the next byte is. Raises ValueError."""
    number = shift = 0
    while at < len(data) and shift < 70:
        byte = data[at]
        at += 1
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            return number, at
        shift += 7
    raise ValueError("is no protobuf message")
