"""The example plugins pass their own tests, as a reader runs them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.process import ROOT

PLUGINS = sorted(path.parent for path in (ROOT / "examples" / "plugins").glob("*/pyproject.toml"))


def test_there_are_three() -> None:
    assert [one.name for one in PLUGINS] == ["lookup", "redact", "webhook"]


@pytest.mark.parametrize("folder", PLUGINS, ids=lambda one: one.name)
def test_a_plugins_own_tests(folder: Path) -> None:
    environ = {name: value for name, value in os.environ.items() if not name.startswith("COV")}
    # Without the plugins of the gateway's own suite: those who write one need none of them.
    without = [f"-pno:{name}" for name in ("cacheprovider", "asyncio", "aiohttp", "xdist")]
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-W", "error", *without],
        cwd=folder,
        env={**environ, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0 and " passed in " in ran.stdout, ran.stdout + ran.stderr
