"""What upstreams answer, however wrong, becomes a correct message, a clean error, or a connection
that visibly breaks.

Over both ways through serving/. The origin counts its connections, which shows whether one was used
again.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import struct

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.client import Message
from tests.flow.conftest import PLAIN
from tests.flow.corpus_responses import (
    BAD,
    BROKEN,
    CASES,
    CHUNKED,
    CODINGS,
    FIELDS,
    GOOD,
    INTERIM,
    LENGTH,
    OK,
    STATUS_LINE,
    Case,
    head,
)
from tests.origin import Origin, answer

FINE = answer(b"fine")


class Scripted(Origin):
    """Answers the first request on every connection with `script`, in pieces cut at `cuts`; any
    later one with "fine"."""

    def __init__(self) -> None:
        super().__init__(self._play)
        self.script = b""
        self.cuts: tuple[int, ...] = ()
        self.ends = False
        self.reset = False
        self._seen: set[asyncio.StreamWriter] = set()

    def plan(self, script: bytes, *cuts: int, ends: bool = False, reset: bool = False) -> None:
        self.script, self.cuts, self.ends, self.reset = script, cuts, ends, reset
        self.connections = 0
        self.heads.clear()

    async def _play(
        self,
        origin: Origin,
        head: bytes,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> bool:
        if b"/again " in head:
            writer.write(FINE)
            return True
        at = 0
        for cut in (*self.cuts, len(self.script)):
            writer.write(self.script[at:cut])
            await writer.drain()
            at = cut
            if self.cuts:
                await asyncio.sleep(0)
        if self.reset:
            raw = writer.get_extra_info("socket")
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        return not self.ends


@pytest.fixture
async def scripted():
    one = await Scripted().start()
    yield one
    await one.stop()


async def asked(gateway, connect, case: Case) -> Message | None:
    """The client's view of one request; None when the connection broke before a head."""
    client = await connect(gateway)
    try:
        message = await asyncio.wait_for(client.get("/", method=case.method), 20)
    except (ConnectionError, asyncio.IncompleteReadError):
        return None
    finally:
        client.close()
    return message


def verdict(case: Case, message: Message | None) -> str:
    """What is wrong with what the client got; empty when nothing is."""
    if message is None:
        return "" if case.status == BROKEN else "no answer at all"
    if case.status == BROKEN:
        return (
            ""
            if not message.whole or message.status == 502
            else f"a whole {message.status}: {message.body!r}"
        )
    if not message.whole:
        return "broken off"
    if case.status == BAD:
        fine = message.status == 502 and message.fields["proxy-status"].startswith(
            "gateway; error="
        )
        return "" if fine else f"{message.status}: {message.body!r}"
    if (message.status, message.body) != (case.status, case.body):
        return f"{message.status}: {message.body!r}"
    return ""


async def again(gateway, connect) -> bytes:
    client = await connect(gateway)
    message = await client.get("/again")
    client.close()
    return message.body


def upstream(origin: Origin, more: str = "") -> str:
    return f'[upstream.origin]\nurl = "{origin.url}"\n{more}'


async def test_the_corpus(start, scripted, connect, caplog):
    gateway = await start(PLAIN, upstream(scripted))
    wrong = []
    for case in CASES:
        scripted.plan(case.answer, ends=case.ends)
        problem = verdict(case, await asked(gateway, connect, case))
        if not problem:
            used = scripted.connections
            body = await again(gateway, connect)
            if body != b"fine":
                problem = f"the next request got {body!r}"
            elif (scripted.connections == used) != case.kept:
                problem = (
                    "its connection was used again"
                    if not case.kept
                    else "its connection was not used again"
                )
        gateway.runtime.snapshot.pools["origin"].endpoints[0].close_idle()
        if problem:
            wrong.append(f"{case.name}: {problem}")
    assert not wrong, "\n".join(wrong)
    assert not [
        record for record in caplog.records if record.exc_info or record.levelno >= logging.ERROR
    ]
    assert gateway.runtime.snapshot.pools["origin"].in_flight == 0


SAMPLE = [
    STATUS_LINE[0],
    FIELDS[0],
    FIELDS[10],
    *LENGTH[1:3],
    LENGTH[-5],
    *CODINGS[7:9],
    CODINGS[1],
]
SAMPLE += [INTERIM[1], INTERIM[4], INTERIM[8]]


async def test_a_sample_split_at_every_position(start, scripted, connect):
    gateway = await start(PLAIN, upstream(scripted))
    wrong = []
    for case in SAMPLE:
        for cut in range(1, len(case.answer)):
            scripted.plan(case.answer, cut, ends=case.ends)
            problem = verdict(case, await asked(gateway, connect, case))
            if not problem and await again(gateway, connect) != b"fine":
                problem = "the next request got it"
            gateway.runtime.snapshot.pools["origin"].endpoints[0].close_idle()
            if problem:
                wrong.append(f"{case.name}, {cut}: {problem}")
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("reset", [False, True], ids=["closed", "reset"])
@pytest.mark.parametrize("name", GOOD)
async def test_cut_at_every_position(start, scripted, connect, name, reset):
    """Never whole unless all of it came; a close (not a reset) ends a body that only the
    connection's end delimits."""
    whole = GOOD[name]
    body = b"until the end" if "end" in name else None
    gateway = await start(PLAIN, upstream(scripted))
    for cut in range(len(whole)):
        scripted.plan(whole[:cut], ends=True, reset=reset)
        message = await asked(gateway, connect, Case(name, b""))
        if message is None or not message.whole:
            continue
        if body is not None and not reset and cut >= len(whole) - len(body):
            assert message.status == 200 and message.body == whole[len(whole) - len(body) : cut]
            continue
        assert message.status == 502, f"cut at {cut}: a whole {message.status}, {message.body!r}"
    assert gateway.runtime.snapshot.pools["origin"].in_flight == 0


CACHED = (
    'request = ["caching"]\nresponse = ["caching", "compression"]\n[caching]\ndefault_ttl = '
    '"60s"\n[compression]\nminimum = 1\n'
) + PLAIN


@pytest.mark.parametrize(
    "case", [CODINGS[-15], CODINGS[-8], LENGTH[-8], LENGTH[-7]], ids=lambda case: case.name
)
async def test_what_breaks_off_is_neither_stored_nor_finished_by_a_coding(
    start, scripted, connect, case
):
    assert case.status == BROKEN or case.status == BAD
    gateway = await start(CACHED, upstream(scripted))
    typed = case.answer.replace(
        b"\r\n", b"\r\nContent-Type: text/plain\r\nCache-Control: max-age=60\r\n", 1
    )
    scripted.plan(typed, ends=case.ends)
    for _ in range(2):
        client = await connect(gateway)
        try:
            message = await client.get("/", "Accept-Encoding: gzip")
        except (ConnectionError, asyncio.IncompleteReadError):
            continue
        assert not message.whole or message.status == 502
    assert len(scripted.heads) == 2, "nothing was stored"


async def test_what_comes_late_closes_the_idle_connection(start, connect):
    """A second answer nobody asked for arrives when the first has long been passed on."""
    late = asyncio.Event()
    gone = asyncio.Event()

    async def respond(origin, head, reader, writer):
        writer.write(answer(b"first"))
        if origin.connections > 1:
            return True
        await late.wait()
        writer.write(answer(b"injected"))
        await reader.read()
        gone.set()
        return False

    origin = await Origin(respond).start()
    try:
        client = await connect(await start(PLAIN, upstream(origin)))
        assert (await client.get("/")).body == b"first"
        late.set()
        await asyncio.wait_for(gone.wait(), 20)
        assert (await client.get("/")).body == b"first"
        assert origin.connections == 2
    finally:
        await origin.stop()


EARLY = [
    ("a small answer", answer(b"too large", status="413 Content Too Large"), 413),
    ("a long one", answer(b"x" * 200_000, status="413 Content Too Large"), 413),
    ("a chunked one", head(CHUNKED, b"HTTP/1.1 403 Forbidden\r\n") + b"2\r\nno\r\n0\r\n\r\n", 403),
]


@pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunked"])
@pytest.mark.parametrize(("name", "early", "status"), EARLY, ids=[row[0] for row in EARLY])
async def test_an_early_answer_reaches_the_client_and_ends_both_connections(
    start, connect, chunked, name, early, status
):
    async def respond(origin, head, reader, writer):
        writer.write(early)
        await writer.drain()
        await reader.read()
        return False

    origin = await Origin(respond, read_body=False).start()
    try:
        gateway = await start(PLAIN, upstream(origin))
        client = await connect(gateway)
        framing = b"Transfer-Encoding: chunked" if chunked else b"Content-Length: 1000000"
        await client.send(
            b"POST / HTTP/1.1\r\nHost: a\r\n"
            + framing
            + b"\r\n\r\n"
            + (b"5\r\nhello\r\n" if chunked else b"hello")
        )
        message = await client.read()
        assert (message.status, message.whole) == (status, True)
        assert message.fields["connection"] == "close"
        client.writer.write_eof()
        assert await client.at_end()
        client = await connect(gateway)
        await client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\nhello")
        assert (await client.read()).status == status
        assert origin.connections == 2, (
            "the rest of the first body was still to come on its connection"
        )
    finally:
        await origin.stop()


async def test_an_answer_that_streams_while_the_request_does(start, connect):
    """Both directions at once: the rest of the request goes on being sent while its answer
    arrives."""

    async def echo(origin, head, reader, writer):
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        while size := int((await reader.readuntil(b"\r\n")).strip(), 16):
            part = await reader.readexactly(size)
            await reader.readexactly(2)
            writer.write(b"%x\r\n%b\r\n" % (size, part))
        await reader.readuntil(b"\r\n")
        writer.write(b"0\r\n\r\n")
        return True

    origin = await Origin(echo, read_body=False).start()
    try:
        client = await connect(await start(PLAIN, upstream(origin)))
        await client.send(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
        for number in range(5):
            await client.send(b"6\r\npart %d\r\n" % number)
            if number == 0:
                assert (await client.head())[0] == 200
            assert await client.reader.readexactly(11) == b"6\r\npart %d\r\n" % number
        await client.send(b"0\r\n\r\n")
        assert await client.reader.readexactly(5) == b"0\r\n\r\n"
        assert await client.at_end(), "its end was not known when the answer began"
    finally:
        await origin.stop()


async def test_a_request_that_breaks_off_breaks_its_streaming_answer_off(start, connect):
    broke = asyncio.Event()

    async def listen(origin, head, reader, writer):
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n")
        try:
            while await reader.read(100):
                pass
        except ConnectionError:
            pass
        broke.set()
        return False

    origin = await Origin(listen, read_body=False).start()
    try:
        gateway = await start(PLAIN, upstream(origin))
        client = await connect(gateway)
        await client.send(
            b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n"
        )
        assert (await client.head())[0] == 200
        await client.send(b"nonsense\r\n")
        await asyncio.wait_for(broke.wait(), 20)
        rest = b""
        try:
            rest = await asyncio.wait_for(client.reader.read(), 20)
        except ConnectionError:
            pass
        assert b"0\r\n\r\n" not in rest
        assert gateway.runtime.snapshot.pools["origin"].in_flight == 0
    finally:
        await origin.stop()


PART = st.one_of(
    st.sampled_from(
        [
            OK,
            b"\r\n",
            b"\n",
            b"\r",
            b"Content-Length: 2\r\n",
            b"Content-Length: 70000\r\n",
            CHUNKED,
            b"Connection: close\r\n",
        ]
    ),
    st.sampled_from(
        [
            b"2\r\n",
            b"ok",
            b"0\r\n\r\n",
            b"A: b\r\n",
            b" ",
            b"\x00",
            b"HTTP/1.1 103 E\r\n\r\n",
            b"HTTP/1.1 204 N\r\n\r\n",
            b":",
        ]
    ),
    st.binary(max_size=6),
)
BYTES = st.one_of(
    st.lists(PART, max_size=12).map(b"".join),
    st.tuples(
        st.sampled_from(CASES), st.integers(0, 400), st.binary(max_size=3), st.integers(0, 3)
    ).map(lambda row: row[0].answer[: row[1]] + row[2] + row[0].answer[row[1] + row[3] :]),
)


async def test_generated_answers_neither_crash_nor_hang_nor_leak(start, scripted, connect, caplog):
    """Whatever comes, then the end: the gateway answers or breaks off, and goes on.
    FUZZ_EXAMPLES=30000 makes it ten minutes."""
    gateway = await start(PLAIN, upstream(scripted))
    loop = asyncio.get_running_loop()
    samples: list[tuple[bytes, bool]] = []

    @settings(
        max_examples=int(os.environ.get("FUZZ_EXAMPLES", "150")),
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(BYTES, st.booleans())
    def collect(data: bytes, reset: bool) -> None:
        samples.append((data, reset))

    await loop.run_in_executor(None, collect)
    pause = 0.01 if len(samples) > 2000 else 0.0  # A long run must not use up the machine's ports.
    for data, reset in samples:
        await asyncio.sleep(pause)
        scripted.plan(data[:500_000], ends=True, reset=reset)
        message = await asked(gateway, connect, Case("generated", data))
        assert (
            message is None
            or not message.whole
            or message.status == 502
            or data.startswith(b"HTTP/1.")
        ), data
        assert await again(gateway, connect) == b"fine", data
    assert not [
        record for record in caplog.records if record.exc_info or record.levelno >= logging.ERROR
    ]
    pool = gateway.runtime.snapshot.pools["origin"]
    assert pool.in_flight == 0
    assert len(pool.endpoints[0].idle) <= 1
