"""Outliers: who stands out among its peers, and that what is wrong with all of them ejects
nobody."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.config.tables.health import OutlierConfig
from gateway.upstream.pool.outlier import Outliers, Tally, judge

CONFIG = OutlierConfig(interval=10.0, minimum_requests=10, failure_rate=0.2, latency=3.0)

CASES = [
    # description, (requests, failures, mean ms) of a, b, c, who stands out
    ("all are well", ((100, 0, 10), (100, 0, 12), (100, 1, 11)), ""),
    ("one fails half of the time", ((100, 50, 10), (100, 0, 10), (100, 0, 10)), "a"),
    ("one fails a little more than the rest", ((100, 19, 10), (100, 0, 10), (100, 0, 10)), ""),
    ("all fail alike", ((100, 90, 10), (100, 95, 10), (100, 88, 10)), ""),
    ("one is slow", ((100, 0, 10), (100, 0, 500), (100, 0, 12)), "b"),
    ("one is slower, by less than the noise", ((100, 0, 1), (100, 0, 5), (100, 0, 1)), ""),
    ("all are slow", ((100, 0, 500), (100, 0, 510), (100, 0, 490)), ""),
    ("too few requests to be judged", ((9, 9, 900), (100, 0, 10), (100, 0, 10)), ""),
    ("peers with too few do not count", ((100, 50, 10), (9, 0, 10), (9, 0, 10)), ""),
    ("nobody to be compared with", ((100, 100, 10), (0, 0, 0), (0, 0, 0)), ""),
    ("no more than half, the worst", ((100, 0, 100), (100, 90, 10), (100, 0, 10)), "b"),
]


def tallies(figures: tuple[tuple[int, int, int], ...]) -> dict[str, Tally]:
    return {
        name: Tally(n, failed, n * mean / 1000)
        for name, (n, failed, mean) in zip("abc", figures, strict=True)
    }


@pytest.mark.parametrize(
    ("figures", "found"), [case[1:] for case in CASES], ids=[case[0] for case in CASES]
)
def test_judgement(figures: tuple[tuple[int, int, int], ...], found: str) -> None:
    assert "".join(judge(tallies(figures), CONFIG)) == found


def test_the_reasons_say_what_was_seen() -> None:
    assert judge(tallies(((100, 50, 10), (100, 1, 10), (100, 0, 10))), CONFIG) == {
        "a": "50% of 100 requests failed, 0.5% of its peers'"
    }
    assert judge(tallies(((100, 0, 400), (100, 0, 10), (100, 0, 10))), CONFIG) == {
        "a": "its answers take 400 ms, its peers' 10 ms"
    }


def test_either_can_be_switched_off() -> None:
    by_time = OutlierConfig(minimum_requests=10, failure_rate=0.0)
    by_failures = OutlierConfig(minimum_requests=10, latency=0.0)
    assert judge(tallies(((100, 50, 10), (100, 0, 10), (100, 0, 10))), by_time) == {}
    assert judge(tallies(((100, 0, 900), (100, 0, 10), (100, 0, 10))), by_failures) == {}


def test_who_answers_seldom_goes_on_counting() -> None:
    outliers: Outliers[str] = Outliers(CONFIG, 0.0)
    for at, found in ((1.0, []), (11.0, ["slow"])):
        for _ in range(5):
            assert outliers.observe(at, "slow", False, 1.0) == {}
        for _ in range(20):
            assert outliers.observe(at + 0.5, "a", False, 0.01) == {}
        assert list(outliers.observe(at + 9.5, "a", False, 0.01)) == found
    outliers.forget("slow")
    outliers.forget("nobody")


@given(
    st.lists(
        st.tuples(st.integers(0, 200), st.floats(0, 1), st.floats(0, 1)), min_size=1, max_size=6
    )
)
def test_never_everybody_and_nobody_unjudged(figures: list[tuple[int, float, float]]) -> None:
    known = {
        index: Tally(n, int(n * share), n * mean) for index, (n, share, mean) in enumerate(figures)
    }
    found = judge(known, CONFIG)
    judged = {index for index, tally in known.items() if tally.total >= CONFIG.minimum_requests}
    assert set(found) <= judged
    assert not judged or 2 * len(found) <= len(judged)
