"""Tokens made by Node's jose verify here, and ours verify there. bin/test installs node and jose
(JOSE below)."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from time import time
from typing import Any

import pytest

from gateway.core.failures import Failure
from gateway.tokens import signing
from gateway.tokens.signing import SigningKeys
from tests.idp import MAKE, private_pem, public_pem
from tests.unit.middlewares.auth.bearers import (
    ISSUER,
    SECRET,
    Bearers,
    bearing,
    claims,
    refused,
    token,
)

ROOT = Path(__file__).resolve().parents[4]
VERSION = re.search(r"^jose=(\S+)$", (ROOT / "bin" / "test").read_text(), re.MULTILINE)
NODE = shutil.which("node")
JOSE = Path(os.environ.get("JOSE", "") or ROOT / ".venv" / f"jose-{VERSION[1] if VERSION else ''}")

pytestmark = pytest.mark.skipif(
    NODE is None or not (JOSE / "node_modules" / "jose").is_dir(),
    reason="no node, or no jose: bin/test installs them",
)

ALGORITHMS = ("RS256", "PS256", "ES256", "EdDSA", "HS256")


def node(action: str, asked: object) -> Any:
    words = [str(NODE), str(ROOT / "tests" / "jose.cjs"), str(JOSE), action]
    done = subprocess.run(
        words, input=json.dumps(asked), capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def made() -> dict[str, Any]:
    """A token by each algorithm, and the key for it."""
    found: dict[str, Any] = node(
        "sign", {"algorithms": [*ALGORITHMS, "ES384"], "claims": claims(), "secret": SECRET}
    )
    return found


def keys_of(made: dict[str, Any], alg: str) -> list[dict[str, Any]]:
    """The ways to configure the key."""
    if alg == "HS256":
        return [{"secret": SECRET}]
    return [
        {"key": made[alg]["pem"]},
        {"key": json.dumps(made[alg]["jwk"])},
        {"key": json.dumps({"keys": [made[alg]["jwk"]]})},
    ]


@pytest.mark.parametrize("alg", ALGORITHMS)
def test_theirs_verify_here(made: dict[str, Any], alg: str):
    for keys in keys_of(made, alg):
        hook = Bearers().auth({**keys, "algorithms": [alg]})
        exchange = bearing(made[alg]["token"])
        hook(exchange)
        assert exchange.identity is not None and exchange.identity.client == "acme"
        head, payload, signature = made[alg]["token"].split(".")
        for other in (
            f"{head}.{payload}.{signature[:-6]}AAAAAA",
            f"{head}.{payload[:-4]}AAAA.{signature}",
        ):
            assert refused(hook, bearing(other)).failure is Failure.UNAUTHENTICATED
        refused(
            Bearers().auth({**keys_of(made, "ES384")[0], "algorithms": ["ES384"]}),
            bearing(made[alg]["token"]),
        )


def test_ours_verify_there():
    signers = {alg: MAKE[alg]() for alg in ("RS256", "ES256", "EdDSA")}
    asked, expected = [], []
    for alg in (*signers, "HS256"):
        keys = {"secret": SECRET} if alg == "HS256" else {"key": private_pem(signers[alg])}
        world = Bearers(now=time())
        hook = world.auth(
            forward="token", token={**keys, "audience": "cameras", "issuer": "edge", "kid": "k1"}
        )
        exchange = bearing(token(iat=int(world.now), exp=int(world.now) + 60))
        hook(exchange)
        assert exchange.identity is not None
        said = {
            "alg": alg,
            "token": exchange.identity.headers[0][1].decode(),
            "issuer": "edge",
            "audience": "cameras",
        }
        said |= {"secret": SECRET} if alg == "HS256" else {"pem": public_pem(signers[alg])}
        asked += [
            said,
            {**said, "token": said["token"][:-6] + "AAAAAA"},
            {**said, "audience": "others"},
        ]
        expected += [
            ("acme", None),
            (None, "ERR_JWS_SIGNATURE_VERIFICATION_FAILED"),
            (None, "ERR_JWT_CLAIM_VALIDATION_FAILED"),
        ]
    found = node("verify", asked)
    assert [(one.get("client"), one.get("error")) for one in found] == expected
    assert ISSUER != "edge"


@pytest.mark.parametrize("alg", ["RS256", "ES256", "EdDSA"])
def test_what_the_gateway_issues_verifies_there_by_its_published_keys(alg: str):
    """As `[tokens]` signs, with the set that `builtin = "jwks"` answers; the key before the last
    one is still in it."""
    keys = SigningKeys([signing.load(private_pem(MAKE[name]())) for name in (alg, "ES256")])
    now = int(time())
    issued = keys.sign({"iss": "edge", "aud": "app", "sub": "alice", "iat": now, "exp": now + 60})
    asked = {
        "alg": alg,
        "token": issued,
        "jwks": keys.document,
        "issuer": "edge",
        "audience": "app",
    }
    [said] = node("verify", [asked])
    assert said.get("sub") == "alice", said
