"""Who has used how much: the states of one policy by key, and the forgetting of those nobody needs.

What a state means and when there is room is limits.py; whose key it is, and what clients are told, is the rate_limit middleware.
"""

from __future__ import annotations

import logging
from collections.abc import Hashable

from gateway.state.limits import NEVER, Limit, State, Taken
from gateway.state.quotas import EVERY

log = logging.getLogger("gateway.state")

PACE = 0.05
"""Seconds between two steps of a sweep."""
STEP = 200
"""States a step looks at: about 50 microseconds of work."""
REST = 5.0
"""Seconds between two sweeps."""
SAMPLE = 8
"""States to choose from when one has to go."""


class Buckets:
    """One policy's states, without those that are idle.

    live:  the states by key; who takes from one puts the new one back.
    due:   when `sweep` wants to be called. epoch: Unix time minus the monotonic clock, kept by whoever calls it.
    A sweep sets `live` aside and brings back, a few at a time, whatever is not idle; a key that is asked for meanwhile is
    brought back by `open`. So no request ever waits for more than a step, and what is idle is gone after one sweep.
    """

    __slots__ = ("_aside", "_warned", "algorithm", "due", "epoch", "evicted", "live")

    def __init__(self, algorithm: str) -> None:
        self.algorithm = EVERY[algorithm]
        self.live: dict[Hashable, State] = {}
        self.due = NEVER
        self.epoch = 0.0
        self.evicted = 0
        self._aside: dict[Hashable, State] = {}
        self._warned = NEVER

    def __len__(self) -> int:
        return len(self.live) + len(self._aside)

    def __repr__(self) -> str:
        return f"<Buckets {len(self)} keys, {self.evicted} evicted>"

    def open(self, key: Hashable, limit: Limit, now: float, most: int) -> State:
        """The state of a key that is not in `live`: the one set aside, or a fresh one. Makes room when there are `most`."""
        # Two looked at for each one added: a sweep ends however fast strangers arrive.
        state = self._aside.pop(key, None)
        self._bring_back(2, limit, now)
        if state is not None:
            return state
        over = len(self) - most
        if over >= 0:
            self._evict(limit, now)
            if over > 0:  # a reload has lowered `most`
                self._evict(limit, now)
        return self.algorithm.fresh

    def check(self, key: Hashable, limit: Limit, now: float, cost: float, most: int) -> tuple[State, Taken]:
        """The state of `key` now, and what taking `cost` would make of it. One of `commit` and `undo` has to follow at once."""
        if now >= self.due:
            self.sweep(limit, now)
        state = self.live.get(key)
        if state is None:
            state = self.live[key] = self.open(key, limit, now, most)
        return state, self.algorithm.take(state, limit, now, cost)

    def commit(self, key: Hashable, after: State, limit: Limit, now: float, cost: float) -> None:
        """Makes what `check` found the state of `key`."""
        self.live[key] = after

    def undo(self, state: State, after: State, cost: float) -> None:
        """Forgets what `check` found."""
        if self.algorithm.undo is not None and after is not state:
            self.algorithm.undo(state, after, cost)

    def charge(self, key: Hashable, limit: Limit, now: float, cost: float) -> None:
        """Counts `cost` whether there is room or not; a negative one gives back."""
        state = self.live.get(key)
        if state is None:
            state = self._aside.pop(key, None) or self.algorithm.fresh
        self.live[key] = self.algorithm.charge(state, limit, now, cost)

    def find(self, key: Hashable) -> State:
        """The state of `key`, for looking only."""
        return self.live.get(key) or self._aside.get(key) or self.algorithm.fresh

    def sweep(self, limit: Limit, now: float) -> None:
        """One step of forgetting."""
        if self._aside:
            self._bring_back(STEP, limit, now)
            self.due = now + (PACE if self._aside else REST)
        else:
            self._aside, self.live = self.live, {}
            self.due = now + PACE

    def _bring_back(self, count: int, limit: Limit, now: float) -> None:
        aside, live, idle = self._aside, self.live, self.algorithm.idle
        if not aside:
            return
        for _ in range(min(count, len(aside))):
            key, state = aside.popitem()
            if not idle(state, limit, now):
                live[key] = state
        if not aside:
            self._aside = {}  # An emptied dictionary keeps the room it had.

    def _evict(self, limit: Limit, now: float) -> None:
        """Forgets, of a few, an idle state or else the one with most left, for which starting afresh makes least difference."""
        if not self._aside:
            self._aside, self.live = self.live, {}
        algorithm = self.algorithm
        some = [self._aside.popitem() for _ in range(min(SAMPLE, len(self._aside)))]
        some.sort(key=lambda pair: (algorithm.idle(pair[1], limit, now), algorithm.left(pair[1], limit, now)[0]))
        _, fullest = some.pop()
        self.live.update(some)
        if not algorithm.idle(fullest, limit, now):
            self.evicted += 1
            if now - self._warned >= 60:
                self._warned = now
                log.warning("%r: all in use, the fullest are forgotten to make room (max_keys)", self)
