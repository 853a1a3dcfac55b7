"""Limits that API keys bring along: a rate or a class, each key by itself, kept across reloads."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.core.exchange import Identity
from gateway.core.hooks import ConfigProblem
from gateway.middlewares.rate_limit import key_limits
from tests.exchange import World
from tests.unit.middlewares.rate_limit.rules_world import admitted, asked, limiter

TABLE: dict[str, Any] = {
    "limit": 5,
    "window": "1m",
    "algorithm": "fixed_window",
    "key_limits": True,
    "classes": {"small": {"limit": 2, "window": "1m"}, "odd": {"limit": 9, "period": "day"}},
}


def caller(limit: str, key: str = "k_1", client: str = "acme") -> Identity:
    return Identity(client, "api_key", claims={"key": key}, limit=limit)


def many(identity: Identity | None, count: int = 20) -> list[Any]:
    return [asked(identity) for _ in range(count)]


@pytest.mark.parametrize(
    ("limit", "admits"),
    [("7/1m", 7), ("7/m", 7), ("12/2h", 12), ("small", 2), ("", 5), ("odd", 5), ("unknown", 5)],
)
def test_a_key_has_its_own(limit: str, admits: int):
    hook = limiter(TABLE)
    assert admitted(hook, *many(caller(limit))) == admits


def test_each_key_counts_by_itself():
    hook = limiter(TABLE)
    assert admitted(hook, *many(caller("3/1m", "k_1"))) == 3
    assert admitted(hook, *many(caller("3/1m", "k_2"))) == 3
    assert admitted(hook, *many(caller("small", "k_3"))) == 2
    # The client's own limit is untouched by its keys', and shared by those without.
    assert admitted(hook, *many(caller("", "k_4"), 3), *many(caller("unknown", "k_5"))) == 5
    assert admitted(hook, *many(None)) == 5


def test_what_clients_are_told():
    hook = limiter(TABLE)
    exchange = asked(caller("7/1m"))
    hook(exchange)
    assert exchange.reply_blocks is not None
    text = b"".join(exchange.reply_blocks)
    assert b"X-RateLimit-Limit: 7\r\n" in text and b'RateLimit-Policy: "7/1m";q=7;w=60\r\n' in text
    [shown] = hook.status(asked(caller("7/1m")))
    assert (shown["policy"], shown["limit"], shown["remaining"]) == ("7/1m", 7, 6)
    explained = asked(caller("7/1m"), explained=True)
    hook(explained)
    assert '"7/1m";q=7;w=60 of client acme: 5 left after it' in str(explained.decisions)


def test_by_route():
    hook = limiter({**TABLE, "scope": "route"})
    found = []
    for name in ("one", "two"):
        exchanges = many(caller("3/1m"))
        for exchange in exchanges:
            exchange.route = type("Route", (), {"name": name})()
        found.append(admitted(hook, *exchanges))
    assert found == [3, 3]


def test_without_asking_for_it_keys_are_like_others():
    hook = limiter({**TABLE, "key_limits": False, "methods": ["GET"]})
    assert admitted(hook, *many(caller("7/1m"))) == 5


def test_what_is_counted_outlives_reloads(monkeypatch: pytest.MonkeyPatch):
    world = World(now=100.0)
    for number in range(3):
        hook = limiter(TABLE, world)
        assert admitted(hook, *many(caller("7/1m"), 2)) == 2, number
        world.reload()
    assert admitted(hook, *many(caller("7/1m"))) == 1
    world.close()


def test_rates_are_bounded(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture):
    monkeypatch.setattr(key_limits, "MAX_RATES", 2)
    hook = limiter(TABLE)
    assert [
        admitted(hook, *many(caller(f"{count}/1m", f"k{count}", f"c{count}")))
        for count in (7, 8, 9)
    ] == [7, 8, 5]
    assert "keys have more than 2 limits" in caplog.text


@pytest.mark.parametrize(
    "more",
    [{"key": "ip"}, {"key": ["client", "ip"]}, {"algorithm": "concurrency", "window": None}],
    ids=["ip", "two", "at-a-time"],
)
def test_rules_that_keys_cannot_bring_limits_to(more: dict[str, Any]):
    table = {name: value for name, value in {**TABLE, **more}.items() if value is not None}
    with pytest.raises(ConfigProblem, match="keys bring limits for clients") as caught:
        limiter(table)
    assert caught.value.at == ("key_limits",)


def test_time_passes():
    world = World(now=100.0)
    hook = limiter(TABLE, world)
    assert admitted(hook, *many(caller("3/1m"))) == 3
    world.now += 120
    assert admitted(hook, *many(caller("3/1m"))) == 3


def test_what_is_kept_is_closed():
    closed = []

    class One:
        def close(self) -> None:
            closed.append(self)

    kept = key_limits.KeptCounts()
    first = kept.keep(("a",), 1, One)
    assert (
        kept.keep(("a",), 1, One) is first
        and kept.keep(("a",), 2, One) is not first
        and closed == [first]
    )
    kept.close()
    assert len(closed) == 2
