"""Which variants of a response a request gets."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.core.exchange import Reply
from gateway.middlewares.caching.vary import secondary_key
from tests.exchange import exchange
from tests.unit.middlewares.caching.world import MINUTE, Cached, Seen, answer


def test_header_fields_in_the_key():
    world = Cached({"key": {"headers": ["X-Tenant", "Accept-Encoding"]}})
    tenant = {"X-Tenant": "a", "Accept-Encoding": "gzip, br"}
    world.ask(answer(MINUTE), headers=tenant)
    assert world.ask(headers={"X-TENANT": "a", "Accept-Encoding": "br,gzip"}).cache == "hit"
    assert world.ask(answer(), headers={**tenant, "X-Tenant": "b"}).line == "gateway; fwd=uri-miss"
    other = Cached({"key": {"headers": ["X-Other", "Accept-Encoding"]}}, on=world)
    assert other.ask(answer(), headers={**tenant, "X-Other": "a"}).cache == "miss"


def test_a_vary_miss_is_told_from_a_uri_miss():
    world = Cached()
    varies = {**MINUTE, "Vary": "Accept-Language"}
    world.ask(answer(varies), headers={"Accept-Language": "en"})
    assert (
        world.ask(answer(varies), headers={"Accept-Language": "de"}).line
        == "gateway; fwd=vary-miss; stored"
    )
    assert world.ask(answer(), target="/thing?x").line == "gateway; fwd=uri-miss"
    assert world.ask(headers={"Accept-Language": "en"}).cache == "hit"
    assert world.ask(headers={"Accept-Language": "de"}).cache == "hit"


def test_all_lines_of_a_field_count_for_vary():
    """The first line alone would let a client plant what the origin chose by the second."""
    world = Cached()
    varies = {**MINUTE, "Vary": "Accept-Language"}
    world.ask(answer(varies, b"xx"), headers=[("Accept-Language", "en"), ("accept-language", "xx")])
    assert world.ask(answer(varies, b"en"), headers={"Accept-Language": "en"}).body == b"en"
    assert world.ask(headers={"Accept-Language": "en,xx"}).body == b"xx"


def test_long_values_are_normalised_too():
    world = Cached()
    codings = ", ".join(f"x-{number}" for number in range(60))
    world.ask(answer({**MINUTE, "Vary": "Accept-Encoding"}), headers={"Accept-Encoding": codings})
    assert world.ask(headers={"Accept-Encoding": codings.upper().replace(" ", "")}).cache == "hit"


def test_vary_goes_by_what_other_middlewares_send():
    world = Cached()

    def ask(tenant: bytes, origin: Reply | None = None) -> Seen:
        asked = world.exchange(headers={"X-Tenant": "what the client says"})
        asked.forward_headers = [(b"X-Tenant", tenant)]
        return world.begin(asked)(origin)

    ask(b"a", answer({**MINUTE, "Vary": "X-Tenant"}, b"for a"))
    assert ask(b"a").body == b"for a"
    assert ask(b"b", answer({**MINUTE, "Vary": "X-Tenant"}, b"for b")).cache == "miss"


def test_what_is_not_sent_on_does_not_count_for_vary():
    """A client that no tenant is known of would plant an answer for the tenant it names."""
    world = Cached()
    varies = {**MINUTE, "Vary": "X-Tenant"}
    stranger = world.exchange(headers={"X-Tenant": "acme"})
    stranger.drop_headers = frozenset((b"x-tenant",))
    world.begin(stranger)(answer(varies, b"for none"))
    known = world.exchange()
    known.forward_headers = [(b"X-Tenant", b"acme")]
    assert world.begin(known)(answer(varies, b"for acme")).body == b"for acme"
    assert world.ask(headers={}).body == b"for none"


def test_fields_changed_after_the_lookup_are_not_stored_by():
    """Callers could name another's value: what they say is all that the next lookup sees."""
    world = Cached()
    varies = {**MINUTE, "Vary": "X-Tenant"}
    asked = world.exchange()
    complete = world.begin(asked)
    asked.forward_headers = [(b"X-Tenant", b"acme")]
    complete(answer(varies, b"for acme"))
    assert world.ask(answer(varies), headers={"X-Tenant": "acme"}).cache == "miss"
    asked = world.exchange(target="/other")
    complete = world.begin(asked)
    asked.forward_headers = [(b"X-Other", b"1")]
    complete(answer(varies, b"for none"))
    assert world.ask(target="/other").body == b"for none"


def test_when_several_match_the_most_recent_is_served():
    """RFC 9111 section 4.1."""
    world = Cached()
    world.ask(answer({**MINUTE, "Vary": "Accept"}, b"old"), headers={"Accept": "a"})
    world.wait(1)
    world.ask(answer({**MINUTE, "Vary": "X-B"}, b"new"), headers={"Accept": "b"})
    assert world.ask(headers={"Accept": "a"}).body == b"new"


def key_of(name: str, *lines: str) -> tuple[str, ...]:
    return secondary_key(exchange("GET", "/", [(name, line) for line in lines]), (name.lower(),))


@pytest.mark.parametrize(
    ("name", "one", "other"),
    [
        ("Accept-Encoding", "gzip, br", "br,gzip"),
        ("Accept-Encoding", "gzip;q=1.0, br;q=0.500", "BR ; q=0.5,x-gzip"),
        ("Accept-Encoding", "gzip, gzip", "gzip"),
        ("Accept-Charset", "utf-8, us-ascii", "US-ASCII,UTF-8"),
        ("Accept-Language", "en-US, de;q=0.70", " EN-us ,de;q=0.7"),
        ("Accept-Language", "en, de, en", "en,de"),
        ("Accept-Language", "de;q=0.5, en, fr;q=0.7, it", "en,it;q=1,fr;q=0.7,de;q=0.5"),
        ("Accept-Language", "de;q=x, en;q=0", "de;q=x,en;q=0.0"),
        ("Accept", "text/html, */*;q=0.1", "text/html,*/* ; q=0.1"),
        ("Prefer", "return=minimal; wait=10", "return=minimal ;wait=10"),
    ],
)
def test_what_means_the_same_is_one_variant(name: str, one: str, other: str):
    assert key_of(name, one) == key_of(name, other)
    assert key_of(name, *one.split(",")) == key_of(name, other)


@pytest.mark.parametrize(
    ("name", "one", "other"),
    [
        ("Accept-Encoding", "gzip", "gzip;q=0"),
        ("Accept-Encoding", "gzip;q=0.1", "gzip;q=0.01"),
        ("Accept-Encoding", "", "identity"),
        ("Accept-Encoding", "gzip;q=2", "gzip"),
        ("Accept-Encoding", "gzip;q=1;q=0", "gzip"),
        ("Accept-Language", "en, de", "de, en"),
        ("Accept-Language", "en;q=0.5, de;q=0.5", "de;q=0.5, en;q=0.5"),
        ("Accept-Language", "e n", "en"),
        ("Accept-Language", "\u212ao", "ko"),
        ("Accept", 'a/b;c=" ,x"', 'a/b;c=",x"'),
        ("Accept", "a/b;c=D", "a/b;c=d"),
        ("X-Unknown", "1,2", "1, 2"),
        ("X-Unknown", "a", "A"),
    ],
)
def test_what_may_mean_something_else_is_another_variant(name: str, one: str, other: str):
    assert key_of(name, one) != key_of(name, other)


@pytest.mark.parametrize("name", ["Accept-Encoding", "Accept", "X-Flag"])
def test_an_empty_field_is_not_one_that_is_absent(name: str):
    """RFC 9111 section 4.1; without Accept-Encoding any coding will do, with an empty one none."""
    assert key_of(name) != key_of(name, "")


def test_who_sends_an_empty_field_plants_nothing_for_those_without():
    world = Cached()
    varies = {**MINUTE, "Vary": "X-Flag"}
    world.ask(answer(varies, b"planted"), headers={"X-Flag": ""})
    assert world.ask(answer(varies, b"own")).body == b"own"
    assert world.ask(headers={"X-Flag": ""}).body == b"planted"


WEIGHTED = st.tuples(
    st.sampled_from(["gzip", "br", "zstd", "identity", "*"]), st.integers(0, 1000)
).map(lambda pair: f"{pair[0]};q={pair[1] / 1000:.3f}")


@given(st.lists(WEIGHTED, max_size=5, unique_by=lambda member: member.partition(";")[0]), st.data())
@settings(max_examples=100)
def test_codings_are_compared_as_a_server_would(members, data):
    """By their weights, in any order, and by nothing less."""

    def meaning(listed):
        return {coding: float(rest[2:]) for coding, _, rest in (m.partition(";") for m in listed)}

    shuffled = data.draw(st.permutations(members))
    other = data.draw(
        st.lists(WEIGHTED, max_size=5, unique_by=lambda member: member.partition(";")[0])
    )
    mine = key_of("Accept-Encoding", ", ".join(members))
    assert key_of("Accept-Encoding", ",".join(shuffled).upper()) == mine
    assert (key_of("Accept-Encoding", ",".join(other)) == mine) == (
        meaning(other) == meaning(members)
    )
