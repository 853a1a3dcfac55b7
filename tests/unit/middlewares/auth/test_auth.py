from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from marshmallow import ValidationError

from gateway.core.failures import Failure
from gateway.core.hooks import ConfigProblem
from gateway.middlewares.auth import CONFIG
from tests.unit.middlewares.auth.keys import (
    EXPIRED,
    GOOD,
    KEYS,
    OTHER,
    QUERY,
    UNKNOWN,
    Keys,
    asked,
    entry,
    refused,
)


@pytest.fixture
def world(tmp_path: Path) -> Keys:
    (tmp_path / "keys.toml").write_text(KEYS)
    return Keys(tmp_path)


class TestForwarding:
    def test_the_header_is_dropped_beside_others(self, world: Keys):
        exchange = asked(GOOD)
        exchange.drop_headers = frozenset({b"cookie"})
        world.auth()(exchange)
        assert exchange.drop_headers == {b"cookie", b"x-api-key"}

    def test_forward_credentials(self, world: Keys):
        target = f"/cameras?api_key={GOOD}"
        exchange = asked(GOOD, target=target)
        world.auth({**QUERY, "forward_credentials": True})(exchange)
        assert (exchange.target, exchange.drop_headers) == (target, None)

    def test_credentials_nobody_looked_at_are_dropped_as_well(self, world: Keys):
        """An upstream that trusts Bearer tokens must not get one that came along unverified with a
        good key."""
        issuer = {"issuer": "https://id.example.com", "secret": "s" * 32}
        hook = world.auth({"methods": ["api_key", "jwt"], "jwt": [issuer]})
        exchange = asked(GOOD)
        hook(exchange)
        assert exchange.drop_headers == {b"x-api-key", b"authorization"}


class TestPermissions:
    @pytest.mark.parametrize(
        ("require", "method", "lacking"),
        [
            (["cameras:read"], "GET", ""),
            (["cameras:write"], "GET", "the permission cameras:write"),
            (
                ["cameras:read", "cameras:write", "users:read"],
                "GET",
                "the permissions cameras:write, users:read",
            ),
            ({"GET": ["cameras:read"], "*": ["cameras:write"]}, "HEAD", ""),
            (
                {"GET": ["cameras:read"], "*": ["cameras:write"]},
                "DELETE",
                "the permission cameras:write",
            ),
            ([], "GET", ""),
        ],
    )
    def test_require(self, world: Keys, require: Any, method: str, lacking: str):
        hook, exchange = world.auth({"require": require}), asked(GOOD, method=method)
        if not lacking:
            hook(exchange)
            assert world.counted() == {("api_key", "ok"): 1}
            return
        failed = refused(hook, exchange)
        assert (failed.failure, failed.headers) == (Failure.FORBIDDEN, ())
        assert failed.detail == f"This needs {lacking}."
        assert (
            failed.why.startswith(f"require: {method} needs cameras:")
            and "client acme has cameras:read" in failed.why
        )
        assert exchange.identity is not None, "the log still says who it was"
        assert world.counted() == {("api_key", "forbidden"): 1}

    def test_wildcards(self, world: Keys):
        text = entry("k_1", GOOD, permissions='["cameras:*"]') + entry(
            "k_2", OTHER, roles='["admin"]'
        )
        (world.directory / "keys.toml").write_text(text)
        hook = world.auth({"require": ["cameras:write", "cameras:read"], "roles": {"admin": ["*"]}})
        for key in (GOOD, OTHER):
            hook(asked(key))
        mixed = world.auth({"require": ["cameras:write", "users:read"]})
        assert refused(mixed, asked(GOOD)).detail == "This needs the permission users:read."


class TestOptional:
    def test_nobody_in_particular_passes(self, world: Keys):
        exchange = asked()
        world.auth({"optional": True})(exchange)
        assert exchange.identity is None
        assert world.counted() == {("none", "anonymous"): 1}

    def test_a_key_still_counts_and_a_wrong_one_is_refused(self, world: Keys):
        hook, exchange = world.auth({"optional": True}), asked(GOOD)
        hook(exchange)
        assert exchange.identity is not None
        refused(hook, asked(UNKNOWN))

    def test_what_is_required_is_not_optional(self, world: Keys):
        hook = world.auth({"optional": True, "require": {"GET": [], "*": ["cameras:write"]}})
        hook(asked())
        failed = refused(hook, asked(method="POST"))
        assert failed.failure is Failure.UNAUTHENTICATED
        assert failed.why == "no credentials; POST needs cameras:write"


class TestExplain:
    @pytest.mark.parametrize(
        ("table", "keys", "outcome", "why"),
        [
            ({}, [GOOD], "allowed", "api_key of client acme, who has cameras:read; needed: none"),
            (
                {"require": ["cameras:read"]},
                [GOOD],
                "allowed",
                "api_key of client acme, who has cameras:read; needed: cameras:read",
            ),
            ({"optional": True}, [], "allowed", "no credentials, and none are needed"),
            ({}, [], "denied", "no credentials"),
            ({}, [EXPIRED], "denied", "key k_expired of acme expired 2023-11-14 21:13 UTC"),
            (
                {"require": ["x"]},
                [GOOD],
                "denied",
                "require: GET needs x; client acme has cameras:read",
            ),
        ],
    )
    def test_decisions(
        self, world: Keys, table: dict[str, Any], keys: list[str], outcome: str, why: str
    ):
        hook, exchange = world.auth(table), asked(*keys, explained=True)
        if outcome == "denied":
            refused(hook, exchange)
        else:
            hook(exchange)
        assert exchange.decisions is not None
        [decision] = exchange.decisions
        assert (decision.hook, decision.outcome, decision.why) == ("auth", outcome, why)
        assert world.counted() == {}


class TestConfig:
    def test_no_key_file(self, world: Keys, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.chdir(world.directory)
        with pytest.raises(ConfigProblem) as caught:
            world.auth({"api_key": {"file": "sub/../none.toml"}})
        assert caught.value.at == ("api_key", "file")
        assert "there is no key file" in caught.value.message
        assert caught.value.hint == "make one: gateway keys create --client NAME --file none.toml"
        monkeypatch.chdir("/usr")
        with pytest.raises(ConfigProblem) as caught:
            world.auth({"api_key": {"file": "none.toml"}})
        assert caught.value.hint.endswith(f"--file {(world.directory / 'none.toml').resolve()}")

    def test_a_broken_key_file(self, world: Keys):
        (world.directory / "keys.toml").write_text(KEYS + entry("k_bad", UNKNOWN, tier="3"))
        with pytest.raises(ConfigProblem) as caught:
            world.auth()
        assert caught.value.at == ("api_key", "file")
        assert "key k_bad: tier must be" in caught.value.message and caught.value.hint == ""

    def test_no_methods(self, world: Keys):
        with pytest.raises(ConfigProblem) as caught:
            world.auth({"methods": []})
        assert caught.value.at == ("methods",)

    def test_a_method_named_twice_is_asked_once(self, world: Keys):
        refused(world.auth({"methods": ["api_key", "api_key"]}), asked(UNKNOWN))
        assert world.counted() == {("api_key", "invalid"): 1}

    @pytest.mark.parametrize(
        "table",
        [
            {"methods": ["telepathy"]},
            {"api_key": {"header": "X API"}},
            {"api_key": {"query": ""}},
            {"api_key": {"cookie": "x"}},
            {"require": "x"},
            {"roles": {"admin": "*"}},
            {"roles": {"admin": ["a b"]}},
            {"optional": "yes"},
            {"realm": "a\nb"},
            {"forward_credentials": 1},
        ],
    )
    def test_values_that_are_wrong_alone(self, table: dict[str, Any]):
        with pytest.raises(ValidationError):
            CONFIG().load(table)
