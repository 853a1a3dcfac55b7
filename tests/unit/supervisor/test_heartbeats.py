"""Which workers count as stuck."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gateway.supervisor.heartbeats import AWAY_AFTER, KILL_AFTER, Verdict, verdict


def test_examples():
    assert [verdict(owed) for owed in (0, AWAY_AFTER - 1)] == [Verdict.WELL] * 2
    assert [verdict(owed) for owed in (AWAY_AFTER, KILL_AFTER - 1)] == [Verdict.AWAY] * 2
    assert verdict(KILL_AFTER) is Verdict.KILL


@given(st.integers(0, 1000), st.integers(0, 1000))
def test_owing_more_is_never_better(few, more):
    few, more = sorted((few, more))
    assert verdict(few).value <= verdict(more).value
