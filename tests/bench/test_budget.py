"""What a request costs must not grow unnoticed: calls and bytecodes, counted in a process of its
own, against bench/budget.json.

When a change is worth its cost: `python bench/budget.py check --record`, and the new figures are
part of that change.
"""

from __future__ import annotations

import os
import subprocess
import sys

from tests.process import ROOT


def test_no_profile_is_more_than_5_percent_over_its_budget() -> None:
    # Coverage traces with the same hook that counts bytecodes, so it must not follow into the
    # process.
    environ = {name: value for name, value in os.environ.items() if not name.startswith("COV")}
    ran = subprocess.run(
        [sys.executable, "bench/budget.py", "check"],
        cwd=ROOT,
        env=environ,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
