"""SRV records (RFC 2782), which the system's resolver does not look up: one question to a name server, and its answer read.

What comes back is other people's bytes: every length is checked, compression pointers only lead back, and an answer counts only
with the question's id and name. A recursive name server is asked, the first of /etc/resolv.conf that answers.
"""

from __future__ import annotations

import asyncio
import random
import struct
from pathlib import Path
from typing import NamedTuple

TIMEOUT = 2.0
"""Seconds for one name server."""

PORT = 53
SRV, OPT, IN = 33, 41, 1

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


def question(name: str, ident: int) -> bytes:
    """A query for SRV records of `name`, with recursion, ready for answers of 4096 bytes (EDNS, RFC 6891). Raises ValueError."""
    labels = [label.encode("idna") if not label.startswith("_") else label.encode() for label in name.rstrip(".").split(".")]
    if not all(0 < len(label) < 64 for label in labels):
        raise ValueError(f"{name!r} is not a domain name")
    asked = b"".join(bytes((len(label),)) + label for label in labels) + b"\0"
    return _HEAD.pack(ident, 0x0100, 1, 0, 0, 1) + asked + struct.pack("!HH", SRV, IN) + b"\0" + _RECORD.pack(OPT, 4096, 0, 0)


def answers(data: bytes, asked: bytes) -> list[Service]:
    """The services in the answer `data` to the query `asked`. Raises BadAnswer."""
    try:
        ident, flags, questions, count, _, _ = _HEAD.unpack_from(data)
        if ident != _HEAD.unpack_from(asked)[0] or not flags & 0x8000 or questions != 1:
            raise BadAnswer("it answers another question")
        if flags & 0x000F:
            raise BadAnswer({2: "the name server failed", 3: "there is no such name"}.get(flags & 0x000F, "it was refused"))
        name, at = _name(data, _HEAD.size)
        if name.lower() != _name(asked, _HEAD.size)[0].lower():
            raise BadAnswer("it answers another question")
        at += 4
        found = []
        for _ in range(count):
            _, at = _name(data, at)
            kind, _, ttl, length = _RECORD.unpack_from(data, at)
            at += _RECORD.size
            if kind == SRV:
                target = _name(data, at + _SRV.size)[0]
                if target:  # RFC 2782: "." says that the service is decidedly not there.
                    priority, weight, port = _SRV.unpack_from(data, at)
                    found.append(Service(priority, weight, port, target, ttl))
            at += length
    except (struct.error, IndexError, UnicodeDecodeError) as error:
        raise BadAnswer(f"it cannot be read: {error}") from None
    return sorted(found)


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
        self.answer: asyncio.Future[list[Service]] = asyncio.get_running_loop().create_future()

    def datagram_received(self, data: bytes, addr: object) -> None:
        if data[:2] != self.query[:2] or self.answer.done():
            return  # Not ours, or late: anybody can send datagrams.
        try:
            self.answer.set_result(answers(data, self.query))
        except BadAnswer as bad:
            self.answer.set_exception(bad)

    def error_received(self, error: Exception) -> None:
        if not self.answer.done():
            self.answer.set_exception(error)


async def look_up(name: str, servers: list[str] | None = None, port: int = PORT, timeout: float = TIMEOUT) -> list[Service]:
    """The services of `name`. Raises OSError when no name server says anything that can be used."""
    problem = "there is no name server"
    for server in name_servers() if servers is None else servers:
        query = question(name, random.SystemRandom().randrange(65536))
        transport = None
        try:
            async with asyncio.timeout(timeout):
                opened = await asyncio.get_running_loop().create_datagram_endpoint(
                    lambda query=query: _Asked(query),  # type: ignore[misc]
                    remote_addr=(server, port),
                )
                transport, protocol = opened
                transport.sendto(query)
                return await protocol.answer
        except TimeoutError:
            problem = f"{server} gave no answer within {timeout:g} s"
        except (OSError, BadAnswer) as error:
            problem = f"{server}: {error}"
        finally:
            if transport is not None:
                transport.close()
    raise OSError(0, problem)
