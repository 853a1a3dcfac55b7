"""TLS between a client's SSLObject and a TlsTransport, without sockets: moments that real ones do
not arrange."""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from gateway.serving.net.tls import DROPPED, GOODBYE, HELD_BACK, State, TlsTransport, reason
from tests.certificates import Authority


class Plain(asyncio.Transport):
    """The socket's transport."""

    def __init__(self) -> None:
        super().__init__()
        self.sent = b""
        self.reading = True
        self.state = "open"
        self.unsent = 0

    def write(self, data: Any) -> None:
        self.sent += data

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    def close(self) -> None:
        self.state = "closed"

    def abort(self) -> None:
        self.state = "aborted"

    def is_closing(self) -> bool:
        return self.state != "open"

    def get_write_buffer_size(self) -> int:
        return self.unsent

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return ("192.0.2.1", 1) if name == "peername" else default


class Above(asyncio.Protocol):
    """The connection above."""

    def __init__(self) -> None:
        self.heard: list[object] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.heard.append("made")

    def data_received(self, data: bytes) -> None:
        self.heard.append(data)

    def eof_received(self) -> bool:
        self.heard.append("eof")
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self.heard.append("lost")

    def pause_writing(self) -> None:
        self.heard.append("pause")

    def resume_writing(self) -> None:
        self.heard.append("resume")


class World:
    """The owner of one TlsTransport, and its client."""

    def __init__(self, server: ssl.SSLContext, client: ssl.SSLContext) -> None:
        self.above = Above()
        self.failures: list[str] = []
        self.waiting: set[TlsTransport] = set()
        self.plain = Plain()
        self.tls = TlsTransport(self, server, "192.0.2.1")  # type: ignore[arg-type]
        self.tls.connection_made(self.plain)
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.client = client.wrap_bio(self.incoming, self.outgoing, server_hostname="gateway.test")

    def secured(self, tls: TlsTransport) -> Above:
        self.waiting.discard(tls)
        return self.above

    def unsecured(self, tls: TlsTransport, why: str) -> None:
        self.failures.append(why)

    def spoke_http(self, tls: TlsTransport) -> bytes:
        return b"HTTP/1.1 400 Bad Request\r\n\r\n"

    def remember(self, tls: TlsTransport) -> None:
        self.waiting.add(tls)

    def forget(self, tls: TlsTransport) -> None:
        self.waiting.discard(tls)

    def pass_on(self) -> None:
        """What each side has written reaches the other."""
        sent, self.plain.sent = self.plain.sent, b""
        self.incoming.write(sent)
        data = self.outgoing.read()
        if data:
            self.tls.data_received(data)

    def shake(self) -> None:
        for _ in range(4):
            try:
                self.client.do_handshake()
            except ssl.SSLWantReadError:
                pass
            self.pass_on()

    def read(self) -> bytes:
        self.pass_on()
        found = b""
        try:
            while chunk := self.client.read(65536):
                found += chunk
        except ssl.SSLWantReadError:
            pass
        return found


@pytest.fixture
def contexts(tmp_path: Path) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    authority = Authority(tmp_path)
    authority.issue("edge", "gateway.test")
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(tmp_path / "edge.pem", tmp_path / "edge.key")
    server.set_alpn_protocols(["http/1.1"])
    return server, authority.trusting()


@pytest.fixture
async def world(contexts: tuple[ssl.SSLContext, ssl.SSLContext]) -> World:
    return World(*contexts)


async def test_the_protocol_takes_over_after_the_handshake(world):
    assert world.waiting == {world.tls} and "shaking" in repr(world.tls)
    world.shake()
    assert (
        world.tls.state is State.OPEN and world.above.heard == ["made"] and world.waiting == set()
    )
    world.client.write(b"hello")
    world.pass_on()
    world.tls.write(b"x" * 100_000)
    assert world.above.heard == ["made", b"hello"]
    assert world.read() == b"x" * 100_000
    assert (world.tls.alpn, world.tls.get_extra_info("peername")) == ("", ("192.0.2.1", 1))


async def test_alpn_says_which_protocol(contexts):
    contexts[1].set_alpn_protocols(["h2", "http/1.1"])
    world = World(*contexts)
    world.shake()
    assert world.tls.alpn == "http/1.1"


async def test_data_that_came_with_the_end_of_the_handshake_is_heard(world):
    for _ in range(2):
        try:
            world.client.do_handshake()
        except ssl.SSLWantReadError:
            pass
        if world.plain.sent:
            sent, world.plain.sent = world.plain.sent, b""
            world.incoming.write(sent)
            world.client.do_handshake()
            world.client.write(b"early")
        world.tls.data_received(world.outgoing.read())
    assert world.above.heard == ["made", b"early"]


async def test_tickets_go_out_with_the_first_answer(world):
    world.shake()
    assert world.tls.state is State.OPEN and not world.client.session.has_ticket
    world.tls.write(b"answer")
    assert len(world.plain.sent) > 200
    assert world.read() == b"answer"
    assert world.client.session.has_ticket


async def test_tickets_go_out_at_the_end_if_there_was_no_answer(world):
    world.shake()
    world.tls.close()
    assert world.read() == b""
    assert world.client.session.has_ticket


async def test_the_client_of_tls_1_2_gets_the_end_of_the_handshake_at_once(contexts):
    contexts[0].maximum_version = ssl.TLSVersion.TLSv1_2
    world = World(*contexts)
    world.shake()
    world.client.do_handshake()
    assert (world.client.version(), world.tls.state) == ("TLSv1.2", State.OPEN)


async def test_records_that_come_in_pieces_or_together(world):
    world.shake()
    world.client.write(b"a" * 40_000)
    world.client.write(b"b")
    data = world.outgoing.read()
    for start in range(0, len(data), 9_999):
        world.tls.data_received(data[start : start + 9_999])
    assert b"".join(world.above.heard[1:]) == b"a" * 40_000 + b"b"
    world.client.write(b"c")
    with pytest.raises(ssl.SSLWantReadError):
        world.client.unwrap()
    world.pass_on()
    assert world.above.heard[-2:] == [b"c", "eof"]


async def test_nothing_is_read_on_after_a_pause(world):
    world.shake()
    world.tls.pause_reading()
    assert not world.plain.reading and not world.tls.is_reading()
    world.client.write(b"later")
    world.pass_on()  # It was on its way already.
    assert world.above.heard == ["made"]
    world.tls.resume_reading()
    assert world.above.heard == ["made", b"later"] and world.plain.reading


async def test_a_socket_that_is_full_before_there_is_a_protocol(world):
    world.tls.pause_writing()
    world.shake()
    assert world.above.heard == ["made", "pause"]
    world.tls.resume_writing()
    assert world.above.heard[-1] == "resume"


async def test_http_gets_its_answer_in_clear(world):
    world.tls.data_received(b"GET / HTTP/1.1\r\n\r\n")
    assert world.plain.sent.startswith(b"HTTP/1.1 400 ") and world.plain.state == "closed"
    world.tls.data_received(b"more")
    world.tls.connection_lost(None)
    assert world.failures == [] and world.waiting == set()


async def test_what_is_no_tls_ends(world):
    world.tls.data_received(b"\x00\x01\x02\x03\x04\x05\x06\x07")
    assert world.plain.state == "closed" and len(world.failures) == 1


async def test_a_malformed_handshake_gets_an_alert(world):
    world.tls.data_received(b"\x16\x03\x01\x00\x05\x01\x00\x00\x01\x00")
    assert world.plain.sent[:1] == b"\x15", "an alert record (RFC 8446 section 5.1)"
    assert world.plain.state == "closed" and len(world.failures) == 1


async def test_half_a_handshake_and_the_end(world):
    with pytest.raises(ssl.SSLWantReadError):
        world.client.do_handshake()
    world.tls.data_received(world.outgoing.read()[:100])
    world.tls.connection_lost(None)
    world.tls.connection_lost(None)
    assert world.failures == ["the client left within its handshake"] and world.waiting == set()


async def test_a_handshake_that_takes_too_long(world):
    assert not world.tls.expired(world.tls.since + 9.9, 10.0)
    assert world.tls.expired(world.tls.since + 10.1, 10.0)
    world.tls.give_up("too slow")
    assert (world.failures, world.plain.state) == (["too slow"], "aborted")
    world.tls.connection_lost(None)
    assert world.failures == ["too slow"], "counted once"


async def test_closing_awaits_close_notify(world):
    world.shake()
    world.tls.write(b"last")
    world.tls.close()
    assert (
        world.tls.state is State.CLOSING
        and world.plain.state == "open"
        and world.waiting == {world.tls}
    )
    assert world.read() == b"last"
    world.client.write(b"still talking")
    world.pass_on()
    assert world.above.heard == ["made"] and world.plain.state == "open"
    world.client.unwrap()
    world.pass_on()
    assert world.plain.state == "closed"
    world.tls.connection_lost(None)
    assert world.above.heard == ["made", "lost"] and world.waiting == set()


async def test_a_client_that_is_told_the_end_and_goes_on_is_left_to_the_kernel(world):
    world.shake()
    world.tls.close()
    for _ in range(DROPPED // 10_000):
        world.client.write(bytes(10_000))
        world.pass_on()
        assert world.plain.reading
    world.client.write(bytes(10_000))
    world.pass_on()
    assert not world.plain.reading
    world.client.write(bytes(10_000))
    world.pass_on()
    assert world.above.heard == ["made"] and world.tls.state is State.CLOSING


async def test_the_last_data_and_close_notify_are_one_piece(world):
    world.shake()
    world.tls.write(b"first")
    assert world.read() == b"first"
    pieces: list[bytes] = []
    world.plain.write = pieces.append  # type: ignore[method-assign]
    world.tls.write_last(b"last")
    assert len(pieces) == 1 and world.tls.state is State.CLOSING and world.plain.state == "open"
    world.tls.close()
    world.tls.write_last(b"nothing after it")
    assert len(pieces) == 1 and world.waiting == {world.tls}
    world.incoming.write(pieces[0])
    assert (world.client.read(), world.client.read()) == (b"last", b"")
    world.client.unwrap()
    world.pass_on()
    assert world.plain.state == "closed"


async def test_close_notify_is_not_awaited_for_ever(world):
    world.shake()
    world.tls.close()
    assert world.tls.expired(world.tls.since + GOODBYE + 0.1, 10.0)
    world.tls.give_up("")
    assert world.plain.state == "aborted" and world.failures == []


async def test_close_notify_is_awaited_of_a_client_that_has_taken_all(world):
    world.shake()
    world.plain.unsent = 1
    world.tls.write_last(b"last")
    now = world.tls.since + 2 * GOODBYE
    assert not world.tls.expired(now, 10.0)
    world.plain.unsent = 0
    assert not world.tls.expired(now + GOODBYE, 10.0)
    assert world.tls.expired(now + GOODBYE + 0.1, 10.0)


async def test_a_client_that_says_goodbye_is_answered(world):
    world.shake()
    world.client.write(b"bye")
    with pytest.raises(ssl.SSLWantReadError):
        world.client.unwrap()
    world.pass_on()
    assert world.above.heard == ["made", b"bye", "eof"]
    assert world.plain.state == "closed"
    world.incoming.write(world.plain.sent)
    world.client.unwrap()


async def test_a_record_that_was_changed_on_its_way(world):
    world.shake()
    world.client.write(b"hello")
    data = bytearray(world.outgoing.read())
    data[-1] ^= 1
    world.plain.sent = b""
    world.tls.data_received(bytes(data))
    assert world.above.heard == ["made"] and world.plain.state == "aborted"
    assert world.plain.sent[:1] == b"\x17", "the alert, encrypted"


async def test_answers_to_key_updates_do_not_pile_up(world):
    """RFC 8446 section 4.6.3: each is answered by as many bytes, which its client has to take."""
    world.shake()
    outgoing = world.tls._outgoing

    def read(_: int) -> bytes:
        world.tls._incoming.read()
        outgoing.write(b"x" * (HELD_BACK + 1))
        raise ssl.SSLWantReadError

    world.tls._object = SimpleNamespace(read=read)
    world.tls.data_received(b"updates")
    assert len(world.plain.sent) > HELD_BACK and world.plain.state == "open"
    world.tls.pause_writing()
    sent = len(world.plain.sent)
    world.tls.data_received(b"updates")
    assert len(world.plain.sent) == sent and world.plain.state == "aborted"


async def test_after_the_end_nothing_is_written(world):
    world.shake()
    world.tls.connection_lost(None)
    world.plain.sent = b""
    world.tls.write(b"x")
    world.tls.close()
    assert world.plain.sent == b"" and world.tls.is_closing()


def test_reasons_are_words():
    assert reason(ConnectionResetError()) == "ConnectionResetError"
    assert reason(ValueError("odd")) == "odd"
