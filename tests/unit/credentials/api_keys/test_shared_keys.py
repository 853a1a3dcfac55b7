"""What a gateway knows of keys it has not been asked about."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gateway.credentials.api_keys.shared_keys import HashPrefixes

STARTS = st.integers(0, 2**64 - 1) | st.integers(0, 50)


@given(st.lists(STARTS, max_size=100), STARTS)
def test_beginnings_are_a_set(starts: list[int], other: int):
    known = HashPrefixes()
    for start in starts:
        known.add(start)
    assert all(start in known for start in starts)
    assert (other in known) is (other in set(starts)) and len(known) == len(set(starts))
