"""Generated request bytes against a running gateway, and what must hold whatever they are (for
tests/flow and bench/fuzz.py)."""

from __future__ import annotations

import asyncio
import logging
import random
import re
from pathlib import Path

from gateway.app import Gateway
from tests.flow.conftest import PLAIN, write
from tests.flow.corpus_requests import CASES
from tests.origin import Origin

_LINE = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+ /[\x21-\x7e]* HTTP/1\.1")
_FIELD = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+: [\t\x20-\x7e\x80-\xff]*")
_ID = re.compile(rb"\r\nX-Request-ID: [^\r]*")
_BROKEN = b"HTTP/1.1 400 " * 99
"""For an answer that was broken off: whatever went on, the client knows of no answer."""
_STATUS = re.compile(rb"HTTP/1\.1 ([2-5]\d\d) ")

_PIECES = (
    b"\r\n", b"\n", b"\r", b"\r\n\r\n", b"\x00", b" ", b"\t", b":", b",", b";", b"\xff", b"0", b"1", b"0\r\n\r\n", b"Host: a\r\n", b"Host: b\r\n", b"X: y\r\n",
    b"Content-Length: 0\r\n", b"Content-Length: 5\r\n", (b"Content-Length: 4\r\nContent-Length: "
        b"5\r\n"), b"Transfer-Encoding: chunked\r\n",
    b"Transfer-Encoding: gzip\r\n", b"Connection: close\r\n", b"Connection: keep-alive\r\n", b"Connection: upgrade\r\nUpgrade: h2c\r\n", b"Expect: 100-continue\r\n",
    (b"Connection: upgrade\r\nUpgrade: "
        b"websocket\r\n"), b"GET / HTTP/1.1\r\n", b"POST / HTTP/1.1\r\n", b"FOO / HTTP/1.1\r\n", b"GET / HTTP/1.0\r\n", b"HTTP/1.1", b"abcde",
    (b"GET /smuggled HTTP/1.1\r\nHost: "
        b"a\r\n\r\n"), b"5\r\nabcde\r\n", b"ffffffffffffffff\r\n", b"OPTIONS * HTTP/1.1\r\n", b"http://b/", b"/../", b"%2e%2e/", b"Max-Forwards: 0\r\n",
)  # fmt: skip


BEFORE = (
    b"",
    b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\nX: y\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\nConnection: keep-alive\r\nX: y\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n",
)
"""Requests that others may repeat."""


def generate(rng: random.Random) -> list[bytes]:
    """The segments of what a client sends: cases of the corpus one after the other, and mutations
    of them."""
    data = b"".join(rng.choice(CASES).sent[:2000] for _ in range(rng.choice((1, 1, 2, 3))))
    for _ in range(rng.choice((0, 1, 1, 2, 3, 5))):
        at = rng.randrange(len(data) + 1)
        kind = rng.randrange(5)
        if kind == 0:
            data = data[:at] + rng.choice(_PIECES) + data[at:]
        elif kind == 1:
            data = data[:at] + data[at + rng.randrange(1, 9) :]
        elif kind == 2:
            data = data[:at] + bytes((rng.randrange(256),)) + data[at + 1 :]
        elif kind == 3:
            until = min(len(data), at + rng.randrange(1, 40))
            data = data[:until] + data[at:until] + data[until:]
        else:
            other = rng.choice(CASES).sent[:2000]
            data = data[:at] + other[rng.randrange(len(other) + 1) :]
    cuts = sorted(rng.randrange(len(data) + 1) for _ in range(rng.choice((0, 0, 1, 2))))
    return [
        data[start:end]
        for start, end in zip([0, *cuts], [*cuts, len(data)], strict=True)
        if start < end
    ]


class Errors(logging.Handler):
    """What was logged as an error, or with a traceback."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        if record.exc_info or record.levelno >= logging.ERROR:
            self.found.append(self.format(record))


class Target:
    """A gateway in front of an origin; `loop` must run while it is in use."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._errors = Errors()

    async def start(self) -> Target:
        logging.getLogger().addHandler(self._errors)
        self.origin = await Origin().start()
        write(self._directory, PLAIN, f'[upstream.origin]\nurl = "{self.origin.url}"\n')
        self.gateway = Gateway(self._directory / "gateway.toml", {})
        await self.gateway.start()
        return self

    async def stop(self) -> None:
        await self.gateway.close()
        await self.origin.stop()
        logging.getLogger().removeHandler(self._errors)

    async def check(self, segments: list[bytes], before: bytes = b"") -> None:
        """Sends this on a connection of its own. Raises AssertionError, with what was sent, when
        something does not hold.

        before: a request that is sent, and answered, twice on that connection first, so that what
        follows can repeat its fields.
        """
        origin = self.origin
        if before:
            fresh = self._outcome(await self._send(segments, b""))
        got = await self._send(segments, before)
        if before:
            again = self._outcome(got)
            assert again == fresh or None in (again, fresh), (
                f"{fresh} at first, {again} after {before!r}: {segments}"
            )
        assert got is not None, f"hangs: {segments}"
        for head in origin.heads:
            assert sound(head), f"forwarded {head!r}: {segments}"
        # Each body that came to its end was one request's; of each request the client has heard, or
        # the connection broke.
        statuses = _STATUS.findall(got)
        assert len(origin.heads) <= len(statuses), (
            f"{len(origin.heads)} requests went on, {statuses} came back: {segments}"
        )
        assert not self._errors.found, f"{self._errors.found}: {segments}"

    def _outcome(self, got: bytes | None) -> tuple[list[bytes], list[bytes], list[bytes]] | None:
        """What the client and the origin saw of it, identifiers apart; None when the connection was
        broken off under way."""
        if got is None or got == _BROKEN:
            return None
        return (
            _STATUS.findall(got),
            [_ID.sub(b"", head) for head in self.origin.heads],
            list(self.origin.bodies),
        )

    async def _send(self, segments: list[bytes], before: bytes) -> bytes | None:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.gateway.port)
        try:
            for _ in range(2 if before else 0):
                writer.write(before)
                await asyncio.wait_for(reader.readuntil(b"\r\n\r\nok"), 10)
            self.origin.heads.clear()
            self.origin.bodies.clear()
            for segment in segments:
                writer.write(segment)
                for _ in range(3):
                    await asyncio.sleep(0)
            writer.write_eof()
            return await asyncio.wait_for(reader.read(-1), 10)
        except TimeoutError:
            return None
        except OSError:
            return _BROKEN
        finally:
            writer.close()


def sound(head: bytes) -> bool:
    """Whether every reader understands this head alike: strict lines, one Host, one framing."""
    line, *fields = head[:-4].split(b"\r\n")
    names = [field.partition(b":")[0].lower() for field in fields]
    framing = [name for name in names if name in (b"content-length", b"transfer-encoding")]
    return (
        _LINE.fullmatch(line) is not None
        and all(_FIELD.fullmatch(field) for field in fields)
        and names.count(b"host") == 1
        and len(framing) <= 1
        and not {b"connection", b"upgrade", b"trailer", b"keep-alive", b"proxy"} & set(names)
    )
