"""An identity provider on 127.0.0.1: discovery, JWKS and introspection, with keys that rotate and
tokens that sign as told."""

from __future__ import annotations

import asyncio
import base64
import json
import time
from collections import Counter
from typing import Any

import jwt
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from jwt.algorithms import get_default_algorithms

RSA_KEYS = [rsa.generate_private_key(65537, 2048) for _ in range(2)]
"""Made once: it takes a while."""
MAKE: dict[str, Any] = {
    **dict.fromkeys(("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"), lambda: RSA_KEYS[0]),
    "ES256": lambda: ec.generate_private_key(ec.SECP256R1()),
    "ES384": lambda: ec.generate_private_key(ec.SECP384R1()),
    "ES512": lambda: ec.generate_private_key(ec.SECP521R1()),
    "EdDSA": ed25519.Ed25519PrivateKey.generate,
    "Ed448": ed448.Ed448PrivateKey.generate,
}


def public_pem(key: Any) -> str:
    """The public half of a private key, as PEM."""
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


def private_pem(key: Any) -> str:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


def jwk(key: Any, kid: str | None, alg: str | None = None, **more: Any) -> dict[str, Any]:
    """The public half of a private key, as a JSON Web Key."""
    reader = {rsa.RSAPrivateKey: "RS256", ec.EllipticCurvePrivateKey: "ES256"}
    name = next((name for kind, name in reader.items() if isinstance(key, kind)), "EdDSA")
    made = dict(get_default_algorithms()[name].to_jwk(key.public_key(), as_dict=True))
    made.pop("key_ops", None)
    return {
        **made,
        "use": "sig",
        **({"kid": kid} if kid else {}),
        **({"alg": alg} if alg else {}),
        **more,
    }


def encoded(value: bytes | str | dict[str, Any]) -> str:
    """base64url without padding, of JSON for an object."""
    data = (
        json.dumps(value).encode()
        if isinstance(value, dict)
        else value.encode()
        if isinstance(value, str)
        else value
    )
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def signed(
    header: bytes | str | dict[str, Any], payload: bytes | str | dict[str, Any], key: Any, alg: str
) -> str:
    """A token of exactly these parts, whatever they say, signed with `alg`."""
    text = f"{encoded(header)}.{encoded(payload)}"
    return f"{text}.{encoded(get_default_algorithms()[alg].sign(text.encode(), key))}"


class Provider:
    """`issuer` and `port` are there after `start`. `down` makes it answer 503, `hold` (an Event)
    makes JWKS wait."""

    def __init__(self, alg: str = "RS256") -> None:
        self.alg = alg
        self.keys: dict[str, Any] = {"k1": MAKE[alg]()}
        self.current = "k1"
        self.requests: Counter[str] = Counter()
        self.down = False
        self.hold: asyncio.Event | None = None
        self.active: dict[str, dict[str, Any]] = {}
        """What introspection says of opaque tokens."""
        self.overrides: dict[str, Any] = {}
        """Other documents, by path: JSON values or bytes."""
        self.statuses: dict[str, int] = {}
        """Errors instead of answers, by path."""
        self.introspected: list[tuple[str, dict[str, str]]] = []
        self._runner: web.AppRunner | None = None
        self.port = 0

    async def start(self) -> Provider:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._answer)
        self._runner = web.AppRunner(app, access_log=None, handle_signals=False)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self.port).start()
        self.port = self._runner.addresses[0][1]
        return self

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    @property
    def issuer(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def jwks(self) -> str:
        return f"{self.issuer}/jwks"

    def rotate(self, kid: str, *, keep: bool = True) -> None:
        """Signs with a new key from now on; the old ones stay published, unless told otherwise."""
        if not keep:
            self.keys.clear()
        self.keys[kid] = (
            RSA_KEYS[len(self.keys) % 2] if self.alg.startswith(("RS", "PS")) else MAKE[self.alg]()
        )
        self.current = kid

    def token(
        self, *, kid: str | None = None, headers: dict[str, Any] | None = None, **claims: Any
    ) -> str:
        """A token good for 15 minutes; claims given as None are left out."""
        now = int(time.time())
        said = {
            "iss": self.issuer,
            "sub": "acme",
            "aud": "edge",
            "iat": now,
            "exp": now + 900,
            **claims,
        }
        kept = {name: value for name, value in said.items() if value is not None}
        return jwt.encode(
            kept,
            self.keys[self.current],
            self.alg,
            headers={"kid": kid or self.current, **(headers or {})},
        )

    async def _answer(self, request: web.Request) -> web.Response:
        path = request.path
        self.requests[path] += 1
        if self.down:
            return web.Response(status=503)
        if path in self.statuses:
            return web.Response(status=self.statuses[path])
        if path in self.overrides:
            made = self.overrides[path]
            return (
                made
                if isinstance(made, web.Response)
                else web.Response(
                    body=made if isinstance(made, bytes) else json.dumps(made),
                    content_type="application/json",
                )
            )
        if path == "/.well-known/openid-configuration":
            return web.json_response({"issuer": self.issuer, "jwks_uri": self.jwks})
        if path == "/jwks":
            if self.hold is not None:
                await self.hold.wait()
            return web.json_response(
                {"keys": [jwk(key, kid, self.alg) for kid, key in self.keys.items()]}
            )
        if path == "/introspect":
            form = {name: str(value) for name, value in (await request.post()).items()}
            self.introspected.append((request.headers.get("Authorization", ""), form))
            return web.json_response(self.active.get(form.get("token", ""), {"active": False}))
        return web.Response(status=404)
