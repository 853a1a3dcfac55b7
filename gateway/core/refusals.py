"""How a method says no."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gateway.core.failures import NO_FACTS, Failure
from gateway.core.headers import Pair


class Refused(Exception):
    """Credentials that are no good.

    Neither the message nor `why` may hold any part of them that is secret.

    result: one of a few words, for the metric. why: for operators. detail: one sentence for the
            client.
    headers: for the reply, beside any challenge. facts, client, at: as those of Failed.
    """

    def __init__(
        self,
        result: str,
        why: str,
        *,
        detail: str,
        failure: Failure = Failure.UNAUTHENTICATED,
        headers: tuple[Pair, ...] = (),
        facts: Mapping[str, Any] = NO_FACTS,
        client: str = "",
        at: tuple[str | int, ...] = (),
    ) -> None:
        super().__init__(result, why)
        self.result = result
        self.why = why
        self.detail = detail
        self.failure = failure
        self.headers = headers
        self.facts = facts
        self.client = client
        self.at = at
