"""What aiohttp's parser is shown in place of what makes it stop: methods that it does not know, and
upgrades to protocols other than WebSocket."""

from __future__ import annotations

import re
from typing import Any

from multidict import CIMultiDict, CIMultiDictProxy

from gateway.serving.http1.framing import NAMED_METHODS

TOKEN = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,64}"
"""A method (RFC 9110 section 9.1)."""
_METHOD = re.compile(rb"(" + TOKEN + rb") ")
_STAND_IN = b"PUT"
"""The method that the parser is shown instead of one it does not know."""
_UPGRADE = b"upgrade:"
_HIDDEN = b"`pgrade"
"""The name that it is shown instead of Upgrade; as long, and a token."""


class Disguise:
    """Of one request's head: what it was not shown."""

    __slots__ = ("_hidden", "_method")

    def __init__(self) -> None:
        self._method = ""
        self._hidden = False

    def __bool__(self) -> bool:
        return bool(self._method) or self._hidden

    def request_line(self, raw: bytes) -> bytes:
        """Return a request line as the parser is to see it."""
        match = _METHOD.match(raw)
        if match is None or (name := match[1].decode()) in NAMED_METHODS:
            return raw
        self._method = name
        return _STAND_IN + raw[match.end(1) :]

    def field(self, raw: bytes) -> bytes:
        """Return the line of a field as the parser is to see it."""
        name, value = raw[: len(_UPGRADE)], raw[len(_UPGRADE) :]
        if name.lower() != _UPGRADE or value.strip().lower() == b"websocket":
            return raw
        self._hidden = True
        return _HIDDEN + raw[len(_HIDDEN) :]

    def taken_off(self, message: Any) -> Any:
        """Return the parser's message with what was sent. The next request's head begins."""
        if self._method:
            message = message._replace(method=self._method)
        if self._hidden:
            hidden = _HIDDEN.decode()
            raw = tuple(
                (b"Upgrade" if name.lower() == _HIDDEN else name, value)
                for name, value in message.raw_headers
            )
            headers = CIMultiDict(
                ("Upgrade" if name.lower() == hidden else name, value)
                for name, value in message.headers.items()
            )
            message = message._replace(headers=CIMultiDictProxy(headers), raw_headers=raw)
        self._method, self._hidden = "", False
        return message
