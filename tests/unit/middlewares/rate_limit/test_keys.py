"""Whose requests count together, in this process and as keys of a ledger."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.exchange import Exchange, Identity
from gateway.core.failures import Failed, Failure
from gateway.middlewares.rate_limit.keys import BODY, read_body, reader, text
from tests.exchange import Body, exchange


def caller(
    claims: dict[str, Any] | None = None, *, user: str = "bob", client: str = "acme", **facts: Any
) -> Exchange:
    return exchange(
        peer="192.0.2.1", identity=Identity(client, "jwt", user=user, claims=claims or {}), **facts
    )


def same(key: str, one: Exchange, other: Exchange) -> bool:
    """Return True if both count together, here and in a ledger alike."""
    first, second = (reader(key, "pipeline")(request) for request in (one, other))
    assert (first == second) is (text(first) == text(second))
    return first == second


words = st.text(st.characters(codec="utf-8") | st.sampled_from("()\x1f%{}")).map(str)
nested = st.recursive(
    words, lambda inner: st.lists(inner, min_size=1, max_size=3).map(tuple), max_leaves=6
)


@given(nested, nested)
def test_different_keys_are_different_texts(one: Any, other: Any):
    assert (text(one) == text(other)) is (one == other)
    assert not set("{}") & set(text(one))


@pytest.mark.parametrize("key", ["header:X-Tenant", "param:id", "body:id"])
def test_a_value_is_not_somebody_s_address(key: str):
    """Redis once had one key for the address 5.6.7.8 and a header that says (5.6.7.8)."""
    without = exchange(peer="5.6.7.8")
    for value in ("5.6.7.8", "(5.6.7.8)", "(5.6.7.8", "ip", "%285.6.7.8%29"):
        said = exchange(
            peer="192.0.2.1", headers={"X-Tenant": value}, route="r", params={"id": value}
        )
        said.notes[BODY] = {"id": value}
        assert not same(key, without, said)


def test_a_header_that_is_there_twice_counts_by_address():
    """An upstream may go by the second: whatever stands before it would be another bucket."""
    twice = [
        exchange(peer="192.0.2.1", headers=[("X-Tenant", first), ("X-Tenant", "a")])
        for first in ("1", "2", "a")
    ]
    without = exchange(peer="192.0.2.1")
    assert all(same("header:X-Tenant", one, without) for one in twice)


def test_a_user_is_no_client_of_the_same_name():
    assert not same("user", caller(user="acme", client="other"), caller(user="", client="acme"))


class TestClaims:
    def test_dots_lead_into_objects(self):
        one, other = (caller({"org": {"id": name}}) for name in ("a", "b"))
        assert not same("claim:org.id", one, other)
        assert same("claim:org.id", one, caller({"org": {"id": "a"}}, user="eve"))
        assert same("claim:org.id", one, caller({"org.id": "a"}))

    @pytest.mark.parametrize("claims", [{}, {"org": None}, {"org": ""}, {"org": []}, {"org": {}}])
    def test_who_has_none_counts_by_user_and_the_log_says_so(
        self, claims: dict[str, Any], caplog: pytest.LogCaptureFixture
    ):
        """All users of an office once shared the bucket of its address."""
        read = reader("claim:org", "pipeline")
        bob, eve = read(caller(claims, user="bob")), read(caller(claims, user="eve"))
        assert (
            bob
            != eve
            == read(
                exchange(
                    peer="203.0.113.7", identity=Identity("acme", "jwt", user="eve", claims=claims)
                )
            )
        )
        assert caplog.text.count("'org'") == 1
        assert not same("claim:org", caller(claims, user="bob"), caller({"org": "bob"}))

    def test_who_has_no_identity_counts_by_address(self):
        assert same("claim:org", exchange(peer="192.0.2.1"), exchange(peer="192.0.2.1"))
        assert not same("claim:org", exchange(peer="192.0.2.1"), exchange(peer="192.0.2.2"))
        assert not same("claim:org", exchange(peer="192.0.2.1"), caller({"org": "192.0.2.1"}))

    @pytest.mark.parametrize(
        ("one", "other", "together"),
        [
            (["a", "b"], ["b", "a"], True),
            (["a", "b", "a"], ["b", "a"], True),
            (["a", "b"], ["a"], False),
            (["a,b"], ["a", "b"], False),
            ([["a", "b"], "c"], ["c", ["b", "a"]], True),
            ({"x": 1, "y": [1, 2]}, {"y": [1, 2], "x": 1}, True),
            (["a"], "a", False),
            (["a"], '["a"]', False),
            (7, "7", True),
            (2**80, 2**80 + 1, False),
            ([2**80, "\ud800"], ["\ud800", 2**80], True),
        ],
    )
    def test_the_order_of_an_array_says_nothing(self, one: Any, other: Any, together: bool):
        assert same("claim:groups", caller({"groups": one}), caller({"groups": other})) is together


def on(route: SimpleNamespace, id: str) -> Exchange:
    request = exchange(peer="192.0.2.1", params={"id": id})
    request.route = route
    return request


@pytest.mark.parametrize("ignores_case", [True, False])
def test_what_a_route_takes_as_one_counts_as_one(ignores_case: bool):
    route = SimpleNamespace(name="users", ignores_case=ignores_case)
    assert same("param:id", on(route, "bob"), on(route, "Bob")) is ignores_case
    assert not same("param:id", on(route, "bob"), on(route, "eve"))


class TestBodies:
    async def read(self, body: bytes, *names: str) -> Any:
        request = exchange("POST", body=Body(body))
        await read_body(request, 1000, names or ("id",))
        return request.notes[BODY]

    @pytest.mark.parametrize(
        "body",
        [
            b'{"id": "a", "id": "b"}',
            b'{"id": "a", "x": {"id": "c"}, "id": "b"}',
            b'{"id": "a", "\\u0069d": "b"}',
            b'{"\\u0069d": "a", "i\\u0064": "b"}',
            b'{"id": "a", "ID": "b"}',
            b'{"Id": "a", "\\u0049d": "b"}',
        ],
    )
    async def test_a_name_that_is_there_twice_is_refused(self, body: bytes):
        with pytest.raises(Failed) as caught:
            await self.read(body)
        assert caught.value.failure is Failure.MALFORMED and "'id' twice" in str(
            caught.value.detail
        )

    @pytest.mark.parametrize(
        "body",
        [
            b'{"id": "a", "other": 1, "other": 2}',
            b'{"id": "a", "x": {"id": "b"}}',
            b'{"x": [{"id": "b", "id": "c"}], "id": "a"}',
            b'{"id": "a", "text": "\\"id\\": 1, \\u0069d"}',
            b'{"id": "a", "x": "id", "n": ' + b"9" * 25 + b"}",
        ],
    )
    async def test_others_are_not(self, body: bytes):
        assert (await self.read(body))["id"] == "a"

    @pytest.mark.parametrize(
        "body", [b"", b"[1]", b'"id"', b"nonsense", b"id=a", b'a={"id": 1', b"--x\r\n{"]
    )
    async def test_what_is_no_object_has_no_names(self, body: bytes):
        assert await self.read(body) == {}

    @pytest.mark.parametrize(
        "body",
        [
            b'{"id": "a", "id":',
            b'\xef\xbb\xbf{"id": "a"}',
            '{"id": "a"}'.encode("utf-16"),
            b'{"id": "\xff"}',
            b'{"id": 1e999}',
            b'\n {"id": 1,}',
        ],
    )
    async def test_what_others_might_read_is_refused(self, body: bytes):
        with pytest.raises(Failed, match="no JSON"):
            await self.read(body)

    async def test_what_says_that_it_is_json_is_refused(self):
        request = exchange(
            "POST",
            headers={"Content-Type": "application/json"},
            body=Body(b'  \xef\xbb\xbf{"id": "a"}'),
        )
        with pytest.raises(Failed, match="no JSON"):
            await read_body(request, 1000, ("id",))
        kinds = [("Content-Type", "text/plain"), ("Content-Type", "application/json")]
        request = exchange("POST", headers=kinds, body=Body(b'/**/{"id": "a"}'))
        with pytest.raises(Failed, match="no JSON"):
            await read_body(request, 1000, ("id",))

    @pytest.mark.parametrize("name", ["task", "Task", "TASK", "ta\u017f\u212a"])
    async def test_a_name_is_one_in_any_case(self, name: str):
        """encoding/json of Go and System.Text.Json of ASP.NET read them all as the same field."""
        assert (await self.read(f'{{"{name}": "a"}}'.encode(), "Task"))["task"] == "a"
        with pytest.raises(Failed, match="twice"):
            await self.read(f'{{"tAsk": "a", "{name}": "b"}}'.encode(), "Task")
        one, other = (
            exchange("POST", body=Body(f'{{"{word}": "x"}}'.encode())) for word in (name, "Task")
        )
        for request in (one, other):
            await read_body(request, 1000, ("Task",))
        assert same("body:Task", one, other)

    async def test_one_too_deep_to_be_looked_through(self):
        deep = b'{"a": ' * 120 + b"1" + b"}" * 120
        assert "a" in await self.read(deep, "id")
        request = exchange(
            "POST", body=Body(b'{"\\u0069d": 1, "x": ' + b"[" * 900 + b"]" * 900 + b"}")
        )
        await read_body(request, 10_000, ("id",))
        assert request.notes[BODY]["id"] == 1

    @pytest.mark.parametrize(
        ("one", "other"),
        [
            ("Bob@Example.com", " bob@example.COM "),
            ("stra\u00dfe", "STRASSE"),
            ("e\u0301", "\u00e9"),
            (7, "7"),
        ],
    )
    def test_spellings_are_one(self, one: Any, other: Any):
        requests = [exchange(peer="192.0.2.1") for _ in range(2)]
        for request, value in zip(requests, (one, other), strict=True):
            request.notes[BODY] = {"id": value}
        assert same("body:id", *requests)
