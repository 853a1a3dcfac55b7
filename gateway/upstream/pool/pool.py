"""One upstream, as requests see it: picking an endpoint, and waiting for one.

Which endpoints there are and may be picked stands in roster.py, what outcomes mean for them in
outcomes.py, what operators are shown in state.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil
from typing import Any

from gateway.core.failures import Failed, Failure
from gateway.upstream.pool.balancing import barred
from gateway.upstream.pool.breaker import NAMES, Breaker
from gateway.upstream.pool.endpoint import Endpoint
from gateway.upstream.pool.shared import SharedOutcomes
from gateway.upstream.pool.state import explain_outage, status


class Pool(SharedOutcomes):
    """The endpoints of one upstream."""

    __slots__ = ()

    def __repr__(self) -> str:
        circuit = "" if self.breaker is None else f", circuit {NAMES[self.breaker.state]}"
        return (
            f"<Pool {self.name} {self.config.balance}, "
            f"{len(self.eligible)} of {len(self.endpoints)} eligible, {self.in_flight} in "
            f"flight{circuit}>"
        )

    def pick(self, key: str, tried: Sequence[Endpoint] = ()) -> Endpoint:
        """An endpoint to ask, counted as in flight until `release`; not one of `tried`, if there is
        another.

        key: what balancing by hash hashes; the client's address if nothing else is configured.
        Raises Failed: CIRCUIT_OPEN, NO_ENDPOINT or OVERLOADED, each with Retry-After.
        """
        endpoint = self._gate(tried) if self._gated else None
        if endpoint is None:
            endpoint = self._only
            if endpoint is None or tried:
                endpoint = self._choose(self.eligible, key, tried) or self._pick_fallback(
                    key, tried
                )
        endpoint.in_flight += 1
        return endpoint

    def refusal(self) -> Failed | None:
        """Why a pick would fail now, None if it would not. Takes nothing, for dry runs."""
        self.refresh()
        if self._is_full():
            return self._too_many()
        now, breaker = self._clock(), self.breaker
        if breaker is not None and not breaker.ready(now):
            return self._open(breaker, now)
        tried = [endpoint for endpoint in self._trials if not barred(endpoint, ())]
        if any(one.breaker is not None and one.breaker.ready(now) for one in tried):
            return None
        if any(not barred(one, ()) for endpoints, _ in self._tiers for one in endpoints):
            return None
        return self._none_left()

    async def wait(self, seconds: float, first: bool = False) -> bool:
        """Wait in the queue, or in front of it, until a pick may succeed; False after `seconds`."""
        return await self.waiting.wait(seconds, first)

    def status(self) -> dict[str, Any]:
        """Plain values for the admin API."""
        self.refresh()
        return status(self)

    def _gate(self, tried: Sequence[Endpoint]) -> Endpoint | None:
        """Check limit and breakers before a choice. Return an endpoint whose circuit is due for a
        trial, if any."""
        if self._due is not None:
            self.refresh()
        if self.limiter is not None and self._is_full():
            raise self._too_many()
        breaker = self.breaker
        if breaker is not None and breaker.state:
            self._admit(breaker)
        for endpoint in self._trials:
            circuit = endpoint.breaker
            if circuit is not None and not barred(endpoint, tried):
                before = circuit.state
                if circuit.allow(self._clock()):
                    if circuit.state != before:
                        self._circuit_changed(
                            circuit, f"{circuit.config.recovery_timeout:g} s have passed", endpoint
                        )
                    return endpoint
        return None

    def _is_full(self) -> bool:
        limiter = self.limiter
        return limiter is not None and self.in_flight - self.tunnels >= int(limiter.limit)

    def _too_many(self) -> Failed:
        most = 0 if self.limiter is None else int(self.limiter.limit)
        why = f"upstream {self.name}: {most} requests are under way, which is its limit"
        return _refusal(Failure.OVERLOADED, 0.0, why, ("limit",))

    def _open(self, breaker: Breaker, now: float) -> Failed:
        why = f"upstream {self.name}: circuit {NAMES[breaker.state]}: {breaker.why}"
        return _refusal(Failure.CIRCUIT_OPEN, breaker.retry_after(now), why)

    def _admit(self, breaker: Breaker) -> None:
        """Ask a breaker that is not closed. Raises Failed(CIRCUIT_OPEN)."""
        now, before = self._clock(), breaker.state
        allowed = breaker.allow(now)
        if breaker.state != before:
            self._circuit_changed(breaker, f"{breaker.config.recovery_timeout:g} s have passed")
        if not allowed:
            raise self._open(breaker, now)

    def _pick_fallback(self, key: str, tried: Sequence[Endpoint]) -> Endpoint:
        """Pick from the remaining tiers; on a retry, finally allow endpoints already tried. Raises
        Failed."""
        for passed_over in (tried, ()) if tried else (tried,):
            for endpoints, balancer in self._tiers:
                endpoint = balancer.pick(endpoints, key, passed_over)
                if endpoint is not None:
                    return endpoint
        if self.breaker is not None:
            self.breaker.withdraw()
        raise self._none_left()

    def _none_left(self) -> Failed:
        """Return the failure of a pick that finds no endpoint."""
        if self.eligible:
            why = f"upstream {self.name}: every endpoint is at its max_connections"
            return _refusal(Failure.OVERLOADED, 0.0, why)
        if self._outage is None:
            # Kept until something changes: a refused request must not cost more than an answered
            # one.
            self._outage = explain_outage(self)
        failure, back, why = self._outage
        return _refusal(failure, back - self._clock(), why)


def _refusal(failure: Failure, seconds: float, why: str, at: tuple[str, ...] = ()) -> Failed:
    """A refusal with Retry-After in whole seconds (RFC 9110 section 10.2.3), rounded up and never
    0, which would make all clients come back at once."""
    again = ((b"Retry-After", b"%d" % max(1, ceil(seconds))),)
    return Failed(failure, headers=again, why=why, at=at)
