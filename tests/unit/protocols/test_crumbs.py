"""Few small writes wait in a transport, and the bound goes when all have been taken."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from gateway.protocols.crumbs import CRUMBS, CrumbProtocol


class Recorded(asyncio.Transport):
    """Notes the limits it is given; None are its own."""

    def __init__(self, *, closing: bool = False) -> None:
        super().__init__()
        self.limits: list[int | None] = []
        self._is_closing = closing

    def set_write_buffer_limits(self, high: int | None = None, low: Any = None) -> None:
        self.limits.append(high)

    def is_closing(self) -> bool:
        return self._is_closing


def test_writing_pauses_with_the_last_that_may_wait_and_not_before():
    protocol, transport = CrumbProtocol(), Recorded()
    for _ in range(CRUMBS - 1):
        protocol.count_crumb(transport)
    assert transport.limits == []
    protocol.count_crumb(transport)
    assert transport.limits == [1]
    protocol.count_crumb(transport)
    assert transport.limits == [1]


@pytest.mark.parametrize("counted", [0, 1, CRUMBS - 1])
def test_limits_that_were_not_touched_are_left_alone(counted: int):
    protocol, transport = CrumbProtocol(), Recorded()
    for _ in range(counted):
        protocol.count_crumb(transport)
    protocol.crumbs_taken(transport)
    assert transport.limits == []


def test_it_counts_anew_once_all_have_been_taken():
    protocol, transport = CrumbProtocol(), Recorded()
    for _ in range(2):
        for _ in range(CRUMBS):
            protocol.count_crumb(transport)
        protocol.crumbs_taken(transport)
    assert transport.limits == [1, None, 1, None]


def test_a_transport_that_closes_is_not_touched():
    protocol, transport = CrumbProtocol(), Recorded(closing=True)
    for _ in range(CRUMBS):
        protocol.count_crumb(transport)
    protocol.crumbs_taken(transport)
    assert transport.limits == []
