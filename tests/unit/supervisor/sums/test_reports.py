"""Health of several workers: numbers are summed, the worst condition is shown."""

from __future__ import annotations

from typing import Any

from gateway.supervisor.sums.reports import merged


def report(status: str = "healthy", **upstream: Any) -> dict[str, Any]:
    endpoint = {"url": "http://a:80", "in_flight": 0, "idle": 0, "last_error": "", "circuit": None}
    endpoint |= upstream.pop("endpoint", {})
    cameras = {
        "status": status,
        "in_flight": 0,
        "retrying": 0,
        "waiting": 0,
        "limit": None,
        "trying_all": False,
        "circuit": None,
        "endpoints": [endpoint],
    }
    return {"status": status, "upstreams": {"cameras": cameras | upstream}}


def test_without_workers_it_is_the_supervisors_own():
    assert merged(report(), [{}]) == report()


def test_numbers_are_sums_and_conditions_the_worst():
    said = merged(
        report(),
        [
            report(in_flight=2, limit=5, endpoint={"in_flight": 2, "idle": 1}),
            report("degraded", in_flight=1, limit=6, trying_all=True, endpoint={"idle": 3}),
        ],
    )
    cameras = said["upstreams"]["cameras"]
    assert (said["status"], cameras["status"]) == ("degraded", "degraded")
    assert (cameras["in_flight"], cameras["limit"], cameras["trying_all"]) == (3, 11, True)
    assert (cameras["endpoints"][0]["in_flight"], cameras["endpoints"][0]["idle"]) == (2, 4)


def test_circuits_and_errors():
    opened = {"state": "open", "failures": 3, "retry_after": 2.0}
    closed = {"state": "closed", "failures": 0, "retry_after": 0.0}
    said = merged(
        report(circuit=closed),
        [
            report(circuit=opened, endpoint={"circuit": "half-open", "last_error": "reset"}),
            report(circuit=closed, endpoint={"circuit": "closed"}),
        ],
    )
    cameras = said["upstreams"]["cameras"]
    assert cameras["circuit"] == opened
    assert (cameras["endpoints"][0]["circuit"], cameras["endpoints"][0]["last_error"]) == (
        "half-open",
        "reset",
    )


def test_upstreams_that_a_worker_does_not_have_yet_and_the_store():
    new = {"status": "healthy", "upstreams": {}, "store": {"status": "healthy"}}
    down = {**new, "store": {"status": "unhealthy"}}
    said = merged(report(), [new, down])
    assert said["upstreams"] == report()["upstreams"]
    assert said["store"] == {"status": "unhealthy"}
