"""Several rules on one request: all are checked before any counts; and rules that a shared store decides.

What is decided in this process (memory, leases, or a share of the limit while the store is away) is decided without waiting.
Rules in "exact" mode are asked in one command, after the others; when they refuse, the others are given back.
"""

from __future__ import annotations

from collections.abc import Awaitable, Hashable, Iterable
from math import ceil, floor, isnan
from typing import Any, NamedTuple

from gateway.core.exchange import Decision, Exchange, Reply
from gateway.core.failures import Failed, Failure
from gateway.core.hooks import Context
from gateway.limits.algorithms import Limit, Taking
from gateway.limits.buckets import Buckets
from gateway.limits.leases import TERM, UNSETTLED, Leases
from gateway.limits.ledger import Ledger
from gateway.middlewares.rate_limit.config import RateLimitConfig
from gateway.middlewares.rate_limit.keys import read_body, route_name
from gateway.middlewares.rate_limit.limit_headers import refusal, tell
from gateway.middlewares.rate_limit.look import Look, Seen
from gateway.middlewares.rate_limit.policy import Policy
from gateway.middlewares.rate_limit.rules import Remote, Rule, slot_name
from gateway.store.stores import StoreDown

BODY = 64 * 1024
"""Bytes of a body that are read for `body:NAME`; a longer one is refused."""
AGAIN = 1
"""Seconds that clients are told to wait while limits cannot be checked."""


class Hit(NamedTuple):
    """One rule's part in a request: what was taken and where, and what is left."""

    rule: Rule
    policy: Policy
    key: Hashable
    cost: float
    left: float
    back: float
    at: float
    """When it was taken: Unix time of quotas in this process, the ledger's microseconds there, else monotonic."""
    counted: Buckets | Leases | None
    """Where it is counted; None for the ledger itself."""
    limit: Limit
    remote: Remote | None = None
    """What the ledger is told of it; None when only this process counts it."""
    slot: bytes = b""


class Unsettled(Exception):
    """Only a settlement that is under way can tell; then everything is decided anew."""

    def __init__(self, leases: Leases, key: Hashable) -> None:
        super().__init__(key)
        self.leases = leases
        self.key = key


class Limiter:
    """One instance. Calling it is the request hook; it returns an awaitable only where a store or a body has to be waited for."""

    def __init__(self, config: RateLimitConfig, context: Context, rules: Iterable[Rule]) -> None:
        self._rules = tuple(rules)
        self._message = config.message
        self._max_keys = config.max_keys
        self._name = context.name
        self._monotonic = context.clock.monotonic
        self._wall = context.clock.wall
        self._telemetry = context.telemetry
        self._ledger: Ledger | None = context.ledger
        self._body = frozenset[str]().union(*(rule.body for rule in self._rules))
        self._shared = any(rule.mode == "exact" for rule in self._rules)
        # What has to be known when the reply or the end comes.
        self._keeps = any(rule.at_a_time or rule.cost_header for rule in self._rules)
        self.releases = any(rule.at_a_time for rule in self._rules)
        self.cost_headers = frozenset(rule.cost_header for rule in self._rules if rule.cost_header)
        self._look = Look(self._rules, self._name, context.clock)
        self.awaited_status = self._body or any(rule.remotes for rule in self._rules)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._name}: {list(self._rules)}>"

    def __call__(self, exchange: Exchange) -> Awaitable[None] | None:
        """Counts the request in all rules that apply. Raises Failed when one has no room for it."""
        if self._body:
            return self._with_body(exchange)
        return self._begin(exchange)

    async def _with_body(self, exchange: Exchange) -> None:
        await read_body(exchange, BODY, self._body)
        rest = self._begin(exchange)
        if rest is not None:
            await rest

    def _begin(self, exchange: Exchange) -> Awaitable[None] | None:
        if exchange.decisions is not None:
            return self._explain(exchange, exchange.decisions)
        return self._decide(exchange)

    def _decide(self, exchange: Exchange) -> Awaitable[None] | None:
        hits: list[Hit] = []
        try:
            asks = self._take(exchange, self._rules, hits)
        except Unsettled as wait:
            return self._settled(exchange, wait)
        if self._keeps:
            exchange.notes[self] = hits
        if asks:
            return self._ask(exchange, asks, hits)
        self._tell(exchange, hits)
        return None

    async def _settled(self, exchange: Exchange, wait: Unsettled) -> None:
        """The way of a request whose leases were used up faster than they could be settled."""
        await wait.leases.settled(wait.key)
        rest = self._begin(exchange)
        if rest is not None:
            await rest

    # Deciding.

    def _take(self, exchange: Exchange, rules: Iterable[Rule], hits: list[Hit], *, down: bool = False) -> list[Hit]:
        """Takes from every rule that is decided here, or from none; adds to `hits`. Returns what the store has to be asked.

        down: take the store for unavailable. Raises Failed and Unsettled.
        """
        asks: list[Hit] = []
        found: list[tuple[Hit, Any, Any]] = []
        refused: list[tuple[Policy, float, str]] = []
        unknown = False
        unsettled: Unsettled | None = None
        monotonic = self._monotonic()
        for rule in rules:
            policy = rule.always or rule.policy(exchange)
            if policy is None or not (cost := rule.flat_cost or rule.cost(exchange, policy)):
                continue
            key, now = rule.key(exchange), monotonic
            counted: Buckets | Leases = policy.buckets
            remote = None
            if rule.mode != "memory" and (remote := rule.remotes.get(policy.name)) is not None:
                leases = remote.leases
                if not down and remote.ledger.up and (leases is None or leases.usable(key, monotonic)):
                    if leases is None:
                        asks.append(Hit(rule, policy, key, cost, 0.0, 0.0, 0.0, None, policy.limit, remote))
                        continue
                    counted = leases
                else:
                    self._telemetry.rate_fallback.add((policy.name, rule.on_failure))
                    if rule.on_failure != "local_share":
                        unknown = unknown or (rule.on_failure == "closed" and not rule.shadow)
                        continue
                    counted = remote.share()
            if rule.wall and not isinstance(counted, Leases):
                now = self._wall()
            state, (after, left, back) = counted.check(key, now, cost, self._max_keys)
            if left == UNSETTLED:
                unsettled = Unsettled(counted, key) if isinstance(counted, Leases) else None
            elif left >= 0.0:
                hit = Hit(rule, policy, key, cost, left, back, now, counted, counted.limit, remote)
                found.append((hit, state, after))
            elif rule.shadow:
                self._shadowed(exchange, policy)
            else:
                refused.append((policy, back, rule.who))
        if refused or unknown or unsettled is not None:
            for hit, state, after in found:
                assert hit.counted is not None
                hit.counted.undo(state, after, hit.cost)
            if refused:
                raise self._refusal(exchange, refused)
            raise self._unknown() if unsettled is None else unsettled
        for hit, _, after in found:
            assert hit.counted is not None
            hit.counted.commit(hit.key, after, hit.at, hit.cost)
            hits.append(hit)
        return asks

    def _charge(self, hit: Hit, cost: float) -> None:
        """Counts more for a request that was admitted."""
        if hit.counted is not None:
            hit.counted.charge(hit.key, self._now(hit), cost)
        elif hit.remote is not None:
            hit.remote.ledger.charge(hit.remote.key(hit.key), hit.remote.terms(cost))

    def _refund(self, hit: Hit, units: float) -> None:
        """Gives units of a request back, as far as they still count. Units of another limit than the one now are not."""
        counted, taking = hit.counted, Taking(hit.at, hit.left)
        if isinstance(counted, Buckets):
            if counted.limit == hit.limit:
                counted.refund(hit.key, self._now(hit), units, taking)
            return
        assert hit.remote is not None
        if counted is not None:
            # What was told to be left may have been told a TERM before.
            most = min(hit.limit.quota, hit.left + hit.limit.rate * TERM)
            taking = Taking(counted.ledger_time(hit.key, hit.at), most)
        if taking.at and (counted is None or counted.limit == hit.limit):
            hit.remote.refund(hit.key, units, taking, hit.slot)

    def _now(self, hit: Hit) -> float:
        return self._wall() if hit.rule.wall and isinstance(hit.counted, Buckets) else self._monotonic()

    def _shadowed(self, exchange: Exchange, policy: Policy) -> None:
        self._telemetry.rate_shadowed.add((route_name(exchange), policy.name))
        exchange.reason = f"shadow:{policy.name}"

    def _unknown(self) -> Failed:
        detail = "The limits of this service cannot be checked at the moment."
        return Failed(Failure.LIMITS_UNKNOWN, detail, headers=((b"Retry-After", b"%d" % AGAIN),), by=self._name)

    def _refusal(self, exchange: Exchange, refused: list[tuple[Policy, float, str]]) -> Failed:
        """The failure that the rule with the longest wait amounts to: who waits for that is admitted by all."""
        policy, wait, who = max(refused, key=lambda one: one[1])
        if exchange.decisions is None:
            for one, _, _ in refused:
                self._telemetry.rate_limited.add((route_name(exchange), one.name))
        listed = ", ".join(self._items(exchange))
        return refusal(exchange, policy, wait, floor(self._wall()), listed, self._name, self._message, who)

    def _items(self, exchange: Exchange) -> list[str]:
        found = [rule.policy(exchange) for rule in self._rules if not rule.shadow]
        return [policy.item for policy in found if policy is not None]

    # Asking the store.

    async def _ask(self, exchange: Exchange, asks: list[Hit], hits: list[Hit]) -> None:
        """Asks the store for all at once; adds to `hits`. Raises Failed, and then the hits so far are given back."""
        ledger = self._ledger
        assert ledger is not None
        asks = [ask._replace(slot=slot_name()) if ask.rule.at_a_time else ask for ask in asks]
        before = len(hits)
        # Before waiting: should the client leave meanwhile, slots are given back all the same.
        hits += asks
        keys, terms = [], []
        for ask in asks:
            assert ask.remote is not None
            keys.append(ask.remote.key(ask.key))
            terms += ask.remote.terms(ask.cost, ask.rule.shadow, ask.slot)
        try:
            told = await ledger.take(keys, terms)
        except StoreDown:
            del hits[before:]
            for ask in asks:
                self._let_go(ask)  # Redis may still take the slot, late
            try:
                self._take(exchange, [ask.rule for ask in asks], hits, down=True)
            except Failed:
                self._give_back(hits)
                raise
            self._tell(exchange, hits)
            return
        del hits[before:]
        refused = []
        at = told[-1]
        for ask, left, back in zip(asks, told[:-1:2], told[1::2], strict=True):
            if left >= 0:
                hits.append(ask._replace(left=left / 1e6, back=back / 1e6, at=at))
            elif ask.rule.shadow:
                self._shadowed(exchange, ask.policy)
            else:
                refused.append((ask.policy, back / 1e6, ask.rule.who))
        if refused:
            self._give_back(hits[:before])
            hits.clear()
            raise self._refusal(exchange, refused)
        if self.releases:
            for hit in hits[before:]:
                if hit.rule.at_a_time and hit.remote is not None:
                    ledger.hold(hit.slot, hit.remote.key(hit.key), hit.remote.terms(1, slot=hit.slot))
        self._tell(exchange, hits)

    def _give_back(self, hits: list[Hit]) -> None:
        for hit in hits:
            self._refund(hit, hit.cost)
        hits.clear()

    # Telling.

    def _tell(self, exchange: Exchange, hits: list[Hit]) -> None:
        tightest: Hit | None = None
        least = 2.0
        items = []
        for hit in hits:
            if hit.rule.shadow:
                continue
            items.append(hit.policy.item)
            share = hit.left / hit.limit.quota
            if share < least:
                tightest, least = hit, share
        if tightest is not None:
            left, seconds = floor(tightest.left), ceil(tightest.back)
            tell(exchange, tightest.policy, left, seconds, floor(self._wall()), ", ".join(items))

    # Afterwards.

    def response(self, exchange: Exchange, reply: Reply) -> None:
        """Counts what the upstream says the request has cost, and keeps it from the client."""
        hits: list[Hit] = exchange.notes.get(self, [])
        for hit in hits:
            name = hit.rule.cost_header
            value = reply.index.get(name) if name else None
            if value is not None:
                cost = _cost(value, hit)
                if cost > hit.cost:
                    self._charge(hit, cost - hit.cost)
                elif cost < hit.cost:
                    self._refund(hit, hit.cost - cost)
        for name in self.cost_headers:
            if name in reply.index:
                reply.remove(name)

    def release(self, exchange: Exchange) -> None:
        """Gives back what counts at a time."""
        hits: list[Hit] = exchange.notes.pop(self, [])
        for hit in hits:
            if hit.slot:
                self._let_go(hit)
            elif hit.rule.at_a_time:
                self._refund(hit, hit.cost)

    def _let_go(self, hit: Hit) -> None:
        """Gives the ledger a slot back."""
        if hit.slot and (remote := hit.remote) is not None:
            remote.ledger.let_go(hit.slot, remote.key(hit.key), remote.refund_terms(1, Taking(0.0, 0.0), hit.slot))

    # Looking.

    def status(self, exchange: Exchange) -> Any:
        """What this caller may still do here, without counting anything; awaitable where a store has to be asked.

        Times in seconds; `reset` is a Unix time.
        """
        if self.awaited_status:
            return self._status(exchange)
        return self._look.shown(self._look.here(exchange))

    async def _status(self, exchange: Exchange) -> list[dict[str, Any]]:
        if self._body:
            await read_body(exchange, BODY, self._body)
        return self._look.shown(await self._look.there(exchange))

    def _explain(self, exchange: Exchange, decisions: list[Decision]) -> Awaitable[None] | None:
        """Says what would be decided, rule by rule."""
        if self._shared or self.awaited_status:
            return self._explain_shared(exchange, decisions)
        self._explained(exchange, decisions, self._look.here(exchange))
        return None

    async def _explain_shared(self, exchange: Exchange, decisions: list[Decision]) -> None:
        self._explained(exchange, decisions, await self._look.there(exchange))

    def _explained(self, exchange: Exchange, decisions: list[Decision], seen: list[Seen]) -> None:
        refused = self._look.explained(exchange, decisions, seen)
        if refused:
            raise self._refusal(exchange, refused)


def _cost(value: bytes, hit: Hit) -> float:
    """The whole units that an upstream says a request has cost, never more than the limit; as before if it says no number."""
    try:
        units = float(value)
    except ValueError:
        return hit.cost
    return hit.cost if isnan(units) else float(ceil(min(max(units, 0.0), hit.limit.quota)))
