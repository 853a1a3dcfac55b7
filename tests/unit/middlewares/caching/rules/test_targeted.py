"""Targeted cache control: the grammar of RFC 9651, and what RFC 9213 makes of it."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.middlewares.caching.rules.directives import FOREVER, Directives
from gateway.middlewares.caching.rules.targeted import control_of, targeted

TARGETS = ("Gateway-Cache-Control", "CDN-Cache-Control")


@pytest.mark.parametrize(
    ("field", "expected"),
    [
        (b"max-age=60", Directives(max_age=60)),
        (b" max-age=60 , no-store\t,\tpublic ", Directives(max_age=60, no_store=True, public=True)),
        (b"no-store=?1", Directives(no_store=True)),
        (b"no-store=?0, max-age=5", Directives(max_age=5)),
        (b"max-age=60;x=1; y, private", Directives(max_age=60, private=True)),
        (b'private="x-a, x-b"', Directives(private_fields=frozenset((b"x-a", b"x-b")))),
        (b"no-cache=x-a", Directives(no_cache_fields=frozenset((b"x-a",)))),
        (b"max-age=5, max-age=6", Directives(max_age=6)),
        (b"max-age=5, max-age=?0", Directives()),
        (b"max-age=99999999999", Directives(max_age=FOREVER)),
        (b"foobar, ext=(a b;q=1 \"c\"), bin=:YQ==:, at=@1, say=%\"%c3%a4\", max-age=1",
         Directives(max_age=1)),
        # The wrong type is no number, and no number is stale.
        (b'max-age="60"', Directives(max_age=0)),
        (b"max-age=1.5", Directives(max_age=0)),
        (b"max-age=-1", Directives(max_age=0)),
        (b"max-age=(60)", Directives(max_age=0)),
        (b"max-age", Directives(max_age=0)),
    ],
)  # fmt: skip
def test_what_a_targeted_field_says(field: bytes, expected: Directives):
    assert targeted(field) == expected


@pytest.mark.parametrize(
    "field",
    [
        b"",
        b"  ",
        b"max-age=60, &&&&&",
        b"max-age=60,",
        b",max-age=60",
        b"Max-Age=60",
        b"max-age =60",
        b"max-age= 60",
        b"max-age=60 no-store",
        b"max-age=1234567890123456",
        b'private="x-a',
        b'private="\\x"',
        b"x=(a",
        b"x=?2",
        b"x=\xff",
    ],
)
def test_a_field_that_is_empty_or_breaks_the_grammar_is_as_if_it_were_not_there(field: bytes):
    assert targeted(field) is None
    index = {b"cdn-cache-control": field, b"cache-control": b"max-age=7", b"expires": b"0"}
    assert control_of(index, TARGETS) == (Directives(max_age=7), b"0")


def test_the_first_valid_field_of_the_list_counts_alone():
    index = {
        b"gateway-cache-control": b"???",
        b"cdn-cache-control": b"max-age=60",
        b"cache-control": b"no-store",
        b"expires": b"0",
    }
    assert control_of(index, TARGETS) == (Directives(max_age=60), None)
    index[b"gateway-cache-control"] = b"private"
    assert control_of(index, TARGETS) == (Directives(private=True), None)
    assert control_of(index, ()) == (Directives(no_store=True), b"0")


KEYS = st.from_regex(r"[a-z*][a-z0-9_.*-]{0,8}", fullmatch=True)
VALUES = st.one_of(
    st.just(""),
    st.integers(-(10**15) + 1, 10**15 - 1).map(lambda n: f"={n}"),
    st.text("ab ,;=", max_size=6).map(lambda text: f'="{text}"'),
    st.from_regex(r"[A-Za-z*][A-Za-z0-9/:]{0,5}", fullmatch=True).map(lambda token: f"={token}"),
)


@given(st.lists(st.tuples(KEYS, VALUES), min_size=1, max_size=6), st.integers(0, FOREVER))
@settings(max_examples=100)
def test_what_is_well_formed_is_read_and_unknown_members_are_ignored(members, seconds):
    field = ", ".join(f"{key}{value}" for key, value in [*members, ("max-age", f"={seconds}")])
    found = targeted(field.encode())
    assert found is not None
    assert found.max_age == seconds


@given(st.binary(max_size=400))
@settings(max_examples=100)
def test_whatever_comes_is_read_or_ignored(field: bytes):
    found = targeted(field)
    assert found is None or isinstance(found, Directives)
