"""Look-ups against a name server of our own: records, TTLs, search domains, TCP, and answers that
do no harm."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import dns.flags
import dns.message
import dns.rcode
import dns.resolver
import dns.rrset
import pytest

from gateway.upstream.discovery.dns import Service, lifetime, look_up

NAME = "_http._tcp.cameras.internal"
Say = Callable[[dns.message.Message], dns.message.Message | list[bytes] | None]


def answer(
    query: dns.message.Message, *records: str, code: dns.rcode.Rcode = dns.rcode.NOERROR
) -> dns.message.Message:
    """An answer of records such as "cameras.internal 30 IN A 127.0.0.1"."""
    reply = dns.message.make_response(query)
    reply.set_rcode(code)
    for record in records:
        name, ttl, _, kind, data = record.split(" ", 4)
        reply.answer.append(dns.rrset.from_text(f"{name}.", int(ttl), "IN", kind, data))
    return reply


class Server(asyncio.DatagramProtocol):
    def __init__(self, say: Say) -> None:
        self.say = say

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        said = self.say(dns.message.from_wire(data))
        if said is not None:
            for one in said if isinstance(said, list) else [said.to_wire()]:
                self.transport.sendto(one, addr)  # type: ignore[attr-defined]


@asynccontextmanager
async def serving(say: Say, port: int = 0) -> AsyncIterator[int]:
    transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(
        lambda: Server(say), local_addr=("127.0.0.1", port)
    )
    try:
        yield transport.get_extra_info("sockname")[1]
    finally:
        transport.close()


async def looked_up(say: Say, timeout: float = 10.0) -> list[Service]:
    async with serving(say) as port:
        return await look_up(NAME, ["127.0.0.1"], port, timeout=timeout)


async def test_services_come_by_priority() -> None:
    found = await looked_up(
        lambda query: answer(
            query, f"{NAME} 30 IN SRV 2 1 81 b.internal.", f"{NAME} 9 IN SRV 1 5 80 a.internal."
        )
    )
    assert found == [Service(1, 5, 80, "a.internal", 9), Service(2, 1, 81, "b.internal", 9)]


async def test_the_ttl_is_the_shortest_on_the_way() -> None:
    found = await looked_up(
        lambda query: answer(
            query,
            f"{NAME} 5 IN CNAME other.internal.",
            "other.internal 30 IN SRV 1 1 80 a.internal.",
        )
    )
    assert found == [Service(1, 1, 80, "a.internal", 5)]


@pytest.mark.parametrize("records", [[], [f"{NAME} 30 IN SRV 0 0 0 ."]])
async def test_a_service_that_is_decidedly_not_there(records: list[str]) -> None:
    assert await looked_up(lambda query: answer(query, *records)) == []


async def test_an_answer_to_another_question_is_not_taken() -> None:
    def say(query: dns.message.Message) -> list[bytes]:
        good = answer(query, f"{NAME} 30 IN SRV 1 2 3 a.internal.").to_wire()
        other = bytes((good[0] ^ 1,)) + good[1:]
        return [other, b"", b"\0", good[:9], good, good]

    assert await looked_up(say) == [Service(1, 2, 3, "a.internal", 30)]


@pytest.mark.parametrize(
    ("say", "timeout", "why"),
    [
        (lambda query: None, 0.05, r"127\.0\.0\.1.*gave no answer within 0.05 s"),
        (lambda query: answer(query, code=dns.rcode.NXDOMAIN), 10, "no such name"),
        (lambda query: answer(query, code=dns.rcode.SERVFAIL), 0.2, "SERVFAIL|no answer"),
        (lambda query: answer(query, code=dns.rcode.REFUSED), 0.2, "REFUSED|no answer"),
        (
            lambda query: answer(query, f"{NAME} 30 IN SRV 1 1 80 a\\032b.internal."),
            10,
            "no host's name",
        ),
        (lambda query: [b"\0\x07"], 0.05, "no answer"),
    ],
)
async def test_a_look_up_that_fails(say: Say, timeout: float, why: str) -> None:
    with pytest.raises(OSError, match=why):
        await looked_up(say, timeout)


async def test_what_is_no_name_is_not_asked_for() -> None:
    with pytest.raises(OSError, match="empty"):
        await look_up("_http.._tcp", ["127.0.0.1"], 1)


@pytest.mark.parametrize(
    ("of_a", "of_aaaa", "expected", "why"),
    [
        (["a.b 30 IN A 127.0.0.1"], [], 30, "the addresses'"),
        (["a.b 30 IN A 127.0.0.1"], ["a.b 7 IN AAAA ::1"], 7, "the shortest of both kinds"),
        (["a.b 5 IN CNAME c.d.", "c.d 300 IN A 127.0.0.1"], [], 5, "and of the names on the way"),
        ([], None, None, "nothing"),
        (None, ["a.b 8 IN AAAA ::1"], 8, "one of the two"),
    ],
)
async def test_how_long_addresses_are_good(
    of_a: list[str] | None, of_aaaa: list[str] | None, expected: int | None, why: str
) -> None:
    def say(query: dns.message.Message) -> dns.message.Message:
        records = of_a if query.question[0].rdtype == dns.rdatatype.A else of_aaaa
        return answer(
            query, *records or (), code=dns.rcode.NXDOMAIN if records is None else dns.rcode.NOERROR
        )

    async with serving(say) as port:
        assert await lifetime("a.b", ["127.0.0.1"], port) == expected


@pytest.mark.parametrize("host", ["192.0.2.1", "2001:db8::1", "a..b"])
async def test_what_is_no_name_lasts_as_long_as_it_likes(host: str) -> None:
    async with serving(lambda query: pytest.fail("nothing is to be asked")) as port:
        assert await lifetime(host, ["127.0.0.1"], port) is None


async def test_what_is_too_long_for_a_datagram_comes_over_tcp() -> None:
    records = [f"{NAME} 30 IN SRV 1 1 {80 + number} a{number}.internal." for number in range(200)]

    async def over_tcp(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        query = dns.message.from_wire(
            await reader.readexactly(int.from_bytes(await reader.readexactly(2)))
        )
        data = answer(query, *records).to_wire(max_size=65535)
        writer.write(len(data).to_bytes(2) + data)
        writer.close()

    def truncated(query: dns.message.Message) -> dns.message.Message:
        assert query.payload == 1232, "EDNS"
        reply = answer(query)
        reply.flags |= dns.flags.TC
        return reply

    server = await asyncio.start_server(over_tcp, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with serving(truncated, port), server:
        assert len(await look_up(NAME, ["127.0.0.1"], port)) == 200


async def test_search_domains_are_followed(monkeypatch: pytest.MonkeyPatch) -> None:
    """As /etc/resolv.conf has them; its name servers are asked where none are given."""
    asked = []

    def say(query: dns.message.Message) -> dns.message.Message:
        name = query.question[0].name.to_text(omit_final_dot=True)
        asked.append(name)
        if not name.endswith(".cluster.local"):
            return answer(query, code=dns.rcode.NXDOMAIN)
        return answer(query, f"{name} 30 IN SRV 1 1 80 a.internal.")

    def read(self: dns.resolver.BaseResolver, f: object) -> None:
        self.nameservers = ["127.0.0.1"]
        self.search = [dns.name.from_text("cluster.local.")]

    monkeypatch.setattr(dns.resolver.BaseResolver, "read_resolv_conf", read)
    async with serving(say) as port:
        assert await look_up("_http._tcp.cameras", None, port) == [
            Service(1, 1, 80, "a.internal", 30)
        ]
    assert "_http._tcp.cameras.cluster.local" in asked


async def test_without_a_configuration_this_machine_is_asked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def read(self: dns.resolver.BaseResolver, f: object) -> None:
        raise dns.resolver.NoResolverConfiguration

    monkeypatch.setattr(dns.resolver.BaseResolver, "read_resolv_conf", read)
    async with serving(lambda query: answer(query, f"{NAME} 30 IN SRV 1 2 3 a.internal.")) as port:
        assert await look_up(NAME, None, port) == [Service(1, 2, 3, "a.internal", 30)]
