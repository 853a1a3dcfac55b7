"""Pauses between starts: none after a good life, bounded after bad ones."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gateway.supervisor.restarts import FIRST, LONGEST, SETTLED, failures, pause

lives = st.lists(st.none() | st.floats(0, 100))


def test_examples():
    assert pause(failures(7, SETTLED)) == 0
    assert pause(failures(0, 0.2)) == FIRST
    assert pause(failures(1, None)) == 2 * FIRST
    assert pause(failures(1000, None)) == LONGEST


@given(lives)
def test_pauses_grow_until_a_life_is_long_enough(served):
    count, before = 0, 0.0
    for seconds in served:
        count = failures(count, seconds)
        now = pause(count)
        assert 0 <= now <= LONGEST
        if seconds is not None and seconds >= SETTLED:
            assert now == 0
        else:
            assert now >= before and now >= FIRST
        before = now
