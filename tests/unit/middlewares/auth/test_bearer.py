"""Credentials in the Authorization field, and what is said to those without."""

from __future__ import annotations

import pytest

from gateway.core.failures import Failure
from gateway.core.refusals import Refused
from gateway.middlewares.auth import bearer
from tests.exchange import exchange


@pytest.mark.parametrize(
    ("field", "scheme", "expected"),
    [
        ("Bearer abc", "bearer", "abc"),
        ("BEARER   abc", "bearer", "abc"),
        ("bearer a b", "bearer", "a b"),  # judged by B64TOKEN
        ("Basic abc", "bearer", None),
        ("Bearer", "bearer", None),
        ("Bearer ", "bearer", None),
        ("", "bearer", None),
        ("Bearerabc", "bearer", None),
        ("Basic abc", "basic", "abc"),
    ],
)
def test_what_follows_the_scheme(field: str, scheme: str, expected: str | None):
    assert bearer.of_scheme([field], scheme) == expected


def test_two_fields_are_refused_whatever_they_hold():
    with pytest.raises(Refused) as caught:
        bearer.token(["Bearer a", "Basic b"])
    assert (caught.value.result, caught.value.failure) == ("malformed", Failure.MALFORMED)


@pytest.mark.parametrize(
    ("text", "whole"),
    [
        ("abc", True),
        ("a-._~+/9==", True),
        ("", False),
        ("a b", False),
        ("a=b", False),
        ("a\x00", False),
        ("ä", False),
    ],
)
def test_letters_of_a_token(text: str, whole: bool):
    assert bool(bearer.B64TOKEN.fullmatch(text)) is whole


def test_fields_are_kept_from_the_upstream_beside_others():
    one = exchange()
    bearer.drop(one, None)
    assert one.drop_headers is None
    bearer.drop(one, bearer.FIELDS)
    assert one.drop_headers is bearer.FIELDS
    bearer.drop(one, frozenset({b"x-api-key"}))
    assert one.drop_headers == {b"authorization", b"x-api-key"}


def test_challenges():
    plain, invalid = bearer.challenges('the "edge"')
    assert (
        plain == b'Bearer realm="the \\"edge\\""' and invalid == plain + b', error="invalid_token"'
    )
    assert bearer.challenges("x", "Basic")[0] == b'Basic realm="x"'


@pytest.mark.parametrize(
    ("challenge", "needed", "expected"),
    [
        (
            b'Bearer realm="x"',
            {"b", "a"},
            b'Bearer realm="x", error="insufficient_scope", scope="a b"',
        ),
        (b'Bearer realm="x"', {'a"b', "c\\d"}, b'Bearer realm="x", error="insufficient_scope"'),
        (b'Basic realm="x"', {"a"}, None),
    ],
)
def test_good_but_not_enough(challenge: bytes, needed: set[str], expected: bytes | None):
    said = bearer.insufficient_scope(challenge, frozenset(needed))
    assert said == (() if expected is None else ((b"WWW-Authenticate", expected),))
