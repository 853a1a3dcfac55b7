"""The rules of the whole suite (tests/conftest.py) hold."""

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
BROKEN = """
import asyncio

def breaks():
    raise ZeroDivisionError("in a callback")

def test_callback():
    async def main():
        asyncio.get_running_loop().call_soon(breaks)
        await asyncio.sleep(0)
    asyncio.run(main())

def test_task():
    async def fails():
        raise ZeroDivisionError("in a task")
    async def main():
        task = asyncio.ensure_future(fails())
        await asyncio.sleep(0)
    asyncio.run(main())

def test_good(): ...
"""


def run(directory: Path, text: str) -> subprocess.CompletedProcess[str]:
    """The suite's rules in CI, on these tests."""
    (directory / "test_one.py").write_text(text)
    environ = {
        name: value for name, value in os.environ.items() if not name.startswith(("COV", "PYTEST"))
    }
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "tests.conftest", "-p", "no:cacheprovider", str(directory)],
        cwd=ROOT, env={**environ, "CI": "true"}, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip


def test_skipped_tests_fail_in_ci(tmp_path: Path) -> None:
    ran = run(tmp_path, SKIPPED)
    assert ran.returncode == 1, ran.stdout + ran.stderr
    assert "1 failed, 2 errors" in ran.stdout
    for reason in ("program", "server", "fixture"):
        assert f"skipped, which is a failure with CI=true: Skipped: no such {reason}" in ran.stdout


def test_errors_that_only_the_loop_sees_fail_a_test(tmp_path: Path) -> None:
    ran = run(tmp_path, BROKEN)
    assert ran.returncode == 1, ran.stdout + ran.stderr
    assert "3 passed, 2 errors" in ran.stdout
    for where in ("callback", "task"):
        assert f"ZeroDivisionError: in a {where}" in ran.stdout
