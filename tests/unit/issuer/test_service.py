"""What happens beside the usual: users that change meanwhile, files that cannot be written, nobody
who has time to hash."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from typing import Any

import jwt
import pytest
from argon2 import PasswordHasher
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519

from gateway.core.clock import Clock
from gateway.credentials.files import CredentialError
from gateway.credentials.users.user_file import User
from gateway.issuer.attempts import AttemptRule, LocalAttempts
from gateway.issuer.password_queue import Busy
from gateway.issuer.passwords import Passwords
from gateway.issuer.service import Denied, TokenService
from gateway.issuer.sessions import LocalSessions, SessionLimits
from gateway.store.stores import StoreDown
from gateway.tokens import signing
from gateway.tokens.signing import SigningKeys

CHEAP = PasswordHasher(1, 64, 1)
ALICE = User("alice", CHEAP.hash("old password"), "acme")
RULE = AttemptRule(3, 1.0, 60.0, 600.0)
KEY = (
    ed25519.Ed25519PrivateKey.generate()
    .private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    .decode()
)


class Users:
    """Users whose every look and change a test may alter."""

    def __init__(self) -> None:
        self.now: User | None = ALICE
        self.looked: Callable[[], None] = lambda: None
        self.error: Exception | None = None

    async def get(self, name: str) -> User | None:
        found = self.now if self.now is not None and self.now.name == name else None
        self.looked()
        return found

    async def change(self, old: User, new: User) -> bool:
        if self.error is not None:
            raise self.error
        if self.now != old:
            return False
        self.now = new
        return True


class Issuing:
    def __init__(self) -> None:
        self.time = 1_700_000_000.0
        self.users = Users()
        self.passwords = Passwords(64, 1, 1)
        clock = Clock(lambda: self.time, lambda: self.time)
        keys = SigningKeys([signing.load(KEY)])
        attempts = LocalAttempts(RULE, RULE)
        self.tokens = TokenService(
            "edge",
            "",
            900.0,
            SessionLimits(),
            keys,
            self.users,
            LocalSessions(),
            attempts,
            self.passwords,
            clock,
        )

    async def denied(self, asked: Any) -> Denied:
        with pytest.raises(Denied) as caught:
            await asked
        return caught.value

    async def login(self, password: str = "old password") -> Any:
        return await self.tokens.login("alice", password, None, "192.0.2.1")


@pytest.fixture
async def world() -> AsyncIterator[Issuing]:
    one = Issuing()
    yield one
    one.passwords.close()


def busy(*_: object) -> Any:
    raise Busy(7)


async def test_claims(world: Issuing):
    world.users.now = replace(
        ALICE, tier="gold", roles=frozenset("ba"), permissions=frozenset(("y", "x"))
    )
    issued = await world.login()
    claims = jwt.decode(issued.access, options={"verify_signature": False})
    assert claims == {
        "iss": "edge", "sub": "alice", "client_id": "acme", "sid": issued.session.id, "jti": claims["jti"], "iat": 1_700_000_000,
        "exp": 1_700_000_900, "roles": ["a", "b"], "scope": "x y", "amr": ["pwd"], "tier": "gold",
    }  # fmt: skip
    again = await world.tokens.refresh(issued.refresh)
    assert jwt.decode(again.access, options={"verify_signature": False})["jti"] != claims["jti"]


async def test_no_token_outlives_the_sessions_time(world: Issuing):
    issued = await world.login()
    refresh = issued.refresh
    last = world.time + 7 * 86400 - 60
    while world.time < last - 1790:
        world.time += 1790
        refresh = (await world.tokens.refresh(refresh)).refresh
    world.time = last
    issued = await world.tokens.refresh(refresh)
    assert issued.expires == 60 and issued.refresh_expires == 60
    world.time += 60
    assert (await world.denied(world.tokens.refresh(issued.refresh))).result == "expired"


@pytest.mark.parametrize("change", [{"changed": 1_700_000_001.0}, {"totp": "A" * 32}, None])
async def test_a_user_that_changes_while_the_password_is_verified(
    world: Issuing, change: dict[str, Any] | None
):
    def looked() -> None:
        world.users.now = replace(ALICE, **change) if change is not None else None

    world.users.looked = looked
    denied = await world.denied(world.login())
    assert (denied.result, denied.failed.failure.status) == ("invalid", 401)


async def test_refreshing_for_nobody(world: Issuing):
    issued = await world.login()
    world.users.now = None
    denied = await world.denied(world.tokens.refresh(issued.refresh))
    assert (denied.result, denied.user) == ("ended", "alice")
    world.users.now = ALICE
    assert (await world.denied(world.tokens.refresh(issued.refresh))).result == "invalid"


async def test_who_is_known(world: Issuing):
    issued = await world.login()
    claims = {"iss": "edge", "sid": issued.session.id, "sub": "alice"}
    assert await world.tokens.known(claims) == (ALICE, issued.session)
    for wrong in ({"iss": "other"}, {"sid": "x"}, {"sid": 1}, {"sub": "bob"}):
        assert (await world.denied(world.tokens.known({**claims, **wrong}))).result == "missing"
    world.users.now = None
    assert (await world.denied(world.tokens.known(claims))).failed.failure.code == "AUTH_001"


async def test_a_file_that_cannot_be_written(world: Issuing, caplog: pytest.LogCaptureFixture):
    issued = await world.login()
    world.users.error = CredentialError("cannot write users.toml")
    asked = world.tokens.change_password(
        ALICE, issued.session, "old password", "new password", "192.0.2.1"
    )
    denied = await world.denied(asked)
    assert denied.failed.failure.status == 500 and "users.toml" not in denied.failed.detail
    assert "cannot write users.toml" in caplog.text
    # A hash that should be made anew stays as it is, and its user gets in.
    world.users.now = replace(ALICE, hash=PasswordHasher(2, 64, 1).hash("old password"))
    assert (await world.login()).user.name == "alice"
    assert "stays as it is" in caplog.text


async def test_a_password_that_changes_while_it_is_changed(world: Issuing):
    issued = await world.login()
    world.users.now = replace(ALICE, tier="gold")
    asked = world.tokens.change_password(
        ALICE, issued.session, "old password", "new password", "192.0.2.1"
    )
    assert (await world.denied(asked)).result == "invalid"


async def test_nobody_has_time_to_hash(world: Issuing, monkeypatch: pytest.MonkeyPatch):
    issued = await world.login()
    monkeypatch.setattr(Passwords, "hash", busy)
    asked = world.tokens.change_password(
        ALICE, issued.session, "old password", "new password", "192.0.2.1"
    )
    assert (await world.denied(asked)).failed.headers == ((b"Retry-After", b"7"),)
    world.users.now = old = replace(ALICE, hash=PasswordHasher(2, 64, 1).hash("old password"))
    await world.login()
    assert world.users.now == old
    monkeypatch.setattr(Passwords, "verify", busy)
    for _ in range(5):  # whom the gateway has no time for has not failed
        assert (await world.denied(world.login())).result == "unavailable"


async def test_attempts_at_changing_a_password_count(world: Issuing):
    issued = await world.login()
    for expected in ("invalid", "invalid", "invalid", "limited"):
        asked = world.tokens.change_password(
            ALICE, issued.session, "wrong password", "new password", "192.0.2.1"
        )
        assert (await world.denied(asked)).result == expected
    denied = await world.denied(world.login())
    assert denied.result == "limited" and denied.failed.headers == ((b"Retry-After", b"1"),)
    world.time += 1
    assert (await world.login()).user == ALICE


async def test_a_refresh_that_came_to_nothing_can_be_tried_again(world: Issuing):
    issued = await world.login()

    def down() -> None:
        raise StoreDown("no answer")

    world.users.looked = down
    with pytest.raises(StoreDown):
        await world.tokens.refresh(issued.refresh)
    world.users.looked = lambda: None
    again = await world.tokens.refresh(issued.refresh)
    assert (await world.denied(world.tokens.refresh(issued.refresh))).result == "reused"
    assert (await world.denied(world.tokens.refresh(again.refresh))).result == "invalid"
