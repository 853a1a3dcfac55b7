"""What the system's resolver does not tell: SRV records (RFC 2782), and how long addresses are good for.

One question to a name server, and its answer read. What comes back is other people's bytes: every length is checked, compression
pointers only lead back, and an answer counts only with the question's id and name. A recursive name server is asked, the first of
/etc/resolv.conf that answers; over TCP when an answer is too long for a datagram (RFC 7766).
"""

from __future__ import annotations

import asyncio
import random
import re
import struct
from collections.abc import Callable, Iterator
from ipaddress import ip_address
from pathlib import Path
from typing import NamedTuple, TypeVar

TIMEOUT = 2.0
"""Seconds for one name server."""

PORT = 53
A, CNAME, AAAA, SRV, OPT, IN = 1, 5, 28, 33, 41, 1
_TRUNCATED = 0x0200
_HOST = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_.-]*[A-Za-z0-9_])?", re.ASCII)

T = TypeVar("T")

_HEAD = struct.Struct("!HHHHHH")
_RECORD = struct.Struct("!HHIH")
_SRV = struct.Struct("!HHH")


class Service(NamedTuple):
    """One record; the lowest `priority` comes first, `weight` is the share among its equals, `ttl` is in seconds."""

    priority: int
    weight: int
    port: int
    target: str
    ttl: int


class BadAnswer(ValueError):
    """What a name server sent cannot be read, is not the answer to the question, or says that there is none."""


class Truncated(Exception):
    """There is more than the datagram holds."""


def question(name: str, ident: int, kind: int = SRV) -> bytes:
    """A query for records of `name`, with recursion, ready for answers of 4096 bytes (EDNS, RFC 6891). Raises ValueError."""
    labels = [label.encode("idna") if not label.startswith("_") else label.encode() for label in name.rstrip(".").split(".")]
    if not all(0 < len(label) < 64 for label in labels):
        raise ValueError(f"{name!r} is not a domain name")
    asked = b"".join(bytes((len(label),)) + label for label in labels) + b"\0"
    return _HEAD.pack(ident, 0x0100, 1, 0, 0, 1) + asked + struct.pack("!HH", kind, IN) + b"\0" + _RECORD.pack(OPT, 4096, 0, 0)


def answers(data: bytes, asked: bytes) -> list[Service]:
    """The services in the answer `data` to the query `asked`. Raises BadAnswer, Truncated."""
    found = []
    for kind, ttl, at in _records(data, asked):
        if kind != SRV:
            continue
        try:
            priority, weight, port = _SRV.unpack_from(data, at)
            target = _name(data, at + _SRV.size)[0]
        except (struct.error, IndexError, UnicodeDecodeError) as error:
            raise BadAnswer(f"it cannot be read: {error}") from None
        if target and not _HOST.fullmatch(target):
            raise BadAnswer(f"{target!r} is no host's name")
        if target:  # RFC 2782: "." says that the service is decidedly not there.
            found.append(Service(priority, weight, port, target, ttl))
    return sorted(found)


def lasting(data: bytes, asked: bytes) -> list[int]:
    """The TTLs of addresses, and of names on the way to them, in the answer `data` to `asked`. Raises BadAnswer, Truncated."""
    return [ttl for kind, ttl, _ in _records(data, asked) if kind in (A, AAAA, CNAME)]


def _records(data: bytes, asked: bytes) -> Iterator[tuple[int, int, int]]:
    """Of each record in the answer: its kind, its TTL, and where what it says begins."""
    try:
        ident, flags, questions, count, _, _ = _HEAD.unpack_from(data)
        if ident != _HEAD.unpack_from(asked)[0] or not flags & 0x8000 or questions != 1:
            raise BadAnswer("it answers another question")
        if flags & 0x000F:
            raise BadAnswer({2: "the name server failed", 3: "there is no such name"}.get(flags & 0x000F, "it was refused"))
        if flags & _TRUNCATED:
            raise Truncated
        name, at = _name(data, _HEAD.size)
        if name.lower() != _name(asked, _HEAD.size)[0].lower():
            raise BadAnswer("it answers another question")
        at += 4
        for _ in range(count):
            _, at = _name(data, at)
            kind, _, ttl, length = _RECORD.unpack_from(data, at)
            at += _RECORD.size
            yield kind, ttl, at
            at += length
    except (struct.error, IndexError, UnicodeDecodeError) as error:
        raise BadAnswer(f"it cannot be read: {error}") from None


def _name(data: bytes, at: int) -> tuple[str, int]:
    """A domain name at `at`, and where it ends (RFC 1035 section 4.1.4)."""
    labels, end, before = [], 0, at
    while length := data[at]:
        if length >= 0xC0:
            pointer = (length & 0x3F) << 8 | data[at + 1]
            if pointer >= before:
                raise BadAnswer("a name points forward")
            end = end or at + 2
            at = before = pointer
            continue
        if length >= 0x40 or at + 1 + length >= len(data):
            raise BadAnswer("a name runs over the end")
        labels.append(data[at + 1 : at + 1 + length].decode("ascii"))
        at += 1 + length
    return ".".join(labels), end or at + 1


def name_servers(path: Path = Path("/etc/resolv.conf")) -> list[str]:
    """Their addresses; this machine's own where none is named."""
    try:
        words = [line.split() for line in path.read_text("utf-8").splitlines()]
    except (OSError, ValueError):
        words = []
    return [word[1] for word in words if len(word) > 1 and word[0] == "nameserver"] or ["127.0.0.1"]


class _Asked(asyncio.DatagramProtocol):
    """Waits for the answer to one query."""

    def __init__(self, query: bytes) -> None:
        self.query = query
        self.answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    def datagram_received(self, data: bytes, addr: object) -> None:
        if data[:2] == self.query[:2] and not self.answer.done():  # Not ours, or late: anybody can send datagrams.
            self.answer.set_result(data)

    def error_received(self, error: Exception) -> None:
        if not self.answer.done():
            self.answer.set_exception(error)


async def look_up(name: str, servers: list[str] | None = None, port: int = PORT, timeout: float = TIMEOUT) -> list[Service]:
    """The services of `name`. Raises OSError when no name server says anything that can be used."""
    return await _ask(name, SRV, answers, servers, port, timeout)


async def lifetime(host: str, servers: list[str] | None = None, port: int = PORT, timeout: float = TIMEOUT) -> float | None:
    """For how many seconds the addresses of `host` are good; None when DNS does not say, as of names in /etc/hosts."""
    try:
        ip_address(host)
        return None
    except ValueError:
        pass
    found: list[int] = []
    for kind in (A, AAAA):
        try:
            found += await _ask(host, kind, lasting, servers, port, timeout)
        except (OSError, ValueError):
            continue
    return min(found, default=None)


async def _ask(
    name: str, kind: int, read: Callable[[bytes, bytes], T], servers: list[str] | None, port: int, timeout: float
) -> T:
    """What `read` makes of the first answer that it can read. Raises OSError."""
    problem = "there is no name server"
    for server in name_servers() if servers is None else servers:
        query = question(name, random.SystemRandom().randrange(65536), kind)
        try:
            async with asyncio.timeout(timeout):
                try:
                    return read(await _by_datagram(query, server, port), query)
                except Truncated:
                    return read(await _by_stream(query, server, port), query)
        except TimeoutError:
            problem = f"{server} gave no answer within {timeout:g} s"
        except (OSError, BadAnswer, Truncated, asyncio.IncompleteReadError) as error:
            problem = f"{server}: {str(error) or 'its answer is cut off'}"
    raise OSError(0, problem)


async def _by_datagram(query: bytes, server: str, port: int) -> bytes:
    transport, protocol = await asyncio.get_running_loop().create_datagram_endpoint(
        lambda: _Asked(query), remote_addr=(server, port)
    )
    try:
        transport.sendto(query)
        return await protocol.answer
    finally:
        transport.close()


async def _by_stream(query: bytes, server: str, port: int) -> bytes:
    """RFC 7766 section 8: every message with its length before it."""
    reader, writer = await asyncio.open_connection(server, port)
    try:
        writer.write(len(query).to_bytes(2) + query)
        return await reader.readexactly(int.from_bytes(await reader.readexactly(2)))
    finally:
        writer.close()
