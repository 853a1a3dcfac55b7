"""Outcomes of requests and checks, and what they change: health, ejections, circuits."""

from __future__ import annotations

import logging
from typing import Any

from gateway.upstream.pool.breaker import Breaker
from gateway.upstream.pool.endpoint import Endpoint
from gateway.upstream.pool.health import Status
from gateway.upstream.pool.roster import Roster

log = logging.getLogger("gateway.upstream")


class Outcomes(Roster):
    """A Roster that learns how requests and checks ended."""

    __slots__ = ()

    def release(self, endpoint: Endpoint, ok: bool | None, why: str = "", sign: str = "") -> None:
        """The request that `endpoint` was picked for has ended. Called once for each pick.

        ok:   True when it was answered, False when it failed in a way that may be the endpoint's
              fault, None for neither.
        why:  of a failure, for the log. sign: which of config.tables.health.SIGNS it was.
        """
        endpoint.in_flight -= 1
        if not ok or self.wants_success:
            self._settle(endpoint, ok, why, sign)

    def switched(self, endpoint: Endpoint) -> None:
        """`endpoint` has answered 101: a success now; it stays in flight until `release_tunnel`."""
        self.tunnels += 1
        if self.wants_success:
            self._settle(endpoint, True, "", "")

    def release_tunnel(self, endpoint: Endpoint) -> None:
        """The tunnel to `endpoint` has ended. How it ended says nothing about health: either side
        may close it."""
        self.tunnels -= 1
        endpoint.in_flight -= 1
        self.waiting.wake(1)

    def observe(self, endpoint: Endpoint, failed: bool, seconds: float) -> None:
        """An attempt took `seconds` to its answer or failure: count it for outliers and the
        adaptive limit."""
        outliers, limiter = self.outliers, self.limiter
        if limiter is not None and not failed:
            limiter.observe(seconds, self.in_flight - self.tunnels)
        if outliers is None or endpoint.health.passive.until:
            return
        now = self._clock()
        for found, why in outliers.observe(now, endpoint, failed, seconds).items():
            config = outliers.config
            if found.health.passive.until or not self._may_eject(config.max_ejected):
                continue
            found.health.passive = found.health.passive.eject(
                now, config.ejection_time, config.max_ejection_time
            )
            found.health.error = why
            outliers.forget(found)
            self._health_changed()
            if self.tell is not None:
                self.tell(self.name, *self._ejection(found, config.max_ejected))
            text = "upstream %s: %s is ejected for %g s as an outlier: %s; %s"
            log.warning(
                text, self.name, found.name, found.health.passive.until - now, why, self._left()
            )

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
        if not self._checks_changed(endpoint, before):
            return
        if ok:
            checks = _counted(
                config.healthy_threshold if before is Status.UNHEALTHY else 1, "check"
            )
            log.info(
                "upstream %s: %s is healthy: %s succeeded; %s",
                self.name,
                endpoint.name,
                checks,
                self._left(),
            )
        else:
            checks = _counted(config.unhealthy_threshold, "check")
            text = "upstream %s: %s is unhealthy: %s failed, the last: %s; %s"
            log.warning(text, self.name, endpoint.name, checks, why, self._left())

    def _checks_changed(self, endpoint: Endpoint, before: Status) -> bool:
        """Apply what checks now say of an endpoint; False if that is what they said before."""
        health = endpoint.health
        if health.active.status is before:
            return False
        healthy = health.active.status is Status.HEALTHY
        if healthy and (before is Status.UNHEALTHY or health.since is not None):
            self._start_slowly(endpoint)
        self._health_changed()
        return True

    def reset_circuit(self) -> bool:
        """Close all breakers on an operator's request; False when there is none."""
        circuits = [(breaker, endpoint) for breaker, endpoint in self.circuits() if breaker.state]
        for breaker, endpoint in circuits:
            breaker.reset()
            self._circuit_changed(breaker, "reset by hand", endpoint)
        return self.config.circuit_breaker is not None

    def _settle(self, endpoint: Endpoint, ok: bool | None, why: str, sign: str) -> None:
        """Apply an outcome that may change something."""
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
        self.wants_success = self._must_report_success()
        self.waiting.wake(1)

    def _failed(self, endpoint: Endpoint, breaker: Breaker | None, why: str, sign: str) -> None:
        now, health, passive = self._clock(), endpoint.health, self.config.passive_health
        health.error = why
        # As in nginx the only endpoint is never taken out: none would be left to answer.
        if passive is not None and len(self.endpoints) > 1 and (not sign or sign in passive.on):
            before = health.status
            health.passive = health.passive.failed(
                now, passive, self._may_eject(passive.max_ejected)
            )
            if health.status is not before:
                if self.outliers is not None:
                    self.outliers.forget(endpoint)
                self._health_changed()
                if self.tell is not None:
                    self.tell(self.name, *self._ejection(endpoint, passive.max_ejected))
                requests = _counted(passive.max_fails, "request")
                text = "upstream %s: %s is ejected for %g s: %s failed, the last: %s; %s"
                log.warning(
                    text,
                    self.name,
                    endpoint.name,
                    health.passive.until - now,
                    requests,
                    why,
                    self._left(),
                )
        if breaker is None:
            return
        if sign and sign not in breaker.config.on:
            # A status that does not count is a success; another failure that does not count is
            # neither.
            breaker.success(now) if sign.isdigit() else breaker.abandon()
            return
        state = breaker.state
        breaker.failure(
            now, self.in_flight - self.tunnels if endpoint.breaker is None else endpoint.in_flight
        )
        if breaker.state != state:
            self._circuit_changed(
                breaker, f"{breaker.why}, the last at {endpoint.name}: {why}", endpoint
            )

    def _ejection(self, endpoint: Endpoint, most: float) -> tuple[str, tuple[Any, ...]]:
        """Return an ejection for other processes. most: the fraction that may be out."""
        health = endpoint.health
        seconds = health.passive.until - self._clock()
        known = (tuple(endpoint.address), seconds, health.passive.times, health.error, most)
        return "ejected", known

    def _may_eject(self, most: float) -> bool:
        """Return True if one more may be ejected, so that at most the fraction `most` is out."""
        out = sum(1 for endpoint in self.endpoints if endpoint.health.passive.until)
        return len(self.endpoints) > 1 and out < max(1, int(most * len(self.endpoints)))


def _counted(number: int, thing: str) -> str:
    return f"{number} {thing}" if number == 1 else f"{number} {thing}s"
