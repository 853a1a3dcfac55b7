"""Keys in a real Redis, as the command line sees them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from secrets import token_hex
from types import SimpleNamespace

import pytest

from gateway.credentials import store_client
from gateway.credentials.api_keys import new_keys
from gateway.credentials.api_keys.key_file import digest
from gateway.credentials.api_keys.new_keys import Wish
from gateway.credentials.api_keys.redis_keys import IDS, KEYS, NAME, USED, VERSION, RedisKeys
from gateway.credentials.files import CredentialError
from gateway.store.stores import parse
from tests.redis import Cluster, RedisServer, Watched, shared_redis

__all__ = ["shared_redis"]

NOW = 1_700_000_000.0
DATABASE = 3


@pytest.fixture
def url(shared_redis: RedisServer) -> Iterator[str]:
    keys = RedisKeys(parse(f"{shared_redis.url}/{DATABASE}"))
    with store_client.connected(keys._url) as client:
        client.flushdb()
    return f"{shared_redis.url}/{DATABASE}"


@pytest.fixture
def keys(url: str) -> RedisKeys:
    return RedisKeys(parse(url))


@pytest.fixture
def client(keys: RedisKeys) -> Iterator[object]:
    with store_client.connected(keys._url) as one:
        yield one


WISH = Wish(
    "acme", "gold", ("a:read", "b:*"), ("op",), "théir own", NOW + 86_400, ("192.0.2.0/24",)
)


def test_a_key_is_what_was_wished_and_lies_there_hashed(keys: RedisKeys, client):
    key, secret = keys.create(WISH, NOW)
    assert keys.load() == (key,)
    assert (key.client, key.tier, key.permissions, key.roles) == (
        "acme",
        "gold",
        {"a:read", "b:*"},
        {"op"},
    )
    assert (key.label, key.expires, key.networks, key.created) == (
        "théir own",
        NOW + 86_400,
        ("192.0.2.0/24",),
        NOW,
    )
    assert key.digest == digest(secret) and secret.startswith(key.hint)
    assert client.hget(IDS, key.id).decode() == key.digest.hex()
    assert client.get(VERSION) == b"1"
    everything = (
        b"".join(client.hvals(KEYS)) + b"".join(client.hkeys(KEYS)) + b"".join(client.hvals(IDS))
    )
    assert secret[12:].encode() not in everything


def test_rotation_and_revocation(keys: RedisKeys, client):
    first, _ = keys.create(WISH, NOW)
    new, secret, old = keys.rotate(first.id, NOW + 10, overlap=60)
    assert (old.expires, old.replaced_by, new.client, new.networks) == (
        NOW + 70,
        new.id,
        "acme",
        ("192.0.2.0/24",),
    )
    assert new.digest == digest(secret) and new.expires == NOW + 10 + 86_400
    with pytest.raises(
        CredentialError, match=f"{first.id} has been rotated already: {new.id} replaces it"
    ):
        keys.rotate(first.id, NOW, overlap=60)
    revoked, changed = keys.revoke(new.id, NOW + 20)
    assert changed and revoked.state(NOW + 20) == "revoked"
    assert keys.revoke(new.id, NOW + 30) == (revoked, False)
    with pytest.raises(CredentialError, match=f"{new.id} was revoked; create a new key instead"):
        keys.rotate(new.id, NOW, overlap=60)
    assert keys.load() == (old, revoked)
    assert client.get(VERSION) == b"3"


def test_changes_are_published_with_their_number_and_nothing_secret(keys: RedisKeys, client):
    listening = client.pubsub()
    listening.subscribe(f"{NAME}:changes:{DATABASE}")
    listening.get_message(timeout=5)
    key, secret = keys.create(Wish("acme"), NOW)
    keys.revoke(key.id, NOW)
    heard = [listening.get_message(timeout=5)["data"].decode() for _ in range(2)]
    listening.close()
    assert [text.partition(" ")[0] for text in heard] == ["1", "2"]
    assert [json.loads(text.partition(" ")[2])["event"] for text in heard] == ["created", "revoked"]
    said = json.loads(heard[1].partition(" ")[2])
    assert (
        said["keys"] == [{"id": key.id, "client": "acme", "hash": key.digest.hex()}] and said["by"]
    )
    assert secret[4:] not in "".join(heard)


def test_a_key_made_elsewhere_once(keys: RedisKeys):
    key, secret = keys.create(Wish("acme"), NOW, existing="a-key-made-elsewhere")
    assert secret == "a-key-made-elsewhere" and key.hint == "a-ke"
    with pytest.raises(CredentialError, match=f"this key is there already: {key.id} of acme"):
        keys.create(Wish("bert"), NOW, existing="a-key-made-elsewhere")


def test_an_id_that_is_taken_is_not_given_again(keys: RedisKeys, monkeypatch: pytest.MonkeyPatch):
    made = iter(["aaaaaaaa", "aaaaaaaa", "bbbbbbbb"])
    source = SimpleNamespace(token_hex=lambda count: next(made) if count == 4 else token_hex(count))
    monkeypatch.setattr(new_keys, "secrets", source)
    assert [keys.create(Wish("acme"), NOW)[0].id for _ in range(2)] == ["k_aaaaaaaa", "k_bbbbbbbb"]
    source.token_hex = lambda count: "aaaaaaaa" if count == 4 else token_hex(count)
    with pytest.raises(CredentialError, match="found no ID that is free"):
        keys.create(Wish("acme"), NOW)


def test_what_others_change_meanwhile_is_not_lost(keys: RedisKeys, monkeypatch: pytest.MonkeyPatch):
    key, _ = keys.create(Wish("acme"), NOW)
    find, others = RedisKeys._find, iter([lambda: keys.rotate(key.id, NOW, overlap=60)])

    def late(self: RedisKeys, client: object, id: str) -> str:
        was = find(self, client, id)
        for other in others:
            other()
        return was

    monkeypatch.setattr(RedisKeys, "_find", late)
    revoked, changed = keys.revoke(key.id, NOW)
    assert changed and revoked.replaced_by and revoked.expires == NOW + 60

    def always(self: RedisKeys, client: object, id: str) -> str:
        return find(self, client, id) + " "

    other, _ = keys.create(Wish("bert"), NOW)
    monkeypatch.setattr(RedisKeys, "_find", always)
    for action in (
        lambda: keys.revoke(other.id, NOW),
        lambda: keys.rotate(other.id, NOW, overlap=60),
    ):
        with pytest.raises(CredentialError, match="being changed by others; try again"):
            action()


def test_what_cannot_be(keys: RedisKeys, client):
    for action in (
        lambda: keys.revoke("k_none", NOW),
        lambda: keys.rotate("k_none", NOW, overlap=1),
    ):
        with pytest.raises(CredentialError, match=r"redis://127.0.0.1:\d+ has no key k_none"):
            action()
    with pytest.raises(CredentialError, match="client 'two\\\\nlines' must be visible ASCII"):
        keys.create(Wish("two\nlines"), NOW)
    client.hset(KEYS, "00", '{"id": "k_1", "client": "acme"}')
    with pytest.raises(CredentialError, match="hash is missing"):
        keys.load()
    client.hset(KEYS, "00", "[]")
    with pytest.raises(CredentialError, match="no JSON object with a key"):
        keys.load()


def test_uses(keys: RedisKeys, client):
    client.hset(USED, "k_1", "123")
    assert keys.used() == {"k_1": 123}


def test_a_store_that_is_away_is_said_without_its_password():
    with pytest.raises(CredentialError, match=r"redis://127.0.0.1:1 cannot be used: ") as caught:
        RedisKeys(parse("redis://user:secret@127.0.0.1:1")).load()
    assert "secret" not in str(caught.value)


def test_in_a_cluster():
    with Cluster() as cluster:
        keys = RedisKeys(parse(cluster.url))
        key, _ = keys.create(Wish("acme"), NOW)
        new, _, _ = keys.rotate(key.id, NOW, overlap=60)
        keys.revoke(key.id, NOW)
        assert {one.id: one.revoked for one in keys.load()} == {key.id: True, new.id: False}


def test_behind_sentinels():
    with Watched() as watched:
        keys = RedisKeys(parse(watched.url))
        key, _ = keys.create(Wish("acme"), NOW)
        assert keys.load() == (key,)
