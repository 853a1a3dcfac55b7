"""What a client is told of its usage."""

from __future__ import annotations

import orjson
import pytest

from gateway.builtins.usage import report, usage
from gateway.config.tables.pipeline import PipelineConfig, RouteConfig
from gateway.core.exchange import Identity
from gateway.core.failures import Failed, Failure
from gateway.store.stores import StoreDown
from gateway.usage.counters import DAY, HOUR, Cell, Place
from gateway.usage.meter import History
from tests.exchange import exchange

NOW = 20_000 * DAY + 12 * HOUR + 600.0
THIS = int(NOW) // HOUR
TODAY = THIS // 24 * 24


def cell(requests: int, errors: int = 0) -> Cell:
    return [requests, requests - errors, 0, errors, 0, 10, 20, requests * 5000]


def at(hour: int, route: str = "cameras", method: str = "GET") -> Place:
    return Place("acme", route, method, hour)


HISTORY = History(
    {at(THIS): cell(4, 1), at(THIS - 30): cell(1), at(THIS, "logs", "POST"): cell(2)},
    {at(TODAY): cell(4, 1), at(TODAY - 24): cell(1), at(TODAY, "logs", "POST"): cell(2),
     at(TODAY - 240): cell(100)},
)  # fmt: skip
PATHS = {"cameras": "/api/v1/cameras"}


def test_all_of_it():
    found = report(HISTORY, PATHS, NOW, 30 * DAY)
    assert (found["totalRequests"], found["successfulRequests"], found["failedRequests"]) == (
        107, 106, 1
    )  # fmt: skip
    assert found["averageResponseTime"] == 5.0
    assert (found["bytesIn"], found["bytesOut"]) == (40, 80)
    assert found["byStatus"] == {"2xx": 106, "3xx": 0, "4xx": 1, "5xx": 0}
    assert [(one["path"], one["method"], one["requests"]) for one in found["endpoints"]] == [
        ("/api/v1/cameras", "GET", 105),
        ("", "POST", 2),
    ]
    assert [(one["start"], one["requests"]) for one in found["hours"]] == [
        ("2024-10-03T06:00:00Z", 1),
        ("2024-10-04T12:00:00Z", 6),
    ]
    assert [(one["start"], one["requests"]) for one in found["days"]] == [
        ("2024-09-24T00:00:00Z", 100),
        ("2024-10-03T00:00:00Z", 1),
        ("2024-10-04T00:00:00Z", 6),
    ]


def test_a_time_and_an_endpoint():
    assert report(HISTORY, PATHS, NOW, 24 * HOUR)["totalRequests"] == 6
    assert report(HISTORY, PATHS, NOW, 48 * HOUR)["totalRequests"] == 7
    assert report(HISTORY, PATHS, NOW, 7 * DAY)["totalRequests"] == 7
    for endpoint in ("cameras", "/api/v1/cameras"):
        found = report(HISTORY, PATHS, NOW, 24 * HOUR, endpoint)
        assert (found["totalRequests"], len(found["hours"]), len(found["days"])) == (4, 2, 3)
    assert report(HISTORY, PATHS, NOW, DAY, "/nowhere")["totalRequests"] == 0


def test_nothing_yet():
    found = report(History({}, {}), {}, NOW, DAY)
    assert (found["totalRequests"], found["averageResponseTime"], found["days"]) == (0, 0.0, [])


class Meter:
    retention = 30.0 * DAY

    def __init__(self, history: History | Exception) -> None:
        self._history = history

    async def history(self, client: str) -> History:
        assert client == "acme"
        if isinstance(self._history, Exception):
            raise self._history
        return self._history


async def asked(query: str = "", history: History | Exception = HISTORY, client: str = "acme"):
    routes = (RouteConfig("cameras", prefix="/api/v1/cameras"),)
    target = usage(Meter(history), [PipelineConfig(routes=routes)], lambda: NOW)  # type: ignore[arg-type]
    request = exchange(target=f"/usage?{query}", route="usage")
    request.route.status = (
        lambda _: [{"policy": "m", "period": "month", "limit": 9, "remaining": 2, "reset": 5}],
    )
    request.identity = Identity(client, "api_key") if client else None
    reply = await target(request)
    assert isinstance(reply.body, bytes)
    return orjson.loads(reply.body)


async def test_the_answer():
    found = await asked("timeRange=1h&clientId=acme")
    assert (found["clientId"], found["totalRequests"]) == ("acme", 6)
    assert found["quotas"] == {"monthly": {"used": 7, "limit": 9, "reset": 5}}


@pytest.mark.parametrize(
    ("query", "history", "client", "failure"),
    [
        ("", HISTORY, "", Failure.UNAUTHENTICATED),
        ("clientId=other", HISTORY, "acme", Failure.FORBIDDEN),
        ("timeRange=yesterday", HISTORY, "acme", Failure.MALFORMED),
        ("timeRange=0h", HISTORY, "acme", Failure.MALFORMED),
        ("a&" * 50, HISTORY, "acme", Failure.MALFORMED),
        ("", StoreDown("late"), "acme", Failure.NO_ENDPOINT),
    ],
)
async def test_refusals(query: str, history: History | Exception, client: str, failure: Failure):
    with pytest.raises(Failed) as raised:
        await asked(query, history, client)
    assert raised.value.failure is failure
