"""How a method says no."""

from __future__ import annotations

from gateway.core.failures import Failure


class Refused(Exception):
    """Credentials that are no good. Neither the message nor `why` may hold any part of them.

    result: one of a few words, for the metric. why: for operators. detail: one sentence for the client.
    """

    def __init__(self, result: str, why: str, *, detail: str, failure: Failure = Failure.UNAUTHENTICATED) -> None:
        super().__init__(result, why)
        self.result = result
        self.why = why
        self.detail = detail
        self.failure = failure
