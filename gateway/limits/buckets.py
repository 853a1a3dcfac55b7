"""The states of one policy by key, and forgetting those that no longer matter.

algorithms.py decides what a state means and whether there is room, rescale.py what a changed limit
makes of a state. The rate_limit middleware chooses keys and writes headers.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Hashable
from math import inf

from gateway.core.clock import REAL, Clock
from gateway.lifetime.heap import give_back
from gateway.lifetime.supervised import Supervised
from gateway.limits.algorithms import NEVER, Algorithm, Limit, State, Taken, Taking
from gateway.limits.quotas import ALL_ALGORITHMS
from gateway.limits.rescale import RESCALE, counts_alike

log = logging.getLogger("gateway.limits")

STEP_PAUSE = 0.05
"""Seconds between two steps of a sweep."""
STEP_SIZE = 200
"""States in a step: about 50 microseconds of work."""
MAX_STEPS = 500
"""Steps of a sweep: with more than 100,000 states the steps are larger, 0.5 ms for 10^6."""
SWEEP_PAUSE = 5.0
"""Seconds between two sweeps."""
EVICTION_SAMPLE = 8
"""States to choose from when one is evicted."""
TRIM_FROM = 50_000
"""With more states than this, sweeps go on without requests, and the heap is trimmed after them."""
LEAVE_UP_TO = 1000
"""So few states may stay until the next request; their memory is not worth a sweep."""


def _refuse(state: State, limit: Limit, now: float, cost: float = 1) -> Taken:
    return state, -1.0, inf


NOTHING = Algorithm(
    fresh=(),
    take=_refuse,
    left=lambda state, limit, now: (0.0, inf),
    idle=lambda state, limit, now: True,
    charge=lambda state, limit, now, cost: state,
    refund=lambda state, limit, now, units, taking: state,
)
"""The algorithm of a limit of 0: no request is admitted, and nothing is counted."""


class Buckets:
    """One policy's states, without those that are idle.

    limit: what is counted against. take: the algorithm's.
    live:  the states by key; a caller that takes from one puts the new one back.
    due:   when `sweep` is to be called. epoch: Unix time minus the clock of the states, as of the
           last sweep.

    A sweep sets `live` aside and brings back, a step at a time, what is not idle; `open` brings
    back a key that is asked for meanwhile. So no request waits for more than a step, and what is
    idle is gone after one sweep. A changed limit sets everything aside as well: states are rescaled
    as they come back.
    """

    __slots__ = (
        "_aside",
        "_before",
        "_clock",
        "_name",
        "_once_more",
        "_peak",
        "_step",
        "_tended",
        "_tending",
        "_wall",
        "_warned",
        "algorithm",
        "due",
        "epoch",
        "evicted",
        "limit",
        "live",
        "take",
    )  # fmt: skip

    def __init__(self, algorithm: str, limit: Limit, clock: Clock = REAL) -> None:
        self._name = algorithm
        self._wall = clock.wall
        self._clock: Callable[[], float] = (
            clock.wall if ALL_ALGORITHMS[algorithm].wall else clock.monotonic
        )
        self.limit = limit
        self.algorithm = ALL_ALGORITHMS[algorithm] if limit.quota else NOTHING
        self.take = self.algorithm.take
        self.live: dict[Hashable, State] = {}
        self.due = NEVER
        self.epoch = 0.0
        self.evicted = 0
        self._aside: dict[Hashable, State] = {}
        # the limit that the states set aside count by, and until when
        self._before: tuple[Limit, float] | None = None
        self._peak = 0  # the most states since memory was given back, once there were TRIM_FROM
        self._step = STEP_SIZE
        self._tending: Supervised | None = None
        self._tended = False
        self._once_more = False
        self._warned = NEVER

    def __len__(self) -> int:
        return len(self.live) + len(self._aside)

    def __repr__(self) -> str:
        return f"<Buckets {len(self)} keys, {self.evicted} evicted>"

    def adopt(self, limit: Limit) -> None:
        """Count by another limit: the part that was used of the old one is used of the new one."""
        old, self.limit = self.limit, limit
        now = self._clock()
        if old == limit or counts_alike(old, limit, now):
            return
        if not (old.quota and limit.quota):
            self.algorithm = ALL_ALGORITHMS[self._name] if limit.quota else NOTHING
            self.take = self.algorithm.take
            self.live, self._aside, self._before = {}, {}, None
            return
        if self._before is not None:  # A second change within one sweep: finish the first at once.
            self.limit = old
            self._bring_back(len(self._aside), now)
            self.limit = limit
        if self._aside:
            less, more = sorted((self.live, self._aside), key=len)
            more.update(less)
            self.live = more
        self._set_aside()
        self._before = (old, now)
        self.due = NEVER

    def open(self, key: Hashable, now: float, most: int) -> State:
        """The state of a key that is not in `live`: the one set aside, or a fresh one.

        Evicts when there are `most` states.
        """
        # Two are swept for each one added, so that a sweep ends however fast new keys arrive.
        state = self._aside.pop(key, None)
        if state is not None and self._before is not None:
            state = self._rescaled(state)
        self._bring_back(2, now)
        if state is not None:
            return state
        over = len(self) - most
        if over >= 0:
            self._evict(now)
            if over > 0:  # A reload has lowered `most`.
                self._evict(now)
        if not self._tended and len(self.live) > TRIM_FROM:
            self._tend_later()
        return self.algorithm.fresh

    def check(self, key: Hashable, now: float, cost: float, most: int) -> tuple[State, Taken]:
        """The state of `key`, and what taking `cost` makes of it. `commit` or `undo` follows at
        once."""
        state = self.admit(key, now, most)
        return state, self.take(state, self.limit, now, cost)

    def admit(self, key: Hashable, now: float, most: int) -> State:
        """The state of `key`, which is among at most `most`; a step of a sweep, when it is due."""
        if now >= self.due:
            self.sweep(now)
        state = self.live.get(key)
        if state is None:
            state = self.live[key] = self.open(key, now, most)
        return state

    def commit(self, key: Hashable, after: State, now: float, cost: float) -> None:
        """Keep the state that `check` has made."""
        self.live[key] = after

    def undo(self, state: State, after: State, cost: float) -> None:
        """Forget the state that `check` has made."""
        if self.algorithm.undo is not None and after is not state:
            self.algorithm.undo(state, after, cost)

    def charge(self, key: Hashable, now: float, cost: float) -> None:
        """Count `cost`, whether there is room or not."""
        state = self.find(key)
        self._aside.pop(key, None)
        self.live[key] = self.algorithm.charge(state, self.limit, now, cost)

    def refund(self, key: Hashable, now: float, units: float, taking: Taking) -> None:
        """Give units of a request back as far as they still count."""
        state = self.find(key)
        if state is not self.algorithm.fresh:
            self._aside.pop(key, None)
            self.live[key] = self.algorithm.refund(state, self.limit, now, units, taking)

    def find(self, key: Hashable) -> State:
        """The state of `key`, only to be looked at."""
        state = self.live.get(key)
        if state is not None:
            return state
        state = self._aside.get(key)
        if state is None:
            return self.algorithm.fresh
        return state if self._before is None else self._rescaled(state)

    def sweep(self, now: float) -> None:
        """Sweep one step."""
        self.epoch = self._wall() - now
        if self._aside:
            self._bring_back(self._step, now)
            self.due = now + (STEP_PAUSE if self._aside else SWEEP_PAUSE)
        else:
            self._set_aside()
            if not self._aside:
                self._swept()
            self.due = now + STEP_PAUSE

    def dump_state(self) -> tuple[Limit, dict[Hashable, State]]:
        """Return everything, for the program that takes this one's place."""
        if self._aside:
            self._bring_back(len(self._aside), self._clock())
        return self.limit, self.live

    def load_state(self, state: tuple[Limit, dict[Hashable, State]]) -> None:
        """Go on from there; by the limit that is configured now."""
        now, (self.limit, self.live) = self.limit, state
        self.adopt(now)

    def close(self) -> None:
        """End the sweeps that go on without requests."""
        if self._tending is not None:
            self._tending.close()

    def _set_aside(self) -> None:
        self._aside, self.live = self.live, {}
        self._before = None
        count = len(self._aside)
        self._step = max(STEP_SIZE, count // MAX_STEPS)
        if count > self._peak and (self._peak or count > TRIM_FROM):
            self._peak = count

    def _rescaled(self, state: State) -> State:
        assert self._before is not None
        old, at = self._before
        return RESCALE[self._name](state, old, self.limit, at)

    def _bring_back(self, count: int, now: float) -> None:
        aside, live, limit, idle = self._aside, self.live, self.limit, self.algorithm.idle
        for _ in range(min(count, len(aside))):
            key, state = aside.popitem()
            if self._before is not None:
                state = self._rescaled(state)
            if not idle(state, limit, now):
                live[key] = state
        if not aside:
            self._aside = aside = {}  # An emptied dictionary keeps its memory.
            self._before = None
            self._swept()

    def _swept(self) -> None:
        """Give memory back when most of very many states have been forgotten."""
        count = len(self.live)
        if self._peak and (2 * count < self._peak or self._once_more):
            give_back()
            # Again after the next sweep: what was made meanwhile lay among the states.
            self._once_more = count <= LEAVE_UP_TO and not self._once_more
            self._peak = max(count, 1) if count > LEAVE_UP_TO or self._once_more else 0

    def _evict(self, now: float) -> None:
        """Forget an idle state out of a few, or the one with most left, which loses least by it."""
        if not self._aside:
            self._set_aside()
        algorithm, limit = self.algorithm, self.limit
        some = [self._aside.popitem() for _ in range(min(EVICTION_SAMPLE, len(self._aside)))]
        if self._before is not None:
            some = [(key, self._rescaled(state)) for key, state in some]
        some.sort(
            key=lambda pair: (
                algorithm.idle(pair[1], limit, now),
                algorithm.left(pair[1], limit, now)[0],
            )
        )
        _, fullest = some.pop()
        self.live.update(some)
        if not algorithm.idle(fullest, limit, now):
            self.evicted += 1
            if now - self._warned >= 60:
                self._warned = now
                log.warning(
                    "%r: all in use, the fullest are forgotten to make room (max_keys)", self
                )

    # Sweeps without requests: where there were many callers and then none.

    def _tend_later(self) -> None:
        if self._tending is None:
            self._tending = Supervised("limit_sweep", self._tend, every=SWEEP_PAUSE)
        self._tended = True
        self._tending.start(STEP_PAUSE if self._aside else SWEEP_PAUSE)

    def _tend(self) -> float | None:
        now = self._clock()
        if now >= self.due:
            self.sweep(now)
        self._tended = bool(self._aside) or self._once_more or len(self.live) > LEAVE_UP_TO
        if self._tended:
            return STEP_PAUSE if self._aside else SWEEP_PAUSE
        return inf
