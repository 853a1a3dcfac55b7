"""What outcomes do to endpoints: ejections, outliers, circuits of single endpoints, the line in the
log."""

from __future__ import annotations

import logging
from collections.abc import Callable

import pytest

from gateway.config.tables.health import BreakerConfig, OutlierConfig, PassiveHealthConfig
from gateway.core.failures import Failure
from gateway.upstream.pool.health import Status
from tests.unit.upstream.pool.world import BREAKER, HEALTH, PASSIVE, World


def test_failures_in_time_eject_and_time_brings_back() -> None:
    world = World("a", "b", passive_health=PASSIVE)
    world.fail("a")
    world.now += 19.0
    world.fail("a")
    assert world.eligible() == "b"
    assert world.healthy() == {"a:80": 0, "b:80": 1}
    world.fail("a")
    world.now += 19.9
    assert world.exchange().host == "b"
    world.now += 0.1
    world.exchange()
    assert world.eligible() == "a b"
    assert world.healthy() == {"a:80": 1, "b:80": 1}


def test_failures_far_apart_do_not_eject() -> None:
    world = World("a", "b", passive_health=PASSIVE)
    for _ in range(5):
        world.fail("a")
        world.now += 20.0
    assert world.eligible() == "a b"


def test_the_only_endpoint_is_never_ejected() -> None:
    world = World("a", passive_health=PASSIVE)
    world.fail("a", 10)
    assert world.exchange().host == "a"
    world = World("a", "b", passive_health=PASSIVE)
    world.fail("a", 2)
    world.reconfigure("a", passive_health=PASSIVE)
    assert world.eligible() == "a"


def test_without_passive_health_nobody_is_ejected() -> None:
    world = World("a", "b")
    world.fail("a", 10)
    assert world.eligible() == "a b"
    assert world.endpoint("a").health.error == "connection reset"


def test_outcomes_without_blame_count_for_nothing() -> None:
    world = World("a", "b", passive_health=PASSIVE, circuit_breaker=BREAKER)
    for _ in range(10):
        world.exchange(None)
    assert world.eligible() == "a b"
    assert world.pool.breaker is not None and world.pool.breaker.failures == 0


def test_probes_of_strangers_are_ignored() -> None:
    world = World("a", "b", health=HEALTH)
    gone = world.endpoint("b")
    world.reconfigure("a", health=HEALTH)
    for _ in range(3):
        world.pool.probed(gone, False, "refused")
    assert gone.health.status is Status.UNKNOWN
    world.reconfigure("a")
    world.probe("a", False, False, False)
    assert world.eligible() == "a"


def events(world: World) -> list[tuple[str, Callable[[], object], str]]:
    """What happens, in order, and the line it logs ("" for none)."""
    text = "upstream becamera: "
    return [
        (
            "INFO",
            lambda: world.probe("a", True),
            text + "a:80 is healthy: 1 check succeeded; 1 of 2 eligible",
        ),
        ("", lambda: world.probe("a", True, False, False), ""),
        (
            "WARNING",
            lambda: world.probe("a", False),
            text
            + "a:80 is unhealthy: 3 checks failed, the last: connection refused; 1 of 2 eligible",
        ),
        ("", lambda: world.probe("a", True), ""),
        (
            "INFO",
            lambda: world.probe("a", True),
            text + "a:80 is healthy: 2 checks succeeded; 1 of 2 eligible",
        ),
        ("", lambda: world.fail("a"), ""),
        (
            "WARNING",
            lambda: world.fail("a"),
            text
            + (
                "a:80 is ejected for 20 s: 2 requests failed, the last: connection reset; 1 of 2 "
                "eligible"
            ),
        ),
        (
            "WARNING",
            lambda: world.fail("a"),
            text + "circuit open: 3 failures in a row, the last at a:80: connection reset",
        ),
        ("", lambda: world.refused(), ""),
        (
            "INFO",
            lambda: (setattr(world, "now", 1020.0), world.pool.refresh()),
            text + "a:80 is back: its ejection is over",
        ),
        (
            "INFO",
            lambda: (setattr(world, "now", 1030.0), world.exchange()),
            text + "circuit half-open: 30 s have passed",
        ),
        ("INFO", lambda: world.exchange(), text + "circuit closed: its trials succeeded"),
        (
            "WARNING",
            lambda: world.fail("b", 3),
            text + "circuit open: 3 failures in a row, the last at b:80: connection reset",
        ),
        ("INFO", lambda: world.pool.reset_circuit(), text + "circuit closed: reset by hand"),
    ]


def test_every_change_of_state_is_one_line(caplog: pytest.LogCaptureFixture) -> None:
    world = World("a", "b", health=HEALTH, passive_health=PASSIVE, circuit_breaker=BREAKER)
    caplog.set_level(logging.DEBUG, "gateway.upstream")
    for level, happen, line in events(world):
        caplog.clear()
        happen()
        logged = [
            (record.levelname, record.getMessage())
            for record in caplog.records
            if "b:80 is" not in record.getMessage()
        ]
        assert logged == ([(level, line)] if line else [])


def test_a_failure_without_a_reason_has_one() -> None:
    world = World("a")
    world.exchange(False)
    assert world.endpoint("a").health.error == "a request failed"


OUTLIER = OutlierConfig(
    interval=1.0, minimum_requests=5, ejection_time=10.0, max_ejection_time=25.0, max_ejected=0.5
)
EACH = BreakerConfig(
    failure_threshold=2, recovery_timeout=30.0, half_open_requests=1, scope="endpoint"
)


def serve(world: World, bad: str = "", slow: str = "", requests: int = 10) -> None:
    """A second of requests to every endpoint that can be picked."""
    for endpoint in world.pool.eligible:
        for _ in range(requests):
            world.pool.observe(
                endpoint, endpoint.host in bad, 1.0 if endpoint.host in slow else 0.01
            )
    world.now += 1.0
    world.pool.observe(world.pool.eligible[-1], False, 0.01)


def test_an_outlier_is_ejected_for_longer_each_time(caplog: pytest.LogCaptureFixture) -> None:
    world = World("a", "b", "c", outlier=OUTLIER)
    outs = []
    for _ in range(4):
        serve(world, bad="a")
        assert world.eligible() == "b c"
        outs.append(world.endpoint("a").health.passive.until - world.now)
        world.now += outs[-1]
        world.pool.refresh()
        assert world.eligible() == "a b c"
    assert outs == [10.0, 20.0, 25.0, 25.0]
    assert (
        "a:80 is ejected for 10 s as an outlier: 100% of 10 requests failed, 0.0% of its peers'; "
        "2 of 3 eligible"
    ) in caplog.text


def test_a_slow_one_is_an_outlier_too_and_no_more_than_the_share_go() -> None:
    world = World(
        "a",
        "b",
        "c",
        "d",
        "e",
        outlier=OutlierConfig(interval=1.0, minimum_requests=5, max_ejected=0.2),
    )
    serve(world, bad="b", slow="a")
    assert world.eligible() == "a c d e"
    assert world.pool.status()["endpoints"][1]["last_error"].startswith("100% of")
    serve(world, slow="a")
    assert world.eligible() == "a c d e"


def test_what_is_out_or_not_watched_is_not_counted() -> None:
    world = World("a", "b")
    world.pool.observe(world.endpoint("a"), True, 1.0)
    world.reconfigure("a", "b", outlier=OUTLIER)
    serve(world, bad="a")
    a = world.endpoint("a")
    until = a.health.passive.until
    world.now += 2.0
    for _ in range(20):
        world.pool.observe(a, True, 1.0)
    assert a.health.passive.until == until
    world.reconfigure("a", "b")
    assert world.eligible() == "a b"


def test_the_ceiling_holds_for_passive_health_too() -> None:
    world = World("a", "b", "c", passive_health=PassiveHealthConfig(max_fails=1, max_ejected=0.4))
    world.fail("a")
    world.fail("b")
    assert world.eligible() == "b c"


@pytest.mark.parametrize(
    ("sign", "ejected", "opened"),
    [("429", True, False), ("503", False, True), ("connect", False, False)],
)
def test_what_counts_is_chosen(sign: str, ejected: bool, opened: bool) -> None:
    passive, breaker = (
        PassiveHealthConfig(max_fails=1, on=("429",)),
        BreakerConfig(failure_threshold=1, on=("503",)),
    )
    world = World("a", "b", passive_health=passive, circuit_breaker=breaker)
    assert world.pool.blamed == {429, 503}
    endpoint = world.pool.pick("k")
    world.pool.release(endpoint, False, "bad", sign)
    assert bool(endpoint.health.passive.until) is ejected
    assert world.pool.breaker is not None
    assert bool(world.pool.breaker.state) is opened


def test_an_answer_that_is_not_held_against_it_ends_a_row() -> None:
    world = World("a", circuit_breaker=BreakerConfig(failure_threshold=2, on=("connect",)))
    for sign in ("connect", "503", "connect", "reset"):
        world.pool.release(world.pool.pick("k"), False, "bad", sign)
    assert world.pool.breaker is not None
    assert (world.pool.breaker.state, world.pool.breaker.failures) == (0, 1)


def test_each_endpoint_has_its_circuit(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    world = World("a", "b", circuit_breaker=EACH)
    state = world.telemetry.circuit_state
    world.fail("a", 2)
    assert world.eligible() == "b"
    assert state.get(("becamera",)) == 0
    assert {world.exchange().host for _ in range(4)} == {"b"}
    assert world.pool.status()["endpoints"][0]["circuit"] == "open"
    assert world.pool.status()["status"] == "degraded"
    world.now += 30.0
    trial = world.pool.pick("k")
    assert trial.host == "a"
    assert {world.exchange().host for _ in range(4)} == {"b"}
    world.pool.release(trial, True)
    assert world.eligible() == "a b"
    assert "circuit of a:80 open: 2 failures in a row" in caplog.text
    assert "circuit of a:80 closed" in caplog.text


def test_all_circuits_open_is_an_open_circuit_until_it_is_reset() -> None:
    world = World("a", "b", circuit_breaker=EACH)
    world.fail("a", 2)
    world.now += 5.0
    world.fail("b", 2)
    assert world.telemetry.circuit_state.get(("becamera",)) == 1
    failed = world.refused()
    assert (failed.failure, failed.headers[0][1]) == (Failure.CIRCUIT_OPEN, b"25")
    assert world.pool.reset_circuit()
    assert world.eligible() == "a b"
    world.fail("a", 2)
    world.now += 30.0
    trial = world.pool.pick("k")
    world.pool.release(trial, None)
    assert world.pool.pick("k") is trial
    world.pool.release(trial, False)
    assert world.eligible() == "b"
    world.reconfigure("a", "b")
    assert world.eligible() == "a b"
    assert not world.pool.reset_circuit()


def test_the_series_of_who_is_gone_end_when_nothing_of_it_is_left() -> None:
    world = World("a", "b", outlier=OUTLIER)
    a, b = world.endpoint("a"), world.endpoint("b")
    series = world.telemetry.upstream_requests
    series.add(("other", "a:80", "200"))
    durations = world.telemetry.upstream_endpoint_duration
    durations.cell(("becamera", "b:80"))
    durations.cell(("other", "b:80"))

    def shown() -> list[str]:
        return [endpoint for upstream, endpoint, _ in series.values if upstream == "becamera"]

    for endpoint in (a, b):
        series.add(("becamera", endpoint.name, "200"))
        series.add(("becamera", endpoint.name, "503"))
        world.pool.observe(endpoint, False, 0.01)
    a.in_flight = 1
    world.reconfigure("c", outlier=OUTLIER)
    assert set(shown()) == {"a:80", "b:80"}, "what it has just answered may be counted still"
    world.reconfigure("d", outlier=OUTLIER)
    assert set(shown()) == {"a:80"}, "it has one in flight"
    assert list(durations.cells) == [("other", "b:80")]
    world.reconfigure("d", "a", outlier=OUTLIER)
    a.in_flight = 0
    world.reconfigure("d", "a", outlier=OUTLIER)
    assert set(shown()) == {"a:80"}, "another of that name is there"
    for names in ("d", "e", "f"):
        world.reconfigure(names, outlier=OUTLIER)
    assert shown() == []
    assert ("other", "a:80", "200") in series.values
    assert world.pool.outliers is not None and a not in world.pool.outliers._tallies
    series.add(("becamera", "f:80", "200"))
    world.pool.close()
    assert shown() == []
