"""RFC 9111's decisions against slow models of its sentences, and the pieces that change fields."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.middlewares.caching.rules import policy
from gateway.middlewares.caching.rules.directives import FOREVER, Directives, http_date
from gateway.middlewares.caching.rules.policy import Verdict
from gateway.middlewares.caching.vary import can_match

seconds = st.one_of(st.none(), st.integers(0, 100))
directives = st.builds(
    Directives,
    no_store=st.booleans(),
    no_cache=st.booleans(),
    no_cache_fields=st.sampled_from([frozenset(), frozenset((b"x-a",))]),
    private=st.booleans(),
    private_fields=st.sampled_from([frozenset(), frozenset((b"x-b",))]),
    public=st.booleans(),
    must_revalidate=st.booleans(),
    proxy_revalidate=st.booleans(),
    must_understand=st.booleans(),
    max_age=seconds,
    s_maxage=seconds,
    min_fresh=seconds,
    max_stale=seconds,
    stale_if_error=seconds,
)
KEPT = (200, 301)
statuses = st.sampled_from(
    [101, 200, 203, 204, 206, 299, 300, 301, 302, 304, 307, 308, 404, 410, 416, 418, 500, 501, 503]
)


@given(
    directives,
    directives,
    statuses,
    st.booleans(),
    st.booleans(),
    st.booleans(),
    st.booleans(),
    st.booleans(),
    st.sampled_from([0, 60]),
    st.sampled_from([0, 8640]),
    st.booleans(),
)
@settings(max_examples=200)
def test_what_may_be_stored(
    request_,
    response,
    status,
    expires,
    set_cookie,
    authorization,
    identified,
    shared,
    default_ttl,
    guessed,
    shares,
):
    """RFC 9111 section 3, sentence by sentence; sections 3.5 and 7.3; and what this cache refuses
    beyond."""
    understood = status in policy.UNDERSTOOD
    final = status >= 200
    only_understood = status not in (206, 304, 416) and (understood or not response.must_understand)
    no_store = response.no_store and not (response.must_understand and understood)
    private = shared and response.private
    s_maxage = response.s_maxage is not None
    may_share = response.public or s_maxage or response.must_revalidate
    authorized = shared and authorization and not may_share
    personal = shared and identified and not (response.public or s_maxage)
    said = [
        response.public,
        response.private and not shared,
        expires,
        response.max_age is not None,
        s_maxage and shared,
        guessed and status in policy.HEURISTIC,
        status in KEPT if default_ttl > 0 else status in policy.HEURISTIC and response.no_cache,
    ]
    model = (
        final
        and only_understood
        and not no_store
        and not request_.no_store
        and not private
        and not authorized
        and not personal
        and not (set_cookie and not (response.public and (shares or not shared)))
        and any(said)
    )
    refused = policy.refusal(
        request_,
        response,
        status,
        expires=expires,
        guessed=guessed,
        set_cookie=set_cookie,
        authorization=authorization,
        identified=identified,
        shared=shared,
        default_ttl=default_ttl,
        statuses=KEPT,
        shares_cookies=shares,
    )
    assert (not refused) == model, refused


@given(
    directives,
    statuses,
    st.one_of(st.none(), st.integers(-200, 200), st.just(b"0"), st.just(b"soon")),
    st.integers(10**9, 2 * 10**9),
    st.booleans(),
    st.sampled_from([0, 60]),
    st.sampled_from([0, 8640]),
)
@settings(max_examples=200)
def test_freshness_lifetime(response, status, expires, date, shared, default_ttl, guessed):
    """RFC 9111 section 4.2.1: the first of its list that applies, a guess after all of them."""
    may_guess = status in policy.HEURISTIC or response.public
    field = http_date(date + expires) if isinstance(expires, int) else expires
    candidates = [
        response.s_maxage if shared else None,
        response.max_age,
        None if field is None else (max(expires, 0) if isinstance(expires, int) else 0),
        guessed if guessed and may_guess else None,
        default_ttl if status in KEPT or response.public else 0,
    ]
    model = next(candidate for candidate in candidates if candidate is not None)
    assert (
        policy.freshness_lifetime(
            response,
            status,
            field,
            date,
            shared=shared,
            guessed=guessed,
            default_ttl=default_ttl,
            statuses=KEPT,
        )
        == model
    )


@given(st.integers(0, 10**9), st.one_of(st.none(), st.integers(0, 10**9)))
@settings(max_examples=100)
def test_a_guess_is_a_tenth_of_what_has_passed_and_a_day_at_most(date, modified):
    """RFC 9111 section 4.2.2."""
    guess = policy.heuristic_lifetime(date, modified)
    assert 0 <= guess <= 86400
    if modified is None or modified >= date:
        assert guess == 0
    elif date - modified <= 864000:
        assert guess == (date - modified) / 10


@given(st.integers(0, 1000), st.integers(-1000, 1000), st.floats(0, 100), st.floats(0, 2 * 10**9))
@settings(max_examples=200)
def test_initial_age(age, skew, delay, wall):
    """RFC 9111 section 4.2.3 as it is written there."""
    date_value = int(wall) - skew
    apparent_age = max(0, int(wall) - date_value)
    corrected_age_value = age + delay
    assert policy.initial_age(age, date_value, delay, wall) == max(
        apparent_age, corrected_age_value
    )


@given(
    directives,
    st.integers(0, 200),
    st.integers(0, 100),
    st.sampled_from([0, 30]),
    st.booleans(),
    st.booleans(),
)
@settings(max_examples=200)
def test_what_may_be_served(request_, age, lifetime, window, no_cache, strict):
    """RFC 9111 section 4: fresh, or allowed to be served stale, or validated; request directives
    only ever demand more. RFC 5861 section 3: within the window the origin is asked behind."""
    fresh = lifetime > age
    wants = [
        not request_.no_cache,
        request_.max_age is None or age <= request_.max_age,
        request_.min_fresh is None or lifetime - age >= request_.min_fresh,
    ]
    stale_allowed = (
        not strict and request_.max_stale is not None and age <= lifetime + request_.max_stale
    )
    verdict = policy.may_serve(
        age, lifetime, no_cache=no_cache, strict=strict, request=request_, window=window
    )
    if no_cache:
        assert verdict is Verdict.ASK_STALE
    elif fresh:
        assert verdict is (Verdict.FRESH if all(wants) else Verdict.ASK_REQUEST)
    else:
        usable = not strict and wants[0] and wants[1] and request_.min_fresh is None
        if usable and window and age <= lifetime + window:
            assert verdict is Verdict.BEHIND
        else:
            assert verdict is (Verdict.STALE if stale_allowed and usable else Verdict.ASK_STALE)


@given(
    directives,
    st.integers(0, 200),
    st.integers(0, 100),
    seconds,
    st.integers(0, 100),
    st.booleans(),
    st.booleans(),
)
@settings(max_examples=200)
def test_what_may_stand_in_for_an_error(request_, age, lifetime, window, default, no_cache, strict):
    """RFC 5861 section 4, under RFC 9111 section 4.2.4's prohibitions."""
    in_force = next(w for w in (request_.stale_if_error, window, default) if w is not None)
    overruled = request_.no_cache and request_.stale_if_error is None
    model = (
        not no_cache
        and not strict
        and not overruled
        and in_force > 0
        and age <= lifetime + in_force
    )
    found = policy.may_serve_on_error(
        age, lifetime, window, no_cache=no_cache, strict=strict, request=request_, default=default
    )
    assert found == model


@given(directives, st.integers(0, 200), st.integers(0, 100))
@settings(max_examples=100)
def test_waiting_never_makes_a_response_more_servable(request_, age, lifetime):
    order = [Verdict.FRESH, Verdict.ASK_REQUEST, Verdict.STALE, Verdict.ASK_STALE]
    request_ = replace(request_, no_cache=False, min_fresh=None, max_age=None)
    before = policy.may_serve(age, lifetime, no_cache=False, strict=False, request=request_)
    after = policy.may_serve(age + 1, lifetime, no_cache=False, strict=False, request=request_)
    assert order.index(after) >= order.index(before)


def test_nothing_is_fresh_longer_than_delta_seconds_go():
    assert policy.freshness_lifetime(Directives(), 200, http_date(10**11), 0) == FOREVER


def test_stored_headers_leave_out_what_is_of_one_hop_and_what_is_qualified():
    """RFC 9111 sections 3.1, 5.2.2.4 and 5.2.2.7."""
    headers = [
        (b"Content-Type", b"a/b"),
        (b"AGE", b"5"),
        (b"Keep-Alive", b"1"),
        (b"X-Request-ID", b"r"),
        (b"X-A", b"1"),
        (b"x-b", b"2"),
        (b"Proxy-Authenticate", b"Basic"),
        (b"Set-Cookie", b"c"),
    ]
    said = Directives(no_cache_fields=frozenset((b"x-a",)), private_fields=frozenset((b"x-b",)))
    assert policy.stored_headers(headers, said) == [
        (b"Content-Type", b"a/b"),
        (b"Set-Cookie", b"c"),
    ]
    assert policy.stored_headers(headers, said, shared=False) == [
        (b"Content-Type", b"a/b"),
        (b"x-b", b"2"),
        (b"Set-Cookie", b"c"),
    ]


def test_updating_replaces_namesakes_but_not_what_the_body_depends_on():
    """RFC 9111 section 3.2."""
    stored = [
        (b"Content-Type", b"a/b"),
        (b"ETag", b'"1"'),
        (b"X-A", b"1"),
        (b"x-a", b"2"),
        (b"X-B", b"3"),
    ]
    news = [
        (b"content-type", b"c/d"),
        (b"Content-Encoding", b"br"),
        (b"Content-Length", b"0"),
        (b"X-a", b"9"),
        (b"X-C", b"4"),
        (b"Age", b"1"),
    ]
    assert policy.updated_headers(stored, news) == [
        (b"Content-Type", b"a/b"),
        (b"ETag", b'"1"'),
        (b"X-B", b"3"),
        (b"X-a", b"9"),
        (b"X-C", b"4"),
    ]


def test_a_304_carries_what_identifies_and_not_what_describes():
    """RFC 9110 section 15.4.5."""
    headers = [
        (b"Content-Type", b"a/b"),
        (b"Last-Modified", b"x"),
        (b"Cache-Control", b"y"),
        (b"Vary", b"z"),
        (b"Content-Language", b"en"),
    ]
    assert policy.headers_of_304(headers, b'"1"') == [(b"Cache-Control", b"y"), (b"Vary", b"z")]
    assert policy.headers_of_304(headers, None) == [
        (b"Last-Modified", b"x"),
        (b"Cache-Control", b"y"),
        (b"Vary", b"z"),
    ]


@pytest.mark.parametrize(
    ("etag", "modified", "new_etag", "new_modified", "expected"),
    [
        (b'"1"', None, b'"1"', None, True),
        (b'"1"', None, b'"2"', None, False),
        (b'W/"1"', None, b'"1"', None, True),
        (b'"1"', None, b'W/"1"', None, True),
        (b'W/"1"', None, b'W/"1"', None, True),
        (None, b"then", b'W/"1"', None, False),
        (None, b"then", None, b"then", True),
        (None, b"then", None, b"later", False),
        (b'"1"', b"then", None, None, True),
        (b'"1"', b"then", b'"1"', b"later", True),
    ],
)
def test_which_304_is_about_the_stored_response(etag, modified, new_etag, new_modified, expected):
    """RFC 9111 section 4.3.4: strong validators by strong comparison."""
    assert policy.confirms(etag, modified, new_etag, new_modified) is expected


THEN, LATER, BEFORE = http_date(1000), http_date(2000), http_date(500)


@pytest.mark.parametrize(
    ("why", "if_none_match", "if_modified_since", "etag", "modified", "expected"),
    [
        ("same tag", b'"1"', None, b'"1"', None, True),
        ("weak comparison", b'W/"1"', None, b'"1"', None, True),
        ("weak comparison, the other way", b'"1"', None, b'W/"1"', None, True),
        ("one of many", b'"0", "1"', None, b'"1"', None, True),
        ("another tag", b'"2"', None, b'"1"', None, False),
        ("a tag in a tag", b'"1,2"', None, b'"1"', None, False),
        ("any", b" * ", None, None, None, True),
        ("no tag stored", b'"1"', None, None, THEN, False),
        ("the tag goes before the date", b'"2"', LATER, b'"1"', THEN, False),
        ("not modified since", None, LATER, None, THEN, True),
        ("just then", None, THEN, None, THEN, True),
        ("modified since", None, BEFORE, None, THEN, False),
        ("no Last-Modified: by Date", None, LATER, None, None, True),
        ("no Last-Modified: by Date, before", None, BEFORE, None, None, False),
        ("no date", None, b"yesterday", None, THEN, False),
        ("no condition", None, None, b'"1"', THEN, False),
    ],
)
def test_conditions_answered_from_the_store(
    why, if_none_match, if_modified_since, etag, modified, expected
):
    """RFC 9111 section 4.3.2."""
    assert policy.not_modified(if_none_match, if_modified_since, etag, modified, 1000) is expected


def test_responses_that_vary_by_what_is_new_in_every_request_match_none():
    assert can_match(())
    assert can_match(("accept-encoding", "x-client-id"))
    assert not can_match(None)
    for name in (
        "forwarded",
        "traceparent",
        "via",
        "x-forwarded-for",
        "x-forwarded-prefix",
        "true-client-ip",
        "x-request-id",
    ):
        assert not can_match(("accept", name))
