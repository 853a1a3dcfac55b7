from __future__ import annotations

from collections.abc import Iterator

import pytest
from argon2 import PasswordHasher, extract_parameters

from gateway.credentials.users import user_file
from gateway.issuer import passwords
from gateway.issuer.passwords import Passwords


@pytest.fixture
def pool() -> Iterator[Passwords]:
    one = Passwords(64, 1, 1, threads=1, waiting=3)
    yield one
    one.close()


async def test_hashing_and_verifying(pool: Passwords):
    hash = await pool.hash("päss word")
    parameters = extract_parameters(hash)
    assert (
        parameters.memory_cost,
        parameters.time_cost,
        parameters.parallelism,
        parameters.type.name,
    ) == (64, 1, 1, "ID")
    assert await pool.verify(hash, "päss word") and not await pool.verify(hash, "päss wor")
    assert (
        not pool.stale(hash)
        and pool.stale(PasswordHasher(1, 65, 1).hash("x"))
        and pool.stale("$2b$12$")
    )
    assert repr(pool) == "<Passwords 0 under way>"


async def test_all_of_a_long_password_counts(pool: Passwords):
    hash = await pool.hash("x" * 1024)
    assert not await pool.verify(hash, "x" * 1023 + "y") and not await pool.verify(hash, "x" * 72)


async def test_nobodys_password_costs_the_same(pool: Passwords, monkeypatch: pytest.MonkeyPatch):
    seen: list[str] = []
    real = user_file.verifies

    def spy(hash: str, password: str) -> bool:
        seen.append(hash)
        return real(hash, password)

    monkeypatch.setattr(user_file, "verifies", spy)
    assert not await pool.verify(None, "password") and not await pool.verify(
        await pool.hash("x"), "password"
    )
    assert extract_parameters(seen[0]) == extract_parameters(seen[1])
    monkeypatch.setattr(user_file, "verifies", lambda hash, password: True)
    assert not await pool.verify(None, "password")


def test_bounds():
    assert (passwords.SHORTEST, passwords.LONGEST) == (8, 1024)
