"""One connection's requests, without sockets: their order, its end, and what comes while it is
busy."""

from __future__ import annotations

import asyncio
import errno

import pytest

from gateway.core.failures import Failed, Failure
from gateway.serving.admission import Certified
from gateway.serving.http1.codec import QUEUE, Http1Codec
from gateway.serving.http1.connection import LINGER, Http1Connection
from gateway.serving.http1.limits import Limits
from gateway.serving.http1.repeats import Openings
from tests.unit.serving.memory import Transport, World


def get(target: str, *lines: str) -> bytes:
    return "\r\n".join([f"GET {target} HTTP/1.1", "Host: a", *lines, "", ""]).encode()


def post(target: str, length: int, body: bytes = b"") -> bytes:
    return f"POST {target} HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n".encode() + body


def bodies(sent: bytes) -> list[bytes]:
    """Of answers with short bodies, those."""
    return [part.split(b"\r\n\r\n", 1)[1] for part in sent.split(b"HTTP/1.1 200 OK")[1:]]


@pytest.fixture
async def world() -> World:
    return World()


async def test_requests_are_answered_within_the_call_that_brings_them(world):
    for _ in range(4):  # Parsed, then taken as they repeat.
        assert bodies(world.feed(get("/a"))) == [b"/a"]
    assert "idle" in repr(world.connection) and world.connection.awaiting_head
    assert world.finished == ["/a"] * 4 and world.in_flight.level == 0


async def test_the_memo_of_fields_is_kept_while_only_the_request_id_differs(world):
    seen, make = [], world.admission.exchange

    def exchange(*facts):
        seen.append(make(*facts))
        return seen[-1]

    world.admission.exchange = exchange
    for number, key in enumerate("aaabb"):
        world.feed(get("/", f"X-Request-ID: {number}", f"X-Key: {key}"))
    assert seen[1].memo is seen[2].memo is not seen[3].memo is seen[4].memo
    assert [one.request_id for one in seen] == ["0", "1", "2", "3", "4"]
    assert [one.headers["X-Request-ID"] for one in seen] == [one.request_id for one in seen]


async def test_answers_come_in_the_order_of_their_requests(world):
    assert world.feed(get("/wait/1") + get("/b") + get("/wait/2") + get("/d")) == b""
    assert "busy" in repr(world.connection) and world.connection.busy
    world.waits[0].wake()
    assert bodies(world.transport.take()) == [b"/wait/1", b"/b"]
    world.waits[1].wake()
    assert bodies(world.transport.take()) == [b"/wait/2", b"/d"]


@pytest.mark.parametrize("busy", [False, True], ids=["idle", "busy"])
async def test_nothing_is_begun_while_answers_are_not_taken(world, busy):
    for _ in range(3):
        world.feed(get("/a"))
    if busy:
        world.feed(get("/wait"))
    world.connection.pause_writing()
    if busy:
        world.waits[0].wake()
        assert bodies(world.transport.take()) == [b"/wait"]
    for target in ("/b", "/c"):
        assert world.feed(get(target)) == b"" and world.connection.idle_since == 0.0
    world.connection.resume_writing()
    await asyncio.sleep(0)
    assert bodies(world.transport.take()) == [b"/b", b"/c"]
    assert world.connection.idle_since and bodies(world.feed(get("/d"))) == [b"/d"]


async def test_what_comes_in_pieces_is_put_together(world):
    assert world.feed(get("/a")[:10]) == b""
    assert world.connection.head_since == world.now
    assert bodies(world.feed(get("/a")[10:])) == [b"/a"]
    assert world.connection.head_since == 0.0
    assert world.feed(post("/body", 6, b"abc")) == b""
    assert bodies(world.feed(b"def" + get("/b"))) == [b"abcdef", b"/b"]


async def test_many_that_are_answered_at_once_do_not_nest():
    world = World(max_requests=10_000)
    assert len(bodies(world.feed(get("/a") * QUEUE))) == QUEUE
    answered = len(bodies(world.feed(get("/a") * 5000)))
    assert answered == QUEUE  # Others are next; what waits is not lost with the client's end.
    assert world.connection.busy and not world.connection.awaiting_head
    assert world.connection.eof_received() is True
    while new := len(bodies(world.transport.take())) or world.connection.busy:
        answered += new
        await asyncio.sleep(0)
    assert answered == 5000 and world.transport.state == "closed"


@pytest.mark.parametrize("upgrade", [False, True], ids=["plain", "upgrade"])
async def test_no_more_is_read_while_what_was_kept_fills_the_queue(world, upgrade):
    fields = ("Connection: upgrade", "Upgrade: websocket") if upgrade else ()
    sent = get("/wait", *fields) * 4000
    world.feed(sent)
    for number in range(10 * QUEUE):
        assert not world.transport.reading
        assert len(world.connection._codec.backlog) < len(sent)
        world.waits[number].wake()


async def test_too_many_that_wait_stop_the_reading(world):
    world.feed(get("/wait") + get("/a") * (QUEUE + 1))
    assert not world.transport.reading
    world.waits[0].wake()
    await asyncio.sleep(0)
    assert len(bodies(world.transport.take())) == QUEUE + 2
    assert world.transport.reading


async def test_no_head_is_late_behind_requests_that_wait_for_their_client(world):
    """It was held back with them, and they would be lost with it."""
    connection = world.connection
    connection.pause_writing()
    world.feed(get("/1") * 40)
    assert not world.transport.reading and not connection.awaiting_head
    connection.resume_writing()
    for _ in range(2):  # No more than QUEUE of them in a turn.
        await asyncio.sleep(0)
    assert len(bodies(world.transport.take())) == 40 and connection.awaiting_head


async def test_a_body_that_comes_too_fast_stops_the_reading(world):
    world.feed(get("/wait") + post("/body", 600_000))
    world.feed(bytes(300_000))
    assert not world.transport.reading
    world.waits[0].wake()
    assert world.transport.reading
    assert world.feed(bytes(300_000)).endswith(bytes(100))


@pytest.mark.parametrize("last", [get("/a", "Connection: close"), b"GET /a HTTP/1.0\r\n\r\n"])
async def test_after_the_last_request_it_closes(world, last):
    assert bodies(world.feed(last + get("/never"))) == [b"/a"]
    assert world.transport.state == "closed" and world.finished == ["/a"]


async def test_after_so_many_requests_it_closes():
    world = World(max_requests=2)
    assert b"Connection: close" not in world.feed(get("/a"))
    assert b"Connection: close" in world.feed(get("/b"))
    assert world.transport.state == "closed"


async def test_while_draining_every_answer_is_the_last(world):
    world.draining = True
    assert b"Connection: close" in world.feed(get("/a"))
    assert world.transport.state == "closed"


async def test_a_client_that_has_reset_its_connection_is_not_lingered_for(world, monkeypatch):
    """Its socket can no longer be half-closed, which asyncio says by an exception."""

    def reset() -> None:
        raise OSError(errno.ENOTCONN, "not connected")

    monkeypatch.setattr(world.transport, "write_eof", reset)
    world.feed(post("/a", 100_000))
    assert world.transport.state == "aborted"
    assert world.finished == ["/a"]


async def test_an_answer_before_the_body_lingers_until_the_body_has_come(world):
    assert b"Connection: close" in world.feed(post("/early", 10, b"abc"))
    assert world.transport.state == "half" and "lingering" in repr(world.connection)
    assert world.connection.linger_until > LINGER
    assert world.feed(b"defg") == b"" and world.transport.state == "half"
    assert world.feed(b"hij" + get("/never")) == b""
    assert world.transport.state == "closed" and world.finished == ["/early"]


async def test_a_client_that_leaves_cancels_its_request(world):
    world.feed(get("/wait"))
    world.connection.connection_lost(None)
    assert world.waits[0].cancelled() is False and world.waits[0].done
    assert world.finished == ["/wait"] and world.lost == 1 and world.in_flight.level == 0
    assert "closed" in repr(world.connection)


async def test_a_client_that_sends_nothing_more_is_still_answered(world):
    world.feed(get("/wait") + get("/b"))
    assert world.connection.eof_received() is True
    world.waits[0].wake()
    assert bodies(world.transport.take()) == [b"/wait", b"/b"]
    assert world.transport.state == "closed"


@pytest.mark.parametrize("behind", [b"", get("/b") + get("/c")])
async def test_nor_is_what_it_sent_behind_another_protocol_that_is_declined_lost(world, behind):
    world.feed(get("/wait", "Connection: upgrade", "Upgrade: websocket") + behind)
    assert world.connection.eof_received() is True
    world.waits[0].wake()
    assert bodies(world.transport.take()) == [b"/wait", *([b"/b", b"/c"] if behind else [])]
    assert world.transport.state == "closed"


async def test_the_end_while_nothing_is_under_way_is_the_end(world):
    world.feed(get("/a"))
    assert world.connection.eof_received() is False


async def test_the_end_within_a_body_fails_its_request(world):
    world.feed(post("/body", 6, b"abc"))
    world.connection.eof_received()
    assert world.transport.take().startswith(b"HTTP/1.1 400 ")


async def test_what_is_no_request_is_refused_after_what_was_one(world):
    sent = world.feed(get("/wait") + b"junk\r\n\r\n")
    assert sent == b""
    world.waits[0].wake()
    sent = world.transport.take()
    assert (
        bodies(sent.split(b"HTTP/1.1 400")[0]) == [b"/wait"] and sent.count(b"HTTP/1.1 400 ") == 1
    )
    assert world.transport.state == "half"
    assert world.feed(get("/never")) == b""


async def test_a_body_that_is_too_slow_is_given_up(world):
    world.feed(post("/body", 6, b"abc"))
    assert world.connection.body is not None and world.connection.body.waiting
    world.connection.give_up_body(Failed(Failure.REQUEST_TIMEOUT))
    assert world.transport.take().startswith(b"HTTP/1.1 408 ")
    assert world.transport.state == "closed"


async def test_a_declined_upgrade_goes_on_with_http(world):
    upgrade = get("/a", "Connection: upgrade", "Upgrade: websocket")
    assert bodies(world.feed(upgrade + get("/b"))) == [b"/a", b"/b"]
    assert bodies(world.feed(get("/c"))) == [b"/c"]


async def test_fields_that_repeat_share_their_memo(world):
    world.feed(get("/wait"))
    first = world.connection.exchange.memo
    world.waits[0].wake()
    world.feed(get("/wait"))
    assert world.connection.exchange.memo is first
    world.waits[1].wake()
    world.feed(get("/wait", "X: y"))
    assert world.connection.exchange.memo is not first


async def test_a_request_of_another_version_has_a_memo_of_its_own(world):
    """Via and the like say the version, whatever the fields."""
    old = get("/wait", "Connection: keep-alive")
    memos = []
    for data in (old, old.replace(b"HTTP/1.1", b"HTTP/1.0"), old):
        world.feed(data)
        memos.append(world.connection.exchange.memo)
        world.waits[-1].wake()
    assert memos[0] is memos[2] is not memos[1]


async def test_connections_of_one_sender_that_begin_alike_share_their_memo(world):
    openings, memos = Openings(), []
    for peer, subject, number in (
        ("192.0.2.1", "", 1),  # Parsed, and remembered.
        ("192.0.2.1", "", 1),
        ("192.0.2.1", "", 1),
        ("192.0.2.2", "", 1),
        ("192.0.2.2", "", 2),
        ("192.0.2.2", "CN=a", 2),
        ("192.0.2.2", "CN=a", 2),  # Not even those of one subject.
    ):
        world.runtime.snapshot.number = number
        codec = Http1Codec(Limits(8190, 8190, 128), 16384, asyncio.get_running_loop(), openings)
        connection = Http1Connection(world, codec)
        connection.connection_made(Transport())
        connection.peer = peer
        if subject:
            connection.admission = Certified(world.admission, subject)
        connection.data_received(get("/wait"))
        memos.append(connection.exchange.memo)
    same = [(a, b) for a in range(7) for b in range(a + 1, 7) if memos[a] is memos[b]]
    assert same == [(1, 2)]


async def test_a_body_in_crumbs_does_not_keep_others_from_their_turn(world):
    """Nothing more of it is read before the loop's next turn; of other bodies it is."""
    crumbs = b"1\r\nx\r\n" * 20_000
    world.feed(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
    world.feed(b"1\r\nx\r\n")
    assert world.transport.reading
    for _ in range(2):
        world.feed(crumbs)
        assert not world.transport.reading
        await asyncio.sleep(0)
        assert world.transport.reading and not world.connection.holds
    world.feed(b"0\r\n\r\n" + post("/long", len(crumbs) + 1, b"x"))
    world.feed(crumbs)
    assert world.transport.reading
