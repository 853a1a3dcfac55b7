"""A gateway's `auth` hook for tests of API keys: a key file, and a clock set by hand."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any

import pytest

from gateway.core.exchange import Exchange
from gateway.core.failures import Failed
from gateway.credentials.api_keys import key_file
from gateway.credentials.api_keys.key_file import digest
from gateway.middlewares import auth
from tests.exchange import World
from tests.unit.middlewares.auth import bearers

NOW = 1_700_000_000.0


GOOD = "bec_" + "0123456789abcdef" * 4


OTHER, ENDING, EXPIRED, REVOKED = ("bec_" + letter * 64 for letter in "bcde")


UNKNOWN = key_file.with_checksum("bec_" + "f" * 56)


Hook = Callable[[Exchange], None]


def entry(id: str, key: str, client: str = "acme", **more: str) -> str:
    fields = {
        "id": f'"{id}"',
        "client": f'"{client}"',
        "hash": f'"sha256:{digest(key).hex()}"',
        **more,
    }
    return "[[key]]\n" + "".join(f"{name} = {value}\n" for name, value in fields.items())


def at(unix: float) -> str:
    return f"{datetime.fromtimestamp(unix, UTC):%Y-%m-%dT%H:%M:%SZ}"


KEYS = (
    entry(
        "k_good",
        GOOD,
        tier='"gold"',
        permissions='["cameras:read"]',
        roles='["operator", "auditor"]',
    )
    + entry("k_other", OTHER, "bert")
    + entry("k_ending", ENDING, expires=at(NOW + 100))
    + entry("k_expired", EXPIRED, expires=at(NOW - 3600))
    + entry("k_revoked", REVOKED, revoked=at(NOW - 3600))
)


@dataclass
class Keys(World):
    now: float = NOW

    def auth(
        self, table: dict[str, Any] | None = None, *, route: str = "", name: str = "auth"
    ) -> Hook:
        hook = self.build(auth, table, name=name, route=route).request
        assert hook is not None
        return hook  # type: ignore[return-value]

    def counted(self) -> dict[tuple[str, ...], float]:
        return self.telemetry.auth.values


QUERY = {"api_key": {"query": "api_key"}}


asked = partial(bearers.asked, header="x-api-key")


def refused(hook: Hook, exchange: Exchange) -> Failed:
    with pytest.raises(Failed) as caught:
        hook(exchange)
    failed = caught.value
    assert failed.by == "auth"
    for key in (GOOD, OTHER, ENDING, EXPIRED, REVOKED, UNKNOWN):
        shown = (
            f"{failed!r} {failed} {failed.detail} {failed.why} {failed.headers} {exchange!r} "
            f"{hook!r}"
        )
        assert key not in shown and key[4:] not in shown
    return failed
