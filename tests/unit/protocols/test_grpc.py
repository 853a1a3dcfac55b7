"""Deadlines and health checks of gRPC."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.protocols import grpc


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("1H", 3600.0),
        ("2M", 120.0),
        ("100m", 0.1),
        ("99999999u", 99.999999),
        ("5n", 5e-9),
        ("0S", 0.0),
        ("", None),
        ("S", None),
        ("1", None),
        ("1s", None),
        ("-1S", None),
        ("1.5S", None),
        ("123456789S", None),
        (" 1S", None),
        ("1S ", None),
        ("１S", None),
    ],
)
def test_deadlines(value: str, seconds: float | None) -> None:
    assert grpc.parse_timeout(value) == (None if seconds is None else pytest.approx(seconds))


@given(st.floats(min_value=0, max_value=10**8, allow_nan=False))
def test_a_deadline_that_is_forwarded_is_never_later(seconds: float) -> None:
    encoded = grpc.format_timeout(seconds).decode()
    parsed = grpc.parse_timeout(encoded)
    assert parsed is not None and parsed > 0
    assert parsed <= max(seconds, 1e-6) + (1 if seconds > 99_999 else 0)
    assert parsed == pytest.approx(seconds, rel=1e-4, abs=2e-6)


@given(st.text(alphabet=st.characters(codec="utf-8"), max_size=300))
def test_health_requests_name_the_service(service: str) -> None:
    message = grpc.health_request(service)
    assert message[0] == 0 and int.from_bytes(message[1:5], "big") == len(message) - 5
    assert message[5:].endswith(service.encode())
    assert bool(service) == bool(message[5:])


@pytest.mark.parametrize(
    ("message", "status"),
    [
        (b"", "UNKNOWN"),
        (b"\x08\x01", "SERVING"),
        (b"\x08\x02", "NOT_SERVING"),
        (b"\x08\x03", "SERVICE_UNKNOWN"),
        (b"\x08\x09", "9"),
        (b"\x12\x02hi\x08\x01", "SERVING"),
        (b"\x1d1234\x08\x01", "SERVING"),
        (b"\x1912345678\x08\x01", "SERVING"),
    ],
)
def test_health_answers(message: bytes, status: str) -> None:
    assert grpc.serving_status(b"\0" + len(message).to_bytes(4, "big") + message) == status


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\0\0\0\0",
        b"\x01\0\0\0\x02\x08\x01",
        b"\0\0\0\0\x03\x08\x01",
        b"\0\0\0\0\x01\x08",
        b"\0\0\0\0\x02\x08\x81",
        b"\0\0\0\0\x02\x12\x05",
        b"\0\0\0\0\x01\x0b",
        b"\0\0\0\0\x0c\x08" + b"\xff" * 11,
    ],
)
def test_what_is_no_health_answer(body: bytes) -> None:
    with pytest.raises(ValueError, match=r"message|cut off"):
        grpc.serving_status(body)


@given(st.binary(max_size=40))
def test_no_health_answer_does_harm(message: bytes) -> None:
    try:
        grpc.serving_status(b"\0" + len(message).to_bytes(4, "big") + message)
    except ValueError:
        pass
