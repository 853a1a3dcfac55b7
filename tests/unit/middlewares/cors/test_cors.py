"""Cross-origin requests as browsers make them, and as others pretend to."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from marshmallow import ValidationError

from gateway.core.exchange import ALLOWED_METHODS, Exchange, Reply
from gateway.core.failures import Failed, Failure
from gateway.core.headers import Pair
from gateway.core.hooks import ConfigProblem, Context, Hooks
from gateway.middlewares.cors import CONFIG, build
from gateway.protocols.websocket import UPGRADE
from tests.exchange import exchange, fields

APP = "https://app.example.com"


def hooks(**table: Any) -> Hooks:
    return build(CONFIG().load({"origins": [APP], **table}), Context("cors"))


def asks(origin: str | None = APP, method: str = "GET", **headers: str) -> Exchange:
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    return exchange(method, "/c", given if origin is None else {"Origin": origin, **given})


def preflight(origin: str | None = APP, method: str = "PUT", **headers: str) -> Exchange:
    return asks(origin, "OPTIONS", Access_Control_Request_Method=method, **headers)


def decorated(made: Hooks, request: Exchange, *headers: Pair) -> dict[str, str]:
    reply = Reply(200, headers)
    assert made.response is not None
    assert made.response(request, reply) is None
    return fields(reply)


def asked(made: Hooks, request: Exchange) -> Reply | None:
    assert made.request is not None
    reply = made.request(request)
    assert reply is None or isinstance(reply, Reply)
    return reply


def test_an_allowed_origin():
    assert decorated(hooks(), asks()) == {
        "vary": "Origin",
        "access-control-allow-origin": APP,
        "access-control-expose-headers": (
            "X-Request-ID, X-RateLimit-Limit, X-RateLimit-Remaining, X-RateLimit-Reset, Retry-After"
        ),
    }


def test_credentials():
    assert decorated(hooks(credentials=True, expose=[]), asks()) == {
        "vary": "Origin",
        "access-control-allow-origin": APP,
        "access-control-allow-credentials": "true",
    }


@pytest.mark.parametrize(
    "origin",
    [None, "https://evil.example", "null", "http://app.example.com", APP + ":8443", APP.upper()],
)
def test_other_origins_get_nothing_but_vary(origin: str | None):
    assert decorated(hooks(), asks(origin)) == {"vary": "Origin"}


@pytest.mark.parametrize(
    ("listed", "origin", "allowed"),
    [
        ("null", "null", True),
        ("HTTPS://App.Example.com", APP, True),
        ("https://app.example.com:443", APP, True),
        ("http://localhost:3000", "http://localhost:3000", True),
        ("http://localhost:3000", "http://localhost", False),
        ("http://[::1]:3000", "http://[::1]:3000", True),
        ("capacitor://localhost", "capacitor://localhost", True),
        ("https://*.example.com", "https://a.example.com", True),
        ("https://*.example.com", "https://a.b-c.example.com", True),
        ("https://*.example.com", "https://example.com", False),
        ("https://*.example.com", "https://.example.com", False),
        ("https://*.example.com", "https://badexample.com", False),
        ("https://*.example.com", "https://a.example.com.evil.org", False),
        ("https://*.example.com", "https://evil.org/.example.com", False),
        ("https://*.example.com", "https://evil.org#.example.com", False),
        ("https://*.example.com", "https://evil@a.example.com", False),
        ("https://*.example.com", "https://aXexample.com", False),
        ("https://*.example.com", "http://a.example.com", False),
        ("https://*.example.com", "https://a.example.com:8443", False),
        ("https://*.example.com:8443", "https://a.example.com:8443", True),
        ("https://*.localhost", "https://a.localhost", True),
        ("http://localhost:*", "http://localhost", True),
        ("http://localhost:*", "http://localhost:5173", True),
        ("http://localhost:*", "http://localhost:5173.evil.org", False),
        ("http://localhost:*", "http://localhost.evil.org:5173", False),
        ("http://[::1]:*", "http://[::1]:99", True),
        ("https://app-*.example.com", "https://app-7.example.com", True),
        ("https://app-*.example.com", "https://app-7.evil.example.com", False),
        ("https://a.*.example.com", "https://a.b.example.com", True),
        ("https://a.*.example.com", "https://a.b.c.example.com", False),
        ("https://*.app-*.example.com:*", "https://x.y.app-7.example.com:8443", True),
        ("^https://pr-[0-9]+[.]example[.]com$", "https://pr-42.example.com", True),
        ("^https://pr-[0-9]+[.]example[.]com$", "https://pr-42.example.com.evil.org", False),
        ("^https://(a|b)[.]example$", "https://b.example", True),
    ],
)
def test_which_origins(listed: str, origin: str, allowed: bool):
    made = hooks(origins=["https://other.example", listed])
    for _ in range(2):
        assert decorated(made, asks(origin)).get("access-control-allow-origin") == (
            origin if allowed else None
        )


def test_an_origin_of_other_letters_than_origins_have():
    """RFC 6454 section 6.2 leaves none but ASCII; bytes that are no UTF-8 travel as surrogates."""
    made = hooks(origins=["^https://.+[.]example$"], reject=True)
    for origin in ("https://a\udcff.example", "https://\u00e9.example"):
        assert decorated(made, asks(origin)) == {"vary": "Origin"}
        with pytest.raises(Failed):
            asked(made, asks(origin))


def test_long_origins_are_not_remembered():
    made = hooks(origins=["https://*.example.com"])
    for number in range(1000):
        decorated(made, asks(f"https://{number:09000}.example.com"))
    assert not made.response.__self__._seen  # type: ignore[union-attr]


def test_wildcards_forget_origins_they_have_seen():
    made = hooks(origins=["https://*.example.com"])
    for number in range(3000):
        assert "access-control-allow-origin" in decorated(
            made, asks(f"https://a{number}.example.com")
        )
    assert "access-control-allow-origin" in decorated(made, asks("https://a0.example.com"))


def test_everyone():
    made = hooks(origins=["*"], expose=[])
    for origin in (APP, None, "null"):
        assert decorated(made, asks(origin)) == {"access-control-allow-origin": "*"}


def test_vary_is_kept_and_not_repeated():
    assert decorated(hooks(expose=[]), asks(None), (b"Vary", b"Accept-Encoding, origin")) == {
        "vary": "Accept-Encoding, origin"
    }
    assert decorated(hooks(), asks(None), (b"Vary", b"*")) == {"vary": "*"}
    reply = Reply(200, [(b"Vary", b"Accept-Encoding")])
    made = hooks()
    assert made.response is not None
    made.response(asks(None), reply)
    assert reply.get(b"vary") == b"Accept-Encoding, Origin"


def test_an_upstreams_own_fields_are_replaced():
    own = (
        (b"access-control-allow-origin", b"*"),
        (b"Access-Control-Allow-Credentials", b"true"),
        (b"Access-Control-Expose-Headers", b"*"),
        (b"Access-Control-Max-Age", b"5"),
    )
    assert decorated(hooks(expose=[]), asks(), *own) == {
        "vary": "Origin",
        "access-control-allow-origin": APP,
    }
    assert decorated(hooks(), asks("https://evil.example"), *own) == {"vary": "Origin"}


def test_preflight():
    request = preflight()
    reply = asked(hooks(credentials=True, methods=["GET", "put"], max_age="10m"), request)
    assert reply is not None and (reply.status, reply.body) == (204, b"")
    assert request.reason == "preflight"
    assert fields(reply) == {
        "vary": "Origin, Access-Control-Request-Method, Access-Control-Request-Headers",
        "access-control-allow-origin": APP,
        "access-control-allow-credentials": "true",
        "access-control-max-age": "600",
        "access-control-allow-methods": "GET, PUT",
        "access-control-allow-headers": (
            "Authorization, Content-Type, X-Request-ID, X-Client-Version, Accept-Language"
        ),
    }


def test_a_preflight_is_not_decorated_again():
    made, request = hooks(), preflight()
    reply = asked(made, request)
    assert reply is not None and made.response is not None
    before = fields(reply)
    made.response(request, reply)
    assert fields(reply) == before


def test_a_preflight_that_fails_later_is_readable():
    made, request = hooks(expose=[]), preflight()
    asked(made, request)
    request.reply = Reply(500)
    assert made.error is not None
    made.error(request, Failed(Failure.INTERNAL))
    assert fields(request.reply) == {"vary": "Origin", "access-control-allow-origin": APP}


@pytest.mark.parametrize(
    "request_",
    [
        asks(),
        asks(None, "OPTIONS"),
        asks(APP, "OPTIONS"),
        asks(None, "OPTIONS", Access_Control_Request_Method="GET"),
        asks(APP, "GET", Access_Control_Request_Method="GET"),
    ],
    ids=["a request", "bare OPTIONS", "OPTIONS from a page", "no origin", "another method"],
)
def test_what_is_no_preflight(request_: Exchange):
    made = hooks()
    assert asked(made, request_) is None
    assert request_.reason == ""
    assert "vary" in decorated(made, request_)


def test_a_preflight_of_another_origin():
    reply = asked(hooks(), preflight("https://evil.example"))
    assert reply is not None and reply.status == 204
    assert list(fields(reply)) == ["vary"]


def test_methods_are_those_of_the_routes_by_default():
    made = hooks()
    request = preflight()
    request.notes[ALLOWED_METHODS] = ("DELETE", "GET", "HEAD")
    reply = asked(made, request)
    assert (
        reply is not None and fields(reply)["access-control-allow-methods"] == "DELETE, GET, HEAD"
    )
    reply = asked(made, preflight())
    assert (
        reply is not None
        and fields(reply)["access-control-allow-methods"] == "GET, HEAD, POST, PUT, PATCH, DELETE"
    )


@pytest.mark.parametrize(
    ("method", "expected"),
    [("PURGE", "PURGE"), ("A B", "GET, HEAD, POST, PUT, PATCH, DELETE"), ("PUT\r\nX-A: 1", None)],
)
def test_any_method(method: str, expected: str | None):
    reply = asked(hooks(methods=["*"]), preflight(method=method))
    assert reply is not None
    assert fields(reply)["access-control-allow-methods"] == (
        expected or "GET, HEAD, POST, PUT, PATCH, DELETE"
    )


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        ("x-a, content-type", "x-a, content-type"),
        (None, None),
        ("", None),
        ("x-a\r\nX-B: 1", None),
        ("a;b", None),
    ],
)
def test_any_header(wanted: str | None, expected: str | None):
    more = {} if wanted is None else {"Access_Control_Request_Headers": wanted}
    reply = asked(hooks(headers=["*"]), preflight(**more))
    assert reply is not None
    assert fields(reply).get("access-control-allow-headers") == expected


def test_several_lines_of_wanted_headers_are_one_list():
    request = exchange(
        "OPTIONS",
        "/c",
        [
            ("Origin", APP),
            ("Access-Control-Request-Method", "PUT"),
            ("Access-Control-Request-Headers", "x-a,x-b"),
            ("Access-Control-Request-Headers", "x-c"),
        ],
    )
    reply = asked(hooks(headers=["*"]), request)
    assert reply is not None
    assert fields(reply)["access-control-allow-headers"] == "x-a,x-b, x-c"


@pytest.mark.parametrize(
    ("origin", "host", "passes"),
    [
        (APP, "api.example.com", True),
        (None, "api.example.com", True),
        ("https://evil.example", "api.example.com", False),
        ("null", "api.example.com", False),
        ("https://api.example.com", "api.example.com", True),
    ],
)
def test_web_sockets_are_refused_to_other_origins(origin: str | None, host: str, passes: bool):
    request = asks(origin, Host=host)
    request.notes[UPGRADE] = b"accept"
    if passes:
        assert asked(hooks(), request) is None
    else:
        with pytest.raises(Failed) as caught:
            asked(hooks(), request)
        assert caught.value.failure is Failure.FORBIDDEN


@pytest.mark.parametrize("settings", [{}, {"reject": True}])
def test_every_origin_of_several_has_to_be_allowed(settings: dict[str, Any]):
    request = exchange("GET", "/c", [("Origin", APP), ("Origin", "https://evil.example")])
    request.notes[UPGRADE] = b"accept"
    with pytest.raises(Failed):
        asked(hooks(**settings), request)


def test_no_headers():
    reply = asked(hooks(headers=[], max_age=0), preflight())
    assert reply is not None
    assert "access-control-allow-headers" not in fields(reply)
    assert fields(reply)["access-control-max-age"] == "0"


def test_a_preflight_for_everyone():
    reply = asked(hooks(origins=["*"]), preflight("https://any.example"))
    assert reply is not None
    assert fields(reply)["access-control-allow-origin"] == "*"


@pytest.mark.parametrize(
    ("allowed", "sent", "granted"),
    [(True, "true", True), (True, "false", False), (False, "true", False)],
)
def test_private_networks(allowed: bool, sent: str, granted: bool):
    reply = asked(
        hooks(private_network=allowed), preflight(Access_Control_Request_Private_Network=sent)
    )
    assert reply is not None
    assert ("access-control-allow-private-network" in fields(reply)) is granted
    assert ("Private-Network" in fields(reply)["vary"]) is allowed


def test_errors_are_readable():
    request = asks()
    made = hooks(expose=[])
    assert made.error is not None
    made.error(request, Failed(Failure.NO_ROUTE))
    request.reply = Reply(404)
    assert made.error(request, Failed(Failure.NO_ROUTE)) is None
    assert fields(request.reply) == {"vary": "Origin", "access-control-allow-origin": APP}


@pytest.mark.parametrize(
    ("request_", "passes"),
    [
        (asks(), True),
        (asks(None), True),
        (asks("https://api.example.com", "POST", Host="API.example.com"), True),
        (asks("https://evil.example", Host="api.example.com"), False),
        (asks("null"), False),
        (preflight("https://evil.example"), False),
    ],
    ids=["allowed", "no origin", "its own", "another", "null", "a preflight"],
)
def test_reject(request_: Exchange, passes: bool):
    made = hooks(reject=True)
    if passes:
        assert asked(made, request_) is None
        return
    with pytest.raises(Failed) as caught:
        asked(made, request_)
    assert (caught.value.failure, caught.value.by) == (Failure.FORBIDDEN, "cors")


def test_reject_answers_preflights_of_those_it_allows():
    reply = asked(hooks(reject=True), preflight())
    assert reply is not None and reply.status == 204


@pytest.mark.parametrize(
    ("request_", "outcome", "why"),
    [
        (preflight(), "preflight", f"{APP} is allowed"),
        (asks(), "pass", f"{APP} is allowed"),
        (asks("https://evil.example"), "pass", "https://evil.example is not allowed"),
    ],
)
def test_decisions(request_: Exchange, outcome: str, why: str):
    request_.decisions = []
    asked(hooks(), request_)
    assert [(decision.hook, decision.outcome, decision.why) for decision in request_.decisions] == [
        ("cors", outcome, why)
    ]


@pytest.mark.parametrize(
    ("table", "at", "hint"),
    [
        ({"origins": ["*"], "credentials": True}, ("credentials",), "name the origins"),
        ({"expose": ["X-A", "*"], "credentials": True}, ("expose", 1), "a field's name"),
        ({"origins": [APP, "app.example.com"]}, ("origins", 1), '"https://app.example.com"'),
        ({"origins": ["https://a.example/"]}, ("origins", 0), '"https://a.example"'),
        ({"origins": ["https://*"]}, ("origins", 0), "such as"),
        ({"origins": ["https://a.*.example"]}, ("origins", 0), "such as"),
        ({"origins": ["https://app-*.com"]}, ("origins", 0), "such as"),
        ({"origins": ["^https://(a"]}, ("origins", 0), ""),
        ({"origins": ["^https://a[.]example"]}, ("origins", 0), "end it with $"),
        ({"origins": ["https://b\u2028.example"]}, ("origins", 0), "such as"),
    ],
)
def test_tables_that_cannot_mean_what_they_say(
    table: dict[str, Any], at: tuple[Any, ...], hint: str
):
    with pytest.raises(ConfigProblem) as caught:
        hooks(**table)
    assert caught.value.at == at
    assert hint in caught.value.hint


@pytest.mark.parametrize(
    "table",
    [
        {},
        {"origins": APP},
        {"origins": [APP], "methods": ["a b"]},
        {"origins": [APP], "max_age": "-1s"},
        {"origin": [APP]},
    ],
)
def test_refused_tables(table: dict[str, Any]):
    with pytest.raises(ValidationError):
        CONFIG().load(table)


@settings(max_examples=150)
@given(st.text(st.sampled_from("ahtps:/.*exmplco@#?\r\n[]80"), max_size=40))
def test_only_origins_below_the_wildcard(origin: str):
    """Whatever is sent, what is echoed is an origin of that host's, and nothing that could end a
    header line."""
    echoed = decorated(
        hooks(origins=["https://*.example.com"]), asks("https://" + origin + ".example.com")
    )
    allowed = echoed.get("access-control-allow-origin")
    if allowed is not None:
        host = allowed.removeprefix("https://")
        assert host.endswith(".example.com")
        assert all(label and label.isalnum() for label in host.split("."))
