"""One attempt at an endpoint: the hold on it, the outcome, and the report to the pool.

`Pool.pick` counts an endpoint in; the attempt made for it lets go exactly once, however it ends.
Its states:

    HELD       picked; no final answer yet
    STREAMING  answered; the body is still arriving
    TUNNEL     answered 101; the socket carries another protocol
    RELEASED   over; nothing that comes later counts

The pick, what is sent, and whether another attempt follows are decided in forward.py.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from time import perf_counter
from typing import Protocol

from gateway.core.exchange import Exchange, Reply
from gateway.core.failures import Failed
from gateway.core.headers import Pair
from gateway.core.wait import Wait
from gateway.protocols.websocket import UPGRADE
from gateway.upstream.connections.interfaces import NEVER
from gateway.upstream.pool.endpoint import Endpoint
from gateway.upstream.pool.pool import Pool


class Cancellable(Protocol):
    """A task beside the attempt that sends the request's body."""

    def cancel(self) -> None: ...


class State(enum.Enum):
    """Where an attempt stands."""

    HELD = enum.auto()
    STREAMING = enum.auto()
    TUNNEL = enum.auto()
    RELEASED = enum.auto()


HELD, STREAMING, TUNNEL, RELEASED = State


class Event(enum.Enum):
    """Events of an attempt."""

    COMPLETE = enum.auto()
    """The whole answer is here."""
    STREAM = enum.auto()
    """The answer's head is here, its body follows."""
    SWITCH = enum.auto()
    """The answer is a 101."""
    STALE = enum.auto()
    """The kept connection had been closed: nothing was answered, and it may go out again on a fresh
    one."""
    FAIL = enum.auto()
    """There will be no answer."""
    END = enum.auto()
    """The body or the tunnel has ended, or the attempt is given up."""


TRANSITIONS: dict[Event, dict[State, State]] = {
    Event.COMPLETE: {HELD: RELEASED},
    Event.STREAM: {HELD: STREAMING},
    Event.SWITCH: {HELD: TUNNEL},
    Event.STALE: {HELD: HELD},
    Event.FAIL: {HELD: RELEASED},
    Event.END: {HELD: RELEASED, STREAMING: RELEASED, TUNNEL: RELEASED},
}
"""By event, which state follows which; an event that a state does not list changes nothing."""


class Attempt(Wait[None]):
    """A connection's ResponseHandler for one request to one endpoint. Made right after the pick.

    `await attempt` is over once there is an outcome, or once the attempt turned out stale.
    outcome: the answer or the failure, None until one is here. `stale`: as in
             ResponseHandler.failed.
    began:   when it began (perf_counter seconds). limit: when all of it must be over
             (clock.monotonic).
    accept:  for a WebSocket's handshake, the Sec-WebSocket-Accept that is due; else b"".
    pump:    sends the request's body, until that has been sent whole.
    """

    __slots__ = (
        "_exchange",
        "accept",
        "began",
        "endpoint",
        "limit",
        "outcome",
        "pool",
        "pump",
        "stale",
        "state",
    )

    def __init__(
        self, pool: Pool, endpoint: Endpoint, exchange: Exchange, limit: float = NEVER
    ) -> None:
        self.done = False  # Wait.__init__, without the call.
        self._resume = self._value = self._error = self._asyncio_future_blocking = None
        self.pool = pool
        self.endpoint = endpoint
        self._exchange = exchange
        self.limit = limit
        self.began = perf_counter()
        self.accept: bytes = exchange.notes.get(UPGRADE, b"")
        self.outcome: Reply | Failed | None = None
        self.stale = False
        self.pump: Cancellable | None = None
        self.state = HELD

    def __repr__(self) -> str:
        return f"<Attempt at {self.endpoint.name}, {self.state.name.lower()}>"

    # A ResponseHandler.

    def interim(self, status: int, fields: Sequence[Pair]) -> None:
        """A 1xx answer goes on to a client that knows such (RFC 9110 section 15.2)."""
        send = self._exchange.interim
        if send is not None:
            send(status, fields)

    def answered(self, reply: Reply, counts_as: int = 0) -> None:
        """The answer's head is here, and its body if that is complete."""
        if self.state is not HELD:
            return
        self.outcome = reply
        if type(reply.body) is not bytes:
            self._advance(Event.STREAM)
        elif reply.status == 101:
            self._advance(Event.SWITCH)
            self.pool.switched(self.endpoint)
        else:
            self.state = RELEASED  # Event.COMPLETE, and most often a plain success.
            pool = self.pool
            if (
                self.pump is None
                and not counts_as
                and reply.status not in pool.blamed
                and not pool.wants_success
            ):
                self.endpoint.in_flight -= 1  # Pool.release, without the call.
            else:
                self._let_go(None, counts_as)
        self.wake()

    def failed(self, failed: Failed, stale: bool) -> None:
        """There will be no answer. A stale attempt keeps its hold: it may go out again."""
        if not self._advance(Event.STALE if stale else Event.FAIL):
            return
        self.outcome, self.stale = failed, stale
        if stale:
            self._stop_pump()
        else:
            self._let_go(failed)
        self.wake()

    def ended(self, failed: Failed | None = None, counts_as: int = 0) -> None:
        """Let go, if that has not happened yet: the body has ended or broke off (`failed`), the
        tunnel has ended, or the attempt is given up. Harmless twice."""
        before = self.state
        if not self._advance(Event.END):
            return
        if before is TUNNEL:
            self.pool.release_tunnel(self.endpoint)
        else:
            self._let_go(failed, counts_as)

    def give_up(self) -> None:
        """Close what an answer is still arriving from: it will not be read."""
        if self.state is STREAMING and isinstance(self.outcome, Reply):
            self.outcome.body.abort()  # type: ignore[union-attr]

    def resend(self) -> None:
        """Wait for an answer again, after a stale connection, with the same hold and limit."""
        self.outcome, self.stale, self.done = None, False, False

    def _advance(self, event: Event) -> bool:
        """Go to the state that follows; False when the event no longer counts."""
        following = TRANSITIONS[event].get(self.state)
        if following is None:
            return False
        self.state = following
        return True

    def _stop_pump(self) -> None:
        pump, self.pump = self.pump, None
        if pump is not None:
            pump.cancel()

    def _let_go(self, failed: Failed | None, counts_as: int = 0) -> None:
        """Tell the pool how it ended: by the answer's status or the one it counts as, or by
        `failed`.

        A failure that is not the endpoint's (the client left, another attempt replaces this one)
        leaves the status as the verdict where it counts against the endpoint. An answer below 500
        that came before the request was sent whole is not held against it even if the rest of it is
        lost: an endpoint that refuses a body may close, and our own bytes then reset the
        connection.
        """
        pool, endpoint, reply = self.pool, self.endpoint, self.outcome
        sending = self.pump is not None
        self._stop_pump()
        if isinstance(reply, Reply):
            status = counts_as or reply.status
            early = sending and status < 500
            if failed is None or early or not failed.failure.blames:
                if status in pool.blamed:
                    what = self._exchange.reason if counts_as else status
                    pool.release(endpoint, False, f"answered {what}", str(status))
                else:
                    pool.release(endpoint, True if failed is None else None)
                return
        if failed is None:
            pool.release(endpoint, None)
        else:
            blamed = False if failed.failure.blames else None
            pool.release(endpoint, blamed, failed.why, failed.failure.retry or "")
