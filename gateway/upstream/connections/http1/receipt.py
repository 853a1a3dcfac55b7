"""Evidence from the kernel that an endpoint never received a request.

RFC 9110 section 9.2.2 allows a request that is not idempotent to be sent again where it was surely
not acted upon. Two facts show that. Either the connection's end (FIN) came without an
acknowledgement of any byte of the request: every segment says how far its sender has received, so
the endpoint had closed before the request arrived, and acts on nothing that comes later (RFC 9112
section 9.6). Or no byte of the request has left this machine.

A reset shows neither. It may follow a request that was read and acted upon: acknowledgements are
delayed (by 40 ms and more) to travel with the answer, and the kernel does not record what a reset
acknowledges.
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
    """Bytes written to `transport` that the peer has not acknowledged, unsent ones included; 0 when
    unknown."""
    raw = transport.get_extra_info("socket")
    if raw is None or sys.platform != "linux":
        return 0
    try:
        (queued,) = struct.unpack("=i", fcntl.ioctl(raw.fileno(), termios.TIOCOUTQ, b"\0" * 4))
    except (OSError, ValueError):  # Closed.
        return 0
    return int(queued) + transport.get_write_buffer_size()


def sent(transport: asyncio.Transport) -> int | None:
    """Bytes that have been sent; None when unknown, as after a retransmission."""
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
