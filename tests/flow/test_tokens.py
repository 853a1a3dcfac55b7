"""The gateway as an issuer: login, refresh, logout, profile, change_password and jwks over real
sockets."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import bcrypt
import joserfc.jwk
import joserfc.jwt
import jwt
import pytest
from argon2 import PasswordHasher
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from gateway.app import Gateway
from gateway.credentials.users import user_file
from gateway.issuer import totp
from tests.client import Client, Message
from tests.flow.test_proxy import upstreams
from tests.origin import fields_of
from tests.until import until

ISSUER = "https://edge.example.com"
CHEAP = PasswordHasher(time_cost=1, memory_cost=64, parallelism=1)
SECRET = "JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP"

GATEWAY = f"""
[tokens]
issuer = "{ISSUER}"
audience = "edge"
users = "users.toml"
keys = [{{ key = {{ file = "signing.pem" }} }}]
audit = {{ file = "audit.log" }}
argon2 = {{ memory = "64KiB", passes = 1, lanes = 1 }}
"""

PIPELINE = f"""
request = ["auth"]
error = ["error_handler"]
[auth]
methods = ["jwt"]
roles.operator = ["cameras:read"]
[[auth.jwt]]
issuer = "{ISSUER}"
audience = "edge"
own = true
[[route]]
path = "/auth/login"
builtin = "login"
auth = false
[[route]]
path = "/auth/refresh"
builtin = "refresh"
auth = false
[[route]]
path = "/auth/logout"
builtin = "logout"
auth = {{ optional = true }}
[[route]]
path = "/auth/profile"
builtin = "profile"
[[route]]
path = "/auth/change-password"
builtin = "change_password"
[[route]]
path = "/.well-known/jwks.json"
builtin = "jwks"
auth = false
[[route]]
prefix = "/"
upstream = "origin"
"""


def pem(key: Any) -> str:
    made: bytes = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return made.decode()


KEYS = {
    "ES256": pem(ec.generate_private_key(ec.SECP256R1())),
    "EdDSA": pem(ed25519.Ed25519PrivateKey.generate()),
    "RS256": pem(rsa.generate_private_key(65537, 2048)),
}


def user(name: str, password: str = "old password", *lines: str) -> str:
    return (
        "\n".join(["[[user]]", f'name = "{name}"', f'hash = "{CHEAP.hash(password)}"', *lines])
        + "\n\n"
    )


USERS = user(
    "alice", "old password", 'client = "acme"', 'tier = "gold"', 'roles = ["operator"]'
) + user("bob", "password of bob", f'totp = "{SECRET}"')


class Browser:
    """A client that posts JSON and reads JSON."""

    def __init__(self, client: Client) -> None:
        self.client = client

    async def post(
        self, path: str, body: object = None, token: str = "", *lines: str
    ) -> tuple[Message, Any]:
        fields = ["Content-Type: application/json", *lines]
        if token:
            fields.append(f"Authorization: Bearer {token}")
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        message = await self.client.get(
            path, *fields, method="POST", body=None if body is None else data
        )
        return message, json.loads(message.body) if message.body else None

    async def login(
        self, name: str = "alice", password: str = "old password", **more: str
    ) -> tuple[int, Any]:
        message, said = await self.post(
            "/auth/login", {"username": name, "password": password, **more}
        )
        assert message.fields["cache-control"] == "no-store"
        return message.status, said

    async def get(self, path: str, token: str) -> tuple[int, Any]:
        message = await self.client.get(path, f"Authorization: Bearer {token}")
        return message.status, json.loads(message.body) if message.body.startswith(
            b"{"
        ) else message.body


@pytest.fixture
def world(start, origin, connect, tmp_path: Path) -> Callable[..., Any]:
    async def made(
        gateway: str = GATEWAY, users: str = USERS, pipeline: str = PIPELINE
    ) -> tuple[Gateway, Browser]:
        (tmp_path / "users.toml").write_text(users)
        (tmp_path / "signing.pem").write_text(KEYS["ES256"])
        running = await start(pipeline, upstreams(origin), gateway)
        return running, Browser(await connect(running))

    return made


async def audited(gateway: Gateway, file: Path, count: int) -> list[dict[str, Any]]:
    """The audit log, once it has that many lines."""
    await until(lambda: file.exists() and file.read_text().count("\n") >= count)
    return [json.loads(line) for line in file.read_text().splitlines()]


async def test_a_session_from_login_to_logout(world, origin, tmp_path: Path):
    gateway, browser = await world()
    status, first = await browser.login()
    assert status == 200 and first["token_type"] == "Bearer" and first["expires_in"] == 900
    assert 1790 <= first["refresh_expires_in"] <= 1800

    assert (await browser.get("/x", first["access_token"]))[0] == 200
    assert fields_of(origin.heads[-1])["x-client-id"] == "acme"
    status, profile = await browser.get("/auth/profile", first["access_token"])
    assert profile == {
        "username": "alice", "client": "acme", "tier": "gold", "roles": ["operator"], "permissions": ["cameras:read"],
        "second_factor": False, "sessions": 1,
    }  # fmt: skip

    message, second = await browser.post("/auth/refresh", {"refresh_token": first["refresh_token"]})
    assert message.status == 200 and second["refresh_token"] != first["refresh_token"]
    for token in (first["access_token"], second["access_token"]):
        assert (await browser.get("/x", token))[0] == 200

    message, _ = await browser.post("/auth/logout", None, second["access_token"])
    assert message.status == 204 and message.fields["cache-control"] == "no-store"
    # Replay after logout: neither access token, both of which had been found good and remembered,
    # nor the refresh token.
    for token in (first["access_token"], second["access_token"]):
        status, said = await browser.get("/x", token)
        assert (status, said["code"]) == (401, "AUTH_001")
        assert (await browser.get("/auth/profile", token))[0] == 401
    message, said = await browser.post("/auth/refresh", {"refresh_token": second["refresh_token"]})
    assert (message.status, said["code"]) == (401, "AUTH_001")

    lines = await audited(gateway, tmp_path / "audit.log", 4)
    assert [(one["event"], one["outcome"], one["user"]) for one in lines] == [
        ("login", "allowed", "alice"),
        ("refresh", "allowed", "alice"),
        ("logout", "allowed", "alice"),
        ("refresh", "denied", None),
    ]
    text = (tmp_path / "audit.log").read_text()
    for issued in (first, second):
        assert issued["access_token"] not in text and issued["refresh_token"] not in text
    assert "old password" not in text
    assert gateway.telemetry.auth.get(("login", "ok")) == 1


async def test_reuse_of_a_refresh_token_ends_the_session(world):
    _, browser = await world()
    _, first = await browser.login()
    _, other = await browser.login()
    _, second = await browser.post("/auth/refresh", {"refresh_token": first["refresh_token"]})
    message, said = await browser.post("/auth/refresh", {"refresh_token": first["refresh_token"]})
    assert (message.status, said["code"]) == (401, "AUTH_001")
    # All that came of the first login is worth nothing now; another session of the same user is
    # none of it.
    message, _ = await browser.post("/auth/refresh", {"refresh_token": second["refresh_token"]})
    assert message.status == 401
    assert (await browser.get("/x", second["access_token"]))[0] == 401
    assert (await browser.get("/x", other["access_token"]))[0] == 200


async def test_logout_by_refresh_token(world):
    _, browser = await world()
    _, issued = await browser.login()
    assert (await browser.post("/auth/logout", {"refresh_token": issued["refresh_token"]}))[
        0
    ].status == 204
    assert (await browser.get("/x", issued["access_token"]))[0] == 401
    assert (await browser.post("/auth/logout", {"refresh_token": issued["refresh_token"]}))[
        0
    ].status == 204  # RFC 7009
    message, said = await browser.post("/auth/logout", {})
    assert (message.status, said["code"], message.fields["www-authenticate"]) == (
        401,
        "AUTH_001",
        "Bearer",
    )


async def test_wrong_names_and_passwords_look_alike(world):
    _, browser = await world()
    answers = []
    for name, password in (
        ("alice", "wrong password"),
        ("nobody", "wrong password"),
        ("bob", "wrong password"),
    ):
        status, said = await browser.login(name, password)
        said.pop("request_id")
        answers.append((status, said))
    assert answers[0] == answers[1] == answers[2] and answers[0][0] == 401


async def test_a_second_factor(world):
    _, browser = await world()
    status, said = await browser.login("bob", "password of bob")
    assert (status, said["code"], said["errors"][0]["code"]) == (
        401,
        "AUTH_001",
        "second_factor_required",
    )
    status, said = await browser.login("bob", "password of bob", code="000000")
    assert (status, said["errors"][0]["code"]) == (401, "second_factor_invalid")
    code = totp.code(SECRET, int(time.time() // 30))
    status, issued = await browser.login("bob", "password of bob", code=code)
    assert status == 200
    assert jwt.decode(issued["access_token"], options={"verify_signature": False})["amr"] == [
        "pwd",
        "otp",
        "mfa",
    ]
    status, said = await browser.login("bob", "password of bob", code=code)  # good once
    assert (status, said["errors"][0]["code"]) == (401, "second_factor_invalid")
    # With a wrong password nothing is said about a second factor.
    assert "errors" not in (await browser.login("bob", "wrong password", code=code))[1]


async def test_change_password(world, tmp_path: Path):
    _, browser = await world()
    _, mine = await browser.login()
    _, other = await browser.login()
    path, token = "/auth/change-password", mine["access_token"]

    message, said = await browser.post(
        path, {"old_password": "wrong password", "new_password": "new password"}, token
    )
    assert (message.status, said["code"], said["errors"][0]["field"]) == (
        422,
        "VAL_003",
        "old_password",
    )
    for new in ("short", "é" * 3, "x" * 1025, "é" * 513, "old password"):
        message, said = await browser.post(
            path, {"old_password": "old password", "new_password": new}, token
        )
        assert (message.status, said["errors"][0]["field"]) == (422, "new_password")
    message, said = await browser.post(
        path, {"old_password": "x" * 1025, "new_password": "new password"}, token
    )
    assert (message.status, said["errors"][0]["field"]) == (422, "old_password")
    assert (
        await browser.post(path, {"old_password": "old password", "new_password": "new password"})
    )[0].status == 401

    long = "x" * 1023  # all of it counts
    message, _ = await browser.post(
        path, {"old_password": "old password", "new_password": long + "y"}, token
    )
    assert (message.status, message.body) == (204, b"")
    assert (await browser.get("/auth/profile", token))[1]["sessions"] == 1
    assert (await browser.get("/x", other["access_token"]))[0] == 401
    assert (await browser.post("/auth/refresh", {"refresh_token": other["refresh_token"]}))[
        0
    ].status == 401
    assert (await browser.post("/auth/refresh", {"refresh_token": mine["refresh_token"]}))[
        0
    ].status == 200
    assert (await browser.login())[0] == 401
    assert (await browser.login("alice", long + "z"))[0] == 401
    assert (await browser.login("alice", long + "y"))[0] == 200
    assert user_file.load(tmp_path / "users.toml")["alice"].changed


async def test_attempts_wait_longer_and_longer(world):
    _, browser = await world(
        GATEWAY + 'attempts = { account = 2, delay = "10m", max_delay = "10m" }\n'
    )
    for _ in range(2):
        assert (await browser.login("alice", "wrong password"))[0] == 401
    message, said = await browser.post(
        "/auth/login", {"username": "alice", "password": "old password"}
    )
    assert (message.status, said["code"]) == (429, "RATE_001")
    assert 590 <= int(message.fields["retry-after"]) <= 600
    assert (await browser.login("carol", "wrong password"))[0] == 401  # others do not wait
    # Where the right password came with a code missing, nothing is counted.
    for _ in range(4):
        assert (await browser.login("bob", "password of bob"))[1]["errors"][0][
            "code"
        ] == "second_factor_required"


async def test_at_most_five_sessions(world):
    _, browser = await world()
    issued = [(await browser.login())[1] for _ in range(6)]
    states = [(await browser.get("/x", one["access_token"]))[0] for one in issued]
    assert states == [401, 200, 200, 200, 200, 200]


async def test_sessions_that_nobody_refreshes_end(world):
    settings = GATEWAY + 'access = "0.2s"\nsessions = { idle = "0.3s" }\n'
    _, browser = await world(settings)
    _, issued = await browser.login()
    await asyncio.sleep(0.35)  # nothing happens that could be awaited: that is the point
    message, said = await browser.post("/auth/refresh", {"refresh_token": issued["refresh_token"]})
    assert (message.status, said["code"]) == (401, "AUTH_002")


async def test_no_more_passwords_than_may_wait(world):
    gateway, browser = await world(GATEWAY.replace("lanes = 1", "lanes = 1, waiting = 1"))
    passwords = next(one for one in gateway.runtime.registry if type(one).__name__ == "Passwords")
    passwords.queue._running += 1
    message, said = await browser.post(
        "/auth/login", {"username": "alice", "password": "old password"}
    )
    assert (message.status, said["code"], message.fields["retry-after"]) == (503, "SVC_001", "1")
    passwords.queue._running -= 1
    assert (await browser.login())[0] == 200


@pytest.mark.parametrize(
    ("body", "lines", "status", "code"),
    [
        (b"", (), 400, "VAL_001"),
        (b"[]", (), 400, "VAL_001"),
        (b"{", (), 400, "VAL_001"),
        (b"[" * 10_000, (), 400, "VAL_001"),
        (b'{"username": "a", "username": "b", "password": "c"}', (), 400, "VAL_001"),
        (b'{"username": "\\ud800", "password": "c"}', (), 400, "VAL_001"),
        (b'{"username": "\xff", "password": "c"}', (), 400, "VAL_001"),
        (b"{}", (), 422, "VAL_002"),
        (b'{"username": "alice"}', (), 422, "VAL_002"),
        (b'{"username": 1, "password": "c"}', (), 422, "VAL_003"),
        (b'{"username": null, "password": "c"}', (), 422, "VAL_003"),
        (b'{"username": "a", "password": "c", "code": 123456}', (), 422, "VAL_003"),
        (json.dumps({"username": "a" * 257, "password": "c"}).encode(), (), 422, "VAL_003"),
        (json.dumps({"username": "a", "password": "c" * 1025}).encode(), (), 422, "VAL_003"),
        (b'{"x": "' + b"x" * 16384 + b'"}', (), 413, "VAL_004"),
        (b"{}", ("Content-Encoding: gzip",), 415, "VAL_006"),
    ],
)
async def test_bodies_that_are_refused(
    world, body: bytes, lines: tuple[str, ...], status: int, code: str
):
    _, browser = await world()
    message, said = await browser.post("/auth/login", body, "", *lines)
    assert (message.status, said["code"]) == (status, code)
    assert message.fields["cache-control"] == "no-store"


async def test_forms_and_methods_that_are_refused(world):
    _, browser = await world()
    reply = await browser.client.get(
        "/auth/login",
        "Content-Type: application/x-www-form-urlencoded",
        method="POST",
        body=b"username=a",
    )
    assert reply.status == 415
    reply = await browser.client.get("/auth/login")
    assert (reply.status, reply.fields["allow"]) == (405, "POST")
    reply = await browser.client.get("/.well-known/jwks.json", method="POST", body=b"")
    assert (reply.status, reply.fields["allow"]) == (405, "GET, HEAD")


async def published(browser: Browser) -> dict[str, Any]:
    reply = await browser.client.get("/.well-known/jwks.json")
    assert reply.fields["content-type"] == "application/jwk-set+json"
    found: dict[str, Any] = json.loads(reply.body)
    return found


@pytest.mark.filterwarnings("ignore:EdDSA is deprecated")
@pytest.mark.parametrize("alg", KEYS)
async def test_others_verify_our_tokens(world, tmp_path: Path, alg: str):
    gateway, browser = await world()
    (tmp_path / "signing.pem").write_text(KEYS[alg])
    assert (await gateway.reload()).ok
    _, issued = await browser.login()
    token, document = issued["access_token"], await published(browser)
    assert not {"d", "p", "q", "dp", "dq", "qi", "k"} & set(document["keys"][0])

    registry = joserfc.jwt.JWTClaimsRegistry(
        iss={"essential": True, "value": ISSUER}, aud={"essential": True, "value": "edge"}
    )
    read = joserfc.jwt.decode(token, joserfc.jwk.KeySet.import_key_set(document), algorithms=[alg])
    registry.validate(read.claims)
    assert read.header == {"alg": alg, "kid": document["keys"][0]["kid"], "typ": "at+jwt"}
    key = joserfc.jwk.KeySet.import_key_set(document).keys[0]
    assert key.thumbprint() == read.header["kid"]  # RFC 7638, as another library computes it

    [own] = jwt.PyJWKSet.from_dict(document).keys
    claims = jwt.decode(token, own, algorithms=[alg], audience="edge", issuer=ISSUER)
    assert (claims["sub"], claims["client_id"], claims["amr"]) == ("alice", "acme", ["pwd"])
    assert claims == read.claims and claims["exp"] - claims["iat"] == 900


async def test_a_shared_secret(world):
    secret = "a secret of 32 bytes or more, kept"
    _, browser = await world(
        GATEWAY.replace('key = { file = "signing.pem" }', f'secret = "{secret}"')
        + 'refresh_threshold = "5m"\npassword = { min_length = 12, require = ["digit"] }\n'
    )
    _, issued = await browser.login()
    claims = jwt.decode(issued["access_token"], secret, algorithms=["HS256"], audience="edge")
    assert claims["sub"] == "alice" and issued["refresh_after"] == issued["expires_in"] - 300
    assert (await browser.get("/auth/profile", issued["access_token"]))[0] == 200
    forged = jwt.encode(claims, secret + "x", "HS256", headers={"typ": "at+jwt"})
    assert (await browser.get("/auth/profile", forged))[0] == 401
    assert await published(browser) == {"keys": []}
    for new, status in (("x" * 12, 422), ("x" * 11 + "1", 204)):
        message, _ = await browser.post(
            "/auth/change-password",
            {"old_password": "old password", "new_password": new},
            issued["access_token"],
        )
        assert message.status == status


async def test_keys_rotate_without_a_valid_token_being_refused(world, tmp_path: Path):
    gateway, browser = await world()
    _, old = await browser.login()
    before = (await published(browser))["keys"]
    (tmp_path / "next.pem").write_text(KEYS["EdDSA"])
    both = 'keys = [{ key = { file = "signing.pem" } }, { key = { file = "next.pem" } }]'
    steps = (
        both,  # published, not yet used
        # used, the old one still published
        'keys = [{ key = { file = "next.pem" } }, { key = { file = "signing.pem" } }]',
        'keys = [{ key = { file = "next.pem" } }]',  # once the old one's tokens have expired
    )
    line = 'keys = [{ key = { file = "signing.pem" } }]'
    text = (tmp_path / "gateway.toml").read_text()
    issued, seen = [old], []
    for step in steps[:2]:
        (tmp_path / "gateway.toml").write_text(text.replace(line, step))
        assert (await gateway.reload()).ok
        issued.append((await browser.login())[1])
        seen.append([key["kid"] for key in (await published(browser))["keys"]])
        for one in issued:
            assert (await browser.get("/x", one["access_token"]))[0] == 200
    kids = [jwt.get_unverified_header(one["access_token"])["kid"] for one in issued]
    assert kids[0] == kids[1] == before[0]["kid"] != kids[2]
    assert seen == [[kids[0], kids[2]], [kids[2], kids[0]]]
    (tmp_path / "gateway.toml").write_text(text.replace(line, steps[2]))
    assert (await gateway.reload()).ok
    assert [(await browser.get("/x", one["access_token"]))[0] for one in issued] == [401, 401, 200]
    # Sessions go on: a refresh token is not bound to a key.
    assert (await browser.post("/auth/refresh", {"refresh_token": old["refresh_token"]}))[
        0
    ].status == 200


async def test_tokens_of_a_session_nobody_began_here(world):
    """A key that got out does not make sessions."""
    _, browser = await world()
    now = int(time.time())
    claims = {
        "iss": ISSUER,
        "aud": "edge",
        "sub": "alice",
        "client_id": "acme",
        "iat": now,
        "exp": now + 60,
    }
    for sid in ({}, {"sid": "x"}, {"sid": ["x"]}):
        forged = jwt.encode({**claims, **sid}, KEYS["ES256"], "ES256")
        assert (await browser.get("/x", forged))[0] == 401


async def test_users_that_are_gone_and_passwords_changed_elsewhere(world, tmp_path: Path):
    _, browser = await world()
    _, issued = await browser.login()
    changed = "\nchanged = 2100-01-01T00:00:00Z\n"
    (tmp_path / "users.toml").write_text(user("alice").rstrip() + changed + user("carol"))

    async def carol_is_known() -> bool:
        return (await browser.login("carol", "old password"))[0] == 200

    await until(carol_is_known)
    # Nobody had to refresh for that: what has changed elsewhere ends sessions as soon as it is
    # known.
    assert (await browser.get("/x", issued["access_token"]))[0] == 401
    assert (await browser.post("/auth/refresh", {"refresh_token": issued["refresh_token"]}))[
        0
    ].status == 401
    _, carol = await browser.login("carol", "old password")
    (tmp_path / "users.toml").write_text(user("alice"))

    async def carol_is_gone() -> bool:
        return (await browser.get("/x", carol["access_token"]))[0] == 401

    await until(carol_is_gone)
    assert (await browser.post("/auth/refresh", {"refresh_token": carol["refresh_token"]}))[
        0
    ].status == 401
    assert (await browser.login("carol", "old password"))[0] == 401


async def test_hashes_are_brought_up_to_date(world, tmp_path: Path):
    _, browser = await world(GATEWAY.replace("passes = 1", "passes = 2"))
    assert "t=1," in user_file.load(tmp_path / "users.toml")["alice"].hash
    assert (await browser.login())[0] == 200
    assert "t=2," in user_file.load(tmp_path / "users.toml")["alice"].hash
    assert "t=1," in user_file.load(tmp_path / "users.toml")["bob"].hash
    assert (await browser.login())[0] == 200


async def test_a_reload_ends_no_session(world):
    gateway, browser = await world()
    _, issued = await browser.login()
    assert (await gateway.reload()).ok
    assert (await browser.get("/x", issued["access_token"]))[0] == 200
    assert (await browser.post("/auth/refresh", {"refresh_token": issued["refresh_token"]}))[
        0
    ].status == 200


async def test_logout_with_an_empty_body(world):
    _, browser = await world()
    _, issued = await browser.login()
    line = f"Authorization: Bearer {issued['access_token']}"
    assert (await browser.client.get("/auth/logout", line, method="POST", body=b"")).status == 204
    assert (await browser.get("/x", issued["access_token"]))[0] == 401


async def test_a_head_of_a_profile(world):
    _, browser = await world()
    _, issued = await browser.login()
    reply = await browser.client.get(
        "/auth/profile", f"Authorization: Bearer {issued['access_token']}", method="HEAD"
    )
    assert (reply.status, reply.body) == (200, b"")


async def test_one_audit_log_for_decisions_and_events(world, tmp_path: Path):
    """Spelt differently, for paths are relative to the file they stand in; written in order, for it
    is one."""
    pipeline = PIPELINE.replace(
        "roles.operator", 'audit = { file = "../audit.log" }\nroles.operator'
    )
    gateway, browser = await world(pipeline=pipeline)
    for _ in range(3):
        _, issued = await browser.login()
        await browser.post("/auth/logout", None, issued["access_token"])
    lines = await audited(gateway, tmp_path / "audit.log", 9)
    assert [one["event"] for one in lines] == ["login", "authentication", "logout"] * 3


async def test_guessing_codes(world):
    _, browser = await world(
        GATEWAY + 'attempts = { account = 2, delay = "10m", max_delay = "10m" }\n'
    )
    for code in ("000000", "00000", "000000"):
        status, said = await browser.login("bob", "password of bob", code=code)
    assert (status, said["code"]) == (429, "RATE_001")


async def test_hashes_from_elsewhere_are_replaced(world, tmp_path: Path):
    """Who comes with bcrypt has argon2id after the first login, and then no longer a password of 72
    bytes at most."""
    hash = bcrypt.hashpw(b"old password", bcrypt.gensalt(4)).decode()
    _, browser = await world(users=f'[[user]]\nname = "alice"\nhash = "{hash}"\n')
    assert (await browser.login("alice", "wrong password"))[0] == 401
    assert user_file.load(tmp_path / "users.toml")["alice"].hash == hash
    assert (await browser.login())[0] == 200
    assert user_file.load(tmp_path / "users.toml")["alice"].hash.startswith("$argon2id$")
    assert (await browser.login())[0] == 200
