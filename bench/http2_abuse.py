#!/usr/bin/env python3
"""What a client that abuses HTTP/2 costs a gateway, and whether others are served meanwhile.

    .venv/bin/python bench/http2_abuse.py [--seconds 5] [--tls] [ATTACK]...

Each attack comes over one connection after the other, as fast as the gateway lets it: whoever is
ended connects anew, at most 50 times a second. Beside it an ordinary client of another address asks
ten times a second. Printed are the CPU of the gateway as a share of a core and beside what it needs
when there is no attack, its memory and how much that grew, how many connections the attack made,
and how the ordinary client fared.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import ssl
import struct
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench.compare import cpu_seconds, rss_mib
from gateway.protocols.http2.session import PREFACE
from tests.certificates import Authority
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


async def attack(
    port: int, tls: ssl.SSLContext | None, data: bytes, until: float, made: list[int]
) -> None:
    named = "gateway.test" if tls is not None else None
    while data and time.monotonic() < until:
        began = time.monotonic()
        made[0] += 1
        try:
            reader, writer = await asyncio.open_connection(
                "127.0.0.1", port, ssl=tls, server_hostname=named
            )
        except OSError:
            await asyncio.sleep(0.02)
            continue
        ended = asyncio.create_task(_until_end(reader))
        try:
            writer.write(PREFACE + SETTINGS)
            while time.monotonic() < until and not ended.done() and not writer.is_closing():
                writer.write(data)
                await asyncio.wait(
                    (ended, asyncio.create_task(_drained(writer))), return_when="FIRST_COMPLETED"
                )
                await asyncio.sleep(0.001)
        except OSError:
            pass
        writer.transport.abort()
        await ended
        await asyncio.sleep(max(0, 0.02 - (time.monotonic() - began)))


async def _until_end(reader: asyncio.StreamReader) -> None:
    try:
        while await reader.read(65536):
            pass
    except OSError:
        pass


async def _drained(writer: asyncio.StreamWriter) -> None:
    try:
        await writer.drain()
    except OSError:
        pass


async def ordinary(port: int, tls: ssl.SSLContext | None, until: float, took: list[float]) -> None:
    client = await Http2Client.connect(port, tls, local="127.0.0.2")
    while time.monotonic() < until:
        began = time.monotonic()
        assert (await client.get("/")).status == 404
        took.append(time.monotonic() - began)
        await asyncio.sleep(0.1)
    client.close()


async def measure(
    directory: Path, authority: Authority | None, name: str, seconds: float, idle: float
) -> float:
    """Print one line; return the share of a core."""
    tls = None
    if authority is not None:
        tls = authority.trusting()
        tls.set_alpn_protocols(["h2"])
    async with Process(directory / "gateway.toml") as gateway:
        await ordinary(gateway.port, tls, time.monotonic() + 0.5, [])
        before, memory = cpu_seconds(gateway.pid), rss_mib(gateway.pid)
        until, made, took = time.monotonic() + seconds, [0], [0.0]
        await asyncio.gather(
            attack(gateway.port, tls, ATTACKS[name], until, made),
            ordinary(gateway.port, tls, until, took),
        )
        used = (cpu_seconds(gateway.pid) - before) / seconds
        grown = rss_mib(gateway.pid)
    took.sort()
    beside = f"{used / idle:5.2f}" if idle else ""
    print(
        f"{name:20} {used:6.2%} {beside:>6} {grown:6.1f} {grown - memory:5.1f} {made[0]:6} "
        f"{len(took) - 1:6} {took[len(took) // 2] * 1e3:7.1f} {took[-1] * 1e3:7.1f}",
        flush=True,
    )
    return used


async def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--tls", action="store_true")
    parser.add_argument("attacks", nargs="*", metavar="ATTACK", help=", ".join(ATTACKS))
    options = parser.parse_args()
    if unknown := {*options.attacks} - {*ATTACKS}:
        parser.error(f"no such attack: {', '.join(unknown)}")
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        listen = "[listen]\nport = 0\nhttp2 = true\n"
        authority = None
        if options.tls:
            authority = Authority(directory)
            authority.issue("edge", "gateway.test")
            listen += 'tls = { certificate = "edge.pem", key = "edge.key" }\n'
        (directory / "gateway.toml").write_text(listen + "[admin]\nport = 0\n")
        print(
            f"{'':20} {'CPU':>6} {'beside':>6} {'MiB':>6} {'more':>5} {'made':>6} "
            f"{'served':>6} {'p50 ms':>7} {'max ms':>7}"
        )
        idle = 0.0
        for attacked in dict.fromkeys(("nothing", *(options.attacks or ATTACKS))):
            used = await measure(directory, authority, attacked, options.seconds, idle)
            idle = idle or used


if __name__ == "__main__":
    os.environ.setdefault("PYTHONPATH", str(Path(__file__).resolve().parent.parent))
    asyncio.run(main())
