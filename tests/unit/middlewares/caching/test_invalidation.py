"""Which URIs and paths a write is about."""

from __future__ import annotations

from gateway.middlewares.caching.invalidation import filled, same_origin


def test_a_path_has_its_own_values():
    assert filled("/a/{id}/*", {"id": "1", "more": "2"}) == "/a/1/*"
    assert filled("/a/{id}", {"id": "1/../*?"}) == "/a/1%2F..%2F%2A%3F"
    assert filled("/a/{id}", {}) == ""


def test_same_origin():
    assert same_origin("https://a.example", "/x/y?q", "z") == "https://a.example/x/z"
    assert (
        same_origin("https://a.example:444", "/", "https://A.example:444")
        == "https://a.example:444/"
    )
    assert same_origin("https://a.example", "/", "https://a.example:443/z") == "https://a.example/z"
    assert same_origin("https://a.example", "/", "//b.example/z") == ""
    assert same_origin("http://", "/x", "/y") == "http:///y"
