"""Keys that verify tokens: a key is for the algorithms that fit it, never for the one a token
names."""

from __future__ import annotations

import json
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import dsa, ec, rsa

from gateway.tokens.algorithms import ALGORITHMS, EDWARDS, RSA, SECRETS
from gateway.tokens.verifying import MOST_KEYS, BadKey, candidates, from_secret, from_set, from_text
from tests.idp import MAKE, private_pem, public_pem

PUBLIC = ("RS256", "ES256", "EdDSA")
KEYS = {name: MAKE[name]() for name in PUBLIC}


def jwk(name: str, **more: Any) -> dict[str, Any]:
    algorithm = jwt.get_algorithm_by_name(name)
    made: dict[str, Any] = json.loads(algorithm.to_jwk(KEYS[name].public_key()))  # type: ignore[attr-defined]
    return {name: value for name, value in {**made, **more}.items() if value is not None}


def signed(alg: str, key: Any) -> tuple[bytes, bytes]:
    text = jwt.encode({"sub": "alice"}, key, alg)
    head, _, last = text.rpartition(".")
    return head.encode(), jwt.utils.base64url_decode(last)


@pytest.mark.parametrize("alg", SECRETS)
def test_secrets(alg: str):
    secret = "s" * SECRETS[alg]
    key = from_secret(secret, [alg])
    assert key.verifies(alg, *signed(alg, secret))
    assert not key.verifies(alg, *signed(alg, "x" * SECRETS[alg]))
    assert not key.verifies("none", *signed(alg, secret)) and secret not in repr(key)
    with pytest.raises(BadKey, match=f"{alg} needs {SECRETS[alg]} or more"):
        from_secret(secret[1:], [alg])


@pytest.mark.parametrize(
    ("secret", "algorithms", "why"),
    [
        (public_pem(KEYS["RS256"]), ["HS256"], "is a public key or certificate"),
        ("ssh-rsa " + "A" * 64, ["HS256"], "is a public key or certificate"),
        ("s" * 64, ["HS256", "RS256"], "RS256 does not work with a secret"),
    ],
)
def test_secrets_that_are_none(secret: str, algorithms: list[str], why: str):
    with pytest.raises(BadKey, match=why):
        from_secret(secret, algorithms)


@pytest.mark.parametrize(
    ("name", "fits"),
    [("RS256", set(RSA)), ("ES256", {"ES256"}), ("EdDSA", {"EdDSA", "Ed25519"})],
)
def test_a_key_is_for_what_fits_it(name: str, fits: set[str]):
    [key] = from_text(public_pem(KEYS[name]), ALGORITHMS)
    assert key.algorithms == fits and key.kid is None
    assert key.verifies(name, *signed(name, KEYS[name]))
    other = next(alg for alg in ALGORITHMS if alg not in fits)
    assert not key.verifies(other, *signed(name, KEYS[name]))
    with pytest.raises(BadKey, match="a key fits"):
        from_text(public_pem(KEYS[name]), [other])


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (private_pem(KEYS["RS256"]), "is a private key"),
        (
            "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n",
            "is not a public key in PEM",
        ),
        ("{", "neither PEM nor JSON"),
        (public_pem(rsa.generate_private_key(65537, 1024)), "1024 bits is too small"),
        (public_pem(ec.generate_private_key(ec.SECP256K1())), "a key fits no algorithm"),
        (public_pem(dsa.generate_private_key(2048)), "no algorithm here uses"),
    ],
)
def test_texts_that_are_no_public_key(text: str, why: str):
    with pytest.raises(BadKey, match=why):
        from_text(text, ALGORITHMS)


def test_a_set_and_one_key_alone():
    both = json.dumps({"keys": [jwk("RS256", kid="r"), jwk("ES256", kid="e")]})
    assert [(key.kid, sorted(key.algorithms)) for key in from_text(both, PUBLIC)] == [
        ("r", ["RS256"]),
        ("e", ["ES256"]),
    ]
    [alone] = from_text(json.dumps(jwk("EdDSA")), EDWARDS)
    assert alone.kid is None and alone.verifies("EdDSA", *signed("EdDSA", KEYS["EdDSA"]))


@pytest.mark.parametrize(
    ("entry", "why"),
    [
        (1, "not an object"),
        ({"kty": "oct", "k": "AAAA"}, "of a kind that is not for public keys"),
        (jwk("RS256", use="enc"), "not for signatures"),
        (jwk("RS256", key_ops=["sign"]), "not for signatures"),
        (jwk("RS256", key_ops="verify"), "not for signatures"),
        (jwk("RS256", kid=1), "kid is not a string"),
        (jwk("RS256", n=None), "cannot be read"),
        (jwk("RS256", alg="RS512"), "for an algorithm that is not allowed"),
        (jwk("RS256", alg=["RS256"]), "for an algorithm that is not allowed"),
    ],
)
def test_keys_of_a_set_that_are_passed_over(entry: Any, why: str):
    with pytest.raises(BadKey, match=why):
        from_set({"keys": [entry]}, PUBLIC)
    [key] = from_set({"keys": [entry, jwk("ES256", kid="good")]}, PUBLIC)
    assert key.kid == "good"


@pytest.mark.parametrize(
    ("document", "why"),
    [([], "not a key set"), ({}, "not a key set"), ({"keys": []}, "it is empty")],
)
def test_documents_that_are_no_set(document: Any, why: str):
    with pytest.raises(BadKey, match=why):
        from_set(document, PUBLIC)


def test_the_private_part_of_a_key_is_not_kept():
    private = json.loads(jwt.get_algorithm_by_name("RS256").to_jwk(KEYS["RS256"]))  # type: ignore[attr-defined]
    [key] = from_set({"keys": [{**private, "key_ops": ["verify"]}]}, PUBLIC)
    assert isinstance(key.key, rsa.RSAPublicKey)


def test_no_more_keys_are_taken_than_that():
    assert (
        len(
            from_set(
                {"keys": [jwk("ES256", kid=str(number)) for number in range(MOST_KEYS + 5)]}, PUBLIC
            )
        )
        == MOST_KEYS
    )


def test_which_keys_a_token_may_be_signed_with():
    keys = (
        *from_set({"keys": [jwk("ES256", kid="a"), jwk("ES256", kid="b")]}, PUBLIC),
        *from_set({"keys": [jwk("RS256")]}, PUBLIC),
    )
    assert [key.kid for key in candidates(keys, "a", "ES256")] == ["a"]
    assert [key.kid for key in candidates(keys, None, "ES256")] == ["a", "b"]
    assert [key.kid for key in candidates(keys, "unknown", "RS256")] == [None]
    assert candidates(keys, "a", "EdDSA") == []
