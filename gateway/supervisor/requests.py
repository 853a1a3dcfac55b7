"""What all workers remember of requests, and what one of them says of others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from gateway.serving.dry_run import Question
from gateway.supervisor.crew import Crew
from gateway.supervisor.member import ask_all


class RequestsOfWorkers:
    """The Requests of a gateway of several workers."""

    def __init__(self, crew: Crew) -> None:
        self._crew = crew

    async def why(self, request_id: str) -> Mapping[str, Any] | None:
        found = [one for one in await self._ask("why", request_id) if one is not None]
        return max(found, key=lambda one: one["time"], default=None)

    async def recent(self, most: int, wanted: Mapping[str, str]) -> Sequence[Mapping[str, Any]]:
        found = [one for each in await self._ask("recent", most, dict(wanted)) for one in each]
        return sorted(found, key=lambda one: one["time"], reverse=True)[:most]

    async def explain(self, question: Question) -> Mapping[str, Any] | None:
        members = [one for one in self._crew.members.values() if one.serving]
        found = await ask_all(members[:1], "explain", tuple(question))
        return found[0] if found else None

    async def _ask(self, kind: str, *body: Any) -> list[Any]:
        return await ask_all(self._crew.members.values(), kind, *body)
