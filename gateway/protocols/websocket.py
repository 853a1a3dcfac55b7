"""What RFC 6455 says, as far as a gateway that tunnels has to know it. Pure: no sockets here.

A handshake is checked on the way in and on the way back, so that neither side can be made to
believe in a tunnel the other does not know of. Of the frames only their boundaries are followed:
what is in them, extensions included, is the two ends' affair.
"""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Iterable
from hashlib import sha1
from secrets import token_bytes
from typing import Final

from gateway.core.exchange import Exchange
from gateway.core.failures import Failed, Failure
from gateway.core.headers import Pair, lower, tokens

UPGRADE: Final = "sec-websocket-accept"
"""Key of the note with the Sec-WebSocket-Accept that a request's 101 must carry."""

LINES = b"Connection: Upgrade\r\nUpgrade: websocket\r\n"
"""The fields of an upgrade's head; hop-by-hop, so each hop writes them anew.

RFC 9110 section 7.8.
"""

GOING_AWAY = 1001
POLICY_VIOLATION = 1008
HANDSHAKE = "handshake"
"""Key of the note with the request target as it was sent, for what judges a WebSocket again."""

_KEY = re.compile(r"[A-Za-z0-9+/]{22}==")
_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_CLOSE = 8
_LONGEST_HEAD = 14


def asks(exchange: Exchange) -> bool:
    """Return True if this request's Upgrade is for a WebSocket.

    The parser has seen to the Connection option.

    RFC 9110 section 7.8: an HTTP/1.0 request's Upgrade is ignored, and so may any be that names
    other protocols, h2c above all.
    """
    upgrade = exchange.headers.getall("Upgrade", ())
    return len(upgrade) == 1 and upgrade[0].lower() == "websocket" and exchange.version >= (1, 1)


def check_request(exchange: Exchange) -> bytes:
    """The Sec-WebSocket-Accept that answers this handshake (RFC 6455 sections 4.1 and 4.2.1).

    Raises Failed(MALFORMED).
    """
    headers = exchange.headers
    if exchange.method != "GET":
        raise Failed(Failure.MALFORMED, "A WebSocket handshake is a GET.")
    if exchange.body is not None:
        raise Failed(Failure.MALFORMED, "A WebSocket handshake has no body.")
    if list(headers.getall("Sec-WebSocket-Version", ())) != ["13"]:
        # Section 4.4: the field says which versions would have been understood.
        supported = ((b"Sec-WebSocket-Version", b"13"),)
        raise Failed(Failure.MALFORMED, "Sec-WebSocket-Version must be 13.", headers=supported)
    keys = headers.getall("Sec-WebSocket-Key", ())
    if len(keys) != 1 or _KEY.fullmatch(keys[0]) is None:
        raise Failed(Failure.MALFORMED, "Sec-WebSocket-Key must be 16 bytes in base64.")
    return accept(keys[0].encode("ascii"))


def accept(key: bytes) -> bytes:
    """The Sec-WebSocket-Accept for a Sec-WebSocket-Key (RFC 6455 section 4.2.2, step 5.4)."""
    return b64encode(sha1(key + _GUID).digest())  # noqa: S324 - the protocol's, and no secret


def fault(pairs: Iterable[Pair], expected: bytes) -> str | None:
    """Return what is wrong with a 101's fields, None when nothing is.

    RFC 6455 section 4.1 has the client's list of what to validate.
    """
    upgrade: list[bytes] = []
    connection: list[bytes] = []
    accepts: list[bytes] = []
    for name, value in pairs:
        key = lower(name)
        if key == b"upgrade":
            upgrade += tokens(value)
        elif key == b"connection":
            connection += tokens(value)
        elif key == b"sec-websocket-accept":
            accepts.append(value.strip())
    if upgrade != [b"websocket"]:
        return "its Upgrade is not websocket"
    if b"upgrade" not in connection:
        return "its Connection does not say upgrade"
    if accepts != [expected]:
        return "its Sec-WebSocket-Accept does not answer the key"
    return None


def close_frame(code: int, masked: bool) -> bytes:
    """A Close frame (RFC 6455 section 5.5.1); `masked` as a client sends it (section 5.3)."""
    payload = code.to_bytes(2, "big")
    if not masked:
        return b"\x88\x02" + payload
    key = token_bytes(4)
    return b"\x88\x82" + key + bytes(byte ^ key[place] for place, byte in enumerate(payload))


class Frames:
    """Follows one direction's frames (RFC 6455 section 5.2).

    Reads heads, skips payloads, keeps at most a part of a head.

    `closed`: a Close frame has begun to pass, after which that side sends no more frames (section
              5.5.1).
    """

    __slots__ = ("_head", "_skip", "closed")

    def __init__(self) -> None:
        self._head = b""
        self._skip = 0
        self.closed = False

    @property
    def at_boundary(self) -> bool:
        """Whether all that has passed are whole frames, so that another may be put behind them."""
        return not self._skip and not self._head

    def feed(self, data: bytes) -> None:
        """More bytes have passed."""
        size, at = len(data), self._skip
        if size < at:
            self._skip = at - size
            return
        if self._head:
            data = self._head + data
            size = len(data)
            self._head = b""
        self._skip = 0
        while at < size:
            length = self._frame(data, at)
            if not length:
                self._head = data[at:]
                return
            at += length
        self._skip = at - size

    def feed_frame(self, data: bytes) -> int:
        """Feed `data` up to the next boundary; return how many bytes that is."""
        size, skip = len(data), self._skip
        if not skip:
            before = len(self._head)
            head = self._head + data[:_LONGEST_HEAD]
            length = self._frame(head, 0)
            if not length:
                self._head = head
                return size
            self._head = b""
            skip = length - before
        self._skip = max(0, skip - size)
        return min(skip, size)

    def _frame(self, data: bytes, at: int) -> int:
        """Return the length of the frame that begins there, its head included.

        0 while that is not known.
        """
        left = len(data) - at
        if left < 2:
            return 0
        second = data[at + 1]
        length = second & 127
        head = 6 if second & 128 else 2
        if length == 126:
            head += 2
            if left < head:
                return 0
            length = data[at + 2] << 8 | data[at + 3]
        elif length == 127:
            head += 8
            if left < head:
                return 0
            length = int.from_bytes(data[at + 2 : at + 10], "big")
        elif left < head:
            return 0
        if data[at] & 15 == _CLOSE:
            self.closed = True
        return head + length
