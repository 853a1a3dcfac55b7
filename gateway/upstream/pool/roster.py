"""The endpoints of one upstream: configuration, tiers, and the metrics about them.

`eligible` is worked out when something changes, never for a pick: the first of the tiers (tiers.py)
that is not empty. The later tiers serve when every endpoint in the earlier ones is at its
`max_connections` or has been tried for this request.

What has to be looked at before a pick (an ejection that may be over, a breaker that is not closed)
and after an answer (a breaker that counts) is rarely there: `_gated` and `wants_success` say so in
one look each.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from gateway.config.tables.endpoints import EndpointConfig
from gateway.config.tables.health import SIGNS, BreakerConfig
from gateway.config.tables.upstream import UpstreamConfig
from gateway.core.clock import REAL, Clock
from gateway.core.failures import Failure
from gateway.core.telemetry import Telemetry
from gateway.upstream.pool.balancing import Balancer, Endpoints, choose
from gateway.upstream.pool.breaker import CLOSED, HALF_OPEN, NAMES, OPEN, Breaker, configured
from gateway.upstream.pool.endpoint import Endpoint, by_address
from gateway.upstream.pool.health import Active, Passive, Status
from gateway.upstream.pool.limiter import Limiter
from gateway.upstream.pool.outlier import Outliers
from gateway.upstream.pool.queue import Queue
from gateway.upstream.pool.tiers import ALL, STEPS, ramped_weight, tiers
from gateway.upstream.retry import Budget

log = logging.getLogger("gateway.upstream")

Tell = Callable[[str, str, tuple[Any, ...]], object]


class Roster:
    """The endpoints of one upstream. Times are `clock.monotonic` seconds.

    It outlives configurations: `reconfigure` changes it in place and keeps what has been learnt.
    Making one has no effect outside it, so a configuration that is composed and then thrown away
    leaves no trace; `reconfigure`, called whenever a configuration is taken (the first time too),
    shows it to others. Nothing in here waits or does I/O.

    name:      never changes. config: the one in force.
    endpoints: all of them. eligible: those that a pick chooses among, as of the last pick or
               `refresh`.
    breaker:   None without `circuit_breaker`, and where each endpoint has its own.
    budget:    bounds retries. outliers: None without `outlier`. limiter: None without `limit`.
    tunnels:   how many of the requests in flight were answered 101.
    waiting:   requests that found every endpoint full.
    tell:      takes what other processes have to know (shared.py): name, kind and body.
    """

    __slots__ = (
        "_choose", "_clock", "_due", "_gated", "_gone", "_only", "_outage", "_rng", "_telemetry",
        "_tiers", "_trials", "blamed", "breaker", "budget", "config", "eligible", "endpoints",
        "found", "limiter", "name", "outliers", "tell", "trying_all", "tunnels",
        "waiting", "wants_success",
    )  # fmt: skip

    def __init__(
        self,
        name: str,
        config: UpstreamConfig,
        *,
        clock: Clock = REAL,
        telemetry: Telemetry | None = None,
        rng: random.Random | None = None,
        tell: Tell | None = None,
    ) -> None:
        self.name = name
        self.tell = tell
        self.tunnels = 0
        self.endpoints: Endpoints = ()
        self.eligible: Endpoints = ()
        self.found: tuple[EndpointConfig, ...] = ()
        """What discovery found beside those in `config`."""
        self.breaker: Breaker | None = None
        self.budget = Budget()
        self.config = config
        self._clock = clock.monotonic
        self._telemetry = telemetry or Telemetry()
        self._rng = rng or random.Random()  # noqa: S311 - spreads load, guards nothing
        self.outliers: Outliers[Endpoint] | None = None
        self.limiter: Limiter | None = None
        self.waiting = Queue(self._queue_changed)
        self.blamed: frozenset[int]
        """Statuses that count against the endpoint that answers them."""
        # Set by _sort: how to pick, the endpoint when there is only one, when time changes
        # something, endpoints whose circuit is due for a trial, why none is eligible.
        self._choose: Callable[[Endpoints, str, Sequence[Endpoint]], Endpoint | None]
        self._only: Endpoint | None
        self._due: float | None
        self._trials: Endpoints
        self._outage: tuple[Failure, float, str] | None
        self._gated = self.wants_success = self.trying_all = False
        self._gone: list[Endpoint] = []
        self._adopt(config)

    @property
    def in_flight(self) -> int:
        """Requests that were given an endpoint and not released yet."""
        return sum(endpoint.in_flight for endpoint in self.endpoints)

    def now(self) -> float:
        """The moment, in `clock.monotonic` seconds."""
        return self._clock()

    def circuits(self) -> list[tuple[Breaker, Endpoint | None]]:
        """All breakers, each with the endpoint it is for, or None for the whole upstream."""
        if self.breaker is not None:
            return [(self.breaker, None)]
        return [
            (endpoint.breaker, endpoint)
            for endpoint in self.endpoints
            if endpoint.breaker is not None
        ]

    def reconfigure(self, config: UpstreamConfig) -> Endpoints:
        """Put a configuration into force and return the endpoints it drops. Cannot fail.

        An endpoint with a known address keeps its counts, connections and health; the health
        becomes unknown when the checks changed and it was not healthy. A dropped endpoint finishes
        what it has in flight. A breaker keeps its state.
        """
        dropped = self._adopt(config)
        for endpoint in dropped:
            endpoint.retire()
            self._telemetry.endpoint_healthy.drop((self.name, endpoint.name))
        self._forget(dropped)
        if self.config.circuit_breaker is None:
            self._telemetry.circuit_state.drop((self.name,))
        if self.config.on_empty != "try_all":
            self._telemetry.upstream_try_all.drop((self.name,))
        self._publish()
        self.waiting.wake(len(self.waiting))
        return dropped

    def discovered(self, found: tuple[EndpointConfig, ...]) -> Endpoints:
        """Put what discovery found beside the configured endpoints; return those that are gone."""
        self.found = found
        return self.reconfigure(self.config)

    def close(self) -> Endpoints:
        """End the upstream: no endpoint can be picked any more, and its metrics go. Return its
        endpoints."""
        gone = replace(
            self.config, url="", endpoints=(), circuit_breaker=None, on_empty="fail", discover=None
        )
        dropped = self.reconfigure(gone)
        self._forget(())
        return dropped

    def refresh(self) -> None:
        """Apply what time changes: ejections that are over, slow starts. Every pick does; call it
        before reading `eligible` otherwise."""
        now = self._clock()
        if self._due is None or now < self._due:
            return
        for endpoint in self.endpoints:
            passive = endpoint.health.passive.returned(now)
            if passive is not endpoint.health.passive:
                endpoint.health.passive = passive
                self._start_slowly(endpoint)
                log.info("upstream %s: %s is back: its ejection is over", self.name, endpoint.name)
        self._health_changed()

    def _forget(self, dropped: Endpoints) -> None:
        """End the metrics of endpoints that were dropped earlier and have nothing in flight.

        Those dropped now come next time: their last answers may not have been counted yet.
        """
        known = {endpoint.name for endpoint in self.endpoints}
        over = {endpoint.name for endpoint in self._gone if not endpoint.in_flight} - known
        if over:
            self._telemetry.drop_endpoints(self.name, over)
        if self.outliers is not None:
            for endpoint in self._gone:
                self.outliers.forget(endpoint)
        self._gone = [*(endpoint for endpoint in self._gone if endpoint.in_flight), *dropped]

    def _adopt(self, config: UpstreamConfig) -> Endpoints:
        """Take over `config`, with effects in this object alone; return the endpoints that are
        dropped."""
        before, self.config = self.config, config
        if config.discover is None:
            self.found = ()
        dropped = self._adopt_endpoints(config)
        for endpoint in self.endpoints:
            self._adopt_health(endpoint, config, before)
        self._adopt_circuits(config.circuit_breaker)
        judges = [
            known.on
            for known in (config.passive_health, config.circuit_breaker)
            if known is not None
        ]
        self.blamed = frozenset(
            int(sign) for on in judges or [SIGNS] for sign in on if sign.isdigit()
        )
        if config.outlier != before.outlier or config.outlier is None or self.outliers is None:
            self.outliers = (
                None if config.outlier is None else Outliers(config.outlier, self._clock())
            )
        if config.limit is None:
            self.limiter = None
        elif self.limiter is None or self.limiter.config != config.limit:
            self.limiter = Limiter(config.limit)
        if config.retry is not None:
            self.budget.share = config.retry.budget
        self._tiers: list[tuple[Endpoints, Balancer]] = [
            ((), choose(config.balance, self._rng)) for _ in range(ALL + 1)
        ]
        self._sort()
        return dropped

    def _adopt_endpoints(self, config: UpstreamConfig) -> Endpoints:
        """Make, change and keep endpoints as configuration and discovery say; return the
        dropped."""
        settings = by_address(self.found) | by_address(config.endpoints)
        # One that has to prove another name is another.
        known = {(one.address, one.server_name): one for one in self.endpoints}
        wanted = {(address, one.server_name): one for address, one in settings.items()}
        names = {endpoint.name for key, endpoint in known.items() if key in wanted}
        endpoints, joining = [], bool(known)
        for key, setting in wanted.items():
            endpoint = known.pop(key, None)
            if endpoint is None:
                name = next(name for name in key[0].names() if name not in names)
                names.add(name)
                endpoint = Endpoint(self.name, setting, name)
                if joining:
                    self._start_slowly(endpoint)
            else:
                endpoint.configure(setting)
            endpoints.append(endpoint)
        self.endpoints = tuple(endpoints)
        return tuple(known.values())

    def _adopt_health(
        self, endpoint: Endpoint, config: UpstreamConfig, before: UpstreamConfig
    ) -> None:
        """Keep what checks and requests have shown, as far as they are still asked."""
        health, passive = endpoint.health, config.passive_health
        if config.health is None:
            health.active = Active(Status.HEALTHY)
        elif config.health != before.health:
            healthy = health.active.status is Status.HEALTHY
            health.active = Active(Status.HEALTHY if healthy else Status.UNKNOWN)
        ejects = (passive is not None and passive.max_fails) or config.outlier
        if not ejects or len(self.endpoints) == 1:
            health.passive = Passive()

    def _adopt_circuits(self, config: BreakerConfig | None) -> None:
        """Create, update or drop breakers to match the configuration."""
        whole = config is not None and config.scope == "upstream"
        self.breaker = configured(self.breaker, config if whole else None)
        for endpoint in self.endpoints:
            endpoint.breaker = configured(endpoint.breaker, None if whole else config)
        self.wants_success = self._must_report_success()

    def _must_report_success(self) -> bool:
        """Return True if successes matter: to a breaker, or to requests in the queue."""
        circuit = self.config.circuit_breaker
        if self.waiting:
            return True
        return circuit is not None and (
            circuit.scope == "endpoint" or (self.breaker is not None and self.breaker.wants_success)
        )

    def _start_slowly(self, endpoint: Endpoint) -> None:
        endpoint.health.since = self._clock() if self.config.slow_start else None

    def _sort(self) -> None:
        """Compute the tiers. An unchanged tier stays the same tuple, so its balancer keeps its
        state."""
        now, config = self._clock(), self.config
        self._outage = None
        dues = [
            endpoint.health.passive.until
            for endpoint in self.endpoints
            if endpoint.health.passive.until
        ]
        self._trials = ()
        for endpoint in self.endpoints:
            circuit = endpoint.breaker
            if (
                circuit is not None
                and circuit.state
                and endpoint.health.status in (Status.HEALTHY, Status.UNKNOWN)
            ):
                wait = circuit.retry_after(now)
                if wait > 0:
                    dues.append(now + wait)
                elif not endpoint.draining:
                    self._trials += (endpoint,)
        reweighed = self._reweigh(now, dues) if config.slow_start else False
        found = tiers(self.endpoints, config.zone, config.on_empty == "try_all")
        self._tiers = [
            (known if known == tuple(some) and not reweighed else tuple(some), balancer)
            for some, (known, balancer) in zip(found, self._tiers, strict=True)
        ]
        self.eligible, balancer = next((tier for tier in self._tiers if tier[0]), self._tiers[0])
        self._choose = balancer.pick
        alone = len(self.eligible) == 1 and not self.eligible[0].max_connections
        self._only = self.eligible[0] if alone else None
        self._due = min(dues, default=None)
        self._regate()
        if bool(found[ALL]) is not self.trying_all:
            self.trying_all = bool(found[ALL])
            text = (
                "no endpoint can be picked: trying all"
                if self.trying_all
                else "no longer trying all"
            )
            log.warning("upstream %s: %s; %s", self.name, text, self._left())

    def _reweigh(self, now: float, dues: list[float]) -> bool:
        """Advance slow starts; True if a weight has changed. Adds the time of the next step to
        `dues`."""
        changed, seconds = False, self.config.slow_start
        for endpoint in self.endpoints:
            weight = ramped_weight(endpoint, now, seconds)
            if weight == endpoint.share:
                endpoint.health.since = None
            else:
                dues.append(now + seconds / STEPS)
            if weight != endpoint.weight:
                endpoint.weight = weight
                changed = True
        return changed

    def _regate(self) -> None:
        """Compute whether picks have to look at a gate first."""
        gates = (
            self._due is not None,
            self._trials,
            self.breaker is not None and self.breaker.state,
            self.limiter is not None,
        )
        self._gated = any(gates)

    def _health_changed(self) -> None:
        self._sort()
        self.waiting.wake(len(self.waiting))
        self._publish()

    def _queue_changed(self) -> None:
        self.wants_success = self._must_report_success()

    def _publish(self) -> None:
        eligible = set() if self.trying_all else set(self.eligible)
        for endpoint in self.endpoints:
            serves = endpoint.health.status is Status.HEALTHY or endpoint in eligible
            labels = (self.name, endpoint.name)
            self._telemetry.endpoint_healthy.set(labels, int(serves and not endpoint.draining))
        if self.config.on_empty == "try_all":
            self._telemetry.upstream_try_all.set((self.name,), int(self.trying_all))
        self._publish_circuit()

    def _publish_circuit(self) -> None:
        """One figure for the upstream: with a circuit for each endpoint, the most permissive
        one."""
        states = [breaker.state for breaker, _ in self.circuits()]
        if states:
            state = min(states, key=(CLOSED, HALF_OPEN, OPEN).index)
            self._telemetry.circuit_state.set((self.name,), state)

    def _circuit_changed(
        self, breaker: Breaker, why: str, endpoint: Endpoint | None = None
    ) -> None:
        owner = endpoint if endpoint is not None and endpoint.breaker is breaker else None
        self._circuit_follows(breaker, owner)
        whose = "" if owner is None else f" of {owner.name}"
        level = logging.WARNING if breaker.state == OPEN else logging.INFO
        log.log(level, "upstream %s: circuit%s %s: %s", self.name, whose, NAMES[breaker.state], why)
        if self.tell is not None and breaker.state != HALF_OPEN:
            self.tell(self.name, *self._circuit(breaker, owner))

    def _circuit_follows(self, breaker: Breaker, owner: Endpoint | None) -> None:
        """Apply what a breaker's change means for picks and metrics."""
        if owner is not None:
            self._sort()
        self._regate()
        self.wants_success = self._must_report_success()
        self._publish_circuit()

    def _circuit(self, breaker: Breaker, owner: Endpoint | None) -> tuple[str, tuple[Any, ...]]:
        """Return a circuit's state for other processes."""
        address, left = owner and tuple(owner.address), breaker.retry_after(self._clock())
        return "circuit", (address, breaker.state == OPEN, left, breaker.why)

    def _left(self) -> str:
        return f"{len(self.eligible)} of {len(self.endpoints)} eligible"
