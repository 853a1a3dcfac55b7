"""What counts as purged: by URL, path, prefix, pattern and tag, hard and soft, and since when."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.store.purges import (
    MAX_PATTERNS,
    MAX_PREFIX_LENGTHS,
    Purge,
    Purges,
    bucket,
    of_pattern,
    tag_buckets,
)


@pytest.mark.parametrize(
    ("purge", "uri", "named"),
    [
        (Purge("url", "http://a/x?q"), "http://a/x?q", True),
        (Purge("url", "http://a/x?q"), "https://a/x?q", True),
        (Purge("url", "http://a/x"), "http://a/x?q", False),
        (Purge("url", "http://a/x"), "http://b/x", False),
        (Purge("url", "/x?q"), "http://b/x?q", True),
        (Purge("url", "/x"), "http://b/x?q", False),
        (Purge("path", "/x"), "http://a/x?q", True),
        (Purge("path", "/x"), "http://a/x/", False),
        (Purge("prefix", "/x/"), "http://a/x/y", True),
        (Purge("prefix", "/x/"), "http://a/x", False),
        (Purge("prefix", "https://a/x"), "http://a/xy", True),
        (Purge("prefix", "http://a/x"), "http://b/xy", False),
        (Purge("tag", "one"), "http://a/x", True),
        (Purge("tag", "three"), "http://a/x", False),
        (Purge("all"), "http://a/x", True),
        (Purge("url", "http://a/%78"), "http://a/x", True),
        (Purge("path", "/a b"), "http://a/a%20b?c", True),
        (Purge("path", "/a?b"), "http://a/a%3Fb", True),
        (Purge("path", "/a?b"), "http://a/a?b", False),
        (Purge("prefix", "/%61/"), "http://a/a/b", True),
    ],
)
def test_what_a_purge_names(purge: Purge, uri: str, named: bool):
    purges = Purges()
    purges.add(purge)
    tags = tag_buckets("one, two")
    assert purges.verdict(uri, tags, 0) == ("gone" if named else "")
    assert purges.verdict(uri, tags, 1) == ""


@pytest.mark.parametrize(
    ("pattern", "path", "named"),
    [
        ("/a", "/a", True),
        ("/a", "/a?x=1", True),
        ("/a", "/a/", False),
        ("/a*", "/ab/c?x", True),
        ("/a/*", "/a", False),
        ("/*/c", "/a/b/c", True),
        ("*", "/", True),
        ("*x=1", "/a?x=1", False),
        ("/a[b]?", "/ab", False),
        ("/a[b]?", "/a[b]?", False),
        ("/a.c", "/abc", False),
    ],
)
def test_patterns(pattern: str, path: str, named: bool):
    purges = Purges()
    purges.add(of_pattern(pattern))
    assert (purges.verdict(f"http://host:80{path}", (), 0) == "gone") == named


def test_a_pattern_takes_the_cheapest_kind():
    assert [of_pattern(one).kind for one in ("/a", "/a*", "/a*b", "*", "*/a", "/*/b*")] == [
        "path",
        "prefix",
        "pattern",
        "pattern",
        "pattern",
        "pattern",
    ]


def test_a_purge_is_for_what_was_asked_for_before_it():
    purges = Purges()
    purges.add(Purge("path", "/x"))
    first = purges.version
    assert (first, purges.version, repr(purges)) == (1, 1, "<Purges up to 1>")
    assert purges.verdict("http://a/x", (), first) == ""
    purges.add(Purge("path", "/y"))
    assert purges.verdict("http://a/x", (), first) == ""
    purges.add(Purge("path", "/x"))
    assert purges.verdict("http://a/x", (), first) == "gone"


def test_a_soft_purge_makes_stale_and_a_hard_one_counts_more():
    purges = Purges()
    purges.add(Purge("tag", "t", soft=True))
    tags = tag_buckets("t")
    assert purges.verdict("http://a/x", tags, 0) == "stale"
    purges.add(Purge("all"))
    assert purges.verdict("http://a/x", tags, 0) == "gone"
    purges.add(Purge("all", soft=True))
    assert purges.verdict("http://a/x", tags, 2) == "stale"


def test_versions_of_a_store_may_come_late_and_out_of_order():
    purges = Purges()
    (field,) = Purges.fields(Purge("path", "/x"))
    purges.restore(field, 500)
    purges.restore(field, 300)
    assert purges.version == 500
    assert purges.verdict("http://a/x", (), 400) == "gone"
    purges.add(Purge("path", "/y"))
    assert purges.version == 501


@pytest.mark.parametrize(
    "purge",
    [
        Purge("url", "http://a/x?q"),
        Purge("prefix", "/x"),
        Purge("path", "/x", soft=True),
        Purge("pattern", "/*x y"),
        Purge("tag", "t", soft=True),
        Purge("all"),
    ],
)
def test_a_purge_can_be_remembered_by_names(purge: Purge):
    here, there = Purges(), Purges()
    here.add(purge)
    for field in Purges.fields(purge):
        there.restore(field, 7)
    for uri in ("http://a/x?q", "http://b/ax y", "http://b/z"):
        tags = tag_buckets("t")
        assert here.verdict(uri, tags, 0) == there.verdict(uri, tags, 6)


@pytest.mark.parametrize("field", ["", "hard", "hard place x", "hard length x", "hard place"])
def test_names_that_are_none(field: str):
    with pytest.raises(ValueError, match=r".*"):
        Purges().restore(field, 1)


@pytest.mark.parametrize(
    ("field", "most"),
    [("hard length {}", MAX_PREFIX_LENGTHS), ("hard pattern /{}*z", MAX_PATTERNS)],
)
def test_too_many_to_tell_apart_purge_everything(field: str, most: int):
    purges = Purges()
    for number in range(most):
        purges.restore(field.format(number), number + 1)
    assert purges.verdict("http://a/x", (), 0) == ""
    purges.restore(field.format(most), most + 1)
    last = purges.version
    assert purges.verdict("http://a/x", (), last - 1) == "gone"
    assert purges.verdict("http://a/x", (), last) == ""


def test_prefixes_of_any_length_purge_what_begins_so_and_little_else():
    """Who writes to "/users/{id}/x" chooses the lengths that `invalidate` purges by."""
    purges = Purges()
    for length in range(1, 9000, 37):
        asked = purges.version
        purges.add(Purge("prefix", f"/users/{'y' * length}/"))
        assert purges.verdict(f"http://a/users/{'y' * length}/1", (), asked) == "gone"
        assert purges.verdict("http://a/users/x", (), asked) == ""
    purges.add(Purge("prefix", "/" + "y" * 63))
    assert purges.verdict(f"http://a/{'y' * 62}z", (), purges.version - 1) == ""


def test_tags_are_separated_by_commas_or_spaces():
    places = tuple(sorted(bucket("tag", tag) for tag in ("a", "b", "c-1")))
    assert tag_buckets(" a, b  c-1,,a") == places
    assert tag_buckets("") == ()


@given(st.text(max_size=20), st.text(max_size=20))
def test_any_text_has_a_place(kind: str, value: str):
    assert 0 <= bucket(kind, value) < 1 << 16


def test_others_are_told_of_what_is_purged_here_and_not_of_what_they_tell():
    told: list[Purge] = []
    purges = Purges(told.append)
    purges.purge(Purge("tag", "t"))
    purges.add(Purge("tag", "u"))
    assert (told, purges.version) == ([Purge("tag", "t")], 2)


def test_a_write_concerns_what_is_stored_and_what_is_still_to_come():
    told: list[Purge] = []
    purges = Purges(told.append)
    stored: dict[str, int] = {"https://a/x": 1}
    purges.stores.append(stored)
    purges.written("http://a/y%20z")
    assert (purges.version, purges.affecting) == (1, 0)
    assert purges.verdict("https://a/y%20z", (), 0) == "gone"
    purges.written("http://a/x")
    assert (purges.version, purges.affecting) == (2, 2)
    assert purges.verdict("https://a/x", (), 1) == "gone"
    assert told == [Purge("url", "http://a/y%20z"), Purge("url", "http://a/x")]
