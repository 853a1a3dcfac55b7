"""The gateway's own answers: health, info and me."""

from __future__ import annotations

from time import time
from typing import Any

import orjson
import pytest

from gateway import __version__
from gateway.builtins.answers import builtin
from gateway.builtins.health import Health
from gateway.core.exchange import Identity, Reply
from gateway.core.failures import Failed, Failure
from tests.exchange import exchange, fields

HEALTH = Health({}, {}, None, time)


def shown(reply: Reply) -> Any:
    assert fields(reply) == {"content-type": "application/json", "cache-control": "no-store"}
    assert isinstance(reply.body, bytes)
    return orjson.loads(reply.body)


def test_info():
    assert shown(builtin("info", HEALTH)(exchange())) == {"name": "gateway", "version": __version__}


def test_me():
    identity = Identity(
        "acme", "jwt", "", "alice", frozenset("ba"), frozenset("yx"), claims={"secret": "hidden"}
    )
    assert shown(builtin("me", HEALTH)(exchange(identity=identity))) == {
        "client": "acme",
        "method": "jwt",
        "tier": None,
        "roles": ["a", "b"],
        "permissions": ["x", "y"],
    }
    with pytest.raises(Failed) as caught:
        builtin("me", HEALTH)(exchange())
    assert caught.value.failure is Failure.UNAUTHENTICATED
