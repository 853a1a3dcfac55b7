"""What operators may say about errors."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from marshmallow import ValidationError

from gateway.core.clock import Clock
from gateway.core.exchange import Reply
from gateway.core.failures import Failed, Failure
from gateway.core.hooks import ConfigProblem, Context, Hooks
from gateway.middlewares.error_handler import CONFIG, build
from tests.exchange import exchange


def hooks(table: dict[str, Any], errors_format: str = "problem") -> Hooks:
    clock = Clock(wall=lambda: 0.0)
    return build(
        CONFIG().load(table), Context("error_handler", clock=clock, errors_format=errors_format)
    )


def reply(table: dict[str, Any], failed: Failed, errors_format: str = "problem") -> Reply:
    made = hooks(table, errors_format)
    assert made.error is not None and made.request is made.response is made.finish is None
    answer = made.error(exchange(request_id="r"), failed)
    assert isinstance(answer, Reply)
    return answer


def shown(answer: Reply) -> Any:
    assert isinstance(answer.body, bytes)
    return orjson.loads(answer.body)


def test_the_gateways_format_is_the_default():
    assert reply({}, Failed(Failure.NO_ROUTE)).get(b"content-type") == b"application/problem+json"
    assert (
        shown(reply({}, Failed(Failure.NO_ROUTE), "envelope"))["error"]["timestamp"]
        == "1970-01-01T00:00:00.000Z"
    )


def test_a_format_of_its_own():
    assert (
        shown(reply({"format": "success_envelope"}, Failed(Failure.NO_ROUTE)))["success"] is False
    )


def test_statuses_by_code_and_by_name():
    table = {"statuses": {"read_timeout": 408, "SVC_003": 503}}
    assert reply(table, Failed(Failure.READ_TIMEOUT)).status == 408
    assert reply(table, Failed(Failure.CONNECT_TIMEOUT)).status == 503
    assert reply(table, Failed(Failure.NO_ROUTE)).status == 404


def test_messages():
    answer = reply(
        {"messages": {"RATE_001": "Slow down"}}, Failed(Failure.RATE_LIMITED, "Wait 3 s")
    )
    assert shown(answer)["detail"] == "Slow down"


def test_type_base():
    answer = reply({"type_base": "https://example.com/problems/"}, Failed(Failure.NO_ROUTE))
    assert shown(answer)["type"] == "https://example.com/problems/ROUTE_001"


@pytest.mark.parametrize(
    ("table", "at", "hint"),
    [
        ({"statuses": {"SVC_03": 408}}, ("statuses", "SVC_03"), "did you mean 'SVC_003'?"),
        (
            {"messages": {"cirquit_open": "x"}},
            ("messages", "cirquit_open"),
            "did you mean 'circuit_open'?",
        ),
    ],
)
def test_words_nobody_knows(table: dict[str, Any], at: tuple[str, ...], hint: str):
    with pytest.raises(ConfigProblem) as caught:
        hooks(table)
    assert (caught.value.at, caught.value.hint) == (at, hint)


@pytest.mark.parametrize(
    "table",
    [
        {"format": "xml"},
        {"statuses": {"SVC_003": 200}},
        {"statuses": {"SVC_003": "408"}},
        {"messages": {"SVC_003": ""}},
        {"type_base": "example.com/problems"},
        {"type_base": "https:"},
        {"type_base": "https://example.com/a b"},
        {"type_base": "https://ex\u00e4mple.com/"},
        {"style": "x"},
    ],
)
def test_refused_tables(table: dict[str, Any]):
    with pytest.raises(ValidationError):
        CONFIG().load(table)
