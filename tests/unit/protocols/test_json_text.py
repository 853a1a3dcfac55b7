"""What is refused before any schema is asked, and what values readers differ about come to."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.failures import Failure
from gateway.protocols.json_text import (
    Bounds,
    Unreadable,
    json_text,
    json_value,
    members_at_most,
)

values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False, width=32)
    | st.text(),
    lambda below: (
        st.lists(below, max_size=4) | st.dictionaries(st.text(max_size=3), below, max_size=4)
    ),
    max_leaves=20,
)


@given(values, st.booleans())
def test_any_json_is_read_as_it_is(value: Any, ascii_only: bool):
    try:
        text = json.dumps(value, ensure_ascii=ascii_only).encode()
    except UnicodeEncodeError:
        return
    if "\\ud" in text.decode():
        return  # Perhaps a lone surrogate.
    assert json_value(text, Bounds()) == value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (b"[123456789012345678901234567890]", [123456789012345678901234567890]),
        (b"[18446744073709551616, 18446744073709551617]", [2**64, 2**64 + 1]),
        (b"[12345678901234567890.0]", [12345678901234567890.0]),
        (b"[0.12345678901234567890]", [0.12345678901234568]),
        (b'["9007199254740993.5"]', ["9007199254740993.5"]),
        (b'{"a": {"b": 1}, "b": {"a": 1}}', {"a": {"b": 1}, "b": {"a": 1}}),
        (b'{"a\\"": "\\\\", "a": "\\u0022"}', {'a"': "\\", "a": '"'}),
    ],
)
def test_values(text: bytes, value: Any):
    assert json_value(text, Bounds()) == value


@pytest.mark.parametrize(
    ("text", "failure"),
    [
        (b'{"a": 1, "a": 2}', Failure.MALFORMED),
        (b'{"\\u0061": 1, "a": 2}', Failure.MALFORMED),
        (b'[{"x": {"a": 1, "b": 2, "a": 1}}]', Failure.MALFORMED),
        (b"[9007199254740993.5]", Failure.MALFORMED),
        (b"[" * 65 + b"]" * 65, Failure.MALFORMED),
        (b'{"a":' * 65 + b"1" + b"}" * 65, Failure.MALFORMED),
        (b"[" + b"1," * 250_000 + b"1]", Failure.BODY_TOO_LARGE),
        (b"[" + b"{}," * 250_000 + b"1]", Failure.BODY_TOO_LARGE),
        (b"[1" + b"0" * 5000 + b"]", Failure.MALFORMED),
        (b"[1" + b"0" * 300 + b".5]", Failure.MALFORMED),
    ],
)
def test_what_is_not_judged(text: bytes, failure: Failure):
    with pytest.raises(Unreadable) as caught:
        json_value(text, Bounds())
    assert caught.value.failure is failure


def test_brackets_and_commas_in_strings_do_not_count():
    text = json.dumps(["[{," * 1000, '\\"[' * 100]).encode()
    assert json_value(text, Bounds(depth=1, members=3))
    with pytest.raises(Unreadable):
        json_value(b"[[1]]", Bounds(depth=1, members=10))


def test_an_upper_bound_for_members():
    assert members_at_most(b'{"a": [1, 2], "b": {}}') >= 5


@given(values)
def test_what_was_read_is_written_the_same(value: Any):
    text = json_text(value)
    try:
        text.decode()
    except UnicodeDecodeError:
        return
    assert json_value(text, Bounds()) == value


def test_whole_numbers_of_any_size_are_written():
    assert json_text({"ü": [2**64]}) == '{"ü":[18446744073709551616]}'.encode()


def test_what_is_no_unicode_is_written_as_question_marks():
    assert json_text({"a\udcff": "\udce4"}) == b'{"a?":"?"}'
