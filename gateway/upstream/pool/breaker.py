"""A circuit breaker as a pure state machine: closed, open, half-open. The clock is passed in.

Closed lets everything pass and counts: `failure_threshold` failures in a row open it, and so does a
share of `failure_rate` among the requests of the last `window` seconds. Open refuses everything for
`recovery_timeout` seconds, then half-open lets `half_open_requests` try: when as many have
succeeded it closes, when one fails it opens again. Outcomes that arrive while it is open belong to
requests sent before, and change nothing.
"""

from __future__ import annotations

from collections import deque

from gateway.config.tables.health import BreakerConfig

CLOSED, OPEN, HALF_OPEN = 0, 1, 2
NAMES = ("closed", "open", "half-open")


class Window:
    """Counts of requests and failures over about the last `seconds`: SLOTS slots of time, the
    oldest dropped as time goes on."""

    SLOTS = 10

    __slots__ = ("_slots", "_width", "failed", "total")

    def __init__(self, seconds: float) -> None:
        self._width = seconds / self.SLOTS
        self._slots: deque[list[int]] = deque()  # Each: its number, requests, failures.
        self.total = 0
        self.failed = 0

    def add(self, now: float, failed: bool) -> None:
        """One more request, ended at `now` (monotonic seconds, never running backwards)."""
        number, slots = int(now / self._width), self._slots
        while slots and slots[0][0] <= number - self.SLOTS:
            _, total, failures = slots.popleft()
            self.total -= total
            self.failed -= failures
        if not slots or slots[-1][0] != number:
            slots.append([number, 0, 0])
        slots[-1][1] += 1
        slots[-1][2] += failed
        self.total += 1
        self.failed += failed


class Breaker:
    """`state` is CLOSED, OPEN or HALF_OPEN (the numbers of gateway_circuit_state), `failures` how
    many came in a row.

    Both may be read on the request's way: while `state` is CLOSED every request is allowed, and
    while `wants_success` is False a success changes nothing. `config` may be replaced at any time,
    by `configure`; what has been counted stays. All times are monotonic seconds.
    """

    __slots__ = (
        "_since",
        "_stale",
        "_successes",
        "_trials",
        "_window",
        "config",
        "failures",
        "state",
        "why",
    )

    def __init__(self, config: BreakerConfig) -> None:
        self.state = CLOSED
        self.failures = 0
        self.why = ""
        """What opened it the last time."""
        self._since = 0.0  # When it opened; half-open, when it allowed the last trial.
        self._trials = 0
        self._successes = 0
        self._stale = 0
        self._window: Window | None = None
        self.config = config
        self.configure(config)

    def __repr__(self) -> str:
        return f"<Breaker {NAMES[self.state]}, {self.failures} failures in a row>"

    def configure(self, config: BreakerConfig) -> None:
        """Use `config` from now on."""
        before, self.config = self.config, config
        if config.failure_rate is None:
            self._window = None
        elif self._window is None or config.window != before.window:
            self._window = Window(config.window)

    @property
    def wants_success(self) -> bool:
        """Return True if a success changes something, and has to be reported."""
        return bool(self.state or self.failures or self._window is not None)

    def ready(self, now: float) -> bool:
        """Return True if a request may be sent, as `allow` does, and take nothing."""
        waited = now - self._since >= self.config.recovery_timeout
        if self.state == HALF_OPEN:
            return waited or self._trials < self.config.half_open_requests
        return waited or self.state == CLOSED

    def allow(self, now: float) -> bool:
        """Return True if a request may be sent. When half-open, that takes a trial slot."""
        if self.state == CLOSED:
            return True
        if not self.ready(now):
            return False
        if self.state == OPEN:
            self.state = HALF_OPEN
            self._trials = self._successes = 0
        elif self._trials >= self.config.half_open_requests:
            # The last trial began that long ago and has no outcome yet (a long poll, say). It and
            # the trials before it lose their slots, or no other could run while they last. Like
            # requests from before the breaker opened, they have no slot to give back when they end.
            self._stale += self._trials - self._successes
            self._trials = self._successes
        self._trials += 1
        self._since = now
        return True

    def success(self, now: float = 0.0) -> None:
        """A request was answered."""
        if self.state == CLOSED:
            self.failures = 0
            if self._window is not None:
                self._window.add(now, False)
            return
        self._settle()
        if self.state == HALF_OPEN:
            self._successes += 1
            if self._successes >= self.config.half_open_requests:
                self.reset()

    def failure(self, now: float, under_way: int = 0) -> None:
        """A request failed in a way that blames the upstream, with `under_way` others still out."""
        if self.state != CLOSED:
            self._settle()
        if self.state == OPEN:
            return
        self.failures += 1
        why = self._breaks(now)
        if why:
            self.why = why
            self.state = OPEN
            self._since = now
            self._stale = under_way

    def _breaks(self, now: float) -> str:
        """Why the failure just counted opens the breaker, or ""."""
        config, window = self.config, self._window
        if self.state == HALF_OPEN:
            return "a trial failed"
        if window is not None:
            window.add(now, True)
        if 0 < config.failure_threshold <= self.failures:
            return f"{self.failures} failure{'s' if self.failures > 1 else ''} in a row"
        rate = config.failure_rate
        if (
            window is None
            or rate is None
            or window.total < config.minimum_requests
            or window.failed < rate * window.total
        ):
            return ""
        return f"{window.failed} of {window.total} requests failed within {config.window:g} s"

    def abandon(self) -> None:
        """A request ended without saying anything about the upstream: if it was a trial, its slot
        is free again.

        Requests sent before it opened hold no slot, and are assumed to end first. Mistaking a trial
        for one of them keeps a slot for a while; the reverse would let as many trials through as
        clients leave.
        """
        if not self._settle():
            self.withdraw()

    def withdraw(self) -> None:
        """The request that `allow` has just let through is not sent: give its trial slot back, if
        it took one."""
        if self.state == HALF_OPEN and self._trials > self._successes:
            self._trials -= 1

    def _settle(self) -> bool:
        """Count an outcome as that of a request from before it opened, while there are such; True
        then."""
        if not self._stale:
            return False
        self._stale -= 1
        return True

    def reset(self) -> None:
        """Close it, as `half_open_requests` successes do and an operator may."""
        self.state = CLOSED
        self.failures = 0
        if self._window is not None:
            self._window = Window(self.config.window)

    def open(self, now: float, seconds: float, why: str, under_way: int = 0) -> None:
        """Open it for `seconds` more, as another process has."""
        self.why = why
        if self.state != OPEN:
            self._stale = under_way
        self.state = OPEN
        self._since = now + seconds - self.config.recovery_timeout

    def retry_after(self, now: float) -> float:
        """Seconds until a request can be allowed again; 0 unless open, for trials under way may end
        at any moment."""
        return (
            max(0.0, self._since + self.config.recovery_timeout - now)
            if self.state == OPEN
            else 0.0
        )


def configured(breaker: Breaker | None, config: BreakerConfig | None) -> Breaker | None:
    """The breaker for `config`: the existing one, if there is one."""
    if config is None:
        return None
    if breaker is None:
        return Breaker(config)
    breaker.configure(config)
    return breaker
