"""Generated requests, for a bounded time; `bench/fuzz.py` runs the same for as long as one
likes."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fuzz import BEFORE, Target, generate, sound


@pytest.fixture(scope="module")
def target(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[tuple[Target, asyncio.AbstractEventLoop]]:
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    one = Target(tmp_path_factory.mktemp("fuzz"))
    asyncio.run_coroutine_threadsafe(one.start(), loop).result(20)
    yield one, loop
    asyncio.run_coroutine_threadsafe(one.stop(), loop).result(20)
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


@settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.randoms(use_true_random=False))
def test_whatever_is_sent_what_goes_on_is_sound(target, rng):
    one, loop = target
    asyncio.run_coroutine_threadsafe(one.check(generate(rng), rng.choice(BEFORE)), loop).result(20)


@pytest.mark.parametrize(
    ("head", "verdict"),
    [
        (b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", True),
        (b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", False),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX: a\nb\r\n\r\n", False),
        (
            b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
            False,
        ),
        (b"GET a HTTP/1.1\r\nHost: a\r\n\r\n", False),
    ],
)
def test_what_sound_means(head, verdict):
    assert sound(head) is verdict
