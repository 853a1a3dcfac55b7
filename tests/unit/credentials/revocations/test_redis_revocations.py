"""The list of revoked tokens in a real Redis, as the command line sees it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.credentials import audit
from gateway.credentials.files import CredentialError
from gateway.credentials.revocations import redis_revocations
from gateway.credentials.revocations.redis_revocations import (
    ENTRIES,
    NAME,
    RedisRevocations,
    entry_of,
    field_of,
    heard,
    packed,
    unpacked,
)
from gateway.credentials.revocations.revoked import ALWAYS, Revocation
from gateway.store.redis import blocking as redis_client
from gateway.store.redis.blocking import connected
from gateway.store.stores import parse
from tests.redis import RedisServer, shared_redis

__all__ = ["shared_redis"]

NOW = 1_700_000_000.0


@pytest.fixture
def url(shared_redis: RedisServer) -> str:
    return f"{shared_redis.url}/8"


@pytest.fixture
def client(url: str) -> Iterator[object]:
    with connected(parse(url)) as one:
        one.flushdb()
        yield one


@pytest.fixture
def listed(url: str, client: object) -> RedisRevocations:
    return RedisRevocations(parse(url))


WORDS = st.text(st.characters(codec="utf-8", exclude_categories=["C"]), max_size=8)
TIMES = st.integers(0, 2_000_000_000).map(float)


@given(WORDS, WORDS, WORDS, TIMES | st.just(ALWAYS), TIMES | st.none())
def test_an_entry_comes_back_as_it_went(
    jti: str, subject: str, issuer: str, before: float, until: float | None
):
    entry = Revocation(jti or "x", subject, issuer, before, until)
    assert unpacked(packed(entry), "") == entry


def test_entries_are_added_and_published(listed: RedisRevocations, client):
    listening = client.pubsub()
    listening.subscribe(f"{NAME}:changes:8")
    listening.get_message(timeout=5)
    entries = (
        Revocation(subject="alice", before=NOW),
        Revocation(jti="j1", issuer="https://id", until=NOW + 60),
    )
    for entry in entries:
        listed.add(entry, NOW)
    said = [listening.get_message(timeout=5)["data"].partition(b" ") for _ in entries]
    listening.close()
    assert [number for number, _, _ in said] == [b"1", b"2"]
    assert [list(heard(change, "")) for _, _, change in said] == [[entry] for entry in entries]
    assert listed.load() == entries


def test_an_entry_is_never_made_weaker(listed: RedisRevocations):
    for before, until in ((NOW, NOW + 60), (NOW - 10, NOW + 600), (NOW - 20, None)):
        listed.add(Revocation(subject="alice", before=before, until=until), NOW)
    assert listed.load() == (Revocation(subject="alice", before=NOW),)


def test_what_is_over_goes(listed: RedisRevocations, client):
    listed.add(Revocation(jti="j1", until=NOW + 60), NOW)
    listed.add(Revocation(jti="j2"), NOW)
    client.hset(ENTRIES, "broken", "x")
    listed.add(Revocation(jti="j3"), NOW + 61)
    client.hdel(ENTRIES, "broken")
    assert {entry.jti for entry in listed.load()} == {"j2", "j3"}


def test_others_change_it_meanwhile(
    listed: RedisRevocations, client, monkeypatch: pytest.MonkeyPatch
):
    change, others = redis_client.change, iter([1])

    def late(*args: object) -> object:
        for _ in others:
            monkeypatch.setattr(redis_client, "change", change)
            listed.add(Revocation(subject="alice", before=NOW + 5), NOW)
        return change(*args)

    monkeypatch.setattr(redis_client, "change", late)
    listed.add(Revocation(subject="alice", before=NOW), NOW)
    assert listed.load() == (Revocation(subject="alice", before=NOW + 5),)
    monkeypatch.setattr(redis_client, "change", lambda *args: (-1, ""))
    with pytest.raises(CredentialError, match="is being changed by others; try again"):
        listed.add(Revocation(subject="alice", before=NOW), NOW)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("x", "is not JSON"),
        ("[]", "is no JSON object"),
        ('{"jti": 5}', "jti must be text"),
        ('{"before": "soon"}', "before must be a date"),
        ("{}", "it would refuse everybody"),
    ],
)
def test_what_makes_no_sense(text: str, said: str):
    with pytest.raises(CredentialError, match=said):
        entry_of(text, "redis://host")


def test_a_store_that_is_away():
    gone = RedisRevocations(parse("redis://127.0.0.1:1"))
    for action in (gone.load, lambda: gone.add(Revocation(jti="j"), NOW)):
        with pytest.raises(CredentialError, match=r"redis://127.0.0.1:1 cannot be used"):
            action()


def test_times_that_cannot_be_written(listed: RedisRevocations):
    with pytest.raises(CredentialError, match="the year must be 9999"):
        listed.add(Revocation(jti="j", until=1e15), NOW)


def test_the_same_people_are_one_entry():
    assert field_of(Revocation(jti="a", before=1)) == field_of(Revocation(jti="a", until=5))
    assert len({field_of(Revocation(*words)) for words in (("a",), ("", "a"), ("", "", "a"))}) == 3


def test_nobody_in_particular(monkeypatch: pytest.MonkeyPatch):
    def nobody() -> str:
        raise OSError

    monkeypatch.setattr(audit.getpass, "getuser", nobody)
    assert audit.operator() == "" and redis_revocations.ENTRIES
