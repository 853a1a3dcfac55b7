"""`builtin = "limits"`: every limit of the caller, without using any of them up."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any, Protocol

from gateway.builtins.answers import answered
from gateway.core.exchange import Exchange, Reply

Entry = dict[str, Any]
Status = Callable[[Exchange], "list[Entry] | Awaitable[list[Entry]]"]

POLICY = "RateLimit-Policy"
HEADERS = ("RateLimit", "X-RateLimit-Limit", "X-RateLimit-Remaining", "X-RateLimit-Reset")
PERIODS = {"hour": "hourly", "day": "daily", "month": "monthly"}


class Limited(Protocol):
    """A route, as far as its limits go. `status`: what each of them says about a caller."""

    @property
    def name(self) -> str: ...
    @property
    def status(self) -> tuple[Status, ...]: ...


def limits(others: Callable[[], Iterable[Limited]]) -> Callable[[Exchange], Awaitable[Reply]]:
    """Return the target. others: the routes whose limits are told beside those of its own."""

    async def answer(exchange: Exchange) -> Reply:
        return answered(await told(exchange, others()))

    return answer


async def told(exchange: Exchange, others: Iterable[Limited]) -> dict[str, Any]:
    """Return every limit of a caller. others: the routes beside its own."""
    own = exchange.route.status
    entries = with_headers(await asked(own, exchange))
    groups: dict[tuple[Status, ...], list[Limited]] = {}
    for route in others:
        if route.status and route.status != own:
            groups.setdefault(route.status, []).append(route)
    routes = []
    for status, same in groups.items():
        # A limit may go by the route, so each group is asked as one of its routes.
        asking = exchange.beside(exchange.method, exchange.target, exchange.raw_headers)
        asking.route, asking.params, asking.notes = same[0], exchange.params, exchange.notes
        asking.body = exchange.body
        found = with_headers(await asked(status, asking))
        routes.append({"routes": [one.name for one in same], "limits": found})
    said: dict[str, Any] = {"limits": entries}
    if left := quotas(entries):
        said["quotas"] = left
    if exchange.identity is not None:
        said = {"client": exchange.identity.client, **said}
    if routes:
        said["routes"] = routes
    return said


def with_headers(entries: list[Entry]) -> list[Entry]:
    """Say of limits that count together which headers tell of each: RateLimit-Policy of all, the
    others of the one with the smallest part left. Limits in shadow are in none."""
    shown = [one for one in entries if not one.get("shadow")]
    tightest = min(shown, key=lambda one: one["remaining"] / (one.get("limit") or 1), default=None)
    return [
        {**one, "headers": [] if one.get("shadow") else [POLICY, *(HEADERS * (one is tightest))]}
        for one in entries
    ]


async def asked(status: Sequence[Status], exchange: Exchange) -> list[Entry]:
    """Return what these limits say about a caller; those in a shared store are waited for."""
    found: list[Entry] = []
    for one in status:
        entries = one(exchange)
        found += entries if isinstance(entries, list) else await entries
    return found


def quotas(entries: Iterable[Entry]) -> dict[str, Entry]:
    """Return the quotas among limits, by "daily" and "monthly": what is used, of what, until when.

    Of several of one period the one with the least left.
    """
    found: dict[str, Entry] = {}
    for entry in entries:
        if "period" not in entry:
            continue
        name, left = PERIODS[entry["period"]], entry["remaining"]
        if name not in found or left < found[name]["limit"] - found[name]["used"]:
            found[name] = {"used": entry["limit"] - left, "limit": entry["limit"]}
            if "reset" in entry:
                found[name]["reset"] = entry["reset"]
    return found
