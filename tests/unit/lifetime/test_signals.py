from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable

import pytest

from gateway.lifetime import signals as module
from gateway.lifetime.signals import Signals, blocked

HUP, TERM, INT, USR1 = signal.SIGHUP, signal.SIGTERM, signal.SIGINT, signal.SIGUSR1


class Loop:
    """Runs what it is given when a test says so."""

    def __init__(self) -> None:
        self.ready: list[tuple[Callable[[int], None], int]] = []

    def call_soon_threadsafe(self, callback: Callable[[int], None], number: int, /) -> None:
        self.ready.append((callback, number))

    def run(self) -> None:
        for callback, number in self.ready:
            callback(number)
        self.ready.clear()


def test_what_comes_early_waits_for_the_loop_each_kind_once():
    signals, loop, acted = Signals(), Loop(), []
    for number in (HUP, USR1, HUP, TERM):
        signals.received(number)
    signals.attach(loop, acted.append)
    signals.received(USR1)
    assert acted == [], "never within the handler"
    loop.run()
    assert acted == [HUP, USR1, TERM, USR1]
    assert signals.waiting == []


def test_what_comes_late_reaches_no_loop():
    signals, loop, acted = Signals(), Loop(), []
    signals.attach(loop, acted.append)
    signals.detach()
    signals.received(HUP)
    assert loop.ready == [] and signals.waiting == [HUP]


@pytest.mark.parametrize("when", ["before the loop", "in it", "after it"])
def test_the_second_stop_ends_at_once(when: str, monkeypatch: pytest.MonkeyPatch):
    said, codes = [], []
    monkeypatch.setattr(module, "_say", said.append)
    signals = Signals(codes.append)
    if when != "before the loop":
        signals.attach(Loop(), lambda number: None)
    if when == "after it":
        signals.detach()
    signals.received(TERM)
    assert codes == []
    signals.received(INT)
    assert codes == [1] and said == [module.AT_ONCE]


def in_python(code: str, **options: object) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=60, **options)  # type: ignore[call-overload]


def test_installed_they_do_not_kill():
    done = in_python(
        "import os, signal\n"
        "from gateway.lifetime.signals import HANDLED, Signals, blocked\n"
        "signals = Signals()\n"
        "signals.install()\n"
        "for number in (signal.SIGHUP, signal.SIGUSR1, signal.SIGTERM):\n"
        "    os.kill(os.getpid(), number)\n"
        "print(*signals.waiting)\n"
    )
    assert (done.returncode, done.stdout) == (0, b"%d %d %d\n" % (HUP, USR1, TERM))


def test_the_last_word_does_not_wait_for_a_full_pipe(monkeypatch: pytest.MonkeyPatch):
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    with pytest.raises(BlockingIOError):
        while True:
            os.write(writer, bytes(65536))
    os.set_blocking(writer, True)
    before = os.dup(2)
    try:
        os.dup2(writer, 2)
        module._say(b"lost\n")
    finally:
        os.dup2(before, 2)
        for descriptor in (before, reader, writer):
            os.close(descriptor)


def test_closed_descriptors_are_held():
    code = (
        "import os\n"
        "for number in range(3): os.close(number)\n"
        "from gateway.lifetime.signals import hold_standard_descriptors\n"
        "hold_standard_descriptors()\n"
        "assert [os.readlink(f'/proc/self/fd/{n}') for n in range(3)] == [os.devnull] * 3\n"
    )
    assert in_python(code).returncode == 0


def test_open_ones_are_left_alone():
    done = in_python(
        "from gateway.lifetime.signals import hold_standard_descriptors as "
        "hold\nhold()\nprint('still here')"
    )
    assert done.stdout == b"still here\n"


def test_blocked_signals_wait():
    signals = Signals()
    before = signal.getsignal(signal.SIGUSR2)
    signals.install((signal.SIGUSR2,))
    try:
        with blocked((signal.SIGUSR2,)):
            signal.raise_signal(signal.SIGUSR2)
            assert signals.waiting == []
        assert signals.waiting == [signal.SIGUSR2]
        signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGUSR2,))
        signals.install((signal.SIGUSR2,))  # as a program does that began with them blocked
        assert signal.SIGUSR2 not in signal.pthread_sigmask(signal.SIG_BLOCK, ())
    finally:
        signal.signal(signal.SIGUSR2, before)
