"""Static answers instead of errors: which one, and what it looks like."""

from __future__ import annotations

from typing import Any

import pytest
from marshmallow import ValidationError

from gateway.core.exchange import Reply
from gateway.core.failures import Failed, Failure
from gateway.core.hooks import ConfigProblem, Context
from gateway.middlewares.fallback import CONFIG, build
from tests.exchange import exchange


def answered(
    responses: list[dict[str, Any]],
    failed: Failed,
    *,
    route: str | None = "cameras",
    method: str = "GET",
    so_far: Reply | None = None,
) -> Reply | None:
    made = build(CONFIG().load({"responses": responses}), Context("fallback"))
    assert made.error is not None and made.request is made.response is made.finish is None
    asked = exchange(method, "/c", request_id="r", route=route, reply=so_far, reason="before")
    reply = made.error(asked, failed)
    assert asked.reason == "before"
    assert reply is None or isinstance(reply, Reply)
    return reply


@pytest.mark.parametrize(
    ("on", "failure", "fits"),
    [
        (["SVC_001"], Failure.CIRCUIT_OPEN, True),
        (["SVC_001"], Failure.CONNECT_FAILED, False),
        (["circuit_open"], Failure.CIRCUIT_OPEN, True),
        (["circuit_open"], Failure.NO_ENDPOINT, False),
        (["502"], Failure.CONNECT_FAILED, True),
        (["502"], Failure.CIRCUIT_OPEN, False),
        (["RATE_001", "502", "502"], Failure.BAD_RESPONSE, True),
        ([], Failure.BAD_RESPONSE, False),
    ],
)
def test_which_failures(on: list[str], failure: Failure, fits: bool):
    assert (answered([{"on": on}], Failed(failure)) is not None) is fits


@pytest.mark.parametrize(("route", "status"), [("cameras", 200), ("analytics", 203), (None, 203)])
def test_the_first_that_names_the_route(route: str | None, status: int):
    responses = [
        {"on": ["SVC_001"], "routes": ["cameras", "lenses"], "status": 200},
        {"on": ["503"], "status": 203},
        {"on": ["SVC_001"], "status": 204},
    ]
    reply = answered(responses, Failed(Failure.CIRCUIT_OPEN), route=route)
    assert reply is not None and reply.status == status


def test_json():
    reply = answered(
        [{"on": ["SVC_001"], "status": 200, "json": {"cameras": []}}], Failed(Failure.CIRCUIT_OPEN)
    )
    assert reply is not None
    assert reply.body == b'{"cameras":[]}'
    assert reply.headers == [
        (b"Content-Type", b"application/json"),
        (b"Cache-Control", b"no-store"),
        (b"X-Fallback", b"SVC_001"),
    ]


def test_text_and_headers_of_its_own():
    table = {
        "on": ["SVC_001"],
        "status": 200,
        "body": "Gleich zur\u00fcck",
        "headers": {"cache-control": "max-age=5"},
    }
    reply = answered([table], Failed(Failure.CIRCUIT_OPEN))
    assert reply is not None
    assert reply.body == "Gleich zur\u00fcck".encode()
    assert reply.get(b"content-type") == b"text/plain; charset=utf-8"
    assert reply.get(b"cache-control") == b"max-age=5"
    page = {"on": ["SVC_001"], "body": "<p>Soon</p>", "headers": {"Content-Type": "text/html"}}
    reply = answered([page], Failed(Failure.CIRCUIT_OPEN))
    assert reply is not None and reply.get(b"content-type") == b"text/html"


def test_no_body():
    reply = answered([{"on": ["SVC_001"], "status": 204}], Failed(Failure.CIRCUIT_OPEN))
    assert reply is not None
    assert (reply.body, reply.get(b"content-type")) == (b"", None)


def test_head():
    reply = answered(
        [{"on": ["SVC_001"], "body": "soon"}], Failed(Failure.CIRCUIT_OPEN), method="HEAD"
    )
    assert reply is not None
    assert (reply.body, reply.length) == (b"", 4)


def test_the_status_of_the_error_is_the_default():
    failed = Failed(Failure.READ_TIMEOUT)
    reply = answered([{"on": ["504"]}], failed, so_far=Reply(408))
    assert reply is not None and reply.status == 408
    reply = answered([{"on": ["504"]}], failed)
    assert reply is not None and reply.status == 504


def test_what_a_client_can_do_about_an_error_stays():
    failed = Failed(Failure.CIRCUIT_OPEN, headers=((b"Retry-After", b"30"),))
    error = answered([{"on": ["503"]}], failed)
    assert error is not None and error.get(b"retry-after") == b"30"
    fine = answered([{"on": ["503"], "status": 200}], failed)
    assert fine is not None and fine.get(b"retry-after") is None


def test_words_nobody_knows():
    with pytest.raises(ConfigProblem) as caught:
        answered([{"on": ["503"]}, {"on": ["502", "SVC_01"]}], Failed(Failure.CIRCUIT_OPEN))
    assert caught.value.at == ("responses", 1, "on", 1)
    assert caught.value.hint == "did you mean 'SVC_001'?"
    with pytest.raises(ConfigProblem):
        answered([{"on": ["200"]}], Failed(Failure.CIRCUIT_OPEN))


@pytest.mark.parametrize(
    "response",
    [
        {},
        {"on": ["503"], "body": "a", "json": {}},
        {"on": ["503"], "status": 99},
        {"on": ["503"], "headers": {"Content-Length": "3"}},
        {"on": ["503"], "headers": {"connection": "close"}},
        {"on": ["503"], "headers": {"X-A": "1\r\nX-B: 2"}},
        {"on": [502]},
        {"on": ["503"], "html": "a"},
    ],
)
def test_refused_tables(response: dict[str, Any]):
    with pytest.raises(ValidationError):
        CONFIG().load({"responses": [response]})


def test_a_fallback_without_responses_is_a_mistake():
    with pytest.raises(ValidationError):
        CONFIG().load({})
