"""Shares of a shared limit, taken ahead: requests are decided here and now, and accounts are settled with the store behind them.

For every key there is `credit` (units taken from the store and not used yet) and `debt` (units admitted before they were paid
for). A settlement pays the debt, whether the limit has room for it or not, and asks for more credit; credit that is not used
within TERM seconds is given back. So the store has counted every admission but the debts, at most `size` a gateway and key, and
counts at most `size` units a gateway and key that are not used. docs/limits.md derives the bounds from that.

The same calls as buckets.py has: check, then commit or undo; charge; adopt.
"""

from __future__ import annotations

from collections import deque
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
AGAIN = 1.0
"""Seconds after a failed settlement until the next is tried."""
UNSETTLED = -2.0
"""What `check` says is left when only the settlement under way can tell."""
PATIENCE = 60.0
"""Seconds without a request after which a lease is forgotten."""
TICK = 0.1
"""Seconds between two looks at what is to be given back or forgotten."""
STEP = 500
"""Leases that a look decides to forget or not: 0.2 ms of work; more where there are so many that it would take minutes."""
MANY = 50_000
"""Forgotten leases whose memory is worth asking for."""

Account = Callable[[Hashable, Limit, float, float], tuple[bytes, list[bytes]]]
"""(key, limit, cost, wanted): the ledger's key and terms."""


class Lease:
    """What one key has here. Times are monotonic seconds.

    enough: the credit from which on nothing is to be done but to use it; inf while there is any doubt.
    limit: what the units are units of.
    """

    __slots__ = (
        "ahead", "back", "credit", "debt", "empty_until", "enough", "expires", "failed", "left", "limit", "owed", "pending",
        "touched", "waiting",
    )  # fmt: skip

    def __init__(self, limit: Limit) -> None:
        self.limit = limit
        self.credit = 0.0
        self.enough = inf
        self.debt = 0.0
        self.owed = 0.0  # debt that the settlement under way pays
        self.left = -1.0
        self.back = 0.0
        self.empty_until = NEVER
        self.expires = 0.0
        self.failed = NEVER
        self.pending = False  # whether a settlement is under way
        self.waiting: list[Wait[None]] = []
        self.touched = 0.0
        self.ahead = 0.0  # microseconds that the ledger's clock is ahead of ours, less the way of its last answer


class Leases:
    """One policy's leases. `share` of the limit may be out on credit, and as much in debt, over all gateways together.

    account: builds the ledger's key and terms.
    """

    __slots__ = ("_aside", "_due", "_forgotten", "_old", "_tidying", "account", "clock", "ledger", "limit", "live", "share")

    def __init__(self, ledger: Ledger, share: float, account: Account, clock: Clock, limit: Limit) -> None:
        self.ledger = ledger
        self.share = share
        self.account = account
        self.clock = clock
        self.limit = limit
        self.live: dict[Hashable, Lease] = {}
        self._aside: dict[Hashable, Lease] = {}  # those whose units are of a limit before this one
        self._due: deque[tuple[float, Hashable, Lease]] = deque()  # when credit or debt may have to be settled
        self._old: deque[tuple[float, Hashable, Lease]] = deque()  # when a lease may be forgotten
        self._forgotten = 0
        self._tidying = Supervised("lease_tidying", self._tidy, every=TICK)

    def __len__(self) -> int:
        return len(self.live) + len(self._aside)

    def __repr__(self) -> str:
        return f"<Leases {len(self)} keys>"

    def adopt(self, limit: Limit) -> None:
        """Takes another limit over: what has been used of the old one is used of the new one in proportion."""
        if limit != self.limit:
            self._aside.update(self.live)
            self.live = {}
            self.limit = limit

    def size(self) -> float:
        """The most units on credit, and in debt, for a key here."""
        gateways = self.ledger.gateways
        return max(1.0, self.limit.quota * self.share / 2 // gateways) if gateways else 1.0

    def find(self, key: Hashable) -> Lease | None:
        """The lease of a key, in units of the limit now."""
        lease = self.live.get(key)
        if lease is None and self._aside and (lease := self._aside.pop(key, None)) is not None:
            self.live[key] = lease
            self._rescale(lease)
        return lease

    def usable(self, key: Hashable, now: float) -> bool:
        """Whether the store can be settled with for this key."""
        lease = self.live.get(key)
        return lease is None or now - lease.failed > AGAIN

    def check(self, key: Hashable, now: float, cost: float, most: int) -> tuple[Lease, tuple[Lease, float, float]]:
        """As Buckets.check: what taking `cost` would leave, or UNSETTLED. `most` keys are remembered."""
        lease = self.find(key) or self._open(key, now, most)
        lease.touched = now
        left = lease.credit + max(0.0, lease.left) - cost
        if lease.credit >= cost:
            return lease, (lease, left, lease.back)
        if now < lease.empty_until:
            return lease, (lease, -1.0, lease.empty_until - now)
        # Where nothing was left at the last settlement, one request finds out whether there is something again.
        most_owed = self.size() if lease.left else cost
        if lease.owed + lease.debt + cost <= max(cost, most_owed):
            told = left if lease.left >= 0 else self.limit.quota - lease.debt - cost
            return lease, (lease, max(0.0, told), lease.back)
        if not lease.pending:
            self._settle(key, lease, now)
        return lease, (lease, UNSETTLED, AGAIN)

    def undo(self, state: object, after: object, cost: float) -> None:
        """Nothing: `check` takes nothing."""

    def commit(self, key: Hashable, after: Any, now: float, cost: float) -> None:
        """Takes what `check` has found to be there."""
        lease: Lease = after
        if lease.credit >= cost:
            lease.credit -= cost
        else:
            lease.debt += cost
        if not lease.pending and (lease.debt or lease.credit * 2 < self.size()) and now >= lease.empty_until:
            self._settle(key, lease, now)

    def charge(self, key: Hashable, now: float, cost: float) -> None:
        """Counts `cost` whether there is room or not."""
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
        """The ledger's time, in microseconds, when it was `at` here; never later than it was. 0.0 when it is not known."""
        lease = self.find(key)
        return 0.0 if lease is None or not lease.ahead else at * 1e6 + lease.ahead

    def held(self, key: Hashable) -> float:
        """Units that the store has counted and nobody has used, less those that it has not counted yet."""
        lease = self.find(key)
        return 0.0 if lease is None else lease.credit - lease.debt - lease.owed

    def close(self) -> None:
        """Stops tidying. What is still on credit comes back when the limit does."""
        self._tidying.close()

    def _open(self, key: Hashable, now: float, most: int) -> Lease:
        if len(self) >= most:
            self._make_room(now)
        lease = self.live[key] = Lease(self.limit)
        lease.touched = now
        self._old.append((now + PATIENCE, key, lease))
        if len(self) == 1:
            self._tidying.start(TICK)
        return lease

    def _rescale(self, lease: Lease) -> None:
        """In units of the limit now. What the store has counted is rescaled there, when it hears of the new limit."""
        ratio = self.limit.quota / lease.limit.quota
        lease.credit *= ratio
        lease.debt *= ratio
        lease.owed *= ratio
        lease.left *= ratio if lease.left > 0 else 1.0
        lease.enough = inf
        lease.limit = self.limit

    # Settling.

    def _settle(self, key: Hashable, lease: Lease, now: float) -> None:
        """Pays debts and unused credit in, and asks for new credit: one command, in the background."""
        limit = lease.limit
        unused = lease.credit if now >= lease.expires else 0.0
        lease.credit -= unused
        owed, lease.debt = lease.debt - unused, 0.0
        wanted = 0.0 if unused else max(0.0, self.size() // 1 - lease.credit)
        lease.owed = max(0.0, owed)
        lease.pending = True
        ledger_key, terms = self.account(key, limit, owed, wanted)
        self.ledger.lease(ledger_key, terms, lambda told: self._settled(told, key, lease, limit, now))

    def _settled(self, told: Told | None, key: Hashable, lease: Lease, limit: Limit, asked: float) -> None:
        lease.pending, lease.owed = False, 0.0
        if told is None:
            # Whether the ledger has counted it is not known. Counting twice would refuse what there is room for.
            lease.failed = asked
            lease.enough = inf
        else:
            left, granted, back, wait, clock = told
            lease.ahead = clock - self.clock.monotonic() * 1e6
            unit = lease.limit.quota / limit.quota / 1e6  # a reload may have come between
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
        """Every TICK, as long as there are leases: gives back what lies unused, and forgets who has not come for long."""
        now, due, old = self.clock.monotonic(), self._due, self._old
        late: list[tuple[float, Hashable, Lease]] = []
        while due and due[0][0] <= now:
            _, key, lease = due.popleft()
            if lease.pending or not ((lease.credit and now >= lease.expires) or lease.debt):
                continue
            if not self.ledger.up:
                late.append((now + AGAIN, key, lease))
            elif self.find(key) is lease:
                self._settle(key, lease, now)
        due.extend(late)
        for _ in range(max(STEP, len(old) // STEP)):
            if not old or old[0][0] > now:
                break
            _, key, lease = old.popleft()
            if self.find(key) is lease:
                self._forget(key, lease, now)
        if self._forgotten > max(MANY, len(self)):
            self.live = dict(self.live)  # a dictionary keeps the room it had
            self._forgotten = 0
            give_back()
        return None if len(self) else inf

    def _forget(self, key: Hashable, lease: Lease, now: float) -> None:
        """Forgets a lease that nobody needs; else asks again later."""
        if now - lease.touched < PATIENCE or lease.pending or lease.credit or lease.debt or now < lease.empty_until:
            self._old.append((now + PATIENCE, key, lease))
        else:
            del self.live[key]
            self._forgotten += 1

    def _make_room(self, now: float) -> None:
        """The first lease goes; what it has is given back, or lost to nobody but its limit."""
        key = next(iter(self._aside or self.live))
        lease = self.find(key)
        assert lease is not None
        if (lease.credit or lease.debt) and not lease.pending:
            lease.expires = now
            self._settle(key, lease, now)
        del self.live[key]
        self._forgotten += 1
