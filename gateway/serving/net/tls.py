"""TLS below a codec: an SSLObject with memory BIOs on a plain transport, and the transport that the
connection above sees.

asyncio's and uvloop's own TLS drop the alert of a handshake that fails (cpython 98078), so its
client never learns why. Here all that OpenSSL wants to say is sent before the socket is closed, and
the reason is told to the listener. After the handshake the protocol that ALPN names takes over; it
never knows of TLS. Deadlines of handshakes and of close_notify are the sweep's (`expired`).
"""

from __future__ import annotations

import asyncio
import enum
import ssl
from typing import Any, Protocol

GOODBYE = 5.0
"""Seconds a client has to answer close_notify (RFC 8446 section 6.1)."""
RECORD = 16384
"""Bytes of plaintext in a record at most (RFC 8446 section 5.1)."""
DROPPED = 64 * 1024
"""Bytes taken of a client that owes the answer to close_notify; the rest is left to the kernel."""
HELD_BACK = 4096
"""Bytes of session tickets and key updates that wait for the next answer, to go out with it."""
_HANDSHAKE = 22
"""The first byte of a handshake (RFC 8446 section 5.1)."""
_METHODS = b"GET POST PUT HEAD DELETE OPTIONS PATCH CONNECT TRACE PRI".split()


class State(enum.Enum):
    """The states of a TLS connection."""

    SHAKING = enum.auto()
    """Its handshake is under way; no protocol is there yet."""
    OPEN = enum.auto()
    CLOSING = enum.auto()
    """close_notify has been sent, the client's is awaited; what it still sends is dropped."""
    CLOSED = enum.auto()


class Owner(Protocol):
    """The listener, as a TLS connection sees it."""

    def secured(self, tls: TlsTransport) -> asyncio.Protocol:
        """The handshake is done, and awaited no more: the protocol that takes over, by
        `tls.alpn`."""

    def unsecured(self, tls: TlsTransport, why: str) -> None:
        """The handshake failed."""

    def spoke_http(self, tls: TlsTransport) -> bytes:
        """The client speaks http to a port for https: the answer, in clear."""

    def forget(self, tls: TlsTransport) -> None:
        """Neither a handshake nor close_notify is awaited any more."""

    def remember(self, tls: TlsTransport) -> None:
        """A handshake or close_notify is awaited, which has a deadline."""


class TlsTransport(asyncio.Protocol, asyncio.Transport):
    """One client's TLS. To its socket it is the protocol, to the connection above it the transport.

    since: when the handshake, or the wait for close_notify, began (the loop's seconds).
    """

    __slots__ = (
        "_begun",
        "_context",
        "_dropped",
        "_incoming",
        "_object",
        "_outgoing",
        "_owner",
        "_paused",
        "_plain",
        "_protocol",
        "_writing_paused",
        "peer",
        "since",
        "state",
    )

    def __init__(self, owner: Owner, context: ssl.SSLContext, peer: str) -> None:
        self._owner = owner
        self._context = context
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._object = context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        self._plain: asyncio.Transport | None = None
        self._protocol: asyncio.Protocol | None = None
        self._paused = self._writing_paused = False
        self._begun = False
        self._dropped = 0
        self.state = State.SHAKING
        self.peer = peer
        self.since = asyncio.get_running_loop().time()
        owner.remember(self)

    def __repr__(self) -> str:
        return f"<TlsTransport {self.peer} {self.state.name.lower()}>"

    @property
    def alpn(self) -> str:
        """The protocol that was agreed on; "" without one."""
        return self._object.selected_alpn_protocol() or ""

    def expired(self, now: float, handshake: float) -> bool:
        """Return True if the handshake or close_notify takes too long; `handshake`: seconds for
        one. The client owes close_notify once it has taken all: how long that lasts is
        `write_timeout`'s."""
        if self.state is State.SHAKING:
            return now - self.since > handshake
        if self.get_write_buffer_size():
            self.since = now
        return now - self.since > GOODBYE

    def give_up(self, why: str) -> None:
        """Close the socket at once; a handshake has then failed for that reason."""
        before, self.state = self.state, State.CLOSED
        self._owner.forget(self)
        if before is State.SHAKING:
            self._owner.unsecured(self, why)
        self.abort()

    # The socket's protocol.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._plain = transport  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        if self.state is State.CLOSED:
            return
        if self.state is State.SHAKING:
            if not self._begun and not self._begin(data):
                return
            self._incoming.write(data)
            self._shake()
        else:
            if self.state is State.CLOSING:
                before, self._dropped = self._dropped, self._dropped + len(data)
                if before <= DROPPED < self._dropped:
                    self._plain.pause_reading()  # type: ignore[union-attr]
            self._incoming.write(data)
            if not self._paused:
                self._read()

    def eof_received(self) -> bool:
        """The socket's end without close_notify; there is no half of TLS to keep."""
        if self.state is State.OPEN and self._protocol is not None:
            self._protocol.eof_received()
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        before, self.state = self.state, State.CLOSED
        self._owner.forget(self)
        if before is State.SHAKING:
            self._owner.unsecured(
                self, f"the client left: {exc}" if exc else "the client left within its handshake"
            )
        protocol, self._protocol = self._protocol, None
        if protocol is not None:
            protocol.connection_lost(exc)

    def pause_writing(self) -> None:
        self._writing_paused = True
        if self._protocol is not None:
            self._protocol.pause_writing()

    def resume_writing(self) -> None:
        self._writing_paused = False
        if self._protocol is not None:
            self._protocol.resume_writing()

    # The transport of the connection above.

    def write(self, data: Any) -> None:
        if self._encrypt(data):
            self._flush()

    def write_last(self, data: Any) -> None:
        """Write `data` and close, in one piece: a system call less than one after the other."""
        if self._encrypt(data):
            self.close()

    def writelines(self, list_of_data: Any) -> None:
        self.write(b"".join(list_of_data))

    def close(self) -> None:
        """Send close_notify, and close once the client has answered it or GOODBYE is over."""
        if self.state is State.OPEN:
            self.state = State.CLOSING
            self.since = asyncio.get_running_loop().time()
            self._owner.remember(self)
            if self._paused:
                self._paused = False
                self._plain.resume_reading()  # type: ignore[union-attr]
            self._bye()
        elif self.state is State.SHAKING and self._plain is not None:
            self._plain.close()

    def abort(self) -> None:
        if self._plain is not None:
            self._plain.abort()

    def is_closing(self) -> bool:
        return self.state is not State.OPEN or self._plain is None or self._plain.is_closing()

    def pause_reading(self) -> None:
        if self.state is State.OPEN and not self._paused:
            self._paused = True
            self._plain.pause_reading()  # type: ignore[union-attr]

    def resume_reading(self) -> None:
        if self.state is State.OPEN and self._paused:
            self._paused = False
            self._plain.resume_reading()  # type: ignore[union-attr]
            self._read()  # What had been taken from the socket before the pause.

    def is_reading(self) -> bool:
        return self.state is State.OPEN and not self._paused

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self._protocol = protocol  # type: ignore[assignment]

    def get_protocol(self) -> asyncio.BaseProtocol:
        return self._protocol  # type: ignore[return-value]

    def can_write_eof(self) -> bool:
        return False

    def get_write_buffer_size(self) -> int:
        return self._plain.get_write_buffer_size() if self._plain is not None else 0

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self._plain.set_write_buffer_limits(high, low)  # type: ignore[union-attr]

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        if name == "ssl_object":
            return self._object
        if name == "sslcontext":
            return self._context
        return self._plain.get_extra_info(name, default) if self._plain is not None else default

    # Inside.

    def _begin(self, data: bytes) -> bool:
        """Return True if the first bytes may be a handshake; http is answered in clear."""
        self._begun = True
        if data[0] == _HANDSHAKE or data[:8].split(b" ", 1)[0] not in _METHODS:
            return True
        self.state = State.CLOSED
        self._owner.forget(self)
        self._plain.write(self._owner.spoke_http(self))  # type: ignore[union-attr]
        self._plain.close()  # type: ignore[union-attr]
        return False

    def _shake(self) -> None:
        try:
            self._object.do_handshake()
        except ssl.SSLWantReadError:
            self._flush()
            return
        except (ssl.SSLError, ssl.CertificateError, OSError) as error:
            self.state = State.CLOSED
            self._owner.forget(self)
            self._flush()  # The alert, above all.
            self._owner.unsecured(self, reason(error))
            self._plain.close()  # type: ignore[union-attr]
            return
        if self._object.version() != "TLSv1.3":
            self._flush()  # The client waits for it. In TLS 1.3 it is tickets, which can wait.
        self.state = State.OPEN
        protocol = self._protocol = self._owner.secured(self)
        protocol.connection_made(self)
        if self._writing_paused:
            protocol.pause_writing()
        self._read()

    def _encrypt(self, data: Any) -> bool:
        """Return True if `data` may be sent now, as records of the outgoing BIO."""
        if self.state is not State.OPEN:
            return False
        try:
            sent = self._object.write(data)
            if sent < len(data):  # OpenSSL takes a record at a time.
                rest = memoryview(data)[sent:]
                while rest:
                    rest = rest[self._object.write(rest) :]
        except ssl.SSLError:
            self.abort()
            return False
        return True

    def _read(self) -> None:
        """Hand on what has been decrypted; heed what the client says besides."""
        chunks: list[bytes] = []
        ended = False
        incoming, read = self._incoming, self._object.read
        try:
            # A read that finds nothing raises, which costs as much as the others.
            while incoming.pending:
                chunk = read(RECORD)
                if not chunk:
                    ended = True
                    break
                chunks.append(chunk)
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLZeroReturnError:
            ended = True
        except ssl.SSLError:
            self._flush()
            self.abort()
            return
        if self._outgoing.pending > HELD_BACK:
            if self._writing_paused:  # It asks for key updates and takes none.
                self.abort()
                return
            self._flush()
        if self.state is State.CLOSING:
            if ended:
                self._plain.close()  # type: ignore[union-attr]
            return
        protocol = self._protocol
        if protocol is None:
            return
        if chunks:
            protocol.data_received(chunks[0] if len(chunks) == 1 else b"".join(chunks))
        if ended and self.state is State.OPEN:
            protocol.eof_received()
            self.close()

    def _bye(self) -> None:
        """Sends close_notify; closes at once where the client has sent its own."""
        try:
            self._object.unwrap()
        except ssl.SSLWantReadError:
            self._flush()
            return
        except (ssl.SSLError, OSError):
            pass  # The client sends data still: it has been told, and that is dropped.
        self._flush()
        if self._object_ended():
            self._plain.close()  # type: ignore[union-attr]

    def _object_ended(self) -> bool:
        try:
            while self._object.read(RECORD):
                pass
        except ssl.SSLWantReadError:
            return False
        except ssl.SSLError:
            return True
        return True

    def _flush(self) -> None:
        data = self._outgoing.read()
        if data and self._plain is not None:
            self._plain.write(data)


def reason(error: BaseException) -> str:
    """Why a handshake failed, in OpenSSL's words."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return str(error.verify_message)
    if isinstance(error, ssl.SSLError) and error.reason:
        return str(error.reason).replace("_", " ").lower()
    return str(error) or type(error).__name__
