"""API keys: where they are taken from, who they make the caller, and which are refused."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote

import pytest

from gateway.core.exchange import Identity
from gateway.core.failures import Failure
from gateway.core.hooks import ConfigProblem
from gateway.middlewares import auth
from tests.unit.middlewares.auth.keys import (
    ENDING,
    EXPIRED,
    GOOD,
    KEYS,
    NOW,
    OTHER,
    QUERY,
    REVOKED,
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


class TestKeyFile:
    """`pipelines/*.toml` would match a key file beside the pipeline: by default it lies beside
    gateway.toml."""

    def test_lies_beside_gateway_toml(self, world: Keys):
        world.directory /= "pipelines"
        world.directory.mkdir()
        home = {"home": world.directory.parent}
        assert world.build(auth, **home).request(asked(GOOD)) is None
        with pytest.raises(ConfigProblem, match=r"pipelines/keys\.toml"):
            world.build(auth, {"api_key": {"file": "keys.toml"}}, **home)
        assert (
            world.build(auth, {"api_key": {"file": "../keys.toml"}}, **home).request(asked(GOOD))
            is None
        )


class TestIdentity:
    def test_of_a_key(self, world: Keys):
        exchange = asked(GOOD)
        assert world.auth()(exchange) is None
        assert exchange.identity == Identity(
            "acme",
            "api_key",
            "gold",
            roles=frozenset({"operator", "auditor"}),
            permissions=frozenset({"cameras:read"}),
            headers=(
                (b"X-Client-ID", b"acme"),
                (b"X-Client-Tier", b"gold"),
                (b"X-Client-Roles", b"auditor,operator"),
            ),
        )
        assert exchange.identity.claims == {"key": "k_good"}
        assert world.counted() == {("api_key", "ok"): 1}

    def test_of_a_key_with_nothing_but_a_client(self, world: Keys):
        exchange = asked(OTHER)
        world.auth()(exchange)
        assert exchange.identity == Identity(
            "bert", "api_key", headers=((b"X-Client-ID", b"bert"),)
        )

    def test_roles_bring_permissions(self, world: Keys):
        exchange = asked(GOOD)
        world.auth({"roles": {"operator": ["users:read"], "admin": ["*"]}})(exchange)
        assert exchange.identity is not None
        assert exchange.identity.permissions == {"cameras:read", "users:read"}

    def test_another_header(self, world: Keys):
        hook = world.auth({"api_key": {"header": "X-Partner"}})
        exchange = asked(GOOD, header="x-partner")
        hook(exchange)
        assert exchange.identity is not None and exchange.drop_headers == {b"x-partner"}
        refused(hook, asked(GOOD))

    def test_not_the_name_of_a_request(self, world: Keys):
        with pytest.raises(ConfigProblem, match="no place for a key"):
            world.auth({"api_key": {"header": "x-request-ID"}})

    def test_another_file(self, world: Keys):
        (world.directory / "more").mkdir()
        (world.directory / "more" / "k.toml").write_text(entry("k", UNKNOWN))
        hook = world.auth({"api_key": {"file": "more/k.toml"}})
        hook(asked(UNKNOWN))
        refused(hook, asked(GOOD))


class TestRefusal:
    @pytest.mark.parametrize(
        ("key", "failure", "result", "why", "detail"),
        [
            (
                UNKNOWN,
                Failure.UNAUTHENTICATED,
                "invalid",
                "no key file",
                "The API key is not valid.",
            ),
            (
                "x" * 9000,
                Failure.UNAUTHENTICATED,
                "invalid",
                "no key file",
                "The API key is not valid.",
            ),
            (
                "caf\udce9",
                Failure.UNAUTHENTICATED,
                "invalid",
                "no key file",
                "The API key is not valid.",
            ),
            (
                REVOKED,
                Failure.UNAUTHENTICATED,
                "revoked",
                "key k_revoked of acme was revoked",
                "The API key has been revoked.",
            ),
            (
                EXPIRED,
                Failure.EXPIRED,
                "expired",
                "key k_expired of acme expired 2023-11-14 21:13 UTC",
                "The API key has expired.",
            ),
        ],
    )
    def test_of_keys_that_are_no_good(
        self, world: Keys, key: str, failure: Failure, result: str, why: str, detail: str
    ):
        hook = world.auth({"realm": 'the "edge"'})
        for times in (1, 2, 3):
            exchange = asked(key)
            failed = refused(hook, exchange)
            assert (failed.failure, failed.detail) == (failure, detail)
            assert why in failed.why
            assert failed.headers == ((b"WWW-Authenticate", rb'ApiKey realm="the \"edge\""'),)
            assert exchange.identity is None
            assert world.counted() == {("api_key", result): times}

    def test_of_a_request_without_a_key(self, world: Keys):
        failed = refused(world.auth(QUERY), asked())
        assert failed.failure is Failure.UNAUTHENTICATED
        assert (
            failed.detail
            == "This needs an API key in the X-API-Key header or the api_key parameter."
        )
        assert failed.headers == ((b"WWW-Authenticate", b'ApiKey realm="gateway"'),)
        assert world.counted() == {("none", "missing"): 1}

    def test_of_two_headers(self, world: Keys):
        failed = refused(world.auth(), asked(GOOD, GOOD))
        assert (failed.failure, failed.headers) == (Failure.MALFORMED, ())
        assert failed.detail == "There must be only one X-API-Key header."
        assert world.counted() == {("api_key", "malformed"): 1}

    def test_expiry_is_looked_at_every_time(self, world: Keys):
        hook = world.auth()
        world.now = NOW + 99.9
        hook(asked(ENDING))
        world.now = NOW + 100
        assert refused(hook, asked(ENDING)).failure is Failure.EXPIRED
        world.now = NOW + 99  # a clock that was set back: it is the clock that counts
        hook(asked(ENDING))


class TestQuery:
    @pytest.mark.parametrize(
        ("target", "sent_on"),
        [
            (f"/cameras?api_key={GOOD}", "/cameras"),
            (f"/cameras?limit=5&api_key={GOOD}&page=%20x", "/cameras?limit=5&page=%20x"),
            (f"/a%2Fb?api_key={GOOD}&x", "/a%2Fb?x"),
            (f"/cameras?api%5Fkey={GOOD}&my_api_key=1", "/cameras?my_api_key=1"),
        ],
    )
    def test_the_key_is_taken_out_of_what_goes_on(self, world: Keys, target: str, sent_on: str):
        exchange = asked(target=target)
        world.auth(QUERY)(exchange)
        assert exchange.identity is not None and exchange.identity.client == "acme"
        assert exchange.target == sent_on
        assert exchange.query == sent_on.partition("?")[2]
        assert exchange.drop_headers == {b"x-api-key"}

    @pytest.mark.parametrize(
        "target",
        ["/cameras", "/cameras?limit=5", "/cameras?my_api_key=1", "/cameras?a=api_key", "/c?x=%41"],
    )
    def test_there_is_none(self, world: Keys, target: str):
        exchange = asked(target=target)
        assert "no credentials" in refused(world.auth(QUERY), exchange).why
        assert exchange.target == target

    def test_not_looked_at_unless_asked_for(self, world: Keys):
        assert (
            "no credentials" in refused(world.auth(), asked(target=f"/cameras?api_key={GOOD}")).why
        )

    def test_decoded(self, world: Keys):
        key = "made=elsewhere&more+%"
        (world.directory / "keys.toml").write_text(entry("k", key))
        exchange = asked(target=f"/cameras?api_key={quote(key, safe='+')}")
        world.auth(QUERY)(exchange)
        assert exchange.identity is not None

    @pytest.mark.parametrize("query", [f"api_key={UNKNOWN}", "api_key=%20"])
    def test_wrong(self, world: Keys, query: str):
        assert (
            refused(world.auth(QUERY), asked(target=f"/cameras?{query}")).detail
            == "The API key is not valid."
        )

    def test_the_same_in_both(self, world: Keys):
        exchange = asked(GOOD, target=f"/cameras?api_key={GOOD}&x=1")
        world.auth(QUERY)(exchange)
        assert (exchange.target, exchange.drop_headers) == ("/cameras?x=1", {b"x-api-key"})

    def test_a_header_and_another_query(self, world: Keys):
        exchange = asked(GOOD, target="/cameras?x=1")
        world.auth(QUERY)(exchange)
        assert exchange.target == "/cameras?x=1"

    @pytest.mark.parametrize(
        ("keys", "query", "detail"),
        [
            ([GOOD], f"api_key={OTHER}", "The X-API-Key header and the api_key parameter differ."),
            ([], f"api_key={GOOD}&api_key={GOOD}", "There must be only one api_key parameter."),
        ],
    )
    def test_ambiguous(self, world: Keys, keys: list[str], query: str, detail: str):
        failed = refused(world.auth(QUERY), asked(*keys, target=f"/cameras?{query}"))
        assert (failed.failure, failed.detail) == (Failure.MALFORMED, detail)


class TestNetworks:
    @pytest.mark.parametrize(
        ("address", "good"),
        [
            ("192.0.2.7", True),
            ("::ffff:192.0.2.7", True),
            ("192.0.3.7", False),
            ("2001:db8::1", True),
            ("::1", False),
            ("", False),
        ],
    )
    def test_a_key_may_be_bound_to_some(self, world: Keys, address: str, good: bool):
        (world.directory / "keys.toml").write_text(
            entry("k_1", GOOD, networks='["192.0.2.0/24", "2001:db8::/32"]')
        )
        hook = world.auth()
        for _ in range(2):
            exchange = asked(GOOD)
            exchange.client_ip = address
            if good:
                hook(exchange)
                continue
            failed = refused(hook, exchange)
            assert (
                failed.failure is Failure.FORBIDDEN
                and failed.detail == "The API key may not be used from here."
            )
            assert failed.why == (
                f"key k_1 of acme may be used from 192.0.2.0/24, 2001:db8::/32 only, not from "
                f"{address}"
            )


class TestMistyped:
    def test_a_typo_is_told_from_a_guess(self, world: Keys):
        typo = UNKNOWN[:-1] + ("0" if UNKNOWN[-1] != "0" else "1")
        failed = refused(world.auth(), asked(typo))
        assert failed.detail == "The API key is mistyped: its checksum does not fit."
        assert world.counted() == {("api_key", "mistyped"): 1}
