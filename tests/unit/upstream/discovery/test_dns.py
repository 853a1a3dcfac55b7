"""Look-ups: questions, answers, and that no bytes a name server may send do harm."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.upstream.discovery.dns import (
    AAAA,
    A,
    BadAnswer,
    Service,
    answers,
    lifetime,
    look_up,
    name_servers,
    question,
)

NAME = "_http._tcp.cameras.internal"
QUERY = question(NAME, 7)
ASKED = QUERY[12:-11]


def encoded(name: str) -> bytes:
    return b"".join(bytes((len(label),)) + label.encode() for label in name.split(".") if label) + b"\0"


def record(priority: int, weight: int, port: int, target: bytes, ttl: int = 30, kind: int = 33) -> bytes:
    data = struct.pack("!HHH", priority, weight, port) + target
    return b"\xc0\x0c" + struct.pack("!HHIH", kind, 1, ttl, len(data)) + data


def reply(*records: bytes, ident: int = 7, flags: int = 0x8180, asked: bytes = ASKED) -> bytes:
    return struct.pack("!HHHHHH", ident, flags, 1, len(records), 0, 0) + asked + b"".join(records)


def test_a_question() -> None:
    assert question("_a._tcp.b", 258)[:12] == b"\x01\x02\x01\x00\x00\x01\x00\x00\x00\x00\x00\x01"
    assert b"\x02_a\x04_tcp\x01b\x00\x00\x21\x00\x01" in question("_a._tcp.b.", 1)
    with pytest.raises(ValueError, match="not a domain name"):
        question("_a.._tcp", 1)


def test_answers_come_by_priority() -> None:
    pointing = b"\x01c\xc0\x17"  # ".cameras.internal" of the question
    data = reply(record(2, 1, 81, encoded("b.internal")), record(1, 5, 80, pointing, 9), record(0, 0, 0, b"", kind=5))
    assert answers(data, QUERY) == [Service(1, 5, 80, "c.cameras.internal", 9), Service(2, 1, 81, "b.internal", 30)]


def test_a_service_that_is_decidedly_not_there() -> None:
    assert answers(reply(record(0, 0, 0, b"\0")), QUERY) == []


BAD = [
    ("of another question's id", reply(ident=8), "another question"),
    ("a question itself", reply(flags=0x0100), "another question"),
    ("for another name", reply(asked=encoded("_x._tcp.other") + b"\0\x21\0\x01"), "another question"),
    ("no such name", reply(flags=0x8183), "no such name"),
    ("a failure", reply(flags=0x8182), "failed"),
    ("a refusal", reply(flags=0x8185), "refused"),
    ("too short for its head", b"\0\x07", "cannot be read"),
    ("too short for its records", reply(record(1, 1, 1, encoded("a")))[:-4], "over the end|cannot be read"),
    ("a name that points at itself", reply(record(1, 1, 1, b"\xc0\xff")), "forward|cannot be read"),
    ("a name that runs over the end", reply(record(1, 1, 1, b"\x3fabc")), "over the end"),
    ("a name that is no host's", reply(record(1, 1, 1, encoded("a/b"))), "no host's name"),
    ("letters that are none", reply(record(1, 1, 1, b"\x02\xff\xff\0")), "cannot be read"),
]


@pytest.mark.parametrize(("data", "why"), [case[1:] for case in BAD], ids=[case[0] for case in BAD])
def test_bad_answers(data: bytes, why: str) -> None:
    with pytest.raises(BadAnswer, match=why):
        answers(data, QUERY)


@given(st.binary(max_size=120))
def test_no_bytes_do_harm(rest: bytes) -> None:
    try:
        found = answers(reply()[:6] + b"\0\x05\0\0\0\0" + ASKED + rest, QUERY)
    except BadAnswer:
        return
    assert all(isinstance(one, Service) for one in found)


class Server(asyncio.DatagramProtocol):
    def __init__(self, say: Callable[[bytes], list[bytes]]) -> None:
        self.say = say

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        for one in self.say(data):
            self.transport.sendto(one, addr)  # type: ignore[attr-defined]


@asynccontextmanager
async def serving(say: Callable[[bytes], list[bytes]], port: int = 0) -> AsyncIterator[int]:
    transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(lambda: Server(say), local_addr=("127.0.0.1", port))
    try:
        yield transport.get_extra_info("sockname")[1]
    finally:
        transport.close()


async def test_a_look_up() -> None:
    def say(query: bytes) -> list[bytes]:
        good = query[:2] + reply(record(1, 2, 3, encoded("a.internal")))[2:]
        return [b"\xff\xff" + good[2:] if query[:2] != b"\xff\xff" else b"", good, good]

    async with serving(say) as port:
        assert await look_up(NAME, ["127.0.0.1"], port) == [Service(1, 2, 3, "a.internal", 30)]


@pytest.mark.parametrize(
    ("say", "timeout", "why"),
    [(lambda q: [], 0.05, "no answer within"), (lambda q: [q[:2] + reply(flags=0x8183)[2:]], 10, "no such")],
)
async def test_a_look_up_that_fails(say: Callable[[bytes], list[bytes]], timeout: float, why: str) -> None:
    async with serving(say) as port:
        with pytest.raises(OSError, match=why):
            await look_up(NAME, ["127.0.0.1"], port, timeout=timeout)
    with pytest.raises(OSError, match=r"127\.0\.0\.1"):
        await look_up(NAME, ["127.0.0.1"], port, timeout=timeout)


def address(ttl: int, kind: int = A) -> bytes:
    return b"\xc0\x0c" + struct.pack("!HHIH", kind, 1, ttl, 4) + b"\x7f\0\0\x01"


@pytest.mark.parametrize(
    ("of_a", "of_aaaa", "expected", "why"),
    [
        ([address(30), address(20)], [], 20, "the shortest"),
        ([address(30)], [address(7, AAAA)], 7, "of both kinds"),
        ([address(300), address(5, 5)], [], 5, "and of the names on the way"),
        ([address(9, 16)], [], None, "something else"),
        ([], None, None, "nothing"),
        (None, [address(8, AAAA)], 8, "one of the two"),
    ],
)
async def test_how_long_addresses_are_good(of_a, of_aaaa, expected, why) -> None:
    def say(query: bytes) -> list[bytes]:
        records = of_a if query[-15:-13] == b"\0\x01" else of_aaaa
        flags = 0x8183 if records is None else 0x8180
        return [query[:2] + reply(*records or (), flags=flags, asked=query[12:-11])[2:]]

    async with serving(say) as port:
        assert await lifetime("cameras.internal", ["127.0.0.1"], port) == expected


@pytest.mark.parametrize("host", ["192.0.2.1", "2001:db8::1", "a..b"])
async def test_what_is_no_name_lasts_as_long_as_it_likes(host: str) -> None:
    async with serving(lambda query: pytest.fail("nobody is to be asked")) as port:
        assert await lifetime(host, ["127.0.0.1"], port) is None


@pytest.mark.parametrize(("cut", "expected"), [(0, 200), (1, "cut off|0 bytes|bytes read")])
async def test_what_is_too_long_for_a_datagram_comes_over_tcp(cut: int, expected: int | str) -> None:
    whole = [record(1, 1, 80 + number, encoded(f"a{number}.internal")) for number in range(200)]

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        query = await reader.readexactly(int.from_bytes(await reader.readexactly(2)))
        data = query[:2] + reply(*whole)[2:]
        writer.write(len(data).to_bytes(2) + data[: len(data) - cut])
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with serving(lambda query: [query[:2] + reply(whole[0], flags=0x8380)[2:]], port):
        async with server:
            if isinstance(expected, int):
                assert len(await look_up(NAME, ["127.0.0.1"], port)) == expected
            else:
                with pytest.raises(OSError, match=expected):
                    await look_up(NAME, ["127.0.0.1"], port)
        with pytest.raises(OSError, match="127"):
            await look_up(NAME, ["127.0.0.1"], port)


def test_name_servers(tmp_path: Path) -> None:
    (tmp_path / "resolv.conf").write_text("# here\nsearch internal\nnameserver 192.0.2.53\nnameserver 192.0.2.54\nnameserver\n")
    assert name_servers(tmp_path / "resolv.conf") == ["192.0.2.53", "192.0.2.54"]
    assert name_servers(tmp_path / "none") == ["127.0.0.1"]
