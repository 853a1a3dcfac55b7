"""A request's body as it arrives: early, late, broken, cancelled, too fast."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.core.drive import Drive
from gateway.core.failures import Failed, Failure
from gateway.serving.body import CRUMBS, HIGH_WATER, PIECE, ClientBody
from tests.exchange import exchange
from tests.unit.core.test_wait import Ends


class Source:
    def __init__(self) -> None:
        self.held = 0

    def hold(self, held: bool) -> None:
        self.held += 1 if held else -1


def body(
    whole: bytes | None = None, length: int | None = None, limit: int | None = None
) -> ClientBody:
    made = ClientBody(Source(), whole)
    made.exchange = exchange()
    made.length = length
    made.limit = limit
    return made


def start(coroutine: Any) -> tuple[Drive, Ends]:
    ends = Ends()
    drive = Drive(coroutine, ends)
    drive.start()
    return drive, ends


def failure(ends: Ends) -> Failure:
    ((_, error),) = ends.calls
    assert isinstance(error, Failed)
    return error.failure


def test_one_that_came_with_the_head_is_complete():
    one = body(b"abc", 3)
    assert (one.complete, one.received, one.arrived, one.exchange.bytes_in) == (b"abc", True, 3, 3)
    _, ends = start(one.read())
    assert ends.calls == [(b"", None)], "it goes out as a whole"


def test_pieces_are_read_as_they_come():
    one = body(length=6)
    assert one.complete is None
    _, first = start(one.read())
    assert one.waiting and "waited for" in repr(one)
    one.feed(b"abc")
    assert first.calls == [], "not before the connection says so"
    one.wake()
    assert first.calls == [(b"abc", None)] and not one.waiting
    one.feed(b"d")
    one.feed(b"ef")
    one.end([(b"X-Sum", b"1")])
    _, second = start(one.read())
    assert second.calls == [(b"def", None)]
    _, last = start(one.read())
    assert last.calls == [(b"", None)]
    assert (one.exchange.bytes_in, one.received, one.trailers) == (6, True, [(b"X-Sum", b"1")])
    assert one.complete is None, "what has been read cannot be sent again"


def test_a_cancelled_whole_loses_nothing():
    one = body(length=6)
    drive, ends = start(one.whole(10))
    one.feed(b"abc")
    one.wake()
    drive.cancel()
    assert len(ends.calls) == 1
    one.feed(b"def")
    one.end()
    one.wake()
    _, again = start(one.whole(10))
    assert again.calls == [(b"abcdef", None)]
    assert one.complete == b"abcdef"


def test_a_cancelled_read_loses_nothing():
    one = body(length=3)
    drive, _ = start(one.read())
    drive.cancel()
    assert not one.waiting
    one.feed(b"abc")
    one.end()
    _, ends = start(one.read())
    assert ends.calls == [(b"abc", None)]


def test_what_came_is_read_before_the_failure():
    one = body()
    one.feed(b"abc")
    one.fail(Failed(Failure.MALFORMED))
    one.fail(Failed(Failure.CLIENT_GONE))
    _, first = start(one.read())
    assert first.calls == [(b"abc", None)]
    _, second = start(one.read())
    assert failure(second) is Failure.MALFORMED
    assert not one.received and "broken" in repr(one)


@pytest.mark.parametrize("whole", [False, True])
def test_a_failure_reaches_whatever_waits(whole):
    one = body()
    _, ends = start(one.whole(10) if whole else one.read())
    one.fail(Failed(Failure.REQUEST_TIMEOUT))
    one.wake()
    assert failure(ends) is Failure.REQUEST_TIMEOUT


def test_limits_hold_for_what_is_announced_and_for_what_comes():
    _, announced = start(body(length=11, limit=10).read())
    assert failure(announced) is Failure.BODY_TOO_LARGE
    one = body(limit=10)
    one.feed(bytes(11))
    _, came = start(one.read())
    assert failure(came) is Failure.BODY_TOO_LARGE
    other = body()
    _, whole = start(other.whole(10))
    other.feed(bytes(11))
    other.wake()
    assert failure(whole) is Failure.BODY_TOO_LARGE


def test_it_asks_to_go_ahead_once_and_only_when_it_is_read():
    asked = []
    one = body(length=3)
    one.go_ahead = lambda: asked.append(1)
    assert one.complete is None and asked == []
    start(one.read())
    one.feed(b"abc")
    one.end()
    one.wake()
    start(one.read())
    assert asked == [1]


def test_it_asks_for_a_pause_above_its_mark_and_goes_on_when_it_is_read():
    one = body()
    source: Any = one._source
    one.feed(bytes(HIGH_WATER))
    assert source.held == 0
    one.feed(b"a")
    one.feed(b"b")
    assert source.held == 1
    start(one.read())
    assert source.held == 0


def test_large_pieces_are_handed_on_one_by_one_and_crumbs_together():
    one = body()
    source: Any = one._source
    large = bytes(PIECE)
    for piece in (large, large, b"a", b"b", large, b"c"):
        one.feed(piece)
    read = [start(one.read())[1].calls[0][0] for _ in range(4)]
    assert read == [large, large, b"ab" + large, b"c"]
    assert read[0] is large and read[1] is large
    for _ in range(HIGH_WATER // PIECE + 1):
        one.feed(large)
    assert source.held == 1
    start(one.read())
    assert source.held == 1, "more than half of it is still here"
    start(one.read())
    start(one.read())
    assert source.held == 0


def test_reading_all_of_it_never_stops_at_the_mark():
    one = body(length=HIGH_WATER * 2)
    one.feed(bytes(HIGH_WATER + 1))
    source: Any = one._source
    assert source.held == 1
    _, ends = start(one.whole(HIGH_WATER * 2))
    assert source.held == 0
    one.feed(bytes(HIGH_WATER - 1))
    one.end()
    one.wake()
    assert len(ends.calls[0][0]) == HIGH_WATER * 2


def test_what_is_discarded_is_counted_and_kept_nowhere():
    one = body()
    one.feed(bytes(HIGH_WATER + 1))
    one.discard()
    one.feed(b"abc")
    source: Any = one._source
    assert (one.arrived, one._size, source.held) == (HIGH_WATER + 4, 0, 0)


def test_crumbs_are_put_together_as_they_come():
    """Each would take many times its own size."""
    one = body()
    for number in range(10 * CRUMBS):
        one.feed(b"%02d" % (number % 100))
    assert len(one._chunks) < 2 * CRUMBS
    one.end()
    _, ends = start(one.whole(10**6))
    assert ends.calls == [(b"".join(b"%02d" % (n % 100) for n in range(10 * CRUMBS)), None)]
