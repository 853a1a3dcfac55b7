"""Memory of callers that never come back, measured in processes of their own."""

from __future__ import annotations

import subprocess
import sys

import pytest

from gateway.lifetime import heap

SCRIPT = """
import asyncio, os, sys
from pathlib import Path
from gateway.core.clock import Clock
from gateway.limits import buckets
from gateway.limits.algorithms import Limit
from gateway.limits.quotas import quota_limit, zone_of

def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20

async def main(name, waiting):
    now = [1000.0]
    limit = quota_limit(9, "hour", zone_of("UTC")) if name == "quota" else Limit.windowed(9, 60.0)
    one = buckets.Buckets(name, limit, Clock(lambda: now[0], lambda: now[0]))
    def come(key):
        state, (after, left, _) = one.check(key, now[0], 1, 10**6)
        if left >= 0:
            one.commit(key, after, now[0], 1)
    come("busy")
    before = resident()
    for number in range(COUNT):
        now[0] += 50 / COUNT
        come(f"10.0.{number}")
    full, now[0] = resident(), now[0] + 4000
    if waiting:
        while one._tended:
            now[0] += 1.0
            await asyncio.sleep(0.001)
    else:
        for _ in range(2000):
            now[0] += 0.05
            come("busy")
    print(full - before, resident() - before, len(one))

COUNT = 200_000
buckets.PACE = buckets.REST = 0.002 if sys.argv[2:] else 0.05
asyncio.run(main(sys.argv[1], bool(sys.argv[2:])))
"""


def measured(*words: str) -> tuple[float, float, int]:
    """(MiB for them, MiB still there after a window, states)."""
    out = subprocess.run(
        [sys.executable, "-c", SCRIPT, *words],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    ).stdout
    held, left, count = out.split()
    return float(held), float(left), int(count)


@pytest.mark.parametrize("name", ["sliding_window", "sliding_log"])
def test_callers_that_come_once_are_gone_after_a_window(name: str):
    held, left, count = measured(name)
    assert held > 25 and count == 1
    assert left < held / 3, f"{left:.1f} MiB of {held:.1f} are still there"


def test_they_are_forgotten_even_if_nobody_ever_comes_again():
    held, left, count = measured("quota", "waiting")
    assert held > 25 and count <= 1000
    assert left < held / 3, f"{left:.1f} MiB of {held:.1f} are still there"


def test_where_the_c_library_has_no_trimming_it_is_left_out(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(heap, "_trim", None)
    heap.give_back()


PIECES = """
import resource, sys
from gateway.lifetime import heap
if sys.argv[1] == "settled":
    assert heap.settle()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(300):
    pieces = [bytes(160_000) for _ in range(6)]
    del pieces
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(heap._set is None, reason="no glibc")
def test_pieces_of_bodies_do_not_grow_and_trim_the_heap():
    faults = {}
    for how in ("settled", "as it is"):
        command = [sys.executable, "-c", PIECES, how]
        faults[how] = int(
            subprocess.run(command, check=True, capture_output=True, text=True, timeout=300).stdout
        )
    assert faults["settled"] < faults["as it is"] / 4, faults
