"""What a service manager is told: sd_notify(3), and its watchdog.

Datagrams to the socket that `NOTIFY_SOCKET` names; without it nothing is sent. An error is logged
once and has no other effect: a gateway that serves does not end because nothing listens there.
"""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable, Mapping
from time import CLOCK_MONOTONIC, clock_gettime_ns

from gateway.lifetime.supervised import Supervised

log = logging.getLogger("gateway")

Send = Callable[[str], None]


class ServiceManager:
    """Tells a service manager what the process is about to do.

    watchdog: seconds after which the manager ends a process that has not given a sign of life; 0
    if it does not watch.
    """

    def __init__(self, send: Send | None = None, watchdog: float = 0.0) -> None:
        self._send = send
        self._failed = False
        self._signs: Supervised | None = None
        if watchdog:
            self._signs = Supervised("watchdog", self._sign_of_life, every=watchdog / 2)

    @classmethod
    def from_environ(cls, environ: Mapping[str, str], pid: int) -> ServiceManager:
        """Return the manager that the environment names, or one that is told nothing."""
        address = environ.get("NOTIFY_SOCKET", "")
        if not address:
            return cls()
        if address[0] not in "/@":
            log.warning(
                "NOTIFY_SOCKET is %r, which is neither a path nor an abstract name", address
            )
            return cls()
        return cls(_datagrams(address), watchdog_seconds(environ, pid))

    def ready(self) -> None:
        """It serves: after its start, and after every reload, refused ones too."""
        self._tell("READY=1")
        if self._signs is not None:
            self._signs.start()

    def reloading(self) -> None:
        self._tell(f"RELOADING=1\nMONOTONIC_USEC={clock_gettime_ns(CLOCK_MONOTONIC) // 1000}")

    def stopping(self, seconds: float) -> None:
        """It ends, and needs at most so many seconds for that."""
        self._tell(f"STOPPING=1\nEXTEND_TIMEOUT_USEC={round(seconds * 1e6)}")

    def close(self) -> None:
        """Give no sign of life any more."""
        if self._signs is not None:
            self._signs.close()

    def _sign_of_life(self) -> None:
        self._tell("WATCHDOG=1")

    def _tell(self, state: str) -> None:
        if self._send is None:
            return
        try:
            self._send(state)
        except OSError as error:
            if not self._failed:
                log.warning("the service manager cannot be told %r: %s", state, error.strerror)
            self._failed = True


def watchdog_seconds(environ: Mapping[str, str], pid: int) -> float:
    """Return the interval of sd_watchdog_enabled(3): 0 if it is not set, or set for another
    process."""
    microseconds = environ.get("WATCHDOG_USEC", "")
    if environ.get("WATCHDOG_PID", str(pid)) != str(pid) or not microseconds.isdecimal():
        return 0.0
    return int(microseconds) / 1e6


def _datagrams(address: str) -> Send:
    where = "\0" + address[1:] if address[0] == "@" else address

    def send(state: str) -> None:
        # A socket for each: they are few, and none is left open for a child or the next program.
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as one:
            one.sendto(state.encode(), where)

    return send
