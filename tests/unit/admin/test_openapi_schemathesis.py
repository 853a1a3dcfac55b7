"""Requests that schemathesis makes of the document: the admin API answers each as the document
says, and none with an error of its own."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from aiohttp import web
from hypothesis import HealthCheck, Phase, settings
from schemathesis.checks import not_a_server_error
from schemathesis.config import SchemathesisConfig
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from gateway.admin.application import ENDPOINTS, make_app
from gateway.admin.openapi import document
from tests.unit.admin.state import State

CHECKS = (
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
)
SCHEMA: Any = schemathesis.openapi.from_dict(
    document(ENDPOINTS, False), config=SchemathesisConfig()
)


@pytest.fixture(scope="module")
def served() -> Iterator[str]:
    """The application in a thread of its own: schemathesis asks with requests."""
    loop = asyncio.new_event_loop()
    runner = web.AppRunner(make_app(State()))

    async def start() -> int:
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        return int(runner.addresses[0][1])

    port = loop.run_until_complete(start())
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    yield f"http://127.0.0.1:{port}"
    asyncio.run_coroutine_threadsafe(runner.cleanup(), loop).result()
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


OPERATIONS = {
    f"{one.ok().method.upper()} {one.ok().path}": one.ok() for one in SCHEMA.get_all_operations()
}


def test_all_endpoints_are_asked():
    assert set(OPERATIONS) == {f"{one.method} {one.path}" for one in ENDPOINTS}


@pytest.mark.parametrize("name", OPERATIONS)
def test_answers_are_those_of_the_document(served: str, name: str):
    from hypothesis import given

    @settings(
        max_examples=15,
        deadline=None,
        derandomize=True,
        phases=(Phase.explicit, Phase.generate),
        suppress_health_check=list(HealthCheck),
    )
    @given(case=OPERATIONS[name].as_strategy())
    def ask(case: Any) -> None:
        case.call_and_validate(base_url=served, checks=CHECKS)

    ask()
