"""RFC 9111 rule by rule: a response is stored or not, some time passes, another request comes.

Each row says what the second request gets: "hit" (the origin is not asked), "stale" (not asked,
though it is stale), "revalidated" (asked with a condition, 304), "miss" and "expired" (asked,
answered anew), "bypass" (asked because the request wants it so), or 504.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest
from multidict import CIMultiDict

from gateway.core.exchange import Identity, Reply
from tests.unit.middlewares.caching.world import Cached, answer, date

ETAG = {"ETag": '"1"'}
ALICE = Identity("alice", "api_key", headers=((b"X-Client-ID", b"alice"),))
BOB = Identity("bob", "api_key", headers=((b"X-Client-ID", b"bob"),))


def cc(value: str, **more: str) -> dict[str, str]:
    return {"Cache-Control": value, **{name.replace("_", "-"): text for name, text in more.items()}}


@dataclass
class Case:
    section: str
    why: str
    response: dict[str, str] | list[tuple[str, str]]
    expected: str
    wait: float = 0
    first: dict[str, str] = field(default_factory=dict)
    second: dict[str, str] = field(default_factory=dict)
    status: int = 200
    one: Identity | None = None
    two: Identity | None = None
    method: str = "GET"
    settings: dict[str, Any] = field(default_factory=dict)


GUESSES = {"heuristic": True}
AUTH = {"Authorization": "Bearer t"}

CASES = [
    # Section 3: storing.
    Case("3", "max-age makes it cacheable", cc("max-age=60"), "hit"),
    Case("3", "nothing said: not stored unless told to", {}, "miss"),
    Case("3", "nothing said, with a validator only: neither", ETAG, "miss"),
    Case("3", "Expires makes it cacheable", {"Expires": date(60), "Date": date()}, "hit"),
    Case("3", "public alone has no freshness, and nothing to validate", cc("public"), "miss"),
    Case("3", "public with a validator is kept and validated", cc("public", **ETAG), "revalidated"),
    Case(
        "3",
        "a final status with explicit freshness, though not cacheable by default",
        cc("max-age=60"),
        "hit",
        status=302,
    ),
    Case("3", "an unknown status with explicit freshness", cc("max-age=60"), "hit", status=299),
    Case("3", "an error with explicit freshness", cc("max-age=60"), "hit", status=503),
    Case("3", "the status of a part is not stored", cc("max-age=60"), "miss", status=206),
    Case("3", "a HEAD's answer has nothing to store", cc("max-age=60"), "miss", method="HEAD"),
    Case("3.1", "a response without Date gets one", cc("max-age=60"), "hit"),
    Case("3.5", "Authorization: not shared", cc("max-age=60"), "miss", first=AUTH),
    Case("3.5", "Authorization: public shares it", cc("public, max-age=60"), "hit", first=AUTH),
    Case("3.5", "Authorization: s-maxage shares it", cc("s-maxage=60"), "hit", first=AUTH),
    Case(
        "3.5",
        "Authorization: must-revalidate shares it",
        cc("max-age=60, must-revalidate"),
        "hit",
        first=AUTH,
    ),
    Case(
        "3.5",
        "an anonymous answer may be given to the authorized",
        cc("max-age=60"),
        "hit",
        second=AUTH,
    ),
    Case(
        "3.5",
        "an identity counts like Authorization",
        cc("max-age=60"),
        "miss",
        one=ALICE,
        two=ALICE,
    ),
    Case(
        "3.5", "an identity: public shares it", cc("public, max-age=60"), "hit", one=ALICE, two=BOB
    ),
    Case("3.5", "an identity: s-maxage shares it", cc("s-maxage=60"), "hit", one=ALICE, two=BOB),
    Case(
        "3.5",
        "an identity: must-revalidate is not plain enough",
        cc("max-age=60, must-revalidate"),
        "miss",
        one=ALICE,
        two=ALICE,
    ),
    # Section 4.1: Vary.
    Case(
        "4.1",
        "same value",
        cc("max-age=60", Vary="Accept"),
        "hit",
        first={"Accept": "a"},
        second={"Accept": "a"},
    ),
    Case(
        "4.1",
        "other value",
        cc("max-age=60", Vary="Accept"),
        "miss",
        first={"Accept": "a"},
        second={"Accept": "b"},
    ),
    Case(
        "4.1",
        "absent is not empty-handed",
        cc("max-age=60", Vary="Accept"),
        "miss",
        first={"Accept": "a"},
    ),
    Case("4.1", "absent both times", cc("max-age=60", Vary="Accept"), "hit"),
    Case("4.1", "Vary: * matches nothing", cc("max-age=60", Vary="*"), "miss"),
    Case("4.1", "* among others too", cc("max-age=60", Vary="Accept, *"), "miss"),
    Case(
        "4.1",
        "all named fields count",
        cc("max-age=60", Vary="A, B"),
        "miss",
        first={"A": "1", "B": "1"},
        second={"A": "1", "B": "2"},
    ),
    Case(
        "4.1",
        "fields not named do not",
        cc("max-age=60", Vary="A"),
        "hit",
        first={"A": "1", "B": "1"},
        second={"A": "1", "B": "2"},
    ),
    Case(
        "4.1",
        "white space and case of codings mean nothing",
        cc("max-age=60", Vary="Accept-Encoding"),
        "hit",
        first={"Accept-Encoding": "gzip, br"},
        second={"accept-encoding": "BR,gzip"},
    ),
    Case(
        "4.1",
        "the order of languages may",
        cc("max-age=60", Vary="Accept-Language"),
        "miss",
        first={"Accept-Language": "en, de"},
        second={"Accept-Language": "de, en"},
    ),
    Case(
        "4.1",
        "case of other fields counts",
        cc("max-age=60", Vary="X-A"),
        "miss",
        first={"X-A": "a"},
        second={"X-A": "A"},
    ),
    Case(
        "4.1",
        "what the gateway makes anew matches nothing",
        cc("max-age=60", Vary="X-Forwarded-For"),
        "miss",
    ),
    Case(
        "4.1",
        "identities differ by what the origin is told",
        cc("public, max-age=60", Vary="X-Client-ID"),
        "miss",
        one=ALICE,
        two=BOB,
    ),
    Case(
        "4.1",
        "and are the same by it",
        cc("public, max-age=60", Vary="X-Client-ID"),
        "hit",
        one=ALICE,
        two=ALICE,
    ),
    Case(
        "4.1",
        "what clients say of identities is not told",
        cc("public, max-age=60", Vary="X-Client-ID"),
        "miss",
        first={"X-Client-ID": "alice"},
        two=ALICE,
    ),
    # Section 4.2: freshness.
    Case("4.2", "fresh until its lifetime is over", cc("max-age=60"), "hit", wait=59.9),
    Case("4.2", "stale from then on", cc("max-age=60"), "expired", wait=60),
    Case("4.2.1", "s-maxage goes before max-age", cc("max-age=1, s-maxage=60"), "hit", wait=30),
    Case(
        "4.2.1",
        "s-maxage goes before max-age, down too",
        cc("max-age=60, s-maxage=1"),
        "expired",
        wait=30,
    ),
    Case(
        "4.2.1",
        "max-age goes before Expires",
        cc("max-age=60", Expires=date(1), Date=date()),
        "hit",
        wait=30,
    ),
    Case("4.2.1", "Expires counts from Date", {"Expires": date(-60), "Date": date(-120)}, "miss"),
    Case(
        "4.2.1", "two different of max-age are none", cc("max-age=60, max-age=30"), "miss", wait=1
    ),
    Case("4.2.1", "a lifetime that is no number is none", cc("max-age=1m"), "miss"),
    Case(
        "4.2.1",
        "two different of Expires are none",
        [("Expires", date(60)), ("Expires", date(90))],
        "miss",
    ),
    Case(
        "4.2.2",
        "default_ttl where the origin says nothing",
        {},
        "hit",
        wait=59,
        settings={"default_ttl": "60s"},
    ),
    Case("4.2.2", "and no longer", {}, "expired", wait=60, settings={"default_ttl": 60}),
    Case(
        "4.2.2",
        "default_ttl for some statuses",
        {},
        "hit",
        status=301,
        settings={"default_ttl": 60},
    ),
    Case(
        "4.2.2",
        "and no others, cacheable by default or not",
        {},
        "miss",
        status=404,
        settings={"default_ttl": 60},
    ),
    Case("4.2.2", "405 neither", {}, "miss", status=405, settings={"default_ttl": 60}),
    Case(
        "4.2.2",
        "unless told so",
        {},
        "hit",
        status=404,
        settings={"default_ttl": 60, "statuses": [404]},
    ),
    Case(
        "4.2.2",
        "what origins say holds for all",
        cc("max-age=60"),
        "hit",
        status=404,
        settings={"default_ttl": 60},
    ),
    Case(
        "4.2.2",
        "events are never stored",
        {"Content-Type": "text/event-stream"},
        "miss",
        settings={"default_ttl": 60},
    ),
    Case(
        "4.2.2",
        "whatever is said",
        cc("public, max-age=60", Content_Type="Text/Event-Stream; charset=utf-8"),
        "miss",
    ),
    Case("4.2.2", "and no others", {}, "miss", status=302, settings={"default_ttl": 60}),
    Case(
        "4.2.2",
        "but those marked public",
        cc("public"),
        "hit",
        status=302,
        settings={"default_ttl": 60},
    ),
    Case(
        "4.2.2",
        "default_ttl does not lengthen what is said",
        cc("max-age=1"),
        "expired",
        wait=2,
        settings={"default_ttl": 60},
    ),
    Case("4.2.2", "nor what has expired", {"Expires": "0"}, "miss", settings={"default_ttl": 60}),
    Case("4.2.3", "Age counts", cc("max-age=60", Age="40"), "hit", wait=19),
    Case("4.2.3", "Age counts, up to the lifetime", cc("max-age=60", Age="40"), "expired", wait=20),
    Case("4.2.3", "an old Date counts", cc("max-age=60", Date=date(-40)), "expired", wait=20),
    Case("4.2.3", "a Date in the future does not", cc("max-age=60", Date=date(40)), "hit", wait=59),
    Case("4.2.3", "the larger of both", cc("max-age=60", Date=date(-10), Age="40"), "hit", wait=19),
    Case(
        "4.2.4",
        "stale without permission is not served",
        cc("max-age=60", **ETAG),
        "revalidated",
        wait=61,
    ),
    # Section 4.3: validation.
    Case("4.3.1", "by entity tag", cc("max-age=1", **ETAG), "revalidated", wait=5),
    Case("4.3.1", "by date", cc("max-age=1", Last_Modified=date(-9)), "revalidated", wait=5),
    Case("4.3.1", "without a validator it is fetched anew", cc("max-age=1"), "expired", wait=5),
    # Section 5.1 and 5.2.1: Age, request directives.
    Case("5.1", "an Age that is no number is none", cc("max-age=60", Age="old"), "hit", wait=59),
    Case("5.1", "of several Ages the first", cc("max-age=60", Age="10, 60"), "hit", wait=49),
    Case(
        "5.2.1.1",
        "max-age of the request",
        cc("max-age=60"),
        "hit",
        wait=10,
        second=cc("max-age=10"),
    ),
    Case(
        "5.2.1.1",
        "max-age of the request, exceeded",
        cc("max-age=60", **ETAG),
        "revalidated",
        wait=11,
        second=cc("max-age=10"),
    ),
    Case(
        "5.2.1.1",
        "max-age=0 asks for news",
        cc("max-age=60", **ETAG),
        "revalidated",
        wait=1,
        second=cc("max-age=0"),
    ),
    Case("5.2.1.2", "max-stale", cc("max-age=60"), "stale", wait=70, second=cc("max-stale=10")),
    Case(
        "5.2.1.2",
        "max-stale, exceeded",
        cc("max-age=60"),
        "expired",
        wait=71,
        second=cc("max-stale=10"),
    ),
    Case(
        "5.2.1.2",
        "max-stale without a number",
        cc("max-age=60"),
        "stale",
        wait=9999,
        second=cc("max-stale"),
    ),
    Case(
        "5.2.1.2",
        "max-stale with max-age",
        cc("max-age=60"),
        "expired",
        wait=70,
        second=cc("max-stale, max-age=65"),
    ),
    Case("5.2.1.3", "min-fresh", cc("max-age=60"), "hit", wait=50, second=cc("min-fresh=10")),
    Case(
        "5.2.1.3",
        "min-fresh, missed",
        cc("max-age=60"),
        "bypass",
        wait=51,
        second=cc("min-fresh=10"),
    ),
    Case("5.2.1.4", "no-cache of the request", cc("max-age=60"), "bypass", second=cc("no-cache")),
    Case(
        "5.2.1.4",
        "no-cache of the request, with a validator",
        cc("max-age=60", **ETAG),
        "revalidated",
        second=cc("no-cache"),
    ),
    Case(
        "5.2.1.5",
        "no-store of the request: not stored",
        cc("max-age=60"),
        "miss",
        first=cc("no-store"),
    ),
    Case(
        "5.2.1.5",
        "no-store of the request: what is stored may be served",
        cc("max-age=60"),
        "hit",
        second=cc("no-store"),
    ),
    Case(
        "5.2.1.7", "only-if-cached, and it is", cc("max-age=60"), "hit", second=cc("only-if-cached")
    ),
    Case("5.2.1.7", "only-if-cached, and it is not", {}, "504", second=cc("only-if-cached")),
    Case(
        "5.2.1.7",
        "only-if-cached, and stale",
        cc("max-age=60", **ETAG),
        "504",
        wait=60,
        second=cc("only-if-cached"),
    ),
    Case(
        "5.2.1.7",
        "only-if-cached with max-stale",
        cc("max-age=60"),
        "stale",
        wait=60,
        second=cc("only-if-cached, max-stale"),
    ),
    # Section 5.2.2: response directives.
    Case(
        "5.2.2.2",
        "must-revalidate forbids stale",
        cc("max-age=1, must-revalidate", **ETAG),
        "revalidated",
        wait=5,
        second=cc("max-stale"),
    ),
    Case(
        "5.2.2.3",
        "must-understand overrides no-store",
        cc("max-age=60, must-understand, no-store"),
        "hit",
    ),
    Case(
        "5.2.2.3",
        "must-understand, not understood",
        cc("max-age=60, must-understand"),
        "miss",
        status=299,
    ),
    Case(
        "5.2.2.4",
        "no-cache is asked about each time",
        cc("max-age=60, no-cache", **ETAG),
        "revalidated",
    ),
    Case("5.2.2.4", "no-cache alone is enough to be kept", cc("no-cache", **ETAG), "revalidated"),
    Case(
        "5.2.2.4",
        "no-cache forbids stale",
        cc("no-cache", **ETAG),
        "revalidated",
        second=cc("max-stale"),
    ),
    Case("5.2.2.4", "no-cache without a validator is not kept", cc("no-cache"), "miss"),
    Case(
        "5.2.2.4",
        "qualified no-cache leaves the rest usable",
        cc('max-age=60, no-cache="X-A"', X_A="1"),
        "hit",
    ),
    Case("5.2.2.5", "no-store", cc("max-age=60, no-store"), "miss"),
    Case("5.2.2.5", "in any case", cc("max-age=60, NO-STORE"), "miss"),
    Case(
        "5.2.2.5",
        "on another line",
        [("Cache-Control", "max-age=60"), ("cache-control", "no-store")],
        "miss",
    ),
    Case("5.2.2.7", "private", cc("private, max-age=60"), "miss"),
    Case("5.2.2.7", "private goes before public", cc("private, public, max-age=60"), "miss"),
    Case("5.2.2.7", "private goes before s-maxage", cc("private, s-maxage=60"), "miss"),
    Case(
        "5.2.2.7",
        "qualified private leaves the rest",
        cc('max-age=60, private="X-A"', X_A="1"),
        "hit",
    ),
    Case(
        "5.2.2.8",
        "proxy-revalidate forbids stale",
        cc("max-age=1, proxy-revalidate"),
        "expired",
        wait=5,
        second=cc("max-stale"),
    ),
    Case("5.2.2.9", "public", cc("public, max-age=60"), "hit"),
    Case(
        "5.2.2.10",
        "s-maxage forbids stale",
        cc("s-maxage=1"),
        "expired",
        wait=5,
        second=cc("max-stale"),
    ),
    Case("5.2.3", "unknown directives are ignored", cc('max-age=60, community="UCI", x'), "hit"),
    Case("5.3", "Expires in the past", {"Expires": date(-1)}, "miss"),
    Case("5.3", "Expires: 0", {"Expires": "0"}, "miss"),
    Case(
        "5.3",
        "an Expires that is no date, with a validator",
        {"Expires": "never", **ETAG},
        "revalidated",
    ),
    Case(
        "5.3", "Expires as asctime", {"Expires": "Fri Jan 15 08:01:00 2027", "Date": date()}, "hit"
    ),
    Case(
        "5.4",
        "Pragma: no-cache of the request",
        cc("max-age=60"),
        "bypass",
        second={"Pragma": "no-cache"},
    ),
    Case(
        "5.4",
        "Pragma next to Cache-Control says nothing",
        cc("max-age=60"),
        "hit",
        second={"Pragma": "no-cache", **cc("max-age=60")},
    ),
    Case("5.4", "Pragma of a response says nothing", cc("max-age=60", Pragma="no-cache"), "hit"),
    Case("4.2", "a date in any case", {"Expires": date(60).upper(), "Date": date()}, "hit"),
    Case("4.2.2", "no guess unless told to", {"Last-Modified": date(-1000)}, "miss"),
    Case("4.2.2", "a guess", {"Last-Modified": date(-1000)}, "hit", wait=99, settings=GUESSES),
    Case("4.2.2", "too old", {"Last-Modified": date(-1000)}, "revalidated", 101, settings=GUESSES),
    Case("4.2.2", "nothing to guess by", {}, "miss", settings=GUESSES),
    Case("4.2.2", "not later than now", {"Last-Modified": date(9)}, "miss", settings=GUESSES),
    Case(
        "4.2.2",
        "a guess at a status that is not cacheable by default",
        {"Last-Modified": date(-1000)},
        "miss",
        status=503,
        settings=GUESSES,
    ),
    Case(
        "4.2.2",
        "nor for what the origin has said",
        cc("max-age=0", Last_Modified=date(-1000)),
        "revalidated",
        settings=GUESSES,
    ),
    Case(
        "4.2.2",
        "or goes before default_ttl",
        {"Last-Modified": date(-1000)},
        "revalidated",
        wait=101,
        settings={**GUESSES, "default_ttl": "1h"},
    ),
    # RFC 9213: targeted fields.
    Case("9213", "for caches like this one", {"CDN-Cache-Control": "max-age=60"}, "hit"),
    Case("9213", "before the others", cc("no-store", CDN_Cache_Control="max-age=60"), "hit"),
    Case("9213", "with Expires", {"CDN-Cache-Control": "max-age=60", "Expires": "0"}, "hit"),
    Case("9213", "stricter", cc("max-age=60", CDN_Cache_Control="no-store"), "miss"),
    Case("9213", "private", cc("max-age=60", CDN_Cache_Control="private"), "miss"),
    Case(
        "9213",
        "no-cache",
        cc("max-age=60", CDN_Cache_Control="no-cache", **ETAG),
        "revalidated",
    ),
    Case("9213", "broken: ignored", cc("max-age=60", CDN_Cache_Control="no-store, &"), "hit"),
    Case(
        "9213",
        "not of this cache's list",
        cc("max-age=60", CDN_Cache_Control="no-store"),
        "hit",
        settings={"targets": []},
    ),
    Case(
        "9213",
        "another one of its list",
        {"Surrogate": "max-age=60"},
        "hit",
        settings={"targets": ["Surrogate"]},
    ),
    # Section 7.3 and beyond.
    Case(
        "7.3",
        "Set-Cookie keeps an answer from being stored",
        cc("max-age=60", Set_Cookie="a=b"),
        "miss",
    ),
    Case("7.3", "public or not", cc("public, max-age=60", Set_Cookie="a=b"), "miss"),
    Case(
        "7.3",
        "unless told so",
        cc("public, max-age=60", Set_Cookie="a=b"),
        "hit",
        settings={"set_cookie": True},
    ),
    Case(
        "7.3",
        "which takes both",
        cc("max-age=60", Set_Cookie="a=b"),
        "miss",
        settings={"set_cookie": True},
    ),
    Case(
        "7.3", "or it is not kept", cc('max-age=60, no-cache="Set-Cookie"', Set_Cookie="a=b"), "hit"
    ),
    Case("7.3", "s-maxage is not that", cc("s-maxage=60", Set_Cookie="a=b"), "miss"),
]


@pytest.mark.parametrize(
    "case", [pytest.param(case, id=f"{case.section} {case.why}") for case in CASES]
)
def test_rfc9111(case: Case):
    world = Cached(case.settings)
    first = world.ask(
        answer(case.response, status=case.status),
        headers=case.first,
        identity=case.one,
        method=case.method,
    )
    assert first.sent is not None

    def origin(sent: CIMultiDict[str]) -> Reply:
        if "If-None-Match" in sent or "If-Modified-Since" in sent:
            return answer(
                {"ETag": sent["If-None-Match"]} if "If-None-Match" in sent else {}, b"", 304
            )
        return answer({"Cache-Control": "no-store"}, b"new")

    world.wait(case.wait)
    second = world.ask(origin, headers=case.second, identity=case.two)
    if case.expected == "504":
        assert second.status == 504
        return
    assert second.cache == case.expected
    assert (second.sent is None) == (case.expected in ("hit", "stale"))
    assert second.body == (b"new" if case.expected in ("miss", "expired", "bypass") else b"body")
    assert second.status == (case.status if second.body == b"body" else 200)


def test_there_are_enough_of_them():
    assert len(CASES) >= 60
    assert len({(case.section, case.why) for case in CASES}) == len(CASES)
