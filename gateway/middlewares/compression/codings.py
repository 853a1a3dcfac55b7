"""The content codings themselves: whole bodies at once, and bodies that come in pieces."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import brotli
from backports import zstd
from isal import isal_zlib

from gateway.core.exchange import ReplyStream
from gateway.core.headers import Pair

PIECE = 32 * 1024
"""Bytes of a long body between two turns of the loop."""

REMEMBERED = 64
REMEMBERED_SIZE = 8 * 1024
"""Bodies whose coded form is remembered, by coding, and the most bytes of one.

A MiB in all at worst.
"""

_WINDOW = 18
"""log2 of the bytes a stream's coder looks back on.

Enough for text, and little memory for each of ten thousand streams.
"""


class Encoder(Protocol):
    """A coding of one body, piece by piece."""

    def encode(self, data: bytes, flush: bool) -> bytes:
        """Return what can be sent now; with `flush` all of what was given so far."""

    def finish(self) -> bytes:
        """The rest; never empty."""


class _Gzip:
    def __init__(self, level: int) -> None:
        self._object = isal_zlib.compressobj(level, isal_zlib.DEFLATED, 31)

    def encode(self, data: bytes, flush: bool) -> bytes:
        out: bytes = self._object.compress(data)
        return out + self._object.flush(isal_zlib.Z_SYNC_FLUSH) if flush else out

    def finish(self) -> bytes:
        out: bytes = self._object.flush()
        return out


class _Brotli:
    def __init__(self, quality: int) -> None:
        self._object = brotli.Compressor(quality=quality, lgwin=_WINDOW)

    def encode(self, data: bytes, flush: bool) -> bytes:
        out: bytes = self._object.process(data)
        return out + self._object.flush() if flush else out

    def finish(self) -> bytes:
        out: bytes = self._object.finish()
        return out


class _Zstd:
    def __init__(self, level: int) -> None:
        self._object = _zstd_compressor(level)

    def encode(self, data: bytes, flush: bool) -> bytes:
        return self._object.compress(
            data, zstd.ZstdCompressor.FLUSH_BLOCK if flush else zstd.ZstdCompressor.CONTINUE
        )

    def finish(self) -> bytes:
        return self._object.flush()


def _zstd_compressor(level: int) -> zstd.ZstdCompressor:
    """RFC 9659 has recipients reject windows beyond 8 MB; this one is far below."""
    parameter = zstd.CompressionParameter
    return zstd.ZstdCompressor(
        options={parameter.compression_level: level, parameter.window_log: _WINDOW}
    )


@dataclass(frozen=True, slots=True)
class Coding:
    """One coding; `name` as in Content-Encoding.

    `once` codes a whole body, `encoder` begins one that comes in pieces.
    """

    name: bytes
    once: Callable[[bytes], bytes]
    encoder: Callable[[], Encoder]


class Once:
    """Codes whole bodies, and remembers the last few small ones.

    What many clients ask for is coded once, not for each.
    """

    def __init__(self, code: Callable[[bytes], bytes]) -> None:
        self._code = code
        self._known: OrderedDict[bytes, bytes] = OrderedDict()
        self._last: bytes | None = None
        self._coded = b""

    def __call__(self, body: bytes) -> bytes:
        if body == self._last:  # Cheaper than its hash.
            return self._coded
        if len(body) > REMEMBERED_SIZE:
            return self._code(body)
        known = self._known
        coded = known.get(body)
        if coded is None:
            if len(known) >= REMEMBERED:
                known.popitem(last=False)  # The oldest.
            coded = known[body] = self._code(body)
        self._last, self._coded = body, coded
        return coded


def codings(gzip_level: int, br_quality: int, zstd_level: int) -> dict[str, Coding]:
    """Return what bodies can be coded in, by name."""
    # Ends a frame with every call, and is cheaper to keep than to make.
    compressor = _zstd_compressor(zstd_level)
    return {
        "gzip": Coding(
            b"gzip",
            Once(lambda body: isal_zlib.compress(body, gzip_level, 31)),
            lambda: _Gzip(gzip_level),
        ),
        "br": Coding(
            b"br",
            Once(lambda body: brotli.compress(body, quality=br_quality, lgwin=_WINDOW)),
            lambda: _Brotli(br_quality),
        ),
        "zstd": Coding(
            b"zstd",
            Once(lambda body: compressor.compress(body, compressor.FLUSH_FRAME)),
            lambda: _Zstd(zstd_level),
        ),
    }


class EncodedStream:
    """A body in a coding, as it arrives; `flush` sends on at once what arrived."""

    def __init__(self, source: ReplyStream, encoder: Encoder, *, flush: bool) -> None:
        self._source = source
        self._encoder = encoder
        self._flush = flush
        self._ended = False

    async def read(self) -> bytes:
        """The next coded bytes; b"" at the end. Raises what the source raises."""
        while not self._ended:
            chunk = await self._source.read()
            if not chunk:
                self._ended = True
                return self._encoder.finish()
            out = self._encoder.encode(chunk, self._flush)
            if out:
                return out
        return b""

    @property
    def trailers(self) -> tuple[Pair, ...]:
        """Those of the body that is coded: they are about the message, not about its coding."""
        found: tuple[Pair, ...] = getattr(self._source, "trailers", ())
        return found

    def abort(self) -> None:
        self._source.abort()


class Pieces:
    """A complete body as a stream that lets the loop turn between its pieces."""

    def __init__(self, body: bytes) -> None:
        self._body = body
        self._at = 0

    async def read(self) -> bytes:
        await asyncio.sleep(0)
        piece = self._body[self._at : self._at + PIECE]
        self._at += PIECE
        return piece

    def abort(self) -> None:
        self._body = b""
