"""A gateway's `auth` hook for tests of Bearer tokens: one issuer, a clock set by hand."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jwt
import pytest
from multidict import CIMultiDict

from gateway.core.clock import Clock
from gateway.core.exchange import Exchange
from gateway.core.failures import Failed
from gateway.core.hooks import Context
from gateway.core.telemetry import Telemetry
from gateway.lifetime.registry import Keep
from gateway.middlewares.auth import CONFIG, build

NOW = 1_700_000_000
ISSUER = "https://id.example.com"
SECRET = "0123456789abcdef" * 4

Hook = Callable[[Exchange], Any]


def claims(**more: Any) -> dict[str, Any]:
    """Good claims and others; those that are None are left out."""
    said = {"iss": ISSUER, "sub": "acme", "aud": "edge", "iat": NOW, "exp": NOW + 900, **more}
    return {name: value for name, value in said.items() if value is not None}


def token(key: Any = SECRET, alg: str = "HS256", headers: dict[str, Any] | None = None, **more: Any) -> str:
    return jwt.encode(claims(**more), key, alg, headers=headers)


def asked(*fields: str, method: str = "GET", target: str = "/cameras", explained: bool = False) -> Exchange:
    """A request with these Authorization fields."""
    pairs = [("authorization", value) for value in fields]
    exchange = Exchange(method, target, CIMultiDict(pairs), [(b"authorization", value.encode("latin-1")) for value in fields])
    if explained:
        exchange.decisions = []
    return exchange


def bearing(text: str, **more: Any) -> Exchange:
    return asked(f"Bearer {text}", **more)


@dataclass
class World:
    directory: Path = field(default_factory=Path)
    now: float = NOW
    telemetry: Telemetry = field(default_factory=Telemetry)
    kept: Keep = field(default_factory=Keep)

    def __post_init__(self) -> None:
        self.draft = self.kept.draft()

    def auth(self, *issuers: dict[str, Any], name: str = "auth", route: str = "", **table: Any) -> Hook:
        given = [{"issuer": ISSUER, "audience": "edge", **issuer} for issuer in issuers or ({"secret": SECRET},)]
        clock = Clock(lambda: 0.0, lambda: self.now)
        context = Context(name, "partner", route, self.directory, clock, self.telemetry, self.draft.keep)
        hook = build(CONFIG().load({"methods": ["jwt"], "jwt": given, **table}), context).request
        assert hook is not None
        return hook

    def counted(self) -> dict[tuple[str, ...], float]:
        return self.telemetry.auth.values


def refused(hook: Hook, exchange: Exchange) -> Failed:
    """The refusal, which must show no token to anybody."""
    with pytest.raises(Failed) as caught:
        hook(exchange)
    assert exchange.identity is None or caught.value.failure.status == 403
    for value in exchange.headers.getall("authorization", []):
        signature = value.rpartition(".")[2]
        assert len(signature) < 20 or signature not in f"{caught.value!r}{caught.value.why}{caught.value.detail}{hook!r}"
    return caught.value
