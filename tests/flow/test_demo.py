"""bin/demo does what it prints. Started as users start it, but on free ports and with this
interpreter."""

from __future__ import annotations

import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
DEMO = [sys.executable, str(ROOT / "demo")]


@pytest.mark.interpreted  # Its lines call bin/gateway: with an environment of the copy's own.
def test_every_printed_line_does_what_it_says():
    done = subprocess.run(
        [*DEMO, "--check", "--free-ports"], cwd=ROOT, capture_output=True, text=True, timeout=240
    )
    assert done.returncode == 0, done.stdout + done.stderr
    passed = re.search(r"^(\d+) passed, 0 failed$", done.stdout, re.MULTILINE)
    assert passed is not None
    assert int(passed[1]) >= 13


def test_interrupt_ends_everything_it_started():
    process = subprocess.Popen(
        [*DEMO, "--free-ports"], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    printed = ""
    while "Ctrl-C" not in printed and (line := process.stdout.readline()):
        printed += line
    port = re.search(r"The gateway is at http://127\.0\.0\.1:(\d+)", printed)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert port is not None, printed + errors
    assert process.returncode == 0, errors
    with socket.socket() as one:
        assert one.connect_ex(("127.0.0.1", int(port[1]))) != 0


def test_a_taken_port_is_said():
    with socket.socket() as one:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            one.bind(("127.0.0.1", 3003))
            one.listen()
        except OSError:
            pass  # somebody else has it: the same to the demonstration
        done = subprocess.run(DEMO, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert "3003" in done.stderr
    assert "--free-ports" in done.stderr
