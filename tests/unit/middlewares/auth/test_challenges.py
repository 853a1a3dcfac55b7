"""What a 401 or 403 tells the client to send, and what counts as nothing sent (RFC 6750 section 3,
RFC 9110 section 11.6.1)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from gateway.builtins.answers import me
from gateway.core.exchange import Exchange
from gateway.core.failures import Failed, Failure
from gateway.credentials.api_keys.key_file import digest
from tests.exchange import exchange
from tests.unit.middlewares.auth.bearers import Bearers, bearing, failing, through, token

GOOD, OTHER = ("bec_" + letter * 64 for letter in "ab")
KEYS = "".join((f'[[key]]\nid = "{client}"\nclient = "{client}"\nhash = '
    f'"sha256:{digest(key).hex()}"\n') for client, key in (
    ("acme", GOOD), ("bert", OTHER)
))  # fmt: skip


@pytest.fixture
def world(tmp_path: Path) -> Bearers:
    (tmp_path / "keys.toml").write_text(KEYS)
    return Bearers(tmp_path)


def asked(*fields: tuple[str, str], target: str = "/cameras") -> Exchange:
    return exchange("GET", target, list(fields))


class TestScope:
    @pytest.mark.parametrize(
        ("require", "said"),
        [
            (["cameras:write"], b'scope="cameras:write"'),
            (["b", "a", 'odd"'], b'scope="a b"'),
            (['odd"'], None),
        ],
    )
    async def test_of_a_token_that_is_not_enough(
        self, world: Bearers, require: list[str], said: bytes | None
    ):
        failed = await failing(world.auth(require=require), bearing(token()))
        assert failed.failure is Failure.FORBIDDEN
        expected = b'Bearer realm="gateway", error="insufficient_scope"' + (
            b", " + said if said else b""
        )
        assert failed.headers == ((b"WWW-Authenticate", expected),)

    async def test_nothing_of_the_kind_for_other_schemes_and_rules(self, world: Bearers):
        hook = world.auth(methods=["api_key"], require=["cameras:write"])
        assert (await failing(hook, asked(("x-api-key", GOOD)))).headers == ()
        hook = world.auth(tiers=["gold"])  # no scope would help
        failed = await failing(hook, bearing(token()))
        assert failed.failure is Failure.SUBSCRIPTION_REQUIRED and failed.headers == ()


class TestNothingSent:
    @pytest.mark.parametrize(
        "request_",
        [
            asked(("x-api-key", "")),
            asked(target="/cameras?api_key="),
            asked(target="/cameras?api_key"),
            asked(("x-api-key", ""), target="/cameras?api_key="),
            asked(("authorization", "")),
            asked(("authorization", "Bearer")),
            asked(("authorization", "Bearer ")),
            asked(("authorization", "Basic ")),
            asked(("authorization", "ApiKey ")),
        ],
    )
    async def test_empty_credentials_are_none(self, world: Bearers, request_: Exchange):
        (world.directory / "users.toml").write_text("")
        table: dict[str, Any] = {
            "methods": ["api_key", "jwt", "basic"],
            "api_key": {"query": "api_key"},
        }
        failed = await failing(world.auth(**table), request_)
        assert failed.why == "no credentials" and world.counted() == {("none", "missing"): 1}
        assert await through(world.auth(**table, optional=True), request_) is None

    async def test_the_next_method_applies(self, world: Bearers):
        hook = world.auth(methods=["api_key", "jwt"], api_key={"query": "key"})
        request = asked(
            ("x-api-key", ""), ("authorization", f"Bearer {token()}"), target="/cameras?key=&x=1"
        )
        assert (await through(hook, request)).method == "jwt"
        assert request.target == "/cameras?x=1"

    async def test_an_empty_one_beside_a_key(self, world: Bearers):
        hook = world.auth(methods=["api_key"], api_key={"query": "key"})
        for request in (
            asked(("x-api-key", GOOD), target="/cameras?key="),
            asked(("x-api-key", ""), target=f"/cameras?key={GOOD}"),
            asked(("x-api-key", ""), ("authorization", f"ApiKey {GOOD}")),
        ):
            assert (await through(hook, request)).client == "acme"


class TestTheFormAskedFor:
    async def test_a_key_in_authorization(self, world: Bearers):
        hook = world.auth(methods=["api_key"])
        failed = await failing(hook, asked())
        [(_, challenge)] = failed.headers
        scheme = challenge.split()[0].decode()
        for word in (scheme, scheme.lower(), scheme.upper()):
            request = asked(("authorization", f"{word} {GOOD}"))
            assert (await through(hook, request)).client == "acme"
            assert request.drop_headers == {b"authorization", b"x-api-key"}

    async def test_what_the_upstream_may_see(self, world: Bearers):
        hook = world.auth(methods=["api_key"], forward_credentials=True)
        request = asked(("authorization", f"ApiKey {GOOD}"))
        await through(hook, request)
        assert request.drop_headers is None
        # Credentials of another kind are the upstream's own.
        request = asked(
            ("x-api-key", GOOD), ("authorization", "Basic YTpi"), ("authorization", "Basic YTpi")
        )
        await through(world.auth(methods=["api_key"]), request)
        assert request.drop_headers == {b"x-api-key"}

    @pytest.mark.parametrize(
        ("fields", "failure"),
        [
            ([("x-api-key", GOOD), ("authorization", f"ApiKey {OTHER}")], Failure.MALFORMED),
            (
                [("authorization", f"ApiKey {GOOD}"), ("authorization", f"ApiKey {GOOD}")],
                Failure.MALFORMED,
            ),
            (
                [("authorization", f"ApiKey {GOOD}"), ("authorization", "Basic YTpi")],
                Failure.MALFORMED,
            ),
            ([("authorization", "ApiKey nonsense")], Failure.UNAUTHENTICATED),
            ([("authorization", f"Bearer {GOOD}")], Failure.UNAUTHENTICATED),
        ],
    )
    async def test_what_is_refused(
        self, world: Bearers, fields: list[tuple[str, str]], failure: Failure
    ):
        assert (await failing(world.auth(methods=["api_key"]), asked(*fields))).failure is failure

    async def test_where_keys_come_in_authorization_anyway(self, world: Bearers):
        hook = world.auth(methods=["api_key"], api_key={"header": "Authorization"})
        for value in (GOOD, f"ApiKey {GOOD}"):
            assert (await through(hook, asked(("authorization", value)))).client == "acme"


async def test_an_answer_that_needs_a_caller_says_what_to_send(world: Bearers):
    request = asked()
    await through(world.auth(methods=["api_key", "jwt"], optional=True), request)
    with pytest.raises(Failed) as caught:
        me(request)
    assert [value.split()[0] for _, value in caught.value.headers] == [b"ApiKey", b"Bearer"]
    with pytest.raises(Failed) as caught:
        me(asked())
    assert caught.value.headers == ((b"WWW-Authenticate", b"Bearer"),)
