from __future__ import annotations

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, ed25519, rsa, x25519

from gateway.tokens import signing
from gateway.tokens.signing import BadSigningKey, SigningKeys
from gateway.tokens.verifying import BadKey

SMALL = rsa.generate_private_key(65537, 1024)


def pem(key: object, password: bytes | None = None) -> str:
    encryption = (
        serialization.BestAvailableEncryption(password)
        if password
        else serialization.NoEncryption()
    )
    made: bytes = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption
    )  # type: ignore[attr-defined]
    return made.decode()


@pytest.mark.parametrize(
    ("key", "alg"),
    [
        (rsa.generate_private_key(65537, 2048), "RS256"),
        (ec.generate_private_key(ec.SECP256R1()), "ES256"),
        (ec.generate_private_key(ec.SECP384R1()), "ES384"),
        (ec.generate_private_key(ec.SECP521R1()), "ES512"),
        (ed25519.Ed25519PrivateKey.generate(), "EdDSA"),
        (ed448.Ed448PrivateKey.generate(), "EdDSA"),
    ],
)
def test_keys(key: object, alg: str):
    keys = SigningKeys([signing.load(pem(key))])
    [public] = keys.document["keys"]
    assert (public["alg"], public["use"]) == (alg, "sig") and keys.algorithms == (alg,)
    assert not {"d", "p", "q", "dp", "dq", "qi", "oth", "k"} & set(public)
    token = keys.sign({"sub": "alice"})
    assert jwt.get_unverified_header(token) == {"alg": alg, "kid": public["kid"], "typ": "at+jwt"}
    assert jwt.decode(token, jwt.PyJWK(public), algorithms=[alg]) == {"sub": "alice"}
    assert repr(keys) == f"<SigningKeys {public['kid']}>" and "private" not in repr(
        signing.load(pem(key))
    )


def test_the_first_signs_and_all_are_published():
    made = [pem(ec.generate_private_key(ec.SECP256R1())) for _ in range(2)]
    keys = SigningKeys([signing.load(made[0], "new"), signing.load(made[1], "old")])
    assert jwt.get_unverified_header(keys.sign({}))["kid"] == "new"
    assert [key["kid"] for key in keys.document["keys"]] == ["new", "old"] == list(keys.names)


def test_a_thumbprint():
    """RFC 7638 section 3.1's example, and RFC 8037 appendix A.3's."""
    modulus = (
        "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMstn6"
        "4tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91"
        "CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw"
    )
    assert signing.thumbprint(
        {"kty": "RSA", "n": modulus, "e": "AQAB", "alg": "RS256", "kid": "x"}
    ) == ("NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs")
    ed = {"kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}
    assert signing.thumbprint(ed) == "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "not a private key"),
        ("-----BEGIN PRIVATE KEY-----\nx\n-----END PRIVATE KEY-----", "not a private key"),
        (pem(ec.generate_private_key(ec.SECP256R1()), b"secret"), "without a password"),
        (pem(SMALL), "1024 bits"),
        (pem(ec.generate_private_key(ec.SECP256K1())), "cannot sign"),
        (pem(x25519.X25519PrivateKey.generate()), "cannot sign"),
        (pem(dsa.generate_private_key(1024)), "cannot sign"),
    ],
)
def test_keys_that_are_refused(text: str, why: str):
    with pytest.raises(BadSigningKey, match=why):
        signing.load(text)


SHARED = "a secret of 32 bytes or more, kept"


def test_a_secret_signs_and_is_never_published():
    keys = SigningKeys([signing.load_secret(SHARED)])
    token = keys.sign({"sub": "alice"})
    assert jwt.get_unverified_header(token) == {"alg": "HS256", "typ": "at+jwt"}
    assert jwt.decode(token, SHARED, algorithms=["HS256"]) == {"sub": "alice"}
    assert keys.document == {"keys": []} and keys.algorithms == ("HS256",)
    assert SHARED not in repr(keys) + repr(signing.load_secret(SHARED))


def test_secrets_rotate():
    old, new = signing.load_secret(SHARED + "1"), signing.load_secret(SHARED + "2", "new")
    public = signing.load(pem(ec.generate_private_key(ec.SECP256R1())))
    keys = SigningKeys([new, old, public])
    found = keys.verifying(("HS256", "ES256"))
    assert [key.kid for key in found] == [public.kid, "new", None]
    assert [key.algorithms for key in found] == [{"ES256"}, {"HS256"}, {"HS256"}]
    assert [key.kid for key in keys.verifying(("ES256",))] == [public.kid]
    with pytest.raises(BadKey):
        SigningKeys([old]).verifying(("ES256",))


@pytest.mark.parametrize("secret", ["short", "-----BEGIN PUBLIC KEY-----" + "x" * 32])
def test_secrets_that_are_refused(secret: str):
    with pytest.raises(BadSigningKey) as caught:
        signing.load_secret(secret)
    assert secret not in str(caught.value)
