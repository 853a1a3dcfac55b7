"""Reading compact JWS: what can be read in one way only is read, everything else is refused before
any key is looked at."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.refusals import Refused
from gateway.tokens import jose
from gateway.tokens.jose import DEEPEST, LONGEST, looks_like, read


def coded(value: Any) -> str:
    data = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def token(header: Any = None, payload: Any = None, signature: bytes = b"sig") -> str:
    header = {"alg": "HS256"} if header is None else header
    return f"{coded(header)}.{coded({} if payload is None else payload)}.{coded(signature)}"


def test_what_is_read():
    text = token(
        {"alg": "ES256", "kid": "k1", "typ": "at+jwt"}, {"sub": "alice", "n": [1, 2.5]}, b"\x00\xff"
    )
    found = read(text)
    assert (found.alg, found.kid, found.type) == ("ES256", "k1", "at+jwt")
    assert found.claims == {"sub": "alice", "n": [1, 2.5]}
    assert found.signed == text.rpartition(".")[0].encode() and found.signature == b"\x00\xff"
    assert "alice" in repr(found) and "signature" not in repr(found)


def test_what_may_be_left_out():
    found = read(token())
    assert (found.kid, found.type, found.claims) == (None, "", {})
    assert read(token(signature=b"")).signature == b""  # refused later: no key verifies it


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "not three parts"),
        ("a.b", "not three parts"),
        ("a.b.c.d.e", "not three parts"),  # encrypted
        (token() + "=", "not three parts"),
        (" " + token(), "not three parts"),
        (token() + "\n", "not three parts"),
        (token({"alg": "HS256", "crit": ["exp"]}), "crit"),
        (token({}), "no alg"),
        (token({"alg": 1}), "no alg"),
        (token({"alg": "HS256", "kid": 1}), "kid or typ is not a string"),
        (token({"alg": "HS256", "typ": None}), "kid or typ is not a string"),
        (token([]), "header is not an object"),
        (token(payload=[1]), "payload is not an object"),
        (token(payload=b"{"), "payload is not JSON"),
        (token(payload=b"\xff{}"), "payload is not JSON"),
        (token(payload=b'{"sub": 1, "sub": 2}'), "payload is not JSON"),
        (token(payload=b'{"a": {"b": 1, "b": 1}}'), "payload is not JSON"),
        (token(payload=b'{"exp": NaN}'), "payload is not JSON"),
        (token(payload=b'{"name": "a\\ud800"}'), "payload is not JSON"),
        (token(payload=b'{"\\udfff": {"a": 1}}'), "payload is not JSON"),
        (token({"alg": "HS256", "kid": "\udc00"}), "header is not JSON"),
        (token(payload=b'{"exp": -Infinity}'), "payload is not JSON"),
        (token(payload=b'{"exp": 1e999}'), "payload is not JSON"),
        (token(payload=b"[" * 100_00 + b"]" * 100_00), "longer than"),
        (token(payload=b'{"a": ' + b"[" * DEEPEST + b"]" * DEEPEST + b"}"), "nested more than"),
        ("x" * (LONGEST + 1), "longer than"),
    ],
)
def test_what_is_refused(text: str, why: str):
    with pytest.raises(Refused, match=why) as caught:
        read(text)
    assert (caught.value.result, caught.value.detail) == ("malformed", "The token is not valid.")


def test_whole_characters_are_taken_however_they_are_written():
    assert read(token(payload=b'{"a": "\\ud83d\\ude00\\u0000\\\\ud800"}')).claims == {
        "a": "\U0001f600\0\\ud800"
    }


def test_deep_is_not_too_deep():
    assert read(
        token(payload=b'{"a": ' + b"[" * (DEEPEST - 1) + b"]" * (DEEPEST - 1) + b"}")
    ).claims["a"]


@given(st.binary(max_size=40))
def test_bytes_have_one_spelling(data: bytes):
    """A second spelling of the same token would pass by what is revoked or counted by its text."""
    text = coded(data)
    assert jose._decoded(text, "part") == data
    last = text[-1:]
    for other in "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_" if last else "":
        if other != last:
            try:
                assert jose._decoded(text[:-1] + other, "part") != data
            except Refused:
                pass


@pytest.mark.parametrize(
    ("text", "expected"), [("a.b.c", True), ("a.b.c.d.e", True), ("a.b", False), ("opaque", False)]
)
def test_opaque_tokens_are_of_another_kind(text: str, expected: bool):
    assert looks_like(text) is expected
