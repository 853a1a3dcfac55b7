"""Shares of a shared limit, taken ahead: decided here and now, settled with the ledger afterwards.

For every key there is `credit` (units taken from the ledger and not used yet) and `debt` (units
admitted before they were paid for). A settlement pays the debt, whether the limit has room for it
or not, and asks for more credit; credit that is not used within TERM seconds is given back. So the
ledger has counted every admission but the debts, at most `size` a gateway and key, and counts at
most `size` units a gateway and key that are not used. docs/limits.md derives the bounds from that.

Called like buckets.py: check, then commit or undo; charge; adopt.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Hashable
from math import inf
from typing import Any

from gateway.core.clock import Clock
from gateway.core.wait import Wait
from gateway.lifetime.heap import give_back
from gateway.lifetime.supervised import Supervised
from gateway.limits.algorithms import NEVER, Limit
from gateway.limits.ledger import Ledger, Told

TERM = 1.0
"""Seconds that credit may lie unused."""
RETRY_PAUSE = 1.0
"""Seconds after a failed settlement until the next is tried, while the ledger stays up."""
UNSETTLED = -2.0
"""What `check` says is left when only the settlement under way can tell."""
IDLE_SECONDS = 60.0
"""Seconds without a request after which a lease is dropped."""
TICK = 0.1
"""Seconds between two rounds of giving back and dropping."""
STEP_SIZE = 500
"""Leases that a round looks at: 0.2 ms of work; more where it would take minutes otherwise."""
BURST_AHEAD = 1000.0
"""Requests of a burst that are counted ahead at most: the ledger keeps a time for each."""
TRIM_FROM = 50_000
"""Dropped leases whose memory is worth giving back."""

Account = Callable[[Hashable, Limit, float, float], tuple[bytes, list[bytes]]]
"""(key, limit, cost, wanted): the ledger's key and terms."""


def lease_size(limit: Limit, share: float, gateways: int) -> float:
    """The most units that one of `gateways` has on credit, and in debt, where they take `share`.

    Each unit of a lease counts as a request in a burst, so it is a share of that where it is less.
    """
    if not limit.burst:
        return max(1.0, limit.quota * share / 2 // gateways)
    return min(BURST_AHEAD, max(1.0, min(limit.quota, limit.burst) * share / 2 // gateways))


class Lease:
    """What one key has here. Times are monotonic seconds.

    enough: with so much credit it is only used; inf while that is in doubt.
    limit:  the units are those of this limit.
    left, back: units left in the ledger at the last settlement, and seconds until all are back.
    """

    __slots__ = (
        "ahead", "back", "credit", "debt", "empty_until", "enough", "expires", "failed", "left",
        "limit", "owed", "pending", "touched", "waiting",
    )  # fmt: skip

    def __init__(self, limit: Limit) -> None:
        self.limit = limit
        self.credit = 0.0
        self.enough = inf
        self.debt = 0.0
        self.owed = 0.0  # The debt that the settlement under way pays.
        self.left = -1.0
        self.back = 0.0
        self.empty_until = NEVER
        self.expires = 0.0
        self.failed = NEVER  # When the settlement began that has failed.
        self.pending = False  # A settlement is under way.
        self.waiting: list[Wait[None]] = []
        self.touched = 0.0
        # Microseconds that the ledger's clock is ahead, less the way of its last answer.
        self.ahead = 0.0


class Leases:
    """One policy's leases.

    share:   the part of the limit that may be on credit or in debt, over all gateways together.
    account: makes the ledger's key and terms.
    """

    __slots__ = (
        "_aside",
        "_dropped",
        "_due",
        "_old",
        "_tidying",
        "account",
        "clock",
        "ledger",
        "limit",
        "live",
        "share",
    )

    def __init__(
        self, ledger: Ledger, share: float, account: Account, clock: Clock, limit: Limit
    ) -> None:
        self.ledger = ledger
        self.share = share
        self.account = account
        self.clock = clock
        self.limit = limit
        # By age: the oldest of a plain dict takes as long to find as many have been deleted.
        self.live: OrderedDict[Hashable, Lease] = OrderedDict()
        # Their units are those of an earlier limit.
        self._aside: OrderedDict[Hashable, Lease] = OrderedDict()
        # When credit or debt may have to be settled.
        self._due: deque[tuple[float, Hashable, Lease]] = deque()
        self._old: deque[tuple[float, Hashable, Lease]] = deque()  # When a lease may be dropped.
        self._dropped = 0
        self._tidying = Supervised("lease_tidying", self._tidy, every=TICK)

    def __len__(self) -> int:
        return len(self.live) + len(self._aside)

    def __repr__(self) -> str:
        return f"<Leases {len(self)} keys>"

    def adopt(self, limit: Limit) -> None:
        """Count by another limit: the part that was used of the old one is used of the new one."""
        if limit != self.limit:
            self._aside.update(self.live)
            self.live = OrderedDict()
            self.limit = limit

    def size(self) -> float:
        """The most units on credit, and in debt, for a key here."""
        gateways = self.ledger.gateways
        return lease_size(self.limit, self.share, gateways) if gateways else 1.0

    def find(self, key: Hashable) -> Lease | None:
        """The lease of a key, in units of the limit now."""
        lease = self.live.get(key)
        if lease is None and self._aside and (lease := self._aside.pop(key, None)) is not None:
            self.live[key] = lease
            self._rescale(lease)
        return lease

    def usable(self, key: Hashable, now: float) -> bool:
        """Return True if the ledger can be settled with for this key.

        Not for RETRY_PAUSE after a settlement has failed, unless the ledger has come back since.
        """
        lease = self.live.get(key)
        if lease is None:
            return True
        return now - lease.failed > RETRY_PAUSE or lease.failed < self.ledger.since

    def check(
        self, key: Hashable, now: float, cost: float, most: int
    ) -> tuple[Lease, tuple[Lease, float, float]]:
        """As Buckets.check: what taking `cost` leaves, or UNSETTLED. `most` keys are remembered."""
        lease = self.find(key) or self._open(key, now, most)
        lease.touched = now
        left = lease.credit + max(0.0, lease.left) - cost
        if lease.credit >= cost:
            return lease, (lease, left, lease.back)
        if now < lease.empty_until:
            return lease, (lease, -1.0, lease.empty_until - now)
        # Where nothing was left at the last settlement, one request finds out if something is
        # again.
        most_owed = self.size() if lease.left else cost
        if lease.owed + lease.debt + cost <= max(cost, most_owed):
            shown = left if lease.left >= 0 else self.limit.quota - lease.debt - cost
            return lease, (lease, max(0.0, shown), lease.back)
        if not lease.pending:
            self._settle(key, lease, now)
        return lease, (lease, UNSETTLED, RETRY_PAUSE)

    def undo(self, state: object, after: object, cost: float) -> None:
        """Do nothing: `check` has taken nothing."""

    def commit(self, key: Hashable, after: Any, now: float, cost: float) -> None:
        """Take what `check` has found."""
        lease: Lease = after
        if lease.credit >= cost:
            lease.credit -= cost
        else:
            lease.debt += cost
        if (
            not lease.pending
            and (lease.debt or lease.credit * 2 < self.size())
            and now >= lease.empty_until
        ):
            self._settle(key, lease, now)

    def charge(self, key: Hashable, now: float, cost: float) -> None:
        """Count `cost`, whether there is room or not."""
        lease = self.find(key) or self._open(key, now, len(self) + 1)
        lease.debt += cost
        if not lease.pending:
            self._settle(key, lease, now)

    def settled(self, key: Hashable) -> Wait[None]:
        """The end of the settlement under way, however it ends."""
        wait: Wait[None] = Wait()
        lease = self.live.get(key)
        if lease is not None and lease.pending:
            lease.waiting.append(wait)
        else:
            wait.wake()
        return wait

    def ledger_time(self, key: Hashable, at: float) -> float:
        """The ledger's time, in microseconds, when it was `at` here; never later than it was. 0.0
        when it is not known."""
        lease = self.find(key)
        return 0.0 if lease is None or not lease.ahead else at * 1e6 + lease.ahead

    def held(self, key: Hashable) -> float:
        """Units that the ledger has counted and that are not used, less those not counted yet."""
        lease = self.find(key)
        return 0.0 if lease is None else lease.credit - lease.debt - lease.owed

    def close(self) -> None:
        """Stop. What is still on credit comes back with the limit itself."""
        self._tidying.close()

    def _open(self, key: Hashable, now: float, most: int) -> Lease:
        if len(self) >= most:
            self._make_room(now)
        lease = self.live[key] = Lease(self.limit)
        lease.touched = now
        self._old.append((now + IDLE_SECONDS, key, lease))
        if len(self) == 1:
            self._tidying.start(TICK)
        return lease

    def _rescale(self, lease: Lease) -> None:
        """Convert to units of the limit now. The ledger rescales what it has counted by itself."""
        ratio = self.limit.quota / lease.limit.quota
        lease.credit *= ratio
        lease.debt *= ratio
        lease.owed *= ratio
        lease.left *= ratio if lease.left > 0 else 1.0
        lease.enough = inf
        lease.limit = self.limit

    # Settling.

    def _settle(self, key: Hashable, lease: Lease, now: float) -> None:
        """Pay debts, give unused credit back, ask for new credit: one command, in the
        background."""
        limit = lease.limit
        unused = lease.credit if now >= lease.expires else 0.0
        lease.credit -= unused
        owed, lease.debt = lease.debt - unused, 0.0
        wanted = 0.0 if unused else max(0.0, self.size() // 1 - lease.credit)
        lease.owed = max(0.0, owed)
        lease.pending = True
        ledger_key, terms = self.account(key, limit, owed, wanted)
        self.ledger.lease(
            ledger_key, terms, lambda told: self._settled(told, key, lease, limit, now)
        )

    def _settled(
        self, told: Told | None, key: Hashable, lease: Lease, limit: Limit, asked: float
    ) -> None:
        lease.pending, lease.owed = False, 0.0
        if told is None:
            # It may have been counted. Counting it twice would refuse what there is room for.
            lease.failed = asked
            lease.enough = inf
        else:
            left, granted, back, wait, clock = told
            lease.ahead = clock - self.clock.monotonic() * 1e6
            unit = lease.limit.quota / limit.quota / 1e6  # A reload may have come between.
            lease.failed = NEVER
            lease.left, lease.back = left * unit, back / 1e6
            if granted > 0:
                lease.credit += granted * unit
                lease.expires = asked + TERM
            lease.empty_until = asked + wait / 1e6 if wait and not lease.credit else NEVER
            lease.enough = max(1.0, self.size() / 2 + 1.0)
        if lease.credit or lease.debt:
            self._due.append((asked + TERM, key, lease))
        waiting, lease.waiting = lease.waiting, []
        for one in waiting:
            one.wake()

    # Tidying.

    def _tidy(self) -> float | None:
        """Give back what lies unused, and drop leases without requests; every TICK while there are
        any."""
        now, due, old = self.clock.monotonic(), self._due, self._old
        late: list[tuple[float, Hashable, Lease]] = []
        while due and due[0][0] <= now:
            _, key, lease = due.popleft()
            if lease.pending or not ((lease.credit and now >= lease.expires) or lease.debt):
                continue
            if not self.ledger.up:
                late.append((now + RETRY_PAUSE, key, lease))
            elif self.find(key) is lease:
                self._settle(key, lease, now)
        due.extend(late)
        for _ in range(max(STEP_SIZE, len(old) // STEP_SIZE)):
            if not old or old[0][0] > now:
                break
            _, key, lease = old.popleft()
            if self.find(key) is lease:
                self._drop(key, lease, now)
        if self._dropped > max(TRIM_FROM, len(self)):
            self.live = OrderedDict(self.live)  # A dictionary keeps its memory.
            self._dropped = 0
            give_back()
        return None if len(self) else inf

    def _drop(self, key: Hashable, lease: Lease, now: float) -> None:
        """Drop the lease once idle for IDLE_SECONDS and settled; else look again later."""
        if (
            now - lease.touched < IDLE_SECONDS
            or lease.pending
            or lease.credit
            or lease.debt
            or now < lease.empty_until
        ):
            self._old.append((now + IDLE_SECONDS, key, lease))
        else:
            del self.live[key]
            self._dropped += 1

    def _make_room(self, now: float) -> None:
        """Evict the oldest lease and return its credit."""
        key = next(iter(self._aside or self.live))
        lease = self.find(key)
        assert lease is not None
        if (lease.credit or lease.debt) and not lease.pending:
            lease.expires = now
            self._settle(key, lease, now)
        del self.live[key]
        self._dropped += 1
