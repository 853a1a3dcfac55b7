"""Forms as values."""

from __future__ import annotations

import pytest

from gateway.middlewares.validation.reading import form_fields
from gateway.protocols.json_text import Unreadable


def test_forms():
    assert form_fields(b"a=1&a=2&b=") == {"a": ["1", "2"], "b": [""]}
    with pytest.raises(Unreadable):
        form_fields(b"a=%ff")
