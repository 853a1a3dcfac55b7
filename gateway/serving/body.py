"""A client's request body: aiohttp's StreamReader as a core RequestBody."""

from __future__ import annotations

from collections.abc import Callable

from aiohttp import StreamReader
from aiohttp.web_protocol import RequestPayloadError

from gateway.core.exchange import Exchange
from gateway.core.failures import Failed, Failure

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


class ClientBody:
    """A body as it arrives. `go_ahead`, when given, is called before the first read: the client waits for 100 (Continue)."""

    __slots__ = ("_content", "_exchange", "_go_ahead", "_whole", "length", "limit", "waiting")

    def __init__(
        self,
        content: StreamReader,
        exchange: Exchange,
        length: int | None,
        limit: int | None,
        go_ahead: Callable[[], None] | None = None,
    ) -> None:
        self._content = content
        self._exchange = exchange
        self._go_ahead = go_ahead
        self._whole: bytes | None = None
        self.length = length
        self.limit = limit
        self.waiting = False
        """Whether somebody waits for more of it, so that it is the client who is slow."""

    @property
    def complete(self) -> bytes | None:
        """The whole body if it is here already: read by a hook, or small enough to have come with the head."""
        if self._whole is None and self.length is not None and self._go_ahead is None:
            content = self._content
            if content.is_eof() and content.total_bytes == self.length and self._exchange.bytes_in == 0:
                self._refuse_beyond(self.length)
                self._whole = content.read_nowait(-1)
                self._exchange.bytes_in = len(self._whole)
        return self._whole

    async def read(self) -> bytes:
        if self._whole is not None:
            return b""
        if self._go_ahead is not None:
            self._go_ahead()
            self._go_ahead = None
        if self.length is not None:
            self._refuse_beyond(self.length)
        self.waiting = True
        try:
            chunk = await self._content.readany()
        except RequestPayloadError as error:
            raise Failed(Failure.MALFORMED, "The request's body does not match its framing.", why=str(error)) from None
        except ConnectionError as error:
            raise Failed(Failure.CLIENT_GONE, why=str(error)) from None
        finally:
            self.waiting = False
        self._exchange.bytes_in += len(chunk)
        self._refuse_beyond(self._exchange.bytes_in)
        return chunk

    async def whole(self, at_most: int) -> bytes:
        self.limit = at_most if self.limit is None else min(self.limit, at_most)
        if self.complete is None:
            parts = []
            while chunk := await self.read():
                parts.append(chunk)
            self._whole = b"".join(parts)
            self.length = len(self._whole)
        assert self._whole is not None
        self._refuse_beyond(len(self._whole))
        return self._whole

    @property
    def received(self) -> bool:
        """Whether nothing of it is still to come, so that the connection can be used for another request."""
        return self._content.is_eof()

    @property
    def arrived(self) -> int:
        """Bytes that have come, whether they have been read or not."""
        return self._content.total_bytes

    def give_up(self, failed: Failed) -> None:
        """No more of it is waited for; whoever does gets this failure."""
        self._content.set_exception(failed)

    def _refuse_beyond(self, size: int) -> None:
        if self.limit is not None and size > self.limit:
            raise Failed(Failure.BODY_TOO_LARGE, f"The request's body may have at most {self.limit} bytes.")
