"""Answers that repeat the one before on their connection are taken without being parsed again.

Endpoints repeat themselves: between two answers only Date may differ, the body and its length, an
entity tag.
"""

from __future__ import annotations

from itertools import compress, count
from operator import ne
from typing import Final

from gateway.core.exchange import Reply
from gateway.core.headers import PLAIN_FIELD, PLAIN_VALUE, Pair, lower

END = b"\r\n\r\n"
_PLAIN_HEAD: Final = 8192
"""Bytes of a head that is looked at here at all; the parser judges longer ones."""
_LENGTH = -1
"""The slot of Content-Length."""


class Repeat:
    """An answer that came in one piece, as what the next may repeat: its head byte for byte, or all
    but some fields' values.

    Endpoints repeat themselves: between two answers Date may differ, the body and its length, an
    entity tag. The parser has read these very lines from the same state; another value of a plain
    field changes nothing but that field, another Content-Length where the body ends. Other names,
    another order, other hop-by-hop fields, a body that is not all there: the parser reads it.
    `used`: whether any answer has.
    """

    __slots__ = (
        "_headers",
        "_index",
        "_joined",
        "_length",
        "_parts",
        "_reason",
        "_slots",
        "_status",
        "_varying",
        "head",
        "size",
        "used",
    )

    def __init__(
        self,
        head: bytes,
        status: int,
        reason: bytes,
        headers: list[Pair],
        index: dict[bytes, bytes],
        length: int,
    ) -> None:
        """head: with the empty line. headers, index: what goes on to the client, in the order of
        the head."""
        self.used = False
        self._status = status
        self._reason = reason
        self._headers = headers
        self._index = index
        self._parts = [b"%b: %b\r\n" % pair for pair in headers]
        self._slots = self._find_slots(head[: -len(END)].split(b"\r\n"))
        self._varying: tuple[int, bytes, bytes] | None = None
        """The place among the headers of the one value that differed last time, and the bytes
        before and behind it."""
        self._take(head, length)

    def _find_slots(self, lines: list[bytes]) -> list[int | None]:
        """By line: its place among the headers, or _LENGTH; None for one that must not differ."""
        slots: list[int | None] = []
        names = [lower(name) for name, _ in self._headers]
        place = 0
        for line in lines:
            name = line.partition(b":")[0].lower()
            if place < len(names) and name == names[place]:
                slots.append(place if names.count(name) == 1 else None)
                place += 1
            else:
                slots.append(_LENGTH if name == b"content-length" else None)
        return slots if place == len(names) else [None] * len(slots)

    def _take(self, head: bytes, length: int) -> None:
        self.head = head
        self.size = len(head) + length
        self._length = length
        self._joined = (len(self._headers), b"".join(self._parts))

    def reply(self, data: bytes) -> Reply | None:
        """The answer that `data` is, if it is one whole answer that repeats this one but for plain
        values."""
        if (
            not (len(data) == self.size and data.startswith(self.head))
            and not (self._varying is not None and self._takes_one_value(data, *self._varying))
            and not self.varied(data)
        ):
            return None
        self.used = True
        reply = Reply.known(
            self._status, self._headers.copy(), self._index.copy(), self._joined, self._length
        )
        reply.reason = self._reason
        reply.body = data[len(self.head) :]
        return reply

    def _takes_one_value(self, data: bytes, slot: int, before: bytes, after: bytes) -> bool:
        """Return True if `data` differs in nothing but the value that differed last time: a request
        id, most often. It is then what the next is held against."""
        at, end = len(before), data.find(b"\r", len(before))
        size = end + len(after)
        if (
            size > _PLAIN_HEAD
            or len(data) != size + self._length
            or not data.startswith(before)
            or not data.startswith(after, end)
            or PLAIN_VALUE.fullmatch(data, at, end) is None
        ):
            return False
        name, value = self._headers[slot][0], data[at:end]
        self._headers[slot] = (name, value)
        self._index[lower(name)] = value
        self._parts[slot] = b"%b: %b\r\n" % (name, value)
        self._take(data[:size], self._length)
        return True

    def varied(self, data: bytes) -> bool:
        """Return True if `data` is one whole answer that differs in plain values only; it is then
        what the next is held against."""
        end = data.find(END)
        if not 0 < end <= _PLAIN_HEAD:
            return False
        lines, known = data[:end].split(b"\r\n"), self.head[: -len(END)].split(b"\r\n")
        if len(lines) != len(known):
            return False
        headers, index, parts, length = (
            self._headers.copy(),
            self._index.copy(),
            self._parts.copy(),
            self._length,
        )
        places = list(compress(count(), map(ne, lines, known)))
        for place in places:
            slot = self._slots[place]
            plain = PLAIN_FIELD.fullmatch(lines[place])
            if slot is None or plain is None:
                return False
            name, value = plain.groups()
            if slot == _LENGTH:
                if (
                    not known[place].startswith(name + b":")
                    or not value.isdigit()
                    or len(value) > 9
                ):
                    return False
                length = int(value)
                continue
            if name != headers[slot][0]:
                return False
            headers[slot] = (name, value)
            index[lower(name)] = value
            parts[slot] = lines[place] + b"\r\n"
        head = data[: end + len(END)]
        if len(data) != len(head) + length:
            return False
        self._headers, self._index, self._parts = headers, index, parts
        self._varying = None
        if len(places) == 1 and (slot := self._slots[places[0]]) != _LENGTH and slot is not None:
            (place,) = places
            before = b"\r\n".join((*lines[:place], headers[slot][0] + b": "))
            self._varying = (slot, before, b"\r\n".join((b"", *lines[place + 1 :])) + END)
        self._take(head, length)
        return True
