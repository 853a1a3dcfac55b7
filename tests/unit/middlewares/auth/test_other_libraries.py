"""Tokens made by joserfc and by the openssl command verify here, and ours verify there."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from joserfc import jwk as joserfc_jwk
from joserfc import jwt as joserfc_jwt

from gateway.core.failures import Failure
from tests.idp import MAKE, encoded, private_pem, public_pem
from tests.unit.middlewares.auth.bearers import SECRET, Bearers, bearing, claims, refused, token

KINDS = [
    ("RS256", "RSA", 2048), ("RS384", "RSA", 2048), ("RS512", "RSA", 2048), ("PS256", "RSA", 2048), ("PS384", "RSA", 2048),
    ("PS512", "RSA", 2048), ("ES256", "EC", "P-256"), ("ES384", "EC", "P-384"), ("ES512", "EC", "P-521"),
    ("Ed25519", "OKP", "Ed25519"), ("Ed448", "OKP", "Ed448"), ("EdDSA", "OKP", "Ed25519"), ("EdDSA", "OKP", "Ed448"),
]  # fmt: skip


@pytest.mark.filterwarnings("ignore:EdDSA is deprecated")
@pytest.mark.parametrize(
    ("alg", "kind", "size"), KINDS, ids=[f"{alg}-{size}" for alg, _, size in KINDS]
)
def test_joserfc(alg: str, kind: str, size: Any):
    key: Any = joserfc_jwk.JWKRegistry.generate_key(kind, size, {"kid": "k1"}, private=True)
    text = joserfc_jwt.encode({"alg": alg, "kid": "k1"}, claims(), key, algorithms=[alg])
    document = joserfc_jwk.KeySet([key]).as_dict(private=False)
    for keys in (json.dumps(document), key.as_pem(private=False).decode()):
        hook = Bearers().auth({"key": keys, "algorithms": [alg]})
        exchange = bearing(text)
        hook(exchange)
        assert exchange.identity is not None and exchange.identity.client == "acme"
        assert refused(hook, bearing(text[:-6] + "AAAAAA")).failure is Failure.UNAUTHENTICATED


@pytest.mark.parametrize("alg", ["HS256", "HS384", "HS512"])
def test_joserfc_with_a_secret(alg: str):
    key = joserfc_jwk.OctKey.import_key(SECRET)
    text = joserfc_jwt.encode({"alg": alg}, claims(), key, algorithms=[alg])
    Bearers().auth({"secret": SECRET, "algorithms": [alg]})(bearing(text))


OPENSSL = shutil.which("openssl")


@pytest.mark.skipif(OPENSSL is None, reason="no openssl command")
@pytest.mark.parametrize(
    ("alg", "make", "sign"),
    [
        (
            "RS256",
            ["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"],
            ["dgst", "-sha256", "-sign"],
        ),
        (
            "RS512",
            ["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"],
            ["dgst", "-sha512", "-sign"],
        ),
        (
            "PS256",
            ["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"],
            [
                "dgst",
                "-sha256",
                "-sigopt",
                "rsa_padding_mode:pss",
                "-sigopt",
                "rsa_pss_saltlen:digest",
                "-sign",
            ],
        ),
        ("EdDSA", ["-algorithm", "ED25519"], ["pkeyutl", "-sign", "-rawin", "-inkey"]),
    ],
)
def test_openssl(tmp_path: Path, alg: str, make: list[str], sign: list[str]):
    def openssl(*words: str) -> bytes:
        return subprocess.run(
            [str(OPENSSL), *words], check=True, capture_output=True, cwd=tmp_path
        ).stdout

    openssl("genpkey", *make, "-out", "key.pem")
    public = openssl("pkey", "-in", "key.pem", "-pubout").decode()
    text = f"{encoded({'alg': alg})}.{encoded(claims())}"
    (tmp_path / "signed").write_text(text)
    signature = openssl(*sign, "key.pem", *(["-in"] if sign[0] == "pkeyutl" else []), "signed")
    Bearers().auth({"key": public, "algorithms": [alg]})(bearing(f"{text}.{encoded(signature)}"))


@pytest.mark.filterwarnings("ignore:EdDSA is deprecated")
@pytest.mark.parametrize("alg", ["RS256", "ES256", "ES384", "EdDSA"])
def test_ours_verify_in_joserfc(alg: str):
    key = MAKE[alg]()
    hook = Bearers().auth(forward="token", token={"key": private_pem(key), "audience": "cameras"})
    exchange = bearing(token())
    hook(exchange)
    assert exchange.identity is not None
    text = exchange.identity.headers[0][1].decode()
    kind = {"RS256": "RSA", "EdDSA": "OKP"}.get(alg, "EC")
    public: Any = joserfc_jwk.JWKRegistry.import_key(public_pem(key), kind)
    said = joserfc_jwt.decode(text, public, algorithms=[alg]).claims
    assert (said["client"], said["aud"]) == ("acme", "cameras")


@pytest.mark.skipif(OPENSSL is None, reason="no openssl command")
def test_ours_verify_in_openssl(tmp_path: Path):
    key = MAKE["RS256"]()
    hook = Bearers().auth(forward="token", token={"key": private_pem(key)})
    exchange = bearing(token())
    hook(exchange)
    assert exchange.identity is not None
    text, _, signature = exchange.identity.headers[0][1].decode().rpartition(".")
    (tmp_path / "signed").write_text(text)
    (tmp_path / "signature").write_bytes(base64.urlsafe_b64decode(signature + "=="))
    (tmp_path / "public.pem").write_text(public_pem(key))
    words = [
        str(OPENSSL),
        "dgst",
        "-sha256",
        "-verify",
        "public.pem",
        "-signature",
        "signature",
        "signed",
    ]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.stdout == "Verified OK\n"
