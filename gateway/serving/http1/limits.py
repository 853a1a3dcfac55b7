"""The limits of a parser of requests, and what its errors mean to clients."""

from __future__ import annotations

import ast
import re

from aiohttp.http_exceptions import HttpProcessingError, InvalidURLError, LineTooLong

from gateway.core.failures import Failed, Failure

_SHOWN = re.compile(r"\n {2,}(b(?:'.*'|\".*\"))\n")
"""The line that aiohttp's parser shows with an error, as Python writes bytes."""


class Limits:
    """The limits of a parser: bytes of the request line, bytes of a field, number of fields."""

    def __init__(self, max_line: int, max_field: int, max_fields: int) -> None:
        self.max_line = max_line
        # The parser reports too long a line and too long a field alike, but with their limits:
        # those must differ.
        self.max_field = max_field + 1 if max_field == max_line else max_field
        self.max_fields = max_fields
        self.shortest = min(max_line, max_field)
        """Bytes of a line up to which it is within all limits."""

    def failed(self, error: HttpProcessingError) -> Failed:
        """Map the parser's error to a Failed that tells the client no more than it must know."""
        why = str(error)
        if isinstance(error, LineTooLong):
            if str(error.args[1]) == str(self.max_line):
                detail = f"The request target may have at most {self.max_line} bytes."
                return Failed(Failure.URI_TOO_LONG, detail, why=why)
            return Failed(Failure.HEADERS_TOO_LARGE, "A header field is too long.", why=why)
        if "Too many headers" in why:
            detail, at = "There are too many header fields.", ("server", "max_headers")
            return Failed(Failure.HEADERS_TOO_LARGE, detail, why=why, at=at)
        if "Invalid HTTP version" in why:
            return Failed(
                Failure.VERSION_NOT_SUPPORTED, "The gateway speaks HTTP/1.0 and HTTP/1.1.", why=why
            )
        if isinstance(error, InvalidURLError) and (byte := _raw_byte(why)) is not None:
            detail = (
                f"The request target holds the byte 0x{byte:02X}, which has to be "
                f"percent-encoded: %{byte:02X}."
            )
            return Failed(Failure.MALFORMED, detail, why=why)
        return Failed(Failure.MALFORMED, "The request is not valid HTTP/1.1.", why=why)


def _raw_byte(message: str) -> int | None:
    """The first byte of a target that none may hold (RFC 3986 section 2), from the line that the
    parser shows."""
    shown = _SHOWN.search(message)
    if shown is None:
        return None
    target = bytes(ast.literal_eval(shown[1])).partition(b" ")[2].rpartition(b" HTTP/")[0]
    return next((byte for byte in target if not 0x21 <= byte <= 0x7E), None)
