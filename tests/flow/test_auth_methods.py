"""Callers of several kinds through a running gateway: files that change under it, logs, identities
upstream."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from pathlib import Path
from time import time

import jwt

from gateway.credentials.api_keys import key_edits
from gateway.credentials.api_keys.key_edits import Wish
from gateway.credentials.revocations import revoked as revocations
from gateway.credentials.revocations.revoked import Revocation
from gateway.credentials.users import user_edits, user_file
from gateway.credentials.users.user_file import User
from tests.client import Client
from tests.flow.test_proxy import upstreams
from tests.idp import Provider
from tests.origin import fields_of
from tests.until import until

SECRET = "0123456789abcdef" * 2

PIPELINE = f"""
request = ["auth"]
error = ["error_handler", "logging"]
[auth]
methods = ["api_key", "basic", "jwt"]
revocations = "../revoked.toml"
api_key.file = "../keys.toml"
basic.file = "../users.toml"
audit = {{ file = "../audit.log" }}
forward = "token"
token = {{ secret = "{SECRET[::-1]}" }}
[[auth.jwt]]
issuer = "https://id.example.com"
secret = "{SECRET}"
[logging]
file = "../access.log"
why = true
[[route]]
prefix = "/"
upstream = "origin"
[[route]]
path = "/users/{{id}}"
upstream = "origin"
auth = {{ owner = {{ id = "sub" }} }}
"""


def token(**claims: object) -> str:
    now = int(time())
    return jwt.encode(
        {"iss": "https://id.example.com", "sub": "alice", "iat": now, "exp": now + 60, **claims},
        SECRET,
    )


async def answers(client: Client, line: str, status: int) -> None:
    """Asks until the answer is as wanted: files are looked at once a second."""

    async def answered() -> bool:
        return (await client.get("/", line)).status == status

    await until(answered)


async def test_files_are_followed_and_decisions_written(start, origin, connect, tmp_path: Path):
    directory = tmp_path
    keys = directory / "keys.toml"
    key, secret = key_edits.create(keys, Wish("acme", "gold"), time())
    user_edits.add(directory / "users.toml", User("bob", user_file.hashed("password")))
    gateway = await start(PIPELINE, upstreams(origin))
    client = await connect(gateway)

    by_key, by_token = f"X-API-Key: {secret}", f"Authorization: Bearer {token(jti='j1')}"
    by_password = "Authorization: Basic " + base64.b64encode(b"bob:password").decode()
    for line, who in (
        (by_key, "acme"),
        (by_token, "alice"),
        (by_password, "bob"),
        (by_password, "bob"),
    ):
        assert (await client.get("/", line, "X-Client-Token: forged")).status == 200
        fields = fields_of(origin.heads[-1])
        said = jwt.decode(fields["x-client-token"], SECRET[::-1], ["HS256"])
        assert (
            said["client"] == who
            and not {"x-api-key", "authorization", "x-client-id"} & fields.keys()
        )

    assert (await client.get("/users/alice", by_token)).status == 200
    reply = await client.get("/users/bob", by_token)
    assert (reply.status, reply.fields["x-error-code"]) == (
        403,
        "AUTH_003",
    ) and b"alice" not in reply.body

    revocations.add(directory / "revoked.toml", Revocation(jti="j1"))
    key_edits.revoke(keys, key.id, time())
    await answers(client, by_token, 401)
    await answers(client, by_key, 401)
    assert (await client.get("/", f"Authorization: Bearer {token()}")).status == 200
    await gateway.close()

    # A thread of its own writes the log; closing does not wait for it.
    audited, accessed = directory / "audit.log", directory / "access.log"
    await until(lambda: '"result":"revoked"' in audited.read_text() and accessed.read_text())
    lines = [json.loads(line) for line in (directory / "audit.log").read_text().splitlines()]
    decisions = [line for line in lines if line["event"] == "authentication"]
    assert decisions[0]["key"] == key.id
    changes = [
        (line["outcome"], line["key"], line["client"], line["by"])
        for line in lines
        if line not in decisions
    ]
    assert changes == [("revoked", key.id, "acme", None)]
    assert [line["auth_method"] for line in decisions[:4]] == ["api_key", "jwt", "basic", "basic"]
    assert {line["result"] for line in decisions} == {"ok", "owner", "revoked"}
    refusals = [json.loads(line) for line in (directory / "access.log").read_text().splitlines()]
    assert refusals[0]["why"] == "owner: the path's id is not the sub of client alice"
    text = (directory / "audit.log").read_text() + (directory / "access.log").read_text()
    assert secret not in text and by_token[-20:] not in text and by_password[-8:] not in text


async def test_opaque_tokens(start, origin, connect):
    provider = await Provider("ES256").start()
    provider.active["opaque"] = {"active": True, "client_id": "app"}
    text = '[auth]\nmethods = ["introspection"]\n[auth.introspection]\n'
    pipeline = (
        f'request = ["auth"]\n{text}url = '
        f'"{provider.issuer}/introspect"\n[[route]]\nprefix = "/"\nupstream = "origin"\n'
    )
    gateway = await start(pipeline, upstreams(origin))
    client = await connect(gateway)
    for _ in range(3):
        assert (await client.get("/", "Authorization: Bearer opaque")).status == 200
    assert fields_of(origin.heads[-1])["x-client-id"] == "app"
    assert (await client.get("/", "Authorization: Bearer other")).status == 401
    assert (await gateway.reload()).ok
    assert (await client.get("/", "Authorization: Bearer opaque")).status == 200
    assert len(provider.introspected) == 2
    await gateway.close()
    await provider.stop()


async def test_signed_bodies_are_checked_and_sent_on(start, origin, connect):
    secret = "0123456789abcdef" * 2
    keys = f'[[auth.signature.keys]]\nid = "k"\nsecret = "{secret}"\nclient = "acme"\n'
    route = '[[route]]\nprefix = "/"\nupstream = "origin"\n'
    gateway = await start(
        f'request = ["auth"]\n[auth]\nmethods = ["signature"]\n{keys}{route}', upstreams(origin)
    )
    client = await connect(gateway)

    async def post(body: bytes, sent: bytes, nonce: str) -> tuple[int, dict[str, str]]:
        digest = f"sha-256=:{base64.b64encode(hashlib.sha256(body).digest()).decode()}:"
        params = (
            f'("@method" "@target-uri" '
            f'"content-digest");created={int(time())};keyid="k";nonce="{nonce}"'
        )
        text = (
            f'"@method": POST\n"@target-uri": http://gateway.test/a?b=c\n"content-digest": '
            f"{digest}\n"
        )
        text += f'"@signature-params": {params}'
        mac = base64.b64encode(hmac.digest(secret.encode(), text.encode(), "sha256")).decode()
        lines = (
            f"Content-Digest: {digest}\r\nSignature-Input: s={params}\r\nSignature: s=:{mac}:\r\n"
        )
        head = (
            f"POST /a?b=c HTTP/1.1\r\nHost: gateway.test\r\n{lines}Content-Length: "
            f"{len(sent)}\r\n\r\n"
        )
        await client.send(head.encode() + sent)
        message = await client.read("POST")
        return message.status, fields_of(origin.heads[-1]) if origin.heads else {}

    body = b"x" * 100_000
    status, fields = await post(body, body, "n1")
    assert (
        status == 200
        and fields["x-client-id"] == "acme"
        and not {"signature", "signature-input"} & fields.keys()
    )
    assert origin.bodies[-1] == body
    assert (await post(body, body[:-1] + b"y", "n2"))[0] == 401
    assert (await post(body, body, "n1"))[0] == 401
    assert len(origin.heads) == 1


async def test_users_lie_beside_gateway_toml_unless_told_otherwise(
    start, origin, connect, tmp_path
):
    """Beside the pipelines `include` would take them for one."""
    user_edits.add(tmp_path / "users.toml", User("alice", user_file.hashed("a long password")))
    pipeline = 'request = ["auth"]\n[auth]\nmethods = ["basic"]\n[[route]]\nprefix = "/"\n'
    client = await connect(await start(pipeline + 'upstream = "origin"\n', upstreams(origin)))
    given = base64.b64encode(b"alice:a long password").decode()
    assert (await client.get("/", f"Authorization: Basic {given}")).status == 200
