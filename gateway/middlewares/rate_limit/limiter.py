"""Several rules on one request: all are checked before any counts. And rules that a ledger decides.

What is decided in this process (memory, leases, or a share of the limit while the ledger is away)
is decided without waiting. Rules in "exact" mode are asked in one command, after the others; when
one of them refuses, the others are given back.
"""

from __future__ import annotations

from collections.abc import Awaitable, Hashable, Iterable
from math import ceil, floor
from typing import Any

from gateway.core.exchange import Decision, Exchange, Reply
from gateway.core.failures import Failed, Failure
from gateway.core.hooks import Context
from gateway.core.refusals import Shadows, WouldRefuse
from gateway.core.wait import own
from gateway.limits.buckets import Buckets
from gateway.limits.leases import UNSETTLED, Leases
from gateway.limits.ledger import Ledger, Told
from gateway.middlewares.rate_limit.config import RateLimitConfig
from gateway.middlewares.rate_limit.hits import Hit, charge, let_go, refund, reported_cost
from gateway.middlewares.rate_limit.inspection import Inspection, Inspector
from gateway.middlewares.rate_limit.keys import read_body, route_name
from gateway.middlewares.rate_limit.limit_headers import refusal, whose, write_headers
from gateway.middlewares.rate_limit.policy import Policy
from gateway.middlewares.rate_limit.rules import LEAST_COST, LimitRule
from gateway.middlewares.rate_limit.shared_limit import SharedLimit, slot_name
from gateway.store.stores import StoreDown

MAX_BODY = 64 * 1024
"""Bytes of a body that are read for `body:NAME`; a longer one is refused."""
UNKNOWN_RETRY_AFTER = 1
"""Seconds that clients are told to wait while limits cannot be checked."""


class Unsettled(Exception):
    """Only a settlement that is under way can tell; then everything is decided anew."""

    def __init__(self, leases: Leases, key: Hashable) -> None:
        super().__init__(key)
        self.leases = leases
        self.key = key


class Verdicts:
    """What the rules say about one request, before any of them counts it.

    found: what there is room for, with the states before and after. asks: what the ledger decides.
    unknown: a rule that must not be missed cannot be checked.
    """

    __slots__ = ("asks", "found", "refused", "unknown", "unsettled")

    def __init__(self) -> None:
        self.found: list[tuple[Hit, Any, Any]] = []
        self.asks: list[Hit] = []
        self.refused: list[tuple[Policy, float, str]] = []
        self.unknown = False
        self.unsettled: Unsettled | None = None


class RuleLimiter:
    """One instance. Calling it is the request hook.

    It returns an awaitable only where a ledger or a body has to be waited for.
    """

    def __init__(
        self, config: RateLimitConfig, context: Context, rules: Iterable[LimitRule]
    ) -> None:
        self._rules = tuple(rules)
        self._message = config.message
        self._max_keys = config.max_keys
        self._name = context.name
        self._clock = context.clock
        self._monotonic = context.clock.monotonic
        self._wall = context.clock.wall
        self._telemetry = context.telemetry
        self._shadows = Shadows.of(context.keep, context.telemetry)
        self._ledger: Ledger | None = context.ledger
        self._body = frozenset[str]().union(*(rule.body for rule in self._rules))
        # What has to be known when the reply or the end comes.
        self._keeps = any(rule.at_a_time or rule.cost_header for rule in self._rules)
        self.releases = any(rule.at_a_time for rule in self._rules)
        self.cost_headers = frozenset(rule.cost_header for rule in self._rules if rule.cost_header)
        self._inspector = Inspector(self._rules, self._name, context.clock)
        self.awaited_status = bool(self._body) or any(rule.shared for rule in self._rules)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._name}: {list(self._rules)}>"

    def __call__(self, exchange: Exchange) -> Awaitable[None] | None:
        """Count the request in all rules that apply. Raises Failed when one has no room for it."""
        return self._with_body(exchange) if self._body else self._begin(exchange)

    @own
    async def _with_body(self, exchange: Exchange) -> None:
        await read_body(exchange, MAX_BODY, self._body)
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
        self._show(exchange, hits)
        return None

    @own
    async def _settled(self, exchange: Exchange, wait: Unsettled) -> None:
        """Decide anew once leases that were used up are settled."""
        await wait.leases.settled(wait.key)
        rest = self._begin(exchange)
        if rest is not None:
            await rest

    # Deciding.

    def _take(
        self, exchange: Exchange, rules: Iterable[LimitRule], hits: list[Hit], *, down: bool = False
    ) -> list[Hit]:
        """Take from every rule that is decided here, or from none; adds to `hits`.

        Returns what the ledger has to be asked. down: take the ledger for unavailable. Raises
        Failed and Unsettled.
        """
        verdicts = Verdicts()
        now = self._monotonic()
        for rule in rules:
            policy = rule.always or rule.policy(exchange)
            if policy is not None and (cost := rule.flat_cost or rule.cost(exchange, policy)):
                self._check(verdicts, exchange, rule, policy, cost, now, down)
        if verdicts.refused or verdicts.unknown or verdicts.unsettled is not None:
            for hit, state, after in verdicts.found:
                assert hit.counted is not None
                hit.counted.undo(state, after, hit.cost)
            if verdicts.refused:
                raise self._refusal(exchange, verdicts.refused)
            raise self._unknown() if verdicts.unsettled is None else verdicts.unsettled
        for hit, _, after in verdicts.found:
            assert hit.counted is not None
            hit.counted.commit(hit.key, after, hit.at, hit.cost)
            hits.append(hit)
        return verdicts.asks

    def _check(
        self,
        verdicts: Verdicts,
        exchange: Exchange,
        rule: LimitRule,
        policy: Policy,
        cost: float,
        now: float,
        down: bool,
    ) -> None:
        """Add one rule's verdict."""
        key, counted, shared = rule.key(exchange), policy.buckets, rule.shared.get(policy.name)
        if shared is not None:
            leases = shared.leases
            if not down and shared.ledger.up and (leases is None or leases.usable(key, now)):
                if leases is None:
                    ask = Hit(rule, policy, key, cost, 0.0, 0.0, 0.0, None, policy.limit, shared)
                    verdicts.asks.append(ask)
                else:
                    self._check_here(
                        verdicts, exchange, rule, policy, key, cost, now, leases, shared
                    )
                return
            self._telemetry.rate_fallback.add((policy.name, rule.on_failure))
            if rule.on_failure != "local_share":
                verdicts.unknown |= rule.on_failure == "closed" and not rule.shadow
                return
            counted = shared.local_share()
        at = self._wall() if rule.wall else now
        self._check_here(verdicts, exchange, rule, policy, key, cost, at, counted, shared)

    def _check_here(
        self,
        verdicts: Verdicts,
        exchange: Exchange,
        rule: LimitRule,
        policy: Policy,
        key: Hashable,
        cost: float,
        at: float,
        counted: Buckets | Leases,
        shared: SharedLimit | None,
    ) -> None:
        state, (after, left, back) = counted.check(key, at, cost, self._max_keys)
        if left == UNSETTLED and isinstance(counted, Leases):
            verdicts.unsettled = Unsettled(counted, key)
        elif left >= 0.0:
            hit = Hit(rule, policy, key, cost, left, back, at, counted, counted.limit, shared)
            verdicts.found.append((hit, state, after))
        elif rule.shadow:
            self._shadowed(exchange, policy, rule.who)
        else:
            verdicts.refused.append((policy, back, rule.who))

    def _shadowed(self, exchange: Exchange, policy: Policy, who: str) -> None:
        self._telemetry.rate_shadowed.add((route_name(exchange), policy.name))
        quota = policy.limit.ends is not None
        reason = (Failure.QUOTA_EXCEEDED if quota else Failure.RATE_LIMITED).reason
        why = f"limit {policy.item} of {whose(exchange, who)} used up"
        self._shadows.note(exchange, WouldRefuse(self._name, reason, why), policy.name)

    def _unknown(self) -> Failed:
        detail = "The limits of this service cannot be checked at the moment."
        again = ((b"Retry-After", b"%d" % UNKNOWN_RETRY_AFTER),)
        down = self._ledger.name if self._ledger is not None else "the store"
        why = f"{down} does not answer, and on_store_failure is closed"
        at = ("on_store_failure",)
        return Failed(Failure.LIMITS_UNKNOWN, detail, headers=again, why=why, by=self._name, at=at)

    def _refusal(self, exchange: Exchange, refused: list[tuple[Policy, float, str]]) -> Failed:
        """The failure of the rule with the longest wait: after it, all rules admit the request."""
        policy, wait, who = max(refused, key=lambda one: one[1])
        if exchange.decisions is None:
            for one, _, _ in refused:
                self._telemetry.rate_limited.add((route_name(exchange), one.name))
        listed = ", ".join(self._items(exchange))
        unix = floor(self._wall())
        return refusal(exchange, policy, wait, unix, listed, self._name, self._message, who)

    def _items(self, exchange: Exchange) -> list[str]:
        found = [rule.policy(exchange) for rule in self._rules if not rule.shadow]
        return [policy.item for policy in found if policy is not None]

    # Asking the ledger.

    @own
    async def _ask(self, exchange: Exchange, asks: list[Hit], hits: list[Hit]) -> None:
        """Ask the ledger for all at once; adds to `hits`. Raises Failed once those are given
        back."""
        ledger = self._ledger
        assert ledger is not None
        asks = [ask._replace(slot=slot_name()) if ask.rule.at_a_time else ask for ask in asks]
        before = len(hits)
        # Before waiting: should the client leave meanwhile, slots are given back all the same.
        hits += asks
        keys: list[bytes] = []
        terms: list[bytes] = []
        for ask in asks:
            assert ask.shared is not None
            keys.append(ask.shared.key(ask.key))
            terms += ask.shared.terms(ask.cost, ask.rule.shadow, ask.slot)
        try:
            told = await ledger.take(keys, terms)
        except StoreDown:
            del hits[before:]
            for ask in asks:
                let_go(ask)  # The slot may still be taken, late.
            self._take_without_ledger(exchange, [ask.rule for ask in asks], hits)
        else:
            del hits[before:]
            self._hear(exchange, asks, told, hits)
        self._show(exchange, hits)

    def _hear(self, exchange: Exchange, asks: list[Hit], told: Told, hits: list[Hit]) -> None:
        """Add what the ledger has taken to `hits`. Raises Failed when it has refused."""
        refused, at, taken = [], told[-1], []
        for ask, left, back in zip(asks, told[:-1:2], told[1::2], strict=True):
            if left >= 0:
                taken.append(ask._replace(left=left / 1e6, back=back / 1e6, at=at))
            elif ask.rule.shadow:
                self._shadowed(exchange, ask.policy, ask.rule.who)
            else:
                refused.append((ask.policy, back / 1e6, ask.rule.who))
        if refused:
            self._give_back(hits)
            raise self._refusal(exchange, refused)
        hits += taken
        for hit in taken:
            if hit.slot and hit.shared is not None:
                hit.shared.hold(hit.key, hit.slot)

    def _take_without_ledger(
        self, exchange: Exchange, rules: list[LimitRule], hits: list[Hit]
    ) -> None:
        try:
            self._take(exchange, rules, hits, down=True)
        except Failed:
            self._give_back(hits)
            raise

    def _give_back(self, hits: list[Hit]) -> None:
        for hit in hits:
            refund(hit, hit.cost, self._clock)
        hits.clear()

    def _show(self, exchange: Exchange, hits: list[Hit]) -> None:
        """Write the headers: all policies, and the numbers of the one with the smallest part
        left."""
        tightest: Hit | None = None
        least = 2.0
        items = []
        for hit in hits:
            if hit.rule.shadow:
                continue
            items.append(hit.policy.item)
            share = hit.left / hit.limit.quota
            if hit.left <= hit.policy.near:
                self._near(exchange, hit.policy)
            if share < least:
                tightest, least = hit, share
        if tightest is not None:
            left, seconds = floor(tightest.left + LEAST_COST), ceil(tightest.back)
            unix = floor(self._wall())
            write_headers(exchange, tightest.policy, left, seconds, unix, ", ".join(items))

    def _near(self, exchange: Exchange, policy: Policy) -> None:
        """Count a request that leaves little of a limit."""
        self._telemetry.rate_near.add((route_name(exchange), policy.name))

    # Afterwards.

    def response(self, exchange: Exchange, reply: Reply) -> None:
        """Count what the upstream says the request has cost, and keep it from the client."""
        hits: list[Hit] = exchange.notes.get(self, [])
        for hit in hits:
            name = hit.rule.cost_header
            value = reply.index.get(name) if name else None
            if value is None and hit.cost == LEAST_COST:
                refund(hit, hit.cost, self._clock)
            elif value is not None:
                cost = reported_cost(value, hit)
                if cost > hit.cost:
                    charge(hit, cost - hit.cost, self._clock)
                elif cost < hit.cost:
                    refund(hit, hit.cost - cost, self._clock)
        for name in self.cost_headers:
            if name in reply.index:
                reply.remove(name)

    def release(self, exchange: Exchange) -> None:
        """Give slots back."""
        hits: list[Hit] = exchange.notes.pop(self, [])
        for hit in hits:
            if hit.slot:
                let_go(hit)
            elif hit.rule.at_a_time:
                refund(hit, hit.cost, self._clock)

    # Looking.

    def status(self, exchange: Exchange) -> Any:
        """What this caller may still do, without counting anything; awaitable where a ledger is
        asked.

        Times in seconds; `reset` is a Unix time.
        """
        if self.awaited_status:
            return self._status(exchange)
        return self._inspector.shown(self._inspector.known(exchange))

    @own
    async def _status(self, exchange: Exchange) -> list[dict[str, Any]]:
        if self._body:
            await read_body(exchange, MAX_BODY, self._body)
        return self._inspector.shown(await self._inspector.asked(exchange))

    def _explain(self, exchange: Exchange, decisions: list[Decision]) -> Awaitable[None] | None:
        """Say what would be decided, rule by rule."""
        if self.awaited_status:
            return self._explain_shared(exchange, decisions)
        self._explained(exchange, decisions, self._inspector.known(exchange))
        return None

    @own
    async def _explain_shared(self, exchange: Exchange, decisions: list[Decision]) -> None:
        self._explained(exchange, decisions, await self._inspector.asked(exchange))

    def _explained(
        self, exchange: Exchange, decisions: list[Decision], found: list[Inspection]
    ) -> None:
        refused = self._inspector.explained(exchange, decisions, found)
        if refused:
            raise self._refusal(exchange, refused)
