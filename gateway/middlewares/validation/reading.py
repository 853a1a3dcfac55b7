"""Forms as values. JSON is read in gateway/protocols/json_text.py."""

from __future__ import annotations

from gateway.core.failures import Failure
from gateway.middlewares.validation.parameters import Strings, parsed
from gateway.protocols.json_text import Unreadable


def form_fields(data: bytes) -> Strings:
    """The fields of an urlencoded form. Raises Unreadable."""
    try:
        return parsed(data.decode())
    except ValueError:
        raise Unreadable(Failure.MALFORMED, "The body is not a form in UTF-8.") from None
