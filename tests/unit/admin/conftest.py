from __future__ import annotations

import pytest
from aiohttp.test_utils import TestClient

from gateway.admin.application import make_app
from gateway.config.tables.addresses import AdminConfig
from tests.unit.admin.state import State


@pytest.fixture
def state() -> State:
    return State()


@pytest.fixture
async def admin(aiohttp_client, state: State) -> TestClient:
    """The application without a token."""
    return await aiohttp_client(make_app(state))


@pytest.fixture
async def guarded(aiohttp_client, state: State) -> TestClient:
    """The application with the token "sesame"."""
    return await aiohttp_client(make_app(state, AdminConfig(token="sesame")))
