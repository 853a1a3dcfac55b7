"""One upstream: its endpoints, who of them may be picked, and what every outcome means for that.

A `Pool` outlives configurations: `reconfigure` changes it in place and keeps what has been learnt. Making one has no effect
outside it, so a configuration that is composed and then thrown away leaves no trace; `reconfigure`, called for every pool when a
configuration is taken (the first time too), is what shows it to others. Nothing in here waits or does I/O.

`eligible` is worked out when something changes, never for a pick: the first of these tiers that is not empty.

    healthy primaries, unknown primaries, healthy backups, unknown backups

The later tiers serve when everyone in the earlier ones is at its `max_connections` or has been tried for this request.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from math import ceil
from typing import Any

from gateway.config.upstream import UpstreamConfig
from gateway.core.clock import REAL, Clock
from gateway.core.failures import Failed, Failure
from gateway.core.telemetry import Telemetry
from gateway.upstream.balancing import Balancer, Endpoints, choose
from gateway.upstream.breaker import NAMES, OPEN, Breaker
from gateway.upstream.endpoint import Endpoint, by_address
from gateway.upstream.health import Active, Passive, Status
from gateway.upstream.retry import Budget

log = logging.getLogger("gateway.upstream")


class Pool:
    """The endpoints of one upstream. Times are `clock.monotonic` seconds.

    `name` never changes; `config` is the one in force; `endpoints` are all of them, `eligible` those that a pick chooses among,
    as of the last pick or `refresh`; `breaker` is None without `circuit_breaker`; `budget` bounds retries; `tunnels` of the
    requests in flight were answered 101.
    """

    __slots__ = (
        "_choose",
        "_clock",
        "_only",
        "_out_until",
        "_outage",
        "_rng",
        "_telemetry",
        "_tiers",
        "breaker",
        "budget",
        "config",
        "eligible",
        "endpoints",
        "name",
        "tunnels",
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
        self.breaker: Breaker | None = None
        self.budget = Budget()
        self.config = config
        self._clock = clock.monotonic
        self._telemetry = telemetry or Telemetry()
        self._rng = rng or random.Random()  # noqa: S311 - spreads load, guards nothing
        # Worked out by _sort: how to pick, whom when there is no choice, until when somebody is ejected, why nobody is there.
        self._choose: Callable[[Endpoints, str, Sequence[Endpoint]], Endpoint | None]
        self._only: Endpoint | None
        self._out_until: float | None
        self._outage: tuple[float, str] | None
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

        key: the client's address, for ip_hash. Raises Failed: CIRCUIT_OPEN, NO_ENDPOINT or OVERLOADED, each with Retry-After.
        """
        if self._out_until is not None:
            self.refresh()
        breaker = self.breaker
        if breaker is not None and breaker.state:
            self._admit(breaker)
        endpoint = self._only
        if endpoint is None or tried:
            endpoint = self._choose(self.eligible, key, tried) or self._resort(key, tried)
        endpoint.in_flight += 1
        return endpoint

    def release(self, endpoint: Endpoint, ok: bool | None, why: str = "") -> None:
        """The request that `endpoint` was picked for has ended; once for each pick.

        ok: it was answered (True), it failed in a way that blames the endpoint (False, `why` for the log), or neither (None).
        """
        endpoint.in_flight -= 1
        breaker = self.breaker
        if ok:
            if breaker is not None and (breaker.failures or breaker.state):
                self._succeeded(breaker)
        elif ok is False and endpoint in self.endpoints:
            self._failed(endpoint, why or "a request failed")
        elif breaker is not None:
            breaker.abandon()

    def switched(self, endpoint: Endpoint) -> None:
        """`endpoint` has answered 101: a success now, though it stays in flight until `release_tunnel`."""
        self.tunnels += 1
        if self.breaker is not None:
            self._succeeded(self.breaker)

    def release_tunnel(self, endpoint: Endpoint) -> None:
        """The tunnel to `endpoint` has ended. However it did says nothing about health: both ends may hang up as they like."""
        self.tunnels -= 1
        endpoint.in_flight -= 1

    def _succeeded(self, breaker: Breaker) -> None:
        before = breaker.state
        breaker.success()
        if breaker.state != before:
            self._circuit_changed(breaker, "its trials succeeded")

    def refresh(self) -> None:
        """Lets endpoints whose ejection is over back in. Every pick does it; for those who only look at `eligible`."""
        now = self._clock()
        if self._out_until is None or now < self._out_until:
            return
        for endpoint in self.endpoints:
            passive = endpoint.health.passive.returned(now)
            if passive is not endpoint.health.passive:
                endpoint.health.passive = passive
                log.info("upstream %s: %s is back: its ejection is over", self.name, endpoint.name)
        self._health_changed()

    def _admit(self, breaker: Breaker) -> None:
        """Asks a breaker that is not closed. Raises Failed(CIRCUIT_OPEN)."""
        now, before = self._clock(), breaker.state
        allowed = breaker.allow(now)
        if breaker.state != before:
            self._circuit_changed(breaker, f"{breaker.config.recovery_timeout:g} s have passed")
        if not allowed:
            why = f"upstream {self.name}: circuit {NAMES[breaker.state]} after {_counted(breaker.failures, 'failure')} in a row"
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
        back, why = self._outage
        raise _refusal(Failure.NO_ENDPOINT, back - self._clock(), why)

    def _failed(self, endpoint: Endpoint, why: str) -> None:
        now, health, passive, breaker = self._clock(), endpoint.health, self.config.passive_health, self.breaker
        health.error = why
        # nginx: the only server of a group is never taken out; nobody would be left to answer at all.
        if passive is not None and len(self.endpoints) > 1:
            before = health.status
            health.passive = health.passive.failed(now, passive)
            if health.status is not before:
                self._health_changed()
                requests = _counted(passive.max_fails, "request")
                text = "upstream %s: %s is ejected for %g s: %s failed, the last: %s; %s"
                log.warning(text, self.name, endpoint.name, passive.fail_timeout, requests, why, self._left())
        if breaker is not None:
            state = breaker.state
            breaker.failure(now, self.in_flight - self.tunnels)
            if breaker.state != state:
                failures = _counted(breaker.failures, "failure")
                self._circuit_changed(breaker, f"{failures} in a row, the last at {endpoint.name}: {why}")

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
        self._health_changed()
        if ok:
            checks = _counted(config.healthy_threshold if before is Status.UNHEALTHY else 1, "check")
            log.info("upstream %s: %s is healthy: %s succeeded; %s", self.name, endpoint.name, checks, self._left())
        else:
            checks = _counted(config.unhealthy_threshold, "check")
            text = "upstream %s: %s is unhealthy: %s failed, the last: %s; %s"
            log.warning(text, self.name, endpoint.name, checks, why, self._left())

    def reset_circuit(self) -> bool:
        """Closes the breaker by hand; False when there is none."""
        breaker = self.breaker
        if breaker is None:
            return False
        if breaker.state:
            breaker.reset()
            self._circuit_changed(breaker, "reset by hand")
        return True

    def reconfigure(self, config: UpstreamConfig) -> Endpoints:
        """Puts a configuration into force and returns the endpoints it drops, for whoever else knows them. Cannot fail.

        An endpoint with a known address keeps its counts, its connections and its health; the latter becomes unknown when the
        checks changed and it was not healthy. A dropped one finishes what it has in flight. A breaker keeps its state.
        """
        dropped = self._adopt(config)
        for endpoint in dropped:
            endpoint.retire()
            self._telemetry.endpoint_healthy.drop((self.name, endpoint.name))
        if self.breaker is None:
            self._telemetry.circuit_state.drop((self.name,))
        else:
            self._telemetry.circuit_state.set((self.name,), self.breaker.state)
        self._publish()
        return dropped

    def close(self) -> Endpoints:
        """The upstream is gone: nobody can be picked any more, and its metrics end. Returns the endpoints it had."""
        return self.reconfigure(replace(self.config, url="", endpoints=(), circuit_breaker=None))

    def status(self) -> dict[str, Any]:
        """What the admin API shows: plain values only."""
        self.refresh()
        now, breaker = self._clock(), self.breaker
        all_well = all(endpoint.health.status is Status.HEALTHY for endpoint in self.endpoints)
        usable = bool(self.eligible) and (breaker is None or breaker.state != OPEN)
        circuit = None
        if breaker is not None:
            circuit = {"state": NAMES[breaker.state], "failures": breaker.failures, "retry_after": breaker.retry_after(now)}
        return {
            "name": self.name,
            "status": "unhealthy" if not usable else "healthy" if all_well and not (breaker and breaker.state) else "degraded",
            "balance": self.config.balance,
            "in_flight": self.in_flight,
            "retrying": self.budget.retrying,
            "circuit": circuit,
            "endpoints": [endpoint.status(now) | {"eligible": endpoint in self.eligible} for endpoint in self.endpoints],
        }

    # Bookkeeping, when something has changed.

    def _adopt(self, config: UpstreamConfig) -> Endpoints:
        """Takes over everything `config` says, visible to nobody but this pool; returns who is no longer in it."""
        before, self.config = self.config, config
        settings = by_address(config.endpoints)
        known = {endpoint.address: endpoint for endpoint in self.endpoints}
        names = {endpoint.name for address, endpoint in known.items() if address in settings}
        endpoints = []
        for address, setting in settings.items():
            endpoint = known.pop(address, None)
            if endpoint is None:
                name = next(name for name in address.names() if name not in names)
                names.add(name)
                endpoint = Endpoint(self.name, setting, name)
            else:
                endpoint.configure(setting)
            endpoints.append(endpoint)
            health = endpoint.health
            if config.health is None:
                health.active = Active(Status.HEALTHY)
            elif config.health != before.health:
                health.active = Active(Status.HEALTHY if health.active.status is Status.HEALTHY else Status.UNKNOWN)
            if config.passive_health is None or not config.passive_health.max_fails or len(settings) == 1:
                health.passive = Passive()
        self.endpoints = tuple(endpoints)
        if config.circuit_breaker is None:
            self.breaker = None
        elif self.breaker is None:
            self.breaker = Breaker(config.circuit_breaker)
        else:
            self.breaker.config = config.circuit_breaker
        if config.retry is not None:
            self.budget.share = config.retry.budget
        self._tiers: list[tuple[Endpoints, Balancer]] = [((), choose(config.balance, self._rng)) for _ in range(4)]
        self._sort()
        return tuple(known.values())

    def _sort(self) -> None:
        """Works out the tiers. A tier that stays the same stays the same tuple, so its balancer keeps its turns."""
        tiers: tuple[list[Endpoint], ...] = ([], [], [], [])
        self._out_until = self._outage = None
        for endpoint in self.endpoints:
            status, until = endpoint.health.status, endpoint.health.passive.until
            if status is Status.EJECTED:
                self._out_until = until if self._out_until is None else min(until, self._out_until)
            elif status is not Status.UNHEALTHY:
                tiers[2 * endpoint.backup + (status is Status.UNKNOWN)].append(endpoint)
        self._tiers = [
            (known if known == tuple(found) else tuple(found), balancer)
            for found, (known, balancer) in zip(tiers, self._tiers, strict=True)
        ]
        self.eligible, balancer = next((tier for tier in self._tiers if tier[0]), self._tiers[0])
        self._choose = balancer.pick
        alone = len(self.eligible) == 1 and not self.eligible[0].max_connections
        self._only = self.eligible[0] if alone else None

    def _health_changed(self) -> None:
        self._sort()
        self._publish()

    def _publish(self) -> None:
        eligible = set(self.eligible)
        for endpoint in self.endpoints:
            may_be_picked = endpoint.health.status is Status.HEALTHY or endpoint in eligible
            self._telemetry.endpoint_healthy.set((self.name, endpoint.name), int(may_be_picked))

    def _circuit_changed(self, breaker: Breaker, why: str) -> None:
        self._telemetry.circuit_state.set((self.name,), breaker.state)
        level = logging.WARNING if breaker.state == OPEN else logging.INFO
        log.log(level, "upstream %s: circuit %s: %s", self.name, NAMES[breaker.state], why)

    def _left(self) -> str:
        return f"{len(self.eligible)} of {len(self.endpoints)} eligible"

    def _explain_outage(self) -> tuple[float, str]:
        """When the first endpoint may be back, and why none is there."""
        checks = self.config.health
        back = min((endpoint.health.back(checks) for endpoint in self.endpoints), default=0.0)
        each = "; ".join(f"{endpoint.name} {endpoint.health.status}: {endpoint.health.error}" for endpoint in self.endpoints)
        return back, f"upstream {self.name}: no endpoint can be picked ({each or 'it has none'})"


def _refusal(failure: Failure, seconds: float, why: str) -> Failed:
    """Retry-After is in whole seconds (RFC 9110 section 10.2.3): rounded up, and never 0, which would invite a storm."""
    return Failed(failure, headers=((b"Retry-After", b"%d" % max(1, ceil(seconds))),), why=why)


def _counted(number: int, thing: str) -> str:
    return f"{number} {thing}" if number == 1 else f"{number} {thing}s"
