"""One rule at work: who it applies to, what a request costs, where it is counted, and what a shared store is told about it."""

from __future__ import annotations

import os
import re
from collections.abc import Hashable
from itertools import count

from gateway.core.exchange import Exchange, Identity
from gateway.core.hooks import Context
from gateway.core.networks import Networks
from gateway.limits.algorithms import NEVER, Limit, Taking
from gateway.limits.buckets import Buckets
from gateway.limits.leases import Leases
from gateway.limits.ledger import SLOT_SECONDS, Ledger, limit_terms
from gateway.middlewares.rate_limit.config import ExemptConfig, RuleConfig
from gateway.middlewares.rate_limit.keys import Key, parts, quoted, reader, text
from gateway.middlewares.rate_limit.policy import Policy
from gateway.middlewares.rate_limit.rule_policies import Policies

_process = os.urandom(6).hex()
_numbers = count()

SLOT = b"%d" % SLOT_SECONDS

_IN_NAMES = re.compile("[%:/{}]")
"""What separates the names that end a ledger's key."""


class Exempt:
    """Whether a caller is not limited."""

    __slots__ = ("_clients", "_networks", "_roles", "_tiers")

    def __init__(self, config: ExemptConfig) -> None:
        self._networks = Networks(config.networks)
        self._clients = frozenset(config.clients)
        self._tiers = frozenset(config.tiers)
        self._roles = frozenset(config.roles)

    def __call__(self, exchange: Exchange, identity: Identity | None) -> bool:
        if identity is not None and (
            identity.client in self._clients or identity.tier in self._tiers or not self._roles.isdisjoint(identity.roles)
        ):
            return True
        return bool(self._networks) and exchange.client_ip in self._networks


class Rule:
    """A compiled rule. `mode` is "memory", "exact" or "leased"."""

    __slots__ = (
        "_costs", "_default_cost", "_exempt", "_methods", "_own", "_roles", "_tiers", "algorithm", "always", "at_a_time",
        "body", "cost_header", "default", "flat_cost", "key", "mode", "on_failure", "policies", "remotes", "shadow", "unit",
        "wall", "who",
    )  # fmt: skip

    def __init__(self, config: RuleConfig, policies: Policies, context: Context, tag: str | None) -> None:
        ledger: Ledger | None = context.ledger
        self.algorithm = config.algorithm
        self.default = policies.default
        self.policies = policies.each()
        self._tiers = policies.tiers
        self._roles = policies.roles
        self.key: Key = reader(config.key, config.scope)
        self._own = policies.own
        if self._own is not None:
            self.key = self._own.reader(self.key, config.scope == "route")
        self.who = "+".join(parts(config.key))
        self.body = frozenset(part.removeprefix("body:") for part in parts(config.key) if part.startswith("body:"))
        methods = frozenset(config.methods)
        self._methods = (methods | {"HEAD"} if "GET" in methods else methods) or None
        costs = dict(config.costs)
        if "GET" in costs:
            costs.setdefault("HEAD", costs["GET"])
        self._default_cost = costs.pop("*", 1)
        self._costs = costs
        self.unit = not costs and self._default_cost == 1  # whether every request costs one
        self.cost_header = config.cost_header.lower().encode()
        self._exempt = Exempt(config.exempt) if config.exempt != ExemptConfig() else None
        self.shadow = config.shadow
        self.at_a_time = config.algorithm == "concurrency"
        self.wall = self.default.buckets.algorithm.wall
        self.on_failure = config.on_store_failure
        self.mode = "memory" if ledger is None else config.mode
        # What is the same for every request is not asked for again.
        same = not (self._methods or self._exempt or self._tiers or self._roles or self._own)
        self.always = self.default if same else None
        self.flat_cost = 0 if costs else self._bounded(self._default_cost, self.default) if same else 0
        self.remotes: dict[str, Remote] = {}
        if ledger is not None:
            for policy in self.policies:
                if policy.limit.quota:  # for nothing at all, nobody has to be asked
                    self.remotes[policy.name] = Remote(config, policy, context, ledger, tag)
            if (own := self._own) is not None:
                own.made = lambda policy: self.remotes.update({policy.name: Remote(config, policy, own.context, ledger, tag)})

    def __repr__(self) -> str:
        return f"<Rule {self.default.item} by {self.who} {self.mode}>"

    def policy(self, exchange: Exchange) -> Policy | None:
        """The policy for this request; None when it is not limited here."""
        identity = exchange.identity
        if self._methods is not None and exchange.method not in self._methods:
            return None
        if self._exempt is not None and self._exempt(exchange, identity):
            return None
        if identity is not None:
            if self._own is not None and identity.limit and (mine := self._own.of(identity.limit)) is not None:
                return mine
            if self._tiers and (found := self._tiers.get(identity.tier)) is not None:
                return found
            if self._roles:
                for role, policy in self._roles.items():
                    if role in identity.roles:
                        return policy
        return self.default

    def cost(self, exchange: Exchange, policy: Policy) -> float:
        """Units that the request costs, never more than the whole limit."""
        return self._bounded(self._costs.get(exchange.method, self._default_cost), policy)

    @staticmethod
    def _bounded(units: float, policy: Policy) -> float:
        quota = policy.limit.quota
        return units if units <= quota else quota or units


class Remote:
    """One policy in a shared store: its keys, its arguments, and what counts here when the store does not answer."""

    __slots__ = (
        "_algorithm", "_among", "_limit", "_numbers", "_part", "_period", "_prefix", "_suffix", "_tag", "_wall",
        "leases", "ledger", "local",
    )  # fmt: skip

    def __init__(self, config: RuleConfig, policy: Policy, context: Context, ledger: Ledger, tag: str | None) -> None:
        limit = policy.limit
        self._limit = self._part = limit
        self._among = 1
        self._wall = context.clock.wall
        self._tag = tag
        self._prefix = "gateway:{" + (f"{quoted(tag)}}}:" if tag is not None else "")
        self._suffix = ":" + "/".join(quoted(part, _IN_NAMES) for part in policy.key[1:])
        self._algorithm = config.algorithm
        self._numbers = limit_terms(config.algorithm, limit)
        self._period: tuple[float, bytes, bytes, object] = (NEVER, b"", b"", None)
        self.ledger = ledger
        # Without the store, requests count here, by this gateway's part of the limit, beside what they were counted as there.
        self.local: Buckets = context.keep(("local", *policy.key), None, lambda: Buckets(config.algorithm, limit, context.clock))
        self.leases: Leases | None = None
        if config.mode == "leased":
            self.leases = context.keep(
                ("leases", *policy.key),
                (ledger, config.lease, tag),
                lambda: Leases(ledger, config.lease, self.command, context.clock, limit),
                limit,
            )

    def share(self) -> Buckets:
        """What counts here while the store is away: by this gateway's part of the limit."""
        gateways, local = self.ledger.gateways, self.local
        if gateways != self._among:
            self._among = gateways
            self._part = self._limit.shared(gateways)
        if local.limit is not self._part:
            local.adopt(self._part)
        return local

    def key(self, key: Hashable) -> bytes:
        """The store's key. What stands in braces decides on its place in a Cluster (Redis Cluster specification, hash tags)."""
        end = "" if self._tag is not None else "}"
        return f"{self._prefix}{text(key)}{end}{self._suffix}".encode("utf-8", "surrogatepass")

    def terms(self, cost: float, flag: float = 0, slot: bytes = b"") -> list[bytes]:
        """What the ledger is told, for a cost; `flag` is 1 for a shadow, or how much is wanted on lease."""
        own = (slot, SLOT) if slot else self._ends(self._limit)
        return [*self._numbers, b"%d" % cost, b"%d" % flag, *own]

    def refund(self, key: Hashable, units: float, taking: Taking, slot: bytes = b"") -> None:
        """Gives units back that were taken at a time of the ledger's, in microseconds."""
        self.ledger.refund(self.key(key), self.refund_terms(units, taking, slot))

    def refund_terms(self, units: float, taking: Taking, slot: bytes = b"") -> list[bytes]:
        """What the ledger is told to give units back, or a slot."""
        own: tuple[bytes, bytes] = slot, SLOT
        if not slot:
            ends = self._limit.ends
            own = b"%.17g" % (taking.left if ends is None else ends(taking.at / 1e6)), b""
        return [*self._numbers, b"%d" % units, b"%d" % taking.at, *own]

    def command(self, key: Hashable, limit: Limit, cost: float, wanted: float) -> tuple[bytes, list[bytes]]:
        """What a lease is settled with. Leases outlive this snapshot, so the limit is the one they are asked with."""
        # After a reload, debts and credit may be fractions of a unit.
        return self.key(key), [*limit_terms(self._algorithm, limit), b"%.17g" % cost, b"%d" % wanted, *self._ends(limit)]

    def _ends(self, limit: Limit) -> tuple[bytes, bytes]:
        """The end of the quota's period, and of the one after it: Redis' clock may be ahead of ours. Empty without a period."""
        ends, wall = limit.ends, self._wall()
        if ends is None:
            return b"", b""
        until, first, second, of = self._period
        if wall >= until or of is not ends:
            until = ends(wall)
            first, second = repr(until).encode(), repr(ends(until)).encode()
            self._period = (until, first, second, ends)
        return first, second


def slot_name() -> bytes:
    """A name for a request that takes a slot, unlike any other anywhere."""
    return f"{_process}-{next(_numbers)}".encode()
