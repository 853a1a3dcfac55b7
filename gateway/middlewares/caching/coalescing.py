"""Which requests wait for which, and when they go on; flights.py is what they wait in."""

from __future__ import annotations

from collections.abc import Callable, Hashable

from gateway.core.exchange import Exchange, Reply
from gateway.core.hooks import KEPT
from gateway.middlewares.caching.flights import Flight, Flights, Outcome
from gateway.middlewares.caching.lookup import Fields, Finder, Lookup
from gateway.middlewares.caching.replies import reply_of
from gateway.middlewares.caching.rules import policy
from gateway.middlewares.caching.status import stored
from gateway.middlewares.caching.storage.memory import Slot

MAX_ROUNDS = 3
"""How often a request waits for another, at most."""


class Coalescing:
    """One pipeline's (or route's). shared: whether answers are looked for in a shared store too."""

    def __init__(
        self, finder: Finder, flights: Flights, monotonic: Callable[[], float], *, shared: bool
    ) -> None:
        self._finder = finder
        self._flights = flights
        self._monotonic = monotonic
        self._shared = shared

    def begin(self, exchange: Exchange, look: Lookup, now: float) -> Flight | None:
        """Return the request to wait for; None for one that goes to the origin, maybe to lead."""
        fields, flights = look.fields, self._flights
        if look.why == "uri-miss" and not fields:
            key: Hashable = (look.uri, look.scope)
        else:
            key = self._finder.flight_key(exchange, look)
            if key is None:
                return None
        if exchange.identity is not None or is_known(exchange):
            key = (key,)
        flight = flights.under_way.get(key)
        if flight is not None:
            return flight
        # What the client asks on a condition may be answered with 304, which is for it alone.
        if not fields and flights.going_alone.get(hash(key), 0.0) <= now:
            look.flight = exchange.notes[KEPT] = flights.under_way[key] = Flight(key)
        return None

    def goes_alone(self, exchange: Exchange, uri: str, scope: Hashable, now: float) -> bool:
        """Return True if answers have not been for all lately."""
        key: Hashable = (uri, scope)
        return self._flights.goes_alone((key,) if is_known(exchange) else key, now)

    def land(self, exchange: Exchange, look: Lookup, flight: Flight, status: int) -> None:
        """Let those go on that wait for what this request has brought about.

        status: of the origin's answer.
        """
        look.flight = None
        if not (flight.waiters or self._shared):
            del self._flights.under_way[flight.key]
            return
        now = self._monotonic()
        slot = self._finder.select(exchange, look.uri, look.scope)
        if slot is not None and slot.entry.scope == look.scope and now < slot.fresh_until:
            self._flights.land(flight, Outcome.SHARED)
            return
        if status not in policy.ERRORS:
            self._flights.alone(flight.key, now)
        self._flights.land(flight, Outcome.ALONE)

    def release(self, exchange: Exchange, look: Lookup, flight: Flight) -> None:
        """Let those go on that still wait for a request that has ended."""
        look.flight = None
        failed = exchange.failed
        is_origins = failed is not None and failed.failure.status in policy.ERRORS
        self._flights.land(flight, Outcome.ALONE if is_origins else Outcome.AGAIN)


def is_known(exchange: Exchange) -> bool:
    """Return True if a request says whose it is: its answer may be for its sender alone where a
    stranger's is for all. Neither waits for the other, nor goes alone because of it."""
    if exchange.identity is not None or exchange.tls_subject:
        return True
    return "Authorization" in exchange.headers


def collapsed(exchange: Exchange, slot: Slot, now: float, fields: Fields) -> Reply:
    """Return what is stored, for a request that has waited for another (RFC 9211 section 2.7)."""
    entry, reply = slot.entry, reply_of(exchange, slot.entry, fields)
    age = int(now - entry.born)
    reply.blocks.append(stored(age, entry.lifetime, b"fwd=uri-miss; collapsed"))
    return reply
