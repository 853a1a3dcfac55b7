"""Retries: whether a request may be sent again, after how long, and how many at a time. Pure.

RFC 9110 section 9.2.2: a proxy must not repeat a request on its own unless its method is
idempotent, or it knows that the original was never acted upon. It knows that only of failures whose
retry name is "connect": no connection came about, or it ended before the request had been received
(receipt.py).
"""

from __future__ import annotations

import random
from datetime import UTC
from email.utils import parsedate_to_datetime
from math import isfinite

from gateway.config.tables.traffic import RetryConfig
from gateway.core.failures import Failure, OwnFailure

IDEMPOTENT = frozenset(("GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"))
"""RFC 9110 section 9.2.2: the safe methods, PUT and DELETE."""

FREE_RETRIES = 3
"""Retries that may always run at a time: a share of few requests would round down to none."""


def is_idempotent(method: str) -> bool:
    """Return True if sending twice has the effect of sending once. Methods are case-sensitive (RFC
    9110 section 9.1)."""
    return method in IDEMPOTENT


def may_repeat(method: str, failure: Failure | OwnFailure) -> bool:
    """Return True if a request without an answer on a kept connection may go out again at once, on
    a fresh one (RFC 9112 section 9.3.1)."""
    return is_idempotent(method) or failure is Failure.NOT_RECEIVED


def may_retry(
    config: RetryConfig,
    method: str,
    outcome: Failure | OwnFailure | int | str,
    attempt: int,
    replayable: bool,
    keyed: bool = False,
) -> str | None:
    """The name in `retry.on` under which another attempt is allowed, or None.

    outcome:    how the attempt failed, or the status it was answered with; of a call of gRPC that
                failed, the name of its status.
    attempt:    how many attempts have been made, the failed one included.
    replayable: whether the body can be sent again from its start. A request that was never sent has
                not used its body up.
    keyed:      the client sent an Idempotency-Key: the upstream itself tells a repetition from a
                second request.
    """
    if attempt >= config.attempts:
        return None
    reason = outcome.retry if isinstance(outcome, Failure) else str(outcome)
    if reason is None or reason not in config.on:
        return None
    if config.keyed and not keyed:
        return None
    # Every call of gRPC is a POST: it is its status that says whether another may succeed.
    repeats = keyed or method in IDEMPOTENT or isinstance(outcome, str)
    return reason if reason == "connect" or (replayable and repeats) else None


def delay(config: RetryConfig, attempt: int, rng: random.Random) -> float:
    """Seconds to wait after attempt `attempt` (the first is 1): growing from `base_delay`, at most
    `max_delay` with jitter.

    The jitter is random, so that requests that failed together do not come back together.
    """
    longest = config.max_delay / (1 + config.jitter)
    return min(config.base_delay * config.factor ** (attempt - 1), longest) * (
        1 + config.jitter * rng.random()
    )


def asked_for(value: bytes | None, now: float = 0.0) -> float:
    """The seconds a Retry-After asks for, as such or by a date (RFC 9110 section 10.2.3); `now` is
    Unix time. 0 without one."""
    if value is None:
        return 0.0
    try:
        seconds = float(value)
    except ValueError:
        try:
            moment = parsedate_to_datetime(value.decode("latin-1"))
        except (ValueError, OverflowError):
            return 0.0
        seconds = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() - now
    return seconds if isfinite(seconds) and seconds > 0 else 0.0


BURST = 5
"""The factor by which the retries saved up may exceed the places of a budget."""

SAVED_MIN = 100.0
"""Retries that may always be saved up: with answers in bunches, little is under way between two."""


class Budget:
    """The retries of one pool: at a time at most `share` of the requests under way, FREE_RETRIES at
    least.

    Without a budget an outage multiplies the load by `attempts` just when there is the least
    capacity. A retry counts from `take` to `give`, its wait included. When one of several endpoints
    dies, all its requests fail at once while the others are well; for that, every first attempt
    saves up `share` of a retry, up to SAVED_MIN or BURST times the places. Every further attempt is
    charged one, however it got its place, so that in the long run no more than the larger of the
    two is made. `share` may be changed at any time, and holds for what is taken from then on.
    """

    __slots__ = ("_saved", "_seen", "made", "retrying", "share", "waiting")

    def __init__(self, share: float = 0.2) -> None:
        self.share = share
        self.retrying = 0
        self.waiting = 0
        """Of those, requests between two attempts: under way, though not in flight at any
        endpoint."""
        self.made = 0
        """Further attempts since the start."""
        self._saved = 0.0
        self._seen = 0

    def __repr__(self) -> str:
        return f"<Budget {self.retrying} retrying, at most {self.share:.0%} of requests>"

    def take(self, live: int, first: int = 0) -> bool:
        """Return True if one more may retry while `live` requests are under way; its place is to be
        given back.

        first: how many first attempts there have been since the start, never fewer than before.
        """
        places = self.share * live
        self._saved = min(
            self._saved + self.share * max(0, first - self._seen), max(SAVED_MIN, BURST * places)
        )
        self._seen = first
        if self.retrying >= FREE_RETRIES and self.retrying >= places and self._saved < 1:
            return False
        self.retrying += 1
        self._charge()
        return True

    def attempt(self, again: bool) -> None:
        """A further attempt is made; `again` when it is not the first of its place, which is
        charged already."""
        self.made += 1
        if again:
            self._charge()

    def _charge(self) -> None:
        self._saved = max(self._saved - 1, -float(FREE_RETRIES * BURST))

    def give(self) -> None:
        """The retry that took a place has ended."""
        self.retrying -= 1
