"""The units are what systemd takes without a word, and leave a gateway little to do harm with."""

from __future__ import annotations

import configparser
import re
import subprocess
from pathlib import Path

import pytest

from gateway.lifetime.sockets import LISTENERS
from tests.process import ROOT

UNITS = ROOT / "deploy" / "systemd"
INSTALLED = "/opt/edge-gateway/bin/gateway"
EXPOSURE_MAX = 1.5
"""Of `systemd-analyze security`, from 0 (locked in) to 10."""


@pytest.fixture
def units(tmp_path: Path) -> list[Path]:
    """Copies whose program is one that exists: verification looks for it."""
    copies = []
    for unit in sorted(UNITS.iterdir()):
        text = unit.read_text("utf-8").replace(INSTALLED, "/bin/true")
        copies.append(tmp_path / unit.name)
        copies[-1].write_text(text)
    return copies


def analyze(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["systemd-analyze", *map(str, arguments)], capture_output=True, text=True, check=False
    )


def test_systemd_has_nothing_to_say(units: list[Path]):
    found = analyze("verify", "--man=no", *units)
    assert (found.returncode, found.stderr) == (0, "")


def test_a_key_that_systemd_does_not_know_is_found(units: list[Path]):
    """What the test above relies on."""
    units[0].write_text(units[0].read_text() + "NoSuchKey=1\n")
    assert "NoSuchKey" in analyze("verify", "--man=no", units[0]).stderr


def test_it_is_locked_in(units: list[Path]):
    (service,) = (unit for unit in units if unit.suffix == ".service")
    found = analyze("security", "--offline=true", "--no-pager", service)
    exposure = re.search(r"Overall exposure level for \S+: ([\d.]+)", found.stdout)
    assert exposure is not None, found.stderr
    assert float(exposure[1]) <= EXPOSURE_MAX


def unit(name: str) -> configparser.RawConfigParser:
    parsed = configparser.RawConfigParser(strict=False)
    parsed.optionxform = str  # type: ignore[assignment, method-assign]
    parsed.read(UNITS / name)
    return parsed


def test_what_the_service_promises():
    service = unit("edge-gateway.service")["Service"]
    expected = {
        "Type": "notify", "NoNewPrivileges": "yes", "ProtectSystem": "strict", "MemoryMax": "1G",
        "StateDirectory": "edge-gateway", "Restart": "always", "KillMode": "mixed",
    }  # fmt: skip
    assert {key: service[key] for key in expected} == expected
    assert float(service["WatchdogSec"]) > 0
    # systemd warns at every start where the directory has another mode.
    mode = service["ConfigurationDirectoryMode"]
    assert f"install -d -m {mode} -g edge-gateway" in (ROOT / "docs" / "deploy.md").read_text()
    assert service["ExecStart"].startswith(f"{INSTALLED} run ")


def test_the_socket_is_the_data_planes():
    assert unit("edge-gateway.socket")["Socket"]["FileDescriptorName"] == LISTENERS[0]
