from __future__ import annotations

import asyncio
import base64
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import bcrypt
import pytest
from argon2 import PasswordHasher

from gateway.config.tables.tokens import AttemptsConfig
from gateway.core.failures import Failed, Failure
from gateway.core.hooks import ConfigProblem
from gateway.credentials.users import user_file
from gateway.credentials.users.user_file import User
from gateway.issuer.attempts import LocalAttempts, rules_of
from gateway.issuer.own import OwnIssuer
from gateway.issuer.password_queue import PasswordQueue
from gateway.middlewares import auth
from gateway.middlewares.auth import basic
from gateway.store.stores import StoreDown
from tests.unit.middlewares.auth.bearers import NOW, Bearers, asked, failing, through

CHEAP = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
HASH = CHEAP.hash("päss:word")
USERS = f"""
[[user]]
name = "alice"
hash = "{HASH}"
client = "acme"
tier = "gold"
roles = ["operator"]
permissions = ["cameras:read"]
[[user]]
name = "bob"
hash = "{CHEAP.hash("secret")}"
"""


def credentials(name: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{name}:{password}".encode()).decode()


@pytest.fixture
def world(tmp_path: Path) -> Bearers:
    (tmp_path / "users.toml").write_text(USERS)
    return Bearers(tmp_path)


def users(hook: Any) -> basic.BasicUsers:
    found: basic.BasicUsers = hook.__self__._methods[0]._users
    return found


async def test_a_user(world: Bearers):
    hook = world.auth(methods=["basic"], roles={"operator": ["alarms:read"]})
    exchange = asked(credentials("alice", "päss:word"))
    identity = await through(hook, exchange)
    assert (identity.client, identity.user, identity.tier) == ("acme", "alice", "gold")
    assert identity.permissions == {"cameras:read", "alarms:read"} and exchange.drop_headers == {
        b"authorization"
    }
    assert (
        await through(hook, asked(credentials("bob", "secret").replace("Basic", "basic")))
    ).client == "bob"
    users(hook).close()


async def test_verified_once_in_a_while(world: Bearers):
    hook, verified = world.auth(methods=["basic"], basic={"ttl": "60s"}), []
    real = users(hook)._verify
    users(hook)._verify = lambda hash, password: verified.append(password) or real(hash, password)
    for now, times in ((NOW, 1), (NOW + 59, 1), (NOW + 60, 2)):
        world.now = now
        await through(hook, asked(credentials("bob", "secret")))
        assert verified.count("secret") == times
        assert (
            await failing(hook, asked(credentials("bob", "wrong")))
        ).detail == "The user name or password is wrong."
        assert verified.count("wrong") == times
    shown = f"{hook.__self__!r}{users(hook).known._young}{users(hook).wrong._young}"
    assert (
        "secret" not in shown
        and credentials("bob", "secret")[6:] not in shown
        and "wrong" not in shown
    )
    users(hook).close()


async def test_each_route_remembers_for_as_long_as_it_says(world: Bearers):
    hooks = [
        world.auth(methods=["basic"], basic={"ttl": ttl}, route=route)
        for route, ttl in (("one", "60s"), ("two", "0s"), ("three", "10s"))
    ]
    found, verified = users(hooks[0]), []
    assert all(users(hook) is found for hook in hooks)
    real = found._verify
    found._verify = lambda hash, password: verified.append(password) or real(hash, password)
    right, wrong = credentials("bob", "secret"), credentials("bob", "wrong")
    for now, number, times in ((NOW, 0, 1), (NOW + 1, 1, 2), (NOW + 2, 0, 2), (NOW + 11, 2, 3)):
        world.now = now
        await through(hooks[number], asked(right))
        await failing(hooks[number], asked(wrong))
        assert (verified.count("secret"), verified.count("wrong")) == (times, times)
    found.close()


async def test_a_name_nobody_has_costs_as_much(world: Bearers):
    hook, hashes = world.auth(methods=["basic"]), []
    users(hook)._verify = lambda hash, password: bool(hashes.append(hash))
    await failing(hook, asked(credentials("nobody", "x")))
    await failing(hook, asked(credentials("alice", "x")))
    head, _, digest = HASH.rpartition("$")
    assert hashes == [f"{head}${'A' * len(digest)}", HASH]
    assert (
        user_file.verifies(hashes[0], "x") is False and user_file.verifies("nonsense", "x") is False
    )
    users(hook).close()


@pytest.mark.parametrize(
    "sent", ["Basic !", "Basic YWI=", "Basic YTpi\n", "Basic /////w==", "Basic " + "A" * 2000]
)
async def test_nonsense(world: Bearers, sent: str):
    hook = world.auth(methods=["basic"])
    failed = await failing(hook, asked(sent))
    assert (
        failed.detail == "The credentials are not valid."
        and failed.failure is Failure.UNAUTHENTICATED
    )
    assert failed.headers == ((b"WWW-Authenticate", b'Basic realm="gateway", charset="UTF-8"'),)
    users(hook).close()


async def test_none_of_its_kind(world: Bearers):
    hook = world.auth(methods=["basic"])
    assert (await failing(hook, asked())).why == "no credentials"
    assert (await failing(hook, asked("Bearer x"))).why == "no credentials"
    assert (await failing(hook, asked("Basic YTpi", "Basic YTpi"))).failure is Failure.MALFORMED
    users(hook).close()


async def test_only_so_many_wait(world: Bearers, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(basic, "PasswordQueue", partial(PasswordQueue, waiting=3))
    hook = world.auth(methods=["basic"], basic={"attempts": {"account": 100}})
    results = await asyncio.gather(
        *(through(hook, asked(credentials("bob", f"{number}"))) for number in range(10)),
        return_exceptions=True,
    )
    failures = [result.failure for result in results if isinstance(result, Failed)]
    assert failures.count(Failure.OVERLOADED) == 7 and failures.count(Failure.UNAUTHENTICATED) == 3
    users(hook).close()
    monkeypatch.setattr(basic, "MOST_ASKED", 0)
    hook = world.auth(methods=["basic"], name="auth.other")
    assert (await failing(hook, asked(credentials("bob", "1")))).failure is Failure.OVERLOADED
    users(hook).close()


class TestAttempts:
    async def test_guessing_has_a_limit(self, world: Bearers):
        hook = world.auth(methods=["basic"])
        failures = [
            (await failing(hook, asked(credentials("bob", f"{number}")))).failure
            for number in range(8)
        ]
        assert failures == [*[Failure.UNAUTHENTICATED] * 5, *[Failure.RATE_LIMITED] * 3]
        failed = await failing(hook, asked(credentials("bob", "secret")))
        assert (
            failed.failure is Failure.RATE_LIMITED and dict(failed.headers)[b"Retry-After"] == b"1"
        )
        assert (await through(hook, asked(credentials("alice", "päss:word")))).user == "alice"
        world.now += 1
        assert (await through(hook, asked(credentials("bob", "secret")))).user == "bob"
        assert world.counted()[("basic", "limited")] == 4
        users(hook).close()

    async def test_an_address_has_one_too(self, world: Bearers):
        hook = world.auth(methods=["basic"])
        for number in range(20):
            await failing(hook, asked(credentials(f"user{number}", "x"), peer="192.0.2.1"))
        here, there = (
            asked(credentials("bob", "secret"), peer=peer) for peer in ("192.0.2.1", "192.0.2.2")
        )
        assert (await failing(hook, here)).failure is Failure.RATE_LIMITED
        assert (await through(hook, there)).user == "bob"
        assert (await through(hook, here)).user == "bob"  # known by now: nothing is verified
        users(hook).close()

    async def test_many_requests_with_the_right_password_are_one_attempt(self, world: Bearers):
        hook, verified = world.auth(methods=["basic"]), []
        real = users(hook)._verify
        users(hook)._verify = lambda hash, password: (
            verified.append(password) or real(hash, password)
        )
        found = await asyncio.gather(
            *(through(hook, asked(credentials("bob", "secret"))) for _ in range(50))
        )
        assert {identity.user for identity in found} == {"bob"} and verified == ["secret"]
        users(hook).close()

    async def test_one_address_does_not_deny_others(self, world: Bearers):
        hook = world.auth(methods=["basic"], basic={"attempts": {"ip": 1000, "account": 1000}})
        guesses = [
            asyncio.create_task(
                through(hook, asked(credentials("bob", f"{number}"), peer="192.0.2.1"))
            )
            for number in range(120)
        ]
        await asyncio.sleep(0)
        assert (
            await through(hook, asked(credentials("alice", "päss:word"), peer="192.0.2.2"))
        ).user == "alice"
        results = await asyncio.gather(*guesses, return_exceptions=True)
        assert all(isinstance(result, Failed) for result in results)
        users(hook).close()

    async def test_on_the_token_issuers_file_they_are_logins(self, world: Bearers):
        attempts = LocalAttempts(*rules_of(AttemptsConfig(account=2)))
        issuer = OwnIssuer("us", None, None, attempts, world.directory / "users.toml")  # type: ignore[arg-type]
        hook = world.build(auth, {"methods": ["basic"]}, issuer=issuer).request
        await failing(hook, asked(credentials("bob", "x"), peer="192.0.2.1"))
        assert await attempts.begin("192.0.2.1", "bob", NOW) == 0.0
        failed = await failing(hook, asked(credentials("bob", "secret"), peer="192.0.2.1"))
        assert failed.failure is Failure.RATE_LIMITED
        users(hook).close()

    async def test_what_is_explained_is_no_attempt(self, world: Bearers):
        hook = world.auth(methods=["basic"])
        for number in range(10):
            failed = await failing(hook, asked(credentials("bob", f"{number}"), explained=True))
            assert failed.failure is Failure.UNAUTHENTICATED
        assert (await through(hook, asked(credentials("bob", "secret")))).user == "bob"
        users(hook).close()

    async def test_where_they_cannot_be_counted(
        self, world: Bearers, monkeypatch: pytest.MonkeyPatch
    ):
        hook = world.auth(methods=["basic"])

        async def down(*_: object) -> float:
            raise StoreDown("no answer")

        monkeypatch.setattr(users(hook)._attempts, "begin", down)
        failed = await failing(hook, asked(credentials("bob", "secret")))
        assert failed.failure is Failure.OVERLOADED and "no answer" in failed.why
        users(hook).close()


class TestChangesMeanwhile:
    @pytest.mark.parametrize("password", ["secret", "other"])
    async def test_the_password_that_holds_now_decides(self, world: Bearers, password: str):
        """A file that is read again while a password is verified: what holds at the end is what
        counts, and is remembered."""
        hook = world.auth(methods=["basic"])
        found, real, changed = users(hook), users(hook)._verify, []
        loop = asyncio.get_running_loop()

        def verify(hash: str, given: str) -> bool:
            if not changed:
                changed.append(hash)
                bob = replace(found._users["bob"], hash=CHEAP.hash(password))
                asyncio.run_coroutine_threadsafe(
                    replaced({**found._users, "bob": bob}), loop
                ).result(10)
            return real(hash, given)

        async def replaced(new: dict[str, User]) -> None:
            found.replace(new)

        found._verify = verify
        right, wrong = (
            credentials("bob", password),
            credentials("bob", "secret" if password == "other" else "other"),
        )
        assert (await through(hook, asked(right))).user == "bob"
        changed.clear()
        assert (await failing(hook, asked(wrong))).failure is Failure.UNAUTHENTICATED
        assert (await through(hook, asked(right))).user == "bob"
        found.close()

    async def test_what_is_verified_of_users_that_are_gone_is_not_remembered(
        self, world: Bearers, monkeypatch: pytest.MonkeyPatch
    ):
        """The file is read again when the password is verified, before the attempt is settled."""
        hook = world.auth(methods=["basic"])
        found, real = users(hook), users(hook)._attempts.succeeded

        async def succeeded(*facts: Any) -> None:
            await real(*facts)
            found.replace({})

        monkeypatch.setattr(found._attempts, "succeeded", succeeded)
        right = credentials("bob", "secret")
        await asyncio.wait([asyncio.ensure_future(through(hook, asked(right)))])
        assert (await failing(hook, asked(right))).failure is Failure.UNAUTHENTICATED
        found.close()

    async def test_a_reload_with_the_same_users(self, world: Bearers):
        hook = world.auth(methods=["basic"])
        found, real, seen = users(hook), users(hook)._verify, []
        loop = asyncio.get_running_loop()

        async def reloaded() -> None:
            found.replace(user_file.load(world.directory / "users.toml"))

        def verify(hash: str, given: str) -> bool:
            seen.append(given)
            asyncio.run_coroutine_threadsafe(reloaded(), loop).result(10)
            return real(hash, given)

        found._verify = verify
        assert (await through(hook, asked(credentials("bob", "secret")))).user == "bob"
        assert seen == ["secret"]  # by value they are the same: nothing is verified again
        found.close()


async def test_the_file_is_followed(world: Bearers):
    hook = world.auth(methods=["basic"])
    await through(hook, asked(credentials("bob", "secret")))
    (world.directory / "users.toml").write_text("")
    watched = users(hook)._watched
    assert watched is not None and await watched.look()
    assert (
        await failing(hook, asked(credentials("bob", "secret")))
    ).failure is Failure.UNAUTHENTICATED
    assert users(world.auth(methods=["basic"], route="other")) is users(hook)
    users(hook).close()


def test_no_file(tmp_path: Path):
    with pytest.raises(ConfigProblem, match="there is no user file") as caught:
        Bearers(tmp_path).auth(methods=["basic"])
    assert caught.value.at == ("basic", "file") and "gateway users add" in caught.value.hint


async def test_a_password_alone_does_not_do_where_there_is_a_second_factor(world: Bearers):
    (world.directory / "users.toml").write_text(
        USERS + 'totp = "JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP"\n'
    )
    hook = world.auth(methods=["basic"])
    assert (await failing(hook, asked(credentials("bob", "secret")))).failure.status == 401
    users(hook).close()


class TestBcrypt:
    @pytest.mark.parametrize("prefix", ["2a", "2b", "2y"])
    async def test_hashes_from_elsewhere(self, tmp_path: Path, prefix: str):
        # Those of other programs: `htpasswd -B` writes 2y.
        hash = bcrypt.hashpw(b"secret", bcrypt.gensalt(4)).decode().replace("$2b$", f"${prefix}$")
        (tmp_path / "users.toml").write_text(f'[[user]]\nname = "bob"\nhash = "{hash}"\n')
        hook = Bearers(tmp_path).auth(methods=["basic"])
        identity = await through(hook, asked(credentials("bob", "secret")))
        assert identity is not None and identity.client == "bob"
        assert len(users(hook).known) == 1
        for name, password in (("bob", "Secret"), ("bob", "secret\0"), ("nobody", "secret")):
            assert (
                await failing(hook, asked(credentials(name, password)))
            ).failure is Failure.UNAUTHENTICATED

    def test_what_every_other_program_makes_of_it(self):
        """A hash of the reference's test vectors (crypt_blowfish, wrapper.c)."""
        hash = "$2a$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW"
        assert user_file.verifies(hash, "U*U") and not user_file.verifies(hash, "U*U*")

    def test_a_longer_password_is_refused_never_cut_off(self, monkeypatch: pytest.MonkeyPatch):
        hash = bcrypt.hashpw(b"x" * 72, bcrypt.gensalt(4)).decode()
        assert user_file.verifies(hash, "x" * 72)
        checked, check = [], bcrypt.checkpw
        monkeypatch.setattr(
            bcrypt, "checkpw", lambda *args: checked.append(args[0]) or check(*args)
        )
        assert not user_file.verifies(hash, "x" * 73)
        assert not user_file.verifies(hash, "ä" * 37)
        assert len(checked) == 2  # it takes as long as any other

    def test_what_bcrypt_does_not_take(self):
        assert not user_file.verifies(f"$2b$04${'!' * 53}", "x")
        assert not user_file.verifies("$2b$99$", "x")

    async def test_nobody_costs_as_much(self, tmp_path: Path):
        hash = bcrypt.hashpw(b"secret", bcrypt.gensalt(4)).decode()
        (tmp_path / "users.toml").write_text(f'[[user]]\nname = "bob"\nhash = "{hash}"\n')
        nobody = users(Bearers(tmp_path).auth(methods=["basic"]))._nobody
        user_file._check_hash(nobody, "")
        assert nobody[:7] == hash[:7] and not user_file.verifies(nobody, "secret")
