"""Header fields and the query."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.core.exchange import Exchange, Identity, Reply
from gateway.core.hooks import ConfigProblem
from gateway.middlewares import transform
from gateway.upstream.connections.http1.headers import request_head
from tests.exchange import World, exchange
from tests.origin import fields_of


def asked(changes: dict[str, Any], one: Exchange) -> Exchange:
    hooks = World().build(transform, {"request": changes})
    assert hooks.request is not None
    assert hooks.request(one) is None
    return one


def sent(changes: dict[str, Any], one: Exchange) -> dict[str, str]:
    return fields_of(request_head(asked(changes, one), one.target, "origin", b""))


def answered(changes: dict[str, Any], made: Reply, one: Exchange | None = None) -> Reply:
    hooks = World().build(transform, {"response": changes})
    assert hooks.response is not None
    hooks.response(one or exchange(), made)
    return made


def test_fields_that_are_sent_on():
    fields = sent(
        {
            "set": {"X-Tenant": "{client}", "X-Fixed": "1"},
            "remove": ["X-Debug"],
            "rename": {"X-Old": "X-New"},
            "add": {"X-Many": "2"},
        },
        exchange(
            headers=[("x-tenant", "evil"), ("X-Debug", "1"), ("X-Old", "o"), ("X-Many", "1")],
            identity=Identity("acme", "api_key"),
        ),
    )
    assert (fields["x-tenant"], fields["x-fixed"], fields["x-new"]) == ("acme", "1", "o")
    assert "x-debug" not in fields
    assert "x-old" not in fields


def test_added_fields_stand_beside_the_clients():
    one = asked({"add": {"X-Many": "2"}}, exchange(headers=[("X-Many", "1")]))
    assert one.forward_headers == [(b"X-Many", b"1"), (b"X-Many", b"2")]


def test_what_a_stranger_says_does_not_stand_for_a_value_that_is_not_there():
    fields = sent({"set": {"X-Tenant": "{client}"}}, exchange(headers={"X-Tenant": "evil"}))
    assert "x-tenant" not in fields


def test_changes_meet_those_of_hooks_before():
    one = exchange(headers=[("X-A", "client"), ("X-B", "client")])
    asked({"set": {"X-A": "1", "X-B": "1"}}, one)
    asked({"remove": ["X-A"], "set": {"X-B": "2"}, "rename": {"X-C": "X-D"}}, one)
    assert one.forward_headers == [(b"X-B", b"2")]
    one = exchange(headers=[("X-A", "client")], drop_headers=frozenset((b"x-a",)))
    asked({"rename": {"X-A": "X-B"}}, one)
    assert not one.forward_headers
    assert one.drop_headers == {b"x-a", b"x-b"}


def test_heads_are_remembered_by_the_same_set():
    dropped = frozenset((b"x-key",))
    hooks = World().build(transform, {"request": {"remove": ["X-A"]}})
    ones = [exchange(drop_headers=dropped) for _ in range(2)]
    for one in ones:
        assert hooks.request is not None
        hooks.request(one)
    assert ones[0].drop_headers is ones[1].drop_headers


def test_a_value_cannot_end_its_line():
    fields = sent({"set": {"X-Q": "{query.q}"}}, exchange(target="/?q=a%0d%0aX-Evil:%201%00"))
    assert fields["x-q"] == "a  X-Evil: 1"
    assert "x-evil" not in fields


def test_bytes_survive():
    fields = sent({"set": {"X-B": "{header.X-A}"}}, exchange(headers={"X-A": "z\udcff"}))
    assert fields["x-b"].encode("latin-1") == b"z\xff"


@pytest.mark.parametrize(
    ("changes", "target", "wanted"),
    [
        ({"set": {"t": "{param.id}"}}, "/a?x=1&t=evil&%74=2", "/a?x=1&t=7%2F8"),
        ({"remove": ["x"]}, "/a?x=1&y=%2F&x", "/a?y=%2F"),
        ({"remove": ["x"]}, "/a?x=1", "/a"),
        ({"set": {"c": "{client}"}}, "/a?c=evil", "/a"),
        ({"set": {"c": "&=ü"}}, "/a", "/a?c=%26%3D%C3%BC"),
    ],
)
def test_the_query(changes: dict[str, Any], target: str, wanted: str):
    one = asked({"query": changes}, exchange(target=target, params={"id": "7/8"}))
    assert one.target == wanted
    assert one.query == wanted.partition("?")[2]


@pytest.mark.parametrize(
    "changes",
    [
        {"set": {"Content-Length": "1"}},
        {"add": {"Transfer-Encoding": "chunked"}},
        {"set": {"connection": "close"}},
        {"rename": {"X-A": "Host"}},
        {"rename": {"Upgrade": "X-A"}},
        {"set": {"X-Client-ID": "admin"}},
        {"set": {"X_Client_Id": "admin"}},
        {"remove": ["X-Client-Roles"]},
        {"set": {"X-Forwarded-For": "1.2.3.4"}},
        {"set": {"X-Request-ID": "1"}},
    ],
)
def test_what_is_the_gateways_to_say(changes: dict[str, Any]):
    with pytest.raises(ConfigProblem, match="is the gateway's to say"):
        World().build(transform, {"request": changes})


@pytest.mark.parametrize(
    "changes",
    [
        {"set": {"X-Real-IP": "{header.X-Own}"}},
        {"add": {"X-Auth-Request-User": "{query.user}"}},
        {"rename": {"X-Own": "X-Remote-User"}},
    ],
)
def test_clients_do_not_choose_who_they_are(changes: dict[str, Any]):
    with pytest.raises(ConfigProblem, match="the client would choose it"):
        World().build(transform, {"request": changes})


def test_operators_do():
    fields = sent(
        {"set": {"X-Remote-User": "{user}"}}, exchange(identity=Identity("a", "jwt", user="ann"))
    )
    assert fields["x-remote-user"] == "ann"


@pytest.mark.parametrize(
    ("table", "at"),
    [
        ({"request": {"set": {"X-A": "{nobody}"}}}, ("request", "set", "X-A")),
        ({"request": {"query": {"set": {"q": "{"}}}}, ("request", "query", "set", "q")),
        ({"response": {"add": {"X-A": "{x}"}}}, ("response", "add", "X-A")),
        ({"response": {"remove": ["A", "Via"]}}, ("response", "remove", 1)),
        (
            {"response": {"set": {"Content-Encoding": "gzip"}}},
            ("response", "set", "Content-Encoding"),
        ),
        (
            {"response": {"body": {"set": {"a": [{"b": "{x}"}]}}}},
            ("response", "body", "set", "a", 0, "b"),
        ),
    ],
)
def test_faults_have_their_place(table: dict[str, Any], at: tuple[str | int, ...]):
    with pytest.raises(ConfigProblem) as caught:
        World().build(transform, table)
    assert caught.value.at == at


def test_fields_of_answers():
    made = Reply(200, ((b"X-Old", b"1"), (b"x-old", b"2"), (b"Server", b"s"), (b"Vary", b"Origin")))
    answered(
        {
            "rename": {"X-Old": "X-New"},
            "remove": ["server"],
            "set": {"Pragma": "no-cache", "X-Id": "{request_id}"},
            "add": {"Vary": "Accept"},
        },
        made,
        exchange(request_id="r-1"),
    )
    assert made.headers == [
        (b"Vary", b"Origin"), (b"X-New", b"1"), (b"X-New", b"2"), (b"Pragma", b"no-cache"),
        (b"X-Id", b"r-1"), (b"Vary", b"Accept"),
    ]  # fmt: skip
    assert made.get(b"vary") == b"Origin, Accept"


def test_fixed_fields_replace_the_upstreams():
    changes = {"set": {"Pragma": "no-cache", "Expires": "0"}}
    assert answered(changes, Reply(200)).headers == [(b"Pragma", b"no-cache"), (b"Expires", b"0")]
    made = answered(changes, Reply(200, ((b"expires", b"1"), (b"X", b"1"))))
    assert made.headers == [(b"X", b"1"), (b"Pragma", b"no-cache"), (b"Expires", b"0")]
    assert made.get(b"expires") == b"0"
    made = answered({"set": {"X-A": "1"}, "add": {"X-A": "2"}}, Reply(200))
    assert made.get(b"x-a") == b"1, 2"
