"""The wire format, held against the protobuf library."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.common.v1.common_pb2 import KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from gateway.tracing import protobuf
from gateway.tracing.protobuf import (
    VALUE_MAX,
    fields,
    key,
    known,
    nested,
    number,
    read_varint,
    string,
    utf8,
    varint,
)

WORDS = st.text(alphabet="abc.", min_size=1, max_size=30)


@given(WORDS, st.text(max_size=300))
def test_strings(name: str, value: str):
    [one] = Span.FromString(string(key(name), value)).attributes
    assert (one.key, one.value.string_value) == (name, value.encode("utf-8", "replace").decode())


@given(WORDS, st.integers(0, 2**63 - 1))
def test_numbers(name: str, value: int):
    [one] = Span.FromString(number(key(name), value)).attributes
    assert one == KeyValue(key=name, value={"int_value": value})


@given(st.integers(0, 2**64 - 1))
def test_varints(value: int):
    assert read_varint(b"x" + varint(value), 1) == (value, 1 + len(varint(value)))


def test_long_values_are_cut_between_characters():
    assert utf8("ü" * VALUE_MAX) == "ü".encode() * (VALUE_MAX // 2)
    assert utf8("a" + "ü" * VALUE_MAX) == b"a" + "ü".encode() * (VALUE_MAX // 2 - 1)
    assert utf8("\udcff") == b"?"


@given(st.binary(max_size=200))
def test_what_is_no_message_is_said_to_be_none(data: bytes):
    try:
        found = fields(data)
    except ValueError:
        return
    assert all(isinstance(value, int | bytes) for _, value in found)


def test_fields():
    message = b"\x08\x96\x01" + nested(2, b"two") + b"\x19" + bytes(8) + b"\x25" + bytes(4)
    assert fields(message) == [(1, 150), (2, b"two"), (3, bytes(8)), (4, bytes(4))]
    for broken in (b"\x08", b"\x12\x05abc", b"\x0b", b"\x80" * 11):
        with pytest.raises(ValueError, match="no protobuf"):
            fields(broken)


def test_what_comes_again_is_remembered_within_bounds(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(protobuf, "_MEMO_MAX", 3)
    monkeypatch.setattr(protobuf, "_known", {})
    name = key("k")
    assert known(name, "GET") is known(name, "GET") == string(name, "GET")
    assert known(name, 200) == number(name, 200)
    for value in ("a", "b", "c", "d" * 500):
        assert known(name, value) == string(name, value)
    assert len(protobuf._known) <= 3
