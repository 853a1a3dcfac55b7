from __future__ import annotations

import base64
from urllib.parse import parse_qs, urlsplit

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.credentials.users.user_file import TOTP
from gateway.issuer import totp

SECRET = base64.b32encode(b"12345678901234567890").decode()


@pytest.mark.parametrize(
    ("now", "expected"),  # RFC 6238 appendix B, the last six of eight digits
    [
        (59, "287082"), (1111111109, "081804"), (1111111111, "050471"),
        (1234567890, "005924"), (2000000000, "279037"), (20000000000, "353130"),
    ],
)  # fmt: skip
def test_the_rfcs_values(now: int, expected: str):
    assert totp.code(SECRET, now // 30) == expected
    assert totp.step_of(SECRET, expected, now) == now // 30


@settings(max_examples=50, deadline=None)
@given(st.floats(0, 4e9), st.integers(-4, 4))
def test_a_step_either_way_and_no_further(now: float, off: int):
    step = int(now // 30) + off
    if step < 0:
        return
    given_code = totp.code(SECRET, step)
    found = totp.step_of(SECRET, given_code, now)
    if abs(off) <= 1:
        assert found is not None and totp.code(SECRET, found) == given_code
    else:  # two steps may have the same code by chance, once in a million
        assert found is None or found != step


@pytest.mark.parametrize(
    "wrong", ["", "28708", "0287082", " 287082", "287082\n", "٢٨٧٠٨٢", "\udc80", "28708a"]
)
def test_what_is_no_code(wrong: str):
    assert totp.step_of(SECRET, wrong, 59) is None


def test_secrets():
    made = totp.new_secret()
    assert TOTP.fullmatch(made) and len(base64.b32decode(made)) == 20 and made != totp.new_secret()
    parts = urlsplit(totp.uri(made, "a b@example.com", "Edge: X"))
    assert (parts.scheme, parts.netloc, parts.path) == (
        "otpauth",
        "totp",
        "/Edge%3A%20X:a%20b%40example.com",
    )
    assert parse_qs(parts.query) == {
        "secret": [made], "issuer": ["Edge: X"], "algorithm": ["SHA1"], "digits": ["6"], "period": ["30"],
    }  # fmt: skip
