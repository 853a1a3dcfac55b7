#!/usr/bin/env python3
"""Generated frames and requests of HTTP/2 into the gateway's codec and into h2, until the time is
over.

    .venv/bin/python bench/fuzz_http2.py [SECONDS] [SEED]      600 seconds, any seed

Ends with exit status 1 and the bytes at the first disagreement that tests/http2_fuzz.py does not
name.
"""

from __future__ import annotations

import random
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tests.http2_fuzz import check


def main() -> None:
    seconds = float((*sys.argv, "", "")[1] or 600)
    seed = int((*sys.argv, "", "")[2] or time.time_ns())
    rng = random.Random(seed)
    count = 0
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        try:
            check(rng)
        except AssertionError as error:
            sys.exit(f"seed {seed}, number {count}: {error}")
        count += 1
    print(f"seed {seed}: {count} in {seconds:g} s, no crash, no disagreement that is not named")


if __name__ == "__main__":
    main()
