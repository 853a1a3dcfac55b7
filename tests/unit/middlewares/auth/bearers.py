"""A gateway's `auth` hook for tests of Bearer tokens: one issuer, a clock set by hand."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jwt
import pytest

from gateway.core.exchange import Exchange
from gateway.core.failures import Failed
from gateway.middlewares import auth
from tests.exchange import World, exchange

NOW = 1_700_000_000
ISSUER = "https://id.example.com"
SECRET = "0123456789abcdef" * 4

Hook = Callable[[Exchange], Any]


def claims(**more: Any) -> dict[str, Any]:
    """Good claims and others; those that are None are left out."""
    said = {"iss": ISSUER, "sub": "acme", "aud": "edge", "iat": NOW, "exp": NOW + 900, **more}
    return {name: value for name, value in said.items() if value is not None}


def token(
    key: Any = SECRET, alg: str = "HS256", headers: dict[str, Any] | None = None, **more: Any
) -> str:
    return jwt.encode(claims(**more), key, alg, headers=headers)


def asked(
    *fields: str,
    method: str = "GET",
    target: str = "/cameras",
    header: str = "authorization",
    **facts: Any,
) -> Exchange:
    """A request with these fields called `header`."""
    return exchange(method, target, [(header, value) for value in fields], **facts)


def bearing(text: str, **more: Any) -> Exchange:
    return asked(f"Bearer {text}", **more)


@dataclass
class Bearers(World):
    now: float = NOW

    def auth(
        self, *issuers: dict[str, Any], name: str = "auth", route: str = "", **table: Any
    ) -> Hook:
        given = [
            {"issuer": ISSUER, "audience": "edge", **issuer}
            for issuer in issuers or ({"secret": SECRET},)
        ]
        hook = self.build(
            auth, {"methods": ["jwt"], "jwt": given, **table}, name=name, route=route
        ).request
        assert hook is not None
        return hook

    def counted(self) -> dict[tuple[str, ...], float]:
        return self.telemetry.auth.values


async def through(hook: Any, request: Exchange) -> Any:
    """The identity after a hook that may have to be awaited."""
    later = hook(request)
    if later is not None:
        await later
    return request.identity


async def failing(hook: Any, request: Exchange) -> Failed:
    """The refusal of a hook that may have to be awaited."""
    with pytest.raises(Failed) as caught:
        await through(hook, request)
    return caught.value


def refused(hook: Hook, request: Exchange) -> Failed:
    """The refusal, which must show no token to anybody."""
    with pytest.raises(Failed) as caught:
        hook(request)
    assert request.identity is None or caught.value.failure.status == 403
    for value in request.headers.getall("authorization", []):
        signature = value.rpartition(".")[2]
        assert (
            len(signature) < 20
            or signature not in f"{caught.value!r}{caught.value.why}{caught.value.detail}{hook!r}"
        )
    return caught.value
