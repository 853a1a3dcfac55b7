"""What clients see of a failure, and what they must not see."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.config.templates import Template
from gateway.core.clock import Clock
from gateway.core.exchange import Exchange, Identity, Reply
from gateway.core.failures import Failed, Failure, own_failure
from gateway.core.problems import FORMATS, PLACEHOLDERS, Problems, field_value, render
from tests.exchange import Headers, exchange


def asks(
    method: str = "GET", target: str = "/api/v1/cameras?api_key=secret", headers: Headers = ()
) -> Exchange:
    return exchange(method, target, headers, request_id="req-1")


def body(reply: Reply) -> Any:
    assert isinstance(reply.body, bytes)
    assert reply.length == len(reply.body)
    return orjson.loads(reply.body)


def test_problem():
    reply = render(
        Failed(Failure.RATE_LIMITED, "Try again in 3 s", headers=((b"Retry-After", b"3"),)),
        asks(),
        "problem",
    )
    assert reply.status == 429
    assert body(reply) == {
        "type": "about:blank",
        "title": "Too Many Requests",
        "status": 429,
        "detail": "Try again in 3 s",
        "instance": "/api/v1/cameras",
        "code": "RATE_001",
        "request_id": "req-1",
    }
    assert reply.headers == [
        (b"Content-Type", b"application/problem+json"),
        (b"Cache-Control", b"no-store"),
        (b"X-Error-Code", b"RATE_001"),
        (b"Retry-After", b"3"),
    ]
    assert reply.get(b"content-type") == b"application/problem+json"
    assert reply.get(b"retry-after") == b"3"


def test_problem_types_and_titles_of_the_operators_own():
    problems = Problems(types="https://id.example/problems#", statuses={Failure.READ_TIMEOUT: 408})
    shown = body(problems.render(Failed(Failure.READ_TIMEOUT), asks()))
    assert (shown["type"], shown["title"]) == (
        "https://id.example/problems#SVC_003",
        "Upstream timeout",
    )
    assert shown["status"] == 408


def test_the_title_of_about_blank_is_the_status_phrase():
    shown = body(Problems(statuses={Failure.TIMEOUT: 408}).render(Failed(Failure.TIMEOUT), asks()))
    assert (shown["title"], shown["detail"], shown["status"]) == (
        "Request Timeout",
        "Upstream timeout",
        408,
    )
    assert (
        body(render(Failed(Failure.BODY_TOO_LARGE), asks(), "problem"))["title"]
        == "Content Too Large"
    )
    assert (
        body(render(Failed(Failure.CLIENT_GONE), asks(), "problem"))["title"]
        == "Client closed the connection"
    )


def test_errors_of_fields():
    errors = [{"field": "name", "code": "required", "message": "is required"}]
    failed = Failed(Failure.MISSING_FIELD, errors=errors)
    assert body(render(failed, asks(), "problem"))["errors"] == errors
    assert body(render(failed, asks(), "envelope"))["error"]["details"] == errors
    shown = body(render(failed, asks(), "success_envelope"))["error"]
    assert (shown["details"], shown["field"]) == (errors, "name")
    whole = Failed(Failure.INVALID_FIELD, errors=[{"code": "type", "message": "must be an object"}])
    assert "field" not in body(render(whole, asks(), "success_envelope"))["error"]


def test_envelope():
    problems = Problems("envelope", clock=Clock(wall=lambda: 1_760_000_000.25))
    reply = problems.render(
        Failed(Failure.EXPIRED, "The key has expired"),
        asks(headers={"X-Correlation-ID": "order-7"}),
    )
    assert reply.status == 401
    assert body(reply) == {
        "error": {
            "code": "AUTH_002",
            "message": "The key has expired",
            "timestamp": "2025-10-09T08:53:20.250Z",
            "requestId": "req-1",
            "correlationId": "order-7",
        }
    }
    assert reply.get(b"content-type") == b"application/json"
    assert reply.get(b"x-error-code") == b"AUTH_002"
    assert reply.get(b"x-error-message") == b"The key has expired"
    assert reply.get(b"x-correlation-id") == b"order-7"


def test_success_envelope():
    reply = render(Failed(Failure.FORBIDDEN), asks(), "success_envelope")
    assert body(reply) == {
        "success": False,
        "error": {"code": "AUTH_003", "message": "Insufficient permissions", "requestId": "req-1"},
    }
    assert reply.get(b"x-error-code") == b"AUTH_003"
    assert reply.get(b"x-error-message") is None


@pytest.mark.parametrize("given", [None, "", "a\nb", "x" * 129, "caf\u00e9"])
def test_a_correlation_that_is_none_is_the_request(given: str | None):
    request = asks(headers={} if given is None else {"X-Correlation-ID": given})
    reply = render(Failed(Failure.NO_ROUTE), request, "envelope")
    assert body(reply)["error"]["correlationId"] == "req-1"
    assert reply.get(b"x-correlation-id") == b"req-1"


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("failure", Failure)
def test_every_failure_in_every_format(format: str, failure: Failure):
    failed = Failed(failure, why="10.0.0.3:5432 refused", by="secret-hook")
    reply = render(failed, asks(), format)
    assert reply.status == failure.status
    assert body(reply)
    assert reply.get(b"x-error-code") == failure.code.encode()
    assert reply.get(b"cache-control") == b"no-store"
    error = failure.proxy_error
    assert reply.get(b"proxy-status") == (
        None if error is None else f'gateway; error={error}; details="{failure.code}"'.encode()
    )
    assert reply.get(b"retry-after") == (b"5" if failure.status == 503 else None)
    shown = repr((reply.headers, reply.body))
    assert "10.0.0.3" not in shown and "secret" not in shown


@pytest.mark.parametrize("format", FORMATS)
def test_head_gets_the_same_head_and_no_body(format: str):
    failed = Failed(Failure.METHOD_NOT_ALLOWED, headers=((b"Allow", b"GET"),))
    problems = Problems(format, clock=Clock(wall=lambda: 0.0))
    get, head = problems.render(failed, asks()), problems.render(failed, asks("HEAD"))
    assert head.body == b""
    assert (head.status, head.headers, head.length) == (get.status, get.headers, get.length)


def test_a_503_says_when_to_come_back():
    failed = Failed(Failure.OVERLOADED, headers=((b"retry-after", b"1"),))
    assert render(failed, asks(), "problem").get(b"retry-after") == b"1"
    turned = Problems(statuses={Failure.QUOTA_EXCEEDED: 503}).render(
        Failed(Failure.QUOTA_EXCEEDED), asks()
    )
    assert turned.get(b"retry-after") == b"5"


@pytest.mark.parametrize("format", FORMATS)
def test_an_operators_message_replaces_the_detail(format: str):
    problems = Problems(format, messages={Failure.NO_ROUTE: Template("Nothing here, see the docs")})
    assert (
        b"Nothing here, see the docs"
        in problems.render(Failed(Failure.NO_ROUTE, "No such thing"), asks()).body
    )  # type: ignore[operator]
    assert (
        b"No such thing" in problems.render(Failed(Failure.FORBIDDEN, "No such thing"), asks()).body
    )  # type: ignore[operator]


def test_header_values_are_safe():
    failed = Failed(
        Failure.MALFORMED, "a\r\nSet-Cookie: b\x7f \u20ac", headers=((b"X-A", b"1\r\nX-B: 2"),)
    )
    reply = render(failed, asks(), "envelope")
    assert reply.get(b"x-error-message") == b"a  Set-Cookie: b  ?"
    assert reply.get(b"x-a") == b"1  X-B: 2"
    assert body(reply)["error"]["message"] == failed.detail


@settings(max_examples=100)
@given(st.text(max_size=20))
def test_field_values_hold_no_controls(text: str):
    value = field_value(text)
    assert not any(octet < 32 or octet == 127 for octet in value)
    if text.isascii() and text.isprintable():
        assert value == text.strip().encode()


@pytest.mark.parametrize("format", FORMATS)
def test_what_is_no_unicode(format: str):
    request = asks(target="/a\udcff")
    errors = [{"field": "\udcff", "code": "type", "message": "no"}]
    failed = Failed(Failure.INVALID_FIELD, "bad \udcff", errors=errors)
    assert b'"bad ?"' in render(failed, request, format).body  # type: ignore[operator]
    assert body(render(failed, request, "problem"))["instance"] == "/a?"
    assert body(render(failed, request, "problem"))["errors"][0]["field"] == "?"


def test_an_instance_never_names_another_host():
    assert (
        body(render(Failed(Failure.NO_ROUTE), asks(target="//evil.example/x"), "problem"))[
            "instance"
        ]
        == "/.//evil.example/x"
    )


def test_replies_do_not_share_what_hooks_change():
    first = render(Failed(Failure.NO_ROUTE), asks(), "problem")
    first.set(b"Content-Type", b"text/plain")
    first.add(b"X-A", b"1")
    second = render(Failed(Failure.NO_ROUTE), asks(), "problem")
    assert second.get(b"content-type") == b"application/problem+json"
    assert second.get(b"x-a") is None
    assert len(second.headers) == 3


def test_an_unknown_format():
    with pytest.raises(ValueError, match="xml"):
        render(Failed(Failure.NO_ROUTE), asks(), "xml")


def test_codes_and_types_in_the_operators_words():
    problems = Problems(
        codes={Failure.RATE_LIMITED: "RATE_LIMIT_EXCEEDED"},
        types={Failure.RATE_LIMITED: "RATE_LIMIT"},
    )
    reply = problems.render(Failed(Failure.RATE_LIMITED), asks())
    assert reply.get(b"x-error-code") == b"RATE_LIMIT_EXCEEDED"
    assert (body(reply)["code"], body(reply)["type"]) == ("RATE_LIMIT_EXCEEDED", "RATE_LIMIT")
    other = problems.render(Failed(Failure.FORBIDDEN), asks())
    assert (body(other)["code"], body(other)["type"]) == ("AUTH_003", "about:blank")


def test_a_type_is_the_gateways_code_whatever_the_client_sees():
    problems = Problems(types="/errors/", codes={Failure.RATE_LIMITED: "SLOW_DOWN"})
    assert body(problems.render(Failed(Failure.RATE_LIMITED), asks()))["type"] == "/errors/RATE_001"


ENVELOPE = Template(
    {
        "success": False,
        "error": {
            "code": "{code}",
            "message": "{message}",
            "retryAfter": "{retry_after}",
            "limit": "{limit}",
            "resetAt": "{reset_at}",
            "details": "{details}",
            "about": "{method} {path}, {request_id}",
        },
    }
)


def test_a_template_keeps_types_and_leaves_out_what_has_no_value():
    problems = Problems("template", template=ENVELOPE)
    limited = Failed(
        Failure.RATE_LIMITED,
        headers=((b"Retry-After", b"3"),),
        facts={"limit": 100, "reset_at": "2026-01-01T00:00:00.000Z"},
    )
    reply = problems.render(limited, asks())
    assert body(reply) == {
        "success": False,
        "error": {
            "code": "RATE_001",
            "message": "Rate limit exceeded",
            "retryAfter": 3,
            "limit": 100,
            "resetAt": "2026-01-01T00:00:00.000Z",
            "about": "GET /api/v1/cameras, req-1",
        },
    }
    assert reply.get(b"content-type") == b"application/json"
    assert list(body(problems.render(Failed(Failure.NO_ROUTE), asks()))["error"]) == [
        "code",
        "message",
        "about",
    ]


def test_a_template_for_one_kind_of_failure():
    problems = Problems("envelope", templates={Failure.RATE_LIMITED: Template({"a": "{status}"})})
    assert body(problems.render(Failed(Failure.RATE_LIMITED), asks())) == {"a": 429}
    assert body(problems.render(Failed(Failure.FORBIDDEN), asks()))["error"]["code"] == "AUTH_003"


def test_a_message_with_placeholders():
    words = {Failure.MISSING_FIELD: Template("Missing required field: {field}")}
    problems = Problems("success_envelope", messages=words)
    errors = [{"field": "name", "code": "VAL_002", "message": "is required"}]
    shown = body(problems.render(Failed(Failure.MISSING_FIELD, "No.", errors=errors), asks()))
    assert shown["error"]["message"] == "Missing required field: name"
    shown = body(problems.render(Failed(Failure.MISSING_FIELD, "No."), asks()))
    assert shown["error"]["message"] == "No."  # Without a field the gateway's words stay.


@pytest.mark.parametrize("format", FORMATS)
def test_a_message_is_text_whatever_its_placeholder_is(format: str):
    problems = Problems(format, messages={Failure.RATE_LIMITED: Template("{limit}")})
    reply = problems.render(Failed(Failure.RATE_LIMITED, facts={"limit": 100}), asks())
    assert '"100"' in orjson.dumps(body(reply)).decode()


@pytest.mark.parametrize("failure", Failure)
def test_every_placeholder_of_every_failure(failure: Failure):
    template = Template({name: f"{{{name}}}" for name in PLACEHOLDERS})
    request = asks(target="/a\udcff")
    request.identity = Identity("acme", "jwt", "free")
    failed = Failed(failure, why="10.0.0.3:5432", by="secret-hook", facts={"limit": 1})
    reply = Problems("template", template=template).render(failed, request)
    shown = body(reply)
    assert (shown["status"], shown["reason"]) == (failure.status, failure.reason)
    assert (shown["client"], shown["tier"], shown["limit"]) == ("acme", "free", 1)
    assert shown.get("retry_after") == (5 if failure.status == 503 else None)
    assert b"10.0.0.3" not in reply.body and b"secret" not in reply.body  # type: ignore[operator]


@pytest.mark.parametrize("format", [*FORMATS, "template"])
def test_a_call_of_grpc_gets_a_status_in_place_of_a_body(format: str):
    problems = Problems(
        format,
        template=Template({"code": "{code}"}) if format == "template" else None,
        statuses={Failure.RATE_LIMITED: 420},
        messages={Failure.RATE_LIMITED: Template("Wait {retry_after} s: 100%")},
    )
    failed = Failed(Failure.RATE_LIMITED, headers=((b"Retry-After", b"3"),))
    reply = problems.render(failed, asks("POST", headers={"Content-Type": "application/grpc"}))
    assert (reply.status, reply.body, reply.length) == (200, b"", 0)
    assert reply.get(b"content-type") == b"application/grpc"
    assert reply.get(b"grpc-status") == b"8" and reply.get(b"retry-after") == b"3"
    assert reply.get(b"grpc-message") == b"Wait 3 s: 100%25"
    assert reply.get(b"x-error-code") == b"RATE_001"


@pytest.mark.parametrize(
    ("types", "shown"), [("", "about:blank"), ("https://e.test/", "https://e.test/LOOKUP_001")]
)
def test_a_failure_of_a_middlewares_own(types: str, shown: str):
    failed = Failed(own_failure("LOOKUP_001", 424, "Lookup failed"))
    problems = Problems(types=types)
    for _ in range(2):
        reply = problems.render(failed, exchange("GET", "/a"))
        body = orjson.loads(reply.body)
        assert (reply.status, reply.get(b"x-error-code")) == (424, b"LOOKUP_001")
        assert (body["type"], body["code"], body["status"]) == (shown, "LOOKUP_001", 424)
        assert body["detail"] == "Lookup failed"


@pytest.mark.parametrize(
    ("code", "details"), [("GW-1", '; details="GW-1"'), ('a"b', ""), ("é", "")]
)
def test_an_operators_code_in_proxy_status(code: str, details: str):
    made = Problems(codes={Failure.TIMEOUT: code})
    shown = made.render(Failed(Failure.TIMEOUT), asks()).get(b"proxy-status")
    assert shown == f"gateway; error=http_response_timeout{details}".encode()
