"""Every system under examples/ starts, and does what its lines say: bin/demo --system NAME --check."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SYSTEMS = sorted(path.parent.name for path in ROOT.glob("examples/*/demo.toml"))


@pytest.mark.parametrize("name", SYSTEMS)
def test_a_system_does_what_its_lines_say(name: str):
    done = subprocess.run(
        [sys.executable, str(ROOT / "demo"), "--system", name, "--check", "--free-ports"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    passed = re.search(r"^(\d+) passed, 0 failed$", done.stdout, re.MULTILINE)
    assert passed is not None
    assert int(passed[1]) >= 25
