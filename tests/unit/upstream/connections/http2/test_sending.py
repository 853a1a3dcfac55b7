"""Sending a request on a shared connection: bodies that wait for room, deadlines, and what is not
sent."""

from __future__ import annotations

import h2.events
import pytest

from gateway.core.content.grpc import CALL, DEADLINE
from gateway.core.failures import Failed, Failure
from tests.unit.upstream.connections.http2.world import TIMEOUTS, Body, World, resets


async def test_a_body_waits_for_the_endpoints_window() -> None:
    world = World()
    stream, _ = world.send("POST", body=Body())
    assert stream.write(b"x" * 65535) is None
    waits = stream.write(b"y")
    assert waits is not None and not waits.done
    world.exchange()
    assert not waits.done
    world.peer.acknowledge_received_data(65535, stream.number)
    world.exchange()
    assert waits.done
    stream.end([(b"X-Checksum", b"1"), (b"Content-Length", b"5"), (b"X-Client-ID", b"me")])
    world.exchange()
    (trailers,) = [
        event.headers for event in world.events if isinstance(event, h2.events.TrailersReceived)
    ]
    assert [tuple(pair) for pair in trailers] == [(b"x-checksum", b"1")]


async def test_a_body_waits_for_the_socket() -> None:
    world = World()
    stream, _ = world.send("POST", body=Body(length=2))
    world.connection.pause_writing()
    waits = stream.write(b"ab")
    assert waits is not None
    world.connection.resume_writing()
    assert waits.done
    stream.end()
    world.exchange()
    assert any(isinstance(event, h2.events.StreamEnded) for event in world.events)


async def test_an_answer_before_the_request_was_sent_whole_resets_it() -> None:
    world = World()
    stream, handler = world.send("POST", body=Body())
    stream.write(b"part")
    world.answer(stream, end=True)
    assert handler.told[-1].status == 200 and resets(world) == [8]
    assert stream.write(b"more") is None
    stream.end()


async def test_a_request_that_broke_off_is_reset() -> None:
    world = World()
    stream, handler = world.send("POST", body=Body())
    stream.write(b"part")
    stream.break_off(Failed(Failure.BODY_TOO_LARGE))
    world.exchange()
    assert resets(world) == [8] and not handler.told


@pytest.mark.parametrize("sending", [True, False])
async def test_deadlines(sending: bool) -> None:
    world = World()
    stream, handler = world.send("POST", body=Body() if sending else Body(b"whole"))
    if sending:
        stream.hold()
        world.pass_time(100)
        assert not handler.told
        stream.write(b"x")
    world.pass_time(20 if sending else 10)
    failure = Failure.WRITE_TIMEOUT if sending else Failure.READ_TIMEOUT
    assert handler.told == [(failure, False)]
    world.exchange()
    assert resets(world) == [8]


@pytest.mark.parametrize("failure", [Failure.TIMEOUT, Failure.DEADLINE_EXCEEDED])
async def test_the_limit_is_told_from_a_clients_own_deadline(failure: Failure) -> None:
    world = World()
    notes: dict[str, object] = {CALL: True}
    if failure is Failure.DEADLINE_EXCEEDED:
        notes[DEADLINE] = world.now + 5
    _, handler = world.send("POST", limit=world.now + 5, notes=notes)
    world.pass_time(4.9)
    assert not handler.told
    world.pass_time(0.2)
    assert handler.told == [(failure, False)]
    (request,) = [event for event in world.events if isinstance(event, h2.events.RequestReceived)]
    assert dict(request.headers)[b"grpc-timeout"] == b"5000000u"


async def test_credentials_of_a_connection_are_not_for_one_that_others_use() -> None:
    world = World()
    stream, handler = world.send(headers={"Authorization": "NTLM abc"})
    assert handler.told == [(Failure.FORBIDDEN, False)] and not stream.number
    assert not world.peer.open_inbound_streams


async def test_a_call_ends_when_neither_side_says_anything_while_its_client_may_say_more() -> None:
    """What the endpoint says meanwhile is no reason to expect anything of the client."""
    for notes, failures in (({CALL: True}, [Failure.DEADLINE_EXCEEDED]), ({}, [])):
        world = World()
        stream, handler = world.send("POST", body=Body(), notes=notes)
        stream.write(b"x")
        stream.hold()
        world.pass_time(100)
        world.answer(stream)
        world.pass_time(TIMEOUTS.call - 1)
        assert len(handler.told) == 1
        world.peer.send_data(stream.number, b"x")
        world.exchange()
        world.pass_time(TIMEOUTS.call - 1)
        assert len(handler.told) == 1
        world.pass_time(2)
        assert handler.told[1:] == failures
