"""What several processes know of one upstream together: checks, ejections, open circuits.

Each process has a pool of its own. What one learns goes to the others as messages: a kind of KINDS
and a body of plain values. They hold states rather than events, so one that comes twice changes
nothing. Times are seconds from or until now, since clocks of processes need not agree.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from gateway.config.tables.upstream import UpstreamConfig
from gateway.upstream.pool.breaker import OPEN
from gateway.upstream.pool.endpoint import Address, Endpoint
from gateway.upstream.pool.health import Active, Passive, Status
from gateway.upstream.pool.outcomes import Outcomes

KINDS = ("checked", "ejected", "returned", "circuit", "reset", "drained")
"""checked: what checks know of an endpoint. ejected: for how long. returned: not ejected after all.
circuit: opened or closed. reset: all circuits are closed by hand. drained: by hand, or not any
more."""

Message = tuple[str, tuple[Any, ...]]


class SharedOutcomes(Outcomes):
    """Outcomes that also takes over what other processes have learnt.

    drained: addresses that an operator gives nothing new. It outlasts configurations, also those
        without the endpoint.
    """

    __slots__ = ("drained",)

    def __init__(self, *args: Any, **options: Any) -> None:
        self.drained: set[tuple[Any, ...]] = set()
        super().__init__(*args, **options)

    def drain(self, url: str, drained: bool) -> bool:
        """Give the endpoint at `url` no new requests until undrained, whatever is configured.

        Return False if there is no such endpoint.
        """
        address = Address.of(url)
        known = any(one.address == address for one in self.endpoints)
        if known:
            self._take_drain(address, drained)
        return known

    def checked(self, endpoint: Endpoint) -> Message:
        """Return what active checks know of an endpoint."""
        health, now = endpoint.health, self._clock()
        ago = None if health.checked is None else now - health.checked
        status = str(health.active.status)
        known = (status, health.active.against, health.error, ago, health.seconds)
        return "checked", (tuple(endpoint.address), *known)

    def known(self) -> Iterator[Message]:
        """Yield all that a process which begins has to be told."""
        now = self._clock()
        for address in self.drained:
            yield "drained", (tuple(address), True)
        for endpoint in self.endpoints:
            if self.config.health is not None and endpoint.health.checked is not None:
                yield self.checked(endpoint)
            if endpoint.health.passive.until > now:
                yield self._ejection(endpoint, 1.0)
        for breaker, owner in self.circuits():
            if breaker.state == OPEN:
                yield self._circuit(breaker, owner)

    def take_over(self, kind: str, *body: Any) -> bool:
        """Take a message of another process. False for an ejection beyond `max_ejected`."""
        self.refresh()
        if kind == "reset":
            self.reset_circuit()
            return True
        if kind == "drained":
            self._take_drain(*body)
            return True
        address, *known = body
        endpoint = next((one for one in self.endpoints if one.address == address), None)
        if endpoint is None and address is not None:
            return True
        if kind == "circuit":
            self._take_circuit(endpoint, *known)
        elif endpoint is None:
            return True
        elif kind == "checked":
            self._take_check(endpoint, *known)
        elif kind == "ejected":
            return self._take_ejection(endpoint, *known)
        elif endpoint.health.passive.until:
            endpoint.health.passive = Passive()
            self._health_changed()
        return True

    def _take_drain(self, address: tuple[Any, ...], drained: bool) -> None:
        (self.drained.add if drained else self.drained.discard)(tuple(address))
        for endpoint in self.endpoints:
            if endpoint.address == tuple(address):
                endpoint.drained = drained
                if not drained:
                    self._start_slowly(endpoint)
        self._health_changed()

    def _adopt_endpoints(self, config: UpstreamConfig) -> tuple[Endpoint, ...]:
        dropped = super()._adopt_endpoints(config)
        for endpoint in self.endpoints:
            endpoint.drained = endpoint.address in self.drained
        return dropped

    def _take_check(
        self,
        endpoint: Endpoint,
        status: str,
        against: int,
        error: str,
        ago: float | None,
        seconds: float,
    ) -> None:
        if self.config.health is None:
            return
        health, before = endpoint.health, endpoint.health.active.status
        health.active = Active(Status(status), against)
        health.error = error or health.error
        health.checked = None if ago is None else self._clock() - ago
        health.seconds = seconds
        self._outage = None
        self._checks_changed(endpoint, before)

    def _take_ejection(
        self, endpoint: Endpoint, seconds: float, times: int, why: str, most: float
    ) -> bool:
        now, health = self._clock(), endpoint.health
        if health.passive.until:
            return True
        if not self._may_eject(most):
            return False
        health.passive = Passive((), now + seconds, times)
        health.error = why
        if self.outliers is not None:
            self.outliers.forget(endpoint)
        self._health_changed()
        return True

    def _take_circuit(
        self, endpoint: Endpoint | None, opened: bool, seconds: float, why: str
    ) -> None:
        breaker = self.breaker if endpoint is None else endpoint.breaker
        if breaker is None:
            return
        if opened:
            under_way = self.in_flight if endpoint is None else endpoint.in_flight
            breaker.open(self._clock(), seconds, why, under_way)
        else:
            breaker.reset()
        self._circuit_follows(breaker, endpoint)
