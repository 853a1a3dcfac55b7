"""Reading Cache-Control, Age, Vary, entity tags and dates, however broken."""

from __future__ import annotations

from calendar import timegm
from email.utils import formatdate
from time import gmtime

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gateway.middlewares.caching.rules.directives import (
    FOREVER,
    NOTHING_SAID,
    Directives,
    date_of,
    entity_tag,
    entity_tags,
    http_date,
    parse,
    seconds_of_age,
    vary_of,
)

CASES = [
    ("nothing", b"", Directives()),
    ("one flag", b"no-store", Directives(no_store=True)),
    ("any case", b"No-Store, MAX-AGE=5", Directives(no_store=True, max_age=5)),
    (
        "white space and empty members",
        b" ,, max-age=5 ,\t, public ,",
        Directives(max_age=5, public=True),
    ),
    (
        "all flags",
        b"must-revalidate,proxy-revalidate,must-understand,public,only-if-cached",
        Directives(
            must_revalidate=True,
            proxy_revalidate=True,
            must_understand=True,
            public=True,
            only_if_cached=True,
        ),
    ),
    (
        "unknown directives are ignored",
        b'max-age=5, immutable, foo="a, no-store", bar=7',
        Directives(max_age=5),
    ),
    ("a quoted number", b'max-age="30"', Directives(max_age=30)),
    ("an escaped quoted number", b'max-age="\\30"', Directives(max_age=30)),
    ("zero", b"max-age=0", Directives(max_age=0)),
    ("leading zeros", b"max-age=0007", Directives(max_age=7)),
    ("beyond what fits", b"max-age=99999999999999999999999999", Directives(max_age=FOREVER)),
    ("just beyond", b"max-age=2147483649", Directives(max_age=FOREVER)),
    ("negative", b"max-age=-1", Directives(max_age=0)),
    ("fraction", b"max-age=1.5", Directives(max_age=0)),
    ("no number", b"max-age", Directives(max_age=0)),
    ("empty number", b"max-age=", Directives(max_age=0)),
    ("words", b"s-maxage=soon", Directives(s_maxage=0)),
    ("not ASCII digits", "max-age=\u0663".encode(), Directives(max_age=0)),
    ("space before =", b"max-age =5", Directives(max_age=0)),
    ("space after =", b"max-age= 5", Directives(max_age=0)),
    ("rubbish behind a quoted number", b'max-age="5"0', Directives(max_age=0)),
    ("the same twice", b"max-age=5, max-age=5", Directives(max_age=5)),
    ("two different", b"max-age=5, max-age=6", Directives(max_age=0)),
    ("two different, shared", b"s-maxage=6, s-maxage=5", Directives(s_maxage=0)),
    ("private", b"private", Directives(private=True)),
    ("private with an argument of nothing", b'private=""', Directives(private=True)),
    ("private with rubbish", b'private="a b(c"', Directives(private=True)),
    (
        "qualified private",
        b'private="Set-Cookie, X-A"',
        Directives(private_fields=frozenset((b"set-cookie", b"x-a"))),
    ),
    (
        "qualified private as a token",
        b"private=X-A",
        Directives(private_fields=frozenset((b"x-a",))),
    ),
    (
        "qualified twice",
        b'no-cache="a", no-cache="b"',
        Directives(no_cache_fields=frozenset((b"a", b"b"))),
    ),
    (
        "qualified and not",
        b'no-cache="a", no-cache',
        Directives(no_cache=True, no_cache_fields=frozenset((b"a",))),
    ),
    (
        "a comma in a string is no end",
        b'private="x-a,no-store"',
        Directives(private_fields=frozenset((b"x-a", b"no-store"))),
    ),
    (
        "a string without an end hides nothing",
        b'private="x-a, no-store',
        Directives(private_fields=frozenset((b"x-a",)), no_store=True),
    ),
    (
        "a flag with an argument still counts",
        b"no-store=foo, public=1",
        Directives(no_store=True, public=True),
    ),
    ("max-stale alone is any", b"max-stale", Directives(max_stale=FOREVER)),
    ("max-stale with a number", b"max-stale=10", Directives(max_stale=10)),
    ("a broken max-stale allows nothing", b"max-stale=x", Directives()),
    ("two of max-stale allow nothing", b"max-stale=1, max-stale=2", Directives()),
    ("min-fresh", b"min-fresh=10", Directives(min_fresh=10)),
    ("a broken min-fresh demands all", b"min-fresh=x", Directives(min_fresh=FOREVER)),
    ("two of min-fresh demand all", b"min-fresh=1, min-fresh=2", Directives(min_fresh=FOREVER)),
    (
        "stale-while-revalidate",
        b"stale-while-revalidate=30, stale-if-error=60",
        Directives(stale_while_revalidate=30, stale_if_error=60),
    ),
    ("a broken one allows nothing", b"stale-while-revalidate=x", Directives()),
    ("stale-if-error", b"stale-if-error=60", Directives(stale_if_error=60)),
    ("a broken stale-if-error allows nothing", b"stale-if-error=x", Directives()),
    ("two of stale-if-error allow nothing", b"stale-if-error=5, stale-if-error=6", Directives()),
]


@pytest.mark.parametrize(
    ("field", "expected"), [pytest.param(field, expected, id=why) for why, field, expected in CASES]
)
def test_cache_control(field: bytes, expected: Directives):
    assert parse(field) == expected


def test_no_field_says_nothing():
    assert parse(None) is NOTHING_SAID


def test_long_fields_are_read_but_not_remembered():
    field = b"x=" + b"y" * 300 + b", no-store"
    assert parse(field) == Directives(no_store=True)
    assert parse(field) is not parse(field)
    assert parse(b"max-age=123") is parse(b"max-age=123")


@given(
    st.binary(max_size=60)
    | st.text(alphabet='ax-=",\\ 0\tno-storemax-age', max_size=60).map(str.encode)
)
@example(b'"')
@example(b'=","=')
@settings(max_examples=200)
def test_no_field_is_too_broken(field: bytes):
    """Whatever comes is read, and a no-store that stands on its own is never lost."""
    assert isinstance(parse(field), Directives)
    if b'"' not in field:
        assert parse(field + b",no-store").no_store
        assert parse(b"no-store," + field).no_store


NAMES = st.sampled_from(
    ["no-store", "no-cache", "private", "public", "must-revalidate", "proxy-revalidate"]
)
NUMBERS = st.tuples(
    st.sampled_from(["max-age", "s-maxage", "min-fresh", "max-stale"]), st.integers(0, FOREVER)
)


@given(
    st.sets(NAMES),
    st.dictionaries(NUMBERS.map(lambda pair: pair[0]), st.integers(0, FOREVER)),
    st.randoms(),
)
@settings(max_examples=100)
def test_order_case_and_quoting_do_not_matter(flags: set[str], numbers: dict[str, int], random):
    members = [
        *flags,
        *(
            f'{name}="{value}"' if random.random() < 0.5 else f"{name}={value}"
            for name, value in numbers.items()
        ),
    ]
    random.shuffle(members)
    field = ", ".join(member.upper() if random.random() < 0.5 else member for member in members)
    found = parse(field.encode())
    for flag in (
        "no-store",
        "no-cache",
        "private",
        "public",
        "must-revalidate",
        "proxy-revalidate",
    ):
        assert getattr(found, flag.replace("-", "_")) == (flag in flags)
    for name in ("max-age", "s-maxage", "min-fresh", "max-stale"):
        assert getattr(found, name.replace("-", "_")) == numbers.get(name)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, 0),
        (b"0", 0),
        (b"30", 30),
        (b"30, 40", 30),
        (b" 7 ,x", 7),
        (b"-1", 0),
        (b"1.5", 0),
        (b"x", 0),
        (b"", 0),
        (b"99999999999", FOREVER),
        (b"4294967296", FOREVER),
    ],
)
def test_age(value: bytes | None, expected: int):
    assert seconds_of_age(value) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, ()),
        (b"", ()),
        (b"Accept-Encoding", ("accept-encoding",)),
        (b"Origin, accept-encoding , ORIGIN", ("accept-encoding", "origin")),
        (b"*", None),
        (b"Origin, *", None),
        (b"Origin Accept", None),
        (b"\xff", None),
    ],
)
def test_vary(value: bytes | None, expected: tuple[str, ...] | None):
    assert vary_of(value) == expected


def test_entity_tags():
    assert entity_tag(b'"a"') == b'"a"'
    assert entity_tag(b'W/"a"') == b'W/"a"'
    assert entity_tag(b'""') == b'""'
    assert entity_tag(b"a") is None
    assert entity_tag(b'"a", "b"') is None
    assert entity_tag(b'w/"a"') is None
    assert entity_tag(None) is None
    assert entity_tags(b'"a", W/"b,c" ,"d"') == [b'"a"', b'"b,c"', b'"d"']
    assert entity_tags(b"*") == []


@pytest.mark.parametrize(
    "value",
    [
        b"Sun, 06 Nov 1994 08:49:37 GMT",
        b"Sunday, 06-Nov-94 08:49:37 GMT",
        b"Sun Nov  6 08:49:37 1994",
    ],
)
def test_the_three_forms_of_a_date(value: bytes):
    """In any case of letters (RFC 9111 section 4.2)."""
    for spelt in (value, value.lower(), value.upper(), value.swapcase()):
        assert date_of(spelt) == 784111777


@pytest.mark.parametrize(
    "value",
    [
        None,
        b"",
        b"0",
        b"-1",
        b"784111777",
        b"Sun, 06 Nov 1994 08:49:37",
        b"Sun, 06 Nov 1994 08:49:37 UTC",
        b"Sun, 06 Nov 1994 08:49:37 +0000",
        b"Sun, 6 Nov 1994 08:49:37 GMT",
        b"Sun, 31 Feb 1994 08:49:37 GMT",
        b"Sun, 00 Nov 1994 08:49:37 GMT",
        b"Sun, 32 Nov 1994 08:49:37 GMT",
        b"Sun, 06 Nov 1994 24:49:37 GMT",
        b"Sun, 06 Nov 1994 08:60:37 GMT",
        b"Sun, 06 Nov 1994 08:49:61 GMT",
        b"Sun, 06 Nov 0000 08:49:37 GMT",
        b"Sun, 06 Nov 1994 08:49:37 GMT, Sun, 06 Nov 1994 08:49:37 GMT",
    ],
)
def test_what_is_no_date(value: bytes | None):
    assert date_of(value) is None


def test_a_leap_second_is_a_date():
    assert date_of(b"Sat, 31 Dec 2016 23:59:60 GMT") == timegm((2017, 1, 1, 0, 0, 0))


def test_two_digit_years_are_never_more_than_fifty_years_ahead():
    this = gmtime().tm_year
    for year in range(100):
        found = date_of(b"Monday, 01-Jan-%02d 00:00:00 GMT" % year)
        assert found is not None
        assert gmtime(found).tm_year % 100 == year
        assert this - 100 < gmtime(found).tm_year <= this + 50


@given(st.integers(0, 253402300799))
@settings(max_examples=100)
def test_dates_are_written_as_they_are_read(moment: int):
    written = http_date(moment)
    assert written.decode() == formatdate(moment, usegmt=True)
    assert date_of(written) == moment
