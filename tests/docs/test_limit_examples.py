"""examples/limits/*.toml: every file is a pipeline that works, and says the figures it is about."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from multidict import CIMultiDict

from gateway.core.exchange import Exchange, Identity
from gateway.core.failures import Failed
from gateway.runtime.compose import World, compose
from gateway.runtime.reload import load
from gateway.runtime.snapshot import Snapshot
from gateway.state.keep import Keep
from gateway.upstream.transport import Transport

EXAMPLES = Path(__file__).resolve().parents[2] / "examples" / "limits"


def snapshot(name: str, directory: Path) -> Snapshot:
    (directory / "gateway.toml").write_text(f'include = ["upstreams.toml", "{EXAMPLES / name}.toml"]\n')
    (directory / "upstreams.toml").write_text('[upstream.origin]\nurl = "http://127.0.0.1:9"\n')
    loaded = load(directory / "gateway.toml", {})
    assert loaded.warnings == ()
    return compose(loaded, Keep().draft(), World(Transport()))


def admitted(
    made: Snapshot, path: str, most: int, *, method: str = "GET", tier: str = "", role: str = "", ip: str = "192.0.2.1"
) -> int:
    """How many requests in a row pass the request hooks, at most `most`."""

    async def ask() -> int:
        for count in range(most):
            exchange = Exchange(method, path, CIMultiDict(), (), peer=ip)
            exchange.identity = Identity("acme", "api_key", tier, roles=frozenset([role] if role else ()))
            route = exchange.route = made.router.match(exchange)
            try:
                await route.pipeline.ask(exchange)
            except Failed:
                return count
        return most

    return asyncio.run(ask())


def test_every_file_is_tested():
    assert sorted(file.stem for file in EXAMPLES.glob("*.toml")) == ["aerofusion", "becamera", "learn"]


@pytest.mark.parametrize(
    ("name", "path", "facts", "expected"),
    [
        ("becamera", "/api/v1/external/x", {}, 10),  # a burst of ten in a second
        ("becamera", "/api/v1/cameras", {"tier": "free"}, 100),
        ("becamera", "/api/v1/cameras", {"tier": "premium"}, 200),
        ("becamera", "/api/v1/auth/login", {}, 10),
        ("learn", "/courses", {}, 30),
        ("learn", "/courses", {"tier": "pro"}, 120),
        ("learn", "/courses", {"method": "POST"}, 15),
        ("learn", "/courses", {"method": "DELETE", "tier": "enterprise"}, 75),
        ("learn", "/auth/login", {}, 5),
        ("learn", "/auth/register", {}, 3),
        ("learn", "/auth/password-reset", {"method": "POST"}, 3),
        ("learn", "/code/execute", {}, 5),
        ("learn", "/code/execute", {"tier": "basic"}, 100),
        ("learn", "/uploads", {"tier": "pro"}, 100),
        ("aerofusion", "/x", {"role": "passenger"}, 50),
        ("aerofusion", "/x", {"role": "staff"}, 100),
        ("aerofusion", "/x", {"role": "admin"}, 200),
        ("aerofusion", "/x", {"ip": "10.20.1.1"}, 300),
    ],
)
def test_figures(name: str, path: str, facts: dict[str, Any], expected: int, tmp_path: Path):
    assert admitted(snapshot(name, tmp_path), path, 300, **facts) == expected
