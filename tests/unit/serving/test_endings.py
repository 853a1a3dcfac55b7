"""What an exception means, and what is given up with it."""

from __future__ import annotations

import logging
from types import SimpleNamespace
from typing import Any

import pytest

from gateway.core.exchange import Reply
from gateway.core.failures import Failed, Failure
from gateway.serving.endings import abandon, blame, broken_off, pipeline_of
from tests.exchange import exchange


@pytest.mark.parametrize(
    ("error", "failure", "level"),
    [
        (Failed(Failure.NO_ROUTE), Failure.NO_ROUTE, None),
        (Failed(Failure.CONNECT_FAILED, why="refused"), Failure.CONNECT_FAILED, logging.WARNING),
        (ValueError("a bug"), Failure.INTERNAL, logging.ERROR),
    ],
)
def test_what_an_exception_means(caplog, error, failure, level):
    with caplog.at_level(logging.INFO):
        assert blame(exchange(), error).failure is failure
    assert [record.levelno for record in caplog.records] == ([] if level is None else [level])


def test_only_what_has_begun_is_broken_off():
    aborted: list[int] = []
    outlet: Any = SimpleNamespace(abort=lambda: aborted.append(1))
    one, failed = exchange(), Failed(Failure.INTERNAL)
    assert not broken_off(one, outlet, failed) and one.failed is None
    one.written = True
    assert broken_off(one, outlet, failed) and one.failed is failed and aborted == [1]


@pytest.mark.parametrize(
    ("headers", "length", "ends"),
    [
        ({"Content-Type": "application/grpc", "TE": "trailers", "Connection": "TE"}, None, True),
        ({"Content-Type": "application/grpc", "TE": "trailers", "Connection": "TE"}, 5, False),
        ({"Content-Type": "application/grpc"}, None, False),
        ({"Content-Type": "text/plain", "TE": "trailers", "Connection": "TE"}, None, False),
    ],
)
def test_a_call_of_grpc_ends_with_a_status(headers, length, ends):
    told: list[Any] = []
    outlet: Any = SimpleNamespace(
        abort=lambda: told.append("abort"), end=lambda one, trailers: told.append(trailers)
    )
    one = exchange("POST", headers=headers, written=True)
    one.reply = Reply(200, body=SimpleNamespace(), length=length)  # type: ignore[arg-type]
    assert broken_off(one, outlet, Failed(Failure.READ_TIMEOUT, "Too slow"))
    status = [(b"grpc-status", b"4"), (b"grpc-message", b"Too slow")]
    assert told == [status if ends else "abort"]


def test_a_body_that_arrives_is_given_up_and_no_other():
    aborted: list[int] = []
    one = exchange()
    abandon(one)
    one.reply = Reply(200, body=b"complete")
    abandon(one)
    one.reply = Reply(200, body=SimpleNamespace(abort=lambda: aborted.append(1)))  # type: ignore[arg-type]
    abandon(one)
    assert aborted == [1]


def test_whose_hooks_hear_of_it():
    snapshot: Any = SimpleNamespace(unrouted_for=lambda exchange: "of none")
    one = exchange()
    assert pipeline_of(one, snapshot) == "of none"  # type: ignore[comparison-overlap]
    one.route = SimpleNamespace(pipeline="of the route")
    assert pipeline_of(one, snapshot) == "of the route"  # type: ignore[comparison-overlap]
