"""The circuit breaker of one upstream, as a pure state machine: closed, open, half-open. The clock is passed in.

Closed lets everything pass and counts failures in a row; `failure_threshold` of them open it. Open refuses everything for
`recovery_timeout` seconds, then half-open lets `half_open_requests` try: when as many have succeeded it closes, when one fails it
opens again. Outcomes that arrive while it is open belong to requests sent before, and change nothing.
"""

from __future__ import annotations

from gateway.config.upstream import BreakerConfig

CLOSED, OPEN, HALF_OPEN = 0, 1, 2
NAMES = ("closed", "open", "half-open")


class Breaker:
    """`state` is CLOSED, OPEN or HALF_OPEN (the numbers of gateway_circuit_state), `failures` how many came in a row.

    Both may be read on the request's way: while `state` is CLOSED every request is allowed, and while `failures` is 0 as well a
    success changes nothing. `config` may be replaced at any time; what has been counted stays. All times are monotonic seconds.
    """

    __slots__ = ("_since", "_successes", "_trials", "config", "failures", "state")

    def __init__(self, config: BreakerConfig) -> None:
        self.config = config
        self.state = CLOSED
        self.failures = 0
        self._since = 0.0
        self._trials = 0
        self._successes = 0

    def __repr__(self) -> str:
        return f"<Breaker {NAMES[self.state]}, {self.failures} failures in a row>"

    def allow(self, now: float) -> bool:
        """Whether a request may be sent; True takes one of the trial slots when half-open."""
        if self.state == CLOSED:
            return True
        config = self.config
        if now - self._since >= config.recovery_timeout:
            # Open: time to try. Half-open: trials without an outcome for this long (a WebSocket, say) lose their slots, or
            # they would keep everybody else out for as long as they last.
            if self.state == OPEN:
                self.state = HALF_OPEN
                self._successes = 0
            self._since = now
            self._trials = self._successes
        if self.state == OPEN or self._trials >= config.half_open_requests:
            return False
        self._trials += 1
        return True

    def success(self, now: float) -> None:
        """A request was answered."""
        if self.state == CLOSED:
            self.failures = 0
        elif self.state == HALF_OPEN:
            self._successes += 1
            if self._successes >= self.config.half_open_requests:
                self.reset(now)

    def failure(self, now: float) -> None:
        """A request failed in a way that blames the upstream."""
        if self.state == OPEN:
            return
        self.failures += 1
        if self.state == HALF_OPEN or self.failures >= self.config.failure_threshold:
            self.state = OPEN
            self._since = now

    def abandon(self) -> None:
        """A request ended without saying anything about the upstream: its trial slot is free again."""
        if self.state == HALF_OPEN and self._trials > self._successes:
            self._trials -= 1

    def reset(self, now: float) -> None:
        """Closes it, as `half_open_requests` successes do and an operator may."""
        self.state = CLOSED
        self.failures = 0
        self._since = now

    def retry_after(self, now: float) -> float:
        """Seconds until a request can be allowed again: 0 when closed. Half-open, a slot may be free sooner than this."""
        if self.state == CLOSED:
            return 0.0
        return max(0.0, self._since + self.config.recovery_timeout - now)
