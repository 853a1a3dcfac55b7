"""An attempt's states, one table: what each event does in each state, and what the pool is told."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.config.tables.traffic import RetryConfig
from gateway.core.exchange import Reply
from gateway.core.failures import Failed, Failure
from gateway.upstream.attempt import TRANSITIONS, Attempt, Event, State
from gateway.upstream.connections.http1.switched import Switched
from tests.exchange import exchange

RESET = Failed(Failure.CONNECTION_RESET, why="reset")
GONE = Failed(Failure.CLIENT_GONE)
BROKEN = Failed(Failure.INCOMPLETE_RESPONSE, why="cut off")


class Pool:
    """Notes what an attempt tells it."""

    blamed = frozenset((500, 503))
    wants_success = True

    def __init__(self) -> None:
        self.told: list[Any] = []

    def release(self, endpoint: Any, ok: bool | None, why: str = "", sign: str = "") -> None:
        self.told.append((ok, sign))

    def switched(self, endpoint: Any) -> None:
        self.told.append("switched")

    def release_tunnel(self, endpoint: Any) -> None:
        self.told.append("tunnel")


class Stream:
    """A body that is still arriving."""

    aborted = 0

    async def read(self) -> bytes:
        return b""

    def abort(self) -> None:
        self.aborted += 1


class Endpoint:
    name = "a:80"
    in_flight = 1


class Pump:
    cancelled = False

    def cancel(self) -> None:
        self.cancelled = True


def switched() -> Switched:
    reply = Switched.__new__(Switched)
    Reply.__init__(reply, 101)
    return reply


def an_attempt() -> tuple[Attempt, Pool]:
    pool = Pool()
    return Attempt(pool, Endpoint(), exchange()), pool  # type: ignore[arg-type]


def streamed(status: int) -> Reply:
    return Reply(status, body=Stream())


HAPPENS = {
    Event.COMPLETE: lambda attempt: attempt.answered(Reply(200, body=b"ok")),
    Event.STREAM: lambda attempt: attempt.answered(streamed(200)),
    Event.SWITCH: lambda attempt: attempt.answered(switched()),
    Event.STALE: lambda attempt: attempt.failed(RESET, True),
    Event.FAIL: lambda attempt: attempt.failed(RESET, False),
    Event.END: lambda attempt: attempt.ended(),
}
REACHED = {
    State.HELD: None,
    State.STREAMING: Event.STREAM,
    State.TUNNEL: Event.SWITCH,
    State.RELEASED: Event.FAIL,
}


@pytest.mark.parametrize("event", Event)
@pytest.mark.parametrize("state", State)
def test_what_every_event_does_in_every_state(state: State, event: Event) -> None:
    attempt, pool = an_attempt()
    told: list[Attempt] = []
    way = REACHED[state]
    if way is not None:
        HAPPENS[way](attempt)
    assert attempt.state is state
    attempt.done = False
    attempt._resume = told.append
    before = list(pool.told)
    HAPPENS[event](attempt)
    following = TRANSITIONS[event].get(state)
    assert attempt.state is (following or state)
    assert bool(told) is (following is not None and event is not Event.END)
    if following is None:
        assert pool.told == before, "nothing counts any more"
    released = [one for one in pool.told if one != "switched"]
    assert len(released) == (attempt.state is State.RELEASED), "let go exactly once"


def test_every_state_leads_to_its_release() -> None:
    for state in set(State) - {State.RELEASED}:
        assert TRANSITIONS[Event.END][state] is State.RELEASED
    assert all(State.RELEASED not in ways for ways in TRANSITIONS.values())


@pytest.mark.parametrize(
    ("description", "reply", "end", "told"),
    [
        ("a stream that ends", streamed(200), None, (True, "")),
        ("one that breaks off", streamed(200), BROKEN, (False, "reset")),
        ("one that its reader gives up", streamed(200), GONE, (None, "")),
        ("an error that ends", streamed(503), None, (False, "503")),
        ("an error given up for another attempt", streamed(503), GONE, (False, "503")),
        ("an error that breaks off", streamed(503), BROKEN, (False, "reset")),
        ("an error that does not count", streamed(501), GONE, (None, "")),
    ],
)
def test_what_a_stream_says_about_its_endpoint(
    description: str, reply: Reply, end: Failed | None, told: Any
) -> None:
    attempt, pool = an_attempt()
    attempt.answered(reply)
    assert pool.told == []
    attempt.ended(end)
    attempt.ended(None)
    assert pool.told == [told]


@pytest.mark.parametrize(
    ("counts_as", "told"), [(503, (False, "503")), (501, (True, "")), (0, None)]
)
@pytest.mark.parametrize("whole", [True, False])
def test_a_call_counts_as_its_own_status_says(counts_as: int, told: Any, whole: bool) -> None:
    attempt, pool = an_attempt()
    pool.wants_success = False
    if whole:
        attempt.answered(Reply(200, body=b""), counts_as)
    else:
        attempt.answered(streamed(200))
        attempt.ended(None, counts_as)
        told = told or (True, "")
    assert pool.told == ([] if told is None else [told])
    assert attempt.endpoint.in_flight == (1 if told else 0), "what the pool is told it counts"


@pytest.mark.parametrize(
    ("status", "told"),
    [(200, None), (413, None), (401, None), (503, False)],
)
def test_an_early_answer_below_500_is_not_held_against_the_endpoint(
    status: int, told: bool | None
) -> None:
    """Its own close of a connection on which the body still arrived has cut the answer short."""
    attempt, pool = an_attempt()
    pump = Pump()
    attempt.pump = pump  # type: ignore[assignment]
    attempt.answered(streamed(status))
    assert not pump.cancelled
    attempt.ended(BROKEN)
    assert pump.cancelled
    assert [ok for ok, _ in pool.told] == [told]


def test_a_stale_attempt_keeps_its_hold_and_limit_for_the_next_connection() -> None:
    attempt, pool = an_attempt()
    attempt.limit = 5.0
    attempt.failed(RESET, True)
    assert attempt.stale
    told: list[Attempt] = []
    attempt.resend()
    attempt._resume = told.append
    assert (attempt.outcome, attempt.stale, attempt.limit, pool.told) == (None, False, 5.0, [])
    attempt.answered(Reply(200, body=b"ok"))
    assert told == [attempt]
    assert pool.told == [(True, "")]


def test_giving_up_closes_what_still_arrives() -> None:
    attempt, _ = an_attempt()
    attempt.give_up()
    reply = streamed(200)
    attempt.answered(reply)
    attempt.give_up()
    assert reply.body.aborted == 1  # type: ignore[union-attr]
    assert "streaming" in repr(attempt)


def test_a_failure_has_the_name_under_which_it_is_retried() -> None:
    assert RetryConfig().on
    attempt, pool = an_attempt()
    attempt.failed(Failed(Failure.READ_TIMEOUT, why="late"), False)
    assert pool.told == [(False, "timeout")]
    attempt, pool = an_attempt()
    attempt.failed(Failed(Failure.BODY_TOO_LARGE), False)
    assert pool.told == [(None, "")], "the client's own fault"


def test_interim_answers_go_to_clients_that_take_them() -> None:
    asked = exchange()
    attempt = Attempt(Pool(), Endpoint(), asked)  # type: ignore[arg-type]
    attempt.interim(103, [(b"Link", b"</a>")])
    sent: list[Any] = []
    asked.interim = lambda status, fields: sent.append((status, fields))
    attempt.interim(103, [(b"Link", b"</a>")])
    assert sent == [(103, [(b"Link", b"</a>")])]
    assert attempt.state is State.HELD


@pytest.mark.parametrize("status", [200, 404, 503])
def test_a_success_that_changes_nothing_is_only_counted(status: int) -> None:
    attempt, pool = an_attempt()
    pool.wants_success = False
    attempt.answered(Reply(status, body=b"ok"))
    counted = 0 if status in pool.blamed else 1
    assert (attempt.endpoint.in_flight, len(pool.told)) == (1 - counted, 1 - counted)
    assert attempt.state is State.RELEASED
