"""What a process knows of requests: those that were, and those that might be."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from gateway.serving.dry_run import Question, explain
from gateway.serving.server import Runtime


class RequestsHere:
    """The Requests of a gateway of one process."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime

    async def why(self, request_id: str) -> Mapping[str, Any] | None:
        return self._runtime.services.why.find(request_id)

    async def recent(self, most: int, wanted: Mapping[str, str]) -> Sequence[Mapping[str, Any]]:
        return self._runtime.services.why.recent(most, wanted)

    async def explain(self, question: Question) -> Mapping[str, Any]:
        return await explain(self._runtime.snapshot, Question(*question))
