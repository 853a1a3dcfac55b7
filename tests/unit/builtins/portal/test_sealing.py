"""Cookies of sessions: what was sealed comes out, until its end, with the same key, and unchanged."""

from __future__ import annotations

from base64 import urlsafe_b64decode, urlsafe_b64encode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.builtins.portal.sealing import (
    MOST,
    PORTAL,
    Seal,
    SealingKey,
    Session,
    of_process,
    of_supervisor,
)
from tests.workers import Shop

SESSION = Session("ApiKey s3cr3t", 1000.0, "token")


@pytest.fixture
def seal() -> Seal:
    return Seal(of_process(SealingKey()))


async def test_a_session_until_its_end(seal: Seal):
    value = await seal.seal(SESSION)
    assert "s3cr3t" not in value and b"s3cr3t" not in urlsafe_b64decode(value)
    assert await seal.unseal(value, 999.9) == SESSION
    assert await seal.unseal(value, 1000.0) is None
    assert await seal.seal(SESSION) != value


async def test_another_key_reads_nothing(seal: Seal):
    other = Seal(of_process(SealingKey()))
    assert await other.unseal(await seal.seal(SESSION), 0.0) is None


async def test_one_bit_makes_it_none(seal: Seal):
    raw = bytearray(urlsafe_b64decode(await seal.seal(SESSION)))
    for place in range(0, len(raw), 7):
        raw[place] ^= 1
        assert await seal.unseal(urlsafe_b64encode(bytes(raw)).decode(), 0.0) is None
        raw[place] ^= 1


@given(st.text())
async def test_anything_else_is_none(text: str):
    assert await Seal(of_process(SealingKey())).unseal(text, 0.0) is None


async def test_too_long_is_none(seal: Seal):
    value = await seal.seal(Session("x" * MOST, 1000.0, ""))
    assert len(value) > MOST and await seal.unseal(value, 0.0) is None


async def test_a_new_program_reads_the_sessions_of_the_one_before(seal: Seal):
    key, successor = SealingKey(), SealingKey()
    value = await Seal(of_process(key)).seal(SESSION)
    successor.load_state(key.dump_state())
    assert await Seal(of_process(successor)).unseal(value, 0.0) == SESSION


async def test_workers_have_the_key_of_their_supervisor():
    shop = Shop()
    shop.keep(PORTAL, SealingKey())
    one, other = (Seal(of_supervisor(shop.hire())) for _ in range(2))
    assert await other.unseal(await one.seal(SESSION), 0.0) == SESSION
    await shop.close()
