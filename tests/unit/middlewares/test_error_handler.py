"""What operators may say about errors, for the gateway and for a pipeline."""

from __future__ import annotations

from typing import Any

import orjson

from gateway.config.tables.errors import ErrorsConfig
from gateway.config.tables.schema import schema_of
from gateway.core.clock import Clock
from gateway.core.exchange import Reply
from gateway.core.failures import Failed, Failure
from gateway.core.hooks import Context
from gateway.middlewares.error_handler import CONFIG, build
from tests.exchange import exchange


def reply(table: dict[str, Any], failed: Failed, errors: dict[str, Any] | None = None) -> Reply:
    base = None if errors is None else schema_of(ErrorsConfig)().load(errors)
    clock = Clock(wall=lambda: 0.0)
    made = build(CONFIG().load(table), Context("error_handler", clock=clock, errors=base))
    assert made.error is not None and made.request is made.response is made.finish is None
    answer = made.error(exchange(request_id="r"), failed)
    assert isinstance(answer, Reply)
    return answer


def shown(answer: Reply) -> Any:
    assert isinstance(answer.body, bytes)
    return orjson.loads(answer.body)


def test_the_gateways_settings_are_the_default():
    assert reply({}, Failed(Failure.NO_ROUTE)).get(b"content-type") == b"application/problem+json"
    answer = reply({}, Failed(Failure.NO_ROUTE), {"format": "envelope"})
    assert shown(answer)["error"]["timestamp"] == "1970-01-01T00:00:00.000Z"


def test_a_format_of_its_own():
    answer = reply(
        {"format": "success_envelope"}, Failed(Failure.NO_ROUTE), {"template": {"a": "{code}"}}
    )
    assert shown(answer)["success"] is False


def test_a_template_of_its_own_over_the_gateways_format():
    answer = reply({"template": {"a": "{code}"}}, Failed(Failure.NO_ROUTE), {"format": "envelope"})
    assert shown(answer) == {"a": "ROUTE_001"}


def test_tables_are_merged_by_failure():
    errors = {"codes": {"*": "ERROR", "rate_limited": "SLOW"}, "statuses": {"SVC_003": 408}}
    table = {"codes": {"forbidden": "NO"}, "statuses": {"read_timeout": 599}}
    assert shown(reply(table, Failed(Failure.FORBIDDEN), errors))["code"] == "NO"
    assert shown(reply(table, Failed(Failure.RATE_LIMITED), errors))["code"] == "SLOW"
    assert shown(reply(table, Failed(Failure.NO_ROUTE), errors))["code"] == "ERROR"
    assert reply(table, Failed(Failure.READ_TIMEOUT), errors).status == 599
    assert reply(table, Failed(Failure.CONNECT_TIMEOUT), errors).status == 408


def test_messages():
    answer = reply({"messages": {"RATE_001": "Slow"}}, Failed(Failure.RATE_LIMITED, "Wait 3 s"))
    assert shown(answer)["detail"] == "Slow"


def test_types():
    answer = reply({"types": "https://example.com/problems/"}, Failed(Failure.NO_ROUTE))
    assert shown(answer)["type"] == "https://example.com/problems/ROUTE_001"
