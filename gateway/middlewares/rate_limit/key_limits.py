"""Limits that API keys bring along: `limit` of a key is a class of the configuration, or a rate
such as "100/1m".

Keys come and go while the gateway runs, so a rate becomes a policy when it is first seen. What is
counted by it is kept across reloads like every other count.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Hashable, Mapping
from dataclasses import replace
from typing import Any

from gateway.core.exchange import Exchange
from gateway.core.hooks import ConfigProblem, Context
from gateway.credentials.api_keys.key_file import rate
from gateway.lifetime.registry import close_all
from gateway.middlewares.rate_limit.config import ClassConfig
from gateway.middlewares.rate_limit.policy import Policy, PolicyMaker

log = logging.getLogger("gateway.rate_limit")

MAX_RATES = 1000
"""Different rates at a time; keys with others have the limit of callers without a key."""


class KeptCounts:
    """What the rates of one rule have counted, by policy; kept across reloads as one object."""

    def __init__(self) -> None:
        self._entries: dict[tuple[str, ...], tuple[object, Any]] = {}

    def keep(
        self,
        key: tuple[str, ...],
        fingerprint: object,
        make: Callable[[], Any],
        settings: object = None,
    ) -> Any:
        """As Context.keep, without settings: another rate has another name."""
        known = self._entries.get(key)
        if known is None or known[0] != fingerprint:
            if known is not None:
                close_all([known[1]])
            known = self._entries[key] = fingerprint, make()
        return known[1]

    def close(self) -> None:
        close_all(kept for _, kept in self._entries.values())


class KeyLimits:
    """The limits that keys may bring to one rule. `made`: called with each policy made later."""

    def __init__(self, maker: PolicyMaker, classes: Mapping[str, ClassConfig]) -> None:
        context = maker.context
        name = ("rate_limit", "key limits", context.pipeline, context.name, *maker.below)
        kept: KeptCounts = context.keep(name, maker.rule.algorithm, KeptCounts)
        self.context: Context = replace(context, keep=kept.keep)
        self._maker = replace(maker, context=self.context)
        self.classes: dict[str, Policy] = {}
        for one, numbers in classes.items():
            try:
                self.classes[one] = maker.policy(one, numbers, ("classes", one))
            except ConfigProblem:  # of another algorithm: for other rules
                continue
        self.made: Callable[[Policy], None] = _nothing
        self._by_text: dict[str, Policy | None] = dict(self.classes)

    def of(self, text: str) -> Policy | None:
        """The policy for the `limit` of a key; None when there is none of that name."""
        if text in self._by_text:
            return self._by_text[text]
        found, numbers = None, rate(text)
        if numbers is None:
            log.warning(
                "%s: a key has the limit %r, which is no class here", self.context.name, text
            )
        elif len(self._by_text) >= MAX_RATES + len(self.classes):
            log.warning(
                "%s: keys have more than %d limits; %r is not held to",
                self.context.name,
                MAX_RATES,
                text,
            )
            return None
        else:
            found = self._maker.policy(text, ClassConfig(limit=numbers[0], window=numbers[1]), ())
            self.made(found)
        self._by_text[text] = found
        return found

    def reader(
        self, read: Callable[[Exchange], Hashable], by_route: bool
    ) -> Callable[[Exchange], Hashable]:
        """Counts callers with a limit of their own by key rather than as `read` says."""

        def key(exchange: Exchange) -> Hashable:
            identity = exchange.identity
            if identity is None or not identity.limit or self.of(identity.limit) is None:
                return read(exchange)
            own = ("key", str(identity.claims.get("key")))
            return (
                (exchange.route.name if exchange.route is not None else "", own)
                if by_route
                else own
            )

        return key


def _nothing(policy: Policy) -> None:
    pass
