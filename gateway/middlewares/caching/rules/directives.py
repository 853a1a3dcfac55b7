"""Reading caches' fields: Cache-Control, Age, Vary's members, dates and entity tags.

Nothing is decided here.

RFC 9111 section 4.2.1 leaves a choice where freshness information is broken: a number that is none,
or two different ones for one directive, make a response stale rather than fresh. RFC 9111 section
5.2 lets names come in any case and arguments as a token or a quoted string.
"""

from __future__ import annotations

import re
from calendar import timegm
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from time import gmtime

from gateway.core.headers import tokens

FOREVER = 2**31
"""The largest delta-seconds; more is taken for this (RFC 9111 section 1.2.2)."""

NONE: frozenset[bytes] = frozenset()


@dataclass(frozen=True, slots=True)
class Directives:
    """A Cache-Control field, of a request or a response.

    Seconds are None where the directive is not there.

    no_cache_fields and private_fields are the lower-case names of the qualified forms (RFC 9111
    sections 5.2.2.4 and 5.2.2.7); no_cache and private stand for the unqualified ones. max_stale
    without an argument is FOREVER.
    """

    no_store: bool = False
    no_cache: bool = False
    no_cache_fields: frozenset[bytes] = NONE
    private: bool = False
    private_fields: frozenset[bytes] = NONE
    public: bool = False
    must_revalidate: bool = False
    proxy_revalidate: bool = False
    must_understand: bool = False
    only_if_cached: bool = False
    max_age: int | None = None
    s_maxage: int | None = None
    min_fresh: int | None = None
    max_stale: int | None = None
    stale_if_error: int | None = None
    stale_while_revalidate: int | None = None


NOTHING_SAID = Directives()

_FLAGS = {
    b"no-store": "no_store",
    b"public": "public",
    b"must-revalidate": "must_revalidate",
    b"proxy-revalidate": "proxy_revalidate",
    b"must-understand": "must_understand",
    b"only-if-cached": "only_if_cached",
}
_QUALIFIED = {
    b"no-cache": ("no_cache", "no_cache_fields"),
    b"private": ("private", "private_fields"),
}
_SECONDS = {
    b"max-age": "max_age",
    b"s-maxage": "s_maxage",
    b"min-fresh": "min_fresh",
    b"max-stale": "max_stale",
    b"stale-if-error": "stale_if_error",
    b"stale-while-revalidate": "stale_while_revalidate",
}
_WINDOWS = frozenset((b"stale-if-error", b"stale-while-revalidate"))
"""RFC 5861."""
_TOKEN = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_MEMBER = re.compile(rb'[ \t,]*([^,="\t ]*)(?:(=)("(?:[^"\\]|\\.)*"|[^,]*))?([^,]*)', re.DOTALL)


def is_counted(name: bytes) -> bool:
    """Return True for a directive whose argument is a number of seconds."""
    return name in _SECONDS


def directives_of(members: Iterable[tuple[bytes, bytes | None]]) -> Directives:
    """The directives that pairs of a lower-case name and an argument stand for."""
    found: dict[str, object] = {}
    for name, argument in members:
        if name in _FLAGS:
            found[_FLAGS[name]] = True
        elif name in _QUALIFIED:
            whole, qualified = _QUALIFIED[name]
            names = None if argument is None else tokens(argument)
            if names and all(map(_TOKEN.fullmatch, names)):
                found[qualified] = found.get(qualified, NONE) | frozenset(names)  # type: ignore[operator]
            else:
                found[whole] = True
        elif name in _SECONDS:
            key = _SECONDS[name]
            number = _number(name, argument)
            found[key] = number if key not in found else _strictest(name, found[key], number)
    return Directives(**{key: value for key, value in found.items() if value is not None})  # type: ignore[arg-type]


@lru_cache(maxsize=512)
def _parsed(value: bytes) -> Directives:
    return directives_of(_members(value))


def parse(value: bytes | None) -> Directives:
    """The directives of a Cache-Control field; several lines of it joined by commas.

    Never raises.
    """
    if value is None:
        return NOTHING_SAID
    return _parsed(value) if len(value) <= 256 else _parsed.__wrapped__(value)


def _members(value: bytes) -> Iterator[tuple[bytes, bytes | None]]:
    """Each directive's lower-case name and its argument, unquoted; None without one."""
    if value.count(b'"') % 2:
        # A string that never ends would swallow the directives behind it, a no-store among them.
        value = value.replace(b'"', b"")
    at, end = 0, len(value)
    while at < end:
        match = _MEMBER.match(value, at)
        # every part of the pattern may be empty, and none leaves a comma behind
        assert match is not None
        name, equals, argument, rest = match.groups()
        at = match.end()
        if not equals:
            # "max-age =5" is not a directive with an argument; what follows the name is dropped
            # with it.
            yield name.lower(), b"" if rest.strip() else None
        elif argument.startswith(b'"'):
            yield (
                name.lower(),
                re.sub(rb"\\(.)", rb"\1", argument[1:-1]) if not rest.strip() else b"",
            )
        else:
            yield name.lower(), argument.rstrip(b" \t")


def _number(name: bytes, argument: bytes | None) -> int | None:
    """Return delta-seconds (RFC 9111 section 1.2.2).

    A broken number means the cautious thing for its directive.
    """
    if argument is not None and argument.isdigit():
        return FOREVER if len(argument) > 10 else min(int(argument), FOREVER)
    if name == b"max-stale":
        return FOREVER if argument is None else None
    if name == b"min-fresh":
        return FOREVER
    return None if name in _WINDOWS else 0


def _strictest(name: bytes, first: object, second: int | None) -> int | None:
    """Return what two of one directive mean.

    Freshness given twice and differently is none (RFC 9111 section 4.2.1).
    """
    if first == second:
        return second
    if name == b"min-fresh":
        return FOREVER
    return 0 if name in (b"max-age", b"s-maxage") else None


def seconds_of_age(value: bytes | None) -> int:
    """Return Age in seconds: a list's first member, 0 if no number (RFC 9111 section 5.1)."""
    if value is None:
        return 0
    first = value.partition(b",")[0].strip()
    if not first.isdigit():
        return 0
    return FOREVER if len(first) > 10 else min(int(first), FOREVER)


def vary_of(value: bytes | None) -> tuple[str, ...] | None:
    """Return the names in a Vary field, lower case, sorted, once each.

    None for "*" and for what is no list of names.
    """
    if value is None:
        return ()
    names = sorted(set(tokens(value)))
    if all(map(_TOKEN.fullmatch, names)) and b"*" not in names:
        return tuple(name.decode("ascii") for name in names)
    return None


def entity_tag(value: bytes | None) -> bytes | None:
    """An ETag field's value, if it is one entity tag (RFC 9110 section 8.8.3)."""
    return value if value is not None and _TAG.fullmatch(value) else None


def entity_tags(value: bytes) -> list[bytes]:
    """Return the opaque tags of an If-None-Match list, without weakness marks.

    Its comparison ignores them (RFC 9110 section 8.8.3.2).
    """
    return _TAG.findall(value)


_TAG = re.compile(rb'(?:W/)?("[\x21\x23-\x7e\x80-\xff]*")')

_MONTHS = (
    b"Jan",
    b"Feb",
    b"Mar",
    b"Apr",
    b"May",
    b"Jun",
    b"Jul",
    b"Aug",
    b"Sep",
    b"Oct",
    b"Nov",
    b"Dec",
)
_DAYS = (b"Mon", b"Tue", b"Wed", b"Thu", b"Fri", b"Sat", b"Sun")
_MONTH = rb"(?P<month>" + b"|".join(_MONTHS) + rb")"
_TIME = rb"(?P<hour>\d\d):(?P<minute>\d\d):(?P<second>\d\d)"
_DATES = (
    re.compile(
        rb"(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun), (?P<day>\d\d) "
        + _MONTH
        + rb" (?P<year>\d{4}) "
        + _TIME
        + rb" GMT",
        re.IGNORECASE,
    ),
    re.compile(
        rb"(?:Mon|Tues|Wednes|Thurs|Fri|Satur|Sun)day, (?P<day>\d\d)-"
        + _MONTH
        + rb"-(?P<year>\d\d) "
        + _TIME
        + rb" GMT",
        re.IGNORECASE,
    ),
    re.compile(
        rb"(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun) "
        + _MONTH
        + rb" (?P<day>[ \d]\d) "
        + _TIME
        + rb" (?P<year>\d{4})",
        re.IGNORECASE,
    ),
)

_THIS_YEAR = gmtime().tm_year


def date_of(value: bytes | None) -> int | None:
    """Return an HTTP-date as seconds since 1970, in any of its forms (RFC 9110 section 5.6.7).

    In any case of letters (RFC 9111 section 4.2). None for anything else.
    """
    return None if value is None or len(value) > 40 else _date(value)


@lru_cache(maxsize=512)
def _date(value: bytes) -> int | None:
    for form in _DATES:
        match = form.fullmatch(value)
        if match is None:
            continue
        year, day = int(match["year"]), int(match["day"])
        hour, minute, second = int(match["hour"]), int(match["minute"]), int(match["second"])
        if len(match["year"]) == 2:
            # RFC 9110 section 5.6.7: a two-digit year that seems more than 50 years ahead was in
            # the century before.
            year += _THIS_YEAR // 100 * 100
            year -= 100 if year > _THIS_YEAR + 50 else 0
        month = _MONTHS.index(match["month"].title()) + 1
        if hour > 23 or minute > 59 or second > 60 or not 1 <= day <= 31 or year < 1:
            return None
        moment = timegm((year, month, day, hour, minute, second, 0, 0, 0))
        # timegm takes 31 February for 3 March; no such day is no such date.
        return moment if gmtime(moment - second).tm_mday == day else None
    return None


def http_date(moment: int) -> bytes:
    """The seconds since 1970 as an IMF-fixdate."""
    at = gmtime(moment)
    fields = (
        _DAYS[at.tm_wday],
        at.tm_mday,
        _MONTHS[at.tm_mon - 1],
        at.tm_year,
        at.tm_hour,
        at.tm_min,
        at.tm_sec,
    )
    return b"%b, %02d %b %04d %02d:%02d:%02d GMT" % fields
