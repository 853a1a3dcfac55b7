"""An endpoint's health: thresholds over results, as pure state machines without a clock.

Active checks are what prober.py finds by asking; passive ones are what requests ran into. An
endpoint is out when either says so: `unhealthy` until enough checks in a row succeed, `ejected`
until a time has passed.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

from gateway.config.tables.health import HealthConfig, PassiveHealthConfig


class Status(enum.StrEnum):
    """The health of an endpoint."""

    UNKNOWN = "unknown"
    HEALTHY = "healthy"
    UNHEALTHY = "unhealthy"
    EJECTED = "ejected"


@dataclass(frozen=True, slots=True)
class Active:
    """The result of active checks: a status, and how many results in a row have spoken
    against it.

    One success makes an unknown endpoint healthy, so that a start or a reload adds it after one
    probe instead of `healthy_threshold` intervals later; that threshold is for coming back from
    unhealthy.
    """

    status: Status = Status.UNKNOWN
    against: int = 0

    def advance(self, ok: bool, thresholds: HealthConfig) -> Active:
        """The state after one more result; the same object when nothing has changed."""
        status = self.status
        if ok and status is not Status.UNHEALTHY:
            return self if status is Status.HEALTHY and not self.against else Active(Status.HEALTHY)
        if not ok and status is Status.UNHEALTHY:
            return self if not self.against else Active(Status.UNHEALTHY)
        against = self.against + 1
        if against < (thresholds.healthy_threshold if ok else thresholds.unhealthy_threshold):
            return Active(status, against)
        return Active(Status.HEALTHY if ok else Status.UNHEALTHY)


@dataclass(frozen=True, slots=True)
class Passive:
    """The result of requests: when they failed lately, and until when the endpoint is out (0 when
    it is not).

    Counted as nginx does: `max_fails` failures within `fail_timeout` seconds, whatever succeeded in
    between, take an endpoint out for `fail_timeout` seconds; then counting starts anew. Requests
    that fail while it is out were sent before, and change nothing.

    times: how often in a row it has been ejected, where repeated ejections are longer. It falls by
    one for every ejection time without a failure since it came `back`.
    """

    fails: tuple[float, ...] = ()
    until: float = 0.0
    times: int = 0
    back: float = 0.0

    def failed(self, now: float, config: PassiveHealthConfig, may_eject: bool = True) -> Passive:
        """The state after a failure at `now` (monotonic seconds); `may_eject` is False while too
        many others are out."""
        if self.until or not config.max_fails:
            return self
        fails = (*(at for at in self.fails if now - at < config.fail_timeout), now)
        if len(fails) < config.max_fails or not may_eject:
            return Passive(fails[-config.max_fails :], 0.0, self.times, self.back)
        return self.eject(now, config.fail_timeout, config.max_fail_timeout or 0.0)

    def eject(self, now: float, base: float, most: float) -> Passive:
        """Out for `base` seconds, `base` more each time in a row, up to `most`."""
        if most <= base:
            return Passive((), now + base)
        times = max(0, self.times - int((now - self.back) / base)) + 1
        return Passive((), now + min(base * times, most), times)

    def returned(self, now: float) -> Passive:
        """The state at `now`: in use again when the ejection is over."""
        if not self.until or now < self.until:
            return self
        return Passive((), 0.0, self.times, now) if self.times else Passive()


@dataclass(slots=True)
class Health:
    """Everything learnt about one endpoint, kept across reloads.

    error:   why the last check or request failed, "" when none has.
    checked: when the last check ended (monotonic seconds), None before the first; `seconds` is how
             long it took.
    since:   when it was last added or came back (monotonic seconds), for slow start; None when its
             weight need not grow.
    """

    active: Active = Active()
    passive: Passive = Passive()
    error: str = ""
    checked: float | None = None
    seconds: float = 0.0
    since: float | None = None

    @property
    def status(self) -> Status:
        """An ejection takes precedence over the active checks."""
        return Status.EJECTED if self.passive.until else self.active.status

    def back(self, checks: HealthConfig | None) -> float:
        """The earliest time (monotonic seconds) at which it may be picked again: its ejection is
        over and enough checks have succeeded. In the past when nothing keeps it out."""
        active = self.active
        if checks is None or active.status is not Status.UNHEALTHY:
            return self.passive.until
        missing = checks.healthy_threshold - active.against
        interval = checks.unhealthy_interval or checks.interval
        return max(self.passive.until, (self.checked or 0.0) + missing * interval)
