"""The ledger of a gateway with several workers: its supervisor counts, by what algorithms.py
decides.

Commands are those of ledger.py, and so is what they answer: the same as Redis' script, state for
state. Which process asks counts for slots alone (of `concurrency`): they are free when it ends.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from math import ceil, floor, inf
from typing import Any, NamedTuple

from gateway.core.clock import REAL, Clock
from gateway.limits.algorithms import LEEWAY, NEVER, Limit, Taking, admit_ahead, burst_room
from gateway.limits.buckets import Buckets
from gateway.limits.ledger import TERMS, Told
from gateway.limits.quotas import ALL_ALGORITHMS

MILLION = 1_000_000
MOST_KEYS = 1_000_000
"""Callers remembered by each limit."""
SETTLING = 5.0
"""Seconds for which a command may still come by the limit before, while workers reload."""
FORGET_AFTER = 3600.0
"""Seconds after which a limit that is not asked for is forgotten, once its window is over too."""

Policy = tuple[bytes, bytes]
"""An algorithm, and the names at the end of a key, which are those of one limit."""


class Ends:
    """The end of the quota's period, and of the next one, as the last command said."""

    def __init__(self, first: float, second: float) -> None:
        self.first = first
        self.second = second

    def __call__(self, unix: float) -> float:
        return self.first if unix < self.first else self.second


class Account:
    """What is counted by one limit: `words` are its terms, `before` those until `changed`."""

    __slots__ = ("before", "buckets", "changed", "ends", "used", "wall", "words")

    def __init__(self, words: Sequence[bytes], ends: Ends | None, clock: Clock) -> None:
        algorithm = words[0].decode()
        self.words = tuple(words)
        self.before: tuple[bytes, ...] = ()
        self.changed = self.used = NEVER
        self.ends = ends
        self.wall = ALL_ALGORITHMS[algorithm].wall
        self.buckets = Buckets(algorithm, limit_of(words, ends), clock)

    def adopt(self, words: Sequence[bytes], now: float) -> None:
        """Count by another limit, unless it is the one before: that worker has yet to reload."""
        if tuple(words) == self.before and now < self.changed + SETTLING:
            return
        self.before, self.words, self.changed = self.words, tuple(words), now
        self.buckets.adopt(limit_of(words, self.ends))


class Part(NamedTuple):
    """One key's part in a command; `now` by the clock of its states."""

    account: Account
    key: bytes
    now: float
    cost: float
    flag: float
    terms: Sequence[bytes]


class Book:
    """Counts for all workers. `clock` is that of all processes of the machine."""

    def __init__(self, clock: Clock = REAL) -> None:
        self._clock = clock
        # The ledger's time: Unix time that does not jump.
        self._epoch = clock.wall() - clock.monotonic()
        self._accounts: dict[Policy, Account] = {}
        self._slots: dict[tuple[bytes, bytes], tuple[Hashable, Account]] = {}
        """Who has a slot, by key and the slot's name."""

    def __repr__(self) -> str:
        return f"<Book of {len(self._accounts)} limits, {len(self._slots)} slots>"

    def run(
        self, action: bytes, keys: Sequence[bytes], terms: Sequence[bytes], owner: Hashable
    ) -> Told:
        """Run one command of the process `owner`. The last number is the ledger's time."""
        monotonic = self._clock.monotonic()
        parts = [
            self._part(key, terms[at : at + TERMS], monotonic)
            for key, at in zip(keys, range(0, len(terms), TERMS), strict=True)
        ]
        if action == b"take":
            told = self._take(parts, owner)
        elif action == b"lease":
            told = _lease(parts[0])
        else:
            if action == b"charge":
                _charge(parts[0], parts[0].cost)
            elif action == b"refund":
                self._refund(parts[0])
            told = _room(parts[0])
        told.append(floor((self._epoch + monotonic) * MILLION + 0.5))
        return told

    def release(self, owner: Hashable) -> None:
        """Free the slots of a process that has ended."""
        for key, slot in [name for name, (holder, _) in self._slots.items() if holder == owner]:
            self._free(key, slot)

    def tidy(self) -> None:
        """Forget limits that are not asked for any more."""
        now = self._clock.monotonic()
        for policy, account in tuple(self._accounts.items()):
            window = account.buckets.limit.window
            if now > account.used + FORGET_AFTER + 2 * window:
                account.buckets.close()
                del self._accounts[policy]

    def dump_state(self) -> Any:
        """Return everything, for the program that takes this one's place."""
        accounts = {
            policy: (account.words, account.ends, account.buckets.dump_state())
            for policy, account in self._accounts.items()
        }
        return accounts, {name: owner for name, (owner, _) in self._slots.items()}

    def load_state(self, state: Any) -> None:
        accounts, slots = state
        for policy, (words, ends, counted) in accounts.items():
            account = self._accounts[policy] = Account(words, ends, self._clock)
            account.used = self._clock.monotonic()
            account.buckets.load_state(counted)
        for name, owner in slots.items():
            self._slots[name] = owner, self._accounts[_policy(name[0], b"concurrency")]

    def _part(self, key: bytes, terms: Sequence[bytes], monotonic: float) -> Part:
        words = terms[:5]
        policy = _policy(key, words[0])
        account = self._accounts.get(policy)
        if account is None:
            ends = Ends(0.0, 0.0) if words[0] == b"quota" else None
            account = self._accounts[policy] = Account(words, ends, self._clock)
        elif account.words != tuple(words):
            account.adopt(words, monotonic)
        if account.ends is not None and terms[8]:
            account.ends.first, account.ends.second = float(terms[7]), float(terms[8])
        account.used = monotonic
        now = self._clock.wall() if account.wall else monotonic
        return Part(account, key, now, float(terms[5]), float(terms[6]), terms)

    def _take(self, parts: Sequence[Part], owner: Hashable) -> Told:
        found = [
            (part, *part.account.buckets.check(part.key, part.now, part.cost, MOST_KEYS))
            for part in parts
        ]
        refused = any(left < 0 and not part.flag for part, _, (_, left, _) in found)
        told: Told = []
        for part, state, (after, left, back) in found:
            buckets = part.account.buckets
            if left < 0:
                told += (-1, ceil(max(LEEWAY, back) * MILLION))
            elif refused:
                buckets.undo(state, after, part.cost)
                told += _room(part)
            else:
                buckets.commit(part.key, after, part.now, part.cost)
                if part.terms[0] == b"concurrency":
                    self._slots[part.key, part.terms[7]] = owner, part.account
                told += (floor(left * MILLION + 0.5), ceil(back * MILLION))
        return told

    def _refund(self, part: Part) -> None:
        kind, own = part.terms[0], part.terms[7]
        if kind == b"concurrency":
            self._free(part.key, own)
            return
        if kind == b"quota":
            # `own` is the end of the period in which the units were taken.
            if part.account.buckets.find(part.key)[0] == float(own) > part.now:
                _charge(part, -part.cost)
            return
        taking = Taking(part.flag / MILLION - self._epoch, float(own or b"0"))
        part.account.buckets.refund(part.key, part.now, part.cost, taking)

    def _free(self, key: bytes, slot: bytes) -> None:
        held = self._slots.pop((key, slot), None)
        if held is not None:
            held[1].buckets.refund(key, self._clock.monotonic(), 1, Taking(0.0, 0.0))


def _policy(key: bytes, algorithm: bytes) -> Policy:
    return algorithm, key[key.rfind(b":") :]


def limit_of(words: Sequence[bytes], ends: Ends | None) -> Limit:
    """Return the limit that the first terms describe."""
    _, quota, rate, window, burst = words
    return Limit(float(quota), float(rate), float(window), int(burst), ends)


def _charge(part: Part, cost: float) -> None:
    buckets = part.account.buckets
    buckets.admit(part.key, part.now, MOST_KEYS)
    buckets.charge(part.key, part.now, cost)


def _left(part: Part) -> tuple[float, float]:
    """Units left, and the seconds until all are back."""
    buckets = part.account.buckets
    return buckets.algorithm.left(buckets.find(part.key), buckets.limit, part.now)


def _lease_units(part: Part, units: float) -> None:
    """Count units, or give some back."""
    if units:
        _charge(part, units)
    buckets = part.account.buckets
    if units > 0 and buckets.limit.burst:
        admit_ahead(buckets.find(part.key), part.now, ceil(units))


def _burst(part: Part) -> float:
    """Requests that the burst has room for."""
    buckets = part.account.buckets
    if not buckets.limit.burst:
        return inf
    return burst_room(buckets.find(part.key), buckets.limit, part.now)


def _room(part: Part) -> Told:
    room, back = _left(part)
    return [floor(room * MILLION + 0.5), ceil(max(0.0, back) * MILLION)]


def _lease(part: Part) -> Told:
    """Count the cost in any case, and grant of the units wanted as many as there are.

    Where there is a burst, each unit counts as a request of this moment.
    """
    _lease_units(part, part.cost)
    granted = max(0, min(int(part.flag), floor(min(_left(part)[0], _burst(part)) + LEEWAY)))
    _lease_units(part, granted)
    room, back = _left(part)
    wait = 0.0
    if min(room, _burst(part)) < 1 - LEEWAY:
        buckets = part.account.buckets
        _, left, until = buckets.take(buckets.find(part.key), buckets.limit, part.now, 1)
        wait = max(LEEWAY, until) if left < 0 else 0.0
    return [
        floor(room * MILLION + 0.5),
        granted * MILLION,
        ceil(max(0.0, back) * MILLION),
        ceil(wait * MILLION),
    ]
