"""What browsers are told, over which scheme, and whose word counts when the upstream speaks for
itself."""

from __future__ import annotations

from typing import Any

import pytest
from marshmallow import ValidationError

from gateway.core.exchange import Exchange, Reply
from gateway.core.failures import Failed, Failure
from gateway.core.hooks import ConfigProblem, Context, Hooks
from gateway.middlewares.security_headers import CONFIG, PRESETS, build
from tests.exchange import exchange

HSTS = "max-age=31536000; includeSubDomains; preload"


def hooks(**table: Any) -> Hooks:
    return build(CONFIG().load(table), Context("security_headers"))


def asks(scheme: str = "https", trusted: bool = False, **headers: str) -> Exchange:
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    return exchange(headers=given, scheme=scheme, trusted=trusted)


def sent(made: Hooks, *pairs: tuple[str, str], to: Exchange | None = None) -> dict[str, str]:
    """The fields of a reply with these pairs after the response hook; nothing may be there
    twice."""
    reply = Reply(200, [(name.encode(), value.encode()) for name, value in pairs], b"{}")
    assert made.response is not None
    made.response(to or asks(), reply)
    lines = b"".join(reply.blocks).decode().split("\r\n")
    found = [(name.decode(), value.decode()) for name, value in reply.headers]
    found += [(name, value) for name, _, value in (line.partition(": ") for line in lines if line)]
    names = [name.lower() for name, _ in found]
    assert len(names) == len(set(names))
    assert set(reply.index) == {name.decode().lower().encode() for name, _ in reply.headers}
    return dict(found)


@pytest.mark.parametrize("preset", PRESETS)
def test_a_preset_is_sent_whole(preset: str):
    fields = sent(hooks(preset=preset))
    assert fields == {**PRESETS[preset], "Strict-Transport-Security": HSTS}
    assert fields["X-Content-Type-Options"] == "nosniff"
    assert fields["Referrer-Policy"] == "strict-origin-when-cross-origin"


def test_the_default_is_for_apis():
    fields = sent(hooks())
    assert fields["Content-Security-Policy"] == "default-src 'none'; frame-ancestors 'none'"
    assert fields["X-Frame-Options"] == "DENY"
    assert fields["Cache-Control"] == "no-store"
    assert "camera=()" in fields["Permissions-Policy"]
    assert "Cache-Control" not in sent(hooks(preset="web"))


def test_values_of_ones_own():
    made = hooks(
        preset="minimal",
        content_security_policy="default-src https:",
        x_frame_options="SAMEORIGIN",
        omit=["referrer-policy"],
    )
    assert sent(made) == {
        "X-Content-Type-Options": "nosniff",
        "Content-Security-Policy": "default-src https:",
        "X-Frame-Options": "SAMEORIGIN",
        "Strict-Transport-Security": HSTS,
    }


@pytest.mark.parametrize(
    ("to", "expected"),
    [
        (asks("https"), True),
        (asks("http"), False),
        (asks("http", trusted=True), False),
        (asks("http", trusted=True, X_Forwarded_Proto="HTTPS"), True),
        (asks("http", trusted=True, X_Forwarded_Proto="http"), False),
        (asks("http", X_Forwarded_Proto="https"), False),
    ],
    ids=[
        "https",
        "http",
        "trusted, silent",
        "trusted, https",
        "trusted, http",
        "a stranger's word",
    ],
)
@pytest.mark.parametrize("pairs", [(), (("Server", "x"),)], ids=["usual", "adapted"])
def test_transport_security_is_for_https_alone(
    to: Exchange, expected: bool, pairs: tuple[tuple[str, str], ...]
):
    assert ("Strict-Transport-Security" in sent(hooks(), *pairs, to=to)) is expected
    assert "Strict-Transport-Security" in sent(hooks(hsts={"always": True}), *pairs, to=to)


def test_transport_security_in_other_words():
    made = hooks(hsts={"max_age": "1d", "include_subdomains": False, "preload": False})
    assert sent(made)["Strict-Transport-Security"] == "max-age=86400"
    assert "Strict-Transport-Security" not in sent(hooks(omit=["Strict-Transport-Security"]))


@pytest.mark.parametrize(
    ("override", "expected"),
    [(False, ("public, max-age=60", "SAMEORIGIN")), (True, ("no-store", "DENY"))],
    ids=["kept", "ours"],
)
def test_whose_word_counts(override: bool, expected: tuple[str, str]):
    fields = sent(
        hooks(override=override),
        ("cache-control", "public, max-age=60"),
        ("X-Frame-Options", "SAMEORIGIN"),
        ("ETag", '"1"'),
    )
    by_name = {name.lower(): value for name, value in fields.items()}
    assert (by_name["cache-control"], by_name["x-frame-options"]) == expected
    assert by_name["x-content-type-options"] == "nosniff"
    assert by_name["etag"] == '"1"'


def test_what_strangers_need_not_know_is_removed():
    fields = sent(hooks(), ("Server", "nginx/1.0"), ("X-Powered-By", "PHP"), ("X-Own", "1"))
    assert fields["X-Own"] == "1" and not {"Server", "X-Powered-By"} & fields.keys()
    assert (
        sent(hooks(remove=["X-Own"]), ("Server", "nginx/1.0"), ("X-Own", "1")).get("Server")
        == "nginx/1.0"
    )
    assert "Server" in sent(hooks(remove=[]), ("Server", "nginx/1.0"))


def test_many_variants_are_not_all_remembered():
    made = hooks(preset="web")
    names = list(PRESETS["web"])
    for number in range(2 ** len(names)):
        pairs = [(name, "own") for place, name in enumerate(names) if number >> place & 1]
        fields = sent(made, *pairs)
        assert fields.keys() == {*names, "Strict-Transport-Security"}
        assert [name for name in names if fields[name] == "own"] == [name for name, _ in pairs]


def test_errors_carry_them_too():
    made = hooks()
    to = asks()
    assert made.error is not None
    assert made.error(to, Failed(Failure.NO_ROUTE)) is None
    to.reply = Reply(404, (), b"{}")
    assert made.error(to, Failed(Failure.NO_ROUTE)) is None
    assert b"X-Frame-Options: DENY\r\n" in to.reply.blocks[0]
    assert made.request is made.finish is None


@pytest.mark.parametrize(
    ("table", "at"),
    [
        ({"omit": ["X-Frame-Options", "X-Unknown"]}, ("omit", 1)),
        ({"hsts": {"max_age": "1d"}}, ("hsts", "preload")),
        ({"hsts": {"include_subdomains": False}}, ("hsts", "preload")),
    ],
)
def test_what_cannot_be_meant(table: dict[str, Any], at: tuple[Any, ...]):
    with pytest.raises(ConfigProblem) as caught:
        hooks(**table)
    assert caught.value.at == at and caught.value.hint


@pytest.mark.parametrize(
    "table", [{"preset": "strict"}, {"x_frame_options": "ALLOW"}, {"referrer_policy": "a\r\nX: y"}]
)
def test_what_the_schema_refuses(table: dict[str, Any]):
    with pytest.raises(ValidationError):
        CONFIG().load(table)
