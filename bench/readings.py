#!/usr/bin/env python3
"""Random paths against models of frameworks: none that an open route has is behind auth there.

    .venv/bin/python bench/readings.py [PATHS] [SEED]      a million paths take about four minutes

The models are in tests/frameworks.py; tests/unit/routing/test_readings.py runs a bounded part.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tests.unit.routing.test_readings import bypasses


def main() -> int:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else 1
    found = 0
    for target, framework, reading in bypasses(seed, count):
        found += 1
        print(f"{target!r} is {reading!r} to {framework}")
    print(f"{count} paths, seed {seed}: {found} lead around auth")
    return int(found > 0)


if __name__ == "__main__":
    sys.exit(main())
