"""Threads that can be told to be idle, and begin anew."""

from __future__ import annotations

import threading

from gateway.lifetime.process import Executor, threads_idle


def test_work_under_way_is_known_and_a_restarted_one_works():
    executor, gate = Executor(1, "test"), threading.Event()
    began = executor.submit(gate.wait, 20)
    waits = executor.submit(int, "7")
    assert not executor.idle and not threads_idle()
    gate.set()
    assert (began.result(20), waits.result(20)) == (True, 7)
    executor.submit(int).result(20)
    executor.shutdown(wait=True)
    assert executor.idle
    executor.restart()
    assert executor.submit(int, "8").result(20) == 8
    executor.shutdown(wait=True)
