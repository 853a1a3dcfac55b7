"""Whether a request may be sent again, after how long, and how many may be at it at once. Pure: nothing here waits or sends.

RFC 9110 section 9.2.2: a proxy must not repeat a request on its own unless its method is idempotent, or it knows that the
original was never acted upon. It knows that only of a failure whose retry name is "connect": no connection came about, or it
ended before the request had been received (receipt.py).
"""

from __future__ import annotations

import random
from datetime import UTC
from email.utils import parsedate_to_datetime
from math import isfinite

from gateway.config.tables.traffic import RetryConfig
from gateway.core.failures import Failure

IDEMPOTENT = frozenset(("GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"))
"""RFC 9110 section 9.2.2: the safe methods, PUT and DELETE."""

FREE_RETRIES = 3
"""Retries that may always run at once: with few requests under way a share of them would round down to none."""


def is_idempotent(method: str) -> bool:
    """Whether sending it twice means no more than sending it once. Methods are case-sensitive (RFC 9110 section 9.1)."""
    return method in IDEMPOTENT


def may_repeat(method: str, failure: Failure) -> bool:
    """Whether what got no answer on a kept connection goes out again at once, on a fresh one (RFC 9112 section 9.3.1)."""
    return is_idempotent(method) or failure is Failure.NOT_RECEIVED


def may_retry(
    config: RetryConfig,
    method: str,
    outcome: Failure | int,
    attempt: int,
    replayable: bool,
    keyed: bool = False,
) -> str | None:
    """The name in `retry.on` under which another attempt is allowed, or None.

    outcome:    how the attempt failed, or the status it was answered with.
    attempt:    how many attempts have been made, the failed one included.
    replayable: whether the body can be sent again from its start. A request that was never sent has not used its body up.
    keyed:      the client sent an Idempotency-Key: the upstream itself tells a repetition from a second request.
    """
    if attempt >= config.attempts:
        return None
    reason = str(outcome) if isinstance(outcome, int) else outcome.retry
    if reason is None or reason not in config.on:
        return None
    if config.keyed and not keyed:
        return None
    if reason == "connect" or (replayable and (keyed or method in IDEMPOTENT)):
        return reason
    return None


def delay(config: RetryConfig, attempt: int, rng: random.Random) -> float:
    """Seconds to wait after attempt `attempt` (the first is 1): growing from `base_delay`, at most `max_delay` with jitter.

    Jitter is chance, so that those who failed together do not come back together.
    """
    longest = config.max_delay / (1 + config.jitter)
    return min(config.base_delay * config.factor ** (attempt - 1), longest) * (1 + config.jitter * rng.random())


def asked_for(value: bytes | None, now: float = 0.0) -> float:
    """The seconds a Retry-After asks for, as such or by a date (RFC 9110 section 10.2.3); `now` is Unix time. 0 without one."""
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
"""How many times a budget's places may be saved up."""

PURSE = 100.0
"""So many may always be saved up: when answers come in bunches, hardly anything is under way between two of them."""


class Budget:
    """How many retries one pool makes: at most `share` of its requests under way at once, always FREE_RETRIES, or what was saved.

    Without it an outage multiplies the load by `attempts` just when there is the least to serve it with. A retry counts from
    `take`, its wait included, until `give`. When one of several endpoints dies, though, all that it had fails in one moment, and
    the others are well: for that, first attempts save up `share` of one each, up to PURSE or BURST times the places. Every
    further attempt is charged one, however it got its place; so in the long run no more than the larger of the two is made.
    `share` may be changed at any time; it holds for what is taken from then on.
    """

    __slots__ = ("_saved", "_seen", "made", "retrying", "share", "waiting")

    def __init__(self, share: float = 0.2) -> None:
        self.share = share
        self.retrying = 0
        self.waiting = 0
        """Of those, the ones between two attempts: under way, though no endpoint counts them in flight."""
        self.made = 0
        """Further attempts since the start."""
        self._saved = 0.0
        self._seen = 0

    def __repr__(self) -> str:
        return f"<Budget {self.retrying} retrying, at most {self.share:.0%} of requests>"

    def take(self, live: int, first: int = 0) -> bool:
        """Whether one more may retry while `live` requests are under way; True takes its place, to be given back.

        first: how many first attempts there have been since the start, never fewer than before.
        """
        places = self.share * live
        self._saved = min(self._saved + self.share * max(0, first - self._seen), max(PURSE, BURST * places))
        self._seen = first
        if self.retrying >= FREE_RETRIES and self.retrying >= places and self._saved < 1:
            return False
        self.retrying += 1
        self._charge()
        return True

    def attempt(self, again: bool) -> None:
        """A further attempt is made; `again` when it is not the first in its place, which that was charged for."""
        self.made += 1
        if again:
            self._charge()

    def _charge(self) -> None:
        self._saved = max(self._saved - 1, -float(FREE_RETRIES * BURST))

    def give(self) -> None:
        """The retry that took a place has ended, whichever way."""
        self.retrying -= 1
