"""Asks a service what plan a client has, and tells the upstream.

    request = ["auth", "lookup"]

    [lookup]
    url = "http://plans.internal/clients/"     # the client's name is added
    timeout = "200ms"
    ttl = "1m"

The service answers `{"plan": "gold"}`. What it said is kept for `ttl`, of at most 10,000 clients
and across reloads. While it does not answer, an answer that is older serves, and without one
`on_failure` decides.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Awaitable
from dataclasses import dataclass, field
from urllib.parse import quote

from gateway.config.tables.declare import setting, table
from gateway.config.tables.schema import Choice, Duration, HttpUrl
from gateway.core.exchange import Decision, Exchange, Reply
from gateway.core.failures import Failed
from gateway.core.hooks import Context, Hooks

MOST = 10_000
"""Clients whose plan is remembered, the last used ones."""


@table
class LookupConfig:
    """Asks a service what plan a client has."""

    url: str = setting(HttpUrl(), doc="where it is asked; the client's name is added")
    timeout: float = setting(Duration(), default=0.2, doc="for an answer")
    ttl: float = setting(Duration(), default=60.0, doc="how long an answer holds")
    on_failure: str = setting(
        Choice("closed", "open"), default="closed", doc="without an answer: 503, or no header"
    )


CONFIG = LookupConfig


@dataclass
class Plans:
    """What is known: by client the plan, and until when it holds (monotonic seconds)."""

    known: OrderedDict[str, tuple[str, float]] = field(default_factory=OrderedDict)

    def remember(self, client: str, plan: str, until: float) -> None:
        self.known[client] = (plan, until)
        self.known.move_to_end(client)
        if len(self.known) > MOST:
            self.known.popitem(last=False)


def build(config: LookupConfig, context: Context) -> Hooks:
    plans: Plans = context.keep(("lookup", config.url), None, Plans)
    results = context.metric("lookup", "Plans looked up", labels=("result",))
    failed = context.failure("LOOKUP_001", 503, "Plans cannot be looked up")
    now = context.clock.monotonic

    async def ask(client: str, exchange: Exchange) -> str:
        url = config.url + quote(client, safe="")
        answer = await context.http.get(url, timeout=config.timeout, exchange=exchange)
        if answer.status != 200:
            raise Failed(failed, why=f"the service answered {answer.status}", by=context.name)
        plan = str(answer.json()["plan"])
        plans.remember(client, plan, now() + config.ttl)
        return plan

    def tell(exchange: Exchange, plan: str) -> None:
        header = (b"X-Plan", plan.encode())
        exchange.forward_headers = [*(exchange.forward_headers or ()), header]

    async def look_up(exchange: Exchange, client: str) -> None:
        try:
            plan = await ask(client, exchange)
            results.add("asked")
        except (Failed, ValueError, KeyError, TypeError) as error:
            older = plans.known.get(client)
            results.add("stale" if older else "failed")
            if older is None:
                if config.on_failure == "closed":
                    raise Failed(
                        failed, headers=((b"Retry-After", b"1"),), why=str(error), by=context.name
                    ) from None
                return
            plan = older[0]
        tell(exchange, plan)

    def request(exchange: Exchange) -> Awaitable[Reply | None] | None:
        # What a client says about its own plan goes in any case.
        exchange.drop_headers = (exchange.drop_headers or frozenset()) | {b"x-plan"}
        if exchange.identity is None:
            return None
        client = exchange.identity.client
        known = plans.known.get(client)
        if known is not None and now() < known[1]:
            plans.known.move_to_end(client)
            tell(exchange, known[0])
            return None
        if exchange.decisions is not None:
            exchange.decisions.append(Decision(context.name, "skipped", "it would be asked"))
            return None
        return look_up(exchange, client)  # Waits only when it must: the hook itself is plain.

    return Hooks(request=request)
