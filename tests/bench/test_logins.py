"""bench/logins.py works; what it shows is for whoever runs it with the machine to itself."""

from __future__ import annotations

import re

import pytest

from bench import logins


async def test_it_measures_both(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(logins, "SECONDS", 0.1)
    said: list[str] = []
    ratio = await logins.run(1, (64, 1, 1), said.append)
    plain, through = (float(re.search(r"([\d.]+) a second", line)[1]) for line in said[:2])  # type: ignore[index]
    assert plain > 0 and ratio == pytest.approx(through / plain, rel=0.1)
    assert "by CPU" in said[2]
