"""Credentials beside the Authorization field, and what the upstream is not to see of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from gateway.core.exchange import Exchange
from gateway.core.failures import Failure
from gateway.core.headers import Pair
from gateway.middlewares import auth
from tests.exchange import exchange
from tests.unit.middlewares.auth.bearers import Bearers, failing, through, token

BOTH = {"query": "access_token", "cookie": "session"}


def asked(*fields: tuple[str, str], target: str = "/cameras") -> Exchange:
    return exchange("GET", target, list(fields))


def sent(request: Exchange) -> list[str]:
    """The cookies that go on."""
    dropped = request.drop_headers or frozenset()
    kept = [] if b"cookie" in dropped else request.headers.getall("cookie", [])
    added: list[Pair] = request.forward_headers or []
    return [*kept, *(value.decode() for name, value in added if name == b"Cookie")]


@pytest.fixture
def world(tmp_path: Path) -> Bearers:
    return Bearers(tmp_path)


class TestElsewhere:
    async def test_a_token_in_a_query_or_cookie(self, world: Bearers):
        hook, text = world.auth(bearer=BOTH), token()
        for request in (
            asked(target=f"/cameras?access_token={text}&x=1"),
            asked(target=f"/cameras?x=1&access%5Ftoken={text}"),
            asked(("cookie", f"a=1; session={text}; b=2"), target="/cameras?x=1"),
            asked(("cookie", "a=1"), ("cookie", f'session="{text}"; b=2'), target="/cameras?x=1"),
            asked(
                ("authorization", "Basic YTpi"),
                ("cookie", f"session={text}"),
                target="/cameras?x=1",
            ),
        ):
            assert (await through(hook, request)).client == "acme"
            assert request.target == "/cameras?x=1" and text not in "".join(sent(request))
            assert "a=1" not in str(request.headers) or sent(request) == ["a=1; b=2"]
        assert "1 tokens known" in repr(hook.__self__)  # type: ignore[attr-defined]

    async def test_nowhere_else_unless_asked_for(self, world: Bearers):
        hook = world.auth()
        for request in (
            asked(target=f"/?access_token={token()}"),
            asked(("cookie", f"session={token()}")),
        ):
            assert (await failing(hook, request)).why == "no credentials"

    async def test_a_cookie_that_browsers_send_unasked_gives_way(self, world: Bearers):
        hook = world.auth(bearer=BOTH)
        other = token(sub="bert")
        request = asked(("authorization", f"Bearer {token()}"), ("cookie", f"session={other}"))
        assert (await through(hook, request)).client == "acme" and sent(request) == []
        request = asked(("cookie", f"session={other}"), target=f"/?access_token={token()}")
        assert (await through(hook, request)).client == "acme"

    @pytest.mark.parametrize(
        ("request_", "failure"),
        [
            (
                asked(("authorization", f"Bearer {token()}"), target="/?access_token=other"),
                Failure.MALFORMED,
            ),
            (asked(target=f"/?access_token={token()}&access_token={token()}"), Failure.MALFORMED),
            (asked(("cookie", f"session={token()}; session=x")), Failure.MALFORMED),
            (asked(target="/?access_token=nonsense"), Failure.UNAUTHENTICATED),
            (asked(target="/?access_token="), Failure.UNAUTHENTICATED),
            (asked(("cookie", "session=")), Failure.UNAUTHENTICATED),
        ],
    )
    async def test_what_is_refused(self, world: Bearers, request_: Exchange, failure: Failure):
        hook = world.auth(bearer=BOTH)
        failed = await failing(hook, request_)
        assert failed.failure is failure
        if not failed.why.startswith(("2", "different", "the token")):
            assert failed.detail.endswith("header, the access_token parameter, the session cookie.")

    async def test_the_next_method_sees_it_too(self, world: Bearers):
        hook = world.auth(
            methods=["jwt", "introspection"],
            bearer=BOTH,
            introspection={"url": "http://127.0.0.1:9/"},
        )
        failed = await failing(hook, asked(target="/?access_token=opaque"))
        assert "introspection server cannot be asked" in failed.why

    async def test_what_the_upstream_may_see(self, world: Bearers):
        hook = world.auth(bearer=BOTH, forward_credentials=True)
        request = asked(("cookie", f"session={token()}"), target=f"/?access_token={token()}")
        await through(hook, request)
        assert "access_token" in request.target and sent(request) == request.headers.getall(
            "cookie"
        )


class TestLeftOut:
    """A route with `auth = false`."""

    @staticmethod
    def hook(world: Bearers, **table: Any) -> Any:
        config = auth.CONFIG().load(table)
        hooks = auth.left_out(config, world.context("auth"))
        return hooks.request if hooks is not None else None

    def test_keys_are_kept_back(self, world: Bearers):
        hook = self.hook(world, methods=["api_key"], api_key={"header": "X-Key", "query": "key"})
        request = asked(
            ("x-key", "a"),
            ("x-key", "b"),
            ("authorization", "ApiKey c"),
            target="/?key=a&x=1&k%65y=b&key=",
        )
        hook(request)
        assert request.target == "/?x=1" and request.drop_headers == {b"x-key", b"authorization"}
        request = asked(("authorization", "Bearer the-upstreams-own"))
        hook(request)
        assert request.drop_headers == {b"x-key"}

    def test_tokens_are_kept_back(self, world: Bearers):
        hook = self.hook(
            world, methods=["jwt"], bearer=BOTH, forward="token", token={"secret": "x" * 32}
        )
        request = asked(
            ("cookie", "session=a; b=1; session=c"),
            ("x-client-token", "forged"),
            target="/?access_token=a",
        )
        hook(request)
        assert (request.target, sent(request)) == (
            "/",
            ["b=1"],
        ) and b"x-client-token" in request.drop_headers

    def test_nothing_is_where_nothing_has_to_be(self, world: Bearers):
        assert self.hook(world, methods=["basic"]) is None
        assert (
            self.hook(
                world, methods=["api_key"], api_key={"query": "key"}, forward_credentials=True
            )
            is None
        )


def test_names_of_secrets(world: Bearers):
    def names(**table: Any) -> set[str]:
        return set(auth.secrets(auth.CONFIG().load(table)))

    assert names(api_key={"header": "X-Partner-Key", "query": "Key"}) == {
        "x-partner-key",
        "key",
        "authorization",
    }
    assert names(methods=["jwt"], bearer=BOTH) == {
        "authorization",
        "access_token",
        "session",
        "cookie",
    }
    assert names(methods=["mtls"], forward="token") == {"x-client-token"}
    assert names(methods=["basic"]) == {"authorization"}
