"""What a service manager hears, on a socket of its own."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Iterator

import pytest

from gateway.lifetime.notify import ServiceManager, watchdog_seconds


@pytest.fixture(params=["path", "abstract"])
def heard(request: pytest.FixtureRequest, tmp_path) -> Iterator[tuple[str, socket.socket]]:
    """NOTIFY_SOCKET, and the socket it names."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as one:
        one.settimeout(10)
        if request.param == "path":
            one.bind(str(tmp_path / "notify"))
            yield str(tmp_path / "notify"), one
        else:
            one.bind(b"")  # The kernel chooses an abstract name.
            yield "@" + one.getsockname()[1:].decode(), one


def test_states(heard):
    address, hears = heard
    manager = ServiceManager.from_environ({"NOTIFY_SOCKET": address}, 1)
    before = time.monotonic_ns() // 1000
    manager.ready()
    manager.reloading()
    manager.stopping(31.5)
    assert hears.recv(100) == b"READY=1"
    reloading, stamp = hears.recv(100).decode().splitlines()
    assert reloading == "RELOADING=1"
    name, _, value = stamp.partition("=")
    assert name == "MONOTONIC_USEC" and before <= int(value) <= time.monotonic_ns() // 1000
    assert hears.recv(100) == b"STOPPING=1\nEXTEND_TIMEOUT_USEC=31500000"


async def test_signs_of_life_come_until_the_end(heard):
    address, hears = heard
    environ = {"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "20000"}
    manager = ServiceManager.from_environ(environ, 1)
    manager.ready()
    hears.setblocking(False)
    loop = asyncio.get_running_loop()
    said = [await asyncio.wait_for(loop.sock_recv(hears, 100), 10) for _ in range(4)]
    assert said == [b"READY=1", *[b"WATCHDOG=1"] * 3]
    manager.close()
    with pytest.raises(BlockingIOError):
        while True:
            hears.recv(100)


@pytest.mark.parametrize(
    ("environ", "seconds"),
    [
        ({}, 0),
        ({"WATCHDOG_USEC": "30000000"}, 30),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "7"}, 30),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "8"}, 0),
        ({"WATCHDOG_USEC": "soon"}, 0),
        ({"WATCHDOG_USEC": "-1"}, 0),
    ],
)
def test_the_watchdogs_interval(environ, seconds):
    assert watchdog_seconds(environ, 7) == seconds


def test_without_a_manager_nothing_is_sent():
    manager = ServiceManager.from_environ({"WATCHDOG_USEC": "1"}, 1)
    manager.ready()
    manager.reloading()
    manager.stopping(1)
    manager.close()


def test_an_address_of_another_kind_is_refused(caplog):
    ServiceManager.from_environ({"NOTIFY_SOCKET": "vsock:2:1234"}, 1).ready()
    assert "NOTIFY_SOCKET is 'vsock:2:1234'" in caplog.text


def test_a_manager_that_is_gone_is_reported_once(tmp_path, caplog):
    manager = ServiceManager.from_environ({"NOTIFY_SOCKET": str(tmp_path / "gone")}, 1)
    manager.ready()
    manager.reloading()
    assert caplog.text.count("the service manager cannot be told") == 1
