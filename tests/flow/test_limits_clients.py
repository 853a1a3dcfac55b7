"""Clients that people use honour Retry-After and finish their work: urllib3's Retry, and
tenacity."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
import tenacity
import urllib3

from tests.flow.conftest import Start
from tests.origin import Origin

LIMITS = {
    "token_bucket": "tokens = 4\nrefill = 4",
    "sliding_window": 'algorithm = "sliding_window"\nlimit = 4\nwindow = "1s"',
    "sliding_log": 'algorithm = "sliding_log"\nlimit = 4\nwindow = "1s"',
    "fixed_window": 'algorithm = "fixed_window"\nlimit = 4\nwindow = "1s"',
}
WORK = 6
"""Requests: more than the limit, less than what it admits by the end of the first wait."""


def by_urllib3(url: str) -> list[int]:
    """Statuses of everything that was asked, refusals included: those are in the history of the
    answer that came of them."""
    retry = urllib3.Retry(
        total=5, status_forcelist=[429], respect_retry_after_header=True, backoff_factor=0
    )
    found = []
    with urllib3.PoolManager(retries=retry) as pool:
        for _ in range(WORK):
            answer = pool.request("GET", url)
            found += [one.status or 0 for one in answer.retries.history] if answer.retries else []
            found.append(answer.status)
    return found


class Refused(Exception):
    def __init__(self, seconds: int) -> None:
        super().__init__(seconds)
        self.seconds = seconds


def by_tenacity(url: str) -> list[int]:
    """The same; it waits as long as Retry-After says."""
    found: list[int] = []

    def wait(state: tenacity.RetryCallState) -> float:
        assert state.outcome is not None
        error = state.outcome.exception()
        assert isinstance(error, Refused)
        return error.seconds

    @tenacity.retry(
        retry=tenacity.retry_if_exception_type(Refused),
        wait=wait,
        stop=tenacity.stop_after_attempt(5),
    )
    def ask(pool: urllib3.PoolManager) -> None:
        answer = pool.request("GET", url, retries=False)
        found.append(answer.status)
        if answer.status == 429:
            raise Refused(int(answer.headers["Retry-After"]))

    with urllib3.PoolManager() as pool:
        for _ in range(WORK):
            ask(pool)
    return found


@pytest.mark.parametrize("client", [by_urllib3, by_tenacity])
async def test_a_client_that_waits_as_told_is_admitted(
    start: Start, origin: Origin, client: Callable[[str], list[int]]
):
    tables = "\n".join(
        f'[rate_limit.{name}]\nkey = "ip"\n{table}' for name, table in LIMITS.items()
    )
    routes = "\n".join(
        f'[[route]]\npath = "/{name}"\nupstream = "origin"\nrequest = ["rate_limit.{name}"]'
        for name in LIMITS
    )
    gateway = await start(f"{tables}\n{routes}\n", f'[upstream.origin]\nurl = "{origin.url}"\n')
    all_of_them = [
        asyncio.to_thread(client, f"http://127.0.0.1:{gateway.port}/{name}") for name in LIMITS
    ]
    for name, found in zip(LIMITS, await asyncio.gather(*all_of_them), strict=True):
        assert found.count(200) == WORK, name
        refused = [place for place, status in enumerate(found) if status == 429]
        # A client that has waited as told is admitted. A slow machine may spread the work so that
        # none is refused.
        assert all(found[place + 1] == 200 for place in refused) and len(refused) <= 2, (
            name,
            found,
        )
