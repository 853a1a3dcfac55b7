"""Messages over a socket pair: order, answers, failures, ends, and any way of cutting them up."""

from __future__ import annotations

import asyncio
import marshal
import os
import socket

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.lifetime import channel as module
from gateway.lifetime.channel import Channel, ChannelClosed, ChannelError, pair
from tests.until import until


@pytest.fixture
async def ends():
    ours, theirs = (Channel(end) for end in pair())
    ended: list[str] = []
    ours.start(lambda: ended.append("ours"))
    theirs.start(lambda: ended.append("theirs"))
    yield ours, theirs, ended
    ours.close()
    theirs.close()


async def test_posts_come_in_order(ends):
    ours, theirs, _ = ends
    seen: list[object] = []
    theirs.on("circuit", lambda *body: seen.append(body))
    for number in range(1000):
        ours.post("circuit", "cameras", number)
    await until(lambda: len(seen) == 1000)
    assert seen == [("cameras", number) for number in range(1000)]


async def test_answers(ends):
    ours, theirs, _ = ends

    async def later(number: int) -> int:
        await asyncio.sleep(0)
        return number + 1

    theirs.on("later", later)
    theirs.on("now", lambda keys: {"keys": keys})
    both = await asyncio.gather(
        *(asyncio.ensure_future(wait) for wait in [ours.ask("later", 1), ours.ask("now", (b"k",))])
    )
    assert both == [2, {"keys": (b"k",)}]


async def test_both_ends_ask_at_once(ends):
    ours, theirs, _ = ends
    ours.on("who", lambda: "ours")
    theirs.on("who", lambda: "theirs")
    assert (await ours.ask("who"), await theirs.ask("who")) == ("theirs", "ours")


async def test_a_handler_that_fails_answers_so(ends, caplog):
    ours, theirs, _ = ends
    theirs.on("take", lambda: 1 / 0)
    with pytest.raises(ChannelError, match="take: ZeroDivisionError: division by zero"):
        await ours.ask("take")
    with pytest.raises(ChannelError, match="KeyError"):
        await ours.ask("unknown")
    assert "a message of kind 'take' failed" in caplog.text


async def test_questions_fail_when_the_other_end_goes(ends):
    ours, theirs, ended = ends
    theirs.on("never", lambda: asyncio.get_running_loop().create_future())
    asked = ours.ask("never")
    theirs.on("last", lambda: theirs.close())
    ours.post("last")
    with pytest.raises(ChannelClosed):
        await asked
    with pytest.raises(ChannelClosed):
        await ours.ask("never")
    ours.post("never")  # is lost
    assert sorted(ended) == ["ours", "theirs"]


async def test_what_was_posted_before_a_close_arrives(ends):
    ours, theirs, _ = ends
    seen: list[int] = []
    theirs.on("bye", seen.append)
    ours.post("bye", 1)
    ours.close()
    await until(lambda: not theirs.open)
    assert seen == [1]


async def test_a_program_that_takes_over_goes_on_within_a_message(ends):
    ours, theirs, _ = ends
    frame = marshal.dumps((0, "seen", (7,)))
    whole = len(frame).to_bytes(4, "little") + frame
    os.write(ours.fileno(), whole + whole[:9])
    seen: list[int] = []
    theirs.on("seen", lambda number: None)
    await until(lambda: theirs._incoming)
    theirs.post("before")
    descriptor, received = theirs.for_successor()
    assert received == whole[:9]
    after = Channel(socket.socket(fileno=os.dup(descriptor)), received)
    after.on("seen", seen.append)
    after.start(lambda: None)
    os.write(ours.fileno(), whole[9:])
    await until(lambda: seen == [7])
    after.close()


async def test_what_came_whole_is_taken_at_once():
    ours, theirs = pair()
    frame = marshal.dumps((0, "seen", (7,)))
    seen: list[int] = []
    one = Channel(theirs, len(frame).to_bytes(4, "little") + frame)
    one.on("seen", seen.append)
    one.start(lambda: None)
    await until(lambda: seen == [7])
    one.close()
    ours.close()


async def test_an_end_that_takes_nothing_is_not_for_a_successor():
    ours, theirs = pair()
    one = Channel(ours)
    one.start(lambda: None)
    one.post("configuration", bytes(4_000_000))
    assert one.for_successor() is None
    one.close()
    theirs.close()


async def test_a_detached_end_is_not_the_end_for_the_other(ends):
    ours, theirs, ended = ends
    seen: list[int] = []
    theirs.on("bye", seen.append)
    ours.post("bye", 1)
    descriptor = ours.detach()
    await until(lambda: seen)
    assert (theirs.open, ended) == (True, ["ours"])
    os.close(descriptor)
    await until(lambda: not theirs.open)


async def test_a_message_larger_than_the_socket_takes(ends):
    ours, theirs, _ = ends
    theirs.on("configuration", len)
    assert await ours.ask("configuration", bytes(9_000_000)) == 9_000_000


async def test_an_end_that_takes_nothing_is_given_up(monkeypatch, caplog):
    monkeypatch.setattr(module, "MAX_BACKLOG", 1_000_000)
    ours, theirs = pair()
    one, ended = Channel(ours), []
    one.start(lambda: ended.append(True))
    one.post("configuration", bytes(4_000_000))
    await until(lambda: ended)
    assert "takes no messages any more" in caplog.text
    theirs.close()


async def test_many_small_messages_to_an_end_that_takes_nothing_are_too_many_as_well(monkeypatch):
    monkeypatch.setattr(module, "MAX_BACKLOG", 1_000_000)
    ours, theirs = pair()
    one, ended = Channel(ours), []
    one.start(lambda: ended.append(True))
    one.post("limits", bytes(900_000))
    await asyncio.sleep(0)
    assert not ended
    asked = one.ask("limits", bytes(100))
    for _ in range(10):
        one.post("limits", bytes(100_000))
    await until(lambda: ended)
    with pytest.raises(ChannelClosed):
        await asked
    theirs.close()


def test_a_message_beyond_all_bounds(monkeypatch):
    monkeypatch.setattr(module, "MAX_FRAME", 100)
    ours, theirs = pair()
    with pytest.raises(ValueError, match="kind 'configuration' has"):
        Channel(ours).post("configuration", bytes(200))
    ours.close()
    theirs.close()


bodies = st.recursive(
    st.none() | st.integers() | st.binary(max_size=20) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3).map(tuple),
    max_leaves=5,
)


@settings(max_examples=50, deadline=None)
@given(sent=st.lists(bodies, max_size=8), cuts=st.lists(st.integers(1, 40), min_size=1))
def test_frames_arrive_however_they_are_cut(sent, cuts):
    stream = b""
    for body in sent:
        frame = marshal.dumps((0, "post", (body,)))
        stream += len(frame).to_bytes(4, "little") + frame

    async def run() -> list[object]:
        ours, theirs = pair()
        one, seen = Channel(theirs), []
        one.on("post", seen.append)
        rest, turn = stream, 0
        while rest:
            size = cuts[turn % len(cuts)]
            ours.send(rest[:size])
            one._readable()
            rest, turn = rest[size:], turn + 1
        ours.close()
        theirs.close()
        return seen

    assert asyncio.run(run()) == sent
