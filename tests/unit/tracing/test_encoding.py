"""Spans as a collector reads them."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from gateway.tracing import encoding
from gateway.tracing.encoding import Facts, Masks, SpanEncoder, attributes, count, request
from gateway.tracing.trace import AttemptSpan, HookSpan, Trace
from tests.collector import Seen, spans_of

TRACE, SPAN, CALLER = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7", "53995c3f42cd8ad8"
MASKS = Masks(lambda query: query.replace("secret", "***"))
FACTS = Facts(
    "GET", "https", "api.test", "1.1", "192.0.2.7", "10.0.0.1", "sdk/1", "/cameras/{id}",
    "cameras", 200, "", "", "acme", "miss",
)  # fmt: skip
OWN: dict[str, Any] = {
    "trace": Trace(TRACE, SPAN), "offset": 1_000_000.0, "began": 1.0, "ended": 1.5,
    "path": "/cameras/7", "query": "", "request_id": "id-1",
}  # fmt: skip


def decoded(*spans: bytes) -> list[Seen]:
    return spans_of(request(b"".join(spans), attributes({"service.name": "s"}), b"\n\x07gateway"))


def record(**facts: Any) -> tuple[Any, ...]:
    own = {name: facts.pop(name, value) for name, value in OWN.items()}
    return (None, *own.values(), FACTS._replace(**facts))


def server(masks: Masks = MASKS, **facts: Any) -> Seen:
    encoder = SpanEncoder(masks)
    [one] = decoded(encoder.server(record(**facts)))
    [again] = decoded(encoder.server(record(**facts)))
    assert one == again
    return one


def test_a_request():
    one = server()
    assert (one.trace_id, one.span_id, one.parent) == (TRACE, SPAN, "")
    assert (one.name, one.raw.kind) == ("GET /cameras/{id}", Span.SPAN_KIND_SERVER)
    assert one.raw.start_time_unix_nano == 1_000_001_000_000_000
    assert one.raw.end_time_unix_nano == 1_000_001_500_000_000
    assert one.raw.flags == 0x101 and one.raw.status.code == Status.STATUS_CODE_UNSET
    assert one.resource == {"service.name": "s"}
    assert one.attributes == {
        "http.request.method": "GET", "url.path": "/cameras/7", "url.scheme": "https",
        "http.route": "/cameras/{id}", "http.response.status_code": 200,
        "server.address": "api.test", "client.address": "192.0.2.7",
        "network.peer.address": "10.0.0.1", "network.protocol.version": "1.1",
        "user_agent.original": "sdk/1", "gateway.request_id": "id-1", "gateway.route": "cameras",
        "gateway.client": "acme", "gateway.cache": "miss",
    }  # fmt: skip


def test_a_request_of_another_trace():
    one = server(trace=Trace(TRACE, SPAN, CALLER, "vendor=1"))
    assert (one.parent, one.raw.trace_state, one.raw.flags) == (CALLER, "vendor=1", 0x301)


def test_failures():
    failed = server(status=503, error="circuit_open", reason="circuit_open")
    assert failed.raw.status.code == Status.STATUS_CODE_ERROR
    assert failed.attributes["error.type"] == failed.attributes["gateway.reason"] == "circuit_open"
    call = server(status=200, error="grpc_internal", reason="grpc_internal")
    assert call.raw.status.code == Status.STATUS_CODE_ERROR
    left = server(status=0, error="client_gone", reason="client_gone")
    assert left.raw.status.code == Status.STATUS_CODE_UNSET
    assert "http.response.status_code" not in left.attributes


def test_methods_and_routes_that_are_none():
    one = server(method="FROB", template="", route="")
    assert one.name == "HTTP" and one.attributes["http.request.method"] == "_OTHER"
    assert one.attributes["http.request.method_original"] == "FROB"
    assert "http.route" not in one.attributes and "gateway.route" not in one.attributes


def test_nothing_that_logs_mask_is_shown():
    masks = Masks(
        lambda query: query.replace("secret", "***"),
        lambda text: text.replace("4111", "***"),
        lambda address: None,
        False,
    )
    one = server(masks, query="api_key=secret&card=4111", path="/cards/4111")
    assert one.attributes["url.query"] == "api_key=***&card=***"
    assert one.attributes["url.path"] == "/cards/***"
    assert not one.attributes.keys() & {
        "client.address",
        "network.peer.address",
        "user_agent.original",
    }


def attempt(**facts: Any) -> Seen:
    endpoint = SimpleNamespace(
        name="a", scheme="http", host="origin.test", port=3001, authority="origin.test:3001"
    )
    span = AttemptSpan(
        "origin", endpoint, "GET", "/v1/a?token=secret", SPAN, CALLER, 1.0, 1.25, 200, "", 0
    )
    [one] = decoded(SpanEncoder(MASKS).attempt((None, TRACE, 0.0, span._replace(**facts))))
    return one


def test_an_attempt():
    one = attempt()
    assert (one.name, one.raw.kind, one.parent) == ("GET", Span.SPAN_KIND_CLIENT, CALLER)
    assert one.raw.end_time_unix_nano - one.raw.start_time_unix_nano == 250_000_000
    assert one.attributes == {
        "http.request.method": "GET", "server.address": "origin.test", "server.port": 3001,
        "url.full": "http://origin.test:3001/v1/a?token=***", "http.response.status_code": 200,
        "gateway.upstream": "origin",
    }  # fmt: skip


def test_an_attempt_that_failed():
    unix = SimpleNamespace(
        name="b", scheme="unix", host="/run/app.sock", port=0, authority="localhost"
    )
    one = attempt(endpoint=unix, target="", status=0, error="connection_reset", number=2)
    assert one.raw.status.code == Status.STATUS_CODE_ERROR
    assert one.attributes == {
        "http.request.method": "GET", "server.address": "/run/app.sock",
        "http.request.resend_count": 2, "error.type": "connection_reset",
        "gateway.upstream": "origin",
    }  # fmt: skip


def test_a_hook():
    span = HookSpan("auth", SPAN, CALLER, 1.0, 2.0, "")
    encode = SpanEncoder(MASKS).hook
    good, bad = decoded(
        encode((None, TRACE, 0.0, span)),
        encode((None, TRACE, 0.0, span._replace(error="forbidden"))),
    )
    assert (good.name, good.raw.kind) == ("hook auth", Span.SPAN_KIND_INTERNAL)
    assert good.attributes == {"gateway.hook": "auth"}
    assert bad.attributes == {"gateway.hook": "auth", "error.type": "forbidden"}


TEXT = st.text(max_size=200)


@given(st.lists(st.tuples(TEXT, TEXT, TEXT, TEXT), min_size=1, max_size=5))
def test_whatever_strangers_send_is_read_back(requests: list[tuple[str, str, str, str]]):
    encode = SpanEncoder(Masks(str)).server
    spans = b"".join(
        encode(record(path=path, query=query, agent=agent, host=host))
        for path, query, agent, host in requests
    )
    assert count(spans) == len(requests) == len(decoded(spans))
    for one, (path, *_) in zip(decoded(spans), requests, strict=True):
        assert one.attributes["url.path"] == path.encode("utf-8", "replace").decode()


def test_facts_are_remembered_within_bounds(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(encoding, "MEMO_MAX", 3)
    encoder = SpanEncoder(MASKS)
    for host in "abcdefg":
        [one] = decoded(encoder.server(record(host=host)))
        assert one.attributes["server.address"] == host
    assert len(encoder._known) <= 3
