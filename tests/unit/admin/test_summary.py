"""The figures of the summary."""

from __future__ import annotations

from gateway.admin.summary import summary
from gateway.core.telemetry import Telemetry
from tests.telemetry import observe

HEALTH = {
    "upstreams": {
        "a": {"status": "healthy", "circuit": {"state": "open"}},
        "b": {"status": "unhealthy", "circuit": None},
    }
}


def test_nothing_yet():
    found = summary(Telemetry(), {"upstreams": {}}, {"uptime_seconds": 1.5})
    assert found["requests"] == {
        "total": 0, "by_status": {}, "error_rate": 0.0, "in_flight": 0,
        "mean_ms": None, "p50_ms": None, "p95_ms": None, "p99_ms": None,
    }  # fmt: skip
    assert (found["uptime_seconds"], found["services"]) == (1.5, {})


def test_figures():
    telemetry = Telemetry()
    for route, code, count in (("x", "200", 90), ("y", "204", 5), ("x", "404", 1), ("x", "502", 4)):
        telemetry.requests.add((route, "GET", code), count)
    for route, seconds, count in (("x", 0.02, 90), ("y", 0.2, 8), ("y", 60.0, 2)):
        cell = telemetry.request_duration.cell((route, "GET"))
        for _ in range(count):
            observe(cell, seconds)
    for endpoint, code, count in (("one", "200", 7), ("two", "0", 2), ("two", "503", 1)):
        telemetry.upstream_requests.add(("a", endpoint, code), count)
    observe(telemetry.upstream_duration.cell(("a",)), 0.5)
    telemetry.auth.add(("jwt", "ok"), 3)
    telemetry.auth.add(("api_key", "ok"))
    telemetry.cache_requests.add(("x", "hit"), 2)
    telemetry.failures.add(("no_route",))
    telemetry.rate_limited.add(("x", "standard"), 6)
    found = summary(telemetry, HEALTH, {"uptime_seconds": 60.0})
    assert found["requests"] == {
        "total": 100,
        "by_status": {"2xx": 95, "4xx": 1, "5xx": 4},
        "error_rate": 0.04,
        "in_flight": 0,
        "mean_ms": round((0.02 * 90 + 0.2 * 8 + 60 * 2) * 10, 3),
        "p50_ms": 25.0,
        "p95_ms": 250.0,
        "p99_ms": None,
    }
    assert found["services"] == {
        "a": {
            "status": "healthy",
            "circuit": "open",
            "requests": 10,
            "errors": 3,
            "mean_ms": 500.0,
        },
        "b": {"status": "unhealthy", "circuit": None, "requests": 0, "errors": 0, "mean_ms": None},
    }
    assert (found["authentication"], found["cache"]) == ({"ok": 4}, {"hit": 2})
    assert (found["failures"], found["rate_limited"]) == ({"no_route": 1}, 6)
