"""A bound on small writes that wait in a transport."""

from __future__ import annotations

import asyncio

from mypy_extensions import mypyc_attr

CRUMB, CRUMBS = 512, 256
"""Of writes of fewer bytes than CRUMB, about CRUMBS may wait. uvloop takes some 850 bytes for each
beside its own, so that a transport's 64 KiB would be 55 MB when they come one by one."""


@mypyc_attr(allow_interpreted_subclasses=True)
class CrumbProtocol(asyncio.Protocol):
    """A protocol that may write many crumbs. It calls `count_crumb` after each, which may call its
    `pause_writing`; and `crumbs_taken` in its `resume_writing`."""

    __slots__ = ("_crumbs",)

    def __init__(self) -> None:
        self._crumbs = 0

    def count_crumb(self, transport: asyncio.Transport) -> None:
        """After CRUMBS of them, have writing paused until nothing waits any more."""
        if self._crumbs == CRUMBS:
            return
        self._crumbs += 1
        if self._crumbs == CRUMBS and not transport.is_closing():
            # Not 0: the event loops' TLS would pause with nothing to wait for.
            transport.set_write_buffer_limits(1)

    def crumbs_taken(self, transport: asyncio.Transport) -> None:
        """Back to the transport's own limits."""
        if self._crumbs == CRUMBS and not transport.is_closing():
            transport.set_write_buffer_limits()
            self._crumbs = 0
