"""Opening sockets to endpoints (TCP, TLS, Unix), and one mapping of their errors to Failed."""

from __future__ import annotations

import asyncio
import errno
import socket
import ssl
from collections.abc import Awaitable, Callable
from functools import cache
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from gateway.core.drive import Drive
from gateway.core.failures import Failed, Failure
from gateway.core.wait import Wait
from gateway.upstream.pool.endpoint import UNIX, Endpoint

if TYPE_CHECKING:
    from gateway.upstream.connections.tls import UpstreamTls

Opener = Callable[[Callable[[], asyncio.Protocol], Endpoint], Awaitable[object]]
"""Opens a socket to an endpoint for the protocol that the factory makes; raises OSError. Injected
in tests."""

EXHAUSTED = frozenset(
    (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.EADDRNOTAVAIL)
)
"""Errors that say what this machine has run out of, not what is wrong with the endpoint."""


class Openable(Protocol):
    """What a socket is opened for; an asyncio.Protocol too."""

    endpoint: Endpoint

    @property
    def closed(self) -> bool: ...

    def close(self) -> None: ...


T = TypeVar("T", bound=Openable)


class Opening(Wait[T]):
    """A connection being opened, from the first step to its outcome: the connection, or Failed.

    Driven by hand, so that no Task is needed. It is over by the outcome, by `expire` at its
    deadline, or by `cancel`.
    """

    __slots__ = ("_connection", "_drive", "_opening", "_timeout", "deadline")

    def __init__(
        self, opener: Opener, connection: T, opening: set[Opening[T]], now: float, timeout: float
    ) -> None:
        super().__init__()
        self._connection = connection
        self._opening = opening
        self._timeout = timeout
        self.deadline = now + timeout
        opening.add(self)
        self._drive = Drive(_open(opener, connection), self._opened)
        self._drive.start()

    def expire(self) -> None:
        """Called by the sweep when the deadline has passed."""
        self._opening.discard(self)
        self._drive.cancel()
        why = f"{self._connection.endpoint.name} took no connection within {self._timeout:g} s"
        self.fail(Failed(Failure.CONNECT_TIMEOUT, why=why))

    def cancel(self, msg: Any = None) -> bool:
        """Open it no further."""
        self._opening.discard(self)
        self._drive.cancel()
        return super().cancel(msg)

    def _opened(self, _: Any, error: BaseException | None) -> None:
        self._opening.discard(self)
        if self.done:  # Too late, or given up.
            self._connection.close()
        elif error is None and self._connection.closed:
            why = f"{self._connection.endpoint.name} closed the connection at once"
            self.fail(Failed(Failure.CONNECT_FAILED, why=why))
        elif error is None:
            self.wake(self._connection)
        else:
            self.fail(failure_of(error, self._connection.endpoint) or error)


async def _open(opener: Opener, connection: Any) -> None:
    await opener(lambda: connection, connection.endpoint)


def failure_of(error: BaseException, endpoint: Endpoint) -> Failed | None:
    """The Failed that an exception of connecting means; None when it is none of connecting's."""
    name = endpoint.name
    if isinstance(error, socket.gaierror):
        return Failed(Failure.DNS_FAILED, why=f"{endpoint.host}: {error.strerror}")
    if isinstance(error, ssl.SSLError):
        return Failed(Failure.TLS_FAILED, why=f"{name}: {_reason(error)}")
    if not isinstance(error, OSError):
        return None
    if error.errno in EXHAUSTED:
        why = f"out of resources for a connection to {name}: {error.strerror or error}"
        return Failed(Failure.OVERLOADED, headers=((b"Retry-After", b"1"),), why=why)
    if endpoint.scheme == "https" and isinstance(
        error, ConnectionResetError | ConnectionAbortedError
    ):
        return Failed(Failure.TLS_FAILED, why=f"{name} broke the handshake off")
    return Failed(Failure.CONNECT_FAILED, why=f"{name}: {error.strerror or error}")


async def open_socket(
    factory: Callable[[], asyncio.Protocol],
    endpoint: Endpoint,
    tls: UpstreamTls | None = None,
    protocol: str = "http1",
) -> object:
    """Connect to an endpoint: over TCP, with TLS when its URL says https, or to a Unix socket.
    Raises OSError.

    protocol: what ALPN offers, as `protocol` in an upstream's table.
    """
    loop = asyncio.get_running_loop()
    if endpoint.scheme == UNIX:
        transport, _ = await loop.create_unix_connection(factory, endpoint.host)
        return transport
    if endpoint.scheme == "https":
        tls = tls or _default_tls(protocol)
        # RFC 6066 section 3: without a trailing dot.
        name = (endpoint.server_name or tls.server_name or endpoint.host).rstrip(".")
        transport, _ = await loop.create_connection(
            factory,
            endpoint.host,
            endpoint.port,
            ssl=tls.contexts[protocol],
            server_hostname=name,
        )
    else:
        transport, _ = await loop.create_connection(factory, endpoint.host, endpoint.port)
    return transport  # With TCP_NODELAY: asyncio's and uvloop's transports set it.


@cache
def _default_tls(protocol: str) -> UpstreamTls:
    """For an endpoint on https that came to an upstream which had none when it was composed."""
    from pathlib import Path

    from gateway.config.tables.endpoints import UpstreamTlsConfig
    from gateway.upstream.connections.tls import UpstreamTls

    return UpstreamTls(UpstreamTlsConfig(), Path(), protocol)


def _reason(error: ssl.SSLError) -> str:
    """OpenSSL's reason in words: of a refused certificate, what is the matter with it."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not accepted: {error.verify_message.rstrip('.')}"
    return (getattr(error, "reason", "") or str(error)).lower().replace("_", " ")
