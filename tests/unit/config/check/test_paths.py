"""The normal form of paths, and what is refused because servers disagree about it."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.config.check.paths import (
    PCHAR,
    decoded,
    encoded,
    literal,
    matched,
    normalise,
    rewrite,
    template,
)
from gateway.config.tables.pipeline import RouteConfig
from gateway.core.failures import Failed, Failure
from gateway.core.hooks import ConfigProblem


@pytest.mark.parametrize(
    ("raw", "normal"),
    [
        ("/", "/"),
        ("/a/b", "/a/b"),
        ("/a//b/", "/a//b/"),
        ("/.well-known/x", "/.well-known/x"),
        ("/a/...", "/a/..."),
        ("/a/.b", "/a/.b"),
        ("/a/..b", "/a/..b"),
        ("/a./b", "/a./b"),
        ("/a..", "/a.."),
        ("/a;v=1/b", "/a;v=1/b"),
        ("/%41%7e%2D%5F%2e", "/A~-_."),
        ("/a%2fb", "/a%2Fb"),
        ("/a%5cb", "/a%5Cb"),
        ("/a%20%c3%bc", "/a%20%C3%BC"),
        ("/a%25%32%65", "/a%252e"),
        ("/%252e%252e/a", "/%252e%252e/a"),
        ("/%40me/a%3Ab", "/@me/a:b"),
        ("/a%3Fb%23c", "/a%3Fb%23c"),
        ("/\u00fc", "/%C3%BC"),
        ("/\udcff", "/%FF"),
    ],
)
def test_normal_forms(raw: str, normal: str):
    assert normalise(raw) == normal
    assert normalise(normal) == normal


@pytest.mark.parametrize(
    "raw",
    [
        "/.",
        "/..",
        "/../",
        "/a/./b",
        "/a/../b",
        "/a/..",
        "/a/%2e%2E/b",
        "/a/.%2e",
        "/a/%2e",
        "/a/..;/b",
        "/a/..;x=1/b",
        "/a/.;/b",
        "/a/..%3b/b",
        "/a/..%2fb",
        "/a%2F../b",
        "/a%2f%2e%2e",
        "/a%5c..%5cb",
        "/a/..\\b",
        "/a\\b",
        "/a%",
        "/a%4",
        "/a%4g/b",
        "/a%%41",
        "/a%00b",
    ],
)
def test_malformed(raw: str):
    with pytest.raises(Failed) as caught:
        normalise(raw)
    assert caught.value.failure is Failure.MALFORMED
    assert caught.value.detail


@settings(max_examples=150)
@given(st.text(st.sampled_from("/.%2eE5cC3bf;aA\\\u00fc"), max_size=24))
def test_the_normal_form_is_final_and_loses_no_segment(text: str):
    raw = "/" + text
    try:
        normal = normalise(raw)
    except Failed:
        return
    assert normalise(normal) == normal
    assert normal.isascii()
    assert normal.count("/") == raw.count("/")
    assert not {".", ".."} & set(normal.replace("%2F", "/").replace("%5C", "/").split("/"))


@settings(max_examples=100)
@given(st.text(min_size=1, max_size=12))
def test_segments_survive_the_way_there_and_back(value: str):
    segment = encoded(value)
    assert "/" not in segment and set(segment) <= set(PCHAR + "%")
    assert decoded(segment) == value


def test_what_is_not_utf8_is_malformed():
    with pytest.raises(Failed) as caught:
        decoded("a%ff")
    assert caught.value.failure is Failure.MALFORMED


def test_templates():
    assert template("/c/{id}/x y/{camera-id}") == (
        ("", "c", "{}", "x%20y", "{}"),
        {"id": 2, "camera-id": 4},
    )
    assert template("/c/") == (("", "c", ""), {})
    assert matched(RouteConfig(path="/{id}")) == (("", "{}"), {"id": 1})
    assert matched(RouteConfig(prefix="/%41/b")) == (("", "A", "b"), {})


def test_rewrites_are_cut_at_their_placeholders():
    assert rewrite("/a b/{path}/{id}?x={id}&y=/z y", ["id"]) == (
        ["/a%20b/", "path", "/", "id", ""],
        ["x=", "id", "&y=/z%20y"],
    )
    assert rewrite("{path}", []) == (["", "path", ""], [])
    assert rewrite("/{anything}", None) == (["/", "anything", ""], [])


@pytest.mark.parametrize(
    ("write", "at", "said", "hint"),
    [
        (
            lambda: literal("prefix", "api"),
            "prefix",
            "must start with '/', not 'api'",
            'prefix = "/api"',
        ),
        (
            lambda: literal("prefix", "/a/{id}"),
            "prefix",
            "is literal; templates are for path",
            'path = "/a/{id}"',
        ),
        (
            lambda: literal("strip_prefix", "/a{"),
            "strip_prefix",
            "holds a brace",
            "%7B is {, %7D is }",
        ),
        (
            lambda: literal("prefix", "/a#b"),
            "prefix",
            "query or a fragment",
            "percent-encode ? and #",
        ),
        (
            lambda: literal("prefix", "/a/../b"),
            "prefix",
            "'/a/../b' has a '.' or '..' segment",
            "write it without",
        ),
        (
            lambda: template("/a%zz/{id}"),
            "path",
            "'/a%zz/{id}' holds a '%' that starts no valid escape",
            "%25 is a '%'",
        ),
        (
            lambda: template("/a/{id}.json"),
            "path",
            "'{id}.json' is no template",
            'e.g. "/cameras/{id}"',
        ),
        (
            lambda: template("/{id}/{id}"),
            "path",
            "names must differ",
            'e.g. "/users/{user}/keys/{key}"',
        ),
        (
            lambda: rewrite("v1{path}", []),
            "rewrite",
            "must start with '/' or {path}",
            'rewrite = "/v1{path}"',
        ),
        (lambda: rewrite("/x#y", []), "rewrite", "fragment", "%23 is a '#'"),
        (
            lambda: rewrite("/x}{path}", []),
            "rewrite",
            "a brace without its other half",
            "%7B is {, %7D is }",
        ),
        (
            lambda: rewrite("/a/../b{path}", []),
            "rewrite",
            "'/a/../b' has a '.' or '..' segment",
            "write it without",
        ),
        (
            lambda: rewrite("/{camera}", ["id"]),
            "rewrite",
            "nothing called {camera}",
            "known: id, path",
        ),
        (lambda: rewrite("/x?id={id}", []), "rewrite", "nothing called {id}", "known: path"),
        (
            lambda: rewrite("/x{path}", ["path"]),
            "rewrite",
            "both the whole path",
            "give the segment another name",
        ),
    ],
)
def test_what_no_path_can_be(write: Callable[[], object], at: str, said: str, hint: str):
    with pytest.raises(ConfigProblem) as caught:
        write()
    assert caught.value.at == (at,)
    assert said in caught.value.message
    assert caught.value.hint == hint
