"""Limit attempts to log in, by address and by account: some are free, later ones wait ever longer.

`begin` and `undone` are pure: (state, rule, now) in, state out. An attempt counts as failed from
the moment it begins and is forgiven when it succeeds, so a thousand at once are no better than one
after another. A refused attempt counts nowhere: a client that waits as long as told is admitted,
and no other client can prolong the wait.

Strangers cannot lock a user out: the wait for an account is bounded, and an address from which the
account has logged in lately has a count of its own, which attempts from elsewhere do not touch.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from gateway.config.tables.tokens import AttemptsConfig
from gateway.core.networks import address_key

MOST = 100_000
"""Addresses and accounts remembered; beyond that the ones idle for longest are forgotten."""
KNOWN_FOR = 30 * 86400.0
"""Seconds for which an address remains known to an account that logged in from there."""


@dataclass(frozen=True, slots=True)
class AttemptRule:
    """`free` attempts do not wait; the next waits `delay` seconds after the last, each further one
    twice as long, up to `longest`. After `forget` seconds without an attempt all is forgotten.
    """

    free: int
    delay: float
    longest: float
    forget: float

    def wait(self, failures: int) -> float:
        """Seconds after this many failures until there may be another attempt."""
        beyond = failures - self.free
        return 0.0 if beyond < 0 else min(self.longest, self.delay * 2.0 ** min(beyond, 60))


class State(NamedTuple):
    """`until`: when the next attempt may begin. `forgotten`: when the state no longer matters.

    Seconds on one clock.
    """

    failures: int
    until: float
    forgotten: float


FRESH = State(0, 0.0, 0.0)


def begin(state: State, rule: AttemptRule, now: float) -> tuple[State, float]:
    """Count an attempt: return the new state and 0.0, or the old state and the seconds to wait."""
    if now >= state.forgotten:
        state = FRESH
    if now < state.until:
        return state, state.until - now
    failures = state.failures + 1
    wait = rule.wait(failures)
    return State(failures, now + wait, now + max(rule.forget, 2 * wait)), 0.0


def undone(state: State, rule: AttemptRule, now: float) -> State:
    """Without one attempt: it turned out not to be a failure, and says nothing about the others."""
    failures = max(0, state.failures - 1)
    return State(failures, min(state.until, now + rule.wait(failures)), state.forgotten)


def rules_of(config: AttemptsConfig) -> tuple[AttemptRule, AttemptRule]:
    """The rules for accounts and for addresses."""
    account, address = (
        AttemptRule(free, config.delay, config.max_delay, config.forget)
        for free in (config.account, config.ip)
    )
    return account, address


class Attempts(Protocol):
    """Attempts so far. Methods raise StoreDown where they are shared and cannot be reached."""

    async def begin(self, address: str, account: str, now: float) -> float:
        """Count an attempt; return the seconds it has to wait, 0.0 when it may go on.

        A refused attempt is not counted.
        """

    async def succeeded(self, address: str, account: str, now: float) -> None:
        """Forgive the account's attempts and the address this one; they know each other now."""

    async def undone(self, address: str, account: str, now: float) -> None:
        """The attempt was neither good nor bad."""


class LocalAttempts:
    """The attempts of one process. `accounts` and `addresses` are the rules."""

    def __init__(self, accounts: AttemptRule, addresses: AttemptRule, most: int = MOST) -> None:
        self.accounts = accounts
        self.addresses = addresses
        self._most = most
        self._states: OrderedDict[bytes, State] = OrderedDict()
        self._known: OrderedDict[bytes, float] = OrderedDict()

    def __repr__(self) -> str:
        return f"<LocalAttempts {len(self._states)}>"

    async def begin(self, address: str, account: str, now: float) -> float:
        keys = self._keys(address, account, now)
        begun = [begin(self._states.get(key, FRESH), rule, now) for key, rule in keys]
        wait = max(waits for _, waits in begun)
        if wait == 0.0:
            for (key, _), (state, _) in zip(keys, begun, strict=True):
                self._put(key, state)
        return wait

    async def succeeded(self, address: str, account: str, now: float) -> None:
        (of_address, rule), (of_account, _) = self._keys(address, account, now)
        self._put(of_address, undone(self._states.get(of_address, FRESH), rule, now))
        self._states.pop(of_account, None)
        self._states.pop(account_key(account), None)
        pair = pair_key(address, account)
        self._known[pair] = now + KNOWN_FOR
        self._known.move_to_end(pair)
        if len(self._known) > self._most:
            self._known.popitem(last=False)

    async def undone(self, address: str, account: str, now: float) -> None:
        for key, rule in self._keys(address, account, now):
            self._put(key, undone(self._states.get(key, FRESH), rule, now))

    def dump_state(self) -> tuple[dict[bytes, State], dict[bytes, float]]:
        """Return everything, for the program that takes this one's place."""
        return dict(self._states), dict(self._known)

    def load_state(self, state: tuple[dict[bytes, State], dict[bytes, float]]) -> None:
        states, known = state
        self._states.update(states)
        self._known.update(known)

    def _keys(
        self, address: str, account: str, now: float
    ) -> tuple[tuple[bytes, AttemptRule], tuple[bytes, AttemptRule]]:
        """Return what an attempt counts for: the address, and the account.

        From an address that the account knows, the second is the two together.
        """
        pair = pair_key(address, account)
        known = now < self._known.get(pair, 0.0)
        return (client_key(address), self.addresses), (
            pair if known else account_key(account),
            self.accounts,
        )

    def _put(self, key: bytes, state: State) -> None:
        if state.failures == 0:
            self._states.pop(key, None)
            return
        self._states[key] = state
        self._states.move_to_end(key)
        if len(self._states) > self._most:
            self._states.popitem(last=False)


def client_key(address: str) -> bytes:
    """Hash an address, so that keys have one length whatever a client claims to be."""
    return _key("address", address_key(address))


def account_key(account: str) -> bytes:
    return _key("account", account)


def pair_key(address: str, account: str) -> bytes:
    return _key("pair", f"{address_key(address)} {account}")


def _key(kind: str, text: str) -> bytes:
    return hashlib.blake2b(
        text.encode("utf-8", "surrogatepass"), digest_size=16, person=kind.encode()
    ).digest()
