"""Texts with values of the request in them."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.content.templates import Template
from gateway.core.exchange import Identity
from gateway.core.hooks import ConfigProblem
from tests.exchange import exchange

CLAIMS = {"org": {"name": "acme"}, "groups": ["a", "b"], "https://x/y.z": 1, "vip": True}
ANN = Identity("partner", "jwt", tier="pro", user="ann", claims=CLAIMS)
LIMITS = b"X-RateLimit-Limit: 100\r\nX-RateLimit-Remaining: 99\r\nX-RateLimit-Reset: 60\r\n"


def asked(**more: Any) -> Any:
    facts: dict[str, Any] = {
        "identity": ANN,
        "request_id": "r-1",
        "route": "cameras",
        "params": {"id": "7"},
        "reply_blocks": [b"X-Other: 1\r\n", LIMITS],
        **more,
    }
    return exchange("GET", "/a?q=1%202&q=3&p", [("X-A", "1"), ("x-a", "2")], **facts)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("plain", "plain"),
        ("", ""),
        ("{client}", "partner"),
        ("{tier}/{user}", "pro/ann"),
        ("{request_id}", "r-1"),
        ("{route}", "cameras"),
        ("{version}", None),
        ("v{version}", "v"),
        ("{param.id}", "7"),
        ("{param.other}", None),
        ("{query.q}", "1 2"),
        ("{query.p}", ""),
        ("{query.x}", None),
        ("{header.X-A}", "1, 2"),
        ("{header.X-B}", None),
        ("{claim.org.name}", "acme"),
        ("{claim.org.name.x}", None),
        ("{claim.groups}", ["a", "b"]),
        ("{claim.https://x/y.z}", 1),
        ("in {claim.groups}: {claim.vip}", "in a,b: true"),
        ("{claim.org}!", '{"name":"acme"}!'),
        ("{limit}", 100),
        ("{remaining}", 99),
        ("{reset}", 60),
        ("{reset_at}", "1970-01-01T00:01:00Z"),
        ("{remaining} of {limit}", "99 of 100"),
        ("{{client}}", "{client}"),
        ("a{{{client}}}", "a{partner}"),
    ],
)
def test_values(text: str, value: Any):
    made = Template(text)
    assert made.value(asked()) == value
    assert (made.constant is not None) is not bool(made.names)


def test_strangers_have_no_values():
    nothing = asked(identity=None, reply_blocks=None)
    for name in ("client", "tier", "user", "claim.org", "limit", "remaining", "reset", "reset_at"):
        assert Template(f"{{{name}}}").value(nothing) is None
        assert Template(f"<{{{name}}}>").value(nothing) == "<>"


def test_a_limit_of_nothing_has_no_reset():
    block = b"X-RateLimit-Limit: 0\r\nX-RateLimit-Remaining: 0\r\nRateLimit-Policy: x\r\n"
    nothing = asked(reply_blocks=[block])
    assert Template("{limit}").value(nothing) == 0
    assert Template("{reset}").value(nothing) is None


@pytest.mark.parametrize("text", ["{clint}", "{}", "{param.}", "{param}", "{client.x}", "{a b}"])
def test_an_unknown_value_is_an_error(text: str):
    with pytest.raises(ConfigProblem, match="there is no value called") as caught:
        Template(text)
    assert "{client}" in caught.value.hint


@pytest.mark.parametrize("text", ["{client", "client}", "a { b", "{{}"])
def test_a_brace_without_its_other_half_is_an_error(text: str):
    with pytest.raises(ConfigProblem, match="brace"):
        Template(text)


def test_what_a_client_may_choose():
    assert Template("{header.X}").strange
    assert Template("a{query.x}").strange
    assert not Template("{client}{claim.sub}").strange


@given(st.text())
def test_any_text_can_be_written(text: str):
    written = text.replace("{", "{{").replace("}", "}}")
    assert Template(written).constant == text
