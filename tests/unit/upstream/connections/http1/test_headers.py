from __future__ import annotations

import pytest
from multidict import CIMultiDict, CIMultiDictProxy

from gateway.core.exchange import Exchange, Identity
from gateway.core.headers import UnsafeField
from gateway.upstream.connections.http1 import headers as module
from gateway.upstream.connections.http1.headers import passes, request_head
from tests.origin import fields_of


def exchange(*pairs: tuple[str, str], target: str = "/a") -> Exchange:
    fields: CIMultiDict[str] = CIMultiDict([("Host", "edge.test"), *pairs])
    raw = [(name.encode(), value.encode()) for name, value in fields.items()]
    return Exchange(
        "GET", target, CIMultiDictProxy(fields), raw, peer="192.0.2.1", request_id="id-1"
    )


def sent(one: Exchange, framing: bytes = b"") -> dict[str, str]:
    head = request_head(one, one.target, "edge.test", framing)
    assert head.startswith(b"GET /a HTTP/1.1\r\nHost: edge.test\r\n")
    assert head.endswith(b"\r\n\r\n") and head.count(b"\r\n\r\n") == 1
    return fields_of(head)


@pytest.mark.parametrize(
    ("name", "goes"),
    [
        (b"Accept", True), (b"X-Request-Foo", True), (b"Via", True), (b"Cookie", True), (b"Sec-WebSocket-Key", True),
        (b"Connection", False), (b"Keep-Alive", False), (b"TE", False), (b"Trailer", False), (b"Upgrade", False),
        (b"Transfer-Encoding", False), (b"Content-Length", False), (b"Proxy-Authorization", False), (b"Proxy", False),
        (b"X-Forwarded-For", False), (b"X_Forwarded_For", False), (b"forwarded", False), (b"X-Real-Ip", False),
        (b"X-Client-ID", False), (b"X-CLIENT-TIER", False), (b"x_client_roles", False), (b"Content_Length", False),
        (b"X-Request-ID", False), (b"Host", False), (b"Expect", False),
        (b"X-Forwarded-Prefix", False), (b"X-Forwarded-Ssl", False), (b"X-Forwarded-Scheme", False),
        (b"X-Forwarded-Server", False), (b"X-Forwarded-Uri", False), (b"X-Forwarded-Method", False),
        (b"X-Forwarded-User", False), (b"X-Forwarded-Anything", False),
        (b"True-Client-IP", False), (b"CF-Connecting-IP", False), (b"X_Client_Token", False), (b"X-Client-Token", False),
        (b"X.Client.ID", False), (b"X-Client-Version", True), (b"X-Client-Info", True), (b"X-Auth-Request-Email", False),
        (b"X-ARR-ClientCert", False), (b"X-Amzn-Mtls-Clientcert-Subject", False), (b"X-Goog-Authenticated-User-Email", False),
        (b"Cf-Access-Jwt-Assertion", False), (b"X-MS-CLIENT-PRINCIPAL-NAME", False), (b"Remote-Groups", False),
        (b"X-Remote-Group", False), (b"X-Remote-Extra-Scopes", False), (b"X-Envoy-Retry-On", False),
        (b"X-Authentik-Username", False), (b"Destination", True), (b"X-User-Agent", True),
        (b"Remote_User", False), (b"X-SSL-Client-Verify", False), (b"X-Forwardedness", True),
        (b"X-Original-URL", False), (b"X-Rewrite-URL", False), (b"X-HTTP-Method-Override", False),
        (b"X_HTTP_Method_Override", False), (b"X-HTTP-Method", False), (b"X-Method-Override", False),
    ],
)  # fmt: skip
def test_which_fields_pass(name, goes):
    assert passes(name) is goes


@pytest.mark.parametrize(
    ("name", "goes"),
    [
        (b"X-Forwarded-Port", True), (b"X-Forwarded-Prefix", True), (b"X-Real-IP", True), (b"True-Client-IP", True),
        (b"X-Remote-Group", True), (b"X-Envoy-Original-Path", True), (b"X-Amzn-Oidc-Data", True),
        (b"X-Forwarded-Client-Cert", True), (b"X-Forwarded-For", False), (b"X-Forwarded-Proto", False), (b"Forwarded", False),
        (b"X-Client-ID", False), (b"X-Client-Token", False), (b"X-Original-URL", False), (b"X_Forwarded_Host", False),
    ],
)  # fmt: skip
def test_which_fields_pass_from_a_trusted_proxy(name, goes):
    assert passes(name, trusted=True) is goes
    one = exchange((name.decode(), "1"))
    one.trusted = True
    assert (name + b": 1\r\n" in request_head(one, "/", "h", b"")) is goes


@pytest.mark.parametrize("spelling", ["X_Api_Key", "X-Api_Key", "x.api.key"])
def test_what_hooks_drop_or_replace_is_gone_in_any_spelling(spelling):
    one = exchange((spelling, "mine"))
    one.drop_headers = frozenset((b"x-api-key",))
    assert b"mine" not in request_head(one, "/", "h", b"")
    one = exchange((spelling, "mine"))
    one.forward_headers = [(b"X-API-Key", b"ours")]
    head = request_head(one, "/", "h", b"")
    assert b"mine" not in head and b"X-API-Key: ours\r\n" in head


def test_http_1_0_without_a_host():
    one = Exchange(
        "GET", "/a", CIMultiDictProxy(CIMultiDict()), [], peer="192.0.2.1", version=(1, 0)
    )
    head = request_head(one, "/a", "origin", b"")
    assert b"X-Forwarded-Host" not in head and b"host=" not in head
    assert b"Via: 1.0 gateway\r\n" in head


@pytest.mark.parametrize("value", [b"a\r\nX-Admin: 1", b"a\nb", b"a\rb"])
def test_what_hooks_add_and_no_line_may_hold_is_refused(value):
    one = exchange()
    one.forward_headers = [(b"X-Note", value)]
    with pytest.raises(UnsafeField):
        request_head(one, "/", "h", b"")
    one = exchange()
    one.identity = Identity("acme", "jwt", headers=((b"X-Client-ID", value),))
    with pytest.raises(UnsafeField):
        request_head(one, "/", "h", b"")


def test_own_account_of_where_it_came_from():
    fields = sent(
        exchange(("X-Forwarded-For", "6.6.6.6"), ("X-Forwarded-Proto", "https"), ("Via", "1.0 old"))
    )
    assert fields["x-forwarded-for"] == "192.0.2.1"
    assert fields["x-forwarded-proto"] == "http"
    assert fields["x-forwarded-host"] == "edge.test"
    assert fields["x-request-id"] == "id-1"
    assert fields["via"] == "1.0 old, 1.1 gateway"


def test_a_trusted_proxys_account_is_kept_and_continued():
    one = exchange(
        ("X-Forwarded-For", "203.0.113.7"),
        ("X-Forwarded-Proto", "https"),
        ("X-Forwarded-Host", "outer.test"),
    )
    one.trusted = True
    fields = sent(one)
    assert fields["x-forwarded-for"] == "203.0.113.7, 192.0.2.1"
    assert fields["x-forwarded-proto"] == "https"
    assert fields["x-forwarded-host"] == "outer.test"


def test_what_connection_names_does_not_pass():
    fields = sent(
        exchange(
            ("Connection", "close, X-Mine"),
            ("Connection", "X-Other"),
            ("X-Mine", "1"),
            ("X-Other", "2"),
            ("A", "3"),
        )
    )
    assert "x-mine" not in fields and "x-other" not in fields and "connection" not in fields
    assert fields["a"] == "3"


def test_what_hooks_add_replaces_the_clients_and_what_they_drop_is_gone():
    one = exchange(("If-None-Match", '"client"'), ("X-API-Key", "secret"), ("Accept", "*/*"))
    one.forward_headers = [(b"If-None-Match", b'"stored"')]
    one.drop_headers = frozenset((b"x-api-key",))
    one.identity = Identity("acme", "api_key", headers=((b"X-Client-ID", b"acme"),))
    fields = sent(one, b"Content-Length: 3\r\n")
    assert fields["if-none-match"] == '"stored"'
    assert "x-api-key" not in fields
    assert fields["x-client-id"] == "acme"
    assert fields["content-length"] == "3"
    assert fields["accept"] == "*/*"


def test_bytes_that_are_no_utf8_survive():
    raw = [(b"X-Bin", b"\xff\xfe")]
    one = Exchange("GET", "/\udcff", CIMultiDictProxy(CIMultiDict({"Host": "h"})), raw)
    head = request_head(one, one.target, "h", b"")
    assert b"GET /\xff HTTP/1.1" in head
    assert b"X-Bin: \xff\xfe\r\n" in head


def test_what_hooks_drop_is_remembered_by_set(monkeypatch):
    monkeypatch.setattr(module, "_PASSES", {})
    for number in range(100):
        dropped = frozenset((b"x-%d" % number,))
        one = exchange(("X-1", "a"), ("X-Stays", "b"))
        one.drop_headers = dropped
        head = request_head(one, "/", "h", b"")
        assert (b"X-1: a" in head) is (number != 1)
        assert b"X-Stays: b" in head
    assert len(module._PASSES) <= 64


def test_accounts_of_where_requests_come_from_are_remembered_within_bounds(monkeypatch):
    monkeypatch.setattr(module, "_ACCOUNTS_MAX", 3)
    monkeypatch.setattr(module, "_ACCOUNTS", {})
    for number in range(10):
        one = exchange()
        one.peer = f"192.0.2.{number}"
        assert b"X-Forwarded-For: 192.0.2.%d\r\n" % number in request_head(one, "/", "h", b"")
        assert len(module._ACCOUNTS) <= 3


@pytest.mark.parametrize(
    ("client", "hook", "tied"),
    [("Negotiate oRQ", b"", True), ("", b"NTLM TlRM", True), ("Bearer a", b"Basic b", False)],
)
def test_credentials_that_authenticate_the_connection_are_noticed(
    client: str, hook: bytes, tied: bool
) -> None:
    """The client's, and those that a hook adds."""
    asked = exchange(*([("Authorization", client)] if client else []))
    asked.forward_headers = [(b"Authorization", hook)] if hook else None
    request_head(asked, "/", "a", b"")
    assert (module.TIED in asked.memo) is tied


OURS = "00-4bf92f3577b34da6a3ce929d0e0e4736-53995c3f42cd8ad8-01"
THEIRS = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


@pytest.mark.parametrize(
    ("given", "state"),
    [((THEIRS,), "a=1"), (("zero",), None), ((THEIRS, THEIRS), None), ((), None)],
)
def test_the_gateways_traceparent_takes_the_place_of_the_clients(
    given: tuple[str, ...], state: str | None
):
    one = exchange(*(("TraceParent", value) for value in given), ("tracestate", "a=1"))
    one.traceparent = OURS
    for _ in range(2):
        head = request_head(one, "/a", "edge.test", b"")
        assert head.lower().count(b"traceparent:") == 1
        assert fields_of(head)["traceparent"] == OURS
        assert fields_of(head).get("tracestate") == state


def test_a_traceparent_of_a_hooks_own_is_kept():
    one = exchange()
    one.traceparent, one.forward_headers = OURS, [(b"Traceparent", THEIRS.encode())]
    head = request_head(one, "/a", "edge.test", b"")
    assert head.lower().count(b"traceparent:") == 1 and THEIRS.encode() in head
