"""A session is whoever knew a token, until its end; nothing can be made of it but that."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.admin.dashboard.sessions import SECONDS, cookie_name, issue, owner

TOKENS = (b"sesame", b"look")
NOW = 1_800_000_000.0


@pytest.mark.parametrize("place", [0, 1])
def test_it_is_that_of_its_token_until_it_ends(place: int):
    value = issue(TOKENS[place], NOW)
    assert owner(value, TOKENS, NOW) == place
    assert owner(value, TOKENS, NOW + SECONDS - 1) == place
    assert owner(value, TOKENS, NOW + SECONDS) is None
    assert owner(value, TOKENS[1 - place :][: 1 - place] or TOKENS[:1] * place, NOW) is None
    assert TOKENS[place].decode() not in value


def test_a_later_end_is_another_session():
    until, _, mac = issue(b"sesame", NOW).partition(".")
    assert owner(f"{int(until) + 1}.{mac}", TOKENS, NOW) is None


@given(st.text())
def test_anything_else_is_none(text: str):
    assert owner(text, TOKENS, NOW) is None


@given(st.text(alphabet="0123456789abcdef", min_size=64, max_size=64), st.integers(0, 10**12))
def test_a_guess_is_none(mac: str, until: int):
    assert owner(f"{until}.{mac}", (*TOKENS, b""), 0.0) is None


def test_an_empty_token_is_no_key():
    assert owner(issue(b"", NOW), (b"",), NOW) is None


def test_names():
    assert cookie_name(9901, secure=False) == "gateway-admin-9901"
    assert cookie_name(9901, secure=True) == "__Host-gateway-admin-9901"
