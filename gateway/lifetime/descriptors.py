"""File descriptors: how many a configuration may need, and some that are kept in reserve.

Every connection is one. A process that has none left can neither accept nor refuse, unless it kept
some for that.
"""

from __future__ import annotations

import logging
import os
import resource

from gateway.config.check.compile import LoadedConfig
from gateway.config.toml.problems import Problem

log = logging.getLogger("gateway")

OWN = 64
"""Descriptors for logs, listeners, the store, and reserves."""


class Reserve:
    """Descriptors of nothing, to be given up when the process has no others left."""

    def __init__(self, size: int, purpose: str) -> None:
        """purpose: for the log."""
        self._size = size
        self._purpose = purpose
        self._kept: list[int] = []

    def __len__(self) -> int:
        return len(self._kept)

    def __repr__(self) -> str:
        return f"<Reserve for {self._purpose}, {len(self)} of {self._size}>"

    def fill(self) -> None:
        """Open what is missing, as far as possible."""
        try:
            while len(self._kept) < self._size:
                self._kept.append(os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))
        except OSError:
            log.warning("no descriptors are left to reserve for %s", self._purpose)

    def give_up(self) -> bool:
        """Close one, so that another can be opened. Return False if none is left."""
        if self._kept:
            os.close(self._kept.pop())
            return True
        return False

    def close(self) -> None:
        while self.give_up():
            pass


def shortage(loaded: LoadedConfig) -> list[Problem]:
    """Return a warning if all the connections that are allowed are more than this process may
    open."""
    clients = loaded.gateway.server.max_connections
    endpoints = sum(
        endpoint.max_connections
        for upstream in loaded.upstreams.values()
        for endpoint in upstream.endpoints
    )
    _, allowed = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = clients + endpoints + OWN
    if allowed == resource.RLIM_INFINITY or wanted <= allowed:
        return []
    message = (
        f"server.max_connections: {clients} clients"
        + (f" and {endpoints} connections to endpoints" if endpoints else "")
        + f" need about {wanted} open files, of which this process may have {allowed}"
    )
    hint = "raise the limit (LimitNOFILE, ulimits, ulimit -n), or allow fewer"
    file, line, column = loaded.locate("", ("server", "max_connections"))
    return [Problem(file, line, column, message, hint, "warning")]
