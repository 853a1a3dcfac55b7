"""The command line's connection, and changes that are made and published in one step."""

from __future__ import annotations

import pytest
from redis import Redis

from gateway.store.redis.blocking import ClientError, change, connected
from gateway.store.stores import StoreUrl, parse
from tests.redis import RedisServer, shared_redis

__all__ = ["shared_redis"]

KEYS = ("blocking:fields", "blocking:ids", "blocking:version")


@pytest.fixture
def url(shared_redis: RedisServer) -> StoreUrl:
    found = parse(f"{shared_redis.url}/6")
    with connected(found) as client:
        client.delete(*KEYS)
    return found


def test_a_change_counts_the_version_up_and_is_published(url: StoreUrl):
    with connected(url) as client:
        assert isinstance(client, Redis)
        heard = client.pubsub(ignore_subscribe_messages=True)
        heard.subscribe("blocking")
        heard.get_message(timeout=5)
        assert change(client, KEYS, "blocking", "added", [("id", "field", "", "one")]) == (1, "")
        assert change(client, KEYS, "blocking", "changed", [("id", "field", "one", "two")]) == (
            2,
            "",
        )
        messages = [heard.get_message(timeout=5)["data"] for _ in range(2)]
        assert messages == [b"1 added", b"2 changed"]
        assert client.hgetall(KEYS[0]) == {b"field": b"two"} and client.hgetall(KEYS[1]) == {
            b"id": b"field"
        }
        heard.close()


def test_a_field_that_is_not_what_was_read_is_left_alone(url: StoreUrl):
    with connected(url) as client:
        change(client, KEYS, "blocking", "added", [("id", "field", "", "one")])
        assert change(client, KEYS, "blocking", "late", [("id", "field", "older", "two")]) == (
            -1,
            "one",
        )
        assert change(client, KEYS, "blocking", "again", [("id", "other", "", "one")]) == (-2, "")
        assert client.hgetall(KEYS[0]) == {b"field": b"one"} and client.get(KEYS[2]) == b"1"
        assert change(client, KEYS, "blocking", "gone", [("id", "field", "one", "")]) == (2, "")
        assert client.hgetall(KEYS[0]) == {}


@pytest.mark.parametrize("scheme", ["redis", "redis+cluster", "redis+sentinel"])
def test_a_store_that_cannot_be_reached_is_named_without_secrets(scheme: str):
    url = parse(f"{scheme}://user:secret@127.0.0.1:1" + ("/limits" if "sentinel" in scheme else ""))
    with (
        pytest.raises(ClientError, match=r"127\.0\.0\.1:1.* cannot be used") as caught,
        connected(url) as client,
    ):
        client.get("k")
    assert "secret" not in str(caught.value)
