#!/usr/bin/env python3
"""What a client that abuses HTTP/2 costs a gateway, and whether others are served meanwhile.

    .venv/bin/python bench/http2_abuse.py [SECONDS]        5 seconds for each attack

Each attack comes over one connection after the other, as fast as the gateway lets it: whoever is
ended connects anew, at most 50 times a second. Beside it an ordinary client asks ten times a second.
Printed are the CPU of the gateway as a share of a core, how much its memory grew, how many
connections were ended, and how the ordinary client fared.
"""

from __future__ import annotations

import asyncio
import os
import struct
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench.compare import cpu_seconds, rss_mib
from gateway.protocols.http2.session import PREFACE
from tests.http2 import Http2Client
from tests.process import Process

SETTINGS = bytes(3) + b"\x04" + bytes(5)
GET = b"\x82\x86\x84\x41\x01a"


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return struct.pack("!I", len(payload))[1:] + struct.pack("!BBI", kind, flags, stream) + payload


def numbered(make: Callable[[int], bytes]) -> bytes:
    """Frames for streams of their own, about 64 KiB of them."""
    out, number = b"", 1
    while len(out) < 65536:
        out += make(number)
        number += 2
    return out


ATTACKS = {
    "nothing": b"",
    "rapid reset": numbered(lambda n: frame(1, 5, n, GET) + frame(3, 0, n, b"\0\0\0\x08")),
    "reset by mistakes": numbered(lambda n: frame(1, 5, n, GET) + frame(8, 0, n, bytes(4))),
    "malformed requests": numbered(lambda n: frame(1, 5, n, GET + b"\x00\x01A\x01b")),
    "continuation": frame(1, 0, 1, GET) + frame(9, 0, 1, b"\0\x01x\x01a") * 4000,
    "settings": frame(4, 0, 0, b"\0\x04\0\0\xff\xff") * 4000,
    "ping": frame(6, 0, 0, bytes(8)) * 4000,
    "empty data": frame(1, 4, 1, b"\x83" + GET[1:]) + frame(0, 0, 1, b"") * 7000,
    "window of a byte": frame(1, 5, 1, GET) + frame(8, 0, 0, b"\0\0\0\x01") * 5000,
    "unknown frames": frame(200, 0, 1, bytes(16000)) * 20,
    "hpack bomb": frame(1, 5, 1, GET + b"\x40\x01x\x7f\xa0\x1e" + b"a" * 3999 + b"\xbe" * 9000),
    "streams": numbered(lambda n: frame(1, 5, n, GET)),
}


async def attack(port: int, data: bytes, until: float, ended: list[int]) -> None:
    while data and time.monotonic() < until:
        began = time.monotonic()
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            writer.write(PREFACE + SETTINGS)
            while time.monotonic() < until and not writer.is_closing():
                writer.write(data)
                await writer.drain()
                await asyncio.sleep(0.001)
                if reader.at_eof() or reader._transport.is_closing():  # type: ignore[attr-defined]
                    break
        except OSError:
            pass
        ended[0] += 1
        writer.transport.abort()
        await asyncio.sleep(max(0, 0.02 - (time.monotonic() - began)))


async def ordinary(port: int, until: float, took: list[float]) -> None:
    client = await Http2Client.connect(port)
    while time.monotonic() < until:
        began = time.monotonic()
        assert (await client.get("/")).status == 404
        took.append(time.monotonic() - began)
        await asyncio.sleep(0.1)
    client.close()


async def main() -> None:
    seconds = float((*sys.argv, "")[1] or 5)
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        (directory / "gateway.toml").write_text(
            "[listen]\nport = 0\nhttp2 = true\n[admin]\nport = 0\n"
        )
        print(f"{'':20} {'CPU':>6} {'MiB more':>9} {'ended':>6} {'p50 ms':>7} {'max ms':>7}")
        for attacked, data in ATTACKS.items():
            async with Process(directory / "gateway.toml") as gateway:
                await ordinary(gateway.port, time.monotonic() + 0.5, [])
                before, memory = cpu_seconds(gateway.pid), rss_mib(gateway.pid)
                until, ended, took = time.monotonic() + seconds, [0], [0.0]
                await asyncio.gather(
                    attack(gateway.port, data, until, ended), ordinary(gateway.port, until, took)
                )
                used = (cpu_seconds(gateway.pid) - before) / seconds
                more = rss_mib(gateway.pid) - memory
                took.sort()
                print(
                    f"{attacked:20} {used:6.1%} {more:9.1f} {ended[0]:6} "
                    f"{took[len(took) // 2] * 1e3:7.1f} {took[-1] * 1e3:7.1f}"
                )


if __name__ == "__main__":
    os.environ.setdefault("PYTHONPATH", str(Path(__file__).resolve().parent.parent))
    asyncio.run(main())
