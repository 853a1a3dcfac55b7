"""gateway/protocols/http2/session.py against itself, and against h2: what one says, the other has to
read alike."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import h2.config
import h2.connection
import h2.events
import h2.exceptions
import h2.settings
import pytest

from gateway.protocols.http2 import session as http2
from gateway.protocols.http2.session import PREFACE, ErrorCode, Limits, Session

REQUEST = [
    (b":method", b"POST"),
    (b":scheme", b"https"),
    (b":authority", b"example.com"),
    (b":path", b"/a?b=c"),
    (b"x-one", b"1"),
]
ANSWER = [(b":status", b"200"), (b"X-Two", b"2")]


USUAL = Limits()


def pair(
    limits: Limits = USUAL, of_client: Limits = USUAL, **server: Any
) -> tuple[Session, Session]:
    """A client and a server that have had each other's SETTINGS."""
    client, server_ = Session(of_client, client=True), Session(limits, **server)
    exchange(client, server_)
    return client, server_


def exchange(one: Session, other: Session) -> tuple[list[Any], list[Any]]:
    """Hand everything over, until neither has more; what both had to tell."""
    of_one: list[Any] = []
    of_other: list[Any] = []
    while True:
        there, back = one.pending(), other.pending()
        of_one += one.events()
        of_other += other.events()
        if not there and not back:
            return of_one, of_other
        of_other += other.receive(there)
        of_one += one.receive(back)


def of(events: list[Any], kind: Any) -> list[Any]:
    return [event for event in events if type(event) is kind]


def test_a_head_is_sent_however_large_it_is() -> None:
    """What comes is limited where it comes; the gateway's own fields may make it longer."""
    roomy = Limits(header_list=2**20)
    large = [(b"x-large", b"x" * 50_000)] * 2
    client, server = pair(roomy, roomy)
    stream = client.request([*REQUEST, *large], end=True)
    (request,) = of(exchange(client, server)[1], http2.RequestReceived)
    server.respond(stream, [*ANSWER, *large])
    server.trailers(stream, large)
    events, _ = exchange(client, server)
    for kind in (http2.ResponseReceived, http2.TrailersReceived):
        assert large[0] in of(events, kind)[0].headers
    assert large[0] in request.headers


def test_one_exchange_with_bodies_and_trailers() -> None:
    client, server = pair()
    stream = client.request(REQUEST)
    assert client.send(stream, b"body")
    assert client.trailers(stream, [(b"sum", b"4")])
    _, events = exchange(client, server)
    (head,) = of(events, http2.RequestReceived)
    assert (head.stream_id, list(head.headers), head.end_stream) == (stream, REQUEST, False)
    assert [event.data for event in of(events, http2.DataReceived)] == [b"body"]
    assert of(events, http2.TrailersReceived)[0].headers == ((b"sum", b"4"),)

    assert server.interim(stream, [(b":status", b"103"), (b"link", b"</x>")])
    assert server.respond(stream, ANSWER)
    assert server.send(stream, b"answer")
    assert server.trailers(stream, [(b"grpc-status", b"0")])
    events, closed = exchange(client, server)
    assert of(events, http2.InformationalResponseReceived)[0].headers[0] == (b":status", b"103")
    assert of(events, http2.ResponseReceived)[0].headers == ((b":status", b"200"), (b"x-two", b"2"))
    assert of(events, http2.DataReceived)[0].data == b"answer"
    assert of(events, http2.TrailersReceived)[0].headers == ((b"grpc-status", b"0"),)
    assert [event.error_code for event in of(closed, http2.StreamClosed)] == [0]


def test_an_exchange_without_bodies() -> None:
    client, server = pair()
    stream = client.request(REQUEST, end=True)
    _, events = exchange(client, server)
    assert of(events, http2.RequestReceived)[0].end_stream
    assert server.respond(stream, ANSWER, end=True)
    events, _ = exchange(client, server)
    assert of(events, http2.ResponseReceived)[0].end_stream
    assert of(events, http2.StreamClosed)


def test_the_peer_may_send_no_more_than_is_consumed() -> None:
    client, server = pair(Limits(window=1000, connection_window=65535))
    stream = client.request(REQUEST)
    client.send(stream, bytes(2500), end=True)
    _, events = exchange(client, server)
    assert sum(len(event.data) for event in of(events, http2.DataReceived)) == 1000
    assert client.queued(stream) == 1500
    assert server.consumed(stream, 1000)
    _, events = exchange(client, server)
    assert sum(len(event.data) for event in of(events, http2.DataReceived)) == 1000
    assert server.consumed(stream, 1000)
    _, events = exchange(client, server)
    assert of(events, http2.DataReceived)[-1].end_stream
    assert client.queued(stream) == 0


def test_the_connections_window_bounds_all_streams_together() -> None:
    client, server = pair(Limits(window=65535, connection_window=70000))
    streams = [client.request(REQUEST) for _ in range(3)]
    for stream in streams:
        client.send(stream, bytes(40000), end=True)
    _, events = exchange(client, server)
    assert sum(len(event.data) for event in of(events, http2.DataReceived)) == 70000


def test_what_is_sent_waits_for_the_peers_window() -> None:
    client, server = pair(of_client=Limits(window=100))
    stream = client.request(REQUEST, end=True)
    exchange(client, server)
    server.respond(stream, ANSWER)
    server.send(stream, bytes(300))
    exchange(client, server)
    assert server.queued(stream) == 200
    client.consumed(stream, 100)
    exchange(client, server)
    assert server.queued(stream) == 100
    client.reset(stream)
    exchange(client, server)
    assert server.queued(stream) == 0
    assert not server.send(stream, b"more")


def test_pending_gives_no_more_than_asked_for_and_loses_nothing() -> None:
    client, server = pair(of_client=Limits(window=100000, connection_window=100000))
    stream = client.request(REQUEST, end=True)
    exchange(client, server)
    server.respond(stream, ANSWER)
    server.send(stream, bytes(90000), end=True)
    size = 0
    while data := server.pending(1000):
        assert len(data) <= 1000
        size += sum(len(event.data) for event in of(client.receive(data), http2.DataReceived))
    assert size == 90000


@pytest.mark.parametrize("turns", [True, False])
def test_streams_take_turns_or_go_out_in_their_order(turns: bool) -> None:
    client, server = pair(of_client=Limits(window=10**6, connection_window=10**7))
    streams = [client.request(REQUEST, end=True) for _ in range(4)]
    exchange(client, server)
    for stream in streams:
        server.respond(stream, ANSWER)
        assert not turns or server.take_turns(stream)
    got = dict.fromkeys(streams, 0)
    for _ in range(40):
        for stream in streams:
            if not server.queued(stream):
                server.send(stream, bytes(16000))
        for event in of(client.receive(server.pending(16384)), http2.DataReceived):
            got[event.stream_id] += len(event.data)
    assert (min(got.values()) > max(got.values()) / 2) is turns


def test_an_urgent_stream_goes_first() -> None:
    client, server = pair(of_client=Limits(window=10**6, connection_window=10**7))
    late = client.request([*REQUEST, (b"priority", b"u=6")], end=True)
    soon = client.request([*REQUEST, (b"priority", b"u=1")], end=True)
    exchange(client, server)
    for stream in (late, soon):
        server.respond(stream, ANSWER)
        server.send(stream, bytes(16000), end=True)
    events, _ = exchange(client, server)
    assert of(events, http2.DataReceived)[0].stream_id == soon


def test_a_reset_is_told_on_both_sides() -> None:
    client, server = pair()
    stream = client.request(REQUEST)
    exchange(client, server)
    client.reset(stream, ErrorCode.CANCEL)
    _, events = exchange(client, server)
    assert of(events, http2.StreamReset)[0].error_code == ErrorCode.CANCEL
    assert of(events, http2.StreamClosed)[0].error_code == ErrorCode.CANCEL
    assert not server.respond(stream, ANSWER)
    assert not server.interim(stream, ANSWER)
    assert not server.trailers(stream, [])


def test_bytes_of_a_stream_that_has_ended_can_still_be_consumed() -> None:
    """Else the connection's window would never have their room again."""
    client, server = pair(Limits(window=1000, connection_window=65535))
    for _ in range(200):
        stream = client.request(REQUEST)
        client.send(stream, bytes(1000))
        exchange(client, server)
        client.reset(stream)
        exchange(client, server)
        assert server.consumed(stream, 1000)
    assert not of(exchange(client, server)[1], http2.ConnectionClosed)


def test_a_graceful_end_serves_what_is_there() -> None:
    client, server = pair()
    stream = client.request(REQUEST, end=True)
    exchange(client, server)
    server.announce_end()
    events, _ = exchange(client, server)
    assert of(events, http2.GoAwayReceived)[0].last_stream_id == 2**31 - 1
    assert not client.can_request
    assert client.request(REQUEST) == 0
    server.goaway()
    exchange(client, server)
    server.respond(stream, ANSWER, end=True)
    events, closed = exchange(client, server)
    assert of(events, http2.ResponseReceived)
    assert of(closed, http2.ConnectionClosed)[0].error_code == 0


def test_termination_tells_its_code_and_ends_everything() -> None:
    client, server = pair()
    stream = client.request(REQUEST)
    exchange(client, server)
    assert server.terminate(ErrorCode.ENHANCE_YOUR_CALM)
    events, closed = exchange(client, server)
    assert of(events, http2.GoAwayReceived)[0].error_code == ErrorCode.ENHANCE_YOUR_CALM
    assert of(closed, http2.ConnectionClosed)
    calls: list[Callable[[], object]] = [
        lambda: server.respond(stream, ANSWER),
        lambda: server.send(stream, b"x"),
        lambda: server.reset(stream),
        lambda: server.consumed(stream, 0),
        lambda: server.take_turns(stream),
        server.ping,
        server.announce_end,
        server.goaway,
        lambda: server.terminate(0),
    ]
    assert not any(call() for call in calls)
    assert server.receive(b"anything") == []


def test_pings_and_settings() -> None:
    client, server = pair(Limits(streams=7), connect=True)
    assert (client.peer_streams, client.peer_connects) == (7, True)
    client.ping(b"12345678")
    events, seen = exchange(client, server)
    assert of(events, http2.PingAcknowledged)[0].opaque_data == b"12345678"
    assert of(seen, http2.PingReceived)
    assert not pair()[0].peer_connects


def test_repr_tells_the_role_and_the_state() -> None:
    client, server = pair()
    assert repr(client) == "<Session client open>"
    server.terminate(0)
    exchange(client, server)
    assert repr(server) == "<Session server ending>"
    server = Session(Limits())
    server.receive(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    assert repr(server) == "<Session server failed>"


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", ErrorCode.PROTOCOL_ERROR),
        (PREFACE + bytes(9) * 2, ErrorCode.PROTOCOL_ERROR),  # DATA where SETTINGS has to be
    ],
    ids=["no preface", "no settings"],
)
def test_a_peer_that_does_not_speak_http2_is_told(data: bytes, code: int) -> None:
    server = Session(Limits())
    server.receive(data)
    assert goaway(server) == code


def goaway(session: Session) -> int | None:
    """The code of the GOAWAY that a session has for its peer."""
    reader = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True))
    reader.initiate_connection()
    data = b""
    while more := session.pending():
        data += more
    found = [e for e in reader.receive_data(data) if isinstance(e, h2.events.ConnectionTerminated)]
    return found[0].error_code if found else None


def test_a_list_of_fields_that_is_too_long_ends_the_connection() -> None:
    """HPACK lets a few bytes on the wire stand for megabytes; what they stand for is bounded."""
    client, server = pair(Limits(header_list=1000))
    stream = client.request([*REQUEST, *[(b"x-long", b"a" * 100)] * 10], end=True)
    assert stream
    events = server.receive(client.pending())
    assert of(events, http2.Failed)[0].code == ErrorCode.ENHANCE_YOUR_CALM
    assert "failed" in repr(server)
    assert server.receive(b"more") == []
    assert goaway(server) == ErrorCode.ENHANCE_YOUR_CALM
    assert server.pending() == b""
    assert (server.peer_streams, server.peer_connects, server.can_request) == (0, False, False)


def test_a_flood_of_pings_that_nobody_reads_the_answers_of_ends_the_connection() -> None:
    _, server = pair(Limits(acks=10))
    ping = b"\x00\x00\x08\x06\x00\x00\x00\x00\x00" + bytes(8)
    events = server.receive(ping * 50)
    assert of(events, http2.Failed)[0].code == ErrorCode.ENHANCE_YOUR_CALM


# The oracle: h2 at the other end.


def oracle(*, client: bool) -> h2.connection.H2Connection:
    made = h2.connection.H2Connection(
        h2.config.H2Configuration(client_side=client, header_encoding=False)
    )
    made.initiate_connection()
    return made


def talk(session: Session, peer: h2.connection.H2Connection) -> tuple[list[Any], list[Any]]:
    ours: list[Any] = []
    theirs: list[Any] = []
    while True:
        there, back = session.pending(), peer.data_to_send()
        ours += session.events()
        if not there and not back:
            return ours, theirs
        theirs += peer.receive_data(there)
        ours += session.receive(back)


def test_a_server_and_h2_as_client() -> None:
    server, client = Session(Limits()), oracle(client=True)
    talk(server, client)
    client.send_headers(1, REQUEST)
    client.send_data(1, b"x" * 1000)
    client.send_headers(1, [(b"sum", b"1000")], end_stream=True)
    events, _ = talk(server, client)
    assert list(of(events, http2.RequestReceived)[0].headers) == REQUEST
    assert of(events, http2.DataReceived)[0].data == b"x" * 1000
    assert of(events, http2.TrailersReceived)
    server.respond(1, ANSWER)
    server.send(1, b"y" * 70000)
    server.trailers(1, [(b"end", b"1")])
    size, trailers = 0, []
    for _ in range(10):
        _, theirs = talk(server, client)
        for event in theirs:
            if isinstance(event, h2.events.DataReceived):
                size += len(event.data)
                client.acknowledge_received_data(event.flow_controlled_length, 1)
            elif isinstance(event, h2.events.TrailersReceived):
                trailers = list(event.headers)
    assert (size, trailers) == (70000, [(b"end", b"1")])


def test_a_client_and_h2_as_server() -> None:
    client, server = Session(Limits(), client=True), oracle(client=False)
    talk(client, server)
    stream = client.request(REQUEST)
    client.send(stream, b"z" * 500, end=True)
    _, theirs = talk(client, server)
    (head,) = (e for e in theirs if isinstance(e, h2.events.RequestReceived))
    assert list(head.headers) == REQUEST
    server.send_headers(stream, [(b":status", b"204")], end_stream=True)
    events, _ = talk(client, server)
    assert of(events, http2.ResponseReceived)[0].headers == ((b":status", b"204"),)
    server.close_connection(last_stream_id=stream)
    events, _ = talk(client, server)
    assert of(events, http2.GoAwayReceived)
    assert not client.can_request
