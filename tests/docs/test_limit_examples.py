"""examples/limits/*.toml: every file is a pipeline that works, and says the figures it is about."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from gateway.cli import main
from gateway.core.exchange import Identity
from gateway.core.failures import Failed
from gateway.lifetime.registry import Registry
from gateway.runtime.compose import compose
from gateway.runtime.reload import load
from gateway.runtime.services import Services
from gateway.runtime.snapshot import Snapshot
from gateway.upstream.connections.transport import Transport
from tests.exchange import exchange

EXAMPLES = Path(__file__).resolve().parents[2] / "examples" / "limits"


def snapshot(name: str, directory: Path) -> Snapshot:
    (directory / "gateway.toml").write_text(
        f'include = ["upstreams.toml", "{EXAMPLES / name}.toml"]\n'
    )
    (directory / "upstreams.toml").write_text('[upstream.origin]\nurl = "http://127.0.0.1:9"\n')
    loaded = load(directory / "gateway.toml", {})
    assert [problem for problem in loaded.warnings if "without 'auth'" not in problem.message] == []
    return compose(loaded, Registry().draft(), Services(Transport()))


def caller(tier: str, role: str) -> Identity:
    return Identity("acme", "api_key", tier, roles=frozenset([role] if role else ()))


def admitted(
    made: Snapshot,
    path: str,
    most: int,
    *,
    method: str = "GET",
    tier: str = "",
    role: str = "",
    ip: str = "192.0.2.1",
) -> int:
    """How many requests in a row pass the request hooks, at most `most`."""

    async def ask() -> int:
        for count in range(most):
            asked = exchange(method, path, peer=ip, identity=caller(tier, role))
            route = asked.route = made.router.match(asked)
            try:
                waits = route.pipeline.ask(asked)
                if waits is not None:
                    await waits  # type: ignore[misc]
            except Failed:
                return count
        return most

    return asyncio.run(ask())


def test_every_file_is_tested():
    assert sorted(file.stem for file in EXAMPLES.glob("*.toml")) == [
        "aerofusion",
        "becamera",
        "learn",
    ]


@pytest.mark.parametrize(
    ("name", "path", "facts", "expected"),
    [
        ("becamera", "/api/v1/external/x", {}, 10),  # a burst of ten in a second
        ("becamera", "/api/v1/cameras", {"tier": "free"}, 100),
        ("becamera", "/api/v1/cameras", {"tier": "premium"}, 100),
        ("becamera", "/api/v1/analytics", {"tier": "premium"}, 50),
        ("becamera", "/api/v1/bulk", {}, 20),
        ("becamera", "/other", {"tier": "enterprise"}, 20),
        ("becamera", "/api/v1/auth/login", {}, 10),
        ("learn", "/courses", {}, 10),
        ("learn", "/courses", {"tier": "pro"}, 40),
        ("learn", "/courses", {"method": "POST"}, 5),
        ("learn", "/courses", {"method": "DELETE", "tier": "enterprise"}, 25),
        ("learn", "/auth/login", {}, 5),
        ("learn", "/auth/register", {}, 3),
        ("learn", "/auth/password-reset", {"method": "POST"}, 3),
        ("learn", "/code/execute", {}, 5),
        ("learn", "/code/execute", {"tier": "basic"}, 100),
        ("learn", "/uploads", {}, 0),
        ("learn", "/uploads", {"tier": "basic"}, 20),
        ("learn", "/uploads", {"tier": "pro"}, 100),
        ("aerofusion", "/x", {"role": "passenger"}, 50),
        ("aerofusion", "/x", {"role": "staff"}, 100),
        ("aerofusion", "/x", {"role": "admin"}, 200),
        ("aerofusion", "/x", {"ip": "10.20.1.1"}, 300),
    ],
)
def test_figures(name: str, path: str, facts: dict[str, Any], expected: int, tmp_path: Path):
    assert admitted(snapshot(name, tmp_path), path, 300, **facts) == expected


def says(made: Snapshot, path: str, tier: str = "", role: str = "") -> set[tuple[int, int]]:
    """(limit, seconds of its window) of everything that applies, 0 for a calendar month."""
    asked = exchange(target=path, peer="192.0.2.1", identity=caller(tier, role))
    asked.route = made.router.match(asked)
    told = [one for status in asked.route.status for one in status(asked)]
    return {(one["limit"], round(one.get("window", 0))) for one in told}


MINUTE, HOUR, DAY, MONTH = 60, 3600, 86_400, 30 * 86_400


@pytest.mark.parametrize(
    ("name", "path", "caller", "expected"),
    [
        (
            "becamera",
            "/other",
            "free",
            {(1000, MINUTE), (100, 10), (100, MINUTE), (10_000, DAY), (200_000, MONTH)},
        ),
        (
            "becamera",
            "/other",
            "premium",
            {(1000, MINUTE), (100, 10), (100_000, DAY), (2_000_000, MONTH)},
        ),
        (
            "becamera",
            "/api/v1/cameras",
            "enterprise",
            {
                (1000, MINUTE),
                (100, MINUTE),
                (1000, 10),
                (10_000, MINUTE),
                (100_000, DAY),
                (2_000_000, MONTH),
            },
        ),
        ("becamera", "/api/v1/auth/login", "", {(1000, MINUTE), (10, MINUTE)}),
        ("learn", "/courses", "free", {(10, 10), (30, MINUTE), (500, HOUR)}),
        ("learn", "/courses", "basic", {(20, 10), (60, MINUTE), (2000, HOUR)}),
        ("learn", "/courses", "pro", {(40, 10), (120, MINUTE), (5000, HOUR)}),
        ("learn", "/courses", "enterprise", {(100, 10), (300, MINUTE), (20_000, HOUR)}),
        ("learn", "/auth/login", "", {(5, MINUTE), (20, HOUR)}),
        ("learn", "/auth/register", "", {(3, MINUTE), (10, HOUR)}),
        ("learn", "/code/execute", "pro", {(1000, DAY)}),
        ("learn", "/code/execute", "enterprise", {(10_000, DAY)}),
        ("learn", "/uploads", "free", {(0, HOUR)}),
        ("learn", "/uploads", "enterprise", {(500, HOUR)}),
        ("aerofusion", "/x", "passenger", {(1000, HOUR), (10, 0)}),
        ("aerofusion", "/x", "staff", {(5000, HOUR), (10, 0)}),
        ("aerofusion", "/x", "admin", {(10_000, HOUR), (10, 0)}),
    ],
)
def test_tables(name: str, path: str, caller: str, expected: set[tuple[int, int]], tmp_path: Path):
    who = {"role" if name == "aerofusion" else "tier": caller}
    assert says(snapshot(name, tmp_path), path, **who) == expected


@pytest.mark.parametrize("name", ["aerofusion", "becamera", "learn"])
def test_gateway_check_takes_them(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    snapshot(name, tmp_path)
    assert main(["check", "--config", str(tmp_path / "gateway.toml")]) == 0
    assert "ok" in capsys.readouterr().out.lower()
