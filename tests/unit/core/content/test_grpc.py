"""Calls of gRPC: content types, statuses and messages."""

from __future__ import annotations

from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.content import grpc
from gateway.core.content.grpc import GrpcStatus
from gateway.core.exchange import Reply
from gateway.core.failures import Failed, Failure
from tests.exchange import exchange, fields


@pytest.mark.parametrize(
    ("content_type", "is_grpc"),
    [
        ("application/grpc", True),
        ("application/grpc+proto", True),
        ("application/grpc;charset=utf-8", True),
        ("application/grpc-web", False),
        ("application/grpc-web+proto", False),
        ("application/grpcx", False),
        ("application/json", False),
        ("", False),
    ],
)
def test_calls_are_known_by_their_content_type(content_type: str, is_grpc: bool) -> None:
    assert grpc.is_grpc(exchange("POST", headers={"Content-Type": content_type})) is is_grpc
    assert not grpc.is_grpc(exchange("POST"))
    assert not grpc.is_grpc(exchange("GET", headers={"Content-Type": content_type}))


@pytest.mark.parametrize(
    ("status", "counts_as"),
    [
        ("0", 0),
        ("1", 0),
        ("2", 500),
        ("3", 0),
        ("4", 504),
        ("8", 0),
        ("12", 0),
        ("13", 500),
        ("14", 503),
        ("15", 500),
        ("77", 500),
    ],
)
def test_what_a_status_says_about_an_endpoint(status: str, counts_as: int) -> None:
    call = exchange("POST", reason=grpc.reason_of(status.encode()))
    assert grpc.counts_as(call) == counts_as
    assert grpc.is_failed_call(call) is (status != "0")
    call.notes[grpc.DEADLINE] = 100.0
    assert grpc.counts_as(call) == (0 if status == "4" else counts_as)


@pytest.mark.parametrize("failure", Failure)
def test_every_failure_has_a_status_that_says_so(failure: Failure) -> None:
    status = grpc.status_of(failure)
    assert status is not GrpcStatus.OK
    if failure.status in (401, 403, 404, 429, 503):
        assert status is not GrpcStatus.UNKNOWN


@pytest.mark.parametrize(
    ("failure", "status"),
    [
        (Failure.UNAUTHENTICATED, GrpcStatus.UNAUTHENTICATED),
        (Failure.FORBIDDEN, GrpcStatus.PERMISSION_DENIED),
        (Failure.NO_ROUTE, GrpcStatus.UNIMPLEMENTED),
        (Failure.RATE_LIMITED, GrpcStatus.RESOURCE_EXHAUSTED),
        (Failure.QUOTA_EXCEEDED, GrpcStatus.RESOURCE_EXHAUSTED),
        (Failure.BODY_TOO_LARGE, GrpcStatus.RESOURCE_EXHAUSTED),
        (Failure.CONNECT_FAILED, GrpcStatus.UNAVAILABLE),
        (Failure.CONNECT_TIMEOUT, GrpcStatus.UNAVAILABLE),
        (Failure.NO_ENDPOINT, GrpcStatus.UNAVAILABLE),
        (Failure.READ_TIMEOUT, GrpcStatus.DEADLINE_EXCEEDED),
        (Failure.INTERNAL, GrpcStatus.INTERNAL),
        (Failure.CLIENT_GONE, GrpcStatus.CANCELLED),
    ],
)
def test_statuses_of_failures(failure: Failure, status: GrpcStatus) -> None:
    assert grpc.status_of(failure) is status


def test_a_failed_call_is_answered_by_trailers_alone() -> None:
    reply = Reply(403, [(b"Content-Type", b"application/json"), (b"X-Error-Code", b"A")], b"{}")
    grpc.as_failed_call(reply, Failed(Failure.FORBIDDEN), "50% of résumés")
    assert (reply.status, reply.body) == (200, b"")
    assert fields(reply) == {
        "content-type": "application/grpc",
        "x-error-code": "A",
        "grpc-status": "7",
        "grpc-message": "50%25 of r%C3%A9sum%C3%A9s",
    }


@given(st.text())
def test_messages_come_back_as_they_were(text: str) -> None:
    encoded = grpc.encode_message(text)
    assert all(0x20 <= byte <= 0x7E for byte in encoded)
    assert unquote(encoded.decode()) == text.encode("utf-8", "replace").decode()


def test_reasons_for_the_log() -> None:
    assert [grpc.reason_of(status) for status in (b"0", b"14", b"99", None)] == [
        "",
        "grpc_unavailable",
        "grpc_unknown",
        "grpc_unknown",
    ]
