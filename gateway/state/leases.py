"""Shares of a shared limit, taken ahead: requests are decided here and now, and accounts are settled with the store behind them.

For every key there is `credit` (units taken from the store and not used yet) and `debt` (units admitted before they were paid
for). A settlement pays the debt, whether the limit has room for it or not, and asks for more credit; credit that is not used
within TERM seconds is given back. So the store has counted every admission but the debts, at most `size` a gateway and key, and
counts at most `size` units a gateway and key that are not used. docs/limits.md derives the bounds from that.

The same calls as buckets.py has: check, then commit or undo; charge; find.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Hashable
from typing import Any

from gateway.core.clock import Clock
from gateway.state.limits import NEVER, Limit
from gateway.state.stores import Store

TERM = 1.0
"""Seconds that credit may lie unused."""
AGAIN = 1.0
"""Seconds after a failed settlement until the next is tried."""
UNSETTLED = -2.0
"""What `check` says is left when only the settlement under way can tell."""
PATIENCE = 60.0
"""Seconds without a request after which a lease is forgotten."""

Command = Callable[[Hashable, Limit, float, float], tuple[bytes, list[bytes]]]
"""(key, limit, cost, wanted): the store's key and the script's arguments."""


class Lease:
    """What one key has here. Times are monotonic seconds."""

    __slots__ = ("back", "credit", "debt", "empty_until", "expires", "failed", "left", "owed", "pending", "touched")

    def __init__(self) -> None:
        self.credit = 0.0
        self.debt = 0.0
        self.owed = 0.0  # debt that the settlement under way pays
        self.left = -1.0
        self.back = 0.0
        self.empty_until = NEVER
        self.expires = 0.0
        self.failed = NEVER
        self.pending: asyncio.Future[list[int]] | None = None
        self.touched = 0.0


class Leases:
    """One policy's leases. `share` of the limit may be out on credit, and as much in debt, over all gateways together.

    command: builds the store's key and arguments.
    """

    __slots__ = ("_limit", "_timer", "clock", "command", "live", "share", "store")

    def __init__(self, store: Store, share: float, command: Command, clock: Clock) -> None:
        self.store = store
        self.share = share
        self.command = command
        self.clock = clock
        self.live: dict[Hashable, Lease] = {}
        self._limit: Limit | None = None  # as of the last lease or settlement
        self._timer: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return len(self.live)

    def __repr__(self) -> str:
        return f"<Leases {len(self.live)} keys>"

    def size(self, limit: Limit) -> float:
        """The most units on credit, and in debt, for a key here."""
        gateways = self.store.gateways
        return max(1.0, limit.quota * self.share / 2 // gateways) if gateways else 1.0

    def usable(self, key: Hashable, now: float) -> bool:
        """Whether the store can be settled with for this key."""
        lease = self.live.get(key)
        return lease is None or now - lease.failed > AGAIN

    def check(self, key: Hashable, limit: Limit, now: float, cost: float, most: int) -> tuple[Lease, tuple[Lease, float, float]]:
        """As Buckets.check: what taking `cost` would leave, or UNSETTLED. `most` keys are remembered."""
        lease = self.live.get(key)
        if lease is None:
            if len(self.live) >= most:
                self._forget(limit, now)
            lease = self.live[key] = Lease()
            self._limit = limit
            if self._timer is None:
                self._timer = asyncio.get_running_loop().call_later(TERM, self._tidy)
        lease.touched = now
        left = lease.credit + max(0.0, lease.left) - cost
        if lease.credit >= cost:
            return lease, (lease, left, lease.back)
        if now < lease.empty_until:
            return lease, (lease, -1.0, lease.empty_until - now)
        # Where nothing was left at the last settlement, one request finds out whether there is something again.
        most_owed = self.size(limit) if lease.left else cost
        if lease.owed + lease.debt + cost <= max(cost, most_owed):
            told = left if lease.left >= 0 else limit.quota - lease.debt - cost
            return lease, (lease, max(0.0, told), lease.back)
        if not lease.pending:
            self._settle(key, lease, limit, now)
        return lease, (lease, UNSETTLED, AGAIN)

    def undo(self, state: object, after: object, cost: float) -> None:
        """Nothing: `check` takes nothing."""

    def commit(self, key: Hashable, after: Any, limit: Limit, now: float, cost: float) -> None:
        """Takes what `check` has found to be there."""
        lease: Lease = after
        if lease.credit >= cost:
            lease.credit -= cost
        else:
            lease.debt += cost
        if not lease.pending and (lease.debt or lease.credit * 2 < self.size(limit)) and now >= lease.empty_until:
            self._settle(key, lease, limit, now)

    def charge(self, key: Hashable, limit: Limit, now: float, cost: float) -> None:
        """Counts `cost` whether there is room or not; a negative one gives back."""
        lease = self.live.setdefault(key, Lease())
        lease.debt += cost
        if not lease.pending:
            self._settle(key, lease, limit, now)

    async def settled(self, key: Hashable) -> None:
        """Waits for the settlement under way, however it ends."""
        lease = self.live.get(key)
        if lease is not None and lease.pending is not None:
            await asyncio.wait((lease.pending,))

    def told(self, key: Hashable, limit: Limit) -> tuple[float, float]:
        """(units left, seconds until all are back) as of the last settlement; what others used since is not known."""
        lease = self.live.get(key)
        if lease is None or lease.left < 0:
            return limit.quota, 0.0
        return max(0.0, lease.left + lease.credit - lease.debt), lease.back

    def _settle(self, key: Hashable, lease: Lease, limit: Limit, now: float) -> None:
        """Pays debts and unused credit in, and asks for new credit: one command, in the background."""
        self._limit = limit
        size = self.size(limit)
        unused = lease.credit if now >= lease.expires else 0.0
        lease.credit -= unused
        owed, lease.debt = lease.debt - unused, 0.0
        wanted = 0.0 if unused else max(0.0, size - lease.credit)
        store_key, args = self.command(key, limit, owed, wanted)
        lease.owed = max(0.0, owed)
        lease.pending = self.store.ask(b"lease", (store_key,), args)
        lease.pending.add_done_callback(lambda done: self._settled(done, lease, now))

    def _settled(self, done: asyncio.Future[list[int]], lease: Lease, asked: float) -> None:
        lease.pending, lease.owed = None, 0.0
        if done.cancelled() or done.exception() is not None:
            # Whether the store has counted it is not known. Counting twice would refuse what there is room for.
            lease.failed = asked
            return
        left, granted, back, wait = done.result()
        lease.failed = NEVER
        lease.left, lease.back = left / 1e6, back / 1e6
        if granted > 0:
            lease.credit += granted / 1e6
            lease.expires = asked + TERM
        lease.empty_until = asked + wait / 1e6 if wait and not lease.credit else NEVER

    def _tidy(self) -> None:
        """Every TERM, as long as there are leases: gives back what lies unused, and forgets who has not come for long."""
        now, limit = self.clock.monotonic(), self._limit
        assert limit is not None
        for key, lease in list(self.live.items()):
            if lease.pending or not self.store.up:
                continue
            if (lease.credit and now >= lease.expires) or lease.debt:
                self._settle(key, lease, limit, now)
            elif now - lease.touched > PATIENCE:
                del self.live[key]
        self._timer = asyncio.get_running_loop().call_later(TERM, self._tidy) if self.live else None

    def close(self) -> None:
        """Stops tidying. What is still on credit comes back when the limit does."""
        if self._timer is not None:
            self._timer.cancel()

    def _forget(self, limit: Limit, now: float) -> None:
        """Makes room: the first lease goes; what it has is given back, or lost to nobody but its limit."""
        key, lease = next(iter(self.live.items()))
        if (lease.credit or lease.debt) and not lease.pending:
            lease.expires = now
            self._settle(key, lease, limit, now)
        del self.live[key]
