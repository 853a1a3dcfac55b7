from __future__ import annotations

import pytest

from gateway.store.stores import BadUrl, StoreUrl, is_url, parse


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("redis://db", StoreUrl("redis", (("db", 6379),))),
        ("rediss://u:p%40ss@db:7000/3", StoreUrl("rediss", (("db", 7000),), "u", "p@ss", "", 3)),
        ("redis://:secret@[::1]:7000", StoreUrl("redis", (("::1", 7000),), "", "secret")),
        (
            "redis+sentinel://a,b:1/limits/2",
            StoreUrl("redis+sentinel", (("a", 26379), ("b", 1)), "", "", "limits", 2),
        ),
        ("redis+cluster://a,b:1", StoreUrl("redis+cluster", (("a", 6379), ("b", 1)))),
    ],
)
def test_urls(url: str, expected: StoreUrl):
    assert parse(url) == expected
    assert "s" not in expected.password or expected.password not in f"{expected} {expected!r}"


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("http://db", "must begin with"),
        ("redis://", "one host"),
        ("redis://a,b", "one host"),
        ("redis+cluster://", "hosts"),
        ("redis://db:many", "no port"),
        ("redis+sentinel://a", "service"),
        ("redis://db/one", "number of a database"),
        ("redis://db/1/2", "number of a database"),
        ("redis+cluster://db/1", "number of a database"),
    ],
)
def test_mistakes(url: str, said: str):
    with pytest.raises(BadUrl, match=said):
        parse(url)


def test_memory_is_no_store():
    assert not is_url("memory://") and is_url("redis://db:1") and is_url("rediss://db:1")
