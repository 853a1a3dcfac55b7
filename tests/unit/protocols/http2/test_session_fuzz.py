"""Generated frames into the session and into h2, for a bounded time; `bench/fuzz_http2.py` runs the
same for as long as one likes."""

from __future__ import annotations

import random

import pytest

from tests.http2_fuzz import check


@pytest.mark.parametrize("seed", range(10))
def test_whatever_is_sent_both_see_the_same_requests(seed: int) -> None:
    rng = random.Random(seed)
    for _ in range(100):
        check(rng)
