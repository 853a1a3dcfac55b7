"""Limits: fixed ones stay, adaptive ones follow the time that answers take."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gateway.config.tables.traffic import LimitConfig
from gateway.upstream.pool.limiter import SAMPLES, Limiter

ADAPTIVE = LimitConfig(requests=100, adaptive=True, minimum=5)


def feed(limiter: Limiter, seconds: float, rounds: int, live: int | None = None) -> None:
    for _ in range(rounds * SAMPLES):
        limiter.observe(seconds, int(limiter.limit) if live is None else live)


def test_a_fixed_limit_stays() -> None:
    limiter = Limiter(LimitConfig(requests=7))
    feed(limiter, 9.0, 3)
    assert limiter.limit == 7
    assert repr(limiter) == "<Limiter 7 of 7>"


def test_slower_answers_lower_it_and_usual_ones_bring_it_back() -> None:
    limiter = Limiter(ADAPTIVE)
    feed(limiter, 0.01, 20)
    assert limiter.limit == 100
    feed(limiter, 0.1, 5)
    assert limiter.limit < 70
    feed(limiter, 0.01, 60)
    assert limiter.limit == 100


def test_it_does_not_grow_while_nobody_asks() -> None:
    limiter = Limiter(ADAPTIVE)
    feed(limiter, 0.01, 20)
    feed(limiter, 0.1, 5)
    lowered = limiter.limit
    feed(limiter, 0.01, 5, live=1)
    assert limiter.limit == lowered


@given(st.lists(st.tuples(st.floats(0, 10), st.integers(0, 200)), max_size=30))
def test_it_stays_within_its_bounds(steps: list[tuple[float, int]]) -> None:
    limiter = Limiter(ADAPTIVE)
    for seconds, live in steps:
        feed(limiter, seconds, 1, live)
        assert 5 <= limiter.limit <= 100
