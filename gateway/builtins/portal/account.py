"""What the portal tells a partner: limits, usage, the last failures, deprecations, keys, links."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gateway.builtins.limits import Limited, told
from gateway.builtins.portal.keys import OwnKeys
from gateway.builtins.usage import usage_of
from gateway.config.tables.pipeline import PipelineConfig, RouteConfig
from gateway.core.exchange import Exchange, Identity
from gateway.usage.meter import Meter

FAILURES = 50
"""Failures that are shown."""
Recent = Callable[[int, Mapping[str, str]], Awaitable[Sequence[Mapping[str, Any]]]]
"""Returns the last requests that were refused or failed, the newest first, with these fields."""


@dataclass(frozen=True, slots=True)
class Account:
    """Where it is found. keys: None where the pipeline takes none. beside: the routes with
    limits."""

    pipeline: PipelineConfig
    pipelines: Sequence[PipelineConfig]
    meter: Meter | None
    recent: Recent
    keys: OwnKeys | None
    beside: Callable[[], Iterable[Limited]]

    async def shown(self, identity: Identity, asking: Exchange, now: float) -> dict[str, Any]:
        """Return everything about one partner. asking: an exchange of its own. Raises Failed."""
        usage, problem = None, ""
        try:
            usage = await usage_of(self.meter, identity.client, self.pipelines, now)
        except OSError:
            problem = "Usage cannot be looked up at the moment."
        links = links_of(self.pipeline, self.pipelines)
        wanted = {"client": identity.client}
        failures = [_failure(one, links) for one in await self.recent(FAILURES, wanted)]
        return {
            "client": identity.client,
            "tier": identity.tier or None,
            "method": identity.method,
            "permissions": sorted(identity.permissions),
            "limits": await self._limits(asking),
            "usage": usage,
            "usage_problem": problem,
            "failures": failures,
            "keys": None if self.keys is None else await self.keys.shown(identity, now),
            "overlap": None if self.keys is None else self.keys.overlap,
            "notices": notices(self.pipeline, usage, now),
            "links": links,
        }

    async def _limits(self, asking: Exchange) -> list[dict[str, Any]]:
        """Return the limits by the routes that count together."""
        beside = list(self.beside())
        own = asking.route.status
        said = await told(asking, beside)
        groups: list[dict[str, Any]] = list(said.get("routes", ()))
        if said["limits"] and (same := [one.name for one in beside if one.status == own]):
            groups.insert(0, {"routes": same, "limits": said["limits"]})
        return groups


def links_of(pipeline: PipelineConfig, pipelines: Iterable[PipelineConfig]) -> dict[str, str]:
    """Return where the documents are, those of the same pipeline first."""
    found: dict[str, str] = {}
    for one in (pipeline, *pipelines):
        for route in one.routes:
            if route.builtin in ("docs", "openapi", "errors"):
                for match in route.matches()[:1]:
                    found.setdefault(route.builtin, (match.path or match.prefix).partition("{")[0])
    return found


def notices(
    pipeline: PipelineConfig, usage: Mapping[str, Any] | None, now: float
) -> list[dict[str, Any]]:
    """Return the routes that a partner has used, or may have, and that come to an end."""
    used: dict[str, int] = {}
    for one in (usage or {}).get("endpoints", ()):
        used[one["route"]] = used.get(one["route"], 0) + one["requests"]
    found = []
    for route in pipeline.routes:
        ends = route.deprecated is not None or route.sunset is not None or route.retired
        if ends and (usage is None or used.get(route.name)):
            found.append(
                {
                    "route": route.name,
                    "path": route.path or route.prefix,
                    "version": route.version or None,
                    "state": _state(route, now),
                    "deprecated": route.deprecated,
                    "sunset": route.sunset,
                    "successor": route.successor or None,
                    "requests": used.get(route.name),
                }
            )
    return sorted(found, key=lambda one: (one["sunset"] is None, one["sunset"] or 0))


def _state(route: RouteConfig, now: float) -> str:
    if route.retired or (route.sunset is not None and now >= route.sunset):
        return "retired"
    return "deprecated" if route.deprecated is None or now >= route.deprecated else "active"


def _failure(one: Mapping[str, Any], links: Mapping[str, str]) -> dict[str, Any]:
    """Return what a partner may know of a request that failed: what its answer said."""
    page = links.get("errors", "")
    code = one.get("code")
    return {
        "time": one["time"],
        "id": one["request"]["id"],
        "method": one["request"]["method"],
        "path": one["request"]["path"],
        "status": one["status"],
        "code": code,
        "detail": one.get("detail"),
        "page": f"{page.rstrip('/')}/{code}" if page and code else None,
    }
