"""Which texts patterns hide, and that no text makes them slow."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from marshmallow import ValidationError

from gateway.core.content.masking import PATTERNS, masker
from gateway.middlewares.logging.config import Pattern


@pytest.mark.parametrize(
    ("pattern", "text", "shown"),
    [
        ("email", "a b@example.com c", "a *** c"),
        ("email", "?to=b.c%2Bx%40sub.example.co.uk&x=1", "?to=***&x=1"),
        ("email", "?to=%20b@c.de&cc=%2Bb@c.de", "?to=%***&cc=***"),
        ("email", "b@localhost @x a@", "b@localhost @x a@"),
        ("email", "b@c.de_d@e.fr x b@c.de+d%40e.fr,b@c.de", "*** x ***,***"),
        ("card", "4111 1111 1111 1111, 4111111111111111.", "***, ***."),
        ("card", "12345678901 1234567890123456789012", "12345678901 1234567890123456789012"),
        ("jwt", "Bearer eyJhbGciOiJ.eyJzdWIiOiIx.c2ln, x", "Bearer ***, x"),
        (r"\bID-\d+", "x ID-12 y", "x *** y"),
    ],
)
def test_patterns(pattern: str, text: str, shown: str):
    mask = masker([Pattern().deserialize(pattern)])
    assert mask is not None and mask(text) == shown


def test_no_patterns_no_work():
    assert masker(()) is None


@pytest.mark.parametrize("pattern", ["(", "", "x*", "a" * 501])
def test_what_is_no_pattern(pattern: str):
    with pytest.raises(ValidationError):
        Pattern().deserialize(pattern)


@given(st.text(st.sampled_from("ab.@%40-_2B e"), max_size=200))
def test_no_address_is_left(text: str):
    mask = masker(["email"])
    assert mask is not None
    assert masker(["email"])(mask(text)) == mask(text)  # type: ignore[misc]


@pytest.mark.parametrize("name", PATTERNS)
def test_long_texts_are_looked_at_once(name: str):
    mask = masker([name])
    assert mask is not None
    for letter in ("a", "1", "a@", "a.", "eyJ", "1 ", "%2B", "%2Ba", "%40", "a%40"):
        mask(letter * 200_000)  # Quadratic patterns would take hours for this.
