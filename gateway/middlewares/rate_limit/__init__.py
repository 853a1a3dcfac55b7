"""`rate_limit`: how many requests a caller may make, and telling it so on every reply.

Hooks: `request` counts and refuses; `response` is only needed where the upstream sends limits of its own, which it removes. The
limits appear on every reply without it, failures included. How requests are counted is gateway/state/limits.py.

Who shares a bucket: one caller has one bucket per pipeline, instance and policy, so all routes of a pipeline that use the class
"strict" count together; `scope = "route"` counts every route apart. A route that overrides a limit given in numbers rather than
as a class has buckets of its own, named after the route.

Callers: `key = "ip"` is the client's address (an IPv6 /64, which is what one subscriber gets), "client" the identity's client and
the address of those without an identity, "global" everybody together.
"""

from __future__ import annotations

import socket
from collections.abc import Hashable, Mapping
from copy import deepcopy
from math import ceil, floor
from typing import Any

from gateway.core.exchange import Decision, Exchange, Reply
from gateway.core.failures import Failed, Failure
from gateway.core.headers import Pair
from gateway.core.hooks import Context, Hooks
from gateway.middlewares.rate_limit.policy import Policy, RateLimitConfig, RateLimitTable, policies

CONFIG = RateLimitTable

NAMES = (b"x-ratelimit-limit", b"x-ratelimit-remaining", b"x-ratelimit-reset", b"ratelimit-policy", b"ratelimit")
"""The fields this middleware sends, lower case."""


Note = tuple[Policy, int, int, str, bytes]
"""What the instances of one pipeline tell each other: whose numbers are shown, left, seconds, all policies, the block."""

_NOTE = "rate_limit"


class RateLimit:
    """One instance in one pipeline, or on one route that overrides it. Calling it is the request hook."""

    __slots__ = (
        "_config",
        "_context",
        "_counts",
        "_default",
        "_max_keys",
        "_monotonic",
        "_of_client",
        "_of_everybody",
        "_of_route",
        "_tiers",
        "_wall",
    )

    def __init__(self, config: RateLimitConfig, context: Context, default: Policy, tiers: Mapping[str, Policy]) -> None:
        self._config = config
        self._context = context
        self._default = default
        self._tiers = tiers
        self._max_keys = config.max_keys
        self._of_client = config.key == "client"
        self._of_everybody = config.key == "global"
        self._of_route = config.scope == "route"
        self._monotonic = context.clock.monotonic
        self._wall = context.clock.wall
        self._counts = context.telemetry.rate_limited

    def __repr__(self) -> str:
        return f"<RateLimit {self._context.name} by {self._config.key}: {self._default.item}>"

    def __call__(self, exchange: Exchange) -> None:
        """Counts the request. Raises Failed(RATE_LIMITED) when there is no room for it."""
        identity = exchange.identity
        policy = self._default
        if self._tiers and identity is not None:
            policy = self._tiers.get(identity.tier, policy)
        if identity is not None and self._of_client and not self._of_route:
            key: Hashable = identity.client
        else:
            key = self._key(exchange)
        if exchange.decisions is not None:
            return self._explain(exchange, exchange.decisions, policy, key)

        now = self._monotonic()
        buckets = policy.buckets
        limit = policy.limit
        if now >= buckets.due:
            buckets.sweep(limit, now)
            buckets.epoch = self._wall() - now
        state = buckets.live.get(key)
        if state is None:
            state = buckets.open(key, limit, now, self._max_keys)
        state, left, back = policy.take(state, limit, now)
        buckets.live[key] = state
        if left < 0.0:
            self._counts.add((_route(exchange), policy.name))
            raise self._refusal(exchange, policy, back)

        remaining, seconds = floor(left), ceil(back)
        blocks = exchange.reply_blocks
        if blocks is not None and _NOTE in exchange.notes:
            self._share(exchange, blocks, policy, remaining, seconds)
            return None
        # Policy.lines, written out: the one thing every admitted request pays for.
        block = (
            f"{policy.head}{remaining}\r\nX-RateLimit-Reset: {floor(now + buckets.epoch) + seconds}"
            f"{policy.middle}{remaining};t={seconds}\r\n"
        ).encode()
        exchange.notes[_NOTE] = (policy, remaining, seconds, policy.item, block)
        if blocks is None:
            exchange.reply_blocks = [block]
        else:
            blocks.append(block)
        return None

    def status(self, exchange: Exchange) -> list[dict[str, Any]]:
        """What this caller may still do here, without counting anything. Times in seconds; `reset` is a Unix time."""
        identity = exchange.identity
        policy = self._default if identity is None else self._tiers.get(identity.tier, self._default)
        state = policy.buckets.find(self._key(exchange))
        left, back = policy.buckets.algorithm.left(state, policy.limit, self._monotonic())
        shown: dict[str, Any] = {
            "policy": policy.name,
            "key": self._config.key,
            "algorithm": self._config.algorithm,
            "limit": int(policy.limit.quota),
            "window": policy.limit.window,
            "remaining": floor(left),
            "reset": floor(self._wall()) + ceil(back),
        }
        if policy.limit.burst and self._config.algorithm == "token_bucket":
            shown["burst"] = policy.limit.burst
        return [shown]

    @staticmethod
    def response(exchange: Exchange, reply: Reply) -> None:
        """Removes what the upstream says about limits of its own: one reply, one account."""
        for name in NAMES:
            if name in reply.index:
                reply.remove(name)

    def _key(self, exchange: Exchange) -> Hashable:
        key: Hashable
        if self._of_everybody:
            key = ""
        elif self._of_client and exchange.identity is not None:
            key = exchange.identity.client
        else:
            key = address_key(exchange.client_ip)
            if self._of_client:
                key = (key,)  # a client may be called "127.0.0.1"
        return (_route(exchange), key) if self._of_route else key

    def _share(self, exchange: Exchange, blocks: list[bytes], policy: Policy, left: int, seconds: int) -> None:
        """A second instance: the block of the first is replaced by one that lists both and shows the tighter."""
        note: Note = exchange.notes[_NOTE]
        other, other_left, other_seconds, listed, block = note
        listed = f"{listed}, {policy.item}"
        unix = floor(self._monotonic() + policy.buckets.epoch)
        if left * other.limit.quota > other_left * policy.limit.quota:
            policy, left, seconds = other, other_left, other_seconds
        new = policy.lines(left, unix + seconds, seconds, listed)
        blocks[blocks.index(block)] = new
        exchange.notes[_NOTE] = (policy, left, seconds, listed, new)

    def _refusal(self, exchange: Exchange, policy: Policy, wait: float) -> Failed:
        """The failure of a request that would be admitted in `wait` seconds."""
        seconds = max(1, ceil(wait))
        listed = policy.item
        note: Note | None = exchange.notes.pop(_NOTE, None)
        if note is not None and exchange.reply_blocks is not None:
            # The failure's own headers say it all now.
            exchange.reply_blocks.remove(note[4])
            listed = f"{note[3]}, {listed}"
        # While nothing is left, the reset is when the next request would be admitted: Retry-After must not be earlier than it
        # (draft-ietf-httpapi-ratelimit-headers, section "Server Behavior").
        lines = policy.lines(0, floor(self._wall()) + seconds, seconds, listed)
        return Failed(
            Failure.RATE_LIMITED,
            self._config.message or f"Too many requests. Try again in {seconds} second{'s' if seconds > 1 else ''}.",
            headers=(*_pairs(lines), (b"Retry-After", b"%d" % seconds)),
            by=self._context.name,
            why=f"limit {policy.item} by {self._config.key} used up, {wait:.3f} s to wait",
        )

    def _explain(self, exchange: Exchange, decisions: list[Decision], policy: Policy, key: Hashable) -> None:
        """Says what would be decided, on a copy of the state."""
        _, left, back = policy.take(deepcopy(policy.buckets.find(key)), policy.limit, self._monotonic())
        who = self._config.key
        if self._of_client and exchange.identity is None:
            who = "ip, for want of an identity"
        if left < 0.0:
            decisions.append(Decision(self._context.name, "limited", f"{policy.item} by {who}: {back:.3f} s to wait"))
            raise self._refusal(exchange, policy, back)
        decisions.append(Decision(self._context.name, "admitted", f"{policy.item} by {who}: {floor(left)} left after it"))


def address_key(address: str) -> str:
    """What an address counts as: itself, or for IPv6 its /64 as hexadecimal; IPv4 within IPv6 is IPv4 (RFC 4291 2.5.5.2)."""
    if ":" not in address:
        return address
    try:
        packed = socket.inet_pton(socket.AF_INET6, address.partition("%")[0])
    except OSError:
        return address
    if packed.startswith(b"\0\0\0\0\0\0\0\0\0\0\xff\xff"):
        return socket.inet_ntoa(packed[12:])
    return packed[:8].hex()


def build(config: RateLimitConfig, context: Context) -> Hooks:
    """The middleware. Raises ConfigProblem when the limits do not make sense together."""
    limiter = RateLimit(config, context, *policies(config, context))
    return Hooks(request=limiter, response=limiter.response)


def _route(exchange: Exchange) -> str:
    """The matched route's name, "" outside of any."""
    return "" if exchange.route is None else exchange.route.name


def _pairs(lines: bytes) -> list[Pair]:
    pairs = []
    for line in lines.splitlines():
        name, _, value = line.partition(b": ")
        pairs.append((name, value))
    return pairs
