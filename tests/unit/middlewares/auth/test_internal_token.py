from __future__ import annotations

from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import dsa, ec, rsa

from gateway.core.exchange import Exchange
from gateway.core.hooks import ConfigProblem
from gateway.middlewares.auth import internal_token
from gateway.upstream.connections.http1.headers import request_head
from tests.exchange import exchange
from tests.idp import MAKE, private_pem
from tests.unit.middlewares.auth.bearers import NOW, SECRET, Bearers, asked, bearing, token


def sent(request: Exchange) -> dict[str, str]:
    head = request_head(request, "/", "upstream", b"").decode()
    return dict(
        line.lower().split(": ", 1) if "token" not in line.lower() else line.split(": ", 1)
        for line in head.splitlines()[1:]
        if line
    )


@pytest.mark.parametrize(
    ("alg", "kind"),
    [("RS256", "RS256"), ("ES256", "ES256"), ("ES384", "ES384"), ("EdDSA", "EdDSA")],
)
def test_signed_with_what_the_key_is(alg: str, kind: str):
    key = MAKE[kind]()
    hook = Bearers().auth(
        forward="token", token={"key": private_pem(key), "audience": "cameras", "kid": "i1"}
    )
    exchange = bearing(token(tier="gold", roles=["b", "a"], scope="y x"))
    hook(exchange)
    fields = sent(exchange)
    text = fields["X-Client-Token"]
    assert "x-client-id" not in fields and "authorization" not in fields
    assert jwt.get_unverified_header(text) == {"alg": alg, "kid": "i1", "typ": "JWT"}
    assert jwt.decode(text, key.public_key(), [alg], audience="cameras", options={"verify_exp": False, "verify_iat": False}) == {
        "iss": "gateway", "sub": "acme", "client": "acme", "tier": "gold", "roles": ["a", "b"], "scope": "x y", "amr": ["jwt"],
        "aud": "cameras", "iat": NOW, "exp": NOW + 60,
    }  # fmt: skip


def test_made_anew_when_half_its_time_is_over(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(internal_token, "MOST", 2)
    world = Bearers()
    hook = world.auth(forward="token", token={"secret": SECRET, "lifetime": "40s"})
    seen = []
    for now in (NOW, NOW + 19.9, NOW + 20):
        world.now = now
        exchange = bearing(token())
        hook(exchange)
        assert exchange.identity is not None and exchange.identity.client == "acme"
        seen.append(exchange.identity.headers[0][1])
    assert seen[0] == seen[1] != seen[2]
    for number in range(5):
        hook(bearing(token(sub=f"c{number}")))
        assert len(hook.__self__._token._made) <= 2  # type: ignore[attr-defined]


@pytest.mark.parametrize("header", ["X-Client-Token", "Authorization", "X-Internal"])
def test_a_clients_own_is_removed(header: str):
    hook = Bearers().auth(
        forward="token",
        token={"secret": SECRET, "header": header},
        optional=True,
        forward_credentials=True,
    )
    for known in (True, False):
        pairs = [(header, "forged")] if header != "Authorization" else []
        pairs += [("Authorization", f"Bearer {token()}")] if known else []
        request = exchange(headers=pairs)
        hook(request)
        head = request_head(request, "/", "upstream", b"")
        assert b"forged" not in head and (header.encode() in head) is known
        if known and header == "Authorization":
            assert head.count(b"Authorization: Bearer ") == 1


def test_what_is_dropped_is_the_same_object():
    """upstream.headers remembers by it."""
    hook = Bearers().auth(forward="token", token={"secret": SECRET})
    one, two = bearing(token()), bearing(token())
    hook(one)
    hook(two)
    assert one.drop_headers is two.drop_headers and one.drop_headers == {
        b"authorization",
        b"x-client-token",
    }


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({}, "needs one key"),
        ({"key": "x", "secret": SECRET}, "needs one key"),
        ({"secret": "short"}, "has 5 bytes"),
        ({"key": "x"}, "not a private key"),
        ({"key": private_pem(rsa.generate_private_key(65537, 1024))}, "1024 bits; it needs 2048"),
        ({"key": private_pem(ec.generate_private_key(ec.SECP256K1()))}, "cannot sign"),
        ({"key": private_pem(dsa.generate_private_key(2048))}, "cannot sign"),
    ],
)
def test_keys(table: dict[str, Any], message: str):
    with pytest.raises(ConfigProblem, match=message) as caught:
        Bearers().auth(forward="token", token=table)
    assert caught.value.at[0] == "token"


def test_nothing_of_it_without_being_asked():
    exchange = asked(f"Bearer {token()}")
    Bearers().auth(token={"secret": SECRET})(exchange)
    assert exchange.identity is not None and exchange.identity.headers == (
        (b"X-Client-ID", b"acme"),
    )
