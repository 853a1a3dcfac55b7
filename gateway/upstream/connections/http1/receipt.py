"""Whether an endpoint can have received a request whose connection has ended: what the kernel still knows about it.

RFC 9110 section 9.2.2 allows what is not idempotent to be sent again where it is known that it was never acted upon. Two things
say so. The end of the connection came in order, and nothing of the request was acknowledged with it or since: every segment says
how far its sender has received, so the endpoint had said its last word before the request arrived, and whoever has done that
acts on nothing that comes later (RFC 9112 section 9.6). Or nothing of the request ever left this machine.

A reset says neither. It may follow a request that was read and acted upon: acknowledgements are put off (by 40 ms and more) to
travel with the answer, and what a reset acknowledges the kernel does not take note of.
"""

from __future__ import annotations

import asyncio
import fcntl
import socket
import struct
import sys
import termios

_SENT = struct.Struct("=200xQQ")
"""tcpi_bytes_sent and tcpi_bytes_retrans in Linux's struct tcp_info (since 4.19)."""


def unacknowledged(transport: asyncio.Transport) -> int:
    """Bytes written to `transport` that the other end has not acknowledged, those that have not left included; at worst 0."""
    raw = transport.get_extra_info("socket")
    if raw is None or sys.platform != "linux":
        return 0
    try:
        (queued,) = struct.unpack("=i", fcntl.ioctl(raw.fileno(), termios.TIOCOUTQ, b"\0" * 4))
    except (OSError, ValueError):  # Closed.
        return 0
    return int(queued) + transport.get_write_buffer_size()


def sent(transport: asyncio.Transport) -> int | None:
    """Bytes that have left for the other end; None when that is not known, as it is once some had to be sent again."""
    raw = transport.get_extra_info("socket")
    if raw is None or sys.platform != "linux":
        return None
    try:
        information = raw.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _SENT.size)
    except OSError:
        return None
    if len(information) < _SENT.size:
        return None
    total, again = _SENT.unpack(information)
    return None if again else int(total)
