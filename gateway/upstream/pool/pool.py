"""One upstream: its endpoints, who of them may be picked, and what every outcome means for that.

A `Pool` outlives configurations: `reconfigure` changes it in place and keeps what has been learnt. Making one has no effect
outside it, so a configuration that is composed and then thrown away leaves no trace; `reconfigure`, called for every pool when a
configuration is taken (the first time too), is what shows it to others. Nothing in here waits or does I/O.

`eligible` is worked out when something changes, never for a pick: the first of the tiers (tiers.py) that is not empty. The later
ones serve when everyone in the earlier ones is at its `max_connections` or has been tried for this request.

What has to be looked at before a pick (an ejection that may be over, a breaker that is not closed) and after an answer (a breaker
that counts) is not there most of the time: `_gated` and `_heeds` say so in one look each.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace
from math import ceil
from typing import Any

from gateway.config.tables.endpoints import EndpointConfig
from gateway.config.tables.health import SIGNS, BreakerConfig
from gateway.config.tables.upstream import UpstreamConfig
from gateway.core.clock import REAL, Clock
from gateway.core.failures import Failed, Failure
from gateway.core.telemetry import Telemetry
from gateway.upstream.pool.balancing import Balancer, Endpoints, barred, choose
from gateway.upstream.pool.breaker import CLOSED, HALF_OPEN, NAMES, OPEN, Breaker
from gateway.upstream.pool.endpoint import Endpoint, by_address
from gateway.upstream.pool.health import Active, Passive, Status
from gateway.upstream.pool.limiter import Limiter
from gateway.upstream.pool.outlier import Outliers
from gateway.upstream.pool.queue import Place
from gateway.upstream.pool.tiers import ALL, STEPS, grown, tiers
from gateway.upstream.retry import Budget

log = logging.getLogger("gateway.upstream")


class Pool:
    """The endpoints of one upstream. Times are `clock.monotonic` seconds.

    `name` never changes; `config` is the one in force; `endpoints` are all of them, `eligible` those that a pick chooses among,
    as of the last pick or `refresh`; `breaker` is None without `circuit_breaker`, and where each endpoint has its own; `budget`
    bounds retries; `outliers` is None without `outlier`; `tunnels` of the requests in flight were answered 101.
    """

    __slots__ = (
        "_choose",
        "_clock",
        "_due",
        "_gated",
        "_gone",
        "_heeds",
        "_only",
        "_outage",
        "_rng",
        "_telemetry",
        "_tiers",
        "_trials",
        "_trying_all",
        "blamed",
        "breaker",
        "budget",
        "config",
        "eligible",
        "endpoints",
        "found",
        "limiter",
        "name",
        "outliers",
        "tunnels",
        "waiting",
    )

    def __init__(
        self,
        name: str,
        config: UpstreamConfig,
        *,
        clock: Clock = REAL,
        telemetry: Telemetry | None = None,
        rng: random.Random | None = None,
    ) -> None:
        self.name = name
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
        self.waiting: deque[Place] = deque()
        """Requests in the queue, until something may have become free for the first."""
        self.blamed: frozenset[int]
        """Statuses that count against whoever answers them."""
        # Worked out by _sort: how to pick, whom when there is no choice, when time brings something, whose circuit is to be
        # tried, why nobody is there.
        self._choose: Callable[[Endpoints, str, Sequence[Endpoint]], Endpoint | None]
        self._only: Endpoint | None
        self._due: float | None
        self._trials: Endpoints
        self._outage: tuple[Failure, float, str] | None
        self._gated = self._heeds = self._trying_all = False
        self._gone: list[Endpoint] = []
        self._adopt(config)

    def __repr__(self) -> str:
        circuit = "" if self.breaker is None else f", circuit {NAMES[self.breaker.state]}"
        return (
            f"<Pool {self.name} {self.config.balance}, {len(self.eligible)} of {len(self.endpoints)} eligible, "
            f"{self.in_flight} in flight{circuit}>"
        )

    @property
    def in_flight(self) -> int:
        """Requests that have been picked for and not released."""
        return sum(endpoint.in_flight for endpoint in self.endpoints)

    # On the request's way.

    def pick(self, key: str, tried: Sequence[Endpoint] = ()) -> Endpoint:
        """An endpoint to ask, counted in until `release`; one that is not in `tried` if there is such a one.

        key: what balancing by hash goes by, the client's address if nothing else was chosen. Raises Failed: CIRCUIT_OPEN,
        NO_ENDPOINT or OVERLOADED, each with Retry-After.
        """
        endpoint = self._gate(tried) if self._gated else None
        if endpoint is None:
            endpoint = self._only
            if endpoint is None or tried:
                endpoint = self._choose(self.eligible, key, tried) or self._resort(key, tried)
        endpoint.in_flight += 1
        return endpoint

    def release(self, endpoint: Endpoint, ok: bool | None, why: str = "", sign: str = "") -> None:
        """The request that `endpoint` was picked for has ended; once for each pick.

        ok: it was answered (True), it failed in a way that may be the endpoint's fault (False, `why` for the log, `sign` which of
        config.upstream.SIGNS it was), or neither (None).
        """
        endpoint.in_flight -= 1
        if not ok or self._heeds:
            self._settle(endpoint, ok, why, sign)

    def switched(self, endpoint: Endpoint) -> None:
        """`endpoint` has answered 101: a success now, though it stays in flight until `release_tunnel`."""
        self.tunnels += 1
        if self._heeds:
            self._settle(endpoint, True, "", "")

    def release_tunnel(self, endpoint: Endpoint) -> None:
        """The tunnel to `endpoint` has ended. However it did says nothing about health: both ends may hang up as they like."""
        self.tunnels -= 1
        endpoint.in_flight -= 1
        self._wake(1)

    def refresh(self) -> None:
        """Does what time brings: lets endpoints whose ejection is over back in, goes on with slow starts. Every pick does it; for
        those who only look at `eligible`."""
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

    def saw(self, endpoint: Endpoint, failed: bool, seconds: float) -> None:
        """An attempt took `seconds` to its answer, or to its failure; for the comparison with its peers, where that is on."""
        outliers, limiter = self.outliers, self.limiter
        if limiter is not None and not failed:
            limiter.saw(seconds, self.in_flight - self.tunnels)
        if outliers is None or endpoint.health.passive.until:
            return
        now = self._clock()
        for found, why in outliers.saw(now, endpoint, failed, seconds).items():
            config = outliers.config
            if found.health.passive.until or not self._may_eject(config.max_ejected):
                continue
            found.health.passive = found.health.passive.eject(now, config.ejection_time, config.max_ejection_time)
            found.health.error = why
            outliers.forget(found)
            self._health_changed()
            text = "upstream %s: %s is ejected for %g s as an outlier: %s; %s"
            log.warning(text, self.name, found.name, found.health.passive.until - now, why, self._left())

    def _gate(self, tried: Sequence[Endpoint]) -> Endpoint | None:
        """What comes before a choice, while there is such a thing; an endpoint that is to be tried instead of choosing one."""
        if self._due is not None:
            self.refresh()
        limiter = self.limiter
        if limiter is not None and self.in_flight - self.tunnels >= int(limiter.limit):
            why = f"upstream {self.name}: {int(limiter.limit)} requests are under way, the most it gets"
            raise _refusal(Failure.OVERLOADED, 0.0, why)
        breaker = self.breaker
        if breaker is not None and breaker.state:
            self._admit(breaker)
        for endpoint in self._trials:
            circuit = endpoint.breaker
            if circuit is not None and not barred(endpoint, tried):
                before = circuit.state
                if circuit.allow(self._clock()):
                    if circuit.state != before:
                        self._circuit_changed(circuit, f"{circuit.config.recovery_timeout:g} s have passed", endpoint)
                    return endpoint
        return None

    def _admit(self, breaker: Breaker) -> None:
        """Asks a breaker that is not closed. Raises Failed(CIRCUIT_OPEN)."""
        now, before = self._clock(), breaker.state
        allowed = breaker.allow(now)
        if breaker.state != before:
            self._circuit_changed(breaker, f"{breaker.config.recovery_timeout:g} s have passed")
        if not allowed:
            why = f"upstream {self.name}: circuit {NAMES[breaker.state]}: {breaker.why}"
            raise _refusal(Failure.CIRCUIT_OPEN, breaker.retry_after(now), why)

    def _resort(self, key: str, tried: Sequence[Endpoint]) -> Endpoint:
        """The first tier has nobody else: the others, then for a retry those it has tried. Raises Failed."""
        for passed_over in (tried, ()) if tried else (tried,):
            for endpoints, balancer in self._tiers:
                endpoint = balancer.pick(endpoints, key, passed_over)
                if endpoint is not None:
                    return endpoint
        if self.breaker is not None:
            self.breaker.withdraw()
        if self.eligible:
            raise _refusal(Failure.OVERLOADED, 0.0, f"upstream {self.name}: every endpoint is at its max_connections")
        if self._outage is None:
            # Kept until something changes: a refused request must not cost more than an answered one.
            self._outage = self._explain_outage()
        failure, back, why = self._outage
        raise _refusal(failure, back - self._clock(), why)

    def _settle(self, endpoint: Endpoint, ok: bool | None, why: str, sign: str) -> None:
        """An outcome that may change something."""
        breaker = self.breaker or endpoint.breaker
        if ok is False and endpoint in self.endpoints:
            self._failed(endpoint, breaker, why or "a request failed", sign)
        elif breaker is not None and ok:
            before = breaker.state
            breaker.success(self._clock())
            if breaker.state != before:
                self._circuit_changed(breaker, "its trials succeeded", endpoint)
        elif breaker is not None:
            breaker.abandon()
        self._heeds = self._must_heed()
        self._wake(1)

    async def wait(self, seconds: float, first: bool = False) -> bool:
        """Waits, behind those who do already or as the `first`, until a pick may succeed; False when `seconds` have passed."""
        place = Place(self.waiting, seconds, first)
        self._heeds = True
        try:
            return await place
        except asyncio.CancelledError:
            if place.granted:
                self._wake(1)  # It was this one's turn, which must not be lost with it.
            raise
        finally:
            place.leave()
            self._heeds = self._must_heed()

    def _wake(self, number: int) -> None:
        while self.waiting and number:
            self.waiting.popleft().grant()
            number -= 1

    def _failed(self, endpoint: Endpoint, breaker: Breaker | None, why: str, sign: str) -> None:
        now, health, passive = self._clock(), endpoint.health, self.config.passive_health
        health.error = why
        # nginx: the only server of a group is never taken out; nobody would be left to answer at all.
        if passive is not None and len(self.endpoints) > 1 and (not sign or sign in passive.on):
            before = health.status
            health.passive = health.passive.failed(now, passive, self._may_eject(passive.max_ejected))
            if health.status is not before:
                if self.outliers is not None:
                    self.outliers.forget(endpoint)
                self._health_changed()
                requests = _counted(passive.max_fails, "request")
                text = "upstream %s: %s is ejected for %g s: %s failed, the last: %s; %s"
                log.warning(text, self.name, endpoint.name, health.passive.until - now, requests, why, self._left())
        if breaker is None:
            return
        if sign and sign not in breaker.config.on:
            # An answer that is not held against it is an answer; a failure that is not says nothing.
            breaker.success(now) if sign.isdigit() else breaker.abandon()
            return
        state = breaker.state
        breaker.failure(now, self.in_flight - self.tunnels if endpoint.breaker is None else endpoint.in_flight)
        if breaker.state != state:
            self._circuit_changed(breaker, f"{breaker.why}, the last at {endpoint.name}: {why}", endpoint)

    def _may_eject(self, most: float) -> bool:
        """Whether one more may be taken out by what requests have shown, so that at most a share of `most` is out."""
        out = sum(1 for endpoint in self.endpoints if endpoint.health.passive.until)
        return len(self.endpoints) > 1 and out < max(1, int(most * len(self.endpoints)))

    # What the checks and the operator say.

    def probed(self, endpoint: Endpoint, ok: bool, why: str = "", seconds: float = 0.0) -> None:
        """An active check has ended after `seconds`; `why` is how it failed."""
        config, health = self.config.health, endpoint.health
        if config is None or endpoint not in self.endpoints:
            return
        health.checked, health.seconds = self._clock(), seconds
        if not ok:
            health.error = why
        before = health.active.status
        health.active = health.active.advance(ok, config)
        self._outage = None
        if health.active.status is before:
            return
        if ok and (before is Status.UNHEALTHY or health.since is not None):
            self._start_slowly(endpoint)
        self._health_changed()
        if ok:
            checks = _counted(config.healthy_threshold if before is Status.UNHEALTHY else 1, "check")
            log.info("upstream %s: %s is healthy: %s succeeded; %s", self.name, endpoint.name, checks, self._left())
        else:
            checks = _counted(config.unhealthy_threshold, "check")
            text = "upstream %s: %s is unhealthy: %s failed, the last: %s; %s"
            log.warning(text, self.name, endpoint.name, checks, why, self._left())

    def reset_circuit(self) -> bool:
        """Closes the breaker by hand, with one for each endpoint all of them; False when there is none."""
        circuits = [(breaker, endpoint) for breaker, endpoint in self._circuits() if breaker.state]
        for breaker, endpoint in circuits:
            breaker.reset()
            self._circuit_changed(breaker, "reset by hand", endpoint)
        return self.config.circuit_breaker is not None

    def reconfigure(self, config: UpstreamConfig) -> Endpoints:
        """Puts a configuration into force and returns the endpoints it drops, for whoever else knows them. Cannot fail.

        An endpoint with a known address keeps its counts, its connections and its health; the latter becomes unknown when the
        checks changed and it was not healthy. A dropped one finishes what it has in flight. A breaker keeps its state.
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
        self._wake(len(self.waiting))
        return dropped

    def _forget(self, dropped: Endpoints) -> None:
        """Ends the series of those that were dropped before and have nothing in flight: a pool may change as long as it lives.

        Not of those that are dropped now: what they have just answered may not have been counted yet.
        """
        known = {endpoint.name for endpoint in self.endpoints}
        over = {endpoint.name for endpoint in self._gone if not endpoint.in_flight} - known
        if over:
            series = self._telemetry.upstream_requests
            for labels in [labels for labels in series.values if labels[0] == self.name and labels[1] in over]:
                series.drop(labels)
        if self.outliers is not None:
            for endpoint in self._gone:
                self.outliers.forget(endpoint)
        self._gone = [*(endpoint for endpoint in self._gone if endpoint.in_flight), *dropped]

    def discovered(self, found: tuple[EndpointConfig, ...]) -> Endpoints:
        """Puts what discovery says now beside the configuration's endpoints; returns those that are gone."""
        self.found = found
        return self.reconfigure(self.config)

    def close(self) -> Endpoints:
        """The upstream is gone: nobody can be picked any more, and its metrics end. Returns the endpoints it had."""
        gone = replace(self.config, url="", endpoints=(), circuit_breaker=None, on_empty="fail", discover=None)
        dropped = self.reconfigure(gone)
        self._forget(())
        return dropped

    def status(self) -> dict[str, Any]:
        """What the admin API shows: plain values only."""
        self.refresh()
        now, breaker = self._clock(), self.breaker
        all_well = all(endpoint.health.status is Status.HEALTHY for endpoint in self.endpoints)
        circuits = any(one.state for one, _ in self._circuits())
        usable = bool(self.eligible) and not self._trying_all and (breaker is None or breaker.state != OPEN)
        circuit = None
        if breaker is not None:
            circuit = {"state": NAMES[breaker.state], "failures": breaker.failures, "retry_after": breaker.retry_after(now)}
        return {
            "name": self.name,
            "status": "unhealthy" if not usable else "healthy" if all_well and not circuits else "degraded",
            "balance": self.config.balance,
            "in_flight": self.in_flight,
            "retrying": self.budget.retrying,
            "trying_all": self._trying_all,
            "waiting": len(self.waiting),
            "limit": None if self.limiter is None else int(self.limiter.limit),
            "circuit": circuit,
            "endpoints": [endpoint.status(now) | {"eligible": endpoint in self.eligible} for endpoint in self.endpoints],
        }

    # Bookkeeping, when something has changed.

    def _adopt(self, config: UpstreamConfig) -> Endpoints:
        """Takes over everything `config` says, visible to nobody but this pool; returns who is no longer in it."""
        before, self.config = self.config, config
        if config.discover is None:
            self.found = ()
        settings = by_address(self.found) | by_address(config.endpoints)
        known = {endpoint.address: endpoint for endpoint in self.endpoints}
        names = {endpoint.name for address, endpoint in known.items() if address in settings}
        endpoints, joining = [], bool(known)
        for address, setting in settings.items():
            endpoint = known.pop(address, None)
            if endpoint is None:
                name = next(name for name in address.names() if name not in names)
                names.add(name)
                endpoint = Endpoint(self.name, setting, name)
                if joining:
                    self._start_slowly(endpoint)
            else:
                endpoint.configure(setting)
            endpoints.append(endpoint)
            health = endpoint.health
            if config.health is None:
                health.active = Active(Status.HEALTHY)
            elif config.health != before.health:
                health.active = Active(Status.HEALTHY if health.active.status is Status.HEALTHY else Status.UNKNOWN)
            passive = config.passive_health is not None and config.passive_health.max_fails
            if not (passive or config.outlier) or len(settings) == 1:
                health.passive = Passive()
        self.endpoints = tuple(endpoints)
        self._adopt_circuits(config.circuit_breaker)
        signs = [known.on for known in (config.passive_health, config.circuit_breaker) if known is not None] or [SIGNS]
        self.blamed = frozenset(int(sign) for some in signs for sign in some if sign.isdigit())
        if config.outlier != before.outlier or config.outlier is None or self.outliers is None:
            self.outliers = None if config.outlier is None else Outliers(config.outlier, self._clock())
        if config.limit is None:
            self.limiter = None
        elif self.limiter is None or self.limiter.config != config.limit:
            self.limiter = Limiter(config.limit)
        if config.retry is not None:
            self.budget.share = config.retry.budget
        self._tiers: list[tuple[Endpoints, Balancer]] = [((), choose(config.balance, self._rng)) for _ in range(ALL + 1)]
        self._sort()
        return tuple(known.values())

    def _adopt_circuits(self, config: BreakerConfig | None) -> None:
        """Gives whoever is to have a breaker one, and those that have one what holds now."""
        whole = config is not None and config.scope == "upstream"
        self.breaker = _circuit(self.breaker, config if whole else None)
        for endpoint in self.endpoints:
            endpoint.breaker = _circuit(endpoint.breaker, None if whole else config)
        self._heeds = self._must_heed()

    def _circuits(self) -> list[tuple[Breaker, Endpoint | None]]:
        """Every breaker there is, and the endpoint it is for if it is for one."""
        if self.breaker is not None:
            return [(self.breaker, None)]
        return [(endpoint.breaker, endpoint) for endpoint in self.endpoints if endpoint.breaker is not None]

    def _must_heed(self) -> bool:
        """Whether somebody has to hear of successes: a breaker, or who waits for a place."""
        circuit = self.config.circuit_breaker
        if self.waiting:
            return True
        return circuit is not None and (circuit.scope == "endpoint" or (self.breaker is not None and self.breaker.heeds))

    def _start_slowly(self, endpoint: Endpoint) -> None:
        endpoint.health.since = self._clock() if self.config.slow_start else None

    def _sort(self) -> None:
        """Works out the tiers. A tier that stays the same stays the same tuple, so its balancer keeps its turns."""
        now, config = self._clock(), self.config
        self._outage = None
        dues = [endpoint.health.passive.until for endpoint in self.endpoints if endpoint.health.passive.until]
        self._trials = ()
        for endpoint in self.endpoints:
            circuit = endpoint.breaker
            if circuit is not None and circuit.state and endpoint.health.status in (Status.HEALTHY, Status.UNKNOWN):
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
        if bool(found[ALL]) is not self._trying_all:
            self._trying_all = bool(found[ALL])
            text = "nobody can be picked: trying all" if self._trying_all else "no longer trying all"
            log.warning("upstream %s: %s; %s", self.name, text, self._left())

    def _reweigh(self, now: float, dues: list[float]) -> bool:
        """Goes on with slow starts; whether a weight has changed. Adds to `dues` when to come again."""
        changed, seconds = False, self.config.slow_start
        for endpoint in self.endpoints:
            weight = grown(endpoint, now, seconds)
            if weight == endpoint.share:
                endpoint.health.since = None
            else:
                dues.append(now + seconds / STEPS)
            if weight != endpoint.weight:
                endpoint.weight = weight
                changed = True
        return changed

    def _regate(self) -> None:
        """Works out whether picks have something to look at first."""
        gates = (self._due is not None, self._trials, self.breaker is not None and self.breaker.state, self.limiter is not None)
        self._gated = any(gates)

    def _health_changed(self) -> None:
        self._sort()
        self._wake(len(self.waiting))
        self._publish()

    def _publish(self) -> None:
        eligible = set() if self._trying_all else set(self.eligible)
        for endpoint in self.endpoints:
            may_be_picked = endpoint.health.status is Status.HEALTHY or endpoint in eligible
            self._telemetry.endpoint_healthy.set((self.name, endpoint.name), int(may_be_picked))
        if self.config.on_empty == "try_all":
            self._telemetry.upstream_try_all.set((self.name,), int(self._trying_all))
        self._publish_circuit()

    def _publish_circuit(self) -> None:
        """One figure for the upstream: where every endpoint has a circuit of its own, that of the one that lets most through."""
        states = [breaker.state for breaker, _ in self._circuits()]
        if states:
            state = min(states, key=(CLOSED, HALF_OPEN, OPEN).index)
            self._telemetry.circuit_state.set((self.name,), state)

    def _circuit_changed(self, breaker: Breaker, why: str, endpoint: Endpoint | None = None) -> None:
        whose = ""
        if endpoint is not None and endpoint.breaker is breaker:
            whose = f" of {endpoint.name}"
            self._sort()
        self._regate()
        self._heeds = self._must_heed()
        self._publish_circuit()
        level = logging.WARNING if breaker.state == OPEN else logging.INFO
        log.log(level, "upstream %s: circuit%s %s: %s", self.name, whose, NAMES[breaker.state], why)

    def _left(self) -> str:
        return f"{len(self.eligible)} of {len(self.endpoints)} eligible"

    def _explain_outage(self) -> tuple[Failure, float, str]:
        """What to answer, when the first endpoint may be back, and why none is there."""
        checks, now = self.config.health, self._clock()
        open_circuits = [breaker.retry_after(now) + now for breaker, _ in self._circuits() if breaker.state and not self.breaker]
        back = min([endpoint.health.back(checks) for endpoint in self.endpoints if not endpoint.draining], default=0.0)
        if open_circuits:
            back = max(back, min(open_circuits))
        each = "; ".join(f"{endpoint.name} {endpoint.health.status}: {endpoint.health.error}" for endpoint in self.endpoints)
        failure = Failure.CIRCUIT_OPEN if open_circuits else Failure.NO_ENDPOINT
        return failure, back, f"upstream {self.name}: no endpoint can be picked ({each or 'it has none'})"


def _circuit(breaker: Breaker | None, config: BreakerConfig | None) -> Breaker | None:
    """The breaker for `config`: the one there was if there was one."""
    if config is None:
        return None
    if breaker is None:
        return Breaker(config)
    breaker.configure(config)
    return breaker


def _refusal(failure: Failure, seconds: float, why: str) -> Failed:
    """Retry-After is in whole seconds (RFC 9110 section 10.2.3): rounded up, and never 0, which would invite a storm."""
    return Failed(failure, headers=((b"Retry-After", b"%d" % max(1, ceil(seconds))),), why=why)


def _counted(number: int, thing: str) -> str:
    return f"{number} {thing}" if number == 1 else f"{number} {thing}s"
