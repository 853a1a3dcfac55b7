"""What gRPC writes into header fields and messages: deadlines, and health checks. Pure.

github.com/grpc/grpc, doc/PROTOCOL-HTTP2.md and doc/health-checking.md.
"""

from __future__ import annotations

import re
from math import ceil
from typing import Final

_UNITS = {"H": 3600.0, "M": 60.0, "S": 1.0, "m": 1e-3, "u": 1e-6, "n": 1e-9}
_TIMEOUT = re.compile(r"([0-9]{1,8})([HMSmun])")
_MOST = 99_999_999


def parse_timeout(value: str) -> float | None:
    """Return the seconds of a grpc-timeout, None for what is none: at most eight digits and a
    unit."""
    match = _TIMEOUT.fullmatch(value)
    return None if match is None else int(match[1]) * _UNITS[match[2]]


def format_timeout(seconds: float) -> bytes:
    """Return a grpc-timeout in the finest unit that eight digits hold, never of 0, which some take
    for none."""
    for unit in "um":
        count = int(seconds / _UNITS[unit])
        if count <= _MOST:
            return b"%d%b" % (max(1, count), unit.encode())
    return b"%dS" % min(_MOST, ceil(seconds))


# Health checks (grpc.health.v1).

HEALTH_METHOD: Final = "/grpc.health.v1.Health/Check"
SERVING_STATUSES = ("UNKNOWN", "SERVING", "NOT_SERVING", "SERVICE_UNKNOWN")
"""HealthCheckResponse.ServingStatus, by number."""


def health_request(service: str) -> bytes:
    """Return a framed HealthCheckRequest; "" asks about the server as a whole."""
    name = service.encode()
    message = b"\x0a" + _varint(len(name)) + name if name else b""
    return b"\0" + len(message).to_bytes(4, "big") + message


def serving_status(body: bytes) -> str:
    """Return the status in a framed HealthCheckResponse. Raises ValueError for anything else."""
    if len(body) < 5 or body[0] or int.from_bytes(body[1:5], "big") != len(body) - 5:
        raise ValueError("not one uncompressed message")
    status, at = 0, 5
    while at < len(body):
        key, at = _read_varint(body, at)
        kind = key & 7
        if kind == 0:
            value, at = _read_varint(body, at)
            if key >> 3 == 1:
                status = value
        elif kind == 2:
            length, at = _read_varint(body, at)
            at += length
        else:
            at += {1: 8, 5: 4}.get(kind, len(body))
    if at != len(body):
        raise ValueError("a field that is cut off")
    return SERVING_STATUSES[status] if status < len(SERVING_STATUSES) else str(status)


def _varint(number: int) -> bytes:
    parts = bytearray()
    while number > 127:
        parts.append(number & 127 | 128)
        number >>= 7
    parts.append(number)
    return bytes(parts)


def _read_varint(body: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while at < len(body) and shift < 70:
        byte = body[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at
        shift += 7
    raise ValueError("a number that is cut off")
