"""The access log has the contract's fields, in its order, and nothing that was masked; logging a
request costs a tuple."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from multidict import CIMultiDict

from gateway.core.content.masking import masked_query, network_of
from gateway.core.exchange import AttemptRecord, Exchange, Identity, Reply
from gateway.core.failures import Failed, Failure
from gateway.core.headers import trace_id
from gateway.middlewares.logging import CONFIG
from gateway.middlewares.logging.access_log import AccessLog
from gateway.middlewares.logging.config import MASK, LoggingConfig
from tests.exchange import exchange

CONTRACT = """
timestamp, request_id, trace_id, client_ip, client, method, path, route, status, duration_ms, upstream, endpoint, upstream_ms,
attempts, bytes_in, bytes_out, user_agent, cache, reason, protocol
"""
FIELDS = [name.strip() for name in CONTRACT.split(",")]

NOON = 1_790_000_000.0
"""2026-09-21T14:13:20Z, when the exchanges' clock shows 1000."""


class Lines:
    """Stands in for a LogFile: encodes at once."""

    def __init__(self) -> None:
        self.lines: list[bytes] = []

    def append(self, record: tuple[Any, ...]) -> None:
        self.lines.append(record[0](record))

    @property
    def last(self) -> dict[str, Any]:
        assert self.lines[-1].endswith(b"\n")
        assert self.lines[-1].count(b"\n") == 1
        return json.loads(self.lines[-1])


class Time:
    """Both clocks; `step` is how far the time of day was moved."""

    def __init__(self) -> None:
        self.now = 1000.25
        self.step = 0.0

    def wall(self) -> float:
        return NOON + self.now - 1000 + self.step

    def monotonic(self) -> float:
        return self.now


def access_log(
    lines: Lines, config: LoggingConfig | None = None, time: Time | None = None, **more: Any
) -> AccessLog:
    time = time or Time()
    return AccessLog(config or LoggingConfig(), (lines,), time.wall, time.monotonic, **more)  # type: ignore[arg-type]


def answered(
    target: str = "/cameras/17", headers: Mapping[str, str] | None = None, **facts: Any
) -> Exchange:
    """An exchange that is over when the clock shows 1000.25."""
    headers = {"User-Agent": "curl/8.1"} if headers is None else headers
    more = {
        "peer": "192.0.2.77",
        "request_id": "r-1",
        "started": 1000.0,
        "reply": Reply(200),
        "written": True,
    }
    return exchange("GET", target, headers, **{**more, **facts})


def logged(made: Exchange, config: LoggingConfig | None = None) -> dict[str, Any]:
    lines = Lines()
    access_log(lines, config).finish(made)
    return lines.last


# The fields.


def test_everything_known():
    made = answered(
        headers={
            "User-Agent": "curl/8.1",
            "traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        },
        identity=Identity("acme", "api_key"),
        route="cameras",
        upstream="becamera",
        endpoint="http://127.0.0.1:3001",
        upstream_seconds=0.123456,
        attempts=2,
        bytes_in=10,
        bytes_out=1200,
        cache="miss",
        reason="cached",
    )
    line = logged(made)
    assert list(line) == FIELDS
    assert line == {
        "timestamp": "2026-09-21T14:13:20.250Z",
        "request_id": "r-1",
        "trace_id": "4bf92f3577b34da6a3ce929d0e0e4736",
        "client_ip": "192.0.2.77",
        "client": "acme",
        "method": "GET",
        "path": "/cameras/17",
        "route": "cameras",
        "status": 200,
        "duration_ms": 250.0,
        "upstream": "becamera",
        "endpoint": "http://127.0.0.1:3001",
        "upstream_ms": 123.456,
        "attempts": 2,
        "bytes_in": 10,
        "bytes_out": 1200,
        "user_agent": "curl/8.1",
        "cache": "miss",
        "reason": "cached",
        "protocol": "HTTP/1.1",
    }


@pytest.mark.parametrize(
    ("version", "said"), [((1, 0), "HTTP/1.0"), ((1, 1), "HTTP/1.1"), ((2, 0), "HTTP/2")]
)
def test_the_protocol_is_said(version, said):
    assert logged(answered(headers={}, version=version))["protocol"] == said


def test_nothing_known():
    line = logged(answered(headers={}, peer="", client_ip="", reply=None, written=False))
    assert list(line) == FIELDS
    unknown = {name for name, value in line.items() if value is None}
    assert unknown == {
        "trace_id",
        "client_ip",
        "client",
        "route",
        "upstream",
        "endpoint",
        "upstream_ms",
        "user_agent",
        "cache",
        "reason",
    }
    assert (line["attempts"], line["bytes_in"], line["bytes_out"]) == (0, 0, 0)


def test_an_upstream_without_an_endpoint_took_no_time():
    line = logged(answered(upstream="becamera", failed=Failed(Failure.NO_ENDPOINT)))
    assert (line["upstream"], line["endpoint"], line["upstream_ms"]) == ("becamera", None, None)


@pytest.mark.parametrize(
    ("description", "values", "status", "reason"),
    [
        ("answered", {"reply": Reply(404)}, 404, None),
        ("answered by a hook", {"reply": Reply(204), "reason": "preflight"}, 204, "preflight"),
        (
            "refused",
            {"reply": Reply(429), "failed": Failed(Failure.RATE_LIMITED, by="rate_limit")},
            429,
            "rate_limited",
        ),
        (
            "failed after a hook's word",
            {"failed": Failed(Failure.TIMEOUT), "reply": Reply(504), "reason": "x"},
            504,
            "timeout",
        ),
        (
            "left before the answer",
            {"reply": None, "written": False, "failed": Failed(Failure.CLIENT_GONE)},
            499,
            "client_gone",
        ),
        (
            "left while the answer was made",
            {"written": False, "failed": Failed(Failure.CLIENT_GONE)},
            499,
            "client_gone",
        ),
        ("left while it was sent", {"failed": Failed(Failure.CLIENT_GONE)}, 200, "client_gone"),
        (
            "broke off while it was sent",
            {"failed": Failed(Failure.INCOMPLETE_RESPONSE)},
            200,
            "incomplete_response",
        ),
        ("nothing was sent, and why is unknown", {"reply": None, "written": False}, 499, None),
        (
            "failed without an answer",
            {"reply": None, "written": False, "failed": Failed(Failure.INTERNAL)},
            500,
            "internal",
        ),
    ],
)
def test_status_and_reason(
    description: str, values: dict[str, Any], status: int, reason: str | None
):
    line = logged(answered(**values))
    assert (line["status"], line["reason"]) == (status, reason), description


@pytest.mark.parametrize("kind", [list, tuple])
def test_the_fields_of_a_request_that_failed_come_as_any_sequence(kind: type):
    made = answered(failed=Failed(Failure.INTERNAL, why="a bug"))
    made.raw_headers = kind(made.raw_headers)
    assert logged(made)["status"] == 200


@pytest.mark.parametrize(
    ("description", "given", "expected"),
    [
        (
            "valid",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "4bf92f3577b34da6a3ce929d0e0e4736",
        ),
        ("all zeros", "00-00000000000000000000000000000000-00f067aa0ba902b7-01", None),
        ("no parent", "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01", None),
        ("upper case", "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01", None),
        ("version 00 with more", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-x", None),
        (
            "a later version",
            "01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "4bf92f3577b34da6a3ce929d0e0e4736",
        ),
        (
            "a later version with more",
            "cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-x",
            "4bf92f3577b34da6a3ce929d0e0e4736",
        ),
        (
            "a later version, run on",
            "cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01x",
            None,
        ),
        ("the forbidden version", "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", None),
        ("too short", "00-4bf92f35-00f067aa0ba902b7-01", None),
        (
            "a line feed behind it",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01\n",
            None,
        ),
        ("empty", "", None),
    ],
)
def test_trace_id(description: str, given: str, expected: str | None):
    assert trace_id(given) == expected, description
    assert logged(answered(headers={"traceparent": given}))["trace_id"] == expected, description


# Time.


def test_the_time_of_day_is_followed():
    lines, time = Lines(), Time()
    log = access_log(lines, time=time)
    seen = []
    for now, step in (
        (1000.999, 0.0),
        (1001.0005, 0.0),
        (1003.5, 0.0),
        (1003.7, 60.0),
        (1003.9, -3600.0),
    ):
        time.now, time.step = now, step
        log.finish(answered())
        seen.append(lines.last["timestamp"][11:])
    assert seen == [
        "14:13:20.999Z",
        "14:13:21.000Z",
        "14:13:23.500Z",
        "14:14:23.700Z",
        "13:13:23.900Z",
    ]


def test_the_time_of_day_is_not_asked_for_every_line():
    lines, time = Lines(), Time()
    asked = []

    def wall() -> float:
        asked.append(time.now)
        return time.wall()

    log = AccessLog(LoggingConfig(), (lines,), wall, time.monotonic)  # type: ignore[arg-type]
    for _ in range(100):
        log.finish(answered())
        time.now += 0.0009
    assert len(asked) == 1


@settings(max_examples=200, deadline=None)
@given(st.floats(min_value=0, max_value=4e9), st.floats(min_value=0, max_value=1e5))
def test_any_time_has_a_timestamp(wall: float, took: float):
    lines = Lines()
    log = AccessLog(LoggingConfig(), (lines,), lambda: wall, lambda: 1e6 + took)  # type: ignore[arg-type]
    log.finish(answered(started=1e6))
    assert len(lines.last["timestamp"]) == 24
    assert lines.last["duration_ms"] == pytest.approx(took * 1000, abs=0.01)


# What must not be seen.


SECRET = "s3cr3t-value"


@pytest.mark.parametrize(
    ("description", "query", "expected"),
    [
        ("nothing to mask", "page=2&size=10", "page=2&size=10"),
        ("masked", "page=2&api_key=x&size=10", "page=2&api_key=***&size=10"),
        ("any case", "API_Key=x", "API_Key=***"),
        ("percent-encoded name", "%61pi%5Fkey=x", "%61pi%5Fkey=***"),
        ("a name with a blank", "+token=x&token%20=x", "+token=***&token%20=***"),
        ("a list", "token[]=x&token%5B0%5D=x", "token[]=***&token%5B0%5D=***"),
        ("within something", "user[password]=x", "user[password]=***"),
        ("an equals sign in the value", "token=a=b", "token=***"),
        ("a semicolon in the value", "token=a;b", "token=***"),
        ("behind a semicolon", "a=1;token=x;b=2&c=3", "a=1;token=***&c=3"),
        ("no value", "token&a", "token&a"),
        ("an empty value", "token=", "token=***"),
        ("twice", "token=x&token=y", "token=***&token=***"),
        ("a name that contains one", "tokens=5&my_token=x", "tokens=5&my_token=x"),
        ("nothing", "", ""),
        ("bytes that are no UTF-8", "%ff=1&token=%ff", "%ff=1&token=***"),
    ],
)
def test_masked_query(description: str, query: str, expected: str):
    assert masked_query(query, frozenset(MASK)) == expected, description


def test_the_query_is_logged_only_when_asked_for():
    made = answered(f"/cameras?page=2&token={SECRET}")
    assert logged(made)["path"] == "/cameras"
    assert logged(made, LoggingConfig(query=True))["path"] == "/cameras?page=2&token=***"
    assert logged(answered("/cameras"), LoggingConfig(query=True))["path"] == "/cameras"


def test_further_headers():
    config = LoggingConfig(
        headers=("Referer", "X-Team", "Cookie", "X-Absent"), mask=("cookie", "token")
    )
    made = answered(
        headers={"Cookie": SECRET, "Referer": f"https://a.example/x?b=1&token={SECRET}"}
    )
    made.raw_headers = [*made.raw_headers, (b"x-team", b"a"), (b"X-Team", b"\xff")]
    line = logged(made, config)
    assert list(line) == [*FIELDS, "headers"]
    assert line["headers"] == {
        "cookie": "***",
        "referer": "https://a.example/x?b=1&token=***",
        "x-team": "a, \ufffd",
    }


def test_no_header_of_one_line_appears_in_the_next():
    lines = Lines()
    log = access_log(lines, LoggingConfig(headers=("referer",), query=True, why=True))
    log.finish(
        answered("/a?b=1", headers={"Referer": "x"}, failed=Failed(Failure.TIMEOUT, why="slow"))
    )
    log.finish(answered("/c", headers={}))
    assert (lines.last["headers"], lines.last["path"], "why" in lines.last) == ({}, "/c", False)


@pytest.mark.parametrize(
    ("header", "field"),
    [("User-Agent", "user_agent"), ("traceparent", "trace_id"), ("X-Request-ID", "request_id")],
)
def test_masking_a_header_masks_the_field_it_fills(header: str, field: str):
    line = logged(answered(), LoggingConfig(mask=(header,)))
    assert line[field] == "***"
    assert list(line) == FIELDS


@settings(max_examples=150, deadline=None)
@given(
    name=st.sampled_from(MASK),
    letters=st.lists(st.booleans(), min_size=20, max_size=20),
    before=st.text("abc=&;[]%+", max_size=12),
    encoded=st.booleans(),
)
def test_a_masked_value_never_reaches_a_line(
    name: str, letters: list[bool], before: str, encoded: bool
):
    written = "".join(
        letter.upper() if up else letter for letter, up in zip(name, letters, strict=False)
    )
    parameter = "".join(f"%{ord(letter):02x}" for letter in written) if encoded else written
    query = f"{before}&{parameter}={SECRET};{SECRET}"
    config = LoggingConfig(headers=(name, "Referer"), query=True, why=True)
    made = answered(f"/x?{query}", headers={written: SECRET, "Referer": f"/y?{query}"})
    lines = Lines()
    access_log(lines, config).finish(made)
    assert SECRET.encode() not in lines.lines[-1]
    assert quote(SECRET).encode() not in lines.lines[-1]


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("192.0.2.77", "192.0.2.0"),
        ("2001:db8:1:2:3::4", "2001:db8:1::"),
        ("::ffff:192.0.2.77", "192.0.2.0"),
        ("fe80::1:2%eth0", "fe80::"),
        ("", None),
        ("unix", None),
    ],
)
def test_an_address_is_masked_to_its_network(address: str, network: str | None):
    assert network_of(address) == network
    assert (
        logged(answered(client_ip=address), LoggingConfig(client_ip="masked"))["client_ip"]
        == network
    )
    assert logged(answered(client_ip=address))["client_ip"] == (address or None)


def test_tries_are_listed_with_why():
    tried = answered()
    tried.tries = [AttemptRecord("127.0.0.1:3001", 0.0125, "connect_failed: refused")]
    assert "tries" not in logged(tried, LoggingConfig(why=False))
    assert "tries" not in logged(answered())
    [found] = logged(tried)["tries"]
    assert found == {"endpoint": "127.0.0.1:3001", "ms": 12.5, "why": "connect_failed: refused"}


@pytest.mark.parametrize(
    ("failed", "why"),
    [
        (
            Failed(Failure.EXPIRED, "Expired.", why="key expired 2026-10-01"),
            "key expired 2026-10-01",
        ),
        (Failed(Failure.EXPIRED, "said"), "said"),
        (Failed(Failure.TIMEOUT), "Upstream timeout"),
    ],
)
def test_a_failure_says_why(failed: Failed, why: str):
    assert logged(answered(failed=failed))["why"] == why
    assert "why" not in logged(answered(failed=failed), LoggingConfig(why=False))


def test_only_a_failure_says_why():
    lines = Lines()
    log = access_log(lines, LoggingConfig())
    log.finish(answered(failed=Failed(Failure.TIMEOUT, why="slow")))
    log.finish(answered())
    assert list(lines.last) == FIELDS


def test_the_owner_of_refused_credentials_is_named():
    failed = Failed(Failure.EXPIRED, client="partner-a")
    assert logged(answered(failed=failed, identity=None))["client"] == "partner-a"


# Text that is no text.


def test_lone_surrogates_are_replaced_and_line_breaks_escaped():
    made = answered(
        "/caf\udce9",
        headers={"User-Agent": "a\nb\udcff", "Referer": "x"},
        identity=Identity("\ud800", "jwt"),
    )
    made.raw_headers = [(b"Referer", b"x\xff")]
    line = logged(made, LoggingConfig(headers=("referer",)))
    assert line["path"] == "/caf\ufffd"
    assert line["user_agent"] == "a\nb\ufffd"
    assert line["client"] == "\ufffd"
    assert line["headers"] == {"referer": "x\ufffd"}


@settings(max_examples=100, deadline=None)
@given(st.text(st.characters(), max_size=30), st.text(st.characters(), max_size=30))
def test_any_text_makes_one_line(path: str, agent: str):
    made = answered(path=path)
    made.headers = CIMultiDict({"User-Agent": agent})
    assert list(logged(made)) == FIELDS


# Sampling.


@pytest.mark.parametrize(
    ("description", "values", "luck", "lines"),
    [
        ("lucky", {}, 0.24, 1),
        ("unlucky", {}, 0.25, 0),
        ("a redirect is a success", {"reply": Reply(302)}, 0.9, 0),
        ("an error status", {"reply": Reply(404)}, 0.9, 1),
        ("a call that failed", {"reason": "grpc_unavailable"}, 0.9, 1),
        ("what else has a reason", {"reason": "preflight"}, 0.9, 0),
        ("a failure behind a success", {"failed": Failed(Failure.INCOMPLETE_RESPONSE)}, 0.9, 1),
        ("the client left", {"reply": None, "written": False}, 0.9, 1),
    ],
)
def test_sample(description: str, values: dict[str, Any], luck: float, lines: int):
    written = Lines()
    log = access_log(written, LoggingConfig(sample=0.25), random=lambda: luck)
    log.finish_sampled(answered(**values))
    assert len(written.lines) == lines, description


# Building.


def test_patterns_are_masked_in_every_text():
    made = answered(
        "/users/alice%40example.com?q=bob@example.org",
        {"User-Agent": "bot (ops@example.net)", "Referer": "/x/carol@example.com"},
        identity=Identity("dave@example.com", "jwt"),
    )
    config = LoggingConfig(query=True, headers=("Referer",), mask_patterns=("email", "b.t"))
    line = logged(made, config)
    assert "example" not in json.dumps(line)
    assert (line["path"], line["client"]) == ("/users/***?q=***", "***")
    assert (line["user_agent"], line["headers"]) == ("*** (***)", {"referer": "/x/***"})
    assert line["method"] == "GET"


def test_levels_by_failure():
    config = CONFIG().load({"levels": {"AUTH_001": "warning", "SVC_001": "error"}})
    assert logged(answered(), config)["level"] == "info"
    failed = answered(failed=Failed(Failure.UNAUTHENTICATED))
    assert logged(failed, config)["level"] == "warning"
    assert logged(answered(failed=Failed(Failure.CIRCUIT_OPEN)), config)["level"] == "error"
    assert "level" not in logged(answered())


def test_a_line_goes_to_every_sink():
    first, second = Lines(), Lines()
    time = Time()
    log = AccessLog(LoggingConfig(), (first, second), time.wall, time.monotonic)  # type: ignore[arg-type]
    log.finish(answered())
    assert first.lines == second.lines and len(first.lines) == 1
