"""How many workers "auto" is: affinity, and quotas of the cgroup and those above it."""

from __future__ import annotations

import os

import pytest

from gateway.config.tables.server import ServerConfig
from gateway.lifetime.process import cores, worker_count


@pytest.fixture(autouse=True)
def affinity(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)))


def test_a_number_is_that_number():
    assert worker_count(ServerConfig(workers=3)) == 3


@pytest.mark.parametrize(
    ("lines", "files", "expected"),
    [
        ("0::/app\n", {}, 8),
        ("0::/app\n", {"app/cpu.max": "max 100000"}, 8),
        ("0::/app\n", {"app/cpu.max": "250000 100000"}, 2),
        ("0::/app\n", {"app/cpu.max": "50000 100000"}, 1),
        ("0::/app/inner\n", {"app/cpu.max": "300000 100000", "app/inner/cpu.max": "max 1"}, 3),
        ("0::/\n", {"cpu.max": "400000 100000"}, 4),
        ("0::/app\n", {"app/cpu.max": "what is this"}, 8),
        (
            "4:memory:/app\n3:cpu,cpuacct:/app\n",
            {
                "cpu,cpuacct/app/cpu.cfs_quota_us": "600000",
                "cpu,cpuacct/app/cpu.cfs_period_us": "100000",
            },
            6,
        ),
        (
            "3:cpu,cpuacct:/app\n",
            {
                "cpu,cpuacct/app/cpu.cfs_quota_us": "-1",
                "cpu,cpuacct/app/cpu.cfs_period_us": "100000",
            },
            8,
        ),
    ],
)
def test_auto_heeds_affinity_and_quota(tmp_path, lines, files, expected):
    own = tmp_path / "own"
    own.write_text(lines)
    for name, text in files.items():
        file = tmp_path / "cgroups" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    assert cores(tmp_path / "cgroups", own) == expected


def test_without_proc(tmp_path):
    assert cores(tmp_path, tmp_path / "none") == 8
