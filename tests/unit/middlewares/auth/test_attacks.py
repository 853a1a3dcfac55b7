"""Forged, bent and overgrown tokens: the table of docs/auth.md, row by row."""

from __future__ import annotations

import base64
import hmac
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import jwt
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import NameOID
from hypothesis import example, given
from hypothesis import strategies as st

from gateway.core.failures import Failed, Failure
from gateway.core.hooks import ConfigProblem
from gateway.core.refusals import Refused
from gateway.tokens import jose
from tests.idp import MAKE, RSA_KEYS, encoded, jwk, private_pem, public_pem, signed
from tests.unit.middlewares.auth.bearers import (
    NOW,
    SECRET,
    Bearers,
    Hook,
    asked,
    bearing,
    claims,
    refused,
    token,
)

KEY = RSA_KEYS[0]
STRANGER = rsa.generate_private_key(65537, 2048)
PEM = public_pem(KEY)
DER = KEY.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def forged(
    header: dict[str, Any] | None = None, key: Any = STRANGER, alg: str = "RS256", **said: Any
) -> str:
    return signed({"alg": alg, "typ": "JWT", **(header or {})}, claims(**said), key, alg)


def with_payload(payload: str) -> str:
    return signed({"alg": "RS256"}, payload, KEY, "RS256")


def good(**said: Any) -> str:
    return signed({"alg": "RS256", "typ": "JWT"}, claims(**said), KEY, "RS256")


@pytest.fixture
def hook() -> Hook:
    return Bearers().auth({"key": PEM})


@pytest.fixture
def by_kid() -> Hook:
    """Keys with names, as a JWKS has them."""
    return Bearers().auth(
        {"key": json.dumps({"keys": [jwk(KEY, "k1"), jwk(MAKE["ES256"](), "k2")]})}
    )


UNSIGNED = [
    ("alg none", {"alg": "none"}),
    ("alg None", {"alg": "None"}),
    ("alg NONE", {"alg": "NONE"}),
    ("alg empty", {"alg": ""}),
    ("no alg", {"typ": "JWT"}),
    ("alg null", {"alg": None}),
    ("alg a list", {"alg": ["RS256"]}),
    ("alg in the wrong case", {"alg": "rs256"}),
]


@pytest.mark.parametrize(("name", "header"), UNSIGNED, ids=[name for name, _ in UNSIGNED])
@pytest.mark.parametrize("signature", ["", "AAAA"])
def test_unsigned(hook: Hook, name: str, header: dict[str, Any], signature: str):
    text = f"{encoded(header)}.{encoded(claims())}.{signature}"
    assert refused(hook, bearing(text)).failure is Failure.UNAUTHENTICATED


@pytest.mark.parametrize("alg", ["HS256", "HS384", "HS512"])
@pytest.mark.parametrize(
    "secret",
    [PEM.encode(), PEM.strip().encode(), DER, base64.b64encode(DER)],
    ids=["pem", "pem-", "der", "b64"],
)
def test_the_public_key_as_a_secret(hook: Hook, by_kid: Hook, alg: str, secret: bytes):
    """CVE-2015-9235, and CVE-2024-33663 with DER."""
    assert "no key" in refused(hook, bearing(forged(key=secret, alg=alg))).why
    assert "no key 'k1'" in refused(by_kid, bearing(forged({"kid": "k1"}, secret, alg))).why


def test_another_algorithm_than_the_key_is_for(by_kid: Hook):
    """A key of the set is used with its own kind's algorithms only, whichever the token names."""
    curve = ec.generate_private_key(ec.SECP256R1())
    assert "no key" in refused(by_kid, bearing(forged({"kid": "k1"}, curve, "ES256"))).why
    assert "no key" in refused(by_kid, bearing(forged({"kid": "k2"}))).why
    other = Bearers().auth({"key": PEM, "algorithms": ["PS256"]})
    assert "no key" in refused(other, bearing(good())).why


@pytest.mark.parametrize(
    "kid",
    [
        "../../../../dev/null", "/dev/null", "/proc/sys/kernel/randomize_va_space", "k1' OR '1'='1", "x' UNION SELECT 'AA",
        "k1\u0000",
        "http://127.0.0.1:9/jwks", "file:///etc/passwd", "| id", "$(id)", "", "k" * 4000,
    ],
)  # fmt: skip
def test_names_of_keys_are_looked_up_and_nothing_else(by_kid: Hook, kid: str):
    for key, alg in ((STRANGER, "RS256"), (b"", "HS256"), (b"AA", "HS256"), (KEY, "RS256")):
        failed = refused(by_kid, bearing(forged({"kid": kid}, key, alg)))
        assert failed.failure is Failure.UNAUTHENTICATED and len(failed.why) < 200


@pytest.mark.parametrize("kid", [1, ["k1"], {"k": 1}, True])
def test_names_of_keys_are_strings(by_kid: Hook, kid: Any):
    assert "kid or typ is not a string" in refused(by_kid, bearing(forged({"kid": kid}, KEY))).why


@pytest.mark.parametrize(
    "header",
    [
        {"jku": "http://127.0.0.1:9/jwks"},
        {"x5u": "http://127.0.0.1:9/cert"},
        {"jwk": jwk(STRANGER, "k1")},
        {"jwk": jwk(STRANGER, None)},
        {"x5c": ["AAAA"]},
        {"jku": "http://127.0.0.1:9/", "kid": "k1"},
    ],
)
def test_keys_a_token_brings_along_are_not_used(hook: Hook, by_kid: Hook, header: dict[str, Any]):
    """RFC 8725 section 3.10. Harmless in a token that is good without them."""
    assert "signature" in refused(hook, bearing(forged(header))).why
    assert "signature" in refused(by_kid, bearing(forged({"kid": "k1", **header}))).why
    hook(bearing(signed({"alg": "RS256", **header}, claims(), KEY, "RS256")))


@pytest.mark.parametrize("crit", [["exp"], ["b64"], [], "b64", ["http://example.com/x"]])
def test_crit(hook: Hook, crit: Any):
    assert "crit" in refused(hook, bearing(forged({"crit": crit, "b64": False}, KEY))).why


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ({"aud": None}, "aud is missing"),
        ({"aud": []}, "the token is for []"),
        ({"aud": ""}, "the token is for ''"),
        ({"aud": "EDGE"}, "the token is for 'EDGE'"),
        ({"aud": {"edge": 1}}, "neither a string nor an array"),
        ({"iss": None}, "no issuer None"),
        ({"iss": ["https://id.example.com"]}, "no issuer ["),
        ({"iss": "https://id.example.com/"}, "no issuer 'https://id.example.com/'"),
        ({"iss": "HTTPS://ID.EXAMPLE.COM"}, "no issuer"),
        ({"exp": None}, "exp is missing"),
        ({"exp": str(NOW + 900)}, "exp is not a time"),
        ({"exp": [NOW + 900]}, "exp is not a time"),
        ({"exp": True}, "exp is not a time"),
        ({"exp": -1}, "exp is not a time"),
        ({"exp": -(10**400)}, "exp is not a time"),
        ({"exp": 10**30}, "exp is not a time"),
        ({"nbf": str(NOW)}, "nbf is not a time"),
        ({"iat": "now"}, "iat is not a time"),
        ({"iat": -5}, "iat is not a time"),
    ],
)
def test_claims(hook: Hook, said: dict[str, Any], why: str):
    payload = {name: value for name, value in {**claims(), **said}.items() if value is not None}
    assert why in refused(hook, bearing(with_payload(json.dumps(payload)))).why


@pytest.mark.parametrize(
    "number",
    [
        "1e999",
        "-1e999",
        "Infinity",
        "-Infinity",
        "NaN",
        "1" * 5000,
        "0x7fffffff",
        "1_000_000_000_000",
    ],
    ids=lambda number: number[:12],
)
def test_numbers_that_are_none(hook: Hook, number: str):
    text = json.dumps(claims(exp="EXP")).replace('"EXP"', number)
    assert refused(hook, bearing(with_payload(text))).failure is Failure.UNAUTHENTICATED


def test_exp_null_is_no_exp(hook: Hook):
    text = json.dumps(claims(exp="EXP")).replace('"EXP"', "null")
    assert "exp is not a time" in refused(hook, bearing(with_payload(text))).why


@pytest.mark.parametrize(
    "text",
    [
        good() + "A" * 2**20,
        "A" * 2**20,
        "." * 2**20,
        f"{encoded({'alg': 'RS256'})}.{'A' * 2**20}.AAAA",
    ],
    ids=["long signature", "no dots", "dots", "long payload"],
)
def test_a_megabyte(hook: Hook, text: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(jose, "_object", lambda *_: pytest.fail("looked into"))
    assert "longer than 16384" in refused(hook, bearing(text)).why


@pytest.mark.parametrize("opening", ["[", '{"a":'])
@pytest.mark.parametrize("levels", [65, 2000, 10_000])
def test_nested_claims(hook: Hook, opening: str, levels: int):
    closing = "]" if opening == "[" else "}"
    deep = opening * levels + "1" + closing * levels
    text = with_payload(json.dumps(claims(deep="DEEP")).replace('"DEEP"', deep))
    assert refused(hook, bearing(text)).why.endswith(("levels deep", "letters"))
    header = f'{{"alg":"RS256","deep":{deep}}}'
    assert refused(hook, bearing(signed(header, claims(), KEY, "RS256"))).why.endswith(
        ("levels deep", "letters")
    )


def test_nested_no_deeper_than_anybody_needs(hook: Hook):
    hook(
        bearing(
            with_payload(json.dumps(claims(deep="DEEP")).replace('"DEEP"', "[" * 60 + "]" * 60))
        )
    )
    hook(bearing(with_payload(json.dumps(claims(many=[[1]] * 100)))))


@pytest.mark.parametrize(
    ("header", "payload"),
    [
        ('{"alg":"RS256","alg":"none"}', json.dumps(claims())),
        ('{"alg":"none","alg":"RS256"}', json.dumps(claims())),
        ('{"alg":"RS256"}', json.dumps(claims())[:-1] + ',"sub":"admin"}'),
        ('{"alg":"RS256"}', json.dumps(claims())[:-1] + ',"s\\u0075b":"admin"}'),
        ('{"alg":"RS256"}', json.dumps(claims())[:-1] + ',"x":{"a":1,"a":2}}'),
    ],
)
def test_names_that_occur_twice(hook: Hook, header: str, payload: str):
    assert "one way only" in refused(hook, bearing(signed(header, payload, KEY, "RS256"))).why


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"[]",
        b'"text"',
        b"7",
        b"null",
        b"\xff\xfe",
        json.dumps(claims()).encode("utf-16"),
        b"{}x",
        b"{'a':1}",
        b"\xef\xbb\xbf{}",
    ],
)
def test_payloads_that_are_no_objects(hook: Hook, payload: bytes):
    assert (
        refused(
            hook, bearing(f"{encoded({'alg': 'RS256'})}.{encoded(payload) or '_'}.AAAA")
        ).failure
        is Failure.UNAUTHENTICATED
    )


def variants(text: str) -> list[str]:
    """The same token, spelt otherwise: what a lenient reader would take for it."""
    header, payload, signature = text.split(".")
    last = signature[-1]
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    stray = alphabet[alphabet.index(last) ^ 1]
    return [
        f"{text}=", f"{text}==", f"{header}.{payload}.{signature}\t", f" {header}.{payload}.{signature} ",
        f"{header} .{payload}.{signature}",
        f"{header}.{payload}\r\n.{signature}", f"{header}.{payload}.{signature[:-1]}{stray}", f"{header}.{payload}.{signature}.",
        f".{text}", f"{header}.{payload}.{signature}!", f"{header}..{signature}", f"{header}=.{payload}=.{signature}",
        f"{header}.{payload}.{signature[:10]}\n{signature[10:]}", f"{header}.{payload}.{signature}%3D",
        text.replace("-", "+").replace("_", "/") + "=",
        f"{text},", f"{text};", f'"{text}"', f"{text}\x00", f"{text}\u200b",
    ]  # fmt: skip


@pytest.mark.parametrize("number", range(20))
def test_other_spellings_of_a_token(hook: Hook, number: int):
    """A token that was revoked or counted must have one spelling."""
    text = good(jti="x")
    spelt = variants(text)[number]
    assert spelt != text
    with pytest.raises(Failed):
        hook(bearing(spelt))


@given(st.integers(0, 10**6), st.sampled_from("ABCgwxyz019-_.=+/ \t\n"))
@example(0, "=")
def test_any_letter_changed_is_refused_or_the_same_token(position: int, letter: str):
    text = good()
    position %= len(text)
    bent = text[:position] + letter + text[position + 1 :]
    if bent == text:
        return
    try:
        hook = Bearers().auth({"key": PEM})
        hook(asked(f"Bearer {bent}"))
    except Failed:
        return
    pytest.fail(f"letter {position} does not matter")


@given(st.binary(max_size=12))
def test_bytes_have_one_spelling(data: bytes):
    text = encoded(data)
    assert jose._decoded(text, "x") == data
    for last in "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_":
        other = text[:-1] + last
        if text and other != text:
            try:
                assert jose._decoded(other, "x") != data
            except Refused:
                pass


@pytest.mark.parametrize("cut", [1, 2, 4, 100, 341, 342])
def test_truncated_signatures(hook: Hook, cut: int):
    assert refused(hook, bearing(good()[:-cut])).failure is Failure.UNAUTHENTICATED


@pytest.mark.parametrize("alg", ["HS256", "ES256", "EdDSA"])
def test_truncated_signatures_of_others(alg: str):
    key: Any = SECRET if alg == "HS256" else MAKE[alg]()
    hook = Bearers().auth({"secret": SECRET} if alg == "HS256" else {"key": public_pem(key)})
    text = token(key, alg)
    head, _, signature = text.rpartition(".")
    for length in (0, 1, 4, 20, len(signature) - 4):
        assert (
            refused(hook, bearing(f"{head}.{signature[:length]}")).failure
            is Failure.UNAUTHENTICATED
        )


@pytest.mark.parametrize("raw", [b"\x00" * 64, b"\x00" * 32 + b"\x01" * 32, b"\xff" * 64, b""])
def test_signatures_of_zeros(raw: bytes):
    """CVE-2022-21449."""
    hook = Bearers().auth({"key": public_pem(MAKE["ES256"]())})
    text = f"{encoded({'alg': 'ES256'})}.{encoded(claims())}.{encoded(raw)}"
    assert refused(hook, bearing(text)).failure is Failure.UNAUTHENTICATED


def test_an_encrypted_token(hook: Hook):
    assert "three parts" in refused(hook, bearing("eyJhbGciOiJSU0EtT0FFUCJ9.a.b.c.d")).why


SMALL = rsa.generate_private_key(65537, 1024)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"key": public_pem(SMALL)}, "an RSA key of 1024 bits is too small"),
        ({"key": json.dumps(jwk(SMALL, "k1"))}, "an RSA key of 1024 bits is too small"),
        ({"key": private_pem(KEY)}, "is a private key"),
        ({"key": public_pem(ec.generate_private_key(ec.SECP256K1()))}, "fits no algorithm"),
        ({"key": json.dumps({"keys": []})}, "it is empty"),
        ({"key": json.dumps({"keys": "x"})}, "no array called keys"),
        ({"key": json.dumps({"keys": [7]})}, "not an object"),
        ({"key": json.dumps({"keys": [{"kty": "oct", "k": "AAAA"}]})}, "not for public keys"),
        ({"key": json.dumps({"keys": [jwk(KEY, "k1", use="enc")]})}, "not for signatures"),
        (
            {"key": json.dumps({"keys": [jwk(KEY, "k1", key_ops=["encrypt"])]})},
            "not for signatures",
        ),
        ({"key": json.dumps({"keys": [jwk(KEY, "k1", "RS512")]})}, "not allowed"),
        ({"key": json.dumps({"keys": [jwk(KEY, "k1", n="")]})}, "cannot be read"),
        ({"key": json.dumps({"keys": [{"kty": "RSA", "kid": 7}]})}, "kid is not a string"),
        ({"secret": PEM, "algorithms": ["HS256"]}, "as a secret it would let everyone sign"),
        (
            {"secret": "ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAABgQ" * 2},
            "as a secret it would let everyone sign",
        ),
    ],
)
def test_keys_that_are_refused_when_loaded(table: dict[str, Any], message: str):
    with pytest.raises(ConfigProblem) as caught:
        Bearers().auth(table)
    assert message in caught.value.message


def test_keys_of_a_set_that_are_no_good_are_passed_over():
    entries = [
        7,
        jwk(SMALL, "k0"),
        jwk(KEY, "k1"),
        {"kty": "oct", "kid": "k2", "k": encoded(SECRET)},
    ]
    hook = Bearers().auth({"key": json.dumps({"keys": entries})})
    hook(bearing(forged({"kid": "k1"}, KEY)))
    assert "no key" in refused(hook, bearing(forged({"kid": "k2"}, SECRET.encode(), "HS256"))).why


def test_a_certificate():
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "id")])
    since = datetime(2024, 1, 1, tzinfo=UTC)
    made = (
        x509.CertificateBuilder(
            name,
            name,
            KEY.public_key(),
            x509.random_serial_number(),
            since,
            since + timedelta(days=1),
        )
        .sign(KEY, SHA256())
        .public_bytes(Encoding.PEM)
        .decode()
    )
    Bearers().auth({"key": made})(bearing(good()))
    with pytest.raises(ConfigProblem, match="is not a public key in PEM"):
        Bearers().auth({"key": made.replace("M", "N")})


def test_secrets_are_compared_in_constant_time(monkeypatch: pytest.MonkeyPatch):
    """By construction: the comparison is hmac.compare_digest, over whole digests."""
    compared: list[tuple[bytes, bytes]] = []
    real: Callable[[Any, Any], bool] = hmac.compare_digest

    def compare(one: bytes, two: bytes) -> bool:
        compared.append((one, two))
        return real(one, two)

    monkeypatch.setattr(jwt.algorithms.hmac, "compare_digest", compare)
    hook = Bearers().auth()
    refused(hook, bearing(token("x" * 32)))
    hook(bearing(token()))
    assert [len(one) for one, _ in compared] == [32, 32] and [len(two) for _, two in compared] == [
        32,
        32,
    ]


def test_two_authorization_fields(hook: Hook):
    for fields in ((good(), good()), ("x", good()), (good(), "x")):
        failed = refused(hook, asked(*(f"Bearer {one}" for one in fields)))
        assert failed.failure is Failure.MALFORMED


@given(st.text(alphabet=st.characters(max_codepoint=255), max_size=200))
@example("..")
@example("a.b.c")
@example(f"{encoded({'alg': 'HS256'})}.{encoded('[]')}.")
def test_no_text_at_all_gets_through_or_breaks_it(text: str):
    with pytest.raises(Failed) as caught:
        Bearers().auth()(asked(f"Bearer {text}"))
    assert caught.value.failure.status in (400, 401)
