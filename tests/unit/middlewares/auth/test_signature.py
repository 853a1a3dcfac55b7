"""Signed requests: the vector of RFC 9421 appendix B.2.5, and what is refused."""

from __future__ import annotations

import base64
import hashlib
import hmac
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.exchange import Exchange
from gateway.core.failures import Failed, Failure
from gateway.core.hooks import ConfigProblem
from gateway.middlewares import auth
from gateway.middlewares.auth import signature, signed_message
from gateway.middlewares.auth.signature import Nonces
from tests.exchange import Body, Headers, World, exchange
from tests.unit.middlewares.auth.bearers import through

NOW = 1_618_884_473
SHARED = "uzvJfB4u3N0Jy4T7NZ75MDVcr8zSTInedJtkgcu46YW4XByzNJjxBdtjUkdJPBtbmHhIDi6pcl8jsasjlTMtDQ=="
BODY = b'{"hello": "world"}'
VECTOR = {
    "Host": "example.com",
    "Date": "Tue, 20 Apr 2021 02:07:55 GMT",
    "Content-Type": "application/json",
    "Content-Digest": "sha-512=:WZDPaVn/7XgHaAy8pmojAkGWoRx2UFChF41A2svX+TaPm+AbwAgBWnrIiYllu7BNNyealdVLvRwEmTHWXvJwew==:",
    "Content-Length": "18",
    "Signature-Input": (
        'sig-b25=("date" "@authority" "content-type");created=1618884473;keyid="test-shared-secret"'
    ),
    "Signature": "sig-b25=:pxcQw6G3AjtMBQjwo8XzkZf/bws5LelbaMk5rGIGtE8=:",
}
KEY = {
    "id": "test-shared-secret",
    "secret": SHARED,
    "base64": True,
    "client": "acme",
    "tier": "gold",
    "roles": ["op"],
}


class Signatures(World):
    def auth(self, *keys: dict[str, Any], **table: Any) -> Any:
        return self.build(
            auth, {"methods": ["signature"], "signature": {"keys": list(keys or (KEY,)), **table}}
        ).request


@pytest.fixture
def world() -> Signatures:
    return Signatures(now=NOW)


def sent(data: bytes = BODY) -> Body:
    return Body(data, len(BODY))


def asked(fields: Headers, body: Any = None, target: str = "/foo?param=Value&Pet=dog") -> Exchange:
    return exchange("POST", target, fields, body=body, host="example.com", client_ip="192.0.2.1")


ALL = '("@method" "@target-uri" "content-digest")'


def signed(
    covered: str = ALL,
    params: str = f';created={NOW};keyid="test-shared-secret"',
    body: bytes | None = BODY,
    lines: list[str] | None = None,
    secret: bytes = base64.b64decode(SHARED),
    **fields: str,
) -> dict[str, str]:
    """Fields of a request signed by somebody who does it by hand: what a client would do, not what
    the gateway does."""
    digest = base64.b64encode(hashlib.sha256(body or b"").digest()).decode()
    every = {"Host": "example.com", "Content-Digest": f"sha-256=:{digest}:"}
    if lines is None:
        lines = [
            '"@method": POST',
            '"@target-uri": http://example.com/foo?param=Value&Pet=dog',
            f'"content-digest": sha-256=:{digest}:',
        ]
    base = "\n".join([*lines, f'"@signature-params": {covered}{params}']).encode()
    mac = base64.b64encode(hmac.digest(secret, base, "sha256")).decode()
    return {
        **every,
        "Signature-Input": f"sig={covered}{params}",
        "Signature": f"sig=:{mac}:",
        **fields,
    }


async def refused(hook: Any, request: Exchange) -> Failed:
    with pytest.raises(Failed) as caught:
        await through(hook, request)
    assert SHARED[:20] not in f"{caught.value!r} {caught.value} {caught.value.why} {hook!r}"
    assert request.identity is None
    return caught.value


async def test_the_vector_of_the_rfc(world: Signatures):
    hook = world.auth(required=["date", "@authority", "content-type"])
    exchange = asked(VECTOR, sent())
    await through(hook, exchange)
    identity = exchange.identity
    assert identity is not None and (identity.client, identity.tier, identity.method) == (
        "acme",
        "gold",
        "signature",
    )
    assert identity.roles == {"op"} and identity.claims == {"keyid": "test-shared-secret"}
    assert exchange.drop_headers == {b"signature", b"signature-input"}
    for name in ("Date", "Content-Type", "Host"):
        failed = await refused(hook, asked({**VECTOR, name: VECTOR[name] + "x"}, sent()))
        assert failed.headers == ((b"WWW-Authenticate", b'Signature realm="gateway"'),)


async def test_the_base_of_the_rfc():
    """Appendix B.2.5, letter by letter."""
    found = signed_message.read(
        [VECTOR["Signature-Input"]], [VECTOR["Signature"]], {"test-shared-secret"}
    )
    assert found is not None
    exchange = asked(VECTOR)
    assert signed_message.base(
        found, lambda name: signature.component(exchange, name)
    ).decode() == (
        '"date": Tue, 20 Apr 2021 02:07:55 GMT\n"@authority": example.com\n"content-type": '
        "application/json\n"
        '"@signature-params": ("date" "@authority" '
        '"content-type");created=1618884473;keyid="test-shared-secret"'
    )


async def test_a_request_signed_by_hand(world: Signatures):
    hook = world.auth()
    await through(hook, asked(signed(), sent()))
    await through(
        hook, asked(signed(body=None))
    )  # a digest of nothing for a request without a body
    assert world.telemetry.auth.values == {("signature", "ok"): 2}


WITHOUT = ['"@method": POST', '"@target-uri": http://example.com/foo?param=Value&Pet=dog']
LONG = f';created={NOW};keyid="test-shared-secret";nonce="{"n" * 9000}"'


@pytest.mark.parametrize(
    ("fields", "result", "why"),
    [
        (signed(secret=b"x" * 32), "invalid", "not that of key test-shared-secret"),
        (signed(params=f';created={NOW};keyid="other"'), "invalid", "names no key"),
        (signed(params=f";created={NOW}"), "invalid", "names no key"),
        (
            signed('("@method" "@target-uri")', lines=WITHOUT),
            "invalid",
            "does not cover content-digest",
        ),
        (signed('("@target-uri" "content-digest")'), "invalid", "does not cover @method"),
        (
            signed('("@method" "@authority" "@path" "content-digest")'),
            "invalid",
            "does not cover @target-uri",
        ),
        (
            signed(params=f';created={NOW};keyid="test-shared-secret";alg="hmac-sha512"'),
            "invalid",
            "is for hmac-sha256",
        ),
        (
            signed(params=f';created={NOW};keyid="test-shared-secret";alg="rsa-pss-sha512"'),
            "invalid",
            "is for hmac-sha256",
        ),
        (signed(params=';keyid="test-shared-secret"'), "invalid", "does not say when it was made"),
        (
            signed(params=f';created={NOW + 31};keyid="test-shared-secret"'),
            "invalid",
            "31 s from now",
        ),
        (signed(params=f';created={NOW - 331};keyid="test-shared-secret"'), "expired", "331 s ago"),
        (
            signed(params=f';created={NOW - 60};expires={NOW - 30};keyid="test-shared-secret"'),
            "expired",
            "expired 30 s ago",
        ),
        ({**signed(), "Signature": "sig=:AAAA:"}, "invalid", "not that of key"),
        ({**signed(), "Signature": "sig=::"}, "invalid", "not that of key"),
        (
            {**signed(), "Signature": "other=:AAAA:"},
            "malformed",
            "in Signature-Input but not in Signature",
        ),
        ({**signed(), "Signature": "sig=AAAA"}, "malformed", "no byte sequence"),
        ({**signed(), "Signature": "sig=:AAA:"}, "malformed", "no byte sequence"),
        ({**signed(), "Signature": ""}, "malformed", "no member"),
        ({**signed(), "Signature-Input": "sig"}, "malformed", "no member"),
        ({**signed(), "Signature-Input": "sig=5"}, "malformed", "not a list"),
        ({**signed(), "Signature-Input": "sig=("}, "malformed", "not a string"),
        ({**signed(), "Signature-Input": 'sig=("@method""@path")'}, "malformed", "not separated"),
        (
            {**signed(), "Signature-Input": 'sig=("@method";req);keyid="test-shared-secret"'},
            "malformed",
            "not in this profile",
        ),
        (
            {**signed(), "Signature-Input": 'sig=("@query-param");keyid="test-shared-secret"'},
            "malformed",
            "not in this profile",
        ),
        (
            {**signed(), "Signature-Input": 'sig=("@signature-params");keyid="test-shared-secret"'},
            "malformed",
            "not in this profile",
        ),
        (
            {**signed(), "Signature-Input": 'sig=("Date");keyid="test-shared-secret"'},
            "malformed",
            "not in this profile",
        ),
        (
            {**signed(), "Signature-Input": 'sig=("date" "date");keyid="test-shared-secret"'},
            "malformed",
            "twice",
        ),
        (
            {**signed(), "Signature-Input": 'sig=();created=?1;keyid="test-shared-secret"'},
            "malformed",
            "another type",
        ),
        ({**signed(), "Signature-Input": "sig=();created=1.5"}, "malformed", "no byte sequence"),
        (
            {**signed(), "Signature-Input": 'sig=();created;keyid="test-shared-secret"'},
            "malformed",
            "another type",
        ),
        ({**signed(), "Signature-Input": "sig=();created=1;created=2"}, "malformed", "twice"),
        ({**signed(), "Signature-Input": "sig=();keyid=:AAAA:"}, "invalid", "names no key"),
        (
            {**signed(), "Signature-Input": 'sig=();more=1;keyid="test-shared-secret"'},
            "malformed",
            "not known",
        ),
        ({**signed(), "Signature-Input": "sig=(), sig=()"}, "malformed", "occurs twice"),
        ({**signed(), "Signature-Input": "sig=() x"}, "malformed", "something behind"),
        (
            {**signed(), "Signature-Input": ", ".join(f"s{n}=()" for n in range(9))},
            "malformed",
            "more than 8",
        ),
        (signed(params=LONG), "malformed", "longer than 8192"),
        (signed('("x-not-there")'), "invalid", "does not cover"),
        (
            signed('("@method" "@target-uri" "content-digest" "x-not-there")'),
            "malformed",
            "the request does not have",
        ),
    ],
)
async def test_what_is_refused(world: Signatures, fields: dict[str, str], result: str, why: str):
    body = sent()
    failed = await refused(world.auth(), asked(fields, body))
    assert why in failed.why
    assert failed.failure is (Failure.EXPIRED if result == "expired" else Failure.UNAUTHENTICATED)
    assert world.telemetry.auth.values == {("signature", result): 1}
    assert body.reads == 0  # nobody without a key has a body read


@pytest.mark.parametrize(
    ("created", "expires", "good"),
    [
        (NOW + 30, "", True),
        (NOW - 329, "", True),
        (NOW - 60, f";expires={NOW - 29}", True),
        (NOW - 330, "", False),
    ],
)
async def test_clocks_may_differ(world: Signatures, created: int, expires: str, good: bool):
    exchange = asked(
        signed(params=f';created={created}{expires};keyid="test-shared-secret"'), sent()
    )
    if good:
        await through(world.auth(), exchange)
    else:
        await refused(world.auth(), exchange)


async def test_a_body_that_is_another(world: Signatures):
    failed = await refused(world.auth(), asked(signed(), sent(b'{"hello": "moon!"}')))
    assert failed.detail == "The body does not fit its digest."
    failed = await refused(world.auth(), asked(signed()))  # none at all
    assert "the body is not the one" in failed.why
    large = asked(signed(), sent())
    failed = await refused(world.auth(max_body=10), large)
    assert failed.failure is Failure.BODY_TOO_LARGE


@pytest.mark.parametrize(
    ("digest", "why"),
    [
        ("md5=:AAAA:", "has none of sha-256, sha-512"),
        ("sha-256=AAAA", "no byte sequence"),
        ("", "no member"),
    ],
)
async def test_a_digest_that_is_none(world: Signatures, digest: str, why: str):
    fields = signed(lines=[*WITHOUT, f'"content-digest": {digest}'])
    assert (
        why
        in (await refused(world.auth(), asked({**fields, "Content-Digest": digest}, sent()))).why
    )


async def test_all_digests_are_checked(world: Signatures):
    good = signed()["Content-Digest"]
    digest = f"{good}, sha-512=:{base64.b64encode(b'x' * 64).decode()}:, unknown=:AAAA:"
    fields = signed(lines=[*WITHOUT, f'"content-digest": {digest}'])
    assert (
        "(sha-512)"
        in (await refused(world.auth(), asked({**fields, "Content-Digest": digest}, sent()))).why
    )


async def test_signatures_are_compared_in_constant_time(
    world: Signatures, monkeypatch: pytest.MonkeyPatch
):
    """By construction: the comparison is hmac.compare_digest, over whole digests, those of bodies
    included."""
    compared, real = list[tuple[bytes, bytes]](), hmac.compare_digest

    def compare(one: bytes, two: bytes) -> bool:
        compared.append((one, two))
        return real(one, two)

    monkeypatch.setattr(signature.hmac, "compare_digest", compare)
    await refused(world.auth(), asked(signed(secret=b"x" * 32), sent()))
    await through(world.auth(), asked(signed(), sent()))
    assert [(len(one), len(two)) for one, two in compared] == [(32, 32)] * 3


async def test_a_nonce_is_good_once(world: Signatures):
    hook = world.auth()
    fields = signed(params=f';created={NOW};keyid="test-shared-secret";nonce="n1"')
    explained = asked(fields, sent())
    explained.decisions = []
    await through(hook, explained)
    await through(hook, asked(fields, sent()))
    failed = await refused(hook, asked(fields, sent()))
    assert "used before" in failed.why and failed.failure is Failure.UNAUTHENTICATED
    assert (
        "used before" in (await refused(world.auth(), asked(fields, sent()))).why
    )  # after a reload as well
    wrong = {
        **signed(params=f';created={NOW};keyid="test-shared-secret";nonce="n2"', secret=b"x" * 32)
    }
    await refused(hook, asked(wrong, sent()))
    assert "<Nonces 1>" in repr(hook)  # whoever has no key has nothing remembered


async def test_a_nonce_can_be_demanded(world: Signatures):
    hook = world.auth(nonce=True)
    assert "has no nonce" in (await refused(hook, asked(signed(), sent()))).why
    await through(
        hook, asked(signed(params=f';created={NOW};keyid="test-shared-secret";nonce="n1"'), sent())
    )


async def test_nonces_are_bounded_and_forgotten(world: Signatures, monkeypatch: pytest.MonkeyPatch):
    hook = world.auth()
    hook.__self__._methods[0]._nonces._most = 2

    def fields(nonce: str) -> dict[str, str]:
        return signed(
            params=f';created={int(world.now)};keyid="test-shared-secret";nonce="{nonce}"'
        )

    for nonce in ("a", "b"):
        await through(hook, asked(fields(nonce), sent()))
    failed = await refused(hook, asked(fields("c"), sent()))
    assert failed.failure is Failure.OVERLOADED and dict(failed.headers)[b"Retry-After"] == b"300"
    world.now += 361
    await through(hook, asked(fields("c"), sent()))
    assert "<Nonces 1>" in repr(hook)


@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.floats(0, 100)), max_size=30), st.integers(1, 3)
)
def test_a_replay_within_its_time_is_always_seen(steps: list[tuple[str, float]], most: int):
    nonces, now, good = Nonces(most), 0.0, dict[bytes, float]()
    for nonce, seconds in steps:
        now += seconds
        one = nonce.encode()
        good = {known: until for known, until in good.items() if until > now}
        used = nonces.use("k", one, now, now + 50)
        if one in good:
            assert used == "replayed" and nonces.seen("k", one)
        elif used == "new":
            good[one] = now + 50
        else:
            assert used == "full" and len(good) == most
        assert len(nonces._by_key["k"]) <= most and not nonces.seen("other", one)


async def test_long_nonces_cost_what_short_ones_do(world: Signatures):
    hook = world.auth()
    for number in range(3):
        nonce = f"{number}" * 3000
        params = f';created={NOW};keyid="test-shared-secret";nonce="{nonce}"'
        await through(hook, asked(signed(params=params), sent()))
    nonces = hook.__self__._methods[0]._nonces
    assert sum(map(len, nonces._by_key["test-shared-secret"])) == 3 * 16


async def test_other_signatures_are_left_alone(world: Signatures):
    fields = signed()
    theirs = (
        'one=("@status" "date";sf;tr);created=?0;keyid="theirs", two=( "date" '
        ');more=:AAAA:;keyid="th\\"eirs"'
    )
    fields["Signature-Input"] = f"{theirs}, {fields['Signature-Input']}"
    fields["Signature"] = f"theirs=:AAAA:, {fields['Signature']}"
    await through(world.auth(), asked(fields, sent()))


async def test_a_field_over_several_lines(world: Signatures):
    fields = list(signed().items())
    pairs = [
        *fields[:2],
        ("Signature-Input", "other=()"),
        *fields[2:],
        ("Signature", "other=:AAAA:"),
    ]
    await through(world.auth(), asked(pairs, sent()))


async def test_without_a_signature(world: Signatures):
    failed = await refused(world.auth(), asked({"Signature": "sig=:AAAA:"}))
    assert failed.detail == (
        "This needs a signature (RFC 9421, hmac-sha256) in the Signature and Signature-Input "
        "headers."
    )


async def test_the_whole_target_or_its_parts(world: Signatures):
    lines = [
        '"@method": POST',
        '"@authority": example.com',
        '"@path": /foo',
        '"@query": ?param=Value&Pet=dog',
    ]
    fields = signed('("@method" "@authority" "@path" "@query")', lines=lines)
    await through(world.auth(required=["@method", "@target-uri"]), asked(fields, sent()))
    await through(world.auth(required=["@path", "@query"]), asked(signed(), sent()))


WORD = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), max_size=10)


@pytest.mark.parametrize(
    ("keys", "table", "said"),
    [
        ([], {}, "no keys"),
        ([KEY, KEY], {}, "test-shared-secret has two tables"),
        ([{**KEY, "secret": "short"}], {}, "is not base64"),
        ([{**KEY, "secret": "short", "base64": False}], {}, "is shorter than 32 bytes"),
        ([KEY], {"required": ["@status"]}, "@status cannot be covered"),
    ],
)
def test_configurations_that_make_no_sense(
    world: Signatures, keys: list[Any], table: dict[str, Any], said: str
):
    with pytest.raises(ConfigProblem, match=said):
        world.build(auth, {"methods": ["signature"], "signature": {"keys": keys, **table}})


async def test_a_secret_that_is_text(world: Signatures):
    secret = "0123456789abcdef" * 2
    hook = world.auth({**KEY, "secret": secret, "base64": False})
    await through(hook, asked(signed(secret=secret.encode()), sent()))


def test_another_program_knows_the_nonces():
    before, after = Nonces(), Nonces()
    assert before.use("k", b"one", 0.0, 10.0) == "new"
    after.load_state(before.dump_state())
    assert after.use("k", b"one", 5.0, 15.0) == "replayed"
    assert after.use("k", b"one", 10.0, 20.0) == "new"
