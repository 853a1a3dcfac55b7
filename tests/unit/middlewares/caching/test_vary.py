"""Which variants of a response a request gets."""

from __future__ import annotations

from gateway.core.exchange import Reply
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
        exchange = world.exchange(headers={"X-Tenant": "what the client says"})
        exchange.forward_headers = [(b"X-Tenant", tenant)]
        return world.begin(exchange)(origin)

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
