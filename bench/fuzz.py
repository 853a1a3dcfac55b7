#!/usr/bin/env python3
"""Generated requests against a gateway in this process, over both ways through serving/, until the
time is over.

    .venv/bin/python bench/fuzz.py [SECONDS] [SEED]      600 seconds, any seed

Ends with exit status 1 and the bytes that were sent at the first thing that does not hold
(tests/fuzz.py says what has to), and states at the end how many were sent and how much memory the
process has grown by since the first tenth.
"""

from __future__ import annotations

import asyncio
import random
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tests.fuzz import BEFORE, Target, generate


def resident() -> int:
    """KiB."""
    return int(
        next(
            line
            for line in Path("/proc/self/status").read_text().splitlines()
            if line.startswith("VmRSS")
        ).split()[1]
    )


async def main() -> None:
    seconds, seed = (
        float((*sys.argv, "", "")[1] or 600),
        int((*sys.argv, "", "")[2] or time.time_ns()),
    )
    rng = random.Random(seed)
    count, early = 0, 0
    with tempfile.TemporaryDirectory() as directory:
        target = await Target(Path(directory)).start()
        began = time.monotonic()
        try:
            while (took := time.monotonic() - began) < seconds:
                await target.check(generate(rng), rng.choice(BEFORE))
                count += 1
                if not early and took > seconds / 10:
                    early = resident()
        except AssertionError as error:
            sys.exit(f"seed {seed}, number {count}: {error}")
        finally:
            tasks = len(asyncio.all_tasks())
            await target.stop()
    print(
        f"seed {seed}: {count} in {seconds:g} s, all held; {tasks} tasks; {early} KiB "
        f"resident, "
        f"then {resident() - early:+d}"
    )


if __name__ == "__main__":
    asyncio.run(main())
