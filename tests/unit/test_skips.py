"""In CI no test is skipped silently."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.process import ROOT

SKIPPED = """
import pytest

@pytest.mark.skipif(True, reason="no such program")
def test_marked(): ...

def test_called():
    pytest.skip("no such server")

@pytest.fixture
def server():
    pytest.skip("no such fixture")

def test_set_up(server): ...
"""


def test_skipped_tests_fail_in_ci(tmp_path: Path) -> None:
    (tmp_path / "test_one.py").write_text(SKIPPED)
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("COV", "PYTEST"))}
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "tests.conftest", "-p", "no:cacheprovider", str(tmp_path)],
        cwd=ROOT, env={**environ, "CI": "true"}, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert ran.returncode == 1, ran.stdout + ran.stderr
    assert "1 failed, 2 errors" in ran.stdout
    for reason in ("program", "server", "fixture"):
        assert f"skipped, which is a failure with CI=true: Skipped: no such {reason}" in ran.stdout
